"""Requests to the API of this same process, in memory: all that the pages know, they know from here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

Message = MutableMapping[str, Any]
Asgi = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Pairs = Sequence[tuple[str, str]]

UNAUTHORIZED = 401
FORBIDDEN = 403


class Refused(Exception):
    """The API said no: with this status, this code and this sentence; `flaws` are pointers and sentences."""

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(document.get("code", ""))
        self.detail = str(document.get("detail", "")) or f"The API answered {status}."
        self.flaws = [(str(flaw["pointer"]), str(flaw["detail"])) for flaw in document.get("errors", [])]
        super().__init__(self.detail)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply of the API; a document's numbers with a fraction stay text."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body, parse_float=str)


@dataclass(frozen=True, slots=True)
class Api:
    """The API as one key sees it."""

    ask: Asgi
    key: str
    request_id: str

    async def get(self, path: str, query: Pairs = (), *, accept: str = "application/json") -> Answer:
        """Ask for something; raises Refused for whatever is not a success."""
        return await self._request("GET", path, query, {"accept": accept}, b"")

    async def listed(self, path: str, name: str, query: Pairs = (), *, rows_max: int = 10_000) -> list[Any]:
        """Return a listing's rows, from as many pages as it takes, at most about `rows_max`."""
        rows: list[Any] = []
        cursor: str | None = ""
        while cursor is not None and len(rows) < rows_max:
            page = (await self.get(path, [*query, *([("cursor", cursor)] if cursor else [])])).document
            rows += page[name]
            cursor = page["next"]
        return rows

    async def send(self, method: str, path: str, document: Any = None) -> Answer:
        """Change something; raises Refused for whatever is not a success. Bytes are sent as they are."""
        body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
        headers = {} if document is None else {"content-type": "application/json", "content-length": str(len(body))}
        return await self._request(method, path, (), headers, body)

    async def raw(self, path: str, query: Pairs = (), *, scheme: str = "Bearer") -> Answer:
        """Ask for something as it is, refusals too; the key is shown behind the word `scheme`."""
        headers = {"authorization": f"{scheme} {self.key}", "x-request-id": self.request_id}
        return await exchange(self.ask, "GET", path, urlencode(query), headers)

    async def _request(self, method: str, path: str, query: Pairs, headers: Mapping[str, str], body: bytes) -> Answer:
        shown = {"authorization": f"Bearer {self.key}", "x-request-id": self.request_id, **headers}
        answer = await exchange(self.ask, method, path, urlencode(query), shown, body)
        if answer.status >= 400:
            raise Refused(answer.status, _problem(answer))
        return answer


async def exchange(
    ask: Asgi, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes = b""
) -> Answer:
    """Put one request through the application and gather what it sends."""
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    replies: list[Message] = []

    async def receive() -> Message:
        if not requests:
            await asyncio.Event().wait()
        return requests.pop()

    async def send(message: Message) -> None:
        replies.append(message)

    scope: Message = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()],
    }
    await ask(scope, receive, send)
    shown = {name.decode("ascii"): value.decode("latin-1") for name, value in replies[0]["headers"]}
    return Answer(replies[0]["status"], shown, b"".join(reply["body"] for reply in replies[1:]))


def part(text: str) -> str:
    """Write a text as one part of a path."""
    return quote(text, safe="")


def _problem(answer: Answer) -> Mapping[str, Any]:
    try:
        document = answer.document
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
