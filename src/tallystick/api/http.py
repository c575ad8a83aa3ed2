"""One request as the handlers see it: its parts read on demand, its body behind a hard cap."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from tallystick.app import App
from tallystick.errors import Code, Flaw, Problem
from tallystick.ingest import codings
from tallystick.model import Caller

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

QUERY_FIELDS_MAX = 1000
DISCARD_S_MAX = 5
INLINE_BYTES = 16 * 1024
"""Up to here a compressed body is begun on the loop, in about a millisecond; what is larger is left to a thread."""


@dataclass(slots=True)
class Call:
    """A request on its way to a handler; routing and authentication fill in `route`, `path` and `caller`.

    `route` is the path as it is declared, "none" where nothing answers. `body_done` says that the whole body was read,
    and `body_ended` that the server has said so. `asked` is the query once it was decoded.
    """

    app: App
    scope: Scope
    receive: Receive
    headers: Mapping[str, str]
    request_id: str
    correlation_id: str
    now: int
    route: str = "none"
    path: Mapping[str, str] = field(default_factory=dict)
    key: Caller | None = None
    body_done: bool = False
    body_ended: bool = False
    body_cut_short: bool = False
    body_read: int = 0
    asked: tuple[tuple[str, str], ...] | None = None

    @property
    def caller(self) -> Caller:
        """Who asks; handlers of routes that need a key always have one."""
        assert self.key is not None
        return self.key

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """The query's parameters in order, decoded once."""
        if self.asked is None:
            self.asked = parse_query(self.scope["query_string"])
        return self.asked

    @property
    def instance(self) -> str:
        """The path as it was sent, without the query, which may hold what is nobody else's business."""
        return str(self.scope["raw_path"], "ascii", "replace").split("?", 1)[0]


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; the values of one that was sent again follow after a comma (RFC 9110)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = str(raw_name, "latin-1").lower(), str(raw_value, "latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def parse_query(sent: bytes) -> tuple[tuple[str, str], ...]:
    """Decode a query string, once."""
    if not sent:
        return ()
    try:
        text = sent.decode("ascii")
        return tuple(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX))
    except ValueError:
        detail = f"The query must be percent-encoded UTF-8 with at most {QUERY_FIELDS_MAX} parameters."
        raise Problem(Code.PARAMETER_INVALID, detail, (Flaw("", detail),)) from None


def segments_of(raw_path: bytes) -> tuple[str, ...] | None:
    """Split a path at its slashes and decode each part once, so that `%2F` stays inside its part."""
    try:
        path = raw_path.split(b"?", 1)[0]
        if b"%" not in path:
            return tuple(path.decode().split("/")[1:])
        return tuple(unquote_to_bytes(part).decode() for part in path.split(b"/")[1:])
    except UnicodeDecodeError:
        return None


class body_of:
    """Read the body and undo its content coding, within `bytes_max` decoded bytes: `async with body_of(...) as body`.

    What it holds is counted against what all bodies together may hold until the handler is done with it. Raises
    Problem: MEDIA_TYPE_UNKNOWN for a coding that is not taken, BATCH_TOO_LARGE, BODY_UNDECODABLE for a body that is
    cut short or not of its coding, UNAVAILABLE while too much is held.
    """

    def __init__(self, call: Call, bytes_max: int) -> None:
        self._call, self._bytes_max, self._held = call, bytes_max, _Held(call.app)

    async def __aenter__(self) -> bytes:
        call, bytes_max, held = self._call, self._bytes_max, self._held
        try:
            coding = codings.coding_of(call.headers.get("content-encoding"))
            if coding is None:
                return await _sent(call, bytes_max, bytes_max, held)
            sent = await _sent(call, coded_max(bytes_max), bytes_max, held)
            return await _decoded(sent, coding, bytes_max, held)
        except BaseException:
            held.let_go(held.bytes)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._held.let_go(self._held.bytes)


