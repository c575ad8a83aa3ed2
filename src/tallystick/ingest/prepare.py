"""Many events at once: what validate.py decides for one, decided for a whole part of a batch in columns.

Events differ in little: per source a handful of texts repeat for ever, and only id, time and quantity change. So an
event's texts are its shape, a shape is judged once, by validate.py, and remembered; times and quantities are read as
columns. Whatever is not in the plainest form goes to validate.py by itself, so that both ways give the same verdicts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from tallystick.envelope import DEPTH_MAX, SECOND
from tallystick.ingest import columns
from tallystick.ingest.plain import BEYOND, decode_one, is_clean, subject_in_shape
from tallystick.ingest.plan import ACCOUNT, Form, LabelSets, Plan, Shape, Texts, make_form
from tallystick.ingest.single import Single
from tallystick.ingest.stencils import stencils_of
from tallystick.ingest.validate import ACCOUNT_NAME, but_for_meters, validate
from tallystick.model import Batch, Caller, Catalog, Change, Checked, Doomed, LabelSet, Verdict
from tallystick.precedence import precedence
from tallystick.raws import sizes_of
from tallystick.settings import Settings

TEXTS_MAX = 150_000
"""Texts and shapes remembered for all callers together, looked at every CALLS_PER_LOOK parts, or more seldom."""
CALLS_PER_LOOK = 32
PIECE_BYTES = 32 * 1024
"""How much is decoded at a stretch: what it takes in memory stays near the processor."""
FEW = 2
"""So few events are judged one by one: columns cost something for each that they have."""
BLANK = b'{"id":"-","source":"-","type":"","data":{}}'
"""Stands where an event is not read in columns."""

Ints = NDArray[np.int64]
FIRST = np.zeros(1, np.int64)
Postings = tuple[Ints, Ints, Ints]
"""Places of events, of label sets, and amounts."""


class Prepared(msgspec.Struct, frozen=True, eq=False):
    """What became of a part: `batch` has the events that passed, `index` their places in it, `refused` the others."""

    batch: Batch
    index: Ints
    refused: Mapping[int, Verdict]


class Preparer:
    """Prepares parts of batches, for any thread; keeps what it learned of shapes between them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._form: tuple[Catalog, Form] | None = None
        self._plans: dict[tuple[str | None, bool], Plan] = {}
        self._calls = 0
        self._sets = LabelSets()
        self._planning = threading.Lock()

    def prepare(self, raws: Sequence[bytes], *, plain: bool, caller: Caller, catalog: Catalog, now: int) -> Prepared:
        """Judge events, given as they were sent, and put those that pass into columns."""
        single = None
        if len(raws) == 1:
            single = Single.read(self._plan(catalog, caller.account, plain), raws[0], self._settings)
            batch = None if single is None else single.batch(catalog, now, self._settings)
            if batch is not None:
                return Prepared(batch, FIRST, {})
        work = _Work(raws, plain, caller, catalog, self._settings, now, self._sets)
        if single is not None and single.shape is None:
            work.learn(single.plan, single.head, single.texts, 0)
        if len(raws) <= FEW:
            work.one_by_one(range(len(raws)))
        else:
            work.by_shape(self._plan(catalog, caller.account, plain))
        return work.finish()

    def _plan(self, catalog: Catalog, account: str | None, plain: bool) -> Plan:
        with self._planning:
            self._tidy()
            # Not by its version: two ledgers of one process may give the same one to what is not the same.
            if self._form is None or (self._form[0].meters, self._form[0].rates) != (catalog.meters, catalog.rates):
                self._plans.clear()
                self._form = (catalog, make_form(catalog))
            key = (account, plain)
            if key not in self._plans:
                self._plans[key] = Plan(self._form[1], catalog, self._sets)
            return self._plans[key]

    def _tidy(self) -> None:
        self._calls += 1
        # Looking takes longer the more there is, so it is done more seldom then.
        if self._calls >= CALLS_PER_LOOK + len(self._plans):
            self._calls = 0
            if sum(plan.size for plan in self._plans.values()) > TEXTS_MAX:
                self._plans.clear()


_data_of = attrgetter("data")


@dataclass(frozen=True, slots=True)
class _Varying:
    """The columns of a piece that differ from event to event; `data` has the quantities."""

    id: Sequence[str]
    source: Sequence[str]
    time: Sequence[str | None]
    data: Sequence[Any]


