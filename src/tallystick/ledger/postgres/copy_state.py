"""What a database says of itself while it is a copy that is not complete."""

from __future__ import annotations

import msgspec

from tallystick.errors import LedgerError
from tallystick.ledger.packed.steps import Unfinished
from tallystick.ledger.postgres import server
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.migrating import is_distributed

_unfinished = msgspec.json.Decoder(Unfinished)


def read(db: Db) -> Unfinished | None:
    """Return how far the copy is; None for a ledger like others."""
    found = db.execute("SELECT value FROM ledger WHERE name = 'copying'").fetchall()
    return _unfinished.decode(found[0][0]) if found else None


def refuse(db: Db, name: str) -> None:
    """Raise LedgerError for a copy that is not complete."""
    if (unfinished := read(db)) is not None:
        raise LedgerError(unfinished.refusal(name))


def refuse_distributed(db: Db, url: str) -> None:
    """Raise LedgerError where tables are spread over nodes: what writes a copy is about many accounts at once."""
    if is_distributed(db):
        raise LedgerError(
            f"The tables of {server.named(url)} are spread over nodes, and nothing can be copied into them yet. Copy "
            "into an empty database that is not spread, and spread that with tallystick migrate --citus."
        )


def write(db: Db, state: Unfinished) -> None:
    """Note how far the copy is."""
    db.execute(
        "INSERT INTO ledger VALUES ('copying', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (msgspec.json.encode(state).decode(),),
    )


def clear(db: Db) -> None:
    """Note that the copy is complete."""
    db.execute("DELETE FROM ledger WHERE name = 'copying'")
