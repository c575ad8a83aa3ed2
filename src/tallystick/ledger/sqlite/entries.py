"""Catalog entries of the log: changes to accounts and keys, with who and when; the catalog is a fold of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from tallystick.model import Account, AccountKind, Catalog, Key, Scope


class AccountPut(msgspec.Struct, frozen=True, tag="account_put", array_like=True):
    """An account was made or changed; `before` is what it replaced (kept for the audit)."""

    name: str
    number: int
    kind: str
    timezone: str
    members: tuple[str, ...]
    before: tuple[str, str, tuple[str, ...]] | None = None


class KeyPut(msgspec.Struct, frozen=True, tag="key_put", array_like=True):
    """A key was made or changed; only the digest of the token is here."""

    id: str
    digest: str
    account: str | None
    scopes: tuple[str, ...]
    created: int
    expires: int | None


class KeyDeleted(msgspec.Struct, frozen=True, tag="key_deleted", array_like=True):
    """A key was revoked."""

    id: str


Change = AccountPut | KeyPut | KeyDeleted


class CatalogHeader(msgspec.Struct, frozen=True, array_like=True):
    """What the chain covers of a catalog entry: all of it."""

    entry: int
    recorded: int
    actor: str
    changes: tuple[Change, ...]


def account_put(account: Account, before: Account | None) -> AccountPut:
    """Return the change that makes `account` (with its number) out of `before`."""
    old = None if before is None else (str(before.kind), before.timezone, before.members)
    return AccountPut(account.name, account.number, str(account.kind), account.timezone, account.members, old)


def key_put(key: Key) -> KeyPut:
    """Return the change that adds `key`."""
    return KeyPut(key.id, key.digest, key.account, tuple(sorted(map(str, key.scopes))), key.created, key.expires)


def apply(catalog: Catalog, changes: Sequence[Change]) -> Catalog:
    """Return the catalog after `changes`, as a new value."""
    accounts, keys = dict(catalog.accounts), dict(catalog.keys)
    for change in changes:
        match change:
            case AccountPut():
                accounts[change.name] = Account(
                    change.name, change.number, AccountKind(change.kind), change.timezone, change.members
                )
            case KeyPut():
                _drop(keys, change.id)
                scopes = frozenset(map(Scope, change.scopes))
                keys[change.digest] = Key(
                    change.id, change.digest, change.account, scopes, change.created, change.expires
                )
            case KeyDeleted():
                _drop(keys, change.id)
    return replace(catalog, accounts=accounts, keys=keys)


def _drop(keys: dict[str, Key], id: str) -> None:
    for digest in [digest for digest, key in keys.items() if key.id == id]:
        del keys[digest]
