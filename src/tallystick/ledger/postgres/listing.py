"""Kept events listed from the logs of accounts: headers say where to look, and only what can match is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from tallystick.envelope import DELETED, UPSERTED, space_of
from tallystick.ledger.packed import segment
from tallystick.ledger.packed.listed import envelope_of, postings_of
from tallystick.ledger.packed.segment import (
    GENESIS,
    Columns,
    Damaged,
    columns_digest,
    frame_digest,
    unpack_columns,
    unpack_events,
)
from tallystick.ledger.packed.selecting import counts
from tallystick.ledger.postgres import locks, reading, shards
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import CORRECTED, EVENTS, EntryHeader, read_header, read_recount
from tallystick.ledger.postgres.reading import View
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.model import EventPage, EventQuery, EventRow, Posting
from tallystick.rollup import Ints
from tallystick.windows import INSTANT_MAX, INSTANT_MIN

ENTRIES_READ_MAX = 2_000
ENTRIES_READ_TOGETHER = 250
EVENTS_READ_MAX = 5_000
EVENTS_READ_TOGETHER = 500
BYTES_READ_MAX = 4 * 1024 * 1024
"""What one call may do: some tens of milliseconds of a reader."""
LOCK_WAIT = "5s"


@dataclass(frozen=True, slots=True)
class Segment:
    """An entry of events, its times and postings, and which of its events lie where they were asked for."""

    header: EntryHeader
    columns: Columns
    at: Ints
    sequence: Ints


def events(
    db: Db, log: CatalogLog, cache: SeriesCache, query: EventQuery, last_settled: Callable[[Db], int]
) -> EventPage:
    """Answer from one snapshot; `last_settled` says up to which sequence nothing is still to appear."""
    settled = None if query.through is not None or _is_of_one(query) else last_settled(db)
    with reading.snapshot(db):
        now = reading.view(db, log, cache, query.accounts)
        known = now.catalog.accounts.values()
        names = {a.number: a.name for a in known if query.accounts is None or a.name in query.accounts}
        which, named = shards.among([*names])
        statement = f"SELECT coalesce(max(sequence), 0) FROM head WHERE account {which}"
        (last,) = db.execute(statement, (named,)).fetchall()[0]
        last = last if settled is None else min(last, settled)
        through = last if query.through is None else min(query.through, last)
        if not names or query.after >= through:
            return EventPage((), now.as_of, None)
        walk = _Walk(db, now, names, replace(query, through=through), through)
        walk.go()
        return EventPage(fed(db, now, walk.found), now.as_of, walk.following())


def _is_of_one(query: EventQuery) -> bool:
    """Say whether all that is asked for is of one log, in which what has a lower sequence was there before."""
    return query.accounts is not None and len(query.accounts) <= 1


def last_settled(db: Db) -> int:
    """Return a sequence up to which no event is still to appear, of no account; waits for who is about to commit."""
    with db.transaction():
        db.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        locks.hold(db, locks.GIVING)
        (last,) = db.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_sequence").fetchall()[0]
    return int(last)


def fed(db: Db, now: View, found: Sequence[EventRow]) -> Sequence[EventRow]:
    """Show events with what the meters in force count of them: what came with them, and what replays counted since."""
    meters = now.catalog.meters
    again = _replayed(db, now, found) if found else {}
    shown = []
    for each in found:
        postings = [*each.postings, *again.get(each.sequence, ())]
        in_force = (p for p in postings if p.meter in meters and counts(meters[p.meter], p.meter_version))
        shown.append(replace(each, postings=tuple(sorted(in_force, key=lambda p: (p.meter, p.labels)))))
    return shown


def _replayed(db: Db, now: View, found: Sequence[EventRow]) -> Mapping[int, Sequence[Posting]]:
    """Return the postings that replays gave to events, by sequence."""
    epochs = {meter.epoch for meter in now.catalog.meters.values()}
    wanted = np.array(sorted(each.sequence for each in found), np.int64)
    accounts = sorted({now.catalog.accounts[each.account].number for each in found})
    again: dict[int, list[Posting]] = {}
    which, named = shards.among(accounts)
    statement = f"""SELECT e.header, p.body FROM entry e JOIN posting p USING (account, number)
        WHERE e.account {which} AND e.kind = {CORRECTED} AND e.last >= %s AND e.first <= %s"""
    for packed, body in db.execute(statement, (named, int(wanted[0]), int(wanted[-1]))).fetchall():
        header = read_recount(packed)
        if header.epoch in epochs:
            if columns_digest(body) != header.columns:
                raise Damaged(f"entry {header.position} of account {header.account} is not what was written")
            columns, sequences = unpack_columns(body), header.events()
            for event in np.flatnonzero(np.isin(sequences, wanted)).tolist():
                postings = postings_of(columns, event, now.series)
                again.setdefault(int(sequences[event]), []).extend(postings)
    return again


class _Walk:
    """One call's way through the logs, from one end of their sequences until there is enough, or enough was done.

    `reached` is the sequence up to which, in its direction, everything was looked at.
    """

    def __init__(self, db: Db, now: View, names: Mapping[int, str], query: EventQuery, through: int) -> None:
        self.found: list[EventRow] = []
        self._db = db
        self._now = now
        self._names = names
        self._query = query
        self._low, self._high = query.after + 1, through
        self._forward = query.oldest_first
        self._start = INSTANT_MIN if query.start is None else query.start
        self._end = INSTANT_MAX if query.end is None else query.end
        self._reached = query.after if self._forward else through + 1
        self._events_left, self._bytes_left = EVENTS_READ_MAX, BYTES_READ_MAX

    def following(self) -> EventQuery | None:
        """Return the query for what was not looked at; None if there is nothing."""
        after, through = (self._reached, self._high) if self._forward else (self._query.after, self._reached - 1)
        return replace(self._query, after=after, through=through) if after < through else None

    def go(self) -> None:
        """Take transaction after transaction: the sequences of two of them never lie between each other's."""
        for headers in self._transactions():
            for some in self._chunks([each for header in headers for each in self._inside(header)]):
                for sequence, header, account, raw, columns, at in some:
                    self._events_left -= 1
                    self._bytes_left -= len(raw)
                    self._reached = sequence
                    self._take(sequence, header, account, raw, columns, at)
                    if self._is_over():
                        return
            last = max(int(header.sequence()[-1]) for header in headers)
            self._reached = min(last, self._high) if self._forward else max(min(h.first for h in headers), self._low)
            if self._is_over():
                return

    def _is_over(self) -> bool:
        return len(self.found) >= self._query.limit or self._events_left <= 0 or self._bytes_left <= 0

    def _transactions(self) -> Iterator[list[EntryHeader]]:
        """Yield the headers of what each transaction wrote, as far as it may match; at the end all is looked at."""
        read = 0
        while True:
            found = self._entries()
            groups = [list(some) for _, some in groupby(found, key=lambda header: header.number)]
            if len(found) < ENTRIES_READ_TOGETHER:
                yield from groups
                self._reached = self._high if self._forward else self._low
                return
            # The last one may go on behind what was read.
            whole = groups[:-1] if len(groups) > 1 else [self._entries_of(groups[0][0].number)]
            read += sum(map(len, whole))
            yield from whole
            if read >= ENTRIES_READ_MAX:
                return

    def _entries(self) -> list[EntryHeader]:
        order, bound = ("e.last", "e.last > %s") if self._forward else ("e.first DESC", "e.first < %s")
        within = "e.first <= %s" if self._forward else "e.last >= %s"
        edge = self._high if self._forward else self._low
        which, named = shards.among([*self._names])
        statement = f"""{ENTRY} WHERE e.account {which} AND e.kind = {EVENTS} AND {bound} AND {within}
            AND e.time_min < %s AND e.time_max >= %s ORDER BY {order} LIMIT {ENTRIES_READ_TOGETHER}"""
        bounds = (named, self._reached, edge, self._end, self._start)
        return [self._checked(*row) for row in self._db.execute(statement, bounds)]

    def _entries_of(self, number: int) -> list[EntryHeader]:
        which, named = shards.among([*self._names])
        statement = f"{ENTRY} WHERE e.account {which} AND e.number = %s AND e.kind = {EVENTS}"
        return [self._checked(*row) for row in self._db.execute(statement, (named, number))]

    def _checked(self, account: int, position: int, packed: bytes, link: bytes, before: bytes | None) -> EntryHeader:
        self._bytes_left -= len(packed)
        if segment.link(before or GENESIS, packed) != link:
            raise Damaged(f"the header of entry {position} of account {account} is not what was written")
        return read_header(packed)

    def _inside(self, header: EntryHeader) -> Iterator[Segment]:
        """Yield an entry with its events that lie between the bounds, if there are any."""
        statement = "SELECT body FROM posting WHERE account = %s AND number = %s"
        for (body,) in self._db.execute(statement, (header.account, header.number)).fetchall():
            if columns_digest(body) != header.columns:
                raise Damaged(f"the postings of entry {header.position} of account {header.account} are damaged")
            columns, sequence = unpack_columns(body), header.sequence()
            self._bytes_left -= len(body)
            inside = (sequence >= self._low) & (sequence <= self._high)
            inside &= (columns.time >= self._start) & (columns.time < self._end)
            at = np.flatnonzero(inside)
            yield Segment(header, columns, at, sequence[at])

    def _chunks(self, segments: Sequence[Segment]) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the events of entries in the order asked for, some at a time."""
        if not segments:
            return
        sequence = np.concatenate([each.sequence for each in segments])
        owner = np.repeat(np.arange(len(segments)), [len(each.at) for each in segments])
        at = np.concatenate([each.at for each in segments])
        order = np.argsort(sequence, kind="stable")[:: 1 if self._forward else -1]
        for start in range(0, len(order), EVENTS_READ_TOGETHER):
            some = order[start : start + EVENTS_READ_TOGETHER]
            raws: dict[tuple[int, int], bytes] = {}
            for number in np.unique(owner[some]).tolist():
                wanted = np.sort(at[some][owner[some] == number]).tolist()
                raws.update(((number, place), raw) for place, raw in self._opened(segments[number].header, wanted))
            yield [
                (
                    int(sequence[one]),
                    segments[owner[one]].header,
                    segments[owner[one]].header.account,
                    raws[int(owner[one]), int(at[one])],
                    segments[owner[one]].columns,
                    int(at[one]),
                )
                for one in some.tolist()
            ]

    def _opened(self, header: EntryHeader, wanted: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield events of an entry from their frames, of which each is checked."""
        digests = dict(header.frames)
        firsts = np.array([*digests, header.count], np.int64)
        needed = np.unique(firsts[np.searchsorted(firsts, wanted, side="right") - 1])
        statement = "SELECT place, body FROM frame WHERE account = %s AND number = %s AND place = ANY(%s)"
        bodies: dict[int, bytes] = dict(
            self._db.execute(statement, (header.account, header.number, needed.tolist())).fetchall()
        )
        for place in needed.tolist():
            if place not in bodies or frame_digest(bodies[place]) != digests[place]:
                raise Damaged(f"a frame of entry {header.position} of account {header.account} is not what was written")
            end = int(firsts[np.searchsorted(firsts, place, side="right")])
            here = [at for at in wanted if place <= at < end]
            yield from zip(here, unpack_events(bodies[place], [at - place for at in here]).raws, strict=True)

    def _take(self, sequence: int, header: EntryHeader, number: int, raw: bytes, columns: Columns, at: int) -> None:
        """Add an event to those found, if it is one that was asked for."""
        account, query = self._names[number], self._query
        envelope = envelope_of(sequence, raw)
        space = space_of(envelope, account)
        asked = (query.type, query.id, query.subject, query.space)
        said = (envelope["type"], envelope["id"], envelope.get("subject"), space)
        if all(value in (None, has) for value, has in zip(asked, said, strict=True)):
            postings = postings_of(columns, at, self._now.series)
            metered = bool(postings) or envelope["type"] in (UPSERTED, DELETED)
            time = int(columns.time[at])
            self.found.append(EventRow(sequence, header.recorded, account, space, time, raw, metered, postings))


ENTRY = """SELECT e.account, e.position, e.header, e.link, b.link FROM entry e
    LEFT JOIN entry b ON b.account = e.account AND b.position = e.position - 1"""
