"""Kept events counted by meters that are not in force yet: slice by slice in the order of the log, then all at once.

What a slice gives is an entry of the log like any other, so a replay goes on after a restart where it stood. The last
slice puts the meters in force in the transaction that finds no event left: not one is missed, none counts twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import apsw
import msgspec
import numpy as np
import structlog
from msgspec import structs

from tallystick.envelope import UPSERTED, event_of, read
from tallystick.errors import Problem
from tallystick.ledger.packed import segment
from tallystick.ledger.packed.living import Counted, Living, Named, named
from tallystick.ledger.packed.meter_entries import CorrectionHeader, ReplayDone
from tallystick.ledger.packed.segment import Columns, Damaged, unpack_columns, unpack_events
from tallystick.ledger.sqlite import resource_tables, series_table
from tallystick.ledger.sqlite.changes import logged
from tallystick.ledger.sqlite.file import CORRECTED, EVENTS, row, rows
from tallystick.ledger.sqlite.tail import Tail, quarter_cells
from tallystick.ledger.sqlite.writer import Lane, Task, Writer
from tallystick.metering import metered
from tallystick.model import Catalog, Change, LabelSet, Posting, Replay, Verdict
from tallystick.resources import change_of

log = structlog.get_logger(__name__)

SLICE_EVENTS = 4_000
LOOK_EVERY_S = 0.05
TEXT_LENGTH_ANY = 1 << 20
"""Longer than any text of a kept event, whatever the bound was that it passed; a number's exponent may be longer."""


class _Type(msgspec.Struct):
    type: str


_types = msgspec.json.Decoder(list[_Type])


@dataclass(frozen=True, slots=True)
class Again:
    """A kept event as a replay counts it: its place in the log, its time, and what it gives."""

    sequence: int
    account: int
    time: int
    postings: Sequence[Posting]
    change: Change | None


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Kept events: their sequences, accounts by number, times and bytes."""

    sequences: Sequence[int]
    accounts: Sequence[int]
    times: Sequence[int]
    raws: Sequence[bytes]


def counted(kept: KeptRows, replay: Replay, catalog: Catalog, names: Mapping[int, str]) -> Iterator[Again]:
    """Yield what the meters of a replay make of kept events, before what they counted once is looked at.

    An event that one of them would refuse counts nothing for it: it was taken when it came.
    """
    types = frozenset().union(*(each.events for each in replay.meters))
    rates = dict([replay.rates]) if replay.rates else {}
    meters = {each.name: each for each in replay.meters}
    replaying = replace(catalog, meters=meters, rates={**catalog.rates, **rates})
    said = _types.decode(b"[" + b",".join(kept.raws) + b"]")
    for at, (account, time, raw) in enumerate(zip(kept.accounts, kept.times, kept.raws, strict=True)):
        if time < replay.start or said[at].type not in types:
            continue
        event = event_of(read(raw), names[account], time)
        postings = metered(event, replaying, text_length_max=TEXT_LENGTH_ANY)
        if postings:
            change = change_of(event, text_length_max=TEXT_LENGTH_ANY) if event.type == UPSERTED else None
            yield Again(kept.sequences[at], account, time, postings, None if isinstance(change, Verdict) else change)


def once_of(again: Sequence[Again], catalog: Catalog) -> tuple[list[Named], list[Counted]]:
    """Return which resources, and what was counted of them, has to be known."""
    keys = [
        Counted(posting.meter, catalog.meters[posting.meter].epoch, named(each.account, each.change))
        for each in again
        if each.change is not None
        for posting in each.postings
        if posting.once is not None
    ]
    return [key.resource for key in keys], keys


def sift(again: Sequence[Again], living: Living, catalog: Catalog) -> list[Again]:
    """Drop the postings of what was counted before, in order; `catalog` has the meters of the replay."""
    kept = []
    for each in again:
        postings = each.postings
        if each.change is not None:
            once = {posting.meter: posting.once for posting in postings if posting.once is not None}
            dropped = living.again(each.account, each.change, once, catalog)
            rest = {name: value for name, value in once.items() if name not in dropped}
            living.count(each.account, each.change, rest, catalog, is_replay=True)
            postings = [posting for posting in postings if posting.meter not in dropped]
        if postings:
            kept.append(replace(each, postings=postings))
    return kept


def kept_rows(db: apsw.Connection, first: int, through: int) -> Iterator[KeptRows]:
    """Yield the events first … through, a segment's at a time."""
    statement = f"""SELECT first, count, columns FROM log WHERE kind = {EVENTS} AND first <= ?2
        AND first + count > ?1 ORDER BY first"""
    for start, count, body in rows(db, statement, (first, through)):
        times = unpack_columns(body).time.tolist()
        frames = "SELECT first, body FROM frame WHERE first >= ? AND first < ? ORDER BY first"
        for at, frame in rows(db, frames, (start, start + count)):
            events = unpack_events(frame, None)
            low, high = max(first - at, 0), min(through - at + 1, len(events.raws))
            if low < high:
                some = slice(low, high)
                here = times[at - start : at - start + len(events.raws)]
                yield KeptRows(range(at + low, at + high), events.accounts[some], here[some], events.raws[some])


