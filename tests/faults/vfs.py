"""A disk under SQLite that remembers every operation on its files and fails on command.

Shared memory and locks are the real ones of the unix VFS below; a crash forgets both anyway. Nothing is really synced:
what a sync is worth is decided when crash images are built from the log (images.py).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import apsw

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes handed to a file; they may be lost, wholly or in part, until it is synced."""

    file: str
    offset: int
    data: bytes
    handle: int = 0


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file was cut to this size."""

    file: str
    size: int


@dataclass(frozen=True, slots=True)
class Delete:
    """A file was removed; for good at once if its folder was synced with it."""

    file: str
    durable: bool


@dataclass(frozen=True, slots=True)
class Sync:
    """What was logged for this file before `upto` is durable now, or lost for all anyone knows when it failed.

    With `folder` the names in its folder are durable too: files created are there, files deleted are gone.
    """

    file: str
    upto: int
    handle: int
    failed: bool = False
    folder: bool = False


Op = Write | Truncate | Delete | Sync


class Call(StrEnum):
    """The I/O calls that can fail."""

    OPEN = "open"
    READ = "read"
    WRITE = "write"
    SYNC = "sync"
    TRUNCATE = "truncate"
    DELETE = "delete"


class Failure(StrEnum):
    """How a call fails: by an I/O error, for want of space, or halfway."""

    EIO = "eio"
    ENOSPC = "enospc"
    SHORT = "short"


CALLS_THAT_FAIL = {
    Failure.EIO: frozenset(Call),
    # Delayed allocation: the missing space may be noticed as late as at the sync.
    Failure.ENOSPC: frozenset({Call.WRITE, Call.SYNC}),
    Failure.SHORT: frozenset({Call.READ, Call.WRITE}),
}

RESULT = {
    Call.OPEN: apsw.SQLITE_CANTOPEN,
    Call.READ: apsw.SQLITE_IOERR_READ,
    Call.WRITE: apsw.SQLITE_IOERR_WRITE,
    Call.SYNC: apsw.SQLITE_IOERR_FSYNC,
    Call.TRUNCATE: apsw.SQLITE_IOERR_TRUNCATE,
    Call.DELETE: apsw.SQLITE_IOERR_DELETE,
}


@dataclass(frozen=True, slots=True)
class Trap:
    """Fail the `at`-th call (from 1) among those that can fail so, and with `forever` all later ones too."""

    failure: Failure
    at: int
    forever: bool = False
    calls: frozenset[Call] = frozenset(Call)

    def concerns(self, call: Call) -> bool:
        return call in self.calls and call in CALLS_THAT_FAIL[self.failure]

    def closes_on(self, count: int) -> bool:
        return count == self.at or (self.forever and count > self.at)


JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL

_numbers = itertools.count(1)


@dataclass(slots=True)
class _Counter:
    trap: Trap | None = None
    count: int = 0
    sprung: int = 0
    sprung_at: int | None = None


def result_of(failure: Failure, call: Call) -> int:
    """Return the result code by which SQLite's own unix VFS reports this failure of this call."""
    if call is Call.WRITE and failure is not Failure.EIO:
        return apsw.SQLITE_FULL
    return RESULT[call]


def error_of(failure: Failure, call: Call) -> Exception:
    """Return the exception that has this result code and says what happened."""
    error = apsw.exception_for(result_of(failure, call))
    error.args = (f"{failure} on {call}",)
    return error


def _path(name: str | apsw.URIFilename) -> str:
    return name if isinstance(name, str) else name.filename()


@dataclass(slots=True)
class _Log:
    ops: list[Op] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def append(self, op: Op) -> None:
        with self.lock:
            self.ops.append(op)


def retried(log: Sequence[Op]) -> list[str]:
    """Say which handles wrote to a WAL again after a sync of theirs had failed: what they wrote before may be lost."""
    failed: dict[int, int] = {}
    found = []
    for index, op in enumerate(log):
        if isinstance(op, Sync) and op.failed and op.file.endswith("-wal"):
            failed.setdefault(op.handle, index)
        elif isinstance(op, Write) and op.handle in failed:
            found.append(f"handle {op.handle} wrote at {index}, after its sync at {failed.pop(op.handle)} had failed")
    return found


def honest(file: str) -> bool:
    """Tell no lies about any file."""
    return False


