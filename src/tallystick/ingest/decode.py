"""What a request sends, taken apart into the JSON texts of its events; none of them is judged here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import NoReturn

import msgspec
import numpy as np

from tallystick.envelope import refusal
from tallystick.errors import Code, Flaw, Problem
from tallystick.ingest.headers import (
    BATCH,
    CLOUDEVENTS,
    KNOWN,
    LINES,
    PLAIN,
    attributes_of,
    media_type_of,
    media_type_unknown,
)
from tallystick.model import Verdict
from tallystick.raws import Views

BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
LINE = re.compile(rb"[^ \t\r\n][^\n]*")
WHITESPACE = re.compile(r"[ \t\r\n]*")
BYTES_PER_COMMA_MIN = 16
COUNT_STEP_BYTES = 1 << 20
NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},'))


class Items(msgspec.Struct, frozen=True):
    """The events of one request, in order, each as the JSON text that was sent for it.

    `plain`: the format does not ask for a specversion. `single`: the request is one event, not a list of one. `bad`
    has the verdict on each item, by its place in `raws`, that is already known to be no JSON.
    """

    raws: Sequence[bytes]
    plain: bool
    single: bool
    bad: dict[int, Verdict] = {}


def decode(
    body: bytes, content_type: str | None, headers: Mapping[str, str], *, batch_events_max: int = 100_000
) -> Items:
    """Take a request's body apart by its content type, without reading the events.

    Binary mode is any content type that is not CloudEvents' own, with a `ce-` header. Raises Problem with
    MEDIA_TYPE_UNKNOWN, HEADER_INVALID, BODY_UNDECODABLE (also for a body without anything), or BATCH_TOO_LARGE.
    """
    media_type = media_type_of(content_type)
    attributes = {} if media_type.startswith(CLOUDEVENTS) else attributes_of(headers)
    if attributes:
        return Items([_from_headers(attributes, body, media_type, content_type)], plain=False, single=True)
    body = body.removeprefix(BOM)
    is_empty = not body.strip(SPACE)
    # Who sends nothing has nothing to name the type of.
    if media_type not in KNOWN and media_type not in LINES and not (is_empty and content_type is None):
        raise media_type_unknown()
    if is_empty:
        raise _undecodable("The body is empty: send at least one event, or an empty list.")
    if media_type in LINES:
        return _lines(body, batch_events_max)
    if media_type == BATCH or (media_type == PLAIN and body.lstrip(SPACE).startswith(b"[")):
        return Items(_elements(body, batch_events_max), plain=media_type == PLAIN, single=False)
    return Items([_one(body)], plain=media_type == PLAIN, single=True)


def _undecodable(detail: str) -> Problem:
    return Problem(Code.BODY_UNDECODABLE, detail, (Flaw("", detail),))


def _too_large(batch_events_max: int) -> NoReturn:
    raise Problem(Code.BATCH_TOO_LARGE, f"Send at most {batch_events_max} events in one request.")


# JSON


_one_decoder = msgspec.json.Decoder(msgspec.Raw)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def _one(body: bytes) -> bytes:
    """Return the one JSON value of a body, without the space around it."""
    try:
        return bytes(_one_decoder.decode(body))
    except (msgspec.MsgspecError, RecursionError):
        return _one_slowly(body)


def _one_slowly(body: bytes) -> bytes:
    scanner = _Scanner(body)
    raw = scanner.value()
    scanner.expect_end()
    return raw


def _elements(body: bytes, batch_events_max: int) -> Sequence[bytes]:
    """Return the elements of a JSON list."""
    if _may_hold_many(body, batch_events_max) and count_elements(body) > batch_events_max:
        _too_large(batch_events_max)
    try:
        raws = _list_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return _elements_slowly(body, batch_events_max)
    if len(raws) > batch_events_max:
        _too_large(batch_events_max)
    return Views(raws)


def _elements_slowly(body: bytes, batch_events_max: int) -> list[bytes]:
    """Take apart a list that the fast decoder refused: half a surrogate pair in one event must not cost the others."""
    scanner = _Scanner(body)
    raws: list[bytes] = []
    scanner.expect("[")
    while not scanner.take("]"):
        if raws:
            scanner.expect(",")
        if len(raws) == batch_events_max:
            _too_large(batch_events_max)
        raws.append(scanner.value())
    scanner.expect_end()
    return raws


class _Scanner:
    """Walks over JSON that may hold any text and any number: form is all that it looks at.

    Bytes are read as Latin-1, so that places in the text are places in the body.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.text = body.decode("latin-1")
        self.place = 0
        self.json = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_constant)

    def value(self) -> bytes:
        """Step over one value and return its bytes."""
        start = self._skip()
        try:
            _, self.place = self.json.raw_decode(self.text, start)
        except ValueError as error:
            raise self._undecodable() from error
        except RecursionError:
            raise _undecodable("The body is nested too deeply.") from None
        return self.body[start : self.place]

    def take(self, letter: str) -> bool:
        """Step over a letter if it is next."""
        start = self._skip()
        found = self.text.startswith(letter, start)
        self.place = start + found
        return found

    def expect(self, letter: str) -> None:
        """Step over a letter that must be next."""
        if not self.take(letter):
            raise self._undecodable()

    def expect_end(self) -> None:
        """Make sure that nothing follows."""
        if self._skip() != len(self.text):
            raise self._undecodable()

    def _skip(self) -> int:
        match = WHITESPACE.match(self.text, self.place)
        return self.place if match is None else match.end()

    def _undecodable(self) -> Problem:
        return _undecodable(f"The body is not JSON: see what follows byte {self.place}.")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _may_hold_many(body: bytes, batch_events_max: int) -> bool:
    """Say whether a list must be counted before it is taken apart, so that a flood of tiny elements costs no memory.

    What passes uncounted has at most one element per BYTES_PER_COMMA_MIN bytes.
    """
    commas = body.count(b",")
    return commas >= batch_events_max and commas * BYTES_PER_COMMA_MIN > len(body)


