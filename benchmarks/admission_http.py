"""(j) Reserve and settle over HTTP: a real server process, closed loops, and an open one."""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from benchmarks import admission, http, traffic

CONNECTIONS = 64
RATE_PER_S = 300
LIMIT = {"account": admission.ACCOUNT, "meter": "audio", "period": "month", "amount": "1000000000000"}
HOLD = {"account": admission.ACCOUNT, "meter": "audio", "labels": {"operation": "transcribe"}, "quantity": "1"}


class Connection:
    """One kept-alive connection, as little of HTTP as is needed."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._address = host, port
        self._head = f"Host: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, expected: int) -> None:
        """Send a body and read the answer; another status than the expected one ends the run."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        said = await reader.readexactly(length)
        if int(lines[0].split()[1]) != expected:
            raise RuntimeError(f"The server answered {lines[0]!r}: {said[:500]!r}")

    async def pair(self, id: str) -> None:
        """Reserve and settle once."""
        await self.post("/v1/holds", json.dumps({**HOLD, "id": id}).encode(), 201)
        await self.post(f"/v1/holds/{id}/settle?account={admission.ACCOUNT}", admission.body_of(id), 200)


@dataclass(slots=True)
class Latencies:
    """What pairs took from when they were due, in seconds."""

    due: Iterator[int]
    started: float
    found: list[float] = field(default_factory=list)

    async def work(self, connection: Connection, name: str, count: int) -> None:
        """Take the next pair that is due, wait for its time, make it."""
        for number in self.due:
            if number >= count:
                return
            at = self.started + number / RATE_PER_S
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            await connection.pair(f"{name}-{number}")
            self.found.append(time.perf_counter() - at)


async def _open_loop(host: str, port: int, key: str, name: str, seconds: float) -> list[float]:
    connections = [Connection(host, port, key) for _ in range(CONNECTIONS)]
    await asyncio.gather(*(each.pair(f"warm-{name}-{number}") for number, each in enumerate(connections)))
    latencies = Latencies(itertools.count(), time.perf_counter() + 0.1)
    count = int(RATE_PER_S * seconds)
    await asyncio.gather(*(latencies.work(each, name, count) for each in connections))
    return latencies.found


@contextmanager
def limited(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Start a server that has an account with a limit."""
    with http.server(folder) as (host, port, key):
        connection = HTTPConnection(host, port, timeout=60)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        for path, document in (
            (f"/v1/accounts/{admission.ACCOUNT}", {"kind": "org"}),
            ("/v1/limits/speech", LIMIT),
        ):
            connection.request("PUT", path, json.dumps(document), headers)
            reply = connection.getresponse()
            if reply.status >= 300:
                raise RuntimeError(f"The server answered {reply.status}: {reply.read()!r}")
            reply.read()
        connection.close()
        yield host, port, key


def _send_all(host: str, port: int, key: str, bodies: Path) -> None:
    connection = HTTPConnection(host, port, timeout=120)
    for body in traffic.read(bodies):
        http.post(connection, key, body)


def latencies(seconds: float, bulk: Path | None) -> list[float]:
    """Return what pairs took at RATE_PER_S on CONNECTIONS, alone or beside a sender of bulk that never stops."""
    senders: list[SpawnProcess] = []
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder, limited(Path(folder) / "data") as server:
        spawn = multiprocessing.get_context("spawn")
        if bulk is not None:
            senders = [spawn.Process(target=_send_all, args=(*server, bulk), daemon=True)]
        try:
            for sender in senders:
                sender.start()
            time.sleep(2.0 if senders else 0.2)
            found = asyncio.run(_open_loop(*server, "b" if senders else "a", seconds))
            if not all(sender.is_alive() for sender in senders):
                raise RuntimeError("There was not enough bulk to last.")
            return found
        finally:
            for sender in senders:
                sender.terminate()
                sender.join()


def pairs_per_s(tasks: int, seconds: float) -> float:
    """Return the rate of a closed loop: so many connections, each with one call under way."""
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder, limited(Path(folder) / "data") as server:

        async def measured() -> float:
            free = [Connection(*server) for _ in range(tasks)]

            async def pair(id: str) -> None:
                connection = free.pop()
                await connection.pair(id)
                free.append(connection)

            await admission.drive(pair, tasks, seconds / 5)
            return await admission.drive(lambda id: pair(f"m-{id}"), tasks, seconds)

        return asyncio.run(measured())
