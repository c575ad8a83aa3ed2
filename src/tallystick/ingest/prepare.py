"""Many events at once: what validate.py decides for one, decided for a whole piece of a batch in columns.

Events differ in little: per source a handful of texts repeat for ever, and only id, time and quantity change. So an
event's texts are its shape, a shape is judged once, by validate.py, and remembered; times and quantities are read as
columns. Whatever is not in the plainest form goes to validate.py by itself, so that both ways give the same verdicts.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tallystick.envelope import DELETED, DEPTH_MAX, SECOND, UPSERTED
from tallystick.ingest import columns
from tallystick.ingest.validate import validate
from tallystick.model import Batch, Caller, Catalog, Change, Checked, LabelSet, Meter, Posting, Verdict
from tallystick.settings import Settings

SHAPES_MAX = 50_000
TEXTS_MAX = 150_000
"""Texts and shapes remembered for all callers together, looked at every CALLS_PER_LOOK pieces."""
CALLS_PER_LOOK = 32
ESCAPES = re.compile(rb"\\[bfnrtu]")
UNSAFE_RAW = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]")
BEYOND = re.compile(rb"[0-9][eE][+-]?[0-9]{16}")

Raw = msgspec.Raw
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of a piece: `batch` has the events that passed, `index` their places in it, `refused` the others."""

    batch: Batch
    index: Ints
    refused: Mapping[int, Verdict]


@dataclass(frozen=True, slots=True)
class Feed:
    """One posting that every event of a shape gives: into which series, from which column of quantities."""

    label_set: LabelSet
    column: int


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What validate.py said of an event with these texts."""

    number: int
    account: str
    feeds: tuple[Feed, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A quantity that meters count: a member of data, read at a scale."""

    member: str
    scale: int


@dataclass(slots=True)
class Plan:
    """How events are read under one catalog, for one kind of caller; it learns shapes as they come."""

    decode: Callable[[bytes], list[Any]]
    texts: slice
    columns: tuple[Column, ...]
    column_of: Mapping[str, int]
    slow_types: frozenset[str]
    heads: dict[tuple[Any, ...], int] = field(default_factory=dict)
    datas: dict[tuple[Any, ...], int] = field(default_factory=dict)
    shapes: dict[tuple[int, int], Shape] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def keys(self, heads: list[tuple[Any, ...]], events: list[Any]) -> list[tuple[int, int]]:
        """Number the texts of each event: those around its data, and those in it. Equal texts, equal numbers."""
        members = [texts[self.texts] for texts in map(msgspec.structs.astuple, map(_data, events))]
        return list(
            zip(_number(heads, self.heads, self.numbers), _number(members, self.datas, self.numbers), strict=True)
        )

    @property
    def size(self) -> int:
        return 1 + len(self.heads) + len(self.datas) + len(self.shapes)

    def learn(self, key: tuple[int, int], account: str, postings: Sequence[Posting], sets: LabelSets) -> Shape:
        if len(self.shapes) >= SHAPES_MAX:
            self.shapes.clear()
        feeds = tuple(Feed(sets.of(account, p), self.column_of[p.meter]) for p in postings)
        shape = self.shapes[key] = Shape(next(self.numbers), account, feeds)
        return shape


_data = attrgetter("data")
_head = attrgetter("type", "specversion", "account", "space", "subject", "data_base64")


def _number(texts: list[tuple[Any, ...]], known: dict[tuple[Any, ...], int], numbers: Iterator[int]) -> list[int]:
    """Return the number of each text, giving new ones to those that are not known; a number never comes twice."""
    found = list(map(known.get, texts))
    if None in found:
        if len(known) >= SHAPES_MAX:
            known.clear()
        for at, number in enumerate(found):
            if number is None:
                found[at] = known.get(texts[at])
                if found[at] is None:
                    found[at] = known[texts[at]] = next(numbers)
    return found  # type: ignore[return-value]  # every None was replaced