class Disk(apsw.VFS):
    """A registered VFS; `name` is what a connection passes as `vfs`. Use it as a context manager.

    `lies` says for which files a sync is reported as done and worth nothing.
    """

    def __init__(self, lies: Callable[[str], bool] = honest) -> None:
        self.name = f"disk{next(_numbers)}"
        self.lies = lies
        self._log = _Log()
        self._counter = _Counter()
        super().__init__(self.name, "unix")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.unregister()

    @property
    def log(self) -> list[Op]:
        """Every operation so far, in the order in which they were done."""
        return self._log.ops

    @property
    def point(self) -> int:
        """How far the log has come: a crash at this point happens after all operations before it."""
        return len(self._log.ops)

    @property
    def sprung(self) -> int:
        """How many calls the trap has failed."""
        return self._counter.sprung

    @property
    def sprung_at(self) -> int | None:
        """The point of the log at which the trap first failed a call."""
        return self._counter.sprung_at

    @property
    def calls(self) -> int:
        """How many calls the trap has counted."""
        return self._counter.count

    def arm(self, trap: Trap | None) -> None:
        """Set a trap, counting calls from here; None takes it away."""
        self._counter = _Counter(trap)

    def mend(self) -> None:
        """Let every call succeed from here on; what the trap has counted stays readable."""
        self._counter.trap = None

    def failure(self, call: Call) -> Failure | None:
        """Count a call that is about to be made; return how it is to fail, if it is."""
        counter, trap = self._counter, self._counter.trap
        if trap is None or not trap.concerns(call):
            return None
        with self._log.lock:
            counter.count += 1
            if not trap.closes_on(counter.count):
                return None
            counter.sprung += 1
            if counter.sprung_at is None:
                counter.sprung_at = len(self._log.ops)
        return trap.failure

    def check(self, call: Call) -> None:
        """Raise what SQLite would be told if this call is to fail."""
        if failure := self.failure(call):
            raise error_of(failure, call)

    def record(self, op: Op) -> None:
        """Add a finished operation to the log."""
        self._log.append(op)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        self.check(Call.OPEN)
        # A file without a name is a temporary one: a crash takes it anyway.
        return apsw.VFSFile("unix", None, flags) if name is None else File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.check(Call.DELETE)
        super().xDelete(filename, syncdir)
        self.record(Delete(Path(filename).name, syncdir))

    def excepthook(
        self, etype: type[BaseException] | None, evalue: BaseException | None, etraceback: TracebackType | None
    ) -> bool:
        """Swallow what has no caller to go to: SQLite has had the result code."""
        return True


class File(apsw.VFSFile):
    """One handle on a file of a `Disk`."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename, flags: list[int]) -> None:
        self._disk = disk
        self._name = Path(_path(name)).name
        self._handle = next(_numbers)
        # As in SQLite's unix VFS: a journal or WAL that may be new takes its folder along at its first sync.
        self._folder_due = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & JOURNALS)
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        # A read that stops halfway is read on by SQLite's unix VFS, meets the error there, and fails as a whole: fewer
        # bytes without an error are the end of a file, which no failing call makes of the middle.
        self._disk.check(Call.READ)
        return super().xRead(amount, offset)

    def xWrite(self, data: Buffer, offset: int) -> None:
        failure = self._disk.failure(Call.WRITE)
        written = b"" if failure in (Failure.EIO, Failure.ENOSPC) else bytes(data)
        if failure is Failure.SHORT:
            written = written[: len(written) // 2]
        if written:
            super().xWrite(written, offset)
            self._disk.record(Write(self._name, offset, written, self._handle))
        if failure:
            raise error_of(failure, Call.WRITE)

    def xTruncate(self, newsize: int) -> None:
        self._disk.check(Call.TRUNCATE)
        super().xTruncate(newsize)
        self._disk.record(Truncate(self._name, newsize))

    def xSync(self, flags: int) -> None:
        upto = self._disk.point
        failure = self._disk.failure(Call.SYNC)
        if failure or not self._disk.lies(self._name):
            self._disk.record(
                Sync(self._name, upto, self._handle, failure is not None, self._folder_due and not failure)
            )
        if failure:
            raise error_of(failure, Call.SYNC)
        self._folder_due = False

    def excepthook(
        self, etype: type[BaseException] | None, evalue: BaseException | None, etraceback: TracebackType | None
    ) -> bool:
        """Swallow what has no caller to go to: SQLite has had the result code."""
        return True
