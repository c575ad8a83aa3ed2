"""One request as the handlers see it: its parts read on demand, its body behind a hard cap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from tallystick.app import App
from tallystick.errors import Code, Flaw, Problem
from tallystick.model import Caller

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

QUERY_FIELDS_MAX = 1000
DISCARD_S_MAX = 5


@dataclass(slots=True)
class Call:
    """A request on its way to a handler; routing and authentication fill in `path` and `caller`."""

    app: App
    scope: Scope
    receive: Receive
    headers: Mapping[str, str]
    request_id: str
    correlation_id: str
    now: int
    path: Mapping[str, str] = field(default_factory=dict)
    key: Caller | None = None
    body_done: bool = False
    body_cut_short: bool = False

    @property
    def caller(self) -> Caller:
        """Who asks; handlers of routes that need a key always have one."""
        assert self.key is not None
        return self.key

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """The query's parameters in order, decoded once."""
        return parse_query(self.scope["query_string"])

    @property
    def instance(self) -> str:
        """The path as it was sent, without the query, which may hold what is nobody else's business."""
        return str(self.scope["raw_path"], "ascii", "replace").split("?", 1)[0]


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; of a header sent twice, the last."""
    return {str(name, "latin-1").lower(): str(value, "latin-1") for name, value in scope["headers"]}


def parse_query(sent: bytes) -> tuple[tuple[str, str], ...]:
    """Decode a query string, once."""
    try:
        text = sent.decode("ascii")
        return tuple(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX))
    except ValueError:
        detail = f"The query must be percent-encoded UTF-8 with at most {QUERY_FIELDS_MAX} parameters."
        raise Problem(Code.PARAMETER_INVALID, detail, (Flaw("", detail),)) from None


def segments_of(raw_path: bytes) -> tuple[str, ...] | None:
    """Split a path at its slashes and decode each part once, so that `%2F` stays inside its part."""
    try:
        return tuple(unquote_to_bytes(part).decode() for part in raw_path.split(b"?", 1)[0].split(b"/")[1:])
    except UnicodeDecodeError:
        return None


@asynccontextmanager
async def body_of(call: Call, bytes_max: int) -> AsyncIterator[bytes]:
    """Read the body, counted against what all bodies together may hold until the handler is done with it."""
    taken = 0
    try:
        parts: list[bytes] = []
        _refuse_announced(call, bytes_max)
        async for part in _parts(call):
            taken += len(part)
            call.app.body_bytes += len(part)
            _refuse_taken(call, taken, bytes_max)
            parts.append(part)
        yield b"".join(parts) if len(parts) != 1 else parts[0]
    finally:
        call.app.body_bytes -= taken


async def discard_body(call: Call) -> bool:
    """Read and drop what is left of the body, so that a client that is still sending gets to see the answer.

    False where that would take too long, or where the client waits to be told before it sends: then the connection
    has to be closed.
    """
    if call.body_done or not announces_body(call.headers):
        return True
    if call.body_cut_short or call.headers.get("expect"):
        return False
    try:
        async with asyncio.timeout(DISCARD_S_MAX):
            return await _discard(call, 4 * call.app.settings.batch_bytes_max)
    except (TimeoutError, Problem):
        return False


def announces_body(headers: Mapping[str, str]) -> bool:
    """Say whether a request with these headers is followed by a body."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _discard(call: Call, bytes_max: int) -> bool:
    dropped = 0
    async for part in _parts(call):
        dropped += len(part)
        if dropped > bytes_max:
            return False
    return True


async def _parts(call: Call) -> AsyncIterator[bytes]:
    while not call.body_done:
        message = await _next(call)
        if message["type"] == "http.disconnect":
            raise _cut_short(call, "The body ended before it was complete; send the request again.")
        call.body_done = not message.get("more_body", False)
        if part := message.get("body", b""):
            yield part


async def _next(call: Call) -> MutableMapping[str, Any]:
    waits = call.app.waits
    wait = asyncio.timeout(call.app.settings.body_wait_s_max)
    try:
        async with wait:
            waits.add(wait)
            return await call.receive()
    except TimeoutError:
        raise _cut_short(call, "The rest of the body did not arrive in time; send the request again.") from None
    finally:
        waits.discard(wait)


def _cut_short(call: Call, detail: str) -> Problem:
    call.body_cut_short = True
    return Problem(Code.BODY_UNDECODABLE, detail, headers={"Connection": "close"})


def _refuse_announced(call: Call, bytes_max: int) -> None:
    length = call.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > bytes_max:
        raise too_large(bytes_max)


def _refuse_taken(call: Call, taken: int, bytes_max: int) -> None:
    if taken > bytes_max:
        raise too_large(bytes_max)
    if call.app.body_bytes > call.app.settings.queue_bytes_max:
        raise Problem(Code.UNAVAILABLE, "Too much is being received at the moment; try again.", retry_after_s=1)


def too_large(bytes_max: int) -> Problem:
    """The body is larger than it may be."""
    return Problem(Code.BATCH_TOO_LARGE, f"The body may have at most {bytes_max} bytes; send smaller batches.")