class LabelSets:
    """One LabelSet object per label set, so that a ledger can know it again by identity."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, int, Any], LabelSet] = {}

    def of(self, account: str, posting: Posting) -> LabelSet:
        key = (account, posting.meter, posting.meter_version, posting.labels)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= 4 * SHAPES_MAX:
                self._made.clear()
            made = self._made[key] = LabelSet(*key)
        return made


class Preparer:
    """Prepares pieces of batches; keeps what it learned of shapes between them. Not for several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plans: dict[tuple[str | None, bool], Plan | None] = {}
        self._catalog: Catalog | None = None
        self._calls = 0
        self._sets = LabelSets()

    def prepare(self, raws: Sequence[bytes], *, plain: bool, caller: Caller, catalog: Catalog, now: int) -> Prepared:
        """Judge events, given as they were sent, and put those that pass into columns."""
        plan = self._plan(catalog, caller.account, plain)
        work = _Work(raws, plain, caller, catalog, self._settings, now, self._sets)
        events = _decode(plan, raws) if plan is not None and raws else None
        if plan is None or events is None:
            work.one_by_one(range(len(raws)))
        else:
            work.by_shape(plan, events)
        return work.finish()

    def _plan(self, catalog: Catalog, account: str | None, plain: bool) -> Plan | None:
        # Not by its version: two ledgers of one process may give the same one to what is not the same.
        if self._catalog is None or (self._catalog.meters, self._catalog.rates) != (catalog.meters, catalog.rates):
            self._plans.clear()
        self._catalog = catalog
        key = (account, plain)
        self._calls += 1
        if self._calls % CALLS_PER_LOOK == 0 and sum(plan.size for plan in self._plans.values() if plan) > TEXTS_MAX:
            self._plans.clear()
        if key not in self._plans:
            self._plans[key] = make_plan(catalog)
        return self._plans[key]


def compress_to(values: Iterable[Any], rows: Ints, count: int) -> Iterable[Any]:
    """Choose rows (ascending) out of `count` values."""
    if len(rows) == count:
        return values
    chosen = np.zeros(count, np.bool_)
    chosen[rows] = True
    return itertools.compress(values, chosen.tolist())


def make_plan(catalog: Catalog) -> Plan | None:
    """Derive from the meters what to read of an event; types with a meter that columns cannot do are left out.

    None if two meters read one member in different ways.
    """
    texts = {"status", "space", "dataset", *_DATA_TEXTS}
    wanted: dict[str, Column] = {}
    slow = frozenset({UPSERTED, DELETED}.union(*(m.events for m in catalog.meters.values() if not _is_columnar(m))))
    for meter in catalog.meters.values():
        column = _column(meter)
        if column is not None and not meter.events <= slow:
            texts.update(path.removeprefix("$.data.") for _, path in meter.labels if path != "$.space")
            wanted[meter.name] = column
    quantities = {column.member for column in wanted.values()}
    if quantities & texts:
        return None
    members = sorted(texts | {"tags"})
    data_type = msgspec.defstruct(
        "Data",
        [
            *((name, str | tuple[str, ...] | None if name == "tags" else str | None, None) for name in members),
            *((name, Raw, Raw()) for name in sorted(quantities)),
        ],
        gc=False,
    )
    event_type = msgspec.defstruct(
        "Envelope",
        [
            ("id", str),
            ("source", str),
            ("type", str),
            *((n, str | None, None) for n in ("specversion", "time", "subject", "account", "space", "data_base64")),
            ("data", data_type | None, None),
        ],
        gc=False,
    )
    list_of: Any = list
    distinct = tuple(dict.fromkeys(wanted.values()))
    return Plan(
        decode=msgspec.json.Decoder(list_of[event_type]).decode,
        texts=slice(len(members)),
        columns=distinct,
        column_of={name: distinct.index(column) for name, column in wanted.items()},
        slow_types=slow,
    )


_DATA_TEXTS = ("model", "billing", "license")
NO_KEY = (-1, -1)
TYPE, ACCOUNT, SUBJECT, DATA_BASE64 = 0, 2, 4, 5
"""Places among the texts around an event's data."""


def _is_columnar(meter: Meter) -> bool:
    names = [path.removeprefix("$.data.") for _, path in meter.labels if path != "$.space"]
    plain = not meter.where and meter.aggregation != "unique" and not meter.once_per and meter.rate is None
    return plain and _column(meter) is not None and not any("." in name or "$" in name for name in names)


def _column(meter: Meter) -> Column | None:
    rounds = meter.rounding
    if rounds is not None and (Decimal(rounds.to) != Decimal(1).scaleb(-meter.scale) or Decimal(rounds.minimum) != 0):
        return None
    if meter.quantity is None or not meter.quantity.startswith("$.data.") or meter.quantity.count(".") != 2:
        return None
    return Column(meter.quantity.removeprefix("$.data."), meter.scale)


