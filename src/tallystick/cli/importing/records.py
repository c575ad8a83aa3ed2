"""A file taken apart into its records: lines of JSON, elements of JSON, rows of a table; one at a time."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count, repeat
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tallystick.cli.options import Failure

if TYPE_CHECKING:
    from _csv import Reader

BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
RECORD_BYTES_MAX = 16 << 20
"""Past this nothing is an event any more: it is refused without being held."""
BLOCK_BYTES = 1 << 18
LOOK_BYTES = 1 << 14
LAST_CUTS = 8
_SPECIAL = '"\r\0'
"""What may make a cell of a table more than the text between two delimiters."""
NDJSON, JSON, CSV, TSV = FORMS = ("ndjson", "json", "csv", "tsv")
FORM_OF_SUFFIX = {".ndjson": NDJSON, ".jsonl": NDJSON, ".json": JSON, ".csv": CSV, ".tsv": TSV, ".tab": TSV}
DELIMITERS = {CSV: ",", TSV: "\t"}


class Record(NamedTuple):
    """One record: the number of the line it begins on, and its bytes.

    `flaw` says why it cannot even be looked at; the bytes of what is too long are only its beginning. `is_row` is true
    where it was read as a row all the same.
    """

    line: int
    raw: bytes
    flaw: str | None = None
    is_row: bool = False


_record = partial(tuple.__new__, Record)
"""Makes one of its members in half the time of `_make`: of most tables that is half of all there is to do."""
Records = list[Record]
Columns = Sequence[Sequence[str]]


class RowBlock(NamedTuple):
    """Rows that were read together, the cells of each column of theirs, and the records that are no rows."""

    rows: Records
    columns: Columns
    flawed: Records


class Broken(Exception):
    """The rest of a file cannot be taken apart; what came before it stands."""


def form_of(name: str, content: io.BufferedReader) -> str:
    """Tell the form of a file by its name, else by how it begins."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes if suffix.lower() not in (".gz", ".zst")]
    form = FORM_OF_SUFFIX.get(suffixes[-1]) if suffixes else None
    start = content.peek(4096).removeprefix(BOM).lstrip(SPACE)
    if form == JSON and start.startswith(b"{") and _is_whole(start.partition(b"\n")[0]):
        return NDJSON
    if form is not None:
        return form
    if start.startswith(b"["):
        return JSON
    if start.startswith(b"{"):
        return NDJSON
    return TSV if b"\t" in start.partition(b"\n")[0] else CSV


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def lines_of(content: io.BufferedReader) -> Iterator[Records]:
    """Yield the lines that are not blank, without the space around them."""
    for block in _blocks(content):
        if block.flaw is not None:
            yield [Record(block.first, block.text, flaw=block.flaw)]
            continue
        lines = enumerate(block.text.split(b"\n"), block.first)
        yield [Record(number, line) for number, raw in lines if (line := raw.strip(SPACE))]


class _Block(NamedTuple):
    """Whole lines, the first of which has the number `first`; or the beginning of one that is too long."""

    first: int
    text: bytes
    flaw: str | None = None


def _blocks(content: io.BufferedReader) -> Iterator[_Block]:
    first, held, is_too_long = 1, b"", False
    start = BOM
    while block := content.read(BLOCK_BYTES):
        block, start = block.removeprefix(start), b""
        cut = block.rfind(b"\n")
        if cut < 0 and len(held) + len(block) < RECORD_BYTES_MAX:
            held += block
            continue
        if is_too_long or (cut < 0 and held):
            # Only the beginning of such a line is held.
            end = block.find(b"\n")
            if not is_too_long:
                yield _Block(first, held[:1000], _too_long())
            is_too_long = end < 0
            held = b""
            if is_too_long:
                continue
            first += 1
            block, cut = block[end + 1 :], cut - end - 1
        if cut >= 0:
            text = held + block[:cut]
            yield _Block(first, text)
            first += text.count(b"\n") + 1
            held = block[cut + 1 :]
        else:
            held = block
    if held:
        yield _Block(first, held)


def _too_long() -> str:
    return f"The record has more than {RECORD_BYTES_MAX} bytes: no event is that long."


# Tables


