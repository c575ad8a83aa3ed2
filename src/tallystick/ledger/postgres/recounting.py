"""Kept events counted by meters that are not in force yet: account by account, slice by slice, then all at once.

Any process may do it, one at a time. What a slice gives is an entry of its account's log, so another process goes on
where one stood. The last step has the catalog to itself: nobody commits, what is left is counted, and the meters are in
force in the same transaction: not one event is missed, none counts twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
import structlog

from tallystick.errors import Problem
from tallystick.ledger.packed import segment
from tallystick.ledger.packed.meter_entries import ReplayDone
from tallystick.ledger.packed.segment import Columns, Damaged, NewSeries, unpack_columns, unpack_frame
from tallystick.ledger.postgres import catalog_log, locks, log, resource_tables, series
from tallystick.ledger.postgres.catalog_log import CatalogLog, Known
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import CORRECTED, EVENTS, Head, RecountHeader, Row, read_header
from tallystick.ledger.postgres.pool import Pool
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.ledger.sqlite.replaying import Again, KeptRows, counted, once_of, sift
from tallystick.model import Account, Catalog, Replay

logs = structlog.get_logger(__name__)

SLICE_EVENTS = 4_000
LOOK_EVERY_S = 0.5
ELSEWHERE_S = 0.1
Name = tuple[str, int]
"""What a replay is known by: its name in the catalog, and the epoch of its meters."""


def kept_rows(db: Db, account: int, after: int, through: int) -> Iterator[KeptRows]:
    """Yield an account's events behind `after` up to `through`, an entry's at a time."""
    statement = f"""SELECT e.number, e.header, p.body FROM entry e JOIN posting p USING (account, number)
        WHERE e.account = %s AND e.kind = {EVENTS} AND e.last > %s AND e.first <= %s ORDER BY e.first"""
    for number, packed, body in db.execute(statement, (account, after, through)).fetchall():
        sequences, times = read_header(packed).sequence(), unpack_columns(body).time
        frames = "SELECT body FROM frame WHERE account = %s AND number = %s ORDER BY place"
        raws = [
            raw for (frame,) in db.execute(frames, (account, number)).fetchall() for raw in unpack_frame(frame).raws
        ]
        if len(raws) != len(sequences):
            raise Damaged(f"entry {number} of account {account} holds {len(raws)} events, not {len(sequences)}")
        inside = np.flatnonzero((sequences > after) & (sequences <= through)).tolist()
        yield KeptRows(
            [int(sequences[at]) for at in inside],
            [account] * len(inside),
            [int(times[at]) for at in inside],
            [raws[at] for at in inside],
        )


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be counted next: an account's events behind `after` up to `through`."""

    account: Account
    after: int
    through: int
    events: int


def due(db: Db, catalog: Catalog, name: Name) -> Due | None:
    """Return the next slice of a replay, of at least SLICE_EVENTS unless there are fewer; None = all is counted."""
    statement = """SELECT h.account, coalesce(r.through, 0) FROM head h
        LEFT JOIN replayed r ON r.account = h.account AND r.replay = %s AND r.epoch = %s
        WHERE h.events > 0 AND h.sequence > coalesce(r.through, 0) ORDER BY h.account LIMIT 1"""
    for number, after in db.execute(statement, name).fetchall():
        entries = f"""SELECT last, count FROM entry WHERE account = %s AND kind = {EVENTS} AND last > %s
            ORDER BY last LIMIT {SLICE_EVENTS}"""
        through, events = after, 0
        for last, count in db.execute(entries, (number, after)).fetchall():
            through, events = last, events + count
            if events >= SLICE_EVENTS:
                break
        account = next(each for each in catalog.accounts.values() if each.number == number)
        return Due(account, after, through, events)
    return None


