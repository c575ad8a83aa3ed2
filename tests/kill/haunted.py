"""A real server that is killed at random and started again on the same folder, and clients who do not give up."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.server import Answer, Server, start

RETRY_S = 0.02
LOOK_S = 0.001
PATIENCE_S = 120
TRY_AGAIN = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE}


@dataclass(slots=True)
class Haunted:
    """The server of the moment; its address changes with every restart.

    `interruptions` are the kills that came while clients were still sending.
    """

    data: Path
    server: Server
    kills: int = 0
    interruptions: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def kill_and_restart(self) -> None:
        """End the process as kill -9 does and start the next one."""
        self.server.kill()
        server = start(self.data)
        with self.lock:
            self.server, self.kills = server, self.kills + 1

    def ask(self, method: str, target: str, body: bytes | Any = None, content_type: str | None = None) -> Answer:
        """Ask until there is an answer, from whichever process gives it."""
        headers = {"Content-Type": content_type} if content_type else None
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            with self.lock:
                server = self.server
            try:
                answer = server.ask(method, target, body, headers=headers)
            except (OSError, http.client.HTTPException):
                time.sleep(RETRY_S)
                continue
            if answer.status not in TRY_AGAIN:
                return answer
            time.sleep(RETRY_S)
        raise AssertionError(f"no answer to {method} {target} in {PATIENCE_S} s")

    def send(self, raws: Sequence[bytes]) -> dict[str, Any]:
        """Send events until they are acknowledged; every one must be taken now or have been before."""
        body = b"[" + b",".join(raws) + b"]"
        answer = self.ask("POST", "/v1/events", body, "application/cloudevents-batch+json")
        assert answer.status == HTTPStatus.OK, answer.body[:500]
        counts: dict[str, Any] = answer.json
        assert counts["accepted"] + counts["duplicate"] == len(raws), counts
        return counts


@contextmanager
def haunted(data: Path) -> Iterator[Haunted]:
    """Serve for as long as the block lasts."""
    house = Haunted(data, start(data))
    try:
        yield house
    finally:
        house.server.end()


def send_all(
    house: Haunted,
    batches: Sequence[Sequence[bytes]],
    *,
    clients: int,
    kills: int,
    seed: int,
    acked: Callable[[int], None] = lambda number: None,
) -> None:
    """Have clients send batches, each until it is acknowledged; kill the server at as many points on the way."""
    left, done = iter(list(enumerate(batches))), list[int]()
    # Only the first four fifths: a kill is to come while much is still to be sent.
    points = sorted(random.Random(seed).sample(range(len(batches) * 4 // 5), kills))
    lock = threading.Lock()

    def client() -> None:
        while True:
            with lock:
                number, batch = next(left, (-1, ()))
            if number < 0:
                return house.server.disconnect()
            house.send(batch)
            acked(number)
            done.append(number)

    with ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(client) for _ in range(clients)]
        for point in points:
            while len(done) < point and not any(one.done() for one in working):
                time.sleep(LOOK_S)
            house.interruptions += not any(one.done() for one in working)
            house.kill_and_restart()
        for one in working:
            one.result()