@dataclass(frozen=True, slots=True)
class _Recognised:
    """A piece that was read by its stencils; the shapes of those that are not known are None."""

    varying: _Varying
    stencils: Sequence[bytes]
    shapes: list[Shape | None]


# Decoding


def _recognised(plan: Plan, raws: Sequence[bytes]) -> _Recognised | None:
    """Read a piece by its stencils, or nothing where some text of it is not as plain as they need it."""
    body = b"[" + b",".join(raws) + b"]"
    if b"\\" in body or not is_clean(body):
        return None
    try:
        events = plan.form.decode_lean(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if len(events) != len(raws):
        return None
    stencils = stencils_of(raws, events, plan.form.quantity_of.values())
    varying = _Varying(*(list(map(attrgetter(name), events)) for name in ("id", "source", "time", "data")))
    return _Recognised(varying, stencils, plan.stencils.look_up(stencils))


def _decode(form: Form, raws: Sequence[bytes]) -> list[Any]:
    """Decode events; None in place of each that may need a closer look than columns can take."""
    body = b"[" + b",".join(raws) + b"]"
    if is_clean(body) and not (_has_long_number(body) and BEYOND.search(body)):
        try:
            events = form.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            events = []
        if len(events) == len(raws) and not _may_be_deep(body, raws, events):
            return events
    return [decode_one(form, raw) for raw in raws]


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
    if opened <= 2 * len(raws) and None not in map(_data_of, events):
        return False
    return any(raw.count(b"{") + raw.count(b"[") > DEPTH_MAX for raw in raws)


class _Work:
    """One part on its way into columns."""

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
        self.judged: dict[int, Checked | Verdict] = {}
        self.refused: dict[int, Verdict] = {}
        self.account: list[str] = [""] * n
        self.source: list[str] = [""] * n
        self.id: list[str] = [""] * n
        self.time = np.full(n, now, np.int64)
        self.timed = np.zeros(n, np.bool_)
        self.label_sets: list[LabelSet] = []
        self.postings: list[Postings] = []
        self.changes: dict[int, Change] = {}
        self.once: dict[int, Mapping[str, str]] = {}
        self.doomed: dict[int, Doomed] = {}

    def validate(self, at: int) -> Checked | Verdict:
        precedence.give_way()
        return validate(
            self.raws[at],
            plain=self.plain,
            caller=self.caller,
            catalog=self.catalog,
            settings=self.settings,
            now=self.now,
        )

    def one_by_one(self, rows: Iterable[int]) -> None:
        """Judge events by themselves."""
        postings: list[tuple[int, int, int]] = []
        for at in rows:
            judged = self.judged.get(at) or self.validate(at)
            if isinstance(judged, Verdict):
                self._refuse(at, judged)
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
                postings.append((at, len(self.label_sets), posting.amount))
                self.label_sets.append(self.sets.of(event.account, posting))
        if postings:
            at, sets, amounts = np.array(postings, np.int64).T
            self.postings.append((at, sets, amounts))

    def _refuse(self, at: int, verdict: Verdict) -> None:
        checked = but_for_meters(
            self.raws[at],
            plain=self.plain,
            caller=self.caller,
            catalog=self.catalog,
            settings=self.settings,
            now=self.now,
        )
        if checked is None:
            self.refused[at] = verdict
            return
        event = checked.event
        self.doomed[at] = Doomed(verdict, bool(checked.postings or checked.change))
        self.account[at], self.source[at], self.id[at] = event.account, event.source, event.id
        self.time[at], self.timed[at] = event.time, event.timed

    def by_shape(self, plan: Plan) -> None:
        """Judge events by their shapes, and by themselves where something is not plain."""
        read = _Columns(plan.form.quantity_of)
        slow: set[int] = set()
        sizes = np.fromiter(sizes_of(self.raws), np.int64, len(self.raws))
        slow.update(np.flatnonzero(sizes > self.settings.event_bytes_max).tolist())
        for start, end in _pieces(sizes, PIECE_BYTES):
            precedence.give_way()
            self._read(plan, start, list(self.raws[start:end]), read, slow)
        self.source, self.id = read.source, read.id
        self.account = [shape.account if shape is not None else "" for shape in read.shapes]
        precedence.give_way()
        self._times(read.timed, read.times, slow)
        precedence.give_way()
        self._amounts(plan, read, slow)
        precedence.give_way()
        if slow:
            self.one_by_one(sorted(slow))

    def _read(self, plan: Plan, start: int, raws: Sequence[bytes], read: _Columns, slow: set[int]) -> None:
        """Decode a piece and find the shapes of its events."""
        rows = range(start, start + len(raws))
        known = _recognised(plan, raws) if plan.stencils.pays() else None
        if known is None:
            varying, shapes = self._by_texts(plan, rows, raws, slow)
        else:
            varying, shapes = known.varying, known.shapes
            odd = [place for place, shape in enumerate(shapes) if shape is None]
            if odd:
                _, learned = self._by_texts(plan, [rows[p] for p in odd], [raws[p] for p in odd], slow)
                for place, shape in zip(odd, learned, strict=True):
                    if shape is not None:
                        shapes[place] = shape
                        plan.stencils.learn(known.stencils[place], shape)
        most = self.settings.text_length_max
        for names in (varying.id, varying.source):
            if not all(names) or max(map(len, names)) > most:
                slow.update(at for at, name in enumerate(names, start) if not 1 <= len(name) <= most)
        read.add(varying, shapes)

    def _by_texts(
        self, plan: Plan, rows: Sequence[int], raws: Sequence[bytes], slow: set[int]
    ) -> tuple[_Varying, list[Shape | None]]:
        """Decode events whole and find their shapes by their texts; what is seen for the first time is judged."""
        events = _decode(plan.form, raws)
        if None in events or None in map(_data_of, events):
            blank = plan.form.decode_one(BLANK)
            unread = [place for place, event in enumerate(events) if event is None or event.data is None]
            slow.update(rows[place] for place in unread)
            for place in unread:
                events[place] = blank
        id, source, type, version, time, subject, *others, data = zip(*map(astuple, events), strict=True)
        if any(subject):
            most = self.settings.text_length_max
            subject = tuple(
                subject_in_shape(each, account, most) for each, account in zip(subject, others[0], strict=True)
            )
        around = (type, version, subject, *others)
        # No tuple outlives its look-up: many at a time would keep the garbage collector busy.
        shapes = plan.shapes(zip(*around, strict=True), plan.form.texts(data))
        if None in shapes:
            for place, (head, texts) in enumerate(zip(zip(*around, strict=True), plan.form.texts(data), strict=True)):
                if shapes[place] is None and rows[place] not in slow:
                    shapes[place] = self.learn(plan, head, texts, rows[place])
                    if shapes[place] is None:
                        slow.add(rows[place])
        return _Varying(id, source, time, data), shapes

    def learn(self, plan: Plan, head: Texts, texts: Texts, at: int) -> Shape | None:
        """Judge an event whose shape is seen for the first time, and remember that; None where it has no shape."""
        if not plan.may_learn(head):
            return None
        (known,) = plan.shapes([head], [texts])
        if known is not None:
            return known
        precedence.give_way()
        if self.caller.account is None and ACCOUNT_NAME.fullmatch(head[ACCOUNT] or ""):
            alike = plan.learn_alike(head, texts)
            if alike is not None:
                return alike
        judged = self.judged[at] = self.validate(at)
        if isinstance(judged, Verdict):
            return None
        return plan.learn(head, texts, judged.event.account, judged.postings)

    def _times(self, timed: NDArray[np.bool_], texts: columns.Texts, slow: set[int]) -> None:
        self.timed = timed
        time, plain = columns.times(texts)
        plain &= time <= self.now + self.settings.time_ahead_s_max * SECOND
        if not (plain | ~timed).all():
            slow.update(np.flatnonzero(timed & ~plain).tolist())
        self.time = np.where(timed, time, self.now)

    def _amounts(self, plan: Plan, read: _Columns, slow: set[int]) -> None:
        """Make postings of the quantities that the shapes count; rows whose amounts are not exact become slow."""
        fast = [at for at in range(len(self.raws)) if at not in slow] if slow else None
        if fast == []:
            return
        met, rows, feed = _fed([read.shapes[at] for at in fast] if fast else read.shapes)
        if fast:
            rows = np.array(fast, np.int64)[rows]
        fed = [way for shape in met for way in shape.ways]
        amounts = np.zeros(len(rows), np.int64)
        exact = np.ones(len(rows), np.bool_)
        ways = np.array(fed, np.int64)[feed] if fed else feed
        for number in set(fed):
            precedence.give_way()
            chosen = np.flatnonzero(ways == number)
            way = plan.ways[number]
            numbers = read.numbers(way.member).take(rows[chosen]) if way.member is not None else None
            amounts[chosen], exact[chosen] = way.amounts(numbers, self.time[rows[chosen]])
        if not exact.all():
            inexact = np.unique(rows[~exact])
            slow.update(inexact.tolist())
            kept = ~np.isin(rows, inexact)
            rows, feed, amounts = rows[kept], feed[kept], amounts[kept]
        self.label_sets = [label_set for shape in met for label_set in shape.label_sets]
        self.postings.append((rows, feed, amounts))

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
            self.doomed = {int(place[i]): doomed for i, doomed in self.doomed.items()}
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
            self.doomed,
        )
        return Prepared(batch, index, self.refused)


