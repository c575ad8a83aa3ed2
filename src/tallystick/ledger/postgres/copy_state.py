"""What a database says of itself while it is a copy that is not complete."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tallystick.errors import LedgerError
from tallystick.ledger.packed.steps import Unfinished
from tallystick.ledger.postgres import shards
from tallystick.ledger.postgres.locks import Db

# A row of `replayed`, which no replay has, because the epochs of meters begin with 1.
MARK = (0, "")
_unfinished = msgspec.json.Decoder(Unfinished)


def read(db: Db) -> Unfinished | None:
    """Return how far the copy is; None for a ledger like others."""
    found = db.execute("SELECT value FROM ledger WHERE name = 'copying'").fetchall()
    return _unfinished.decode(found[0][0]) if found else None


def refuse(db: Db, name: str) -> None:
    """Raise LedgerError for a copy that is not complete."""
    if (unfinished := read(db)) is not None:
        raise LedgerError(unfinished.refusal(name))


def write(db: Db, state: Unfinished) -> None:
    """Note how far the copy is."""
    db.execute(
        "INSERT INTO ledger VALUES ('copying', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (msgspec.json.encode(state).decode(),),
    )


def clear(db: Db) -> None:
    """Note that the copy is complete."""
    db.execute("DELETE FROM ledger WHERE name = 'copying'")


def marked(db: Db, account: int, which: tuple[int, str] = MARK) -> int:
    """Return up to which step an account has its parts of them; with an epoch and a replay, how far that is."""
    statement = "SELECT through FROM replayed WHERE account = %s AND epoch = %s AND replay = %s"
    found = db.execute(statement, (account, *which)).fetchall()
    return int(found[0][0]) if found else 0


def mark(db: Db, account: int, through: int, which: tuple[int, str] = MARK) -> None:
    """Note up to which step an account has its parts of them; with an epoch and a replay, how far that is."""
    db.execute(
        """INSERT INTO replayed (account, epoch, replay, through, events) VALUES (%s, %s, %s, %s, 0)
        ON CONFLICT (account, epoch, replay) DO UPDATE SET through = excluded.through""",
        (account, *which, through),
    )


def unmark(db: Db, accounts: Sequence[int]) -> None:
    """Forget what was noted of accounts, once all steps are done."""
    which, named = shards.among(accounts)
    db.execute(f"DELETE FROM replayed WHERE account {which} AND epoch = %s AND replay = %s", (named, *MARK))
