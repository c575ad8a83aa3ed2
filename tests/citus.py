"""What Citus takes of a statement on tables that are spread over nodes, as rules that a statement keeps or breaks.

There is no Citus here. The rules are those of its pages on what it supports: one node does anything alone, and has to
be named by its account for it; what all nodes do together is read only, joined by the account, and plain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tallystick.ledger.postgres import locks, server
from tallystick.ledger.postgres.locks import Db

SOURCE = Path(__file__).resolve().parent.parent / "src" / "tallystick" / "ledger" / "postgres"
CITUS = (SOURCE / "sql" / "citus.sql").read_text(encoding="utf-8")
PLACED = re.compile(
    r"SELECT create_(reference|distributed)_table\('(\w+)'(?:, '(\w+)')?(?:, colocate_with => '(\w+)')?\);"
)
TABLE = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|USING)\s+(\w+)")
OF_ONE = re.compile(r"\baccount = %s")
PARAMETER = re.compile(r"%[sb]")
WRITING_CTE = re.compile(r"\bAS\s+(?:NOT\s+)?(?:MATERIALIZED\s+)?\(\s*(?:INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
NOT_EVERYWHERE = re.compile(
    r"\b(?:FOR (?:UPDATE|SHARE)|LATERAL|DISTINCT ON|OVER|UNION|INTERSECT|EXCEPT|WITH|TABLESAMPLE|ROLLUP|CUBE)\b"
    r"|\(\s*SELECT\b"
)
ALONE = f"SELECT pg_advisory_xact_lock(x'{locks.CATALOG}'"
VOLATILE = re.compile(r"\b(?:nextval|setval|give_sequences|now|random|clock_timestamp|pg_\w+)\(")
JOINED = re.compile(r"\bJOIN (\w+)(?: \w+)? (?:USING \(account\b|ON (?:\w+\.)?account = (?:\w+\.)?account\b)")


def placed() -> dict[str, tuple[str, str, str]]:
    """Return what citus.sql says of each table: its kind, the column it goes by, and the table it lies with."""
    return {name: (kind, column, beside) for kind, name, column, beside in PLACED.findall(CITUS)}


def distributed() -> frozenset[str]:
    """Return the tables that are spread by account."""
    return frozenset(name for name, (kind, _, _) in placed().items() if kind == "distributed")


def changes(statement: str) -> bool:
    """Say whether a statement changes or locks rows that are there."""
    return statement.startswith(("UPDATE", "DELETE")) or "FOR UPDATE" in statement


@cache
def faults_of(statement: str) -> tuple[str, ...]:
    """Say which rules a statement breaks, if it is about tables that are spread."""
    plain = " ".join(statement.split())
    spread = [table for table in TABLE.findall(plain) if table in distributed()]
    if not spread:
        return ()
    rules = {
        "writes in a WITH": bool(WRITING_CTE.search(plain)),
        "calls what is volatile": bool(VOLATILE.search(plain)),
        "changes or locks, and names no one account": changes(plain) and not _is_of_one(plain),
        "resolves a conflict, and does not name the account": "ON CONFLICT" in plain
        and "ON CONFLICT (account" not in plain,
        "inserts what it reads from tables": plain.startswith("INSERT") and len(spread) > 1,
        "asks every node for more than a plain answer": _is_read_everywhere(plain) and not _is_plain(plain),
        "joins by something else than the account": _is_read_everywhere(plain) and not _is_joined(plain),
    }
    return tuple(rule for rule, broken in rules.items() if broken)


def _is_of_one(statement: str) -> bool:
    return all(OF_ONE.search(branch) for branch in statement.split(" UNION "))


def _is_read_everywhere(statement: str) -> bool:
    return statement.startswith("SELECT") and not _is_of_one(statement)


def _is_plain(statement: str) -> bool:
    # What comes first in an outer join has to be spread as well.
    return not NOT_EVERYWHERE.search(statement) and not ("LEFT JOIN" in statement and "unnest(" in statement)


def _is_joined(statement: str) -> bool:
    return len(JOINED.findall(statement)) == len(re.findall(r"\bJOIN\b", statement))


class Watch:
    """What a process sends to its database: statements, their faults, and the accounts of each transaction."""

    def __init__(self) -> None:
        self.statements: set[str] = set()
        self.faults: list[str] = []
        self._accounts: dict[int, set[int]] = {}

    def see(self, connection: int, statement: str, parameters: Any) -> None:
        """Take down a statement that is about to be sent."""
        plain = " ".join(statement.split())
        self.statements.add(plain)
        self.faults += [f"{fault}: {plain}" for fault in faults_of(statement)]
        if plain.startswith("BEGIN"):
            self._accounts[connection] = set()
        elif plain.startswith(ALONE):
            # Who changes the catalog, which is every node's, has all of them to itself.
            self._accounts.pop(connection, None)
        elif changes(plain) and connection in self._accounts and (named := OF_ONE.search(plain)):
            accounts = self._accounts[connection]
            accounts.add(int(parameters[len(PARAMETER.findall(plain[: named.start()]))]))
            if len(accounts) > 1:
                self.faults.append(f"a transaction is about the accounts {sorted(accounts)}: {plain}")


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, url: str | None = None) -> Iterator[Watch]:
    """Watch all connections that are opened from now on; whatever broke a rule fails the test at the end.

    With a URL, those to that database.
    """
    watch, true = Watch(), server.connect

    class Watching(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            watch.see(id(self.connection), str(query), params)
            return super().execute(query, params, **options)

    def connect(*arguments: Any) -> Db:
        db = true(*arguments)
        if url in (None, arguments[0]):
            db.cursor_factory = Watching
        return db

    monkeypatch.setattr(server, "connect", connect)
    yield watch
    assert not watch.faults, watch.faults