class _Columns:
    """What was read of a part's events, in their order; texts that are read as numbers are packed at once."""

    def __init__(self, quantity_of: Mapping[str, Callable[[Any], Any]]) -> None:
        self.id: list[str] = []
        self.source: list[str] = []
        self.shapes: list[Shape | None] = []
        self._quantity_of = quantity_of
        self._timed: list[NDArray[np.bool_]] = []
        self._times: list[columns.Texts] = []
        self._texts: dict[str, list[columns.Texts]] = {}
        self._numbers: dict[str, columns.Numbers] = {}

    def add(self, piece: _Varying, shapes: Sequence[Shape | None]) -> None:
        """Add a piece's events, with the quantities that their shapes count."""
        counted = frozenset().union(*(shape.members for shape in set(shapes) if shape is not None))
        for member in counted - self._texts.keys():
            self._texts[member] = [columns.Texts.empty(len(self.id), columns.NUMBER_WIDTH)]
        for member, parts in self._texts.items():
            if member in counted:
                texts = list(map(bytes, map(self._quantity_of[member], piece.data)))
                parts.append(columns.Texts.of(texts, columns.NUMBER_WIDTH))
            else:
                parts.append(columns.Texts.empty(len(piece.id), columns.NUMBER_WIDTH))
        self._timed.append(np.fromiter((text is not None for text in piece.time), np.bool_, len(piece.time)))
        self._times.append(columns.Texts.of([text or "" for text in piece.time], columns.TIME_WIDTH))
        self.id += piece.id
        self.source += piece.source
        self.shapes += shapes

    @property
    def timed(self) -> NDArray[np.bool_]:
        """Say which events have a time."""
        return np.concatenate(self._timed)

    @property
    def times(self) -> columns.Texts:
        """Return the times of all events, without letters where there is none."""
        return columns.Texts.join(self._times)

    def numbers(self, member: str) -> columns.Numbers:
        """Return the numbers that a member of data has in each event; not plain where it is not counted."""
        if member not in self._numbers:
            self._numbers[member] = columns.numbers(columns.Texts.join(self._texts[member]))
        return self._numbers[member]


