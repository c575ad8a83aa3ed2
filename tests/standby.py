"""A private primary and hot standbys that stream from it, for tests of what reads a replica."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from psycopg import sql

from benchmarks.postgres import SETTINGS, initialise, made, place, running, unprivileged
from tests.postgres import SMALL, run

WAIT_S_MAX = 60
OURS = {
    **SETTINGS,
    **SMALL,
    "shared_buffers": "32MB",
    "max_connections": "60",
    "wal_receiver_status_interval": "1",
    "allow_in_place_tablespaces": "on",
}


@dataclass(slots=True)
class Primary:
    """A server, and what standbys of it are made with."""

    url: str
    root: Path
    programs: Path
    _made: int = 0

    def database(self) -> str:
        """Make an empty database; returns its name."""
        name, self._made = f"test_{self._made}", self._made + 1
        run(self.url, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return name

    @contextmanager
    def standby(self) -> Iterator[Standby]:
        """Start a hot standby of the whole server."""
        name = f"standby-{self._made}"
        self._made += 1
        home = made(self.root, name)
        copy = f"{self.programs}/pg_basebackup -h {self.root}/home -U bench -D {home}/cluster -R -c fast --no-sync"
        subprocess.run(copy.split(), check=True, cwd=home, **unprivileged())
        with running(self.programs, home, OURS) as url:
            yield Standby(self, url, home)


@dataclass(slots=True)
class Standby:
    """A hot standby; `url` is that of its database `postgres`, and `home` the folder with its log."""

    primary: Primary
    url: str
    home: Path

    def caught_up(self) -> None:
        """Wait until all that the primary has written is replayed."""
        ((end,),) = run(self.primary.url, "SELECT pg_current_wal_insert_lsn()::text")
        until(lambda: run(self.url, f"SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn") == [(True,)])

    def pause(self) -> None:
        """Replay nothing more."""
        run(self.url, "SELECT pg_wal_replay_pause()")
        until(lambda: run(self.url, "SELECT pg_get_wal_replay_pause_state()") == [("paused",)])

    def resume(self) -> None:
        """Replay what came meanwhile, and go on."""
        run(self.url, "SELECT pg_wal_replay_resume()")

    def promote(self) -> None:
        """Be a primary from now on."""
        assert run(self.url, f"SELECT pg_promote(true, {WAIT_S_MAX})") == [(True,)]


def named(url: str, database: str) -> str:
    """Return the URL of another database of a server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def until(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def primary() -> Iterator[Primary]:
    """Start a primary; at the end nothing of it is left."""
    given = os.environ.get("TALLYSTICK_TEST_POSTGRES_PROGRAMS")
    with place(Path(given) if given else None) as (root, programs):
        home = made(root, "home")
        initialise(programs, home)
        with running(programs, home, OURS) as url:
            yield Primary(url, root, programs)
