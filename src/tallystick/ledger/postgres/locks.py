"""The advisory locks that processes on one database agree on, and how a transaction takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg

Db = psycopg.Connection[tuple[Any, ...]]

MIGRATING: LiteralString = "746c6c7901"
CATALOG: LiteralString = "746c6c7902"
"""Shared by whoever commits events, alone to whoever changes the catalog: each sees a whole one or the next."""
GIVING: LiteralString = "746c6c7903"
"""Shared from the moment at which events get sequences to the end of their transaction; alone to whoever needs to know
that no lower sequence than the last is still to appear."""
REPLAYING: LiteralString = "746c6c7904"
"""Alone to the process that counts kept events anew."""
IDLE_S_MAX = 5
"""How long others wait for what a process has locked that stands still in the midst of a transaction."""


def begin(db: Db) -> None:
    """Begin a transaction, which the server ends, and the connection with it, when its process does not go on."""
    db.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '" + str(IDLE_S_MAX) + "s'")


@contextmanager
def transaction(db: Db) -> Iterator[None]:
    """Do all of the block or nothing, in a transaction that begins like others."""
    begin(db)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if not db.closed and not db.broken:
            db.execute("ROLLBACK")
        raise


def hold(db: Db, lock: LiteralString, *, shared: bool = False) -> None:
    """Take a lock until the end of the transaction, waiting for it."""
    how: LiteralString = "_shared" if shared else ""
    db.execute("SELECT pg_advisory_xact_lock" + how + "(x'" + lock + "'::bigint)")


def try_to_hold(db: Db, lock: LiteralString) -> bool:
    """Take a lock until the end of the transaction if nobody has it."""
    (taken,) = db.execute("SELECT pg_try_advisory_xact_lock(x'" + lock + "'::bigint)").fetchall()[0]
    return bool(taken)