def count_elements(body: bytes) -> int:
    """Count the elements of a JSON list in little memory; more or less than right if the body is no such list."""
    masked = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, NOT_STRUCTURE)
    commas, depth, quotes = 0, 0, 0
    for start in range(0, len(masked), COUNT_STEP_BYTES):
        letters = np.frombuffer(masked, np.uint8, min(COUNT_STEP_BYTES, len(masked) - start), start)
        quoted = np.cumsum(letters == ord('"'), dtype=np.int32) + quotes
        outside = quoted & 1 == 0
        opening = outside & ((letters == ord("[")) | (letters == ord("{")))
        closing = outside & ((letters == ord("]")) | (letters == ord("}")))
        depths = np.cumsum(opening.astype(np.int32) - closing, dtype=np.int32) + depth
        commas += int(np.count_nonzero(outside & (depths == 1) & (letters == ord(","))))
        depth, quotes = int(depths[-1]), int(quoted[-1]) & 1
    return commas + 1


def _lines(body: bytes, batch_events_max: int) -> Items:
    """Take each line that is not blank as one event; a line that is no JSON spoils nothing but itself."""
    if body.count(b"\n") < batch_events_max:
        raws = list(filter(None, map(bytes.strip, body.split(b"\n"), repeat(SPACE))))
        if list_of(raws, batch_events_max) is not None:
            return Items(raws, plain=True, single=False)
    return _lines_slowly(body, batch_events_max)


def list_of(texts: Sequence[bytes], batch_events_max: int = 100_000) -> bytes | None:
    """Make a JSON list of some texts, without space around them; None where not each is plainly one JSON value."""
    together = b"[%b]" % b",".join(texts)
    if _may_hold_many(together, batch_events_max) and count_elements(together) > batch_events_max:
        return None
    try:
        values = _list_decoder.decode(together)
    except (msgspec.MsgspecError, RecursionError):
        return None
    # Each as long as its text: then none of them has a comma of ours in it.
    return together if list(map(len, values)) == list(map(len, texts)) else None


def _lines_slowly(body: bytes, batch_events_max: int) -> Items:
    """Take lines one by one, some of which are no JSON."""
    raws: list[bytes] = []
    bad: dict[int, Verdict] = {}
    for match in LINE.finditer(body):
        if len(raws) == batch_events_max:
            _too_large(batch_events_max)
        line = match[0].rstrip(b" \t\r")
        try:
            _one_decoder.decode(line)
        except (msgspec.MsgspecError, RecursionError):
            _judge_line(line, len(raws), bad)
        raws.append(line)
    return Items(raws, plain=True, single=False, bad=bad)


def _judge_line(line: bytes, index: int, bad: dict[int, Verdict]) -> None:
    try:
        _one_slowly(line)
    except Problem:
        bad[index] = refusal(Code.NOT_JSON, "", "This line is not JSON: send one JSON object on each line.")


# Binary mode


def _from_headers(attributes: dict[str, str], body: bytes, media_type: str, content_type: str | None) -> bytes:
    """Write the event of a request in binary mode as structured JSON.

    JSON data is kept as it came, other text as a string, anything else in base64.
    """
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    members = [f"{json.dumps(name)}:{json.dumps(value)}".encode() for name, value in attributes.items()]
    if body:
        members.append(_data(body, media_type))
    return b"{" + b",".join(members) + b"}"


def _data(body: bytes, media_type: str) -> bytes:
    if media_type in ("", PLAIN, "text/json") or media_type.endswith("+json"):
        return b'"data":' + _one(body.removeprefix(BOM))
    if media_type.startswith("text/"):
        try:
            return b'"data":' + json.dumps(body.decode("utf-8")).encode()
        except UnicodeDecodeError:
            pass
    return b'"data_base64":"' + base64.b64encode(body) + b'"'