class Replayer(threading.Thread):
    """Counts kept events for the replays of the catalog, one slice after the other, beside the work."""

    def __init__(
        self,
        *,
        connect: Callable[[], apsw.Connection],
        writer: Writer,
        tail: Callable[[], Tail],
        clock: Callable[[], int],
    ) -> None:
        super().__init__(name="tallystick-replayer", daemon=True)
        self._connect = connect
        self._writer = writer
        self._tail = tail
        self._clock = clock
        self._closing = threading.Event()
        self._woken = threading.Event()
        self.through: dict[tuple[str, int], int] = {}

    def wake(self) -> None:
        """Look for replays now."""
        self._woken.set()

    def stop(self) -> None:
        """Begin no further slice."""
        self._closing.set()
        self._woken.set()

    def run(self) -> None:
        db: apsw.Connection | None = None
        while not self._closing.is_set():
            self._woken.clear()
            try:
                replays = self._tail().published.catalog.replays
                if replays:
                    db = db or self._connect()
                    for name, replay in replays.items():
                        self._step(db, name, replay)
            except (Problem, Damaged, apsw.Error, OSError) as problem:
                log.warning("replay_postponed", error=str(problem))
                self._closing.wait(1)
            except Exception:
                log.exception("replay_failed")
                self._closing.wait(1)
            if not self._tail().published.catalog.replays:
                self._woken.wait()
        if db is not None:
            db.close()

    def _step(self, db: apsw.Connection, name: str, replay: Replay) -> None:
        """Count one slice; the one behind which nothing is left puts the meters in force."""
        key = (name, replay.meters[0].epoch)
        if key not in self.through:
            self.through[key] = replayed_through(db, *key)
        tail = self._tail()
        first = self.through[key] + 1
        through = min(first + SLICE_EVENTS - 1, tail.published.sequence)
        catalog = tail.published.catalog
        replaying = replace(catalog, meters={each.name: each for each in replay.meters})
        names = {account.number: account.name for account in catalog.accounts.values()}
        with db:
            again = [one for kept in kept_rows(db, first, through) for one in counted(kept, replay, catalog, names)]
            living = resource_tables.load(db, *once_of(again, replaying))
        found = sift(again, living, replaying)
        living.resources, living.spaces = {}, {}
        work = _Slice(tail, self._clock(), name, replay, first, through, found, living)
        task = Task(lambda db: work.write(db) if self._tail() is tail else None, lambda: self._published(work, key))
        self._writer.submit([task], Lane.BACKGROUND)
        task.wait()

    def _published(self, work: _Slice, key: tuple[str, int]) -> None:
        if self._tail() is work.tail:
            work.publish()
            self.through[key] = work.through


