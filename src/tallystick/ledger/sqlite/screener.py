"""The threads before the writer: they judge identities that are known, pack the rest, and keep the order of calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import apsw
import structlog

from tallystick.errors import Code, Problem
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.sqlite.changes import CatalogWork, create_accounts
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.judging import screen
from tallystick.ledger.sqlite.segment import Damaged
from tallystick.ledger.sqlite.tail import Tail
from tallystick.ledger.sqlite.writer import Lane, Writer, unavailable

log = structlog.get_logger(__name__)


class Stage(threading.Thread):
    """Does one thing to each job in turn, and hands it on; what fails costs that job, never the thread."""

    def __init__(self, name: str, writer: Writer, hand_on: Callable[[Job], None]) -> None:
        super().__init__(name=f"tallystick-{name}", daemon=True)
        self._writer = writer
        self._hand_on = hand_on
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
        while (job := self._take()) is not None:
            try:
                self.work(job)
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
                self._hand_on(job)

    def work(self, job: Job) -> None:
        """Do this stage's part."""
        raise NotImplementedError

    def _take(self) -> Job | None:
        with self._ready:
            while not (self._jobs or self._closing):
                self._ready.wait()
            return self._jobs.popleft() if self._jobs else None

    def _refuse(self, job: Job, problem: Problem | CatalogStale) -> None:
        self._writer.unreserve(job.bytes)
        job.fail(problem)


class Screener(Stage):
    """Takes the jobs of one lane in and judges them; a lane of its own keeps small ones from waiting.

    An urgent job is packed at once; a large one goes to the packer, so that the next is screened meanwhile.
    """

    def __init__(
        self,
        lane: Lane,
        *,
        connect: Callable[[], apsw.Connection],
        writer: Writer,
        tail: Callable[[], Tail],
        secret: int,
        clock: Callable[[], int],
        hand_on: Callable[[Job], None],
    ) -> None:
        super().__init__(f"screener-{lane.name.lower()}", writer, hand_on)
        self._packs = lane is Lane.URGENT
        self._connect = connect
        self._tail = tail
        self._secret = secret
        self._clock = clock
        self._db: apsw.Connection | None = None

    def run(self) -> None:
        super().run()
        if self._db is not None:
            self._db.close()

    def work(self, job: Job) -> None:
        # Here and not at the start: a connection that cannot be had costs a job.
        self._db = self._db or self._connect()
        published = self._tail().published
        if job.batch.catalog_version != published.catalog.version:
            raise CatalogStale
        if job.create_accounts:
            missing = [name for name in dict.fromkeys(job.batch.account) if name not in published.catalog.accounts]
            if missing:
                work = CatalogWork(self._tail, create_accounts(missing), "event", self._clock())
                self._writer.submit(work, Lane.URGENT)
                work.future.result()
                published = self._tail().published
        screen(job, published, self._secret, self._db)
        if self._packs:
            pack_early(job, self._tail())


class Packer(Stage):
    """Packs screened jobs, which for large ones is as much work again as screening them."""

    def __init__(self, lane: Lane, *, writer: Writer, tail: Callable[[], Tail]) -> None:
        super().__init__(f"packer-{lane.name.lower()}", writer, lambda job: writer.submit(job, lane))
        self._tail = tail

    def work(self, job: Job) -> None:
        pack_early(job, self._tail())


def pack_early(job: Job, tail: Tail) -> None:
    """Do what the writer would have to do otherwise."""
    if len(job.rows):
        job.prepare(tail.series, tail.published.catalog.accounts)
