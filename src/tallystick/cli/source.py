"""Where a command's answers come from: the public API, of a running server or of a data folder opened here."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from tallystick.cli.options import Failure, failure_of, settings_of
from tallystick.errors import LedgerError
from tallystick.settings import Settings

if TYPE_CHECKING:
    from tallystick.app import App

# What opens a ledger or speaks HTTP is imported where it is used, so that help is quick.

Query = Sequence[tuple[str, str]]
BEARER = "Bearer"

SERVER_S_MAX = 3600
"""A verify of a large ledger takes its time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply of the API."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where to ask, as flags and environment say."""

    settings: Settings
    server: str | None
    key: str | None

    def ask(self, method: str, path: str, query: Query = (), scheme: str = BEARER) -> Answer:
        """Ask the server, or the data folder where none was named, and say on stderr which.

        `scheme` is the word behind which the key is shown.
        """
        target = path + (f"?{urlencode(query)}" if query else "")
        if self.server is not None:
            return _ask_server(self.server.rstrip("/"), f"{scheme} {self.key}", method, target)
        import asyncio

        return asyncio.run(self._ask_folder(method, target, scheme))

    async def _ask_folder(self, method: str, target: str, scheme: str) -> Answer:
        token = secrets.token_urlsafe(32)
        app = await open_folder(dataclasses.replace(self.settings, operator_key=token))
        try:
            return await ask_app(app, method, target, token, scheme)
        finally:
            await app.close()


def place_of(flags: dict[str, Any]) -> Place:
    """Take the flags of `source_flags` out of a command's flags."""
    server, key, config = flags.pop("server"), flags.pop("key"), flags.pop("config")
    if server is not None and key is None:
        raise Failure("--server needs a key: --key or TALLYSTICK_KEY.")
    return Place(settings_of({"data": flags.pop("data")}, config), server, key)


async def open_folder(settings: Settings) -> App:
    """Open a data folder that exists; one that does not is more likely a mistake than a wish for an empty ledger."""
    from tallystick import telemetry
    from tallystick.app import open_app

    if settings.url is None and not (settings.data.is_dir() and any(settings.data.iterdir())):
        raise Failure(f"There is no ledger in {settings.data}. Name its folder with --data, or a server with --server.")
    telemetry.configure("warning")
    click.echo(f"reading {settings.url or settings.data}", err=True)
    try:
        return await open_app(settings)
    except LedgerError as error:
        raise failure_of(error) from None


async def ask_app(app: App, method: str, target: str, token: str, scheme: str = BEARER) -> Answer:
    """Ask an open app what a client would ask its server."""
    from tallystick.asgi import create

    path, _, query = target.partition("?")
    sent: list[Any] = []
    headers = [(b"authorization", f"{scheme} {token}".encode("ascii"))]
    scope = {
        "type": "http",
        "method": method,
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "headers": headers,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await create(app)(scope, receive, send)
    return Answer(sent[0]["status"], sent[1]["body"])


def _ask_server(server: str, authorization: str, method: str, target: str) -> Answer:
    import urllib.error
    import urllib.request

    if not server.startswith(("http://", "https://")):
        raise Failure(f"--server must begin with http:// or https://, not {server}.")
    click.echo(f"asking {server}", err=True)
    request = urllib.request.Request(server + target, method=method, headers={"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=SERVER_S_MAX) as reply:
            return Answer(reply.status, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())
    except (OSError, ValueError) as error:
        raise Failure(f"{server} does not answer: {getattr(error, 'reason', error)}") from None