def replayed_through(db: apsw.Connection, name: str, epoch: int) -> int:
    """Return the last event that a replay has counted, from the log."""
    through = 0
    for (header,) in rows(db, f"SELECT header FROM log WHERE kind = {CORRECTED} ORDER BY entry"):
        said = msgspec.msgpack.decode(header, type=CorrectionHeader)
        if (said.replay, said.epoch) == (name, epoch):
            through = said.through
    return through


@dataclass(slots=True)
class _Slice:
    """What one slice of a replay writes: an entry of postings, and with the last one the meters in force."""

    tail: Tail
    now: int
    name: str
    replay: Replay
    first: int
    through: int
    found: Sequence[Again]
    living: Living
    _columns: Columns | None = field(default=None)

    def write(self, db: apsw.Connection) -> None:
        # Commits of this very transaction are in the file and not yet published.
        (last,) = row(db, f"SELECT coalesce(max(first + count - 1), 0) FROM log WHERE kind = {EVENTS}")
        if self.first <= self.through:
            self._write_entry(db)
            resource_tables.store(db, self.living)
        if last <= self.through:
            self._put_in_force(db)

    def publish(self) -> None:
        published = self.tail.published
        cells = quarter_cells(self._columns) if self._columns is not None else ()
        self.tail.published = structs.replace(
            published,
            entry=self.tail.entry,
            catalog=self.tail.catalog,
            overlay=published.overlay.add(cells) if cells else published.overlay,
        )

    def _write_entry(self, db: apsw.Connection) -> None:
        tail = self.tail
        names = {account.number: account.name for account in tail.catalog.accounts.values()}
        sets = [
            LabelSet(names[each.account], posting.meter, posting.meter_version, posting.labels)
            for each in self.found
            for posting in each.postings
        ]
        numbers, made = tail.series.numbers(sets, tail.catalog.accounts)
        times = np.array([each.time for each in self.found], np.int64)
        counts = [len(each.postings) for each in self.found]
        amounts = np.array([posting.amount for each in self.found for posting in each.postings], np.int64)
        event = np.repeat(np.arange(len(self.found)), counts)
        self._columns = Columns(times, np.ones(len(times), np.bool_), event, numbers, amounts)
        digest, body = segment.pack_columns(self._columns)
        sequences = np.array([each.sequence for each in self.found], np.int64)
        header = CorrectionHeader(
            entry=tail.entry + 1,
            recorded=self.now,
            replay=self.name,
            epoch=self.replay.meters[0].epoch,
            first=self.first,
            through=self.through,
            sequences=np.diff(sequences, prepend=np.int64(0)).astype("<i8").tobytes(),
            time_min=int(times.min()) if len(times) else 0,
            time_max=int(times.max()) if len(times) else 0,
            accounts=tuple(sorted({each.account for each in self.found})),
            columns=digest,
            series=tuple(made),
        )
        packed = msgspec.msgpack.encode(header)
        chained = segment.link(tail.link, packed)
        db.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                header.entry,
                CORRECTED,
                header.first,
                len(times),
                header.recorded,
                header.time_min,
                header.time_max,
                packed,
                body,
                chained,
            ),
        )
        if made:
            series_table.store(db, made)
        tail.entry, tail.link = header.entry, chained

    def _put_in_force(self, db: apsw.Connection) -> None:
        catalog, replay = self.tail.catalog, self.replay
        meters = tuple(catalog.meters[each.name] for each in replay.meters if each.name in catalog.meters)
        table = replay.rates[0] if replay.rates else ""
        rates = (table, catalog.rates[table]) if table in catalog.rates else None
        before = Replay(meters, replay.start, rates) if meters or rates else None
        logged(db, self.tail, [ReplayDone(catalog.version + 1, self.name, replay, before)], "replay", self.now)
