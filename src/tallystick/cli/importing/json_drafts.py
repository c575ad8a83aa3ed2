"""Events of JSON objects: as they are, unless something is mapped, set or missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tallystick.cli.importing.drafts import OWN_SOURCE, SOURCE, Drafter, Drafts, digest_of, written
from tallystick.cli.importing.mapping import Plan
from tallystick.cli.importing.records import Records
from tallystick.cli.importing.values import Path, Unfit, converted, time_of, typed
from tallystick.envelope import TIME, Unreadable, read
from tallystick.errors import Code
from tallystick.ingest.decode import list_of

_Draft = tuple[bytes, bytes | None]
"""An event, or what it is but for its id, and the digest of its line."""


class _Head(msgspec.Struct, gc=False):
    id: Any = None
    source: Any = None
    time: Any = None


_head = msgspec.json.Decoder(_Head)
_heads = msgspec.json.Decoder(list[_Head])


def json_drafter(plan: Plan) -> Drafter:
    """Return what makes events of JSON objects: as they are, but for ids that are missing and times without a zone."""

    one = _draft_plain if plan.is_plain else _draft_mapped

    def draft(records: Records) -> Drafts:
        events, digests, unfit = [*records.raws], dict[int, bytes](), dict[int, Unfit]()
        for at in _odd(events) if plan.is_plain else range(len(events)):
            try:
                events[at], digest = one(events[at], plan)
            except Unfit as error:
                unfit[at] = error
            else:
                if digest is not None:
                    digests[at] = digest
        return Drafts(events, digests, unfit)

    return draft


def _odd(raws: Sequence[bytes]) -> Sequence[int]:
    """Return the places of objects that may not stay as they are; the others have an id and a time in UTC, or none."""
    together = list_of(raws)
    if together is None:
        return range(len(raws))
    try:
        heads = _heads.decode(together)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return range(len(raws))
    return [at for at, head in enumerate(heads) if head.id is None or not _has_zone(head.time)]


def _has_zone(time: Any) -> bool:
    """Say whether a time may be sent as it is; most end in Z, and those that do are judged where all are."""
    return not isinstance(time, str) or time[-1:] == "Z" or TIME.fullmatch(time) is not None


def _draft_plain(raw: bytes, plan: Plan) -> _Draft:
    try:
        head = _head.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _draft_mapped(raw, plan)
    if not _has_zone(head.time):
        return _draft_mapped(raw, plan)
    if head.id is not None:
        return raw, None
    if b'"id"' in raw or (head.source is None and b'"source"' in raw):
        return _draft_mapped(raw, plan)
    rest = raw[1:].lstrip()
    source = f",{OWN_SOURCE}".encode() if head.source is None else b""
    return source + (rest if rest.startswith(b"}") else b"," + rest), digest_of(raw)


def _draft_mapped(raw: bytes, plan: Plan) -> _Draft:
    try:
        event = read(raw)
    except Unreadable as error:
        raise Unfit(error.code, error.pointer, error.detail) from None
    for column, targets in plan.columns.items():
        value = _taken(event, column)
        for target in targets if value is not None else ():
            _put(event, target.path, converted(value, target.path, target.unit, plan.zone))
    for path, text in plan.fixed.items():
        _put(event, path, typed(text, path))
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


def _drafted(event: dict[str, Any], raw: bytes) -> _Draft:
    if event.get("id") is not None:
        return written(event), None
    event.pop("id", None)
    if event.get("source") is None:
        event["source"] = SOURCE
    return b"," + written(event)[1:], digest_of(raw)


def _put(event: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        inner = event.get(name)
        if inner is None:
            inner = event[name] = {}
        if not isinstance(inner, dict):
            raise Unfit(Code.FIELD_TYPE, f"/{name}", f"`{name}` holds members here and something else in the line.")
        event = inner
    event[path[-1]] = value
