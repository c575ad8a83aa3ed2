"""The threads before the writer: they judge identities that are known, pack the rest, and keep the order of calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import apsw
import structlog

from tallystick.errors import Code, Problem
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.sqlite.changes import CatalogWork, create_accounts
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.judging import are_new, screen
from tallystick.ledger.sqlite.segment import Damaged
from tallystick.ledger.sqlite.tail import Published, Tail
from tallystick.ledger.sqlite.writer import Lane, Writer, unavailable
from tallystick.precedence import precedence

log = structlog.get_logger(__name__)

TOGETHER_MAX = 64
"""Small jobs that are looked up together."""


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
        self._pause = precedence.give_way if lane is Lane.BULK else (lambda: None)
        self._connect = connect
        self._writer = writer
        self._tail = tail
        self._secret = secret
        self._clock = clock
        self._ready = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._closing = False

    def submit(self, job: Job) -> None:
        with self._ready:
            self._jobs.append(job)
            self._ready.notify()

    def close(self) -> None:
        """Hand over what was taken, then end."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self.join()

    def run(self) -> None:
        db: apsw.Connection | None = None
        while jobs := self._take():
            new_through: int | None = None
            for job in jobs:
                try:
                    # Inside: a connection that cannot be had costs a job, never the thread.
                    db = db or self._connect()
                    if new_through is None and len(jobs) > 1 and job is jobs[0]:
                        new_through = self._new_through(jobs, db)
                    self._screen(job, db, new_through)
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
                    self._writer.submit(job, self._lane)
        if db is not None:
            db.close()

    def _take(self) -> list[Job]:
        """Wait for jobs: one, or what there is of small ones; nothing once it is closed."""
        with self._ready:
            while not (self._jobs or self._closing):
                self._ready.wait()
            taken: list[Job] = []
            while self._jobs and (not taken or (self._lane is Lane.URGENT and len(taken) < TOGETHER_MAX)):
                taken.append(self._jobs.popleft())
            return taken

    def _new_through(self, jobs: Sequence[Job], db: apsw.Connection) -> int | None:
        """Return up to which event nothing is kept under the identities of jobs; None where something may be."""
        published = self._tail().published
        try:
            return published.sequence if are_new(jobs, published, self._secret, db) else None
        except Damaged:
            # Whose fault it is comes out one by one.
            return None

    def _screen(self, job: Job, db: apsw.Connection, new_through: int | None) -> None:
        tail = self._tail()
        published = tail.published
        if job.batch.catalog_version != published.catalog.version:
            raise CatalogStale
        # Again and again, because one may be deleted as soon as it is made.
        while job.create_accounts and (missing := _missing(job, published)):
            work = CatalogWork(self._tail, create_accounts(missing), "event", self._clock())
            self._writer.submit(work, Lane.URGENT)
            work.future.result()
            tail = self._tail()
            published = tail.published
        screen(job, published, tail.series, self._secret, db, self._pause, new_through)

    def _refuse(self, job: Job, problem: Problem | CatalogStale) -> None:
        self._writer.unreserve(job.bytes)
        job.fail(problem)


def _missing(job: Job, published: Published) -> list[str]:
    """Return the accounts of a job that do not exist, in the order in which they come."""
    batch, accounts = job.batch, published.catalog.accounts
    names = batch.account if not batch.doomed else [n for at, n in enumerate(batch.account) if at not in batch.doomed]
    return [name for name in dict.fromkeys(names) if name not in accounts]
