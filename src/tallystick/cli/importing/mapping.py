"""From a record to the JSON of an event: which column goes to which field, units, zones, and ids where there are none.

A field is `id source type time subject account space` and what else an event has beside its data, or `data.` and a
path; any other name is one of data's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import click
import msgspec

from tallystick.cli.importing.records import Record
from tallystick.cli.options import Failure
from tallystick.envelope import EXACT, TIME, Unreadable, read
from tallystick.errors import Code
from tallystick.windows import SECOND, format_instant, local_instant

SOURCE = "import"
OWN_SOURCE = f'"source":"{SOURCE}"'
DIGEST_BYTES = 16
REMEMBERED_MAX = 20_000
NOT_UTF_8 = "Send UTF-8: the line has bytes that are not."
ATTRIBUTES = frozenset({"id", "source", "type", "time", "subject", "account", "space", "specversion", "dataschema"})
"""Fields that stand beside an event's data."""
TEXTS = frozenset(
    [
        "actor",
        "billing",
        "dataset",
        "id",
        "kind",
        "language",
        "license",
        "mode",
        "model",
        "operating_point",
        "operation",
        "parent",
        "space",
        "state",
        "status",
        "tags",
        "technology",
        "type",
        "url",
        "vendor",
    ]
)
"""Members of data that are text whatever they look like."""
UNITS: Mapping[str, Decimal] = {"ms": Decimal("0.001"), "s": Decimal(1), "min": Decimal(60), "h": Decimal(3600)}
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
PLAIN_NUMBER = re.compile(r"0|-?[1-9][0-9]*|-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]", re.ASCII)
"""Numbers as a label writes them: read as a number or kept as text, such a cell is the same label."""
LOCAL_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ]+(\d\d:\d\d)(:\d\d)?([.,]\d+)?)?[ ]*(?:([Zz]|UTC|GMT)|([+-]\d\d):?(\d\d))?", re.ASCII
)

Path = tuple[str, ...]
Draft = tuple[bytes, bytes | None]
"""An event's JSON; where it has no id, all behind its opening brace, with the digest of the line it came from."""


