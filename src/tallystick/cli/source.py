"""Where a command's answers come from: the public API, of a running server or of a data folder opened here."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

import click

from tallystick.cli.options import Failure, config_path, failure_of, settings_of
from tallystick.errors import LedgerError
from tallystick.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tallystick.app import App

# What opens a ledger or speaks HTTP is imported where it is used, so that help is quick.

Query = Sequence[tuple[str, str]]
BEARER = "Bearer"
Sink = Callable[[bytes], object]

SERVER_S_MAX = 3600
"""A verify of a large ledger takes its time."""
READ_BYTES = 1 << 16
JSON = "application/json"
NOWHERE = "memory:"


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply of the API; header names are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """A request, whoever answers it; a reply that is no error goes to `sink` part by part, where there is one.

    `scheme` is the word behind which the key is shown; `accept` is the media type that is wanted, "" for any.
    """

    method: str
    target: str
    body: bytes = b""
    media_type: str = JSON
    scheme: str = BEARER
    accept: str = ""
    sink: Sink | None = None

    def headers(self, key: str | None) -> dict[str, str]:
        """Return what to send beside the body."""
        headers = {"Content-Type": self.media_type} if self.body else {}
        headers |= {"Accept": self.accept} if self.accept else {}
        return {**headers, "Authorization": f"{self.scheme} {key}"}


class Door(Protocol):
    """What answers: one open folder or one server, for as long as a command needs it."""

    async def ask(self, question: Question) -> Answer:
        """Answer as the API does; raises Failure where nothing answers."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to ask, as flags and environment say; `config` is the settings file, which may define meters."""

    settings: Settings
    server: str | None
    key: str | None
    config: Path | None = None

    @property
    def name(self) -> str:
        """Name it as a person would."""
        return self.server or str(self.settings.url or self.settings.data)

    def ask(
        self,
        method: str,
        path: str,
        query: Query = (),
        scheme: str = BEARER,
        *,
        document: Any = None,
        accept: str = "",
        sink: Sink | None = None,
    ) -> Answer:
        """Ask once: the server, or the data folder where none was named; which is said on stderr."""
        import asyncio

        body = b"" if document is None else json.dumps(document).encode()
        question = Question(method, target_of(path, query), body, scheme=scheme, accept=accept, sink=sink)
        return asyncio.run(self._once(question))

    def rows(self, path: str, member: str, query: Query = ()) -> list[dict[str, Any]]:
        """Return everything that a listing has, page after page."""
        import asyncio

        return asyncio.run(self._pages(path, member, query))

    async def _pages(self, path: str, member: str, query: Query) -> list[dict[str, Any]]:
        from tallystick.cli import output

        found: list[dict[str, Any]] = []
        async with self.open() as door:
            cursor = None
            while True:
                asked = [*query, *([("cursor", cursor)] if cursor else [])]
                page = output.document(await door.ask(Question("GET", target_of(path, asked))))
                found += page[member]
                cursor = page.get("next")
                if not cursor:
                    return found

    async def _once(self, question: Question) -> Answer:
        async with self.open() as door:
            return await door.ask(question)

    def or_nothing(self) -> Place:
        """Return a place without events and with the meters of the settings file where there is no ledger yet."""
        is_elsewhere = self.server is not None or self.settings.url is not None
        is_there = is_elsewhere or _holds_something(self.settings.data)
        return self if is_there else dataclasses.replace(self, settings=dataclasses.replace(self.settings, url=NOWHERE))

    @asynccontextmanager
    async def open(self, *, makes: bool = False) -> AsyncIterator[Door]:
        """Open it for many questions; `makes` a folder that is not there, says so and defines what the file defines."""
        if self.server is not None:
            click.echo(f"asking {self.server}", err=True)
            yield _Server(self.server.rstrip("/"), self.key)
            return
        token = secrets.token_urlsafe(32)
        app = await open_folder(dataclasses.replace(self.settings, operator_key=token), makes=makes)
        try:
            if makes or self.settings.url is not None:
                from tallystick.cli import defining

                await defining.apply(app, self.config)
            yield Folder(app, token)
        finally:
            await app.close()


def target_of(path: str, query: Query = ()) -> str:
    """Write path and query as a request line has them."""
    return path + (f"?{urlencode(query)}" if query else "")


def part(name: str) -> str:
    """Write a name as one part of a path."""
    return quote(name, safe="")


def place_of(flags: dict[str, Any]) -> Place:
    """Take the flags of `source_flags` out of a command's flags."""
    server, key, config = flags.pop("server"), flags.pop("key"), flags.pop("config")
    if server is not None and key is None:
        raise Failure("--server needs a key: --key or TALLYSTICK_KEY.")
    return Place(settings_of({"data": flags.pop("data")}, config), server, key, config_path(config))


async def open_folder(settings: Settings, *, makes: bool = False) -> App:
    """Open a data folder that exists; one that does not is more likely a mistake than a wish for an empty ledger."""
    from tallystick import telemetry
    from tallystick.app import open_app

    is_new = settings.url is None and not _holds_something(settings.data)
    if is_new and not makes:
        raise Failure(f"There is no ledger in {settings.data}. Name its folder with --data, or a server with --server.")
    telemetry.configure("warning")
    if settings.url is None:
        click.echo(f"{'making a new ledger in' if is_new else 'opening'} {settings.data}", err=True)
    try:
        return await open_app(settings)
    except LedgerError as error:
        raise failure_of(error) from None


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


@dataclass(frozen=True, slots=True)
class Folder:
    """An open app, asked as a client would ask its server."""

    app: App
    token: str

    async def ask(self, question: Question) -> Answer:
        from tallystick.asgi import API, create

        path, _, query = question.target.partition("?")
        headers = {**question.headers(self.token), "Content-Length": str(len(question.body))}
        scope = {
            "type": "http",
            "method": question.method,
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers.items()],
        }
        start: dict[str, Any] = {}
        parts: list[bytes] = []
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                return await _never()
            sent = True
            return {"type": "http.request", "body": question.body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif question.sink is not None and start["status"] < 400:
                question.sink(message["body"])
            else:
                parts.append(message["body"])

        await create(self.app, API)(scope, receive, send)
        found = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], b"".join(parts), found)


async def _never() -> dict[str, Any]:
    """Wait for a client that never hangs up."""
    import asyncio

    await asyncio.Event().wait()
    raise AssertionError


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    key: str | None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise Failure(f"--server must begin with http:// or https://, not {self.url}.")

    async def ask(self, question: Question) -> Answer:
        import asyncio

        return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: Question) -> Answer:
        import http.client
        import urllib.error
        import urllib.request

        request = urllib.request.Request(
            self.url + question.target, question.body or None, question.headers(self.key), method=question.method
        )
        try:
            with urllib.request.urlopen(request, timeout=SERVER_S_MAX) as reply:
                return Answer(reply.status, _read(reply, question.sink), _lower(reply.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), _lower(error.headers))
        except http.client.HTTPException as error:
            raise Failure(f"{self.url} broke off its answer ({error!r}): what came is not whole.") from None
        except (OSError, ValueError) as error:
            raise Failure(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None


def _read(reply: Any, sink: Sink | None) -> bytes:
    if sink is None:
        return bytes(reply.read())
    # What has come, without waiting for more of it.
    while part := reply.read1(READ_BYTES):
        sink(part)
    return b""


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
