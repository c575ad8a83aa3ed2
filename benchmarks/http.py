"""(c) The same bodies over HTTP: a real server process, kept-alive connections, the client on the same machine."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import traffic


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Start `tallystick serve` on a free port; yield host, port and an operator key; stop it."""
    key = secrets.token_urlsafe(32)
    command = [sys.executable, "-m", "tallystick", "serve", "--port", "0", "--data", str(folder)]
    environment = {**os.environ, "TALLYSTICK_OPERATOR_KEY": key}
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            if not ready:
                log.seek(0)
                raise RuntimeError(f"The server did not start: {log.read()}")
            address = urlsplit(json.loads(ready)["url"])
            yield address.hostname or "", address.port or 0, key
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def post(connection: http.client.HTTPConnection, key: str, body: bytes) -> int:
    """Send one body and return how many events were accepted."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": traffic.CONTENT_TYPE}
    connection.request("POST", "/v1/events", body, headers)
    reply = connection.getresponse()
    answer = reply.read()
    if reply.status != 200:
        raise RuntimeError(f"The server answered {reply.status}: {answer[:500]!r}")
    return int(json.loads(answer)["accepted"])


def worker(host: str, port: int, key: str, bodies: Iterator[bytes], lock: threading.Lock) -> int:
    """Send bodies over one connection until none are left."""
    connection = http.client.HTTPConnection(host, port, timeout=120)
    count = 0
    while True:
        with lock:
            body = next(bodies, None)
        if body is None:
            connection.close()
            return count
        count += post(connection, key, body)


def events_per_s(path: Path, in_flight: int) -> float:
    """Send a file of bodies to a server with an empty ledger and return the rate."""
    bodies = list(traffic.read(path))
    queue, lock = iter(bodies), threading.Lock()
    with (
        tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder,
        server(Path(folder) / "data") as (host, port, key),
        ThreadPoolExecutor(in_flight) as pool,
    ):
        started = time.perf_counter()
        work = [pool.submit(worker, host, port, key, queue, lock) for _ in range(in_flight)]
        return sum(job.result() for job in work) / (time.perf_counter() - started)
