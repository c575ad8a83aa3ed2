"""The threads before the writer: they judge identities that are known, pack the rest, and keep the order of calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import takewhile

import apsw
import structlog

from tallystick.errors import Code, Problem
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.packed.series import Forecast
from tallystick.ledger.sqlite.changes import CatalogWork, create_accounts
from tallystick.ledger.sqlite.identity import FEW
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.joining import join, runs_of
from tallystick.ledger.sqlite.judging import NOTHING_KNOWN, Known, fingerprint, kept_events, look_up, screen
from tallystick.ledger.sqlite.second_reader import SecondReader
from tallystick.ledger.sqlite.tail import Tail
from tallystick.ledger.sqlite.writer import Lane, Work, Writer, unavailable
from tallystick.precedence import precedence

log = structlog.get_logger(__name__)

TOGETHER_MAX = {Lane.URGENT: 64, Lane.BULK: 8}
"""Jobs that are looked up together."""


class Screener(threading.Thread):
    """Takes the jobs of one lane in, and hands each to the writer; a lane of its own keeps small ones from waiting."""

    def __init__(
        self,
        lane: Lane,
        *,
        connect: Callable[[], apsw.Connection],
        writer: Writer,
        tail: Callable[[], Tail],
        secret: int,
        clock: Callable[[], int],
    ) -> None:
        super().__init__(name=f"tallystick-screener-{lane.name.lower()}", daemon=True)
        self._lane = lane
        self._connect = connect
        self._writer = writer
        self._tail = tail
        self._secret = secret
        self._clock = clock
        self._forecast = Forecast()
        self._ready = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._closing = self._busy = False
        # Only for bulk: it gives way to small requests, and must not when it works for them.
        self._second = SecondReader(connect) if lane is Lane.BULK else None

    def submit(self, jobs: Sequence[Job], calls: Sequence[Work] = ()) -> None:
        """Take jobs in, in order; for the thread of their callers. `calls` need no screening and go on at once."""
        with self._ready:
            # Never past others: they are kept in the order of the calls.
            straight = [] if self._busy or self._jobs else list(self._plainly_new(jobs))
            if calls or straight:
                self._writer.submit([*calls, *straight], self._lane)
            taken = sum(len(job.callers) for job in straight)
            if taken < len(jobs):
                self._jobs.extend(jobs[taken:])
                self._ready.notify()

    def _plainly_new(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """Yield jobs, joined where they can be, up to one that may have events which are not new."""
        for run in runs_of(jobs):
            together = join(run)
            if self._is_plainly_new(together):
                yield together
                continue
            yield from takewhile(self._is_plainly_new, run if together.parts else ())
            return

    def _is_plainly_new(self, job: Job) -> bool:
        """Screen a job of few events, if memory alone can tell that they are new: handing it on would cost more."""
        tail = self._tail()
        published = tail.published
        if (
            (len(job.batch) > FEW and not job.parts)
            or job.batch.catalog_version != published.catalog.version
            or job.missing(published.catalog.accounts)
        ):
            return False
        fingerprint([job], published, self._secret)
        assert job.run is not None, "its fingerprints are there, in order"
        if published.identities.may_have(job.run.fingerprint):
            return False
        screen(job, NOTHING_KNOWN, published, tail.series, self._forecast)
        return True

    def close(self) -> None:
        """Hand over what was taken, then end."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self.join()

    def run(self) -> None:
        if self._lane is Lane.BULK:
            precedence.join_bulk()
        db: apsw.Connection | None = None
        while jobs := self._take():
            with precedence.computing() if self._lane is Lane.BULK else nullcontext():
                db = self._work(jobs, db)
        if db is not None:
            db.close()
        if self._second is not None:
            self._second.close()

    def _work(self, jobs: Sequence[Job], db: apsw.Connection | None) -> apsw.Connection | None:
        """Look jobs up together, and hand each to the writer; returns the connection, if it could be had."""
        known: dict[int, Known] = {}
        for at, job in enumerate(jobs):
            try:
                # Inside: a connection that cannot be had costs a job, never the thread.
                db = db or self._connect()
                if at == 0 and len(jobs) > 1:
                    known = self._look_up_together(jobs, db)
                self._screen(job, known.get(at) or self._look_up([job], db)[0])
            except (Problem, CatalogStale) as problem:
                self._refuse(job, problem)
            except Damaged as damage:
                detail = f"A kept event that this one must be compared with is damaged ({damage}). Run verify."
                self._refuse(job, Problem(Code.UNPROVEN, detail, retry_after_s=60))
            except (apsw.Error, OSError) as error:
                log.error("screening_failed", error=str(error))
                self._refuse(job, unavailable("The ledger could not be read. Send it again."))
            except Exception:
                log.exception("screening_failed")
                self._refuse(job, Problem(Code.INTERNAL, "Something went wrong in the ledger; nothing was kept."))
            else:
                self._writer.submit([job], self._lane)
        return db

    def _take(self) -> list[Job]:
        """Wait for jobs, and take what there is; nothing once it is closed."""
        with self._ready:
            self._busy = False
            while not (self._jobs or self._closing):
                self._ready.wait()
            self._busy = True
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), TOGETHER_MAX[self._lane]))]

    def _look_up(self, jobs: Sequence[Job], db: apsw.Connection) -> list[Known]:
        read = kept_events if self._second is None else self._second.kept_events
        return look_up(jobs, self._tail().published, self._secret, db, partial(read, db))

    def _look_up_together(self, jobs: Sequence[Job], db: apsw.Connection) -> dict[int, Known]:
        """Return what is known of each job; nothing where a part is damaged: whose it is comes out one by one."""
        try:
            return dict(enumerate(self._look_up(jobs, db)))
        except Damaged:
            return {}

    def _screen(self, job: Job, known: Known) -> None:
        tail = self._tail()
        published = tail.published
        if job.batch.catalog_version != published.catalog.version:
            raise CatalogStale
        # Again and again, because one may be deleted as soon as it is made.
        while job.create_accounts and (missing := job.missing(published.catalog.accounts)):
            work = CatalogWork(self._tail, create_accounts(missing), "event", self._clock())
            self._writer.submit([work], Lane.URGENT)
            work.future.result()
            tail = self._tail()
            published = tail.published
        screen(job, known, published, tail.series, self._forecast)

    def _refuse(self, job: Job, problem: Problem | CatalogStale) -> None:
        self._writer.unreserve(job.bytes)
        job.fail(problem)
