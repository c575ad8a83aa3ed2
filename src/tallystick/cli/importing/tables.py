"""Tables: the rows of a file below its header, column by column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, repeat
from typing import TYPE_CHECKING

from tallystick.cli.importing.lines import Block, blocks_of
from tallystick.cli.importing.records import RECORD_BYTES_MAX, Broken, Flawed, Records
from tallystick.cli.options import Failure
from tallystick.errors import Code

if TYPE_CHECKING:
    from _csv import Reader

_SPECIAL = '"\r\0'
"""What may make a cell of a table more than the text between two delimiters."""


class Rows:
    """The rows of a table, below its header."""

    def __init__(self, content: io.BufferedReader, delimiter: str) -> None:
        """Read the header; raises Failure where there is none or it names a column twice."""
        csv.field_size_limit(RECORD_BYTES_MAX)
        self._delimiter = delimiter
        self._blocks = blocks_of(content)
        block = next(self._blocks, Block(1, b""))
        lines = block.text.split(b"\n")
        reader = self._reader([line.decode("utf-8", "surrogateescape") for line in lines])
        try:
            self.columns: list[str] = next(reader, [])
        except csv.Error as error:
            raise Failure(f"The header cannot be read: {error}.") from None
        self._rest = Block(1 + reader.line_num, b"\n".join(lines[reader.line_num :]), block.flaw)
        twice = next((name for name in self.columns if self.columns.count(name) > 1), None)
        if not any(self.columns):
            raise Failure("There is no header: the first line must name the columns.")
        if twice is not None:
            raise Failure(f"The header names the column {twice!r} twice: nobody can tell which one is meant.")

    def __iter__(self) -> Iterator[Records]:
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

    def _plain_rows(self, block: Block) -> Records | None:
        """Return the rows of a block in which each line is one; None for any other."""
        if block.flaw is not None:
            return None
        text = block.text.replace(b"\r\n", b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")
        lines = text.split("\n")
        if not any(map(text.__contains__, _SPECIAL)) and "" not in lines:
            # Then each line is a row that nothing but the delimiter parts.
            size, delimiter = len(self.columns), self._delimiter
            if set(map(str.count, lines, repeat(delimiter))) == {size - 1}:
                cells = text.replace("\n", delimiter).split(delimiter)
                numbers = range(block.first, block.first + len(lines))
                return Records(numbers, _raws(block.text), [cells[at::size] for at in range(size)])
        try:
            rows = list(self._reader(lines))
        except csv.Error:
            return None
        if len(rows) != len(lines):
            return None
        numbered = zip(count(block.first), _raws(block.text), rows, strict=False)
        return self._together([(number, raw, cells) for number, raw, cells in numbered if cells])

    def _slowly(self, blocks: Iterator[Block]) -> Iterator[Records]:
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
                yield Records((), (), flawed=[Flawed(first, _raw(pulled), Code.NOT_JSON, flaw)])
                continue
            if cells is None:
                return
            if cells:
                yield self._together([(number - len(pulled) + 1, _raw(pulled), cells)])

    def _together(self, rows: Sequence[tuple[int, bytes, list[str]]]) -> Records:
        """Put rows together, but for those that have not a cell for each column."""
        size = len(self.columns)
        fit = [row for row in rows if len(row[2]) == size]
        columns = [[cells[at] for _, _, cells in fit] for at in range(size)]
        flawed = [
            Flawed(line, raw, Code.NOT_OBJECT, _wrong_size(len(cells), size))
            for line, raw, cells in rows
            if len(cells) != size
        ]
        return Records([line for line, _, _ in fit], [raw for _, raw, _ in fit], columns, flawed)


def _raws(text: bytes) -> list[bytes]:
    """Return the bytes of rows, each on a line, without the end of the line."""
    raws = text.split(b"\n")
    return list(map(bytes.rstrip, raws, repeat(b"\r"))) if b"\r" in text else raws


def _raw(lines: Sequence[bytes]) -> bytes:
    """Return the bytes of a row that was read of some lines."""
    return b"\n".join(lines).rstrip(b"\r")


def _wrong_size(cells: int, columns: int) -> str:
    return f"The row has {cells} cells and the header {columns}: see its quotes and separators."
