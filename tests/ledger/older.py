"""Files of SQLite as earlier versions left them."""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec

from tallystick.ledger.packed.segment import packer
from tallystick.ledger.sqlite import file, series_table


def make_older(folder: Path, form: int) -> None:
    """Make the file of a ledger that is closed one of format 4, 5 or 6, but for columns that are packed by place."""
    db = apsw.Connection(str(folder / file.FILE_NAME))
    with db:
        if db.pragma("user_version") == file.FORMAT:
            index = series_table.load(db)
            db.execute("DELETE FROM series; DROP TABLE series_part")
            for number in range(1, len(index) + 1):
                *key, labels = index.describe(number)
                row = (number, *key, msgspec.json.encode(labels).decode())
                db.execute("INSERT INTO series VALUES (?, ?, ?, ?, ?)", row)
        if form < 6:
            db.execute("DELETE FROM meta WHERE name = 'holds_through'")
        db.execute(f"PRAGMA user_version = {form}")
    db.close()


def change_series(path: Path) -> None:
    """Say of the first series of a file that it has no labels."""
    db = apsw.Connection(str(path))
    index = series_table.load(db)
    with db:
        db.execute("DELETE FROM series_part")
        made = [(number, *index.describe(number)) for number in range(1, len(index) + 1)]
        made[0] = (*made[0][:-1], ())
        db.execute("INSERT INTO series_part VALUES (1, ?)", (packer().compress(msgspec.msgpack.encode(made)),))
    db.close()
