"""The threads that commit: what waits in a lane becomes one transaction, made durable before its callers hear of it."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

import psycopg
import structlog

from tallystick.errors import Code, Problem
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.postgres import server
from tallystick.ledger.postgres.committing import Committer, Kept, Mark
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.pool import RETRY_WAIT_S, TRIES_MAX, TURNED_AWAY, problem_of, unavailable
from tallystick.ledger.sqlite.job import Job, Strand, set_results, tell
from tallystick.ledger.vitals import Commits

log = structlog.get_logger(__name__)

FOUND_OUT_S_MAX = 30.0
FOUND_OUT_WAIT_S = 0.2
BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)


class Room:
    """How much may wait to be committed, in bytes; shared by all lanes."""

    def __init__(self, bytes_max: int) -> None:
        self._changing = threading.Lock()
        self._bytes_max = bytes_max
        self.bytes = 0

    def take(self, size: int) -> None:
        """Take room for work that is coming; raises Problem when there is none."""
        with self._changing:
            if self.bytes and self.bytes + size > self._bytes_max:
                raise unavailable("Too much is waiting to be written. Send it again later.")
            self.bytes += size

    def give(self, size: int) -> None:
        """Give room back."""
        with self._changing:
            self.bytes -= size


class Tally:
    """What was committed since the ledger was opened."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self.commits = Commits()
        self.accepted: Counter[int] = Counter()
        self.sequence = 0
        self.recorded = 0

    def add(self, kept: Kept, seconds: float, size: int) -> None:
        """Count one commit."""
        with self._changing:
            self.commits.add(seconds, size)
            self.accepted.update(kept.events)
            self.sequence = max(self.sequence, kept.sequence)
            self.recorded = max(self.recorded, kept.recorded)


class Lane(threading.Thread):
    """One thread and one connection: groups in the order of the calls, one after the other."""

    def __init__(
        self, name: str, url: str, committer: Committer, room: Room, tally: Tally, group_bytes_max: int
    ) -> None:
        super().__init__(name=f"tallystick-{name}", daemon=True)
        self._url = url
        self._committer = committer
        self._room = room
        self._tally = tally
        self._group_bytes_max = group_bytes_max
        self._ready = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._closing = False
        self._db: Db | None = None

    @property
    def warned(self) -> frozenset[tuple[Strand, int]]:
        """The label sets that were seen near a bound, by strand and month."""
        return self._committer.warned

    def submit(self, job: Job) -> None:
        """Hand over a job whose room was taken."""
        with self._ready:
            self._jobs.append(job)
            self._ready.notify()

    def close(self) -> None:
        """Commit what was taken, then end."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self.join()

    def run(self) -> None:
        while jobs := self._take():
            self._commit(jobs)
            self._room.give(sum(job.bytes for job in jobs))
        self._drop()

    def _take(self) -> list[Job]:
        with self._ready:
            while not (self._jobs or self._closing):
                self._ready.wait()
            jobs: list[Job] = []
            size = 0
            while self._jobs and (not jobs or size + self._jobs[0].bytes <= self._group_bytes_max):
                jobs.append(self._jobs.popleft())
                size += jobs[-1].bytes
            return jobs

    def _commit(self, jobs: Sequence[Job]) -> None:
        try:
            done = self._tried(jobs)
        except Problem as problem:
            fail(jobs, problem)
        except Damaged as damage:
            detail = f"A kept event that this one must be compared with is damaged ({damage}). Run verify."
            fail(jobs, Problem(Code.UNPROVEN, detail, retry_after_s=60))
        except Exception as error:
            log.exception("commit_failed")
            self._drop()
            if len(jobs) > 1:
                # What one of them has in it must not be the others' loss.
                for job in jobs:
                    self._commit([job])
                return
            unforeseen = Problem(Code.INTERNAL, "Something went wrong in the ledger; nothing was kept.")
            fail(jobs, problem_of(error) if isinstance(error, psycopg.Error) else unforeseen)
        else:
            answer(done)

    def _tried(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Commit a group, again where others were in the way, or the connection was lost and nothing was kept."""
        started = time.perf_counter()
        for tries in range(TRIES_MAX):
            anew = [Job(job.batch, job.create_accounts, job.future, job.bytes, job.settles) for job in jobs]
            marks: list[Mark] = []
            try:
                kept = self._once(anew, marks.append)
            except TURNED_AWAY as error:
                log.info("commit_repeated", error=str(error))
                time.sleep(RETRY_WAIT_S * 2**tries * random.random())
                continue
            except BROKEN as error:
                log.warning("connection_lost", error=str(error))
                self._drop()
                if marks and self._was_committed(marks[-1]):
                    return anew
                if tries >= 1 and not marks:
                    raise problem_of(error) from error
                continue
            if kept.events:
                self._committer.publish(kept)
                self._tally.add(kept, time.perf_counter() - started, sum(job.bytes for job in jobs))
            return anew
        raise unavailable("Others were in the way, again and again. Send it again.")

    def _once(self, jobs: Sequence[Job], marked: Callable[[Mark], None]) -> Kept:
        db = self._connection()
        current = self._committer.prepare(db, jobs)
        if not current:
            return Kept(Counter(), ())
        db.execute("BEGIN")
        try:
            kept = self._committer.write(db, current, marked)
            db.execute("COMMIT")
        except BaseException:
            if not db.closed and not db.broken:
                db.execute("ROLLBACK")
            raise
        return kept

    def _was_committed(self, mark: Mark) -> bool:
        """Find out what became of a transaction whose end was not heard of; raises Problem when nobody can say."""
        deadline = time.monotonic() + FOUND_OUT_S_MAX
        while time.monotonic() < deadline:
            try:
                db = self._connection()
                (status,) = db.execute("SELECT pg_xact_status(%s::text::xid8)", (mark.transaction,)).fetchall()[0]
                if status != "in progress":
                    entry = "SELECT 1 FROM entry WHERE account = %s AND number = %s"
                    return bool(db.execute(entry, (mark.account, mark.number)).fetchall())
            except BROKEN as error:
                log.warning("outcome_unknown", error=str(error))
                self._drop()
            time.sleep(FOUND_OUT_WAIT_S)
        raise unavailable("The database went away while this was written. Whether it was kept is found out by a retry.")

    def _connection(self) -> Db:
        if self._db is None or self._db.closed or self._db.broken:
            self._db = server.connect(self._url)
        return self._db

    def _drop(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def fail(jobs: Sequence[Job], problem: Problem) -> None:
    """Tell the callers of jobs that nothing of theirs was kept, as far as anybody knows."""
    for job in jobs:
        job.fail(problem)


def answer(jobs: Sequence[Job]) -> None:
    """Give the callers of jobs their verdicts."""
    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        loops.setdefault(job.future.get_loop(), []).append(job)
    for loop, some in loops.items():
        tell(loop, set_results, some)
