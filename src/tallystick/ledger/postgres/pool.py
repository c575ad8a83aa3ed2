"""Connections, and the threads that use them: what the server turns away is tried again, so often and no more."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import psycopg
import structlog
from psycopg import errors

from tallystick.errors import Code, Problem
from tallystick.ledger.postgres import server
from tallystick.ledger.postgres.locks import Db

log = structlog.get_logger(__name__)
T = TypeVar("T")

TRIES_MAX = 8
RETRY_WAIT_S = 0.01
RETRY_AFTER_S = 1


class Again(Exception):
    """What a transaction went by has changed under it: it has to begin anew."""


BROKEN = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.IdleInTransactionSessionTimeout,
    # Citus says this of a node that it has lost, at COMMIT too.
    errors.InternalError_,
)
"""The connection is of no use any more; what was not committed was rolled back."""
TURNED_AWAY = (Again, errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)
"""The transaction was rolled back in favour of another one: the same again may well succeed."""


def unavailable(detail: str) -> Problem:
    return Problem(Code.UNAVAILABLE, detail, retry_after_s=RETRY_AFTER_S)


def problem_of(error: psycopg.Error) -> Problem:
    """Return what a caller is told of an error of the database."""
    if isinstance(error, errors.DiskFull):
        return Problem(Code.DISK_FULL, "The database's disk is full. Nothing of this was kept.", retry_after_s=60)
    return unavailable("The database did not answer. Nothing of this was acknowledged; send it again.")


class Pool:
    """Some threads, each with a connection of its own, which is replaced when it fails."""

    def __init__(self, url: str, name: str, threads: int) -> None:
        self._url = url
        self._threads = ThreadPoolExecutor(threads, f"tallystick-{name}")
        self._local = threading.local()
        self._all: list[Db] = []
        self._changing = threading.Lock()

    def submit(self, work: Callable[[Db], T]) -> Future[T]:
        """Have a thread do `work` with its connection, again where that is safe; raises Problem in the future."""
        return self._threads.submit(self.run, work)

    def run(self, work: Callable[[Db], T]) -> T:
        """Do `work`, which begins and ends its transactions itself and may be done twice, in this thread."""
        for tries in range(TRIES_MAX):
            try:
                return work(self.connection())
            except TURNED_AWAY as error:
                log.info("transaction_repeated", error=str(error))
                time.sleep(RETRY_WAIT_S * 2**tries * random.random())
            except BROKEN as error:
                self.drop()
                if tries:
                    raise problem_of(error) from error
            except psycopg.ProgrammingError:
                raise
            except psycopg.Error as error:
                log.error("statement_failed", error=str(error))
                raise problem_of(error) from error
        raise unavailable("Others were in the way, again and again. Send it again.")

    def connection(self) -> Db:
        """Return the connection of this thread."""
        db: Db | None = getattr(self._local, "db", None)
        if db is None or db.closed:
            db = self._local.db = server.connect(self._url)
            with self._changing:
                self._all = [*(each for each in self._all if not each.closed), db]
        return db

    def drop(self) -> None:
        """Have done with the connection of this thread."""
        db: Db | None = getattr(self._local, "db", None)
        if db is not None:
            db.close()

    def close(self) -> None:
        """Finish what was begun and close the connections."""
        self._threads.shutdown()
        for db in self._all:
            db.close()
