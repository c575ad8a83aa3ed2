"""Several servers on one PostgreSQL under load, one killed and one paused at random: nothing lost, nothing twice."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import pytest

from tests.kill.haunted import PATIENCE_S, RETRY_S, TRY_AGAIN
from tests.server import OPERATOR, Answer, Server, start

CLIENTS = 4
CAPACITY = 40
BATCH = 20
MISHAPS = int(os.environ.get("TALLYSTICK_TEST_MISHAPS", "2"))
"""How often one server is killed and another one paused, while clients send."""
PAUSE_S = 1.0
ANSWER_S_MAX = 30


@dataclass
class Fleet:
    """The servers of the moment; what a client cannot get done at one it tries at the next."""

    url: str
    servers: list[Server]
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    done: threading.Event = field(default_factory=threading.Event)
    mishaps: int = 0
    _next: Iterator[int] = field(default_factory=itertools.count)

    def ask(self, method: str, target: str, body: Any = None) -> Answer:
        """Ask until there is an answer, from whichever server gives it; the same request may be carried out twice."""
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            server = self.servers[next(self._next) % len(self.servers)]
            try:
                answer = once(server, method, target, body)
            except (OSError, http.client.HTTPException):
                time.sleep(RETRY_S)
                continue
            if answer.status not in TRY_AGAIN:
                return answer
            time.sleep(RETRY_S)
        raise AssertionError(f"no answer to {method} {target} in {PATIENCE_S} s")

    def haunt(self) -> None:
        """Kill one server and start another in its place, and let one stand still meanwhile."""
        for _ in range(MISHAPS):
            time.sleep(self.rng.uniform(0.2, 1.0))
            killed, paused = self.rng.sample(range(len(self.servers)), 2)
            os.kill(self.servers[paused].pid, signal.SIGSTOP)
            try:
                self.servers[killed].kill()
                self.servers[killed] = server_of(self.url)
                time.sleep(PAUSE_S)
            finally:
                os.kill(self.servers[paused].pid, signal.SIGCONT)
            self.mishaps += not self.done.is_set()


def once(server: Server, method: str, target: str, body: Any) -> Answer:
    """Ask on a connection of its own, and do not wait for a server that stands still."""
    connection = http.client.HTTPConnection(*server.address, timeout=ANSWER_S_MAX)
    try:
        sent = {"Authorization": f"Bearer {OPERATOR}", "Content-Type": "application/json"}
        connection.request(method, target, body=None if body is None else json.dumps(body), headers=sent)
        reply = connection.getresponse()
        return Answer(reply.status, dict(reply.getheaders()), reply.read())
    finally:
        connection.close()


def server_of(url: str) -> Server:
    return start(None, "--url", url)


@contextmanager
def fleet(url: str, count: int) -> Iterator[Fleet]:
    """Serve one database from several processes."""
    some = Fleet(url, [])
    try:
        for _ in range(count):
            some.servers.append(server_of(url))
        yield some
    finally:
        codes = [server.end() for server in some.servers]
    assert codes == [0] * count


@dataclass
class Client:
    """Sends batches and works under holds until the mishaps are over; knows what it was told."""

    fleet: Fleet
    name: str
    sent: int = 0
    admitted: list[str] = field(default_factory=list)
    settled: int = 0
    refused: int = 0

    def work(self) -> None:
        for round in itertools.count():
            self.batch(round)
            self.hold(f"{self.name}-{round}", settles=round % 2 == 0)
            if self.fleet.done.is_set():
                return

    def batch(self, round: int) -> None:
        """Send events, half of them for an account that all clients have in common."""
        some = [event(f"{self.name}-{round}-{n}", ("shared", self.name)[n % 2]) for n in range(BATCH)]
        said = self.fleet.ask("POST", "/v1/events", some)
        assert said.status == HTTPStatus.OK, said.body
        assert said.json["accepted"] + said.json["duplicate"] == BATCH
        self.sent += BATCH

    def hold(self, id: str, *, settles: bool) -> None:
        """Ask for one unit of what all clients share."""
        kind = {"type": "lens"}
        asked = {
            "id": id,
            "account": "shared",
            "meter": "vision_requests",
            "labels": kind,
            "quantity": "1",
            "ttl": "PT1H",
        }
        said = self.fleet.ask("POST", "/v1/holds", asked)
        if said.status == HTTPStatus.TOO_MANY_REQUESTS:
            self.refused += 1
            return
        assert said.status in (HTTPStatus.CREATED, HTTPStatus.OK), said.body
        self.admitted.append(id)
        if settles:
            work = {**event(f"settles-{id}", "shared"), "type": "vision.request", "data": kind}
            assert self.fleet.ask("POST", f"/v1/holds/{id}/settle", work).status == HTTPStatus.OK
            self.settled += 1


def event(id: str, account: str) -> dict[str, Any]:
    return {
        "id": id,
        "source": "fleet",
        "type": "audio.processed",
        "account": account,
        "time": "2026-01-01T10:00:00Z",
        "data": {"duration": "1"},
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "count"), [("postgres", 2), ("postgres", 4), pytest.param("postgres_split", 2, id="split-2")]
)
def test_servers_on_one_postgres_lose_nothing_when_one_is_killed_and_one_stands_still(
    request: pytest.FixtureRequest, kept: str, count: int
) -> None:
    """What was acknowledged is there once, holds go up to the capacity and not beyond it, and the others go on.

    So it is where the two accounts of a batch are committed apart, as over Citus.
    """
    with fleet(request.getfixturevalue(kept), count) as servers:
        servers.ask("PUT", "/v1/accounts/shared", {"kind": "org"})
        limit = {"account": "shared", "meter": "vision_requests", "period": "total", "amount": str(CAPACITY)}
        assert servers.ask("PUT", "/v1/limits/shared", limit).status in (HTTPStatus.CREATED, HTTPStatus.OK)
        clients = [Client(servers, f"client-{n}") for n in range(CLIENTS)]
        with ThreadPoolExecutor() as pool:
            working = [pool.submit(client.work) for client in clients]
            try:
                servers.haunt()
            finally:
                servers.done.set()
            for each in working:
                each.result()
        assert servers.mishaps == MISHAPS
        counted = servers.ask("GET", "/v1/usage?meter=audio&window=total").json["total"]
        assert counted == {
            "count": sum(client.sent for client in clients),
            "quantity": str(sum(c.sent for c in clients)),
        }
        admitted = [id for client in clients for id in client.admitted]
        standing = servers.ask("GET", "/v1/limits/shared").json
        assert len(admitted) == len(set(admitted)) <= CAPACITY
        assert (standing["used"], standing["held"]) == (
            str(sum(client.settled for client in clients)),
            str(len(admitted) - sum(client.settled for client in clients)),
        )
        assert len(admitted) == CAPACITY or not any(client.refused for client in clients)
        proof = servers.ask("POST", "/v1/verify").json
        assert proof["faults"] == []
