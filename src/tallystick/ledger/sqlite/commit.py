"""The writer's side of a commit: what the screening could not see is judged, the rest becomes one segment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import apsw
import msgspec
import numpy as np

from tallystick.errors import Problem
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.sqlite import resource_tables, segment, series
from tallystick.ledger.sqlite.file import EVENTS
from tallystick.ledger.sqlite.identity import MemoryRun
from tallystick.ledger.sqlite.job import Job, Packed, Postings, pack, pack_postings, set_results, tell
from tallystick.ledger.sqlite.judging import settle
from tallystick.ledger.sqlite.label_sets import LabelSetBound
from tallystick.ledger.sqlite.order import left, take_in_order
from tallystick.ledger.sqlite.segment import Frame, Header
from tallystick.ledger.sqlite.tail import Tail
from tallystick.rollup import Cells


class Group:
    """The jobs of one transaction, written as one segment; `accepted` counts events by account number."""

    def __init__(self, jobs: Sequence[Job], tail: Tail, bound: LabelSetBound, accepted: Counter[int], now: int) -> None:
        self.jobs = jobs
        self.bytes = sum(job.bytes for job in jobs)
        self._tail = tail
        self._bound = bound
        self._accepted = accepted
        self._now = now
        self._after: tuple[int, MemoryRun, Cells] | None = None
        self._events: dict[int, int] = {}

    def write(self, db: apsw.Connection) -> None:
        """Judge what the screening could not see, and write what is left: a constant number of statements."""
        tail, published = self._tail, self._tail.published
        current = [job for job in self.jobs if self._is_current(job)]
        for job in current:
            settle(job, published, db)
        living = take_in_order(left(current), tail, self._bound, db)
        live = left(current)
        if not live:
            return
        packed, postings, made = self._pack(live)
        first, count = published.sequence + 1, len(packed.run)
        firsts = (first + np.cumsum([0, *(frame.count for frame in packed.frames[:-1])])).tolist()
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

    def _pack(self, live: Sequence[Job]) -> tuple[Packed, Postings, Sequence[segment.NewSeries]]:
        """Return what the screening packed, as far as it holds for what is written now, and pack the rest."""
        made = [new for job in live for new in self._number(job)]
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
        numbering.table[numbering.unknown], made = tail.series.numbers(label_sets, tail.catalog.accounts)
        return made

    def publish(self) -> None:
        if self._after is not None:
            sequence, run, cells = self._after
            before = self._tail.published
            self._tail.published = replace(
                before,
                sequence=sequence,
                recorded=self._now,
                identities=before.identities.add(run),
                overlay=before.overlay.add(cells) if len(cells) else before.overlay,
                entry=self._tail.entry,
            )
            self._accepted.update(self._events)
        loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job in self.jobs:
            loops.setdefault(job.future.get_loop(), []).append(job)
        for loop, jobs in loops.items():
            tell(loop, set_results, jobs)

    def fail(self, problem: Problem) -> None:
        for job in self.jobs:
            job.fail(problem)

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
        lengths = [len(frame.body) for frame in frames]
        starts = np.cumsum([1, *lengths[:-1]]).tolist()
        places = msgspec.json.encode(list(zip(firsts, starts, lengths, strict=True))).decode()
        db.execute(
            "INSERT INTO frame SELECT value ->> 0, substr(?1, value ->> 1, value ->> 2) FROM json_each(?2)",
            (b"".join(frame.body for frame in frames), places),
        )
        if header.series:
            series.store(db, header.series)
        tail.entry, tail.link = header.entry, chained
