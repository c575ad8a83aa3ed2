"""The one thread that writes: what waits becomes one transaction, made durable before anyone hears of it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import apsw
import structlog

from tallystick.errors import Code, Problem
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite.file import row
from tallystick.ledger.vitals import Commits
from tallystick.precedence import GIVE_WAY_S, precedence

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 1
REOPEN_WAIT_S = 0.2
URGENT_IN_A_ROW = 8
LOOK_S, SMALL_BYTES = 0.1, 64 * 1024
"""How long a look at the disk holds for groups that are small: looking lets go of the interpreter."""
UNTIDY_MAX = 16
"""Groups after which memory is tidied though they are small, or somebody waits."""


class Lane(IntEnum):
    """What goes first. Within a lane the order of submission is kept."""

    URGENT = 0
    BULK = 1
    BACKGROUND = 2


class Work(Protocol):
    """Something to write. `write` runs inside the transaction, `publish` after it is durable, `fail` instead."""

    bytes: int

    def write(self, db: apsw.Connection) -> None: ...
    def publish(self) -> None: ...
    def fail(self, problem: Problem) -> None: ...


Combine = Callable[[Sequence[Work]], Sequence[Work]]


@dataclass(slots=True)
class Task:
    """A piece of background work: a small change to the file, and what it means for memory once it is durable."""

    change: Callable[[apsw.Connection], None]
    then: Callable[[], None] = lambda: None
    bytes: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    problem: Problem | None = None

    def write(self, db: apsw.Connection) -> None:
        self.change(db)

    def publish(self) -> None:
        self.then()
        self.done.set()

    def fail(self, problem: Problem) -> None:
        self.problem = problem
        self.done.set()

    def wait(self) -> None:
        """Wait until the change is durable; raises its Problem if it is not."""
        self.done.wait()
        if self.problem is not None:
            raise self.problem


def unavailable(detail: str) -> Problem:
    return Problem(Code.UNAVAILABLE, detail, retry_after_s=RETRY_AFTER_S)


class Writer(threading.Thread):
    """Group commit. After any I/O error the connection is closed and opened anew, and memory is read from the file
    again: nothing is acknowledged on a handle that failed, and what the file says is what counts.
    """

    def __init__(
        self,
        folder: Path,
        *,
        connect: Callable[[], apsw.Connection],
        combine: Combine,
        recover: Callable[[apsw.Connection], None],
        tidy: Callable[[], None],
        group_bytes_max: int,
        queue_bytes_max: int,
        disk_free_bytes_min: int,
    ) -> None:
        super().__init__(name="tallystick-writer", daemon=True)
        self._folder = folder
        self._connect = connect
        self._combine = combine
        self._recover = recover
        self._tidy = tidy
        self._group_bytes_max = group_bytes_max
        self._queue_bytes_max = queue_bytes_max
        self._disk_free_bytes_min = disk_free_bytes_min
        self._ready = threading.Condition()
        self._lanes: tuple[deque[Work], ...] = (deque(), deque(), deque())
        self._queued_bytes = 0
        self.commits = Commits()
        self._closing = False
        self._urgent_in_a_row = 0
        self._roomy_since = -LOOK_S

    @property
    def queued_bytes(self) -> int:
        """The bytes of events that wait to be written."""
        return self._queued_bytes

    def reserve(self, size: int) -> None:
        """Take room in the queue for work that is coming; raises Problem when there is none."""
        with self._ready:
            if self._closing:
                raise unavailable("The ledger is closed.")
            if self._queued_bytes and self._queued_bytes + size > self._queue_bytes_max:
                raise unavailable("Too much is waiting to be written. Send it again later.")
            self._queued_bytes += size

    def unreserve(self, size: int) -> None:
        with self._ready:
            self._queued_bytes -= size

    def submit(self, works: Sequence[Work], lane: Lane) -> None:
        """Hand over work; its room is given back when it is done. Once the ledger is closed it fails."""
        with self._ready:
            if self._closing:
                self._queued_bytes -= sum(work.bytes for work in works)
                self._fail(works, unavailable("The ledger is closed."))
                return
            self._lanes[lane].extend(works)
            self._ready.notify()

    def close(self) -> None:
        """Write what was taken, then end. Background work that was not begun is dropped: it can be done again."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self.join()

    def run(self) -> None:
        try:
            self._loop()
        except BaseException:
            # A writer that met something unforeseen must not leave a process that takes events and keeps none.
            log.critical("writer_died", exc_info=True)
            os._exit(70)

    def _loop(self) -> None:
        db = self._connect()
        untidy = 0
        while (works := self._take()) is not None:
            size = sum(work.bytes for work in works)
            if not self._write(db, works):
                db = self._reopen(db)
            with self._ready:
                self._queued_bytes -= size
            untidy += 1
            if untidy >= UNTIDY_MAX or (size > SMALL_BYTES and not self._lanes[Lane.URGENT]):
                self._tidy()
                untidy = 0
        self._fail(self._lanes[Lane.BACKGROUND], unavailable("The ledger is closed."))
        db.close()

    def _take(self) -> list[Work] | None:
        """Wait for work, a group of one lane: urgent work neither waits for bulk nor takes it along. None = closed."""
        urgent, bulk, background = self._lanes
        with self._ready:
            while not (urgent or bulk or background or self._closing):
                self._ready.wait()
            if not urgent and precedence.is_claimed:
                # A small request is on its way here, and would have to wait for all of what is begun now.
                self._ready.wait(GIVE_WAY_S)
            works: list[Work] = []
            room = self._group_bytes_max
            # Small commits that never cease must not keep the others waiting for ever.
            others_turn = self._urgent_in_a_row >= URGENT_IN_A_ROW and bool(bulk or background)
            lane = bulk if others_turn else urgent or bulk
            self._urgent_in_a_row = self._urgent_in_a_row + 1 if lane is urgent else 0
            while lane and (not works or lane[0].bytes <= room):
                works.append(lane.popleft())
                room -= works[-1].bytes
            if self._closing and not works:
                return None
            # One slice of background work rides along with each bulk group, so that neither starves the other.
            if background and lane is not urgent and not self._closing:
                works.append(background.popleft())
            return works

    def _write(self, db: apsw.Connection, works: list[Work]) -> bool:
        """Write one group; false when the connection is not to be trusted any more."""
        try:
            problem = self._disk_problem(works)
            if problem is not None:
                self._fail(works, problem)
                return True
            db.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            self._fail(works, unavailable("The ledger's file is busy. Nothing of this request was kept."))
            return True
        except (apsw.Error, OSError) as error:
            return self._refuse(works, error)
        started = time.perf_counter()
        try:
            # Whoever is small would wait for the rest of this, so bulk that is on its way stops for it, too.
            with precedence.small():
                combined = self._combine(works)
                for work in combined:
                    work.write(db)
            db.execute("COMMIT")
        except (apsw.Error, OSError, MemoryError, Damaged) as error:
            return self._refuse(works, error)
        if size := sum(work.bytes for work in works):
            self.commits.add(time.perf_counter() - started, size)
        for work in combined:
            work.publish()
        return True

    def _refuse(self, works: Sequence[Work], error: Exception) -> bool:
        log.error("commit_failed", error=str(error))
        self._fail(works, _problem_of(error))
        return False

    def _disk_problem(self, works: Sequence[Work]) -> Problem | None:
        size, now = sum(work.bytes for work in works), time.monotonic()
        if size <= SMALL_BYTES and now - self._roomy_since < LOOK_S:
            return None
        free = shutil.disk_usage(self._folder).free
        if free - size >= self._disk_free_bytes_min:
            self._roomy_since = now
            return None
        return Problem(
            Code.DISK_FULL,
            f"The disk of the data folder has {free} bytes left, fewer than disk_free_bytes_min allows. Reads go on.",
            retry_after_s=60,
        )

    def _fail(self, works: Iterable[Work], problem: Problem) -> None:
        for work in works:
            work.fail(problem)

    def _reopen(self, db: apsw.Connection) -> apsw.Connection:
        """Get a connection that works, however long it takes; meanwhile everything that waits is refused."""
        while True:
            try:
                db.close(True)
                db = self._connect()
                # What the failed handle wrote may be in the page cache and not on the disk. Moving the whole WAL into
                # the file, with its fsync, settles it before anything is written behind it.
                busy, _, _ = row(db, "PRAGMA wal_checkpoint(TRUNCATE)")
                if busy:
                    raise apsw.BusyError("a reader still needs the WAL")
                self._recover(db)
                log.warning("writer_reopened")
                return db
            except (apsw.Error, OSError, MemoryError) as error:
                log.error("reopen_failed", error=str(error))
                with self._ready:
                    waiting = [work for lane in self._lanes for work in lane]
                    self._queued_bytes -= sum(work.bytes for work in waiting)
                    for lane in self._lanes:
                        lane.clear()
                    closing = self._closing
                self._fail(waiting, _problem_of(error))
                if closing:
                    return db
                time.sleep(REOPEN_WAIT_S)


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno == 28):
        return Problem(Code.DISK_FULL, "The disk is full. Nothing of this request was kept.", retry_after_s=60)
    if isinstance(error, Damaged):
        return Problem(Code.UNPROVEN, f"What this must be compared with is damaged ({error}). Run verify.")
    return unavailable("The ledger could not write. Nothing of this request was acknowledged; send it again.")
