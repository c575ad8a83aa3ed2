"""The serving process: its start, its ready line, hard and gentle ends, and HTTP as rough clients speak it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import OPERATOR, Server, serving, start

EVENT = {"id": "1", "source": "test", "type": "audio.processed", "account": "acme", "data": {"duration": 60}}
KEY = re.compile(r"tly_op_[0-9A-Za-z]{38}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for what leaves no trace in it."""
    with serving(None) as running:
        yield running


def raw(server: Server, request: bytes, *, end: bool = False) -> bytes:
    """Send bytes as they are and return all that comes back."""
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        reply = b""
        while b"\r\n\r\n" not in reply or not whole(reply):
            part = connection.recv(65536)
            if not part:
                break
            reply += part
        return reply


def whole(reply: bytes) -> bool:
    """Say whether a reply has all of its body."""
    head, _, body = reply.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return length is None or len(body) >= int(length[1])


def post(headers: str, body: bytes = b"") -> bytes:
    """Write a request to POST /v1/events."""
    always = f"Host: test\r\nAuthorization: Bearer {OPERATOR}\r\nContent-Type: application/json\r\n"
    return f"POST /v1/events HTTP/1.1\r\n{always}{headers}\r\n".encode() + body


def listens(address: tuple[str, int]) -> bool:
    """Say whether anything answers there."""
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError:
        return False
    return True


def test_the_ready_line_is_true_and_the_only_thing_on_stdout() -> None:
    """Its URL answers, its pid is the process, and nothing follows it."""
    command = [sys.executable, "-m", "tallystick", "serve", "--url", "memory:", "--port", "0"]
    environ = {**os.environ, "TALLYSTICK_OPERATOR_KEY": OPERATOR}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready == {"ready": True, "url": ready["url"], "pid": process.pid}
    host, port = ready["url"].removeprefix("http://").split(":")
    assert (host, int(port) > 0) == ("127.0.0.1", True)
    assert listens((host, int(port)))
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=30)
    assert (rest, process.returncode) == ("", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_gentle_end_is_0_and_leaves_nothing_listening(number: signal.Signals) -> None:
    """Idle connections do not hold it."""
    server = start(None)
    idle = socket.create_connection(server.address)
    assert server.ask("POST", "/v1/events", EVENT).json["accepted"] == 1
    assert server.end(number) == 0
    assert not listens(server.address)
    idle.close()


def test_killing_the_printed_pid_leaves_nothing() -> None:
    """There is no supervisor and no worker that outlives it."""
    server = start(None)
    assert Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text() == ""
    assert server.kill() == -signal.SIGKILL
    assert not listens(server.address)


def test_what_was_taken_before_the_signal_is_finished_and_what_is_new_is_refused() -> None:
    """While a request is still being sent, /readyz says 503, others are told to come again, and it is acknowledged."""
    server = start(None)
    body = json.dumps(EVENT).encode()
    with socket.create_connection(server.address, timeout=20) as slow:
        slow.sendall(post(f"Content-Length: {len(body)}\r\n", body[:20]))
        assert server.ask("GET", "/readyz").status == 200
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: server.ask("GET", "/readyz").status == 503)
        refused = server.ask("POST", "/v1/events", EVENT)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        slow.sendall(body[20:])
        assert b'"accepted":1' in slow.recv(65536)
    assert server.end() == 0


def test_a_client_that_never_finishes_does_not_hold_the_end() -> None:
    """It is waited for as long as the setting says, then told so and left."""
    server = start(None, "--drain-s-max", "1")
    with socket.create_connection(server.address, timeout=20) as stuck:
        stuck.sendall(post("Content-Length: 100\r\n", b"["))
        assert server.ask("GET", "/livez").status == 200
        before = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - before < 10
        assert b"did not arrive in time" in stuck.recv(65536)


@pytest.mark.parametrize("option", [None, socket.SO_REUSEPORT])
def test_a_port_that_already_answers_is_refused(option: int | None) -> None:
    """Also where the other one would share it."""
    with socket.socket() as other:
        if option is not None:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RuntimeError, match=rf"ended with 2 .*Cannot listen on 127.0.0.1 port {port}"):
            start(None, "--port", str(port))


def test_a_port_is_free_again_at_once() -> None:
    """Connections that are still closing do not keep a restart from its port."""
    first = start(None)
    assert first.ask("GET", "/livez").status == 200
    port = first.address[1]
    first.end()
    with serving(None, "--port", str(port)) as second:
        assert second.address[1] == port


