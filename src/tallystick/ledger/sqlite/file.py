"""The file: its schema and format version, how connections are opened, and the lock that keeps it to one process."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import apsw

from tallystick.errors import LedgerError
from tallystick.ledger.packed.segment import Damaged

SQLITE_VERSION_MIN = (3, 51, 3)
"""Older releases can lose committed transactions when a WAL is reset (the WAL-reset bug)."""
WRITER_CACHE_KIB, READER_CACHE_KIB = 8 * 1024, 2 * 1024
"""Private to each connection, and there are seven; what they read again and again is in the system's cache as well."""
APPLICATION_ID = 0x746C6C79  # "tlly"
FILE_NAME = "ledger.db"
LOCK_NAME = "lock"

EVENTS, CATALOG, ERASED, CORRECTED, ADMISSION = 1, 2, 3, 4, 5
"""Kinds of log entries; the third and fourth are read as what they are from format 1 on, and written by later versions.

The fifth is there from format 4 on.
"""
CATALOG_ENTRIES = f"kind = {CATALOG}"
"""How to ask for catalog entries: in these words SQLite finds them by log_catalog, in others it reads the whole log."""

MIGRATIONS = (
    f"""
    PRAGMA application_id = {APPLICATION_ID};
    CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE log (
        entry INTEGER PRIMARY KEY, kind INTEGER NOT NULL, first INTEGER, count INTEGER NOT NULL,
        recorded INTEGER NOT NULL, time_min INTEGER, time_max INTEGER,
        header BLOB NOT NULL, columns BLOB, link BLOB NOT NULL) STRICT;
    CREATE INDEX log_first ON log (first) WHERE kind = {EVENTS};
    CREATE INDEX log_time ON log (time_min, time_max) WHERE kind = {EVENTS};
    CREATE INDEX log_other ON log (entry) WHERE kind <> {EVENTS};
    CREATE TABLE frame (first INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE series (
        number INTEGER PRIMARY KEY, account INTEGER NOT NULL, meter TEXT NOT NULL, meter_version INTEGER NOT NULL,
        labels TEXT NOT NULL) STRICT;
    CREATE TABLE identity_run (
        run INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, entries INTEGER NOT NULL) STRICT;
    CREATE TABLE identity_chunk (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE rollup (
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, meter TEXT NOT NULL, grain INTEGER NOT NULL,
        period INTEGER NOT NULL, cells INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE INDEX rollup_at ON rollup (meter, account, grain, period);
    CREATE TABLE folded (account INTEGER PRIMARY KEY, through INTEGER NOT NULL) STRICT;
    INSERT INTO folded VALUES (0, 0);
    """,
    "CREATE TABLE key_use (id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
    # Rollups have the latest posting too, and are folded through an entry of the log: they are folded again from it.
    """
    DELETE FROM rollup;
    DELETE FROM folded;
    INSERT INTO folded VALUES (0, 0);
    INSERT INTO meta SELECT 'meters_before_log', 1 WHERE EXISTS (SELECT 1 FROM log);
    CREATE TABLE resource (
        account INTEGER NOT NULL, space TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
        time INTEGER, source TEXT, event TEXT, ends TEXT NOT NULL, state TEXT NOT NULL, newest INTEGER NOT NULL,
        PRIMARY KEY (account, space, kind, id)) STRICT, WITHOUT ROWID;
    CREATE INDEX resource_newest ON resource (account, space, newest);
    CREATE TABLE space (
        account INTEGER NOT NULL, space TEXT NOT NULL, newest INTEGER, closes TEXT NOT NULL, closed_in TEXT NOT NULL,
        made_in TEXT NOT NULL, live TEXT NOT NULL, closed TEXT NOT NULL,
        PRIMARY KEY (account, space)) STRICT, WITHOUT ROWID;
    CREATE TABLE counted_once (
        account INTEGER NOT NULL, space TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, meter TEXT NOT NULL,
        epoch INTEGER NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (account, space, kind, id, meter, epoch)) STRICT, WITHOUT ROWID;
    CREATE TABLE record (
        account INTEGER NOT NULL, meter TEXT NOT NULL, epoch INTEGER NOT NULL, time INTEGER NOT NULL,
        source TEXT NOT NULL, event TEXT NOT NULL, space TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
        state TEXT NOT NULL, PRIMARY KEY (account, meter, epoch, time, source, event)) STRICT, WITHOUT ROWID;
    """,
    # Holds make entries of the log that are neither events nor catalog, and many of them.
    f"""
    DROP INDEX log_other;
    CREATE INDEX log_catalog ON log (entry) WHERE kind = {CATALOG};
    CREATE INDEX log_corrected ON log (time_min, time_max) WHERE kind = {CORRECTED};
    CREATE TABLE hold (
        account INTEGER NOT NULL, id TEXT NOT NULL, ends INTEGER, body TEXT NOT NULL,
        PRIMARY KEY (account, id)) STRICT, WITHOUT ROWID;
    CREATE INDEX hold_id ON hold (id);
    CREATE INDEX hold_ends ON hold (ends) WHERE ends IS NOT NULL;
    CREATE TABLE crossing (
        id INTEGER PRIMARY KEY, limit_id TEXT NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE INDEX crossing_of ON crossing (limit_id, id);
    """,
    # Columns of many postings are packed by place from here on, which earlier versions cannot read; tables stay.
    "",
    # Rows of holds are written behind the log from here on; all that are there tell what it says.
    """
    INSERT INTO meta
    SELECT 'holds_through', json_array(last, last, 0, '') FROM (SELECT coalesce(max(entry), 0) last FROM log);
    """,
    # Series that are new with one entry are one row from here on; `series` keeps what was written before.
    "CREATE TABLE series_part (first INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;",
)
"""Statements that take the file from format i to i + 1; a new file is at format 0. Never edit one that was released."""
FORMAT = len(MIGRATIONS)


