"""A ledger taken apart into steps, in the order of its log, as a copy carries them from one kind of ledger to another.

Sequences are counted from 1, whatever numbers a ledger gave: step by step and event by event, in the order in which
they were kept. Series go as what they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from tallystick.ledger.base import Proof
from tallystick.ledger.packed.entries import Change
from tallystick.ledger.packed.hold_entries import Admitting, KeptHold
from tallystick.ledger.packed.living import Living
from tallystick.ledger.packed.segment import Columns
from tallystick.ledger.packed.series import SeriesIndex
from tallystick.model import Catalog, Labels
from tallystick.rollup import Cells, Ints

Described = tuple[int, str, int, Labels]
"""What a series stands for: account number, meter, meter version, labels."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A change of the catalog."""

    recorded: int
    actor: str
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of holds and thresholds in one transaction."""

    recorded: int
    changes: Sequence[Admitting]


@dataclass(frozen=True, slots=True)
class Posted:
    """Times and postings of events; `columns` have as series a place in `sets`, which ascend."""

    columns: Columns
    sets: Sequence[Described]

    def numbered(self, numbers: Ints) -> Columns:
        """Return the columns with the series that a ledger knows `sets` by."""
        columns = self.columns
        series = numbers[columns.posting_series] if len(columns.posting_series) else columns.posting_series
        return Columns(columns.time, columns.timed, columns.posting_event, series, columns.posting_amount)


def rows_of(columns: Columns, rows: Ints) -> Columns:
    """Return some events of columns, by their places (ascending), with their postings."""
    place = np.full(len(columns.time), -1, np.int64)
    place[rows] = np.arange(len(rows))
    some = np.flatnonzero(place[columns.posting_event] >= 0)
    return Columns(
        columns.time[rows],
        columns.timed[rows],
        place[columns.posting_event[some]],
        columns.posting_series[some],
        columns.posting_amount[some],
    )


def posted(columns: Columns, describe: Callable[[int], Described]) -> Posted:
    """Take columns apart from the numbers that a ledger gave to series."""
    numbers = np.unique(columns.posting_series)
    described = [describe(number) for number in numbers.tolist()]
    order = sorted(range(len(described)), key=described.__getitem__)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    series = place[np.searchsorted(numbers, columns.posting_series)]
    free = Columns(columns.time, columns.timed, columns.posting_event, series, columns.posting_amount)
    return Posted(free, [described[at] for at in order])


@dataclass(frozen=True, slots=True)
class Committed:
    """The events of one transaction as they were sent, with the accounts' numbers, and what they added to meters."""

    recorded: int
    catalog_version: int
    raws: Sequence[bytes]
    accounts: Ints
    posted: Posted


@dataclass(frozen=True, slots=True)
class Recounted:
    """What a replay counted of the events `first` to `through`: of those with these sequences, ascending."""

    recorded: int
    catalog_version: int
    replay: str
    epoch: int
    first: int
    through: int
    sequences: Ints
    accounts: Ints
    posted: Posted


Content = Changed | Admitted | Committed | Recounted | Living
"""What a step holds; `Living` is a part of what follows from events: resources, spaces, and what was counted once."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what tells it from any other, how many events it has, and how to read it."""

    mark: bytes
    events: int
    read: Callable[[], Content]

    @staticmethod
    def of_living(mark: bytes, living: Living) -> Step:
        """Return the step of what was read already beside the log."""
        return Step(mark, 0, lambda: living)


class Unfinished(msgspec.Struct, frozen=True):
    """What a copy that is not complete says of itself: whose it is, and after which step it stands.

    Where each account's part of steps is a transaction of its own, changes of the catalog are ahead, up to `changed`.
    """

    origin: str
    steps: int = 0
    events: int = 0
    mark: str = ""
    changed: int = 0

    def refusal(self, name: str) -> str:
        """Say why a ledger that this is kept in cannot be opened."""
        return (
            f"{name} is a copy of {self.origin} that is not complete. Run the same tallystick copy again: it goes on "
            "where it stood. Or empty it and begin anew."
        )


class Source(Protocol):
    """A ledger that nobody else uses, read from its beginning; raises Damaged where bytes are not what was written."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def catalog(self) -> Catalog:
        """The catalog as its last change left it."""

    @property
    def events(self) -> int:
        """How many events are kept."""

    @property
    def series(self) -> SeriesIndex:
        """What its series stand for."""

    def steps(self) -> Iterator[Step]:
        """Yield every step: always the same ones in the same order, for as long as nobody adds to the ledger."""

    def days(self, account: int) -> Cells:
        """Return what the kept rollups of an account say per UTC day, and what is not in them yet."""

    def holds(self, account: int) -> Iterator[KeptHold]:
        """Yield the holds of an account as they are kept, in any order."""

    def crossings(self, account: int) -> Iterator[str]:
        """Yield the crossed thresholds of an account's limits as they are kept, in any order between limits."""

    def key_uses(self) -> dict[str, int]:
        """Return when keys were shown last."""

    def verify(self, progress: Callable[[int, int], None]) -> Proof:
        """Replay the log and compare everything kept with it."""


class Target(Protocol):
    """A ledger in the making."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def done(self) -> Unfinished:
        """How far it is."""

    def take(self, contents: Sequence[Content], done: Unfinished) -> None:
        """Write steps, and that they are done; durable on return, and safe to repeat after a failure.

        As one transaction, or, where no transaction is about several accounts, so that every part of it is there once
        when it is repeated, however far it came.
        """

    def finish(self, key_uses: dict[str, int]) -> None:
        """Write what is no part of the log. Safe to repeat."""

    def complete(self) -> None:
        """Make a ledger of the copy: from now on it opens like any other."""