@pytest.mark.parametrize(("host", "url"), [("0.0.0.0", "http://127.0.0.1:"), ("localhost", "http://127.0.0.1:")])
def test_the_url_is_one_that_a_client_can_use(host: str, url: str) -> None:
    """Every address of the machine is reached by its own."""
    with serving(None, "--host", host) as server:
        assert server.url.startswith(url)
        assert server.ask("GET", "/livez").status == 200


def test_the_first_start_makes_the_operators_key_and_shows_it_once(tmp_path: Path) -> None:
    """It opens everything; the next start neither makes nor shows one."""
    with serving(tmp_path / "ledger", environ={}) as server:
        (token,) = KEY.findall("".join(server.log))
        assert server.ask("GET", "/v1/keys", key=token).json["keys"][0]["account"] is None
    with serving(tmp_path / "ledger", environ={}) as server:
        assert server.ask("GET", "/v1/keys", key=token).status == 200
        assert not KEY.findall("".join(server.log))
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert token.encode() not in kept


def test_an_operator_key_that_is_set_is_used_and_none_is_made() -> None:
    """From a file as well, for as long as it is set."""
    with serving(None) as server:
        assert server.ask("GET", "/v1/keys").json["keys"] == []
        server.end()
        assert OPERATOR not in "".join(server.log)


def test_a_folder_that_is_held_is_refused(tmp_path: Path) -> None:
    """One process at a time, and the error says so."""
    with serving(tmp_path / "ledger"), pytest.raises(RuntimeError, match=r"ended with 2 .* in use by process"):
        start(tmp_path / "ledger")


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    """A restart reports it, and sending it again is a duplicate."""
    server = start(tmp_path / "ledger")
    assert server.ask("POST", "/v1/events", EVENT).json["accepted"] == 1
    server.kill()
    with serving(tmp_path / "ledger") as again:
        assert again.ask("GET", "/v1/usage?meter=audio&window=total").json["total"] == {"count": 1, "quantity": "60"}
        assert again.ask("POST", "/v1/events", EVENT).json["duplicate"] == 1


# HTTP as rough clients speak it


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Content-Length: 100\r\n", b"[]"),
        ("Transfer-Encoding: chunked\r\n", b"2\r\n[]\r\n"),
        ("Transfer-Encoding: chunked\r\n", b"zz\r\n[]\r\n"),
    ],
)
def test_a_body_cut_short_is_400_and_the_server_lives(server: Server, headers: str, body: bytes) -> None:
    """A client that can still listen is told; one that cannot does no harm."""
    reply = raw(server, post(headers, body), end=True)
    assert b" 400 " in reply
    assert b"body_undecodable" in reply
    with socket.create_connection(server.address) as gone:
        gone.sendall(post(headers, body))
    assert server.ask("POST", "/v1/events", []).status == 200


def test_a_chunked_body_is_taken(server: Server) -> None:
    """No length needs to be announced."""
    assert b" 200 OK" in raw(server, post("Transfer-Encoding: chunked\r\n", b"1\r\n[\r\n1\r\n]\r\n0\r\n\r\n"))


@pytest.mark.parametrize(
    "headers", ["Content-Length: -1\r\n", "Content-Length: 1\r\nContent-Length: 2\r\n", "Content-Length: x\r\n"]
)
def test_a_length_that_is_none_is_400(server: Server, headers: str) -> None:
    """Two lengths could smuggle a request past a proxy."""
    assert b" 400 " in raw(server, post(headers, b"[]"))


def test_a_body_longer_than_announced_is_another_request(server: Server) -> None:
    """What follows the announced bytes is not part of the batch."""
    assert b'"accepted":0' in raw(server, post("Content-Length: 2\r\n", b"[]GARBAGE\r\n\r\n"))


def test_a_large_refused_body_does_not_break_a_plain_client(server: Server) -> None:
    """A client that sends everything before it listens still sees why it was refused, and may go on."""
    body = b" " * (40 * 1024 * 1024)
    for key, status in ((None, 401), (OPERATOR, 413)):
        answer = server.ask("POST", "/v1/events", body, key=key, headers={"Content-Type": "application/json"})
        assert answer.status == status
    assert server.ask("GET", "/livez").status == 200


def test_head_and_ids_hold_over_real_http(server: Server) -> None:
    """What the application says is what the client gets."""
    answer = server.ask("HEAD", "/readyz", key=None, headers={"X-Request-Id": "mine"})
    assert (answer.status, answer.body, answer.headers["x-request-id"]) == (200, b"", "mine")
    assert int(answer.headers["content-length"]) > 0


def wait_until(condition: object, seconds: float = 10) -> None:
    """Wait for something to become true."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.01)
