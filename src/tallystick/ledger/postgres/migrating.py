"""Bringing a database to the present format without serving it, and spreading its tables over the nodes of Citus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

import psycopg

from tallystick.errors import LedgerError
from tallystick.ledger.postgres import locks, server
from tallystick.ledger.postgres.locks import Db

APPLICATION = "tallystick-migrate"
CITUS_VERSION_MIN = 12
DISTRIBUTED = "distributed"
"""The name of the row of `ledger` that says by which column tables are spread; there is none where they are not."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """A database as it is now: its format, and whether its tables are spread over nodes."""

    database: str
    format: int
    distributed: bool


def migrate(url: str, now: int, *, citus: bool = False) -> Migrated:
    """Make the tables of a ledger, or bring them to this format, and with `citus` spread them by account.

    Safe to repeat, and from several places at once: one of them does it, the others wait. Raises LedgerError for a
    database that cannot be used, and for one that is served while its tables would have to be spread.
    """
    db = server.opened(url, APPLICATION)
    try:
        server.migrate(db, url, now)
        if citus:
            _distribute(db, url)
        return Migrated(server.named(url), server.FORMAT, is_distributed(db))
    finally:
        db.close()


def is_distributed(db: Db) -> bool:
    """Say whether each account's rows are on one of several nodes, so that every transaction is about one account."""
    return bool(db.execute("SELECT 1 FROM ledger WHERE name = %s", (DISTRIBUTED,)).fetchall())


def refuse_distributed_replica(db: Db, url: str) -> None:
    """Raise LedgerError where a database that is only read has tables on nodes: each would be as of its own moment."""
    if is_distributed(db):
        raise LedgerError(
            f"The tables of {server.named(url)} are spread over nodes, whose replicas are not at one moment: they are "
            "not read. Name the primary in url."
        )


def _distribute(db: Db, url: str) -> None:
    _check(db, url)
    try:
        with locks.transaction(db):
            locks.hold(db, locks.MIGRATING)
            if is_distributed(db):
                return
            _check_idle(db, url)
            db.execute(_citus())
            db.execute("INSERT INTO ledger VALUES (%s, 'account')", (DISTRIBUTED,))
    except psycopg.Error as error:
        raise LedgerError(f"The tables of {server.named(url)} cannot be distributed: {error}.") from error


def _check(db: Db, url: str) -> None:
    """Raise LedgerError for a database without Citus, or with one that has no snapshots on its nodes."""
    if not db.execute("SELECT 1 FROM pg_proc WHERE proname = 'citus_version'").fetchall():
        raise LedgerError(
            f"The database {server.named(url)} does not have Citus. Install it on every node, CREATE EXTENSION citus, "
            "and add the nodes with citus_add_node."
        )
    ((said,),) = db.execute("SELECT citus_version()").fetchall()
    number = re.search(r"\d+", str(said))
    if number is None or int(number[0]) < CITUS_VERSION_MIN:
        raise LedgerError(f"The database {server.named(url)} has {said}; Citus {CITUS_VERSION_MIN} or newer is needed.")


def _check_idle(db: Db, url: str) -> None:
    """Raise LedgerError where processes serve the database: they would go on with batches over several accounts."""
    statement = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    if db.execute(statement, (server.APPLICATION,)).fetchall():
        raise LedgerError(f"The database {server.named(url)} is in use. Stop tallystick everywhere, then try again.")


def _citus() -> Any:
    return resources.files(__package__).joinpath("sql", "citus.sql").read_text(encoding="utf-8")
