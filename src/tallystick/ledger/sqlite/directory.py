"""Kept events listed from the log: headers say where to look, and only frames that can match are opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import apsw
import msgspec
import numpy as np

from tallystick.envelope import DELETED, UPSERTED, space_of
from tallystick.ledger.packed import segment
from tallystick.ledger.packed.listed import envelope_of, postings_of
from tallystick.ledger.packed.meter_entries import CorrectionHeader
from tallystick.ledger.packed.segment import (
    GENESIS,
    Columns,
    Damaged,
    Header,
    columns_digest,
    decoded,
    frame_digest,
    unpack_columns,
    unpack_events,
)
from tallystick.ledger.packed.selecting import counts
from tallystick.ledger.packed.series import SeriesIndex
from tallystick.ledger.sqlite.file import CORRECTED, EVENTS, row, rows
from tallystick.ledger.sqlite.replaying import SLICE_EVENTS
from tallystick.ledger.sqlite.scrub import refuse_damaged
from tallystick.ledger.sqlite.tail import Published, Tail
from tallystick.model import AsOf, EventPage, EventQuery, EventRow, Posting
from tallystick.rollup import Ints
from tallystick.windows import INSTANT_MAX, INSTANT_MIN

SEGMENTS_PASSED_MAX = 50_000
SEGMENTS_READ_MAX = 2_000
EVENTS_READ_MAX = 5_000
BYTES_READ_MAX = 4 * 1024 * 1024
"""What one call may do: some tens of milliseconds of a reader, whose read transaction must not grow old."""
FRAMES_READ_TOGETHER = 16

_header = msgspec.msgpack.Decoder(Header)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of the log, its columns not read yet."""

    entry: int
    header: Header

    @property
    def last(self) -> int:
        return self.header.first + self.header.count - 1


@dataclass(slots=True)
class Allowance:
    """How much more one call may do."""

    events: int
    bytes: int

    @property
    def spent(self) -> bool:
        return self.events <= 0 or self.bytes <= 0


def events(db: apsw.Connection, now: Tail, damaged: frozenset[int], query: EventQuery) -> EventPage:
    """Answer from one short read transaction. Raises Damaged if the query reads an account of `damaged`."""
    state = now.published
    known = state.catalog.accounts.values()
    names = {a.number: a.name for a in known if query.accounts is None or a.name in query.accounts}
    refuse_damaged(damaged, names)
    through = state.sequence if query.through is None else min(query.through, state.sequence)
    as_of = AsOf(state.sequence, state.recorded)
    if not names or query.after >= through:
        return EventPage((), as_of, None)
    walk = _Walk(db, now.series, names, replace(query, through=through), through)
    with db:
        walk.go()
        found = fed(db, state, now.series, walk.found)
    return EventPage(found, as_of, walk.following())


def fed(db: apsw.Connection, state: Published, index: SeriesIndex, found: Sequence[EventRow]) -> Sequence[EventRow]:
    """Show events with what the meters in force count of them: what came with them, and what replays counted since.

    `state` was published before the read transaction began: of a later one the file may lack what it counted.
    """
    meters = state.catalog.meters
    again = _replayed(db, state, index, found) if found else {}
    shown = []
    for each in found:
        postings = [*each.postings, *again.get(each.sequence, ())]
        in_force = (p for p in postings if p.meter in meters and counts(meters[p.meter], p.meter_version))
        shown.append(replace(each, postings=tuple(sorted(in_force, key=lambda p: (p.meter, p.labels)))))
    return shown


def _replayed(
    db: apsw.Connection, state: Published, index: SeriesIndex, found: Sequence[EventRow]
) -> Mapping[int, Sequence[Posting]]:
    """Return the postings that replays gave to events, by sequence."""
    epochs = {meter.epoch for meter in state.catalog.meters.values()}
    wanted = np.array(sorted(each.sequence for each in found), np.int64)
    again: dict[int, list[Posting]] = {}
    statement = f"""SELECT header, columns FROM log WHERE kind = {CORRECTED} AND entry <= ?
        AND first > ? AND first <= ?"""
    bounds = (state.entry, int(wanted[0]) - SLICE_EVENTS, int(wanted[-1]))
    for packed, body in rows(db, statement, bounds):
        header = msgspec.msgpack.decode(packed, type=CorrectionHeader)
        if header.epoch in epochs:
            if columns_digest(body) != header.columns:
                raise Damaged(f"log entry {header.entry} is not what was written")
            columns, sequences = unpack_columns(body), header.events()
            for event in np.flatnonzero(np.isin(sequences, wanted)).tolist():
                postings = postings_of(columns, event, index)
                again.setdefault(int(sequences[event]), []).extend(postings)
    return again


