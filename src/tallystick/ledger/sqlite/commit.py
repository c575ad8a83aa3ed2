"""The writer's side of a commit: what the screening could not see is judged, the rest becomes one segment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate

import apsw
import msgspec
import numpy as np
from msgspec.structs import replace

from tallystick.errors import Problem
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.packed import segment
from tallystick.ledger.packed.counters import Counter as LimitCounter
from tallystick.ledger.packed.counters import Counters
from tallystick.ledger.packed.living import Living
from tallystick.ledger.packed.segment import Frame, Header
from tallystick.ledger.sqlite import resource_tables, series_table
from tallystick.ledger.sqlite.admitting import HoldWork, Turn
from tallystick.ledger.sqlite.file import EVENTS
from tallystick.ledger.sqlite.identity import MemoryRun
from tallystick.ledger.sqlite.job import Job, Packed, Postings, pack, pack_few, pack_postings, set_results, tell
from tallystick.ledger.sqlite.joining import share
from tallystick.ledger.sqlite.judging import settle
from tallystick.ledger.sqlite.label_sets import LabelSetBound
from tallystick.ledger.sqlite.order import left, take_in_order
from tallystick.ledger.sqlite.refusing import Refusing
from tallystick.ledger.sqlite.tail import Tail
from tallystick.rollup import Cells


class Group:
    """The jobs and the calls about holds of one transaction; `accepted` counts events by account number.

    Jobs are written as one segment, and what becomes of holds as one entry behind it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        calls: Sequence[HoldWork],
        tail: Tail,
        counters: Counters,
        bound: LabelSetBound,
        accepted: Counter[int],
        now: int,
    ) -> None:
        self.jobs = jobs
        self.calls = calls
        self.bytes = sum(job.bytes for job in jobs)
        self._tail = tail
        self._counters = counters
        self._bound = bound
        self._accepted = accepted
        # A clock that is set back takes nobody's time away, and gives none.
        self._now = max(now, tail.book.clock)
        self._turn: Turn | None = None
        self._after: tuple[int, MemoryRun, Cells] | None = None
        self._events: dict[int, int] = {}

    def write(self, db: apsw.Connection) -> None:
        """Decide calls about holds, then judge events and write those that are left, then end settled holds."""
        self._tail.book.clock = self._now
        current = [job for job in self.jobs if self._is_current(job)]
        turn = self._turn = Turn(self._tail, self._counters, db, self._now)
        turn.begin(self.calls, [caller for job in current for caller in job.callers])
        for call in self.calls:
            turn.decide(call)
        if current:
            self._write_jobs(turn, current, db)
        turn.write()

    def _write_jobs(self, turn: Turn, current: Sequence[Job], db: apsw.Connection) -> None:
        settling = [caller for job in current for caller in self._settling(turn, job)]
        watched = turn.watch(current)
        live, living = self._judge(current, watched, db)
        if live:
            owners = self._write_segment(live, living, db)
            turn.count(live, owners, watched)
        for job in current:
            share(job)
        for job in settling:
            job.answer = turn.settle(job)

    def _settling(self, turn: Turn, job: Job) -> list[Job]:
        """Return the callers whose holds may be settled, and keep the events of others from being recorded."""
        settling: list[Job] = []
        refused: list[int] = []
        for at in sorted(job.held):
            caller = job.callers[at]
            caller.answer = turn.refuse(caller)
            if caller.answer is None:
                settling.append(caller)
            else:
                refused.append(at)
        if refused:
            job.keep(np.isin(job.rows, refused, invert=True))
        return settling

    def _judge(
        self, current: Sequence[Job], watched: Mapping[str, Sequence[LimitCounter]], db: apsw.Connection
    ) -> tuple[list[Job], Living | None]:
        """Judge what the screening could not see; returns the jobs with events that are left."""
        settle(current, self._tail.published, db)
        refusing = Refusing(watched, self._now)
        living = take_in_order(left(current), self._tail, self._bound, refusing, partial(resource_tables.load, db))
        return left(current), living

    def _write_segment(self, live: Sequence[Job], living: Living | None, db: apsw.Connection) -> Sequence[int]:
        """Write what is left: a constant number of statements. Returns the numbers of the accounts in it."""
        tail, published = self._tail, self._tail.published
        packed, postings, made = self._pack(live)
        first, count = published.sequence + 1, len(packed.run)
        firsts = list(accumulate((frame.count for frame in packed.frames[:-1]), initial=first))
        header = Header(
            entry=tail.entry + 1,
            first=first,
            count=count,
            recorded=self._now,
            catalog_version=tail.catalog.version,
            time_min=packed.time_min,
            time_max=packed.time_max,
            accounts=packed.accounts,
            frames=tuple((at, frame.digest) for at, frame in zip(firsts, packed.frames, strict=True)),
            columns=postings.digest,
            series=tuple(made),
        )
        self._insert(db, header, postings.columns, firsts, packed.frames)
        if living is not None:
            resource_tables.store(db, living)
        run = MemoryRun(packed.run.fingerprint, packed.run.sequence + first, first + count - 1)
        self._after = (first + count - 1, run, postings.cells)
        self._events = dict(zip(packed.accounts, packed.account_events, strict=True))
        return packed.accounts

    def _pack(self, live: Sequence[Job]) -> tuple[Packed, Postings, Sequence[segment.NewSeries]]:
        """Return what the screening packed, as far as it holds for what is written now, and pack the rest."""
        made = [new for job in live for new in self._number(job)]
        if (few := pack_few(live)) is not None:
            return *few, made
        if len(live) == 1:
            job = live[0]
            return job.packed or pack(live), job.postings or pack_postings(live), made
        return pack(live), pack_postings(live), made

    def _number(self, job: Job) -> Sequence[segment.NewSeries]:
        """Give numbers to a job's series that have none yet; returns those that are new to the log."""
        tail = self._tail
        numbering = job.number(tail.series, tail.catalog.accounts)
        if not numbering.unknown:
            return ()
        label_sets = [job.batch.label_sets[at] for at in numbering.unknown]
        numbers, made = tail.series.numbers(label_sets, tail.catalog.accounts)
        if not np.array_equal(numbers, numbering.table[numbering.unknown]):
            numbering.table[numbering.unknown] = numbers
            job.postings = None
        return made

    @property
    def _works(self) -> list[Job | HoldWork]:
        return [*self.calls, *(caller for job in self.jobs for caller in job.callers)]

    def publish(self) -> None:
        assert self._turn is not None, "what is published was written"
        with self._tail.book.lock:
            self._publish_events()
            self._turn.show()
        loops: dict[asyncio.AbstractEventLoop, list[Job | HoldWork]] = {}
        for work in self._works:
            loops.setdefault(work.future.get_loop(), []).append(work)
        for loop, works in loops.items():
            tell(loop, set_results, works)

    def _publish_events(self) -> None:
        before = self._tail.published
        if self._after is None:
            self._tail.published = replace(before, entry=self._tail.entry)
            return
        sequence, run, cells = self._after
        self._tail.published = replace(
            before,
            sequence=sequence,
            recorded=self._now,
            identities=before.identities.add(run),
            overlay=before.overlay.add(cells) if len(cells) else before.overlay,
            entry=self._tail.entry,
        )
        self._accepted.update(self._events)

    def fail(self, problem: Problem) -> None:
        for work in self._works:
            work.fail(problem)

    def _is_current(self, job: Job) -> bool:
        catalog = self._tail.catalog
        # An account of the job may be one that was deleted since: its number stands for nothing any more.
        if (job.batch.catalog_version, job.accounts_deleted) == (catalog.version, catalog.accounts_deleted):
            return True
        job.fail(CatalogStale())
        return False

    def _insert(
        self, db: apsw.Connection, header: Header, columns: bytes, firsts: Sequence[int], frames: Sequence[Frame]
    ) -> None:
        packed = msgspec.msgpack.encode(header)
        tail = self._tail
        chained = segment.link(tail.link, packed)
        db.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                header.entry,
                EVENTS,
                header.first,
                header.count,
                header.recorded,
                header.time_min,
                header.time_max,
                packed,
                columns,
                chained,
            ),
        )
        if len(frames) == 1:
            db.execute("INSERT INTO frame VALUES (?, ?)", (firsts[0], frames[0].body))
        else:
            self._insert_frames(db, firsts, frames)
        if header.series:
            series_table.store(db, header.series)
        tail.entry, tail.link = header.entry, chained

    def _insert_frames(self, db: apsw.Connection, firsts: Sequence[int], frames: Sequence[Frame]) -> None:
        lengths = [len(frame.body) for frame in frames]
        starts = accumulate(lengths[:-1], initial=1)
        places = msgspec.json.encode(list(zip(firsts, starts, lengths, strict=True))).decode()
        db.execute(
            "INSERT INTO frame SELECT value ->> 0, substr(?1, value ->> 1, value ->> 2) FROM json_each(?2)",
            (b"".join(frame.body for frame in frames), places),
        )