def _pieces(sizes: Ints, size: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of runs of events that have about `size` bytes together, each with at least one."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + size, side="right")))
        yield start, end
        start = end


def _fed(shapes: Sequence[Shape | None]) -> tuple[Sequence[Shape], Ints, Ints]:
    """Return the shapes that occur; and of each posting its event, ascending, and its place among all of theirs."""
    met = [shape for shape in dict.fromkeys(shapes) if shape is not None]
    place = {shape: at for at, shape in enumerate(met)}
    shape_of = np.fromiter(map(place.__getitem__, shapes), np.int64, len(shapes))  # type: ignore[arg-type]  # none is None
    counts = np.fromiter((len(shape.ways) for shape in met), np.int64, len(met))
    first = (np.cumsum(counts) - counts)[shape_of]
    if counts.min() == counts.max() == 1:
        return met, np.arange(len(shapes)), first
    counts = counts[shape_of]
    event = np.repeat(np.arange(len(shapes)), counts)
    return met, event, np.arange(len(event)) + np.repeat(first - (np.cumsum(counts) - counts), counts)


def prepare(
    raws: Sequence[bytes], *, plain: bool = False, caller: Caller, catalog: Catalog, settings: Settings, now: int
) -> Prepared:
    """Prepare one part with nothing remembered from others."""
    return Preparer(settings).prepare(raws, plain=plain, caller=caller, catalog=catalog, now=now)
