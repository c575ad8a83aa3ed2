"""A `tallystick serve` of the demo's own, as a process, and the connection over which it is asked."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import click

from tallystick.settings import PREFIX

END_S_MAX = 30
ANSWER_S_MAX = 60
KEY_S_MAX = 10

Query = dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: its status and its document, with numbers that have a fraction as text."""

    status: int
    document: Any


class Server:
    """A server that answers; `operator_key` is the one that its first start has made."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Log) -> None:
        self.process = process
        self.url = url
        self.operator_key = log.operator_key()
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S_MAX)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str,
        media_type: str = "application/json",
        scheme: str = "Bearer",
    ) -> Answer:
        """Ask over HTTP, always on the same connection; `scheme` is the word behind which the key is shown."""
        headers = {"Authorization": f"{scheme} {key}"} | ({} if body is None else {"Content-Type": media_type})
        try:
            self._connection.request(method, path, body=body, headers=headers)
            reply = self._connection.getresponse()
            return Answer(reply.status, json.loads(reply.read(), parse_float=str))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise click.ClickException(f"the server gave no answer: {error!r}") from None

    def get(self, path: str, query: Query, *, key: str, scheme: str = "Bearer") -> Any:
        """Ask for a report; anything but a report ends the demo."""
        answer = self.ask("GET", f"{path}?{urlencode(query)}", key=key, scheme=scheme)
        return checked(answer, 200)

    def disconnect(self) -> None:
        """Close the connection; asking again opens another."""
        self._connection.close()


def checked(answer: Answer, status: int) -> Any:
    """Return the document of an answer that must have this status."""
    if answer.status != status:
        raise click.ClickException(f"the server answered {answer.status}, not {status}: {answer.document}")
    return answer.document


class Log(threading.Thread):
    """Reads what the server writes to stderr: its key, once, and whatever it complains of."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(name="demo-log", daemon=True)
        assert process.stderr is not None
        self._lines = process.stderr
        self._key_seen = threading.Event()
        self._key = ""

    def run(self) -> None:
        """Pass on every line but the one with the key."""
        with self._lines:
            for line in self._lines:
                document = _document(line)
                if "operator_key" in document:
                    self._key = document["operator_key"]
                    self._key_seen.set()
                elif document.get("level") not in ("info", "debug"):
                    click.echo(line, err=True, nl=False)

    def operator_key(self) -> str:
        """Wait for the key, which is written before the server is ready."""
        if not self._key_seen.wait(KEY_S_MAX):
            raise click.ClickException("the server has made no key")
        return self._key


def _document(line: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


@contextmanager
def serving(data: Path, port: int) -> Iterator[Server]:
    """Serve a new folder for as long as the block lasts."""
    command = [sys.executable, "-m", "tallystick", "serve", "--data", str(data), "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=_environment()
    )
    log = Log(process)
    log.start()
    try:
        server = Server(process, _url(process), log)
        try:
            yield server
        finally:
            server.disconnect()
    finally:
        _end(process)
        log.join(END_S_MAX)


def _environment() -> dict[str, str]:
    """Keep settings of this machine out: the demo shows what the defaults do."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**ours, f"{PREFIX}CONFIG": os.devnull}


def _url(process: subprocess.Popen[str]) -> str:
    """Wait for the ready line; a server that ends without one has said why on stderr."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise click.ClickException("the server did not start")
    return str(json.loads(line)["url"])


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
