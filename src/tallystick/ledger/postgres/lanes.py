"""The threads that commit: what waits in a lane becomes one transaction, made durable before its callers hear of it.

Where accounts are spread over nodes, that is what waits of one account.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence

import psycopg
import structlog

from tallystick.errors import Code, Problem
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.postgres import locks, server
from tallystick.ledger.postgres import log as logs
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
FOUND_OUT_LOCK_WAIT = "5s"
LANES = ("urgent", "bulk")
SPLIT_LANES = 4
"""So many of each kind where commits are split by account."""
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
    """One thread and one connection: groups in the order of the calls, one after the other.

    With `is_split` each group is of one account, and accounts take turns.
    """

    def __init__(
        self,
        name: str,
        url: str,
        committer: Committer,
        room: Room,
        tally: Tally,
        group_bytes_max: int,
        *,
        is_split: bool,
    ) -> None:
        super().__init__(name=f"tallystick-{name}", daemon=True)
        self._url = url
        self._is_split = is_split
        self._committer = committer
        self._room = room
        self._tally = tally
        self._group_bytes_max = group_bytes_max
        self._ready = threading.Condition()
        self._works: dict[str, deque[Work]] = {}
        self._closing = False
        self._db: Db | None = None

    @property
    def warned(self) -> frozenset[tuple[Strand, int]]:
        """The label sets that were seen near a bound, by strand and month."""
        return self._committer.warned

    def submit(self, work: Work) -> None:
        """Hand over a job whose room was taken, or a call about a hold."""
        with self._ready:
            self._works.setdefault(account_of(work) if self._is_split else "", deque()).append(work)
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
            if not self._works:
                return []
            account = next(iter(self._works))
            waiting = self._works.pop(account)
            works = [waiting.popleft()]
            size = works[0].bytes
            while waiting and size + waiting[0].bytes <= self._group_bytes_max:
                works.append(waiting.popleft())
                size += works[-1].bytes
            if waiting:
                self._works[account] = waiting
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
        """Find out what became of a transaction whose end was not heard of; raises Problem when nobody can say.

        It had an account's head locked to its end, wherever that is kept: whoever has the lock next knows.
        """
        deadline = time.monotonic() + FOUND_OUT_S_MAX
        while time.monotonic() < deadline:
            try:
                db = self._connection()
                with locks.transaction(db):
                    db.execute(f"SET LOCAL lock_timeout = '{FOUND_OUT_LOCK_WAIT}'")
                    logs.heads(db, [mark.account], lock=True)
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


class Lanes:
    """All lanes of a process: one for each kind of work, or several where commits are split by account.

    The work of one account then goes through one of them, in the order of the calls.
    """

    def __init__(self, made: Callable[[str], Lane], *, is_split: bool) -> None:
        names = {kind: [f"{kind}-{n}" for n in range(SPLIT_LANES)] if is_split else [kind] for kind in LANES}
        self._lanes = {kind: [made(name) for name in some] for kind, some in names.items()}
        for lane in self._all:
            lane.start()

    @property
    def _all(self) -> list[Lane]:
        return [lane for some in self._lanes.values() for lane in some]

    @property
    def warned(self) -> frozenset[tuple[Strand, int]]:
        """The label sets that were seen near a bound, by strand and month."""
        return frozenset[tuple[Strand, int]]().union(*(lane.warned for lane in self._all))

    def submit(self, kind: str, work: Work) -> None:
        """Hand work over to the lane that is to do it."""
        some = self._lanes[kind]
        some[zlib.crc32(account_of(work).encode()) % len(some)].submit(work)

    def close(self) -> None:
        """Commit what was taken, then end."""
        for lane in self._all:
            lane.close()


def account_of(work: Work) -> str:
    """Return the account that a piece of work is about; of a batch over several, the first."""
    if isinstance(work, HoldWork):
        return work.account
    return work.batch.account[0] if work.settles is None else work.settles[0]


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