def _decode(plan: Plan, raws: Sequence[bytes]) -> list[Any] | None:
    """Decode a piece, or return None if any of it may need a closer look than columns can take."""
    body = b"[" + b",".join(raws) + b"]"
    if not _is_clean(body) or (_has_long_number(body) and BEYOND.search(body)):
        return None
    try:
        events = plan.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return None if len(events) != len(raws) or _may_be_deep(body, raws, events) else events


def _is_clean(body: bytes) -> bool:
    """Say whether no text of a piece can hold what is refused in attributes and labels: no control, no bidi override.

    JSON itself keeps the lower controls out of texts, but for escapes.
    """
    if b"\\" in body and ESCAPES.search(body):
        return False
    if body.isascii():
        return b"\x7f" not in body
    try:
        return body.decode("utf-8").isprintable() or not UNSAFE_RAW.search(body)
    except UnicodeDecodeError:
        return False


def _has_long_number(body: bytes) -> bool:
    """Say whether sixteen digits stand together, as in an exponent that no decimal can hold."""
    run = (np.frombuffer(body, np.uint8) - np.uint8(48)) <= 9
    for width in (1, 2, 4, 8):
        run = run[width:] & run[:-width]
    return bool(run.any())


def _may_be_deep(body: bytes, raws: Sequence[bytes], events: list[Any]) -> bool:
    """Say whether an event may be nested deeper than allowed; one with its data as its only object cannot be."""
    # "[" and "{" differ in one bit.
    opened = np.count_nonzero((np.frombuffer(body, np.uint8) | np.uint8(32)) == ord("{")) - 1
    if opened <= 2 * len(raws) and None not in map(_data, events):
        return False
    return any(raw.count(b"{") + raw.count(b"[") > DEPTH_MAX for raw in raws)


