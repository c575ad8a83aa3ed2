"""The ledger behind pgbouncer, which gives each transaction another connection, or is refused with a reason."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from benchmarks.postgres import unprivileged
from tallystick.errors import LedgerError
from tallystick.ledger.open import open_ledger
from tallystick.settings import Settings
from tests.ledger.build import Desk, StillClock, asynchronous, audio, total
from tests.ledger.script import check

START_S_MAX = 30
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


@contextmanager
def pooled(url: str, mode: str, folder: Path) -> Iterator[str]:
    """Run a pooler before a database; the URL behind which it is."""
    parts = conninfo_to_dict(url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    target = " ".join(f"{name}={parts[name]}" for name in ("host", "port", "user", "password") if name in parts)
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": mode,
        "default_pool_size": 6,
    }
    file = folder / "pgbouncer.ini"
    lines = [f"{name} = {value}" for name, value in settings.items()]
    file.write_text("\n".join([f"[databases]\n* = {target}", "[pgbouncer]", *lines, ""]), encoding="utf-8")
    # Its user may not enter the folder of the test.
    with (
        file.open("rb") as readable,
        subprocess.Popen(
            [str(PROGRAM), f"/dev/fd/{readable.fileno()}"],
            pass_fds=[readable.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **unprivileged(),
        ) as process,
    ):
        try:
            there = f"postgresql://{parts['user']}@127.0.0.1:{port}/{parts['dbname']}"
            _wait(there)
            yield there
        finally:
            process.kill()


def _wait(url: str) -> None:
    deadline = time.monotonic() + START_S_MAX
    while True:
        try:
            psycopg.connect(url, autocommit=True).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_that_keeps_transactions_whole_can_be_used(postgres: str, tmp_path: Path, mode: str) -> None:
    """Two processes over fewer connections than they have: each event once, limits kept, and the proof agrees."""

    async def work(desk: Desk) -> None:
        async with desk.open() as one, desk.open() as other:
            assert await desk.send(one, audio("0", account="globex")) == ["accepted"]
            sending = (desk.send((one, other)[n % 2], audio(f"{n % 20}", account="globex")) for n in range(40))
            said = [verdict for (verdict,) in await asyncio.gather(*sending)]
            assert (said.count("accepted"), said.count("duplicate")) == (19, 21)
            assert (await total(other)).count == 20
            assert list((await one.verify()).faults) == []

    with pooled(postgres, mode, tmp_path) as url:
        check(Desk(url), "limit 3 1d\nhold a 2 -> allowed 1\nhold b 2 -> denied 1\nsettle a 1 -> allowed 2")
        asyncio.run(work(Desk(url)))


@asynchronous
async def test_a_pooler_that_takes_transactions_apart_is_refused(postgres: str, tmp_path: Path) -> None:
    """The reason names the mode that is needed."""
    says = "by transaction or by session, not by statement"
    with pooled(postgres, "statement", tmp_path) as url, pytest.raises(LedgerError, match=says):
        await open_ledger(url, Settings(), StillClock())
