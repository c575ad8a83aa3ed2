"""What one column of a table gives to each event: a member of an object, as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tallystick.cli.importing.drafts import written
from tallystick.cli.importing.mapping import Target
from tallystick.cli.importing.records import Columns
from tallystick.cli.importing.values import PLAIN_NUMBER, TIME_FIELD, Unfit, converted, is_number, may_be_number
from tallystick.envelope import TIME

REMEMBERED_MAX = 20_000
ALIKE_MIN = 16
"""Fewer cells are written one by one."""
LOOKED_AT = 64
"""So many cells tell whether most of a column are new: then there is nothing to remember."""
NUMBERS = re.compile(rf"(?:(?:{PLAIN_NUMBER.pattern})?\n)*+", re.ASCII)
TIMES = re.compile(rf"(?:(?:{TIME.pattern})?\n)*+")
UTC_TIMES = re.compile(r"(?:(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[ Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)?\n)*+")
"""Lines of cells that are all numbers, all times as they are to be sent, or all times in UTC without saying so."""

WHOLE = re.compile(r"(?:(?:0|[1-9][0-9]{0,14})?\n)*+", re.ASCII)
"""Lines of cells that are whole numbers, of fewer digits than any amount may have."""


def _thousandths(cells: Sequence[str]) -> list[str]:
    """Write whole numbers of thousandths with three decimals, as exact arithmetic does."""
    return [f"{cell[:-3]}.{cell[-3:]}" if len(cell) > 3 else f"0.{cell:>03}" for cell in cells]


COUNTS: Mapping[str, Callable[[Sequence[str]], Sequence[str]]] = {"ms": _thousandths, "s": lambda cells: cells}
"""How whole numbers of a unit are written as seconds, without any arithmetic."""


class Cells(NamedTuple):
    """A member of every row: what stands before it and behind it in each, and between them what each has of its own."""

    before: str
    cells: Sequence[str]
    behind: str

    @property
    def texts(self) -> list[str]:
        """Write the member of each row."""
        return [f"{self.before}{cell}{self.behind}" for cell in self.cells]


class Table(NamedTuple):
    """Rows: how many there are, and the cells of each column."""

    size: int
    columns: Columns


class Fixed:
    """A member that is the same in every event."""

    def __init__(self, name: str, value: object) -> None:
        self._member = f"{json_text(name)}:{json_text(value)}"

    def members(self, table: Table, unfit: dict[int, Unfit]) -> str:
        """Give it to all rows alike."""
        return self._member


class Column:
    """A member made of a cell, "" where the cell is empty. What was made lately is remembered."""

    def __init__(self, at: int, target: Target, zone: str) -> None:
        self._at = at
        self._target = target
        self._zone = zone
        self._start = f"{json_text(target.path[-1])}:"
        self._made = _Made(self._make)
        self._is_unfit = False

    def members(self, table: Table, unfit: dict[int, Unfit]) -> Cells | list[str]:
        """Make the members of rows; those of which none can be made are noted."""
        cells = table.columns[self._at]
        if len(cells) >= ALIKE_MIN and self._may_be_alike(cells) and (members := self._alike(cells)) is not None:
            return members
        if len(self._made) > REMEMBERED_MAX:
            self._made, self._is_unfit = _Made(self._make), False
        made = list(map(self._made.__getitem__, cells))
        if not self._is_unfit:
            return made  # type: ignore[return-value] # all of them are text
        return [member if isinstance(member, str) else _noted(at, member, unfit) for at, member in enumerate(made)]

    def _may_be_alike(self, cells: Sequence[str]) -> bool:
        """Say whether to see if all cells are written alike: text soon is; of others it pays where most are new."""
        is_text = self._target.unit is None and self._target.path != TIME_FIELD and not may_be_number(self._target.path)
        return is_text or 2 * len(set(cells[:LOOKED_AT])) > min(len(cells), LOOKED_AT)

    def _alike(self, cells: Sequence[str]) -> Cells | list[str] | None:
        """Make the members of cells that are all of one simple kind, as `_make` would; None where they are not."""
        lines = "\n".join(cells) + "\n"
        if lines.count("\n") != len(cells):
            return None
        alike = self._alike_of(cells, lines)
        if alike is None or "" not in cells:
            return alike
        return [text if cell else "" for cell, text in zip(cells, alike.texts, strict=True)]

    def _alike_of(self, cells: Sequence[str], lines: str) -> Cells | None:
        start, path = self._start, self._target.path
        if self._target.unit is not None:
            count = None if path == TIME_FIELD else COUNTS.get(self._target.unit)
            return Cells(start, count(cells), "") if count is not None and WHOLE.fullmatch(lines) else None
        if path == TIME_FIELD:
            if TIMES.fullmatch(lines):
                return Cells(f'{start}"', cells, '"')
            if self._zone == "UTC" and UTC_TIMES.fullmatch(lines):
                # Between day and clock there is one letter, and none like it elsewhere.
                return Cells(f'{start}"', lines.replace(" ", "T").replace("t", "T").split("\n")[:-1], 'Z"')
            return None
        if may_be_number(path):
            return Cells(start, cells, "") if NUMBERS.fullmatch(lines) else None
        if not lines.isascii() or '"' in lines or "\\" in lines or not lines.replace("\n", "").isprintable():
            return None
        return Cells(f'{start}"', cells, '"')

    def _make(self, cell: str) -> str | Unfit:
        path, unit = self._target.path, self._target.unit
        try:
            if unit is not None or path == TIME_FIELD:
                return self._start + json_text(converted(cell, path, unit, self._zone))
            return self._start + (cell if is_number(cell, path) else json_text(cell))
        except Unfit as error:
            self._is_unfit = True
            return error


class _Made(dict[str, str | Unfit]):
    """What was made of cells lately; of an empty one there is nothing."""

    def __init__(self, make: Callable[[str], str | Unfit]) -> None:
        super().__init__({"": ""})
        self._make = make

    def __missing__(self, cell: str) -> str | Unfit:
        made = self[cell] = self._make(cell)
        return made


def _noted(at: int, error: Unfit, unfit: dict[int, Unfit]) -> str:
    unfit.setdefault(at, error)
    return ""


def json_text(value: object) -> str:
    """Write a value as JSON; raises Unfit for text that is no UTF-8."""
    return written(value).decode()
