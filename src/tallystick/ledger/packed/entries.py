"""Catalog entries of the log: what changed, with who and when; the catalog is a fold of them.

They are arrays: a later version adds members at the end, with a default, and reads what earlier ones wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from tallystick.ledger.packed.limit_entries import GrantDeleted, GrantPut, LimitDeleted, Limiting, LimitPut, limited
from tallystick.ledger.packed.meter_entries import Definition, defined
from tallystick.model import Account, AccountKind, Catalog, Key, Scope

AccountState = tuple[str, str, tuple[str, ...]]
"""Kind, timezone and members of an account."""


class KeyState(msgspec.Struct, frozen=True, array_like=True):
    """What a key was before a change; the entry that made it has its digest."""

    account: str | None
    scopes: tuple[str, ...]
    created: int
    expires: int | None
    ends: int | None


class AccountPut(msgspec.Struct, frozen=True, tag="account_put", array_like=True):
    """An account was made or changed; `before` is what it replaced (kept for the audit)."""

    name: str
    number: int
    kind: str
    timezone: str
    members: tuple[str, ...]
    before: AccountState | None = None


class AccountDeleted(msgspec.Struct, frozen=True, tag="account_deleted", array_like=True):
    """An account without events and keys was deleted."""

    name: str
    number: int
    before: AccountState


class KeyPut(msgspec.Struct, frozen=True, tag="key_put", array_like=True):
    """A key was made or changed; only the digest of the token is here. `owner` is the number of its account."""

    id: str
    digest: str
    account: str | None
    scopes: tuple[str, ...]
    created: int
    expires: int | None
    ends: int | None = None
    owner: int = 0
    before: KeyState | None = None


class KeyRotated(msgspec.Struct, frozen=True, tag="key_rotated", array_like=True):
    """The key `id` has got a successor; that it ends sooner is a change of its own."""

    id: str
    successor: KeyPut
    before: KeyState


class KeyDeleted(msgspec.Struct, frozen=True, tag="key_deleted", array_like=True):
    """A key was revoked."""

    id: str
    owner: int = 0
    before: KeyState | None = None


Change = AccountPut | AccountDeleted | KeyPut | KeyRotated | KeyDeleted | Definition | Limiting


class CatalogHeader(msgspec.Struct, frozen=True, array_like=True):
    """What the chain covers of a catalog entry: all of it."""

    entry: int
    recorded: int
    actor: str
    changes: tuple[Change, ...]


def account_state(account: Account) -> AccountState:
    """Return what a change of an account keeps of what it was."""
    return str(account.kind), account.timezone, account.members


def account_put(account: Account, before: Account | None) -> AccountPut:
    """Return the change that makes `account` (with its number) out of `before`."""
    old = None if before is None else account_state(before)
    return AccountPut(account.name, account.number, *account_state(account), old)


def key_state(key: Key) -> KeyState:
    """Return what a change of a key keeps of what it was."""
    return KeyState(key.account, _texts(key.scopes), key.created, key.expires, key.ends)


def key_put(key: Key, owner: int, before: Key | None = None) -> KeyPut:
    """Return the change that makes `key`, of the account with the number `owner`, out of `before`."""
    old = None if before is None else key_state(before)
    return KeyPut(key.id, key.digest, key.account, _texts(key.scopes), key.created, key.expires, key.ends, owner, old)


def _texts(scopes: frozenset[Scope]) -> tuple[str, ...]:
    return tuple(sorted(map(str, scopes)))


def account_of(name: str, number: int, state: AccountState) -> Account:
    """Return the account that a change tells of."""
    kind, timezone, members = state
    return Account(name, number, AccountKind(kind), timezone, members)


def key_of(id: str, digest: str, state: KeyPut | KeyState) -> Key:
    """Return the key that a change tells of."""
    scopes = frozenset(map(Scope, state.scopes))
    return Key(id, digest, state.account, scopes, state.created, state.expires, state.ends)


def apply(catalog: Catalog, changes: Sequence[Change]) -> Catalog:
    """Return the catalog after `changes`, as a new value."""
    accounts, keys, numbers = dict(catalog.accounts), dict(catalog.keys), catalog.numbers_given
    for change in changes:
        match change:
            case AccountPut():
                state = (change.kind, change.timezone, change.members)
                accounts[change.name] = account_of(change.name, change.number, state)
                numbers = max(numbers, change.number)
            case AccountDeleted():
                accounts.pop(change.name)
            case KeyPut():
                _put(keys, change)
            case KeyRotated():
                _put(keys, change.successor)
            case KeyDeleted():
                _drop(keys, change.id)
            case LimitPut() | LimitDeleted() | GrantPut() | GrantDeleted():
                catalog = limited(catalog, change)
            case _:
                catalog = defined(catalog, change)
    return replace(catalog, accounts=accounts, keys=keys, numbers_given=numbers)


def _put(keys: dict[str, Key], change: KeyPut) -> None:
    _drop(keys, change.id)
    keys[change.digest] = key_of(change.id, change.digest, change)


def _drop(keys: dict[str, Key], id: str) -> None:
    for digest in [digest for digest, key in keys.items() if key.id == id]:
        del keys[digest]
