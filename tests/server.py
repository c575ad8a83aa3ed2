"""A real `tallystick serve` process for tests: started on a free port, asked over HTTP, ended by its own pid."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import forked
from tests.forked import Forked

OPERATOR = "an-operator-key-of-more-than-thirty-two-characters"
END_S_MAX = 30


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Server:
    """A server that has printed its ready line; `log` grows while it writes to stderr."""

    process: Forked
    url: str
    log: list[str]
    reader: threading.Thread
    _local: threading.local = field(default_factory=threading.local)

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self.process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | Any = None,
        *,
        key: str | None = OPERATOR,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask on a connection that this thread keeps; a body that is not bytes is sent as JSON."""
        sent = {} if key is None else {"Authorization": f"Bearer {key}"}
        if body is not None and not isinstance(body, bytes):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            self._connection.request(method, target, body=body, headers={**sent, **(headers or {})})
            reply = self._connection.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection of its own."""
        return http.client.HTTPConnection(*self.address, timeout=60)

    @property
    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self.connect()
        connection: http.client.HTTPConnection = self._local.connection
        return connection

    def disconnect(self) -> None:
        """Close this thread's connection."""
        if hasattr(self._local, "connection"):
            self._local.connection.close()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the process, wait for its end and return its exit code."""
        self.disconnect()
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        code = self.process.wait(END_S_MAX)
        self.reader.join(END_S_MAX)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def kill(self) -> int:
        """End the process as a power cut would."""
        return self.end(signal.SIGKILL)


def start(data: Path | None, *flags: str, environ: Mapping[str, str] | None = None) -> Server:
    """Start a server over a data folder (None: in memory) on a free port and wait for its ready line."""
    where = ["--url", "memory:"] if data is None else ["--data", str(data)]
    given = {"TALLYSTICK_OPERATOR_KEY": OPERATOR} if environ is None else environ
    process = forked.start("tallystick", "serve", *where, "--port", "0", *flags, environ=given)
    log: list[str] = []
    # stderr is read all the time: a server whose log nobody reads would come to a stop.
    reader = threading.Thread(target=_read_log, args=(process, log), daemon=True)
    reader.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        code = process.wait(END_S_MAX)
        reader.join(END_S_MAX)
        process.stdout.close()
        raise RuntimeError(f"the server ended with {code} before it was ready: {''.join(log)}")
    return Server(process, json.loads(line)["url"], log, reader)


@contextmanager
def serving(data: Path | None, *flags: str, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Serve for as long as the block lasts."""
    server = start(data, *flags, environ=environ)
    try:
        yield server
    finally:
        server.end()


def _read_log(process: Forked, log: list[str]) -> None:
    assert process.stderr is not None
    with process.stderr:
        log.extend(process.stderr)
