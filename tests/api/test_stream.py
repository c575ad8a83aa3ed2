"""Exports over a real server: whole ones end, broken ones are cut so that every client notices, left ones stop."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.api.client import audio
from tests.server import OPERATOR, Server, serving

EVENTS = 4000
LARGE = 40
HEADERS = {"Authorization": f"Bearer {OPERATOR}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder for this module."""
    return tmp_path_factory.mktemp("stream") / "ledger"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Serve some thousand events, the first of which are large: more than any buffer on the way holds."""
    with serving(folder, "--verify-bytes-per-s", "0") as started:
        for start in range(0, LARGE, 10):
            large = [audio(str(n), comment="x" * 250_000) for n in range(start, start + 10)]
            assert started.ask("POST", "/v1/events", large).json["accepted"] == 10
        assert started.ask("POST", "/v1/events", [audio(str(n)) for n in range(LARGE, EVENTS)]).status == 200
        yield started


def raw(server: Server, head: str) -> socket.socket:
    """Send the head of a request on a connection of its own."""
    connection = socket.create_connection(server.address, timeout=60)
    connection.sendall(f"{head}\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\n\r\n".encode())
    return connection


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_a_whole_export_is_ended(server: Server, form: str) -> None:
    """In chunks, with every event, and the connection can be used again."""
    answer = server.ask("GET", f"/v1/export?format={form}")
    assert (answer.status, answer.headers["transfer-encoding"]) == (200, "chunked")
    assert answer.body.count(b"\n") == EVENTS + (form == "csv")
    assert server.ask("GET", "/livez").status == 200


def test_head_of_an_export_has_no_body(server: Server) -> None:
    """And leaves the connection in order."""
    answer = server.ask("HEAD", "/v1/export")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/x-ndjson", b"")
    assert server.ask("GET", "/livez").status == 200


def test_an_export_over_an_older_http_is_refused(server: Server) -> None:
    """Without chunks nobody could tell a cut export from a whole one: 426, and what to use."""
    with raw(server, "GET /v1/export HTTP/1.0") as connection:
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"426"
    assert b"upgrade: http/1.1" in head.lower()
    assert json.loads(body)["code"] == "http_version"


def test_an_export_that_nobody_reads_any_more_stops(tmp_path: Path) -> None:
    """The client closes in the middle: the request ends, and the server has nothing to wait for at its end."""
    with serving(tmp_path / "ledger", "--drain-s-max", "600") as started:
        for start in range(0, 80, 10):
            large = [audio(str(n), comment="x" * 250_000) for n in range(start, start + 10)]
            assert started.ask("POST", "/v1/events", large).json["accepted"] == 10
        with raw(started, "GET /v1/export HTTP/1.1") as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        # Ending waits for every request, and gives up long before it would be cut short by the setting.
        assert started.end() == 0


def test_an_export_that_breaks_is_cut(server: Server, folder: Path) -> None:
    """Damage in the last frame, met while the reply is on its way: the client's library says that it is not whole."""
    db = apsw.Connection(str(folder / "ledger.db"))
    db.set_busy_timeout(5000)
    db.execute("UPDATE frame SET body = zeroblob(10) WHERE first = (SELECT max(first) FROM frame)")
    db.close()
    for form in ("ndjson", "csv"):
        connection = server.connect()
        connection.request("GET", f"/v1/export?format={form}", headers=HEADERS)
        reply = connection.getresponse()
        assert reply.status == 200
        with pytest.raises(http.client.IncompleteRead) as caught:
            reply.read()
        connection.close()
        lines = caught.value.partial.count(b"\n")
        assert 0 < lines < EVENTS
    assert server.ask("GET", "/livez").status == 200
    assert any("reply cut short" in line for line in server.log)
