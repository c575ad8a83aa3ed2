"""A client of the application in this process: every request goes through the whole of it, over any ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tallystick import asgi
from tallystick.api import auth
from tallystick.app import App
from tallystick.catalog import builtin
from tallystick.ledger.base import Ledger
from tallystick.ledger.memory import MemoryLedger
from tallystick.ledger.postgres.ledger import PostgresLedger
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.model import Account, AccountKind, Key, Scope
from tallystick.settings import Settings

OPERATOR = "an-operator-key-of-more-than-thirty-two-characters"
NOON = 1_793_534_400_000_000  # 2026-11-01T12:00:00Z
HOUR = 3_600_000_000

ROUTING = asgi.everything()
"""What answers where; a test may put in another one."""

Message = dict[str, Any]


@dataclass(slots=True)
class Answer:
    """What came back; `whole` is false where the reply was left without its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class World:
    """An application with a clock that a test sets, and keys by name; kept in a folder, at a URL, or only in memory."""

    settings: Settings = field(default_factory=lambda: Settings(operator_key=OPERATOR))
    now: int = NOON
    folder: Path | str | None = None
    keys: dict[str, str] = field(default_factory=lambda: {"operator": OPERATOR})
    ledger: Ledger = field(init=False)
    app: App = field(init=False)

    def __post_init__(self) -> None:
        if self.folder is None:
            self.ledger = MemoryLedger(self.settings, lambda: self.now, builtin())
        elif isinstance(self.folder, str):
            self.ledger = PostgresLedger(self.folder, self.settings, lambda: self.now)
        else:
            self.ledger = SqliteLedger(self.folder, self.settings, lambda: self.now)
        self.app = App(self.settings, lambda: self.now, self.ledger)

    async def account(self, name: str, kind: AccountKind = AccountKind.ORG, members: Sequence[str] = ()) -> None:
        """Make an account and, under the same name, a key of it with every scope."""
        await self.ledger.put_account(Account(name, 0, kind, "UTC", tuple(members)), actor="test")
        await self.key(name, name)

    async def key(self, name: str, account: str | None, *scopes: Scope, expires: int | None = None) -> str:
        """Make a key with these scopes, or all."""
        token = self.keys[name] = auth.make_token(account)
        kept = Key(f"key-{name}", auth.digest_of(token), account, frozenset(scopes or Scope), self.now, expires)
        await self.ledger.put_key(kept, actor="test")
        return token

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | Any = b"",
        *,
        key: str | None = "operator",
        scheme: str = "Bearer",
        headers: Mapping[str, str] | None = None,
        parts: list[Message] | None = None,
        repeated: Sequence[tuple[str, str]] = (),
        replies: list[Message] | None = None,
    ) -> Answer:
        """Send a request with a key known by name; a body that is not bytes is sent as JSON, `parts` are used up.

        The key is shown behind the word `scheme`. `repeated` are headers in lower case that come after the others,
        whether or not they are there already. `replies` gets what is sent back, also where the application breaks off.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", "content-length": str(len(content))} if content else {}
        if key is not None:
            sent["authorization"] = f"{scheme} {self.keys.get(key, key)}"
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        messages = parts if parts is not None else [{"type": "http.request", "body": content}]
        return await exchange(self.app, method, target, [*sent.items(), *repeated], messages, replies)

    async def ingest(self, *events: Mapping[str, Any], key: str = "operator", query: str = "") -> Answer:
        """Send events as one batch of plain JSON."""
        return await self.ask("POST", f"/v1/events{query}", list(events), key=key)


async def exchange(
    app: App,
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    messages: list[Message],
    replies: list[Message] | None = None,
) -> Answer:
    """Put one request through the application; a message with `wait` never comes."""
    path, _, query = target.partition("?")
    replies = [] if replies is None else replies

    async def receive() -> Message:
        if not messages or messages[0].get("wait"):
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: Any) -> None:
        replies.append(message)

    scope = {
        "type": "http",
        "method": method,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    await asgi.create(app, ROUTING)(scope, receive, send)
    shown = {name.decode(): value.decode("latin-1") for name, value in replies[0]["headers"]}
    body = b"".join(reply["body"] for reply in replies[1:])
    return Answer(replies[0]["status"], shown, body, not replies[-1].get("more_body", False))


def run(scenario: Callable[[World], Awaitable[None]], *, folder: Path | str | None = None, **settings: Any) -> None:
    """Play a scenario in a world of its own."""

    async def play() -> None:
        world = World(Settings(**{"operator_key": OPERATOR, **settings}), folder=folder)
        try:
            await scenario(world)
        finally:
            await world.app.close()

    asyncio.run(play())


def audio(id: str, account: str = "acme", seconds: str = "60", **data: Any) -> dict[str, Any]:
    """Make an event of processed audio that took place an hour before noon."""
    return {
        "id": id,
        "source": "test",
        "type": "audio.processed",
        "account": account,
        "time": "2026-11-01T11:00:00Z",
        "data": {"duration": seconds, "type": "transcription", "language": "en", **data},
    }


def place(kept: str, request: pytest.FixtureRequest, folder: Path) -> Path | str | None:
    """Say where the ledger of a test is kept, of one of the kinds in LEDGERS."""
    match kept:
        case "sqlite":
            return folder / "data"
        case "postgres":
            return str(request.getfixturevalue("postgres_ledger"))
        case _:
            return None