class Rows:
    """The rows of a table, below its header."""

    def __init__(self, content: io.BufferedReader, delimiter: str) -> None:
        """Read the header; raises Failure where there is none or it names a column twice."""
        csv.field_size_limit(RECORD_BYTES_MAX)
        self._delimiter = delimiter
        self._blocks = _blocks(content)
        block = next(self._blocks, _Block(1, b""))
        lines = block.text.split(b"\n")
        reader = self._reader([line.decode("utf-8", "surrogateescape") for line in lines])
        try:
            self.columns: list[str] = next(reader, [])
        except csv.Error as error:
            raise Failure(f"The header cannot be read: {error}.") from None
        self._rest = _Block(1 + reader.line_num, b"\n".join(lines[reader.line_num :]), block.flaw)
        twice = next((name for name in self.columns if self.columns.count(name) > 1), None)
        if not any(self.columns):
            raise Failure("There is no header: the first line must name the columns.")
        if twice is not None:
            raise Failure(f"The header names the column {twice!r} twice: nobody can tell which one is meant.")

    def __iter__(self) -> Iterator[RowBlock]:
        """Yield the rows that are not blank; raises Broken behind a quote that never ends."""
        blocks = chain([self._rest] if self._rest.text else [], self._blocks)
        for block in blocks:
            rows = self._plain_rows(block)
            if rows is None:
                # From a cell with a line end in it on, one line after the other.
                yield from self._slowly(chain([block], blocks))
                return
            yield rows

    def _reader(self, lines: Iterable[str]) -> Reader:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def _plain_rows(self, block: _Block) -> RowBlock | None:
        """Return the rows of a block in which each line is one; None for any other."""
        raws = block.text.split(b"\n")
        text = block.text.decode("utf-8", "surrogateescape")
        lines, size = text.split("\n"), len(self.columns)
        if block.flaw is None and not any(map(text.__contains__, _SPECIAL)) and "" not in lines:
            # Then each line is a row that nothing but the delimiter parts.
            delimiter = self._delimiter
            if set(map(str.count, lines, repeat(delimiter))) == {size - 1}:
                cells = text.replace("\n", delimiter).split(delimiter)
                records = list(map(_record, zip(count(block.first), raws, repeat(None), repeat(False))))
                return RowBlock(records, [cells[at::size] for at in range(size)], [])
        try:
            rows = list(self._reader(lines))
        except csv.Error:
            return None
        if len(rows) != len(raws) or block.flaw is not None:
            return None
        numbered = zip(count(block.first), raws, rows, strict=False)
        return self._block([(number, raw, cells) for number, raw, cells in numbered if cells])

    def _slowly(self, blocks: Iterator[_Block]) -> Iterator[RowBlock]:
        pulled: list[bytes] = []
        number = 0

        def lines() -> Iterator[str]:
            nonlocal number
            for block in blocks:
                if block.flaw is not None:
                    raise Broken(f"Line {block.first} cannot be a row: {block.flaw}")
                for at, raw in enumerate(block.text.split(b"\n"), block.first):
                    number = at
                    pulled.append(raw)
                    if len(pulled) > 1 and sum(map(len, pulled)) > RECORD_BYTES_MAX:
                        raise Broken(f"A row of more than {RECORD_BYTES_MAX} bytes ends at line {at}: see its quotes.")
                    yield raw.decode("utf-8", "surrogateescape") + "\n"

        reader = self._reader(lines())
        while True:
            pulled.clear()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                first = number - len(pulled) + 1
                flaw = f"The row cannot be read: {error}."
                yield RowBlock([], [], [Record(first, b"\n".join(pulled).rstrip(b"\r"), flaw)])
                continue
            if cells is None:
                return
            if cells:
                yield self._block([(number - len(pulled) + 1, b"\n".join(pulled), cells)])

    def _block(self, rows: Sequence[tuple[int, bytes, list[str]]]) -> RowBlock:
        """Put rows together, but for those that have not a cell for each column."""
        size = len(self.columns)
        fit = [row for row in rows if len(row[2]) == size]
        columns = [[cells[at] for _, _, cells in fit] for at in range(size)]
        flawed = [
            Record(line, raw.rstrip(b"\r"), _wrong_size(len(cells), size), is_row=True)
            for line, raw, cells in rows
            if len(cells) != size
        ]
        return RowBlock([Record(line, raw.rstrip(b"\r")) for line, raw, _ in fit], columns, flawed)


def _wrong_size(cells: int, columns: int) -> str:
    return f"The row has {cells} cells and the header {columns}: see its quotes and separators."


# JSON


_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_CLOSED = re.compile(rb"\}[ \t\r\n]*,")
_BETWEEN = re.compile(rb"[ \t\r\n,]*")
_VALUES = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


def elements_of(content: io.BufferedReader) -> Iterator[Records]:
    """Yield the elements of a JSON list, or JSON values that follow one another; raises Broken where it is no JSON."""
    return iter(_Elements(content))


class _Elements:
    """Holds a part of the file at a time; an element that is not whole yet waits for more of it."""

    def __init__(self, content: io.BufferedReader) -> None:
        self._content = content
        self._held = content.read(BLOCK_BYTES).removeprefix(BOM)
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
                yield [self._value()]
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
            yield self._many() or [self._value()]

    def _many(self) -> Records:
        """Take as many elements as are whole.

        If what ends before some comma is a list of values, then the comma parts two elements: inside one of them a
        bracket or a quote would be open.
        """
        cuts = [match.start() + 1 for match in _CLOSED.finditer(self._held)]
        for cut in _likely(cuts):
            try:
                raws = _list_decoder.decode(b"[" + self._held[:cut] + b"]")
            except (msgspec.MsgspecError, RecursionError):
                continue
            return self._placed([bytes(raw) for raw in raws], cut)
        return []

    def _placed(self, raws: list[bytes], cut: int) -> Records:
        records: Records = []
        place, line = 0, self._line
        held, between = self._held, _BETWEEN.match
        for raw in raws:
            found = between(held, place).end()  # type: ignore[union-attr]  # it matches nothing too
            line += held.count(b"\n", place, found)
            ends = raw.count(b"\n")
            records.append(_record((line, _on_one_line(raw) if ends or b"\r" in raw else raw, None, False)))
            line += ends
            place = found + len(raw)
        self._drop(cut)
        return records

    def _value(self) -> Record:
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
            record = Record(self._line, _on_one_line(raw))
            self._drop(len(raw))
            return record

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
        if len(self._held) > RECORD_BYTES_MAX:
            raise self._broken(_too_long())
        block = self._content.read(BLOCK_BYTES)
        self._ended = not block
        self._held += block
        return bool(block)

    def _broken(self, why: str) -> Broken:
        return Broken(f"The file is no JSON from line {self._line} on: {why}.")


def _likely(cuts: list[int]) -> Iterator[int]:
    """Yield the last cuts, then some nearer and nearer to the beginning, in case something behind them is no JSON."""
    yield from cuts[: -LAST_CUTS - 1 : -1]
    at = len(cuts) // 2
    while at > LAST_CUTS:
        yield from cuts[at : at + LAST_CUTS]
        at //= 2


def _on_one_line(raw: bytes) -> bytes:
    """Write a JSON value on one line: outside of its strings line ends are space, and inside there are none."""
    return raw.replace(b"\n", b" ").replace(b"\r", b" ")
