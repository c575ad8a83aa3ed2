"""What a file is taken apart into: records that were read together, with the lines they begin on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tallystick.errors import Code

RECORD_BYTES_MAX = 16 << 20
"""Past this nothing is an event any more: it is refused without being held."""
BLOCK_BYTES = 1 << 18

Columns = Sequence[Sequence[str]]


class Flawed(NamedTuple):
    """A record that cannot even be looked at: the line it begins on, its bytes (of a long one the first) and why."""

    line: int
    raw: bytes
    code: Code
    detail: str


class Records(NamedTuple):
    """Records that were read together: the line each begins on, its bytes, and the cells of each column if it is a row.

    `flawed` are those that lie among them and cannot be looked at.
    """

    lines: Sequence[int]
    raws: Sequence[bytes]
    columns: Columns = ()
    flawed: Sequence[Flawed] = ()


class Broken(Exception):
    """The rest of a file cannot be taken apart; what came before it stands."""


def too_long() -> str:
    """Say why a record is refused that is larger than any event."""
    return f"The record has more than {RECORD_BYTES_MAX} bytes: no event is that long."
