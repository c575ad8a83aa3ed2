"""Holds that changed since their rows were written: the log tells of them, and memory has them as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import apsw
import msgspec

from tallystick.ledger.packed import hold_entries
from tallystick.ledger.packed.hold_entries import AdmissionHeader, Crossed, HoldChange, HoldMade, Named, named
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite import hold_tables
from tallystick.ledger.sqlite.file import ADMISSION, rows
from tallystick.ledger.sqlite.hold_tables import Mark
from tallystick.model import Hold

Holds = dict[int, dict[str, Hold]]
"""By the number of their account and their id."""
NONE: Mapping[str, Hold] = {}


@dataclass(slots=True)
class Unwritten:
    """Holds that are not what their rows say, or have none; whoever reads it has the book's lock in hand.

    `frozen` are being written, as they were at the entry `mark.further`, and stay until all of them are; `active` were
    changed after it, so many `changes` in all. `mark` is how far rows are, as the file says it.
    """

    mark: Mark = field(default_factory=lambda: Mark.at(0))
    frozen: Holds = field(default_factory=dict)
    active: Holds = field(default_factory=dict)
    changes: int = 0

    def find(self, owner: int, id: str) -> Hold | None:
        """Return a hold if it is not what its row says."""
        return self.active.get(owner, NONE).get(id) or self.frozen.get(owner, NONE).get(id)

    def of(self, owner: int) -> dict[str, Hold]:
        """Return those of an account, by id."""
        return {**self.frozen.get(owner, {}), **self.active.get(owner, {})}

    def owners(self, id: str) -> set[int]:
        """Return the numbers of the accounts that have one of this id."""
        return {owner for part in (self.frozen, self.active) for owner, holds in part.items() if id in holds}

    def everything(self) -> dict[Named, Hold]:
        """Return all of them."""
        parts = (self.frozen, self.active)
        return {(owner, id): hold for part in parts for owner, holds in part.items() for id, hold in holds.items()}

    def add(self, holds: Mapping[Named, Hold], changes: int) -> None:
        """Take in what an entry of the log changed."""
        self.changes += changes
        for (owner, id), hold in holds.items():
            self.active.setdefault(owner, {})[id] = hold

    def freeze(self, through: int) -> None:
        """Begin to write all there is, which is what the log says up to an entry."""
        self.mark = Mark(self.mark.through, through)
        self.frozen, self.active, self.changes = self.active, {}, 0

    def written(self, mark: Mark) -> None:
        """Take in how far rows are now."""
        self.mark = mark
        if mark.is_at_rest:
            self.frozen = {}

    def slices(self, size: int) -> Iterator[tuple[dict[Named, Hold], Mark]]:
        """Yield what is frozen and not written yet, so many at a time, with the mark that goes with them."""
        if self.mark.is_at_rest:
            return
        further = self.mark.further
        names = sorted((owner, id) for owner, holds in self.frozen.items() for id in holds)
        names = [name for name in names if self.mark.of(name) < further]
        for start in range(0, len(names) or 1, size):
            some = names[start : start + size]
            is_last = start + size >= len(names)
            mark = Mark.at(further) if is_last else Mark(self.mark.through, further, *some[-1])
            yield {(owner, id): self.frozen[owner][id] for owner, id in some}, mark


def load(db: apsw.Connection, names: Mapping[int, str], last: int) -> Unwritten:
    """Fold from the log what rows do not tell; `names` are those of accounts, `last` is the last entry.

    What was being written when the process ended is frozen again: some rows tell what the log says up to there.
    """
    mark = hold_tables.mark(db)
    if not 0 <= mark.through <= mark.further <= last:
        raise Damaged(f"rows of holds cannot be as far as log entries {mark.through} and {mark.further} of {last}")
    behind = [(entry, change) for entry, change in _changes(db, mark.through) if entry > mark.of(named(change))]
    kept = hold_tables.find(db, [named(change) for _, change in behind if not isinstance(change, HoldMade)])
    found = Unwritten(mark)
    for entry, change in behind:
        hold_entries.fold(kept, change)
        owner, id = named(change)
        part = found.frozen if entry <= mark.further else found.active
        part.setdefault(owner, {})[id] = hold_entries.hold_of(kept[owner, id], names.get(owner, ""))
        found.changes += entry > mark.further
    return found


def _changes(db: apsw.Connection, after: int) -> Iterator[tuple[int, HoldChange]]:
    statement = f"SELECT entry, header FROM log WHERE kind = {ADMISSION} AND entry > ? ORDER BY entry"
    for entry, header in rows(db, statement, (after,)):
        for change in msgspec.msgpack.decode(header, type=AdmissionHeader).changes:
            if not isinstance(change, Crossed):
                yield entry, change
