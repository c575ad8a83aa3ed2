"""The PostgreSQL that tests run on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from psycopg import sql

from tests.ledger.build import Desk, audio
from tests.postgres import ROOT, SHAPE, Databases, run

GONE_S_MAX = 60


def test_every_test_has_an_empty_database(postgres_server: Databases) -> None:
    """What one test left, and whoever it left connected, is not there for the next one."""
    first = postgres_server.take()
    left = psycopg.connect(first)
    left.execute("CREATE TABLE kept (number int)")
    left.commit()
    other = postgres_server.take()
    assert other != first
    postgres_server.give_back(first)
    postgres_server.give_back(other)
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    for _ in range(2):
        with psycopg.connect(postgres_server.take()) as connection:
            assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
    for url in (first, other):
        postgres_server.give_back(url)


def test_every_test_of_a_ledger_has_empty_tables(postgres_server: Databases) -> None:
    """Nothing of what a test kept is there for the next one, nor what it changed of tables and functions."""
    changes = (
        "SELECT 1",
        "DROP INDEX entry_time",
        "ALTER TABLE hold ADD COLUMN more int",
        "CREATE TABLE other (name text)",
        "CREATE OR REPLACE FUNCTION give_sequences(count bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
        "CREATE SCHEMA other CREATE TABLE kept (name text)",
        "ALTER TABLE run DROP CONSTRAINT run_pkey",
        "UPDATE ledger SET value = '99' WHERE name = 'format'",
    )
    first = postgres_server.take_with_tables()
    due = seen(first)
    postgres_server.give_back(first)
    for change, events in zip(changes, (1_500, *(1 for _ in changes)), strict=False):
        url = postgres_server.take_with_tables()
        asyncio.run(kept(url, events))
        assert seen(url) != due
        run(url, change)
        postgres_server.give_back(url)
        assert seen(postgres_server.take_with_tables()) == due
        postgres_server.give_back(url)


async def kept(url: str, events: int) -> None:
    """Keep events, each with a label set of its own."""
    desk = Desk(url)
    async with desk.open() as ledger:
        await desk.send(ledger, *(audio(f"{n}", model=random.Random(n).randbytes(90).hex()) for n in range(events)))


def seen(url: str) -> list[object]:
    """Return all there is in a database but the secret, the shape of its tables, and what is given next."""
    tables = [name for (name,) in run(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]
    rows = [run(url, sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(table))) for table in tables]
    plain = [[row for row in some if row[0] not in ("secret", "created")] for some in rows]
    return [
        *zip(tables, plain, strict=True),
        run(url, SHAPE),
        run(url, "SELECT sequencename, last_value FROM pg_sequences ORDER BY 1"),
    ]


def test_the_server_is_durable(postgres: str) -> None:
    """A ledger that promises durability is tested on a server that waits for its disk."""
    with psycopg.connect(postgres) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == ("on",)


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_server() -> None:
    """The server of a process that was killed ends by itself, and its data is gone."""
    script = "import sys, tests.postgres as p\nwith p.databases() as d: print(d.url, flush=True); sys.stdin.read()"
    environment = {name: value for name, value in os.environ.items() if name != "TALLYSTICK_TEST_POSTGRES_URL"}
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        home = Path(parse_qs(urlsplit(run.stdout.readline().decode().strip()).query)["host"][0])
        server = int((home / "cluster" / "postmaster.pid").read_text().split()[0])
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + GONE_S_MAX
    while home.exists() or _is_alive(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
