"""The PostgreSQL that tests run on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from tests.postgres import ROOT, Databases

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
