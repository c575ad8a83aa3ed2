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
from tallystick.ledger.postgres import locks, server
from tallystick.ledger.postgres.committing import Committer, Kept, Mark
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.pool import BROKEN, RETRY_WAIT_S, TRIES_MAX, TURNED_AWAY, problem_of, unavailable
from tallystick.ledger.sqlite.admitting import HoldWork
from tallystick.ledger.sqlite.job import Job, Strand, set_results, tell
from tallystick.ledger.vitals import Commits
from tallystick.model import AsOf

log = structlog.get_logger(__name__)

FOUND_OUT_S_MAX = 30.0
FOUND_OUT_WAIT_S = 0.2
Work = Job | HoldWork


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
        self.clock = 0

    def note(self, moment: AsOf) -> None:
        """Take in how far the logs go, whoever wrote them."""
        with self._changing:
            self.sequence = max(self.sequence, moment.sequence)
            self.recorded = max(self.recorded, moment.time)

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
        self._works: deque[Work] = deque()
        self._closing = False
        self._db: Db | None = None

    @property
    def warned(self) -> frozenset[tuple[Strand, int]]:
        """The label sets that were seen near a bound, by strand and month."""
        return self._committer.warned

    def submit(self, work: Work) -> None:
        """Hand over a job whose room was taken, or a call about a hold."""
        with self._ready:
            self._works.append(work)
            self._ready.notify()

    def close(self) -> None:
        """Commit what was taken, then end."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self.join()

    def run(self) -> None:
        while works := self._take():
            self._commit(works)
            self._room.give(sum(work.bytes for work in works))
        self._drop()

    def _take(self) -> list[Work]:
        with self._ready:
            while not (self._works or self._closing):
                self._ready.wait()
            works: list[Work] = []
            size = 0
            while self._works and (not works or size + self._works[0].bytes <= self._group_bytes_max):
                works.append(self._works.popleft())
                size += works[-1].bytes
            return works

    def _commit(self, works: Sequence[Work]) -> None:
        try:
            done = self._tried(works)
        except Problem as problem:
            fail(works, problem)
        except Damaged as damage:
            detail = f"A kept event that this one must be compared with is damaged ({damage}). Run verify."
            fail(works, Problem(Code.UNPROVEN, detail, retry_after_s=60))
        except Exception as error:
            log.exception("commit_failed")
            self._drop()
            if len(works) > 1:
                # What one of them has in it must not be the others' loss.
                for work in works:
                    self._commit([work])
                return
            unforeseen = Problem(Code.INTERNAL, "Something went wrong in the ledger; nothing was kept.")
            fail(works, problem_of(error) if isinstance(error, psycopg.Error) else unforeseen)
        else:
            answer(done)

    def _tried(self, works: Sequence[Work]) -> Sequence[Work]:
        """Commit a group, again where others were in the way, or the connection was lost and nothing was kept."""
        started = time.perf_counter()
        for tries in range(TRIES_MAX):
            anew = [begun_anew(work) for work in works]
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
            self._tally.clock = max(self._tally.clock, kept.clock)
            if kept.events:
                self._committer.publish(kept)
                self._tally.add(kept, time.perf_counter() - started, sum(work.bytes for work in works))
            return anew
        raise unavailable("Others were in the way, again and again. Send it again.")

    def _once(self, works: Sequence[Work], marked: Callable[[Mark], None]) -> Kept:
        db = self._connection()
        calls = [work for work in works if isinstance(work, HoldWork)]
        current = self._committer.prepare(db, [work for work in works if isinstance(work, Job)])
        if not current and not calls:
            return Kept(Counter(), ())
        with locks.transaction(db):
            return self._committer.write(db, current, calls, marked)

    def _was_committed(self, mark: Mark) -> bool:
        """Find out what became of a transaction whose end was not heard of; raises Problem when nobody can say."""
        deadline = time.monotonic() + FOUND_OUT_S_MAX
        while time.monotonic() < deadline:
            try:
                db = self._connection()
                if not _is_under_way(db, mark.transaction):
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


def _is_under_way(db: Db, transaction: str) -> bool:
    try:
        ((status,),) = db.execute("SELECT pg_xact_status(%s::text::xid8)", (transaction,)).fetchall()
    except psycopg.DataError:
        # The server came back without having heard of it.
        return False
    return bool(status == "in progress")


def begun_anew(work: Work) -> Work:
    """Return a piece of work of which nothing is decided yet."""
    if isinstance(work, HoldWork):
        return HoldWork(work.account, work.id, work.call, work.future)
    return Job(work.batch, work.create_accounts, work.future, work.bytes, work.settles)


def fail(works: Sequence[Work], problem: Problem) -> None:
    """Tell callers that nothing of theirs was kept, as far as anybody knows."""
    for work in works:
        work.fail(problem)


def answer(works: Sequence[Work]) -> None:
    """Give callers their verdicts and answers."""
    loops: dict[asyncio.AbstractEventLoop, list[Work]] = {}
    for work in works:
        loops.setdefault(work.future.get_loop(), []).append(work)
    for loop, some in loops.items():
        tell(loop, set_results, some)