@dataclass(slots=True)
class _Held:
    """What one request's body holds in memory, counted into what all of them hold."""

    app: App
    bytes: int = 0

    def take(self, count: int) -> None:
        self.bytes += count
        self.app.body_bytes += count
        if self.app.body_bytes > self.app.settings.queue_bytes_max:
            raise Problem(Code.UNAVAILABLE, "Too much is being received at the moment; try again.", retry_after_s=1)

    def let_go(self, count: int) -> None:
        self.bytes -= count
        self.app.body_bytes -= count


def coded_max(bytes_max: int) -> int:
    """Return how many bytes a compressed body may have: data that does not compress becomes a little larger by it."""
    return bytes_max + bytes_max // 8 + 1024


async def _sent(call: Call, sent_max: int, bytes_max: int, held: _Held) -> bytes:
    """Read the body as it was sent; `bytes_max` is what a refusal names."""
    length = call.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > sent_max:
        raise too_large(bytes_max)
    parts: list[bytes] = []
    while not call.body_done:
        part = await _part(call)
        if held.bytes + len(part) > sent_max:
            raise too_large(bytes_max)
        held.take(len(part))
        if part:
            parts.append(part)
    return b"".join(parts) if len(parts) != 1 else parts[0]


async def _decoded(sent: bytes, coding: str, bytes_max: int, held: _Held) -> bytes:
    """Undo the coding of a body; stops as soon as it is too large. In the end only what was decoded is held."""
    sent_bytes, decoded_bytes, found = held.bytes, 0, list[bytes]()
    pieces = codings.pieces(sent, coding, window_bytes_max=held.app.settings.zstd_window_bytes_max)
    beside = len(sent) > INLINE_BYTES
    while (piece := await asyncio.to_thread(next, pieces, None) if beside else next(pieces, None)) is not None:
        beside = beside or len(piece) >= codings.PIECE_BYTES
        decoded_bytes += len(piece)
        if decoded_bytes > bytes_max:
            raise too_large(bytes_max)
        # Twice, because zstd remembers what later data may point back to, and because pieces are put together.
        held.take(2 * len(piece))
        found.append(piece)
    held.let_go(sent_bytes + decoded_bytes)
    return b"".join(found)


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


async def gone(call: Call) -> None:
    """Return once the client has gone; its body must have been read or dropped."""
    while (await call.receive())["type"] != "http.disconnect":
        if call.body_ended:
            await asyncio.Event().wait()
        call.body_done = call.body_ended = True


def refuse_unframed(call: Call) -> None:
    """Refuse HTTP/1.0: there the end of the connection ends a stream, and one that was cut would look whole."""
    if call.scope.get("http_version") in ("1", "1.0"):
        detail = "A stream needs HTTP/1.1 or later, so that a cut one can be told; a proxy may have to be told too."
        raise Problem(Code.HTTP_VERSION, detail, headers={"Upgrade": "HTTP/1.1", "Connection": "Upgrade"})


def announces_body(headers: Mapping[str, str]) -> bool:
    """Say whether a request with these headers is followed by a body."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _discard(call: Call, bytes_max: int) -> bool:
    dropped = 0
    while not call.body_done:
        dropped += len(await _part(call))
        if dropped > bytes_max:
            return False
    return True


async def _part(call: Call) -> bytes:
    """Return the next part of the body, which may be empty, and note where it was the last."""
    try:
        message = await call.app.waits.within(call.receive())
    except TimeoutError:
        raise _cut_short(call, "The rest of the body did not arrive in time; send the request again.") from None
    if message["type"] == "http.disconnect":
        raise _cut_short(call, "The body ended before it was complete; send the request again.")
    part: bytes = message.get("body", b"")
    call.body_ended = not message.get("more_body", False)
    call.body_read += len(part)
    # Nothing can follow what was announced: asking for the end as well would be another turn of the loop.
    call.body_done = call.body_ended or str(call.body_read) == call.headers.get("content-length")
    return part


def _cut_short(call: Call, detail: str) -> Problem:
    call.body_cut_short = True
    return Problem(Code.BODY_UNDECODABLE, detail, headers={"Connection": "close"})


def too_large(bytes_max: int) -> Problem:
    """The body is larger than it may be."""
    return Problem(
        Code.BATCH_TOO_LARGE, f"The body may have at most {bytes_max} bytes (decompressed); send smaller batches."
    )
