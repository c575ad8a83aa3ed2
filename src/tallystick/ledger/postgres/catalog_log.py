"""The catalog of the whole fleet: a log of changes, read by every process, changed by one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import msgspec

from tallystick.ledger.packed import segment
from tallystick.ledger.packed.entries import AccountPut, CatalogHeader, Change, apply
from tallystick.ledger.packed.segment import GENESIS, Damaged
from tallystick.ledger.postgres import locks
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.sqlite import definitions
from tallystick.ledger.sqlite.changes import Decide
from tallystick.model import Catalog

T = TypeVar("T")
Look = Callable[[Db, Catalog], None]


@dataclass(frozen=True, slots=True)
class Known:
    """The catalog as of an entry of its log."""

    entry: int
    link: bytes
    catalog: Catalog


@dataclass(slots=True)
class Tried(Generic[T]):
    """A change that was written, and whose end was perhaps not heard of: its entry, and what it came to."""

    entry: int = 0
    link: bytes = b""
    result: T | None = None


class CatalogLog:
    """What this process knows of the catalog; for any thread."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self.known = Known(0, GENESIS, Catalog(0, {}))

    def last(self, db: Db) -> int:
        """Return the number of the last entry, as far as the present transaction sees it."""
        ((last,),) = db.execute("SELECT coalesce(max(entry), 0) FROM catalog_entry").fetchall()
        return int(last)

    def settled(self, db: Db) -> int:
        """Return the number of the last entry outside a transaction, when whoever changes the catalog is through."""
        locks.hold(db, locks.CATALOG, shared=True)
        return self.last(db)

    def refresh(self, db: Db) -> Known:
        """Read what was changed since, as far as the present transaction sees it, and return the catalog as of then.

        Under READ COMMITTED that is all that was durable before the call.
        """
        known = self.known
        last = self.last(db)
        if last == known.entry:
            return known
        if last < known.entry:
            return _read(db, Known(0, GENESIS, Catalog(0, {})))
        newer = _read(db, known)
        self.take(newer)
        return newer

    def take(self, newer: Known) -> None:
        """Go by a newer catalog, once it is durable."""
        with self._changing:
            if newer.entry > self.known.entry:
                self.known = newer

    def change(
        self,
        db: Db,
        decide: Decide[T],
        actor: str,
        now: int,
        look: Look = lambda db, catalog: None,
        tried: Tried[T] | None = None,
    ) -> T:
        """Decide, with nobody committing meanwhile, what to change, and make that durable.

        `look` is for what has to be read first. Safe to repeat with the same `tried` after a lost connection: the lock
        is not to be had before the transaction that was lost has ended, and then its entry is there or is not.
        """
        tried = tried or Tried()
        with locks.transaction(db):
            locks.hold(db, locks.CATALOG)
            known = self.refresh(db)
            there = "SELECT 1 FROM catalog_entry WHERE entry = %s AND link = %s"
            if tried.entry and db.execute(there, (tried.entry, tried.link)).fetchall():
                return cast("T", tried.result)
            look(db, known.catalog)
            changes, result = decide(known.catalog)
            if changes:
                known = logged(db, known, changes, actor, now)
                tried.entry, tried.link, tried.result = known.entry, known.link, result
        self.take(known)
        return result

    def define_builtins(self, db: Db, now: int, look: Look) -> None:
        """Bring the meters and rates that are there from the start into a log that lacks them, after a `look` at it."""
        if definitions.missing(self.refresh(db).catalog):
            self.change(db, lambda catalog: (definitions.missing(catalog), None), definitions.OWN_ACTOR, now, look)


def logged(db: Db, known: Known, changes: Sequence[Change], actor: str, now: int) -> Known:
    """Write changes as an entry of the log, inside a transaction that has the catalog to itself."""
    header = msgspec.msgpack.encode(CatalogHeader(known.entry + 1, now, actor, tuple(changes)))
    chained = segment.link(known.link, header)
    db.execute("INSERT INTO catalog_entry VALUES (%s, %s, %s, %s)", (known.entry + 1, now, header, chained))
    made = [change.number for change in changes if isinstance(change, AccountPut)]
    if made:
        for table, columns in (("head (account)", "account"), ("folded (account, position)", "account, 0")):
            db.execute(
                f"""INSERT INTO {table} SELECT {columns} FROM unnest(%s::bigint[]) account
                ON CONFLICT (account) DO NOTHING""",
                (made,),
            )
    return Known(known.entry + 1, chained, apply(known.catalog, changes))


def _read(db: Db, known: Known) -> Known:
    entry, link, catalog = known.entry, known.link, known.catalog
    statement = "SELECT entry, header, link FROM catalog_entry WHERE entry > %s ORDER BY entry"
    for number, header, chained in db.execute(statement, (entry,)):
        if number != entry + 1 or segment.link(link, header) != chained:
            raise Damaged(f"catalog entry {number} is not what was written")
        catalog = apply(catalog, msgspec.msgpack.decode(header, type=CatalogHeader).changes)
        entry, link = number, chained
    return Known(entry, link, catalog)