class _Work:
    """One piece on its way into columns."""

    def __init__(
        self,
        raws: Sequence[bytes],
        plain: bool,
        caller: Caller,
        catalog: Catalog,
        settings: Settings,
        now: int,
        sets: LabelSets,
    ) -> None:
        self.raws = raws
        self.plain, self.caller, self.catalog, self.settings = plain, caller, catalog, settings
        self.now = now
        self.sets = sets
        n = len(raws)
        self.refused: dict[int, Verdict] = {}
        self.account: list[str] = [""] * n
        self.source: list[str] = [""] * n
        self.id: list[str] = [""] * n
        self.time = np.full(n, now, np.int64)
        self.timed = np.zeros(n, np.bool_)
        self.label_sets: list[LabelSet] = []
        self.postings: list[tuple[Ints, Ints, Ints]] = []
        self.changes: dict[int, Change] = {}
        self.once: dict[int, Mapping[str, str]] = {}

    def validate(self, at: int) -> Checked | Verdict:
        return validate(
            self.raws[at],
            plain=self.plain,
            caller=self.caller,
            catalog=self.catalog,
            settings=self.settings,
            now=self.now,
        )

    def one_by_one(self, rows: Sequence[int] | range) -> None:
        """Judge events by themselves."""
        events, sets, amounts = [], [], []
        for at in rows:
            judged = self.validate(at)
            if isinstance(judged, Verdict):
                self.refused[at] = judged
                continue
            event = judged.event
            if judged.change is not None:
                self.changes[at] = judged.change
            self.account[at], self.source[at], self.id[at] = event.account, event.source, event.id
            self.time[at], self.timed[at] = event.time, event.timed
            once = {posting.meter: posting.once for posting in judged.postings if posting.once is not None}
            if once:
                self.once[at] = once
            for posting in judged.postings:
                events.append(at)
                sets.append(len(self.label_sets))
                amounts.append(posting.amount)
                self.label_sets.append(self.sets.of(event.account, posting))
        if events:
            self.postings.append((np.array(events), np.array(sets), np.array(amounts, np.int64)))

    def by_shape(self, plan: Plan, events: list[Any]) -> None:
        """Judge events by their shapes, and by themselves where something is not plain."""
        self.source, self.id = [e.source for e in events], [e.id for e in events]
        slow = self._odd()
        shapes = self._shapes(plan, events, slow)
        self._times([e.time for e in events], slow)
        self.account = [shape.account if shape is not None else "" for shape in shapes]
        self._quantities(plan, events, shapes, slow)
        if slow:
            self.one_by_one(sorted(slow))

    def _odd(self) -> set[int]:
        """Return the rows with an id or source of a wrong length, or a size past the bound."""
        odd: set[int] = set()
        bounds = ((1, self.settings.text_length_max),) * 2 + ((1, self.settings.event_bytes_max),)
        for column, (least, most) in zip((self.id, self.source, self.raws), bounds, strict=True):
            lengths = list(map(len, column))
            if max(lengths) > most or min(lengths) < least:
                odd.update(at for at, length in enumerate(lengths) if not least <= length <= most)
        return odd

    def _shapes(self, plan: Plan, events: list[Any], slow: set[int]) -> list[Shape | None]:
        """Return the shape of each event; one that is seen for the first time is judged by one of its events."""
        whole = events
        if None in map(_data, events):
            slow.update(at for at, event in enumerate(events) if event.data is None)
            whole = [event for event in events if event.data is not None]
        heads = list(map(_head, whole))
        if any(map(itemgetter(SUBJECT), heads)):
            heads = [self._without_subject(head) for head in heads]
        keys = plan.keys(heads, whole)
        if len(whole) < len(events):
            rest = zip(heads, keys, strict=True)
            heads, keys = map(
                list, zip(*(next(rest) if e.data is not None else ((), NO_KEY) for e in events), strict=True)
            )
        shapes: list[Shape | None] = list(map(plan.shapes.get, keys))
        if None in shapes:
            for at, shape in enumerate(shapes):
                if shape is None and at not in slow:
                    shapes[at] = plan.shapes.get(keys[at]) or self._learn(plan, heads[at], keys[at], at)
                if shapes[at] is None:
                    slow.add(at)
        return shapes

    def _without_subject(self, head: tuple[Any, ...]) -> tuple[Any, ...]:
        """Leave a subject that names neither account nor space out of the shape: there may be one per person."""
        subject = head[SUBJECT]
        if subject is None or head[ACCOUNT] is None or "/" in subject:
            return head
        if not 1 <= len(subject) <= self.settings.text_length_max:
            return head
        return (*head[:SUBJECT], None, *head[SUBJECT + 1 :])

    def _learn(self, plan: Plan, head: tuple[Any, ...], key: tuple[int, int], at: int) -> Shape | None:
        is_columnar = head[DATA_BASE64] is None and head[TYPE] not in plan.slow_types
        judged = self.validate(at) if is_columnar else None
        if judged is None or isinstance(judged, Verdict):
            return None
        return plan.learn(key, judged.event.account, judged.postings, self.sets)

    def _times(self, texts: list[str | None], slow: set[int]) -> None:
        self.timed = np.array([text is not None for text in texts])
        if not self.timed.any():
            return
        try:
            time, plain = columns.times([text or "" for text in texts])
        except UnicodeEncodeError:
            slow.update(np.flatnonzero(self.timed).tolist())
            return
        plain &= time <= self.now + self.settings.time_ahead_s_max * SECOND
        if not plain.all():
            slow.update(np.flatnonzero(self.timed & ~plain).tolist())
        self.time = np.where(self.timed, time, self.now)

    def _quantities(self, plan: Plan, events: list[Any], shapes: Sequence[Shape | None], slow: set[int]) -> None:
        """Read the quantities that the shapes count, and make postings of them."""
        if slow:
            kept = [(at, shape) for at, shape in enumerate(shapes) if shape is not None and at not in slow]
            rows, mine = np.array([at for at, _ in kept], np.int64), [shape for _, shape in kept]
            events = [events[at] for at, _ in kept]
        else:
            rows, mine = np.arange(len(shapes)), [shape for shape in shapes if shape is not None]
        if not mine:
            return
        numbers = np.fromiter(map(attrgetter("number"), mine), np.int64, len(mine))
        _, first, shape_of = np.unique(numbers, return_index=True, return_inverse=True)
        feeds = [mine[at].feeds for at in first.tolist()]
        found: list[tuple[Ints, Ints, Ints]] = []
        bad = np.zeros(len(self.raws), np.bool_)
        for slot in range(max(map(len, feeds))):
            base = len(self.label_sets)
            self.label_sets += [each[slot].label_set for each in feeds if len(each) > slot]
            column_of = np.array([each[slot].column if len(each) > slot else -1 for each in feeds])
            set_of = base + np.cumsum(column_of >= 0) - 1
            for number in np.unique(column_of[column_of >= 0]).tolist():
                fed = np.flatnonzero(column_of[shape_of] == number)
                column = plan.columns[number]
                texts = map(attrgetter(f"data.{column.member}"), events)
                amount, plain = columns.decimals(list(map(bytes, compress_to(texts, fed, len(events)))), column.scale)
                plain &= amount <= 10 ** (12 + column.scale)
                bad[rows[fed[~plain]]] = True
                found.append((rows[fed], set_of[shape_of[fed]], amount))
        if bad.any():
            slow.update(np.flatnonzero(bad).tolist())
            found = [(at[~bad[at]], sets[~bad[at]], amounts[~bad[at]]) for at, sets, amounts in found]
        self.postings += found

    def finish(self) -> Prepared:
        """Put together what passed."""
        n = len(self.raws)
        empty = np.empty(0, np.int64)
        at, sets, amounts = (np.concatenate(parts) for parts in zip(*self.postings, (empty,) * 3, strict=True))
        if len(self.postings) > 1:
            order = np.argsort(at, kind="stable")
            at, sets, amounts = at[order], sets[order], amounts[order]
        index = np.arange(n)
        raws, account, source, id, time, timed = self.raws, self.account, self.source, self.id, self.time, self.timed
        if self.refused:
            passed = np.ones(n, np.bool_)
            passed[list(self.refused)] = False
            index = np.flatnonzero(passed)
            rows = index.tolist()
            raws = [raws[i] for i in rows]
            account, source, id = ([column[i] for i in rows] for column in (account, source, id))
            place = np.cumsum(passed) - 1
            time, timed, at = time[index], timed[index], place[at]
            self.changes = {int(place[i]): change for i, change in self.changes.items()}
            self.once = {int(place[i]): once for i, once in self.once.items()}
        batch = Batch(
            self.catalog.version,
            self.now,
            raws,
            account,
            source,
            id,
            time,
            timed,
            at,
            sets,
            amounts,
            self.label_sets,
            self.changes,
            self.once,
        )
        return Prepared(batch, index, self.refused)