class Unfit(Exception):
    """A record of which no event can be made: code, JSON pointer, and what to do."""

    def __init__(self, code: Code, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.pointer, self.detail = code, pointer, detail


Drafter = Callable[[Sequence[Record]], "list[Draft | Unfit]"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a column goes, and the unit in which it counts seconds."""

    path: Path
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What `--map`, `--set` and `--tz` say; `columns` without a target are dropped."""

    columns: Mapping[str, Sequence[Target]]
    fixed: Mapping[Path, str]
    zone: str

    @property
    def is_plain(self) -> bool:
        return not self.columns and not self.fixed


def mapping_of(maps: Sequence[str], sets: Sequence[str], zone: str) -> Plan:
    """Read the flags; raises Failure for what cannot be meant."""
    columns: dict[str, list[Target]] = {}
    for text in maps:
        column, equals, field = text.rpartition("=")
        if not equals or not column:
            raise Failure(f"--map must be COLUMN=FIELD or COLUMN=FIELD:UNIT, not {text}.")
        columns.setdefault(column, [])
        if field:
            columns[column].append(_target(text, field))
    fixed: dict[Path, str] = {}
    for text in sets:
        field, equals, value = text.partition("=")
        if not equals or not field or not value:
            raise Failure(f"--set must be FIELD=VALUE, not {text}.")
        fixed[path_of(field)] = value
    _refuse_repeated([target.path for targets in columns.values() for target in targets] + list(fixed))
    return Plan(columns, fixed, zone)


def _target(text: str, field: str) -> Target:
    name, colon, unit = field.partition(":")
    if not name or (colon and unit not in UNITS):
        raise Failure(f"--map {text}: a unit is one of {', '.join(UNITS)}, behind the field and a colon.")
    return Target(path_of(name), unit or None)


def path_of(field: str) -> Path:
    """Return where a field stands in an event."""
    parts = tuple(field.split("."))
    if not all(parts):
        raise Failure(f"{field!r} names no field.")
    return parts if parts[0] in ATTRIBUTES or (parts[0] == "data" and len(parts) > 1) else ("data", *parts)


def _refuse_repeated(paths: Sequence[Path]) -> None:
    for at, path in enumerate(paths):
        for other in paths[at + 1 :]:
            if _overlap(path, other):
                raise Failure(
                    f"Two values go to the field {_named(path)}: map each column to a field of its own, and one that "
                    "is not wanted to nothing (--map COLUMN=)."
                )


def _overlap(path: Path, other: Path) -> bool:
    size = min(len(path), len(other))
    return path[:size] == other[:size]


def _named(path: Path) -> str:
    return ".".join(path[1:] if path[0] == "data" and path[1] not in ATTRIBUTES else path)


# Values


def seconds_of(value: Any, unit: str, pointer: str) -> Decimal:
    """Convert a count of some unit to seconds, exactly."""
    text = value.strip() if isinstance(value, str) else str(value)
    if isinstance(value, bool) or not NUMBER.fullmatch(text):
        raise Unfit(Code.QUANTITY_TYPE, pointer, f"Send a plain number of {unit}, such as 2880 or 0.5, not {value!r}.")
    return EXACT.multiply(Decimal(text), UNITS[unit])


def time_of(text: str, zone: str) -> str:
    """Write a time as RFC 3339; one without a zone is of `zone`. What is no time stays as it is."""
    if TIME.fullmatch(text):
        return text
    match = LOCAL_TIME.fullmatch(text.strip())
    if match is None:
        return text
    day, minutes, seconds, fraction, utc, hours, rest = match.groups()
    clock = f"{day}T{minutes or '00:00'}{seconds or ':00'}{(fraction or '').replace(',', '.')}"
    if utc or (hours is None and zone == "UTC"):
        return clock + "Z"
    if hours is not None:
        return f"{clock}{hours}:{rest}"
    try:
        return format_instant(local_instant(clock, zone))
    except ValueError:
        return text


def _value(value: Any, target: Target, zone: str) -> Any:
    """Convert a value as its unit, or the field that it goes to, asks."""
    pointer = "/" + "/".join(target.path)
    if target.path == ("time",):
        if target.unit is None:
            return time_of(value, zone) if isinstance(value, str) else value
        return _instant(value, target.unit, pointer)
    return value if target.unit is None else seconds_of(value, target.unit, pointer)


def _instant(value: Any, unit: str, pointer: str) -> str:
    try:
        return format_instant(int(EXACT.multiply(seconds_of(value, unit, pointer), Decimal(SECOND)) // 1))
    except (OverflowError, ArithmeticError):
        detail = f"{value} {unit} after 1970 is no instant: see the unit of --map."
        raise Unfit(Code.TIME_FORMAT, pointer, detail) from None


def _typed(text: str, path: Path) -> Any:
    """Read a cell, or what --set says: a number where a label would write it the same, else text."""
    return Decimal(text) if _is_number(text, path) else text


def _is_number(text: str, path: Path) -> bool:
    return path[0] == "data" and path[-1] not in TEXTS and PLAIN_NUMBER.fullmatch(text) is not None


# Events


_encoder = msgspec.json.Encoder(decimal_format="number")


def _written(event: Mapping[str, Any]) -> bytes:
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:
        raise Unfit(Code.TEXT_INVALID, "", NOT_UTF_8) from None


def _drafted(event: dict[str, Any], raw: bytes) -> Draft:
    if event.get("id") is not None:
        return _written(event), None
    event.pop("id", None)
    if event.get("source") is None:
        event["source"] = SOURCE
    return b"," + _written(event)[1:], _digest(raw)


def _digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()[:DIGEST_BYTES]


def with_id(rest: bytes, digest: bytes, ordinal: int) -> bytes:
    """Complete a draft with the id of a line that has none of its own."""
    return b'{"id":"%s-%d"' % (digest.hex().encode("ascii"), ordinal) + rest


def _put(event: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        inner = event.get(name)
        if inner is None:
            inner = event[name] = {}
        if not isinstance(inner, dict):
            raise Unfit(Code.FIELD_TYPE, f"/{name}", f"`{name}` holds members here and something else in the line.")
        event = inner
    event[path[-1]] = value


def row_drafter(columns: Sequence[str], plan: Plan) -> Drafter:
    """Return what makes events of rows with these columns; raises Failure where the mapping does not fit them."""
    if unknown := [column for column in plan.columns if column not in columns]:
        raise Failure(f"There is no column {unknown[0]!r} to map. The columns are: {', '.join(columns)}.")
    taken = [target.path for targets in plan.columns.values() for target in targets] + list(plan.fixed)
    targets = []
    for at, column in enumerate(columns):
        named = [Target(path_of(column))] if column and column not in plan.columns else []
        if named and any(_overlap(named[0].path, path) for path in taken):
            click.echo(f"The column {column!r} is left out: its field gets another value.", err=True)
            named = []
        targets += [(at, target) for target in (*plan.columns.get(column, ()), *named)]
    _refuse_repeated([*(target.path for _, target in targets), *plan.fixed])
    tree: _Tree = {}
    for path, text in plan.fixed.items():
        _place(tree, path, _Fixed(f"{_text(path[-1])}:{_text(_typed(text, path))}"))
    for at, target in targets:
        _place(tree, target.path, _Column(at, target, plan.zone))
    return partial(_draft_rows, tree)


class _Fixed(NamedTuple):
    """A member that is the same in every event, as JSON."""

    member: str


class _Column:
    """A member made of a cell, as JSON; "" where the cell is empty. What was made lately is remembered."""

    def __init__(self, at: int, target: Target, zone: str) -> None:
        self.at = at
        self._target = target
        self._zone = zone
        self._start = f"{_text(target.path[-1])}:"
        self._made: dict[str, str | Unfit] = {"": ""}
        self._is_unfit = False

    def members(self, rows: Sequence[Sequence[str]], unfit: dict[int, Unfit]) -> list[str]:
        """Make the members of rows; those of which none can be made are noted."""
        if len(self._made) > REMEMBERED_MAX:
            self._made, self._is_unfit = {"": ""}, False
        place = self.at
        cells = [row[place] for row in rows]
        for cell in set(cells).difference(self._made):
            self._made[cell] = self._make(cell)
        if not self._is_unfit:
            return list(map(self._made.__getitem__, cells))  # type: ignore[arg-type] # all of them are text
        members = map(self._made.__getitem__, cells)
        return [member if isinstance(member, str) else _noted(at, member, unfit) for at, member in enumerate(members)]

    def _make(self, cell: str) -> str | Unfit:
        path, unit = self._target.path, self._target.unit
        try:
            if unit is not None or path == ("time",):
                return self._start + _text(_value(cell, self._target, self._zone))
            return self._start + (cell if _is_number(cell, path) else _text(cell))
        except Unfit as error:
            self._is_unfit = True
            return error


def _noted(at: int, error: Unfit, unfit: dict[int, Unfit]) -> str:
    unfit.setdefault(at, error)
    return ""


_Tree = dict[str, "_Fixed | _Column | _Tree"]


def _place(tree: _Tree, path: Path, leaf: _Fixed | _Column) -> None:
    for name in path[:-1]:
        inner = tree.setdefault(name, {})
        assert isinstance(inner, dict), "no path begins with another one"
        tree = inner
    tree[path[-1]] = leaf


def _text(value: Any) -> str:
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        raise Unfit(Code.TEXT_INVALID, "", NOT_UTF_8) from None


def _members(tree: _Tree, rows: Sequence[Sequence[str]], unfit: dict[int, Unfit]) -> list[str]:
    """Return the members of an object, joined, for each row; "" where there is none."""
    columns: list[Iterable[str]] = []
    for name, child in tree.items():
        if isinstance(child, _Fixed):
            columns.append(repeat(child.member, len(rows)))
        elif isinstance(child, _Column):
            columns.append(child.members(rows, unfit))
        else:
            inner = _members(child, rows, unfit)
            columns.append([f"{_text(name)}:{{{members}}}" if members else "" for members in inner])
    if len(columns) == 1:
        return [*columns[0]]
    return [",".join(filter(None, members)) for members in zip(*columns, strict=True)]


def _draft_rows(tree: _Tree, records: Sequence[Record]) -> list[Draft | Unfit]:
    rows = [record.cells or () for record in records]
    unfit: dict[int, Unfit] = {}
    ids, sources = (_members({name: tree.get(name, _Fixed(""))}, rows, unfit) for name in ("id", "source"))
    rest = {name: child for name, child in tree.items() if name not in ("id", "source")} or {"": _Fixed("")}
    drafts = [
        (f"{{{id}{source and ','}{source}{rest and ','}{rest}}}".encode(), None)
        if id
        else (f",{source or OWN_SOURCE}{rest and ','}{rest}}}".encode(), _digest(record.raw))
        for id, source, rest, record in zip(ids, sources, _members(rest, rows, unfit), records, strict=True)
    ]
    return [unfit.get(at, draft) for at, draft in enumerate(drafts)] if unfit else [*drafts]


class _Head(msgspec.Struct):
    id: Any = None
    source: Any = None
    time: Any = None


_head = msgspec.json.Decoder(_Head)


def json_drafter(plan: Plan) -> Drafter:
    """Return what makes events of JSON objects: as they are, but for ids that are missing and times without a zone."""
    one = _draft_plain if plan.is_plain else _draft_mapped

    def draft(records: Sequence[Record]) -> list[Draft | Unfit]:
        drafts: list[Draft | Unfit] = []
        for record in records:
            try:
                drafts.append(one(record.raw, plan))
            except Unfit as error:
                drafts.append(error)
        return drafts

    return draft


def _draft_plain(raw: bytes, plan: Plan) -> Draft:
    try:
        head = _head.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _draft_mapped(raw, plan)
    time = head.time
    # Most times end in Z, and those that do are judged where all are.
    if isinstance(time, str) and time[-1:] != "Z" and not TIME.fullmatch(time):
        return _draft_mapped(raw, plan)
    if head.id is not None:
        return raw, None
    if b'"id"' in raw or (head.source is None and b'"source"' in raw):
        return _draft_mapped(raw, plan)
    rest = raw[1:].lstrip()
    source = f",{OWN_SOURCE}".encode() if head.source is None else b""
    return source + (rest if rest.startswith(b"}") else b"," + rest), _digest(raw)


def _draft_mapped(raw: bytes, plan: Plan) -> Draft:
    try:
        event = read(raw)
    except Unreadable as error:
        raise Unfit(error.code, error.pointer, error.detail) from None
    for column, targets in plan.columns.items():
        value = _taken(event, column)
        for target in targets if value is not None else ():
            _put(event, target.path, _value(value, target, plan.zone))
    for path, text in plan.fixed.items():
        _put(event, path, _typed(text, path))
    if isinstance(event.get("time"), str):
        event["time"] = time_of(event["time"], plan.zone)
    return _drafted(event, raw)


def _taken(event: dict[str, Any], column: str) -> Any:
    """Take a member out of an event, by its name or by the path to it."""
    if column in event:
        return event.pop(column)
    *path, last = column.split(".")
    for name in path:
        inner = event.get(name)
        if not isinstance(inner, dict):
            return None
        event = inner
    return event.pop(last, None)
