"""POST /v1/verify: the proof as a document, and as lines that say meanwhile how far it is."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable

import pytest

from tallystick.api import proofs
from tallystick.errors import Code, Problem
from tallystick.ledger.base import Proof
from tests.api.client import World, run
from tests.server import OPERATOR, serving

NDJSON = {"accept": "application/x-ndjson"}
EVENT = {"id": "1", "source": "s", "type": "audio.processed", "account": "acme", "data": {"duration": "60"}}

Progress = Callable[[int, int], None]


def test_the_last_line_is_the_proof() -> None:
    """Both forms say the same of the same ledger; a client that does not care gets one document."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        assert (await world.ingest(EVENT)).json["accepted"] == 1
        document = await world.ask("POST", "/v1/verify", headers={"accept": "*/*"})
        lines = await world.ask("POST", "/v1/verify", headers=NDJSON)
        assert lines.status == 200
        assert lines.headers["content-type"] == "application/x-ndjson"
        assert json.loads(lines.body.splitlines()[-1]) == document.json
        assert lines.body.endswith(b"\n")

    run(scenario)


def test_lines_say_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is under way, what is done and of how many; it may be told from another thread."""

    async def slow(progress: Progress | None = None) -> Proof:
        assert progress is not None
        for done in range(3):
            await asyncio.to_thread(progress, done, 2)
            await asyncio.sleep(0.05)
        return Proof(2, 2, 1, "aa", ())

    async def scenario(world: World) -> None:
        monkeypatch.setattr(proofs, "TOLD_S", 0.01)
        monkeypatch.setattr(world.ledger, "verify", slow)
        answer = await world.ask("POST", "/v1/verify", headers=NDJSON)
        *told, proof = map(json.loads, answer.body.splitlines())
        assert proof["events"] == 2
        assert told[0] == {"done": 0, "of": 2}
        assert {"done": 2, "of": 2} in told

    run(scenario)


def test_what_cannot_be_begun_is_refused_in_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A status and a problem, not a stream that breaks off."""

    async def refusing(progress: Progress | None = None) -> Proof:
        raise Problem(Code.UNAVAILABLE, "Not now.", retry_after_s=1)

    async def scenario(world: World) -> None:
        monkeypatch.setattr(world.ledger, "verify", refusing)
        answer = await world.ask("POST", "/v1/verify", headers=NDJSON)
        assert (answer.status, answer.json["code"]) == (503, "unavailable")

    run(scenario)


def test_lines_need_a_stream_that_shows_its_end() -> None:
    """Over HTTP/1.0 a proof that was cut off would look like a whole one: 426; the document is given all the same."""
    with serving(None) as server:
        for accept, status in (("application/x-ndjson", b"426"), ("application/json", b"200")):
            with socket.create_connection(server.address, timeout=60) as connection:
                head = f"POST /v1/verify HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\nAccept: {accept}"
                connection.sendall(f"{head}\r\nContent-Length: 0\r\n\r\n".encode())
                assert connection.makefile("rb").readline().split()[1] == status