def join(parts: Sequence[Prepared]) -> Prepared:
    """Put pieces that were prepared one after the other together, as if they had been one."""
    if len(parts) == 1:
        return parts[0]
    batches = [part.batch for part in parts]
    counts = [len(part.batch) + len(part.refused) for part in parts]
    starts = np.cumsum([0, *counts[:-1]]).tolist()
    events = np.cumsum([0, *map(len, batches)]).tolist()
    sets = np.cumsum([0, *(len(b.label_sets) for b in batches)]).tolist()
    chain = itertools.chain.from_iterable
    batch = Batch(
        batches[0].catalog_version,
        batches[0].received,
        list(chain(b.raw for b in batches)),
        list(chain(b.account for b in batches)),
        list(chain(b.source for b in batches)),
        list(chain(b.id for b in batches)),
        np.concatenate([b.time for b in batches]),
        np.concatenate([b.timed for b in batches]),
        np.concatenate([b.posting_event + start for b, start in zip(batches, events, strict=False)]),
        np.concatenate([b.posting_set + start for b, start in zip(batches, sets, strict=False)]),
        np.concatenate([b.posting_amount for b in batches]),
        list(chain(b.label_sets for b in batches)),
        {at + start: change for b, start in zip(batches, events, strict=False) for at, change in b.changes.items()},
        {at + start: once for b, start in zip(batches, events, strict=False) for at, once in b.once.items()},
    )
    index = np.concatenate([part.index + start for part, start in zip(parts, starts, strict=True)])
    refused = {at + start: v for part, start in zip(parts, starts, strict=True) for at, v in part.refused.items()}
    return Prepared(batch, index, refused)


def prepare(
    raws: Sequence[bytes], *, plain: bool = False, caller: Caller, catalog: Catalog, settings: Settings, now: int
) -> Prepared:
    """Prepare one piece with nothing remembered from others."""
    return Preparer(settings).prepare(raws, plain=plain, caller=caller, catalog=catalog, now=now)
