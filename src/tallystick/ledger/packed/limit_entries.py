"""Entries of the log about limits and the grants that give them capacity. `owner` is the number of the account."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from tallystick.model import Catalog, Grant, Limit


class LimitPut(msgspec.Struct, frozen=True, tag="limit_put", array_like=True):
    """A limit was made, or its definition replaced; both sides are without grants, which stay."""

    limit: Limit
    owner: int
    before: Limit | None = None


class LimitDeleted(msgspec.Struct, frozen=True, tag="limit_deleted", array_like=True):
    """A limit was deleted, with the grants that it had."""

    id: str
    owner: int
    before: Limit


class GrantPut(msgspec.Struct, frozen=True, tag="grant_put", array_like=True):
    """A limit of `account` was given capacity."""

    grant: Grant
    account: str
    owner: int


class GrantDeleted(msgspec.Struct, frozen=True, tag="grant_deleted", array_like=True):
    """Capacity was taken from a limit of `account`."""

    before: Grant
    account: str
    owner: int


Limiting = LimitPut | LimitDeleted | GrantPut | GrantDeleted


def limited(catalog: Catalog, change: Limiting) -> Catalog:
    """Return the catalog after a change of limits; its version stays."""
    limits = dict(catalog.limits)
    match change:
        case LimitPut():
            before = limits.get(change.limit.id)
            limits[change.limit.id] = replace(change.limit, grants=() if before is None else before.grants)
        case LimitDeleted():
            limits.pop(change.id)
        case GrantPut(grant=grant):
            limit = limits[grant.limit]
            limits[limit.id] = replace(limit, grants=(*limit.grants, grant))
        case GrantDeleted(before=gone):
            limit = limits[gone.limit]
            limits[limit.id] = replace(limit, grants=tuple(each for each in limit.grants if each.id != gone.id))
    return replace(catalog, limits=limits)
