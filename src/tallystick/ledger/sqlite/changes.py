"""Changes to the catalog, as work for the writer: an entry of the log, and a new catalog value once it is durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import apsw
import msgspec

from tallystick.errors import Problem
from tallystick.ledger.sqlite import segment
from tallystick.ledger.sqlite.entries import AccountPut, CatalogHeader, Change, KeyDeleted, account_put, apply, key_put
from tallystick.ledger.sqlite.file import CATALOG
from tallystick.ledger.sqlite.tail import Tail
from tallystick.model import Account, Catalog, Key

T = TypeVar("T")
Decide = Callable[[Catalog], tuple[Sequence[Change], T]]


@dataclass(slots=True, eq=False)
class CatalogWork(Generic[T]):
    """Decides, inside the transaction, what to change, from the catalog as it is then; its result goes to `future`."""

    tail: Callable[[], Tail]
    decide: Decide[T]
    actor: str
    now: int
    bytes: int = 0
    future: Future[T] = field(default_factory=Future)
    _result: T | None = None

    def write(self, db: apsw.Connection) -> None:
        tail = self.tail()
        changes, self._result = self.decide(tail.catalog)
        if not changes:
            return
        header = msgspec.msgpack.encode(CatalogHeader(tail.entry + 1, self.now, self.actor, tuple(changes)))
        chained = segment.link(tail.link, header)
        db.execute(
            "INSERT INTO log (entry, kind, count, recorded, header, link) VALUES (?, ?, ?, ?, ?, ?)",
            (tail.entry + 1, CATALOG, len(changes), self.now, header, chained),
        )
        tail.entry, tail.link, tail.catalog = tail.entry + 1, chained, apply(tail.catalog, changes)

    def publish(self) -> None:
        tail = self.tail()
        tail.published = replace(tail.published, catalog=tail.catalog)
        self.future.set_result(self._result)  # type: ignore[arg-type]  # write set it

    def fail(self, problem: Problem) -> None:
        self.future.set_exception(problem)


def put_account(account: Account) -> Decide[Account]:
    """Create the account, or change the one of its name; nothing if it is that already."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], Account]:
        before = catalog.accounts.get(account.name)
        number = before.number if before else len(catalog.accounts) + 1
        after = replace(account, number=number)
        return ([] if after == before else [account_put(after, before)]), after

    return decide


def create_accounts(names: Sequence[str]) -> Decide[None]:
    """Create those accounts that do not exist yet, as organisations."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], None]:
        missing = [name for name in names if name not in catalog.accounts]
        start = len(catalog.accounts) + 1
        made: list[AccountPut] = [account_put(Account(name, start + i), None) for i, name in enumerate(missing)]
        return made, None

    return decide


def put_key(key: Key) -> Decide[None]:
    return lambda catalog: ([key_put(key)], None)


def delete_key(id: str) -> Decide[bool]:
    def decide(catalog: Catalog) -> tuple[Sequence[Change], bool]:
        found = any(key.id == id for key in catalog.keys.values())
        return ([KeyDeleted(id)] if found else []), found

    return decide
