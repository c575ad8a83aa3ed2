"""Tables of what is kept beside the log, read a page at a time, whichever database they are in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.ledger.packed.living import Living, Recorded
from tallystick.model import Change, Record

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the columns of its key, those that are read, what a row says, and the part of Living that has it."""

    name: str
    key: str
    columns: str
    read: Callable[[Row], tuple[Any, Any]]
    part: str

    def take(self, living: Living, found: Iterable[Row]) -> None:
        """Add what rows say."""
        getattr(living, self.part).update(map(self.read, found))

    def page(
        self, living: Living, after: Row | None, count: int, place: str, ask: Callable[[str, Row], Iterable[Row]]
    ) -> Row | None:
        """Add what some rows behind a key say (None = from the first); returns the last one's key, None = no more.

        `place` is how a statement says where a parameter goes, and `ask` sends one.
        """
        where = "" if after is None else f"WHERE ({self.key}) > ({', '.join([place] * len(after))})"
        statement = f"SELECT {self.key}, {self.columns} FROM {self.name} {where} ORDER BY {self.key} LIMIT {count}"
        found = list(ask(statement, tuple(after or ())))
        size = self.key.count(",") + 1
        self.take(living, (kept[size:] for kept in found))
        return found[-1][:size] if found else None


def recorded_of(account: int, meter: str, epoch: int, record: Record) -> tuple[Recorded, Change]:
    """Return what a record is known by, and the change that it was made of."""
    key = Recorded(account, meter, epoch, record.time, record.source, record.event)
    change = Change(record.kind, record.space, record.id, record.time, record.source, record.event, record.state)
    return key, change