class Lock:
    """Keeps a folder to one process; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = (folder / LOCK_NAME).open("a+")
        except OSError as error:
            raise LedgerError(f"{folder} cannot be used as a data folder: {error.strerror}. Name another.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise LedgerError(
                f"{folder} is in use by process {holder}. Stop that server, or reach it with --server URL --key KEY."
            ) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def check_sqlite(version: tuple[int, ...]) -> None:
    """Refuse a SQLite library with the WAL-reset bug."""
    if version < SQLITE_VERSION_MIN:
        have, need = (".".join(map(str, v)) for v in (version, SQLITE_VERSION_MIN))
        raise LedgerError(f"SQLite {have} can lose committed data; install an apsw with SQLite {need} or newer.")


def sqlite_version() -> tuple[int, ...]:
    return tuple(map(int, apsw.sqlite_lib_version().split(".")))


def connect(folder: Path, *, vfs: str | None = None, writes: bool = False) -> apsw.Connection:
    """Open a connection to a file that `prepare` has made ready."""
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if writes else 0)
    db = apsw.Connection(str(folder / FILE_NAME), flags=flags, vfs=vfs)
    db.set_busy_timeout(5000)
    db.execute(f"PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{WRITER_CACHE_KIB if writes else READER_CACHE_KIB}")
    if writes:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("PRAGMA synchronous = FULL")
    else:
        db.execute("PRAGMA query_only = ON")
    return db


def rows(db: apsw.Connection, statement: str, bindings: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
    """Run one statement; what its columns hold is the caller's to know: tables are STRICT."""
    return db.execute(statement, tuple(bindings))


def row(db: apsw.Connection, statement: str, bindings: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Run one statement that gives one row; Damaged tells of a file that lacks what it always has."""
    found = db.execute(statement, tuple(bindings)).fetchone()
    if found is None:
        raise Damaged(f"nothing found by: {statement}")
    return tuple(found)


def secret(db: apsw.Connection) -> int:
    """Return the key of the identity fingerprints."""
    return int(row(db, "SELECT value FROM meta WHERE name = 'secret'")[0])


def prepare(db: apsw.Connection, folder: Path) -> None:
    """Bring the file to this format, one migration after the other, each in a transaction of its own."""
    have = int(db.pragma("user_version"))
    if have > FORMAT:
        raise LedgerError(f"{folder} has format {have}; this version reads up to {FORMAT}. Install a newer tallystick.")
    if have > 0 and db.pragma("application_id") != APPLICATION_ID:
        raise LedgerError(f"{folder / FILE_NAME} is a database, but not tallystick's. Name another data folder.")
    for step in range(have, FORMAT):
        with db:
            db.execute(MIGRATIONS[step])
            db.execute(f"PRAGMA user_version = {step + 1}")
            if step == 0:
                db.execute("INSERT INTO meta VALUES ('secret', ?)", (secrets.randbits(63),))
