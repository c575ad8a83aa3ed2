"""Holds as they are: from their rows, and from what is not written of them yet, as of one moment."""

from __future__ import annotations

from collections.abc import Callable

import apsw

from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite import hold_tables
from tallystick.ledger.sqlite.file import row
from tallystick.ledger.sqlite.tail import Tail
from tallystick.model import Hold, HoldQuery


def page(db: apsw.Connection, tail: Callable[[], Tail], owner: int, query: HoldQuery, now: int) -> list[Hold]:
    """Return holds of an account in order, those that a query wants."""
    while True:
        entry, unwritten = tail().unwritten_of(owner)
        with db:
            further = hold_tables.mark(db).further
            if further <= entry:
                return hold_tables.page(db, owner, query, now, unwritten)
            # Commits came between the two lines above, and their rows; what else they changed is not in memory's part.
            (last,) = row(db, "SELECT coalesce(max(entry), 0) FROM log")
            if further > last:
                raise Damaged(f"rows of holds tell of log entry {further}, and the last one is {last}")


def owners(db: apsw.Connection, tail: Tail, id: str) -> set[int]:
    """Return the numbers of the accounts that have a hold of an id."""
    # Memory first: what it does not have any more has a row by then.
    with tail.book.lock:
        unwritten = tail.book.unwritten.owners(id)
    return unwritten | hold_tables.owners(db, id)
