"""Many events at once: what validate.py decides for one, decided for a whole piece of a batch in columns.

Events differ in little: per source a handful of texts repeat for ever, and only id, time and quantity change. So an
event's texts are its shape, a shape is judged once, by validate.py, and remembered; times and quantities are read as
columns. Whatever is not in the plainest form goes to validate.py by itself, so that both ways give the same verdicts.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tallystick.envelope import DEPTH_MAX, SECOND
from tallystick.ingest import columns
from tallystick.ingest.validate import validate
from tallystick.model import Batch, Caller, Catalog, LabelSet, Meter, Posting, Verdict
from tallystick.settings import Settings

SHAPES_MAX = 50_000
SUSPECT = re.compile(
    rb"\\[bfnrtu]|\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]|[0-9][eE][+-]?[0-9]{16}"
)
"""What may hide text that is refused, or a number that no decimal holds: such a piece is read event by event."""

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
    key: Callable[[Any], tuple[Any, ...]]
    columns: tuple[Column, ...]
    column_of: Mapping[str, int]
    shapes: dict[tuple[Any, ...], Shape] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def learn(self, key: tuple[Any, ...], account: str, postings: Sequence[Posting], sets: LabelSets) -> Shape:
        if len(self.shapes) >= SHAPES_MAX:
            self.shapes.clear()
        feeds = tuple(Feed(sets.of(account, p), self.column_of[p.meter]) for p in postings)
        shape = self.shapes[key] = Shape(next(self.numbers), account, feeds)
        return shape


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
        self._plans: dict[tuple[int, str | None, bool], Plan | None] = {}
        self._sets = LabelSets()

    def prepare(self, raws: Sequence[bytes], *, plain: bool, caller: Caller, catalog: Catalog, now: int) -> Prepared:
        """Judge events, given as they were sent, and put those that pass into columns."""
        plan = self._plan(catalog, caller.account, plain)
        work = _Work(raws, plain, caller, catalog, self._settings, now, self._sets)
        events = _decode(plan, raws) if plan is not None else None
        if plan is None or events is None:
            work.one_by_one(range(len(raws)))
        else:
            work.by_shape(plan, events)
        return work.finish()

    def _plan(self, catalog: Catalog, account: str | None, plain: bool) -> Plan | None:
        key = (catalog.version, account, plain)
        if key not in self._plans:
            if len(self._plans) >= 1000:
                self._plans.clear()
            self._plans[key] = make_plan(catalog)
        return self._plans[key]


def make_plan(catalog: Catalog) -> Plan | None:
    """Derive from the meters what to read of an event; None if a meter asks for more than columns can do."""
    texts = {"status", "space", "dataset", *_DATA_TEXTS}
    wanted: dict[str, Column] = {}
    for meter in catalog.meters.values():
        names = [path.removeprefix("$.data.") for _, path in meter.labels if path != "$.space"]
        column = _column(meter)
        if column is None or meter.once_per or meter.rate or any("." in name or "$" in name for name in names):
            return None
        texts.update(names)
        wanted[meter.name] = column
    quantities = {column.member for column in wanted.values()}
    if quantities & texts:
        return None
    data_type = msgspec.defstruct(
        "Data",
        [
            *((name, str | tuple[str, ...] | None, None) for name in ["tags"]),
            *((name, str | None, None) for name in sorted(texts - {"tags"})),
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
            *((name, str | None, None) for name in ("specversion", "time", "subject", "account", "space")),
            ("data", data_type | None, None),  # type: ignore[operator]
            ("data_base64", Raw, Raw()),
        ],
        gc=False,
    )
    members = [f"data.{name}" for name in sorted(texts | {"tags"})]
    distinct = tuple(dict.fromkeys(wanted.values()))
    return Plan(
        decode=msgspec.json.Decoder(list[event_type]).decode,  # type: ignore[valid-type]
        key=attrgetter("type", "specversion", "account", "space", "subject", *members),
        columns=distinct,
        column_of={name: distinct.index(column) for name, column in wanted.items()},
    )


_DATA_TEXTS = ("model", "billing", "license")


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
    if SUSPECT.search(body):
        return None
    try:
        if not body.isascii():
            body.decode("utf-8")
        events = plan.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if body.count(b"{") + body.count(b"[") > 2 * len(raws) and _is_deep(raws):
        return None
    return events if len(events) == len(raws) else None


def _is_deep(raws: Sequence[bytes]) -> bool:
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

    def validate(self, at: int) -> tuple[Any, tuple[Posting, ...]] | Verdict:
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
            event, postings = judged
            self.account[at], self.source[at], self.id[at] = event.account, event.source, event.id
            self.time[at], self.timed[at] = event.time, event.timed
            for posting in postings:
                events.append(at)
                sets.append(len(self.label_sets))
                amounts.append(posting.amount)
                self.label_sets.append(self.sets.of(event.account, posting))
        if events:
            self.postings.append((np.array(events), np.array(sets), np.array(amounts, np.int64)))

    def by_shape(self, plan: Plan, events: list[Any]) -> None:
        """Judge events by their shapes, and by themselves where something is not plain."""
        slow = self._odd(events)
        keys = self._keys(plan, events)
        shapes: list[Shape | None] = list(map(plan.shapes.get, keys)) if len(slow) < len(events) else []
        for at, shape in enumerate(shapes):
            if shape is None and at not in slow:
                shape = plan.shapes.get(keys[at]) or self._learn(plan, keys[at], at)
                shapes[at] = shape
                if shape is None:
                    slow.add(at)
        self._times(events, slow)
        fast = np.ones(len(events), np.bool_)
        fast[list(slow)] = False
        self._quantities(plan, events, shapes, fast, slow)
        self.source, self.id = [e.source for e in events], [e.id for e in events]
        self.account = [shape.account if shape is not None else "" for shape in shapes] or self.account
        if slow:
            self.one_by_one(sorted(slow))

    def _odd(self, events: list[Any]) -> set[int]:
        """Return the rows with a name of a wrong length, a size past the bound, or a member that is rare."""
        longest = self.settings.text_length_max
        odd: set[int] = set()
        for text in (attrgetter("id"), attrgetter("source")):
            lengths = list(map(len, map(text, events)))
            if max(lengths) > longest or min(lengths) == 0:
                odd.update(at for at, length in enumerate(lengths) if not 1 <= length <= longest)
        if max(map(len, self.raws)) > self.settings.event_bytes_max:
            odd.update(at for at, raw in enumerate(self.raws) if len(raw) > self.settings.event_bytes_max)
        odd.update(at for at, e in enumerate(events) if e.data is None or e.data_base64)
        return odd

    def _keys(self, plan: Plan, events: list[Any]) -> list[tuple[Any, ...]]:
        """Return the events' texts; a subject that names neither account nor space is no part of them."""
        try:
            keys = list(map(plan.key, events))
        except AttributeError:
            # An event without data has no members to look at; it is odd, and its key is not used.
            keys = [plan.key(e) if e.data is not None else () for e in events]
        longest = self.settings.text_length_max
        for at, key in enumerate(keys):
            if key and key[4] is not None and "/" not in key[4] and key[2] is not None and 1 <= len(key[4]) <= longest:
                keys[at] = (*key[:4], None, *key[5:])
        return keys

    def _learn(self, plan: Plan, key: tuple[Any, ...], at: int) -> Shape | None:
        judged = self.validate(at)
        if isinstance(judged, Verdict):
            return None
        event, postings = judged
        return plan.learn(key, event.account, postings, self.sets)

    def _times(self, events: list[Any], slow: set[int]) -> None:
        texts = [e.time for e in events]
        if None in texts:
            self.timed = np.array([text is not None for text in texts])
            if not self.timed.any():
                return
            texts = [text or "" for text in texts]
        else:
            self.timed = np.ones(len(events), np.bool_)
        try:
            time, plain = columns.times(texts)
        except UnicodeEncodeError:
            slow.update(np.flatnonzero(self.timed).tolist())
            return
        plain &= time <= self.now + self.settings.time_ahead_s_max * SECOND
        slow.update(np.flatnonzero(self.timed & ~plain).tolist())
        self.time = np.where(self.timed, time, self.now)

    def _quantities(
        self, plan: Plan, events: list[Any], shapes: list[Shape | None], fast: NDArray[np.bool_], slow: set[int]
    ) -> None:
        """Read the quantities that the shapes count, and make postings of them."""
        fast &= ~np.isin(np.arange(len(events)), list(slow)) if slow else True
        rows = np.flatnonzero(fast)
        if len(rows) == 0:
            return
        mine = [shape for shape, is_fast in zip(shapes, fast.tolist(), strict=True) if is_fast and shape is not None]
        numbers = np.fromiter([shape.number for shape in mine], np.int64, len(mine))
        used, first, shape_of = np.unique(numbers, return_index=True, return_inverse=True)
        feeds = [mine[at].feeds for at in first.tolist()]
        found: list[tuple[Ints, Ints, Ints]] = []
        bad = np.zeros(len(events), np.bool_)
        for slot in range(max(map(len, feeds))):
            base = len(self.label_sets)
            self.label_sets += [each[slot].label_set for each in feeds if len(each) > slot]
            column_of = np.array([each[slot].column if len(each) > slot else -1 for each in feeds])
            set_of = base + np.cumsum(column_of >= 0) - 1
            for number in np.unique(column_of[column_of >= 0]).tolist():
                fed = np.flatnonzero(column_of[shape_of] == number)
                column = plan.columns[number]
                member = attrgetter(f"data.{column.member}")
                amount, plain = columns.decimals([bytes(member(events[at])) for at in rows[fed].tolist()], column.scale)
                plain &= amount <= 10 ** (12 + column.scale)
                bad[rows[fed[~plain]]] = True
                found.append((rows[fed], set_of[shape_of[fed]], amount))
        slow.update(np.flatnonzero(bad).tolist())
        if bad.any():
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
            raws, account, source, id = ([column[i] for i in rows] for column in (raws, account, source, id))
            time, timed, at = time[index], timed[index], (np.cumsum(passed) - 1)[at]
        batch = Batch(
            self.catalog.version, self.now, raws, account, source, id, time, timed, at, sets, amounts, self.label_sets
        )
        return Prepared(batch, index, self.refused)


def prepare(
    raws: Sequence[bytes], *, plain: bool = False, caller: Caller, catalog: Catalog, settings: Settings, now: int
) -> Prepared:
    """Prepare one piece with nothing remembered from others."""
    return Preparer(settings).prepare(raws, plain=plain, caller=caller, catalog=catalog, now=now)