class Recounter(threading.Thread):
    """Counts kept events for the replays of the catalog, beside the work; every process has one."""

    def __init__(self, pool: Pool, catalog: CatalogLog, cache: SeriesCache, clock: Callable[[], int]) -> None:
        super().__init__(name="tallystick-recounter", daemon=True)
        self._pool = pool
        self._catalog = catalog
        self._cache = cache
        self._clock = clock
        self._closing = threading.Event()
        self._woken = threading.Event()
        self.progress: dict[Name, tuple[int, int]] = {}

    def wake(self) -> None:
        """Look for replays now."""
        self._woken.set()

    def stop(self) -> None:
        """Begin no further slice."""
        self._closing.set()
        self._woken.set()

    def run(self) -> None:
        # What is under way when a process starts goes on in a moment; requests come first.
        wait = LOOK_EVERY_S
        while True:
            self._woken.wait(wait)
            if self._closing.is_set():
                return
            self._woken.clear()
            wait = LOOK_EVERY_S
            try:
                for name, replay in self._catalog.known.catalog.replays.items():
                    is_ours = self._pool.run(partial(self._step, name=name, replay=replay))
                    wait = 0.0 if is_ours else ELSEWHERE_S
            except (Problem, Damaged) as problem:
                logs.warning("replay_postponed", error=str(problem))
                wait = 1.0
            except Exception:
                logs.exception("replay_failed")
                wait = 1.0

    def _step(self, db: Db, name: str, replay: Replay) -> bool:
        """Count one slice, or put the meters in force; false if another process is at it."""
        key = (name, replay.meters[0].epoch)
        with locks.transaction(db):
            if not locks.try_to_hold(db, locks.REPLAYING):
                self._look(db, key)
                self._catalog.refresh(db)
                return False
            locks.hold(db, locks.CATALOG, shared=True)
            known = self._catalog.refresh(db)
            if known.catalog.replays.get(name) != replay:
                return True
            slice = due(db, known.catalog, key)
            made = self._count(db, known.catalog, key, replay, slice) if slice else []
        self._cache.learn(made)
        if slice is None:
            self._finish(db, key, replay)
        self._look(db, key)
        return True

    def _look(self, db: Db, key: Name) -> None:
        self.progress[key] = progress(db, key)

    def _finish(self, db: Db, key: Name, replay: Replay) -> None:
        """Count what came meanwhile, with nobody committing, and put the meters in force."""
        made: list[NewSeries] = []
        with locks.transaction(db):
            locks.hold(db, locks.CATALOG)
            known = self._catalog.refresh(db)
            if known.catalog.replays.get(key[0]) != replay:
                return
            while (slice := due(db, known.catalog, key)) is not None:
                made += self._count(db, known.catalog, key, replay, slice)
            known = _in_force(db, known, key[0], replay, self._clock())
        self._cache.learn(made)
        self._catalog.take(known)

    def _count(self, db: Db, catalog: Catalog, key: Name, replay: Replay, slice: Due) -> list[NewSeries]:
        """Write one slice: an entry of postings, and how far the replay is."""
        account = slice.account.number
        replaying = replace(catalog, meters={each.name: each for each in replay.meters})
        rows = kept_rows(db, account, slice.after, slice.through)
        again = [one for some in rows for one in counted(some, replay, catalog, {account: slice.account.name})]
        head = log.heads(db, [account], lock=True)[account]
        living = resource_tables.load(db, *once_of(again, replaying))
        found = sift(again, living, replaying)
        living.resources, living.spaces = {}, {}
        made = self._write(db, head, catalog.version, key, slice, found)
        resource_tables.store(db, living)
        db.execute(
            """INSERT INTO replayed (account, epoch, replay, through, events) VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (account, epoch, replay)
            DO UPDATE SET through = excluded.through, events = replayed.events + excluded.events""",
            (account, key[1], key[0], slice.through, slice.events),
        )
        return made

    def _write(
        self, db: Db, head: Head, version: int, key: Name, slice: Due, found: Sequence[Again]
    ) -> list[NewSeries]:
        self._cache.refresh(db, {head.account: head.series})
        keys = [(head.account, p.meter, p.meter_version, p.labels) for each in found for p in each.postings]
        numbers, made = series.numbered(db, self._cache, keys)
        times = np.array([each.time for each in found], np.int64)
        event = np.repeat(np.arange(len(found)), [len(each.postings) for each in found])
        amounts = np.array([posting.amount for each in found for posting in each.postings], np.int64)
        digest, body = segment.pack_columns(Columns(times, np.ones(len(times), np.bool_), event, numbers, amounts))
        sequences = np.array([each.sequence for each in found], np.int64)
        (number,) = db.execute("SELECT nextval('entry_number')").fetchall()[0]
        recorded = max(self._clock(), head.recorded)
        header = RecountHeader(
            account=head.account,
            position=head.entries + 1,
            number=number,
            recorded=recorded,
            catalog_version=version,
            replay=key[0],
            epoch=key[1],
            after=slice.after,
            through=slice.through,
            sequences=np.diff(sequences, prepend=np.int64(0)).astype("<i8").tobytes(),
            time_min=int(times.min()) if len(times) else 0,
            time_max=int(times.max()) if len(times) else 0,
            columns=digest,
            series=tuple(made),
        )
        db.execute("INSERT INTO posting VALUES (%s, %s, %s)", (head.account, number, body))
        log.append(db, number, recorded, [row_of(head, header, len(times))])
        return made


def progress(db: Db, name: Name) -> tuple[int, int]:
    """Return how many events a replay has counted, of how many."""
    counted = "SELECT coalesce(sum(events), 0)::bigint FROM replayed WHERE replay = %s AND epoch = %s"
    ((done,),) = db.execute(counted, name).fetchall()
    ((total,),) = db.execute("SELECT coalesce(sum(events), 0)::bigint FROM head").fetchall()
    return min(done, total), total


def row_of(head: Head, header: RecountHeader, count: int) -> Row:
    """Return the entry of a replay's postings behind a head."""
    packed = msgspec.msgpack.encode(header)
    return Row(
        account=header.account,
        position=header.position,
        kind=CORRECTED,
        first=header.after + 1,
        last=header.through,
        count=count,
        time_min=header.time_min,
        time_max=header.time_max,
        header=packed,
        link=log.chained(head, packed),
        events=0,
        series=max((new.number for new in header.series), default=0),
    )


def _in_force(db: Db, known: Known, name: str, replay: Replay, now: int) -> Known:
    catalog = known.catalog
    meters = tuple(catalog.meters[each.name] for each in replay.meters if each.name in catalog.meters)
    table = replay.rates[0] if replay.rates else ""
    rates = (table, catalog.rates[table]) if table in catalog.rates else None
    before = Replay(meters, replay.start, rates) if meters or rates else None
    return catalog_log.logged(db, known, [ReplayDone(catalog.version + 1, name, replay, before)], "replay", now)
