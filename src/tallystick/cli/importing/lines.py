"""Files of lines: whole ones a block at a time, none of them held that is too long to be a record."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import compress, repeat
from typing import NamedTuple

from tallystick.cli.importing import records
from tallystick.cli.importing.records import Flawed, Records
from tallystick.errors import Code
from tallystick.ingest.decode import BOM, SPACE


def lines_of(content: io.BufferedReader) -> Iterator[Records]:
    """Yield the lines that are not blank, without the space around them."""
    for block in blocks_of(content):
        if block.flaw is not None:
            yield Records((), (), flawed=[Flawed(block.first, block.text, Code.NOT_JSON, block.flaw)])
            continue
        raws = list(map(bytes.strip, block.text.split(b"\n"), repeat(SPACE)))
        numbers = range(block.first, block.first + len(raws))
        yield Records(numbers, raws) if all(raws) else Records([*compress(numbers, raws)], [*filter(None, raws)])


class Block(NamedTuple):
    """Whole lines, the first of which has the number `first`; or the beginning of one that is too long."""

    first: int
    text: bytes
    flaw: str | None = None


def blocks_of(content: io.BufferedReader) -> Iterator[Block]:
    """Yield the lines of a file, many at a time."""
    first, held, is_too_long = 1, b"", False
    start = BOM
    while block := content.read(records.BLOCK_BYTES):
        block, start = block.removeprefix(start), b""
        if is_too_long:
            # Only the beginning of such a line is held.
            _, end, block = block.partition(b"\n")
            if not end:
                continue
            first, is_too_long = first + 1, False
        text, end, rest = block.rpartition(b"\n")
        if end:
            yield Block(first, held + text)
            first += text.count(b"\n") + 1
            held = rest
        elif len(held) + len(rest) < records.RECORD_BYTES_MAX:
            held += rest
        else:
            yield Block(first, (held + rest)[:1000], records.too_long())
            held, is_too_long = b"", True
    if held:
        yield Block(first, held)
