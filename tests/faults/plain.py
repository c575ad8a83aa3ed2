"""The harness tried on the simplest promise there is: rows of a plain WAL database, acknowledged after their COMMIT."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import apsw

from tests.faults.images import Image
from tests.faults.vfs import Disk

FILE = "plain.db"
PAYLOAD_BYTES = 3000
"""Long enough for a row to span pages and sectors, so that a torn write is a torn row."""


@dataclass(slots=True)
class Plain:
    """A table of numbered rows; `acked[n]` is the point of the disk's log at which row n was acknowledged."""

    connection: apsw.Connection
    disk: Disk
    acked: dict[int, int] = field(default_factory=dict)

    def insert(self, number: int) -> None:
        self.connection.execute("INSERT INTO row VALUES (?, ?)", (number, payload(number)))
        self.acked[number] = self.disk.point


def payload(number: int) -> bytes:
    return number.to_bytes(4, "big") * (PAYLOAD_BYTES // 4)


def open_plain(folder: Path, disk: Disk, synchronous: str = "FULL") -> Plain:
    """Open the database through the disk, as a ledger would: WAL, no checkpoints but those asked for."""
    connection = apsw.Connection(str(folder / FILE), vfs=disk.name)
    connection.pragma("journal_mode", "WAL")
    connection.pragma("synchronous", synchronous)
    connection.pragma("wal_autocheckpoint", 0)
    connection.execute("CREATE TABLE IF NOT EXISTS row (number INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT")
    return Plain(connection, disk)


def run(plain: Plain, rows: int, checkpoint_every: int = 7) -> None:
    """Insert rows, each in its own transaction, with checkpoints of every kind in between."""
    modes = (apsw.SQLITE_CHECKPOINT_PASSIVE, apsw.SQLITE_CHECKPOINT_RESTART, apsw.SQLITE_CHECKPOINT_TRUNCATE)
    for number in range(1, rows + 1):
        plain.insert(number)
        if number % checkpoint_every == 0:
            plain.connection.wal_checkpoint(mode=modes[number // checkpoint_every % len(modes)])


def flaw(image: Image, acked: dict[int, int], folder: Path) -> str | None:
    """Open an image with the ordinary VFS and say what is wrong with it, if anything."""
    path = image.write(folder) / FILE
    due = {number for number, point in acked.items() if point <= image.point}
    if not path.exists():
        return f"lost the file with {len(due)} rows" if due else None
    try:
        return _flaw_inside(path, due)
    except apsw.Error as error:
        return f"unreadable: {error}"


def _flaw_inside(path: Path, due: set[int]) -> str | None:
    connection = apsw.Connection(str(path))
    try:
        if connection.pragma("integrity_check") != "ok":
            return "corrupt"
        if not connection.execute("SELECT count(*) FROM sqlite_schema").get:
            return f"lost all {len(due)} rows" if due else None
        rows = dict(connection.execute("SELECT number, payload FROM row"))
    finally:
        connection.close()
    if lost := due - rows.keys():
        return f"lost rows {sorted(lost)[:5]}"
    if any(content != payload(number) for number, content in rows.items()):
        return "a row has another row's content"
    return None if sorted(rows) == list(range(1, len(rows) + 1)) else "a later row without an earlier one"
