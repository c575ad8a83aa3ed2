"""Changes to the catalog, as work for the writer: an entry of the log, and a new catalog value once it is durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import apsw
import msgspec
from msgspec import structs

from tallystick.errors import Problem
from tallystick.ledger.packed import segment
from tallystick.ledger.packed.entries import (
    AccountDeleted,
    AccountPut,
    CatalogHeader,
    Change,
    KeyDeleted,
    KeyRotated,
    account_put,
    account_state,
    apply,
    key_put,
    key_state,
)
from tallystick.ledger.packed.limit_entries import LimitDeleted
from tallystick.ledger.sqlite import hold_tables
from tallystick.ledger.sqlite.file import CATALOG
from tallystick.ledger.sqlite.ownership import Ownership
from tallystick.ledger.sqlite.tail import Tail
from tallystick.model import Account, Catalog, Deletion, Key

T = TypeVar("T")
Decide = Callable[[Catalog], tuple[Sequence[Change], T]]


@dataclass(slots=True, eq=False)
class CatalogWork(Generic[T]):
    """Decides, inside the transaction, what to change, from the catalog as it is then; its result goes to `future`.

    `look` is for what has to be read from the file first.
    """

    tail: Callable[[], Tail]
    decide: Decide[T]
    actor: str
    now: int
    look: Callable[[apsw.Connection], None] = lambda db: None
    bytes: int = 0
    future: Future[T] = field(default_factory=Future)
    _result: T | None = None

    def write(self, db: apsw.Connection) -> None:
        tail = self.tail()
        self.look(db)
        changes, self._result = self.decide(tail.catalog)
        if not changes:
            return
        logged(db, tail, changes, self.actor, self.now)

    def publish(self) -> None:
        tail = self.tail()
        tail.published = structs.replace(tail.published, catalog=tail.catalog, entry=tail.entry)
        self.future.set_result(self._result)  # type: ignore[arg-type]  # write set it

    def fail(self, problem: Problem) -> None:
        self.future.set_exception(problem)


def logged(db: apsw.Connection, tail: Tail, changes: Sequence[Change], actor: str, now: int) -> None:
    """Write changes as an entry of the log, inside the writer's transaction."""
    header = msgspec.msgpack.encode(CatalogHeader(tail.entry + 1, now, actor, tuple(changes)))
    chained = segment.link(tail.link, header)
    db.execute(
        "INSERT INTO log (entry, kind, count, recorded, header, link) VALUES (?, ?, ?, ?, ?, ?)",
        (tail.entry + 1, CATALOG, len(changes), now, header, chained),
    )
    tail.entry, tail.link, tail.catalog = tail.entry + 1, chained, apply(tail.catalog, changes)
    # A limit that gets the id later may be another account's.
    if gone := [change.id for change in changes if isinstance(change, LimitDeleted)]:
        hold_tables.forget(db, gone)
        for id in gone:
            tail.book.crossed.pop(id, None)


def put_account(account: Account) -> Decide[Account]:
    """Create the account, or change the one of its name; nothing if it is that already."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], Account]:
        before = catalog.accounts.get(account.name)
        number = before.number if before else catalog.numbers_given + 1
        after = replace(account, number=number)
        return ([] if after == before else [account_put(after, before)]), after

    return decide


def create_accounts(names: Sequence[str]) -> Decide[None]:
    """Create those accounts that do not exist yet, as organisations."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], None]:
        missing = [name for name in names if name not in catalog.accounts]
        start = catalog.numbers_given + 1
        made: list[AccountPut] = [account_put(Account(name, start + i), None) for i, name in enumerate(missing)]
        return made, None

    return decide


def delete_account(account: Account, ownership: Ownership) -> Decide[Deletion]:
    """Delete this very account unless it has events, as far as `ownership` has looked by then, or keys or limits."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], Deletion]:
        before = catalog.accounts.get(account.name)
        if before is None or before.number != account.number:
            return (), Deletion.UNKNOWN
        if ownership.has_events:
            return (), Deletion.HAS_EVENTS
        if any(key.account == before.name for key in catalog.keys.values()):
            return (), Deletion.HAS_KEYS
        if catalog.limits_of(before.name):
            return (), Deletion.HAS_LIMITS
        return (AccountDeleted(before.name, before.number, account_state(before)),), Deletion.DELETED

    return decide


def put_key(key: Key) -> Decide[bool]:
    """Add the key, or replace the one of its id and account."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], bool]:
        before = catalog.key(key.id)
        is_known = key.account is None or key.account in catalog.accounts
        if not is_known or (before is not None and before.account != key.account):
            return (), False
        return (key_put(key, _owner(catalog, key), before),), True

    return decide


def rotate_key(id: str, successor: Key, ends: int) -> Decide[Key | None]:
    """Add a successor to a key that is valid when it is created, and let that one end."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], Key | None]:
        key = catalog.key(id)
        if key is None or not key.is_valid(successor.created) or catalog.key(successor.id) is not None:
            return (), None
        new = replace(successor, account=key.account, scopes=key.scopes, expires=key.expires, ends=None)
        old = replace(key, ends=ends if key.ends is None else min(ends, key.ends))
        owner = _owner(catalog, key)
        return (key_put(old, owner, key), KeyRotated(id, key_put(new, owner), key_state(key))), new

    return decide


def delete_key(id: str) -> Decide[bool]:
    """Revoke the key, if it is there."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], bool]:
        key = catalog.key(id)
        if key is None:
            return (), False
        return (KeyDeleted(id, _owner(catalog, key), key_state(key)),), True

    return decide


def _owner(catalog: Catalog, key: Key) -> int:
    """Return the number of a key's account; 0 = the operator's, or of an account that was never made."""
    account = catalog.accounts.get(key.account or "")
    return 0 if account is None else account.number
