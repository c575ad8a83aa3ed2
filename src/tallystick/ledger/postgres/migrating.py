"""Bringing a database to the present format without serving it, and spreading its tables over the nodes of Citus."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import psycopg

from tallystick.errors import LedgerError
from tallystick.ledger.postgres import locks, server
from tallystick.ledger.postgres.locks import Db

DISTRIBUTED = "distributed"


@dataclass(frozen=True, slots=True)
class Migrated:
    """A database as it is now: its format, and whether its tables are spread over nodes."""

    database: str
    format: int
    distributed: bool


def migrate(url: str, now: int, *, citus: bool = False) -> Migrated:
    """Make the tables of a ledger, or bring them to this format, and with `citus` spread them by account.

    Safe to repeat, beside processes that serve too, which wait meanwhile. Raises LedgerError for a database that cannot
    be used.
    """
    db = server.opened(url)
    try:
        server.migrate(db, url, now)
        if citus:
            _distribute(db, url)
        return Migrated(server.named(url), server.FORMAT, is_distributed(db))
    finally:
        db.close()


def is_distributed(db: Db) -> bool:
    """Say whether each account's rows are on one of several nodes, so that a transaction had better be about one."""
    return bool(db.execute("SELECT 1 FROM ledger WHERE name = %s", (DISTRIBUTED,)).fetchall())


def _distribute(db: Db, url: str) -> None:
    if not db.execute("SELECT 1 FROM pg_extension WHERE extname = 'citus'").fetchall():
        raise LedgerError(
            f"The database {server.named(url)} does not have Citus. Install it on every node, CREATE EXTENSION citus, "
            "and add the nodes with citus_add_node."
        )
    try:
        with db.transaction():
            locks.hold(db, locks.MIGRATING)
            if not is_distributed(db):
                db.execute(_citus())
                db.execute("INSERT INTO ledger VALUES (%s, 'account')", (DISTRIBUTED,))
    except psycopg.Error as error:
        raise LedgerError(f"The tables of {server.named(url)} cannot be distributed: {error}.") from error


def _citus() -> Any:
    return resources.files(__package__).joinpath("sql", "citus.sql").read_text(encoding="utf-8")
