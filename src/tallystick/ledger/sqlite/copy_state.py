"""What a data folder says of itself while it is a copy that is not complete."""

from __future__ import annotations

import apsw
import msgspec

from tallystick.errors import LedgerError
from tallystick.ledger.packed.steps import Unfinished
from tallystick.ledger.sqlite.file import rows

_unfinished = msgspec.json.Decoder(Unfinished)


def read(db: apsw.Connection) -> Unfinished | None:
    """Return how far the copy is; None for a ledger like others."""
    found = next(rows(db, "SELECT value FROM meta WHERE name = 'copying'"), None)
    return None if found is None else _unfinished.decode(found[0])


def refuse(db: apsw.Connection, name: str) -> None:
    """Raise LedgerError for a copy that is not complete."""
    if (unfinished := read(db)) is not None:
        raise LedgerError(unfinished.refusal(name))


def write(db: apsw.Connection, state: Unfinished) -> None:
    """Note how far the copy is."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('copying', ?)", (msgspec.json.encode(state).decode(),))


def clear(db: apsw.Connection) -> None:
    """Note that the copy is complete."""
    db.execute("DELETE FROM meta WHERE name = 'copying'")
