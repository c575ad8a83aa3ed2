"""The database: how it is reached, what it has to be like, and its schema, made by whoever is first."""

from __future__ import annotations

import secrets
from importlib import resources
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.adapt import Buffer, Dumper
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format

from tallystick.errors import LedgerError
from tallystick.ledger.postgres import locks
from tallystick.ledger.postgres.locks import Db

VERSION_MIN = 15
FORMAT = 2
"""Format 2 has the tables of format 1, and columns that are packed by place, which earlier versions cannot read."""
CONNECT_S_MAX = 10
APPLICATION = "tallystick"
SHOWN = ("fsync", "synchronous_commit", "server_encoding", "transaction_read_only")
INT8, INT8_ARRAY = 20, 1016

_ITEM = np.dtype([("length", ">i4"), ("value", ">i8")])


class Int8ArrayDumper(Dumper):
    """Sends a column of int64 as it is, in binary: a batch has tens of thousands of them."""

    format = Format.BINARY
    oid = INT8_ARRAY

    def dump(self, obj: NDArray[np.int64]) -> Buffer:
        items = np.empty(len(obj), _ITEM)
        items["length"], items["value"] = 8, obj
        dimensions = 1 if len(obj) else 0
        head = np.array([dimensions, 0, INT8, len(obj), 1][: 3 + 2 * dimensions], ">i4")
        return head.tobytes() + items.tobytes()


def connect(url: str, application: str = APPLICATION) -> Db:
    """Open a connection, in autocommit; raises psycopg.Error where there is none to be had."""
    db: Db = psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=CONNECT_S_MAX,
        application_name=application,
        # A pooler that gives each transaction another connection knows nothing of what was prepared on this one.
        prepare_threshold=None,
    )
    db.adapters.register_dumper(np.ndarray, Int8ArrayDumper)
    return db


def named(url: str) -> str:
    """Return how a database is called in messages: without its password."""
    parts = conninfo_to_dict(url)
    return f"{parts.get('dbname', '')!r} at {parts.get('host') or parts.get('hostaddr') or 'localhost'}"


def opened(url: str, application: str = APPLICATION, *, may_be_read_only: bool = False) -> Db:
    """Connect to a database that can be used; raises LedgerError with what is wrong with it."""
    try:
        db = connect(url, application)
    except psycopg.Error as error:
        raise LedgerError(f"The database {named(url)} cannot be reached: {_first_line(error)}. Check url.") from error
    try:
        _check(db, url, may_be_read_only=may_be_read_only)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: Db, url: str, *, may_be_read_only: bool) -> None:
    version = db.info.server_version // 10_000
    if version < VERSION_MIN:
        raise LedgerError(f"The database {named(url)} is PostgreSQL {version}; {VERSION_MIN} or newer is needed.")
    try:
        # Two statements in one transaction: a pooler that takes them apart cannot be used.
        with db.transaction():
            (begun,) = _row(db, "SELECT transaction_timestamp()")
            shown = {name: _row(db, f"SHOW {name}")[0] for name in SHOWN}
            if _row(db, "SELECT transaction_timestamp()") != (begun,):
                raise psycopg.OperationalError("two statements were in two transactions")
    except psycopg.Error as error:
        raise LedgerError(
            f"The database {named(url)} does not run transactions ({_first_line(error)}). A pooler such as pgbouncer "
            "must pool by transaction or by session, not by statement."
        ) from error
    if shown["server_encoding"] != "UTF8":
        raise LedgerError(f"The database {named(url)} has the encoding {shown['server_encoding']}; UTF8 is needed.")
    if shown["transaction_read_only"] == "on":
        if not may_be_read_only:
            raise LedgerError(f"The database {named(url)} is read-only, perhaps a replica. Name the primary in url.")
        return
    for name in ("fsync", "synchronous_commit"):
        if shown[name] == "off":
            raise LedgerError(
                f"The database {named(url)} has {name} = off: it could lose what was acknowledged. Turn it on."
            )


def is_read_only(db: Db) -> bool:
    """Say whether a database takes no writes: a replica, or one whose transactions are read-only."""
    return bool(_row(db, "SHOW transaction_read_only")[0] == "on")


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0].rstrip(".")


def _row(db: Db, statement: Any) -> tuple[Any, ...]:
    return db.execute(statement).fetchall()[0]


def migrate(db: Db, url: str, created: int) -> None:
    """Bring the database to this format; of several processes that start at once one does it, the others wait."""
    if format_of(db) == FORMAT:
        return
    with db.transaction():
        locks.hold(db, locks.MIGRATING)
        have = format_of(db)
        _refuse_newer(have, url)
        if have == 0:
            db.execute(_statements("schema"))
            told = {"format": FORMAT, "secret": secrets.randbits(63), "created": created}
            names, values = list(told), [str(value) for value in told.values()]
            db.execute("INSERT INTO ledger SELECT * FROM unnest(%s::text[], %s::text[])", (names, values))
        else:
            db.execute("UPDATE ledger SET value = %s WHERE name = 'format'", (str(FORMAT),))


def check_format(db: Db, url: str) -> None:
    """Raise LedgerError unless a database that cannot be changed has a ledger of this format."""
    have = format_of(db)
    _refuse_newer(have, url)
    if have < FORMAT:
        lacks = f"a ledger of format {FORMAT}" if have else "a ledger"
        raise LedgerError(
            f"The database {named(url)} is read-only, perhaps a replica, and does not have {lacks} yet. Run tallystick "
            "migrate on the primary first."
        )


def _refuse_newer(have: int, url: str) -> None:
    if have > FORMAT:
        raise LedgerError(
            f"The database {named(url)} has format {have}; this version reads up to {FORMAT}. "
            "Install a newer tallystick."
        )


def _statements(name: str) -> Any:
    return resources.files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def format_of(db: Db) -> int:
    """Return the format of a database; 0 where there is no ledger yet."""
    # Asked of the catalog's rows: names that were looked up before may be remembered as unknown.
    (there,) = _row(db, "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'ledger'")
    return int(_row(db, "SELECT value FROM ledger WHERE name = 'format'")[0]) if there else 0


def secret(db: Db) -> int:
    """Return the key of the identity fingerprints."""
    return int(_row(db, "SELECT value FROM ledger WHERE name = 'secret'")[0])