class _Walk:
    """One call's way through the log, from one end of its sequences until there is enough, or enough was done.

    `reached` is the sequence up to which, in its direction, everything was looked at.
    """

    def __init__(
        self, db: apsw.Connection, index: SeriesIndex, names: Mapping[int, str], query: EventQuery, through: int
    ) -> None:
        self.found: list[EventRow] = []
        self._db = db
        self._index = index
        self._names = names
        self._query = query
        self._through = through
        self._forward = query.oldest_first
        self._start = INSTANT_MIN if query.start is None else query.start
        self._end = INSTANT_MAX if query.end is None else query.end
        self._reached = query.after if self._forward else through + 1
        self._allowance = Allowance(EVENTS_READ_MAX, BYTES_READ_MAX)

    def following(self) -> EventQuery | None:
        """Return the query for what was not looked at; None if there is nothing."""
        after, through = (self._reached, self._through) if self._forward else (self._query.after, self._reached - 1)
        return replace(self._query, after=after, through=through) if after < through else None

    def go(self) -> None:
        low, high = self._window()
        segments = 0
        for each in self._segments(low, high):
            segments += 1
            if not self._names.keys().isdisjoint(each.header.accounts) and not self._look_into(each, low, high):
                return
            self._reached = min(each.last, high) if self._forward else max(each.header.first, low)
            if self._is_over():
                return
        if segments < SEGMENTS_READ_MAX:
            self._reached = high if self._forward else low

    def _is_over(self) -> bool:
        return len(self.found) >= self._query.limit or self._allowance.spent

    def _window(self) -> tuple[int, int]:
        """Return the first and the last sequence of as many segments as one call may pass by."""
        first = self._query.after + 1
        among = f"SELECT first FROM log INDEXED BY log_first WHERE kind = {EVENTS} AND first"
        if self._forward:
            some = f"{among} > ? AND first <= ? ORDER BY first LIMIT {SEGMENTS_PASSED_MAX}"
            last, count = row(self._db, f"SELECT max(first), count(*) FROM ({some})", (first, self._through))
            return first, last - 1 if count == SEGMENTS_PASSED_MAX else self._through
        some = f"{among} <= ? ORDER BY first DESC LIMIT {SEGMENTS_PASSED_MAX}"
        return max(row(self._db, f"SELECT min(first) FROM ({some})", (self._through,))[0], first), self._through

    def _segments(self, low: int, high: int) -> Iterator[Segment]:
        """Yield the segments with events between two sequences whose times may be those asked for."""
        statement = f"""SELECT entry, first, count, header, link, (SELECT link FROM log b WHERE b.entry = log.entry - 1)
            FROM log INDEXED BY log_first WHERE kind = {EVENTS}
            AND first >= (SELECT max(first) FROM log WHERE kind = {EVENTS} AND first <= ?) AND first <= ?
            AND time_min < ? AND time_max >= ?
            ORDER BY first {"ASC" if self._forward else "DESC"} LIMIT {SEGMENTS_READ_MAX}"""
        for entry, first, count, packed, link, before in rows(self._db, statement, (low, high, self._end, self._start)):
            self._allowance.bytes -= len(packed)
            if segment.link(before or GENESIS, packed) != link:
                raise Damaged(f"the header of events {first} and on is not what was written")
            yield Segment(entry, _header_of(first, count, packed))

    def _look_into(self, found: Segment, low: int, high: int) -> bool:
        """Take what matches from a segment; false if it was left before its end."""
        columns = self._columns(found)
        sequences = np.arange(found.header.first, found.last + 1)
        times = columns.time
        inside = (sequences >= low) & (sequences <= high) & (times >= self._start) & (times < self._end)
        for sequence, account, raw in self._opened(found.header, sequences[inside]):
            self._allowance.events -= 1
            self._allowance.bytes -= len(raw)
            self._reached = sequence
            if account in self._names:
                self._take(sequence, account, raw, found.header, columns)
            if self._is_over():
                return False
        return True

    def _columns(self, found: Segment) -> Columns:
        (packed,) = row(self._db, "SELECT columns FROM log WHERE entry = ?", (found.entry,))
        self._allowance.bytes -= len(packed)
        if columns_digest(packed) != found.header.columns:
            raise Damaged(f"the postings of events {found.header.first} and on are not what was written")
        return unpack_columns(packed)

    def _opened(self, header: Header, wanted: Ints) -> Iterator[tuple[int, int, bytes]]:
        """Yield (sequence, account, event) of the wanted sequences from their frames, some frames at a time."""
        digests = dict(header.frames)
        firsts = np.array([*digests, header.first + header.count], np.int64)
        starts = np.searchsorted(wanted, firsts)
        frames = np.flatnonzero(np.diff(starts))[:: 1 if self._forward else -1]
        for at in range(0, len(frames), FRAMES_READ_TOGETHER):
            some = frames[at : at + FRAMES_READ_TOGETHER]
            bodies = self._bodies(firsts[some])
            for number in some.tolist():
                first, sequences = int(firsts[number]), wanted[starts[number] : starts[number + 1]].tolist()
                events = _events(first, bodies.get(first), digests[first], sequences)
                yield from events if self._forward else reversed(events)

    def _bodies(self, firsts: Ints) -> Mapping[int, bytes]:
        statement = "SELECT first, body FROM frame WHERE first IN carray(?)"
        return dict(rows(self._db, statement, (apsw.carray(np.ascontiguousarray(firsts)),)))

    def _take(self, sequence: int, number: int, raw: bytes, header: Header, columns: Columns) -> None:
        """Add an event to those found, if it is one that was asked for."""
        account, query = self._names[number], self._query
        envelope = envelope_of(sequence, raw)
        space = space_of(envelope, account)
        asked = (query.type, query.id, query.subject, query.space)
        said = (envelope["type"], envelope["id"], envelope.get("subject"), space)
        if all(value in (None, has) for value, has in zip(asked, said, strict=True)):
            event = sequence - header.first
            postings = postings_of(columns, event, self._index)
            metered = bool(postings) or envelope["type"] in (UPSERTED, DELETED)
            time = int(columns.time[event])
            self.found.append(EventRow(sequence, header.recorded, account, space, time, raw, metered, postings))


def _header_of(first: int, count: int, packed: bytes) -> Header:
    header = decoded(_header, packed, f"the header of events {first} and on")
    if (header.first, header.count) != (first, count):
        raise Damaged(f"the header of events {first} and on is that of others")
    return header


def _events(first: int, body: bytes | None, digest: bytes, sequences: Sequence[int]) -> list[tuple[int, int, bytes]]:
    if body is None or frame_digest(body) != digest:
        raise Damaged(f"the frame of event {first} is not what was written")
    events = unpack_events(body, [sequence - first for sequence in sequences])
    return list(zip(sequences, events.accounts, events.raws, strict=True))
