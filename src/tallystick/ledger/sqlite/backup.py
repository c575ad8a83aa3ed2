"""A ledger's file copied while it is in use, and what a copy says of itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import apsw

from tallystick.errors import Code, LedgerError, Problem
from tallystick.ledger.sqlite.file import APPLICATION_ID, FILE_NAME, FORMAT

COPY_NAME = "backup.partial"


def copied(folder: Path, connect: Callable[[], apsw.Connection], disk_free_bytes_min: int) -> IO[bytes]:
    """Copy the ledger as it is at this moment; return the copy, a file without a name that is gone once it is closed.

    It is one read transaction, so commits go on and none of them is in it by half. Raises Problem DISK_FULL where the
    copy would leave too little space.
    """
    size = sum(path.stat().st_size for path in folder.glob(f"{FILE_NAME}*"))
    stats = os.statvfs(folder)
    if stats.f_bavail * stats.f_frsize - size < disk_free_bytes_min:
        raise Problem(Code.DISK_FULL, f"A backup needs {size} bytes beside the ledger for a while. Make room.")
    target = folder / COPY_NAME
    # What a process that was killed left of an earlier one.
    target.unlink(missing_ok=True)
    db = connect()
    try:
        # The connection may write nothing to the ledger; this writes to another file.
        db.execute("PRAGMA query_only = OFF")
        db.execute("VACUUM INTO ?", (str(target),))
        return target.open("rb")
    finally:
        db.close()
        target.unlink(missing_ok=True)


def check(path: Path) -> tuple[int, str]:
    """Return the last entry of a copy's log and its link, in hex; LedgerError if it is none that this version reads."""
    try:
        db = apsw.Connection(
            f"{path.resolve().as_uri()}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
        with db:
            is_ours = db.pragma("application_id") == APPLICATION_ID
            form = int(db.pragma("user_version"))
            last = db.execute("SELECT entry, link FROM log ORDER BY entry DESC LIMIT 1").fetchone() if is_ours else None
        db.close()
    except apsw.Error as error:
        raise LedgerError(f"{path} is no backup of a ledger: {error}.") from None
    if not is_ours or last is None:
        raise LedgerError(f"{path} is no backup of a ledger.")
    if form > FORMAT:
        raise LedgerError(f"{path} has format {form}; this version reads up to {FORMAT}. Install a newer tallystick.")
    return int(last[0]), bytes(last[1]).hex()
