"""JSON that is no lines: the elements of a list, or values that follow one another, a part of the file at a time."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from tallystick.cli.importing import records
from tallystick.cli.importing.records import Broken, Records
from tallystick.ingest.decode import BOM, SPACE, list_of

LOOK_BYTES = 1 << 14
LAST_CUTS = 8

_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_CLOSED = re.compile(rb"\}[ \t\r\n]*,")
_FOLLOWED = re.compile(rb"\}[ \t\r\n]*\{")
"""Where an element of a list ends, and where one of objects that follow one another does."""
_PARTED = re.compile(rb"(?<=\})[ \t\r\n]*(?=\{)")
_BETWEEN = re.compile(rb"[ \t\r\n,]*")
_VALUES = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


def elements_of(content: io.BufferedReader) -> Iterator[Records]:
    """Yield the elements of a JSON list, or JSON values that follow one another; raises Broken where it is no JSON."""
    return iter(_Elements(content))


class _Elements:
    """Holds a part of the file at a time; an element that is not whole yet waits for more of it."""

    def __init__(self, content: io.BufferedReader) -> None:
        self._content = content
        self._held = content.read(records.BLOCK_BYTES).removeprefix(BOM)
        self._ended = not self._held
        self._line = 1

    def __iter__(self) -> Iterator[Records]:
        self._drop_space()
        is_list = self._held.startswith(b"[")
        if is_list:
            self._drop(1)
            yield from self._of_list()
        else:
            while self._skip_to_next():
                yield self._many(_FOLLOWED, _values_in_a_row) or self._value()
        if is_list and self._skip_to_next():
            raise self._broken("something follows the end of the list")

    def _of_list(self) -> Iterator[Records]:
        is_first = True
        while True:
            if not self._skip_to_next():
                raise self._broken("the list has no end")
            if self._held.startswith(b"]"):
                self._drop(1)
                return
            if not is_first:
                if not self._held.startswith(b","):
                    raise self._broken("a comma is missing")
                self._drop(1)
                self._skip_to_next()
            is_first = False
            yield self._many(_CLOSED, _values_of_list) or self._value()

    def _many(self, end: re.Pattern[bytes], apart: Callable[[bytes], list[bytes] | None]) -> Records | None:
        """Take as many elements as are whole, up to where the last one seems to end."""
        for cut in _cuts(self._held, end):
            text = self._held[:cut]
            raws = apart(text)
            if raws is not None:
                lines = _lines_alike(raws, text, self._line)
                found = _placed(raws, text, self._line) if lines is None else Records(lines, raws)
                self._drop(cut)
                return found
        return None

    def _value(self) -> Records:
        """Take one value, slowly: it says where the text stops being JSON."""
        look = LOOK_BYTES
        while True:
            text = self._held[:look].decode("utf-8", "surrogateescape")
            try:
                _, end = _VALUES.raw_decode(text)
            except (ValueError, RecursionError) as error:
                if look < len(self._held) or self._more():
                    look *= 2
                    continue
                raise self._broken(str(error)) from None
            # A number or word at the very end may go on behind it.
            if end == len(text) and (look < len(self._held) or self._more()):
                look *= 2
                continue
            raw = text[:end].encode("utf-8", "surrogateescape")
            found = Records([self._line], [_on_one_line(raw)])
            self._drop(len(raw))
            return found

    def _skip_to_next(self) -> bool:
        self._drop_space()
        while not self._held and self._more():
            self._drop_space()
        return bool(self._held)

    def _drop_space(self) -> None:
        self._drop(len(self._held) - len(self._held.lstrip(SPACE)))

    def _drop(self, size: int) -> None:
        self._line += self._held.count(b"\n", 0, size)
        self._held = self._held[size:]

    def _more(self) -> bool:
        if self._ended:
            return False
        if len(self._held) > records.RECORD_BYTES_MAX:
            raise self._broken(records.too_long())
        block = self._content.read(records.BLOCK_BYTES)
        self._ended = not block
        self._held += block
        return bool(block)

    def _broken(self, why: str) -> Broken:
        return Broken(f"The file is no JSON from line {self._line} on: {why}.")


def _values_of_list(text: bytes) -> list[bytes] | None:
    """Take values apart that commas part; None if they are none.

    If what ends before some comma is a list of values, then the comma parts two elements: inside one of them a bracket
    or a quote would be open.
    """
    try:
        return list(map(bytes, _list_decoder.decode(b"[" + text + b"]")))
    except (msgspec.MsgspecError, RecursionError):
        return None


def _values_in_a_row(text: bytes) -> list[bytes] | None:
    """Take objects apart that nothing parts but space; None if they are none, or seem to be parted inside a text."""
    raws = _PARTED.split(text)
    return None if list_of(raws) is None else raws


def _cuts(text: bytes, end: re.Pattern[bytes]) -> Iterator[int]:
    """Yield places behind braces that look like an end: the last ones, then some nearer and nearer to the beginning,
    in case something behind them is no JSON.
    """
    most = at = len(text)
    while most > 0:
        found = 0
        while found < LAST_CUTS and (at := text.rfind(b"}", 0, at)) >= 0:
            if end.match(text, at):
                found += 1
                yield at + 1
        most = at = min(at, most // 2)


def _lines_alike(raws: Sequence[bytes], text: bytes, first: int) -> Sequence[int] | None:
    """Return the lines on which the elements of a text begin where all are parted alike, each on one line."""
    between = _BETWEEN.match(text, len(raws[0]))[0]  # type: ignore[index]  # it matches nothing too
    step = between.count(b"\n")
    ends = [(len(raws) - 1) * between.count(end) for end in (b"\n", b"\r")]
    if between.join(raws) != text or [text.count(b"\n"), text.count(b"\r")] != ends:
        return None
    return range(first, first + step * len(raws), step) if step else [first] * len(raws)


def _placed(raws: Sequence[bytes], text: bytes, line: int) -> Records:
    """Find the lines on which the elements of a text begin, one by one, and write each on one line."""
    lines, place = [], 0
    for raw in raws:
        found = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]  # it matches nothing too
        line += text.count(b"\n", place, found)
        lines.append(line)
        line += raw.count(b"\n")
        place = found + len(raw)
    return Records(lines, list(map(_on_one_line, raws)))


def _on_one_line(raw: bytes) -> bytes:
    """Write a JSON value on one line: outside of its strings line ends are space, and inside there are none."""
    return raw.replace(b"\n", b" ").replace(b"\r", b" ")
