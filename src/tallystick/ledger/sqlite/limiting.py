"""Changes of limits and grants, decided inside the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tallystick.ledger.packed.entries import Change
from tallystick.ledger.packed.limit_entries import GrantDeleted, GrantPut, LimitDeleted, LimitPut
from tallystick.ledger.sqlite.changes import Decide
from tallystick.limits import is_limitable
from tallystick.model import Catalog, Grant, Limit, Outcome

FIXED = ("account", "meter", "property", "scale")
"""What a limit keeps: its grants and its use are of this."""


def put_limit(limit: Limit) -> Decide[Outcome]:
    """Define the limit, or change the one of its id; nothing if it is that already."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], Outcome]:
        known = catalog.limits.get(limit.id)
        before, after = known and replace(known, grants=()), replace(limit, grants=())
        if limit.account not in catalog.accounts:
            return (), Outcome.ACCOUNT_UNKNOWN
        if before is not None and any(getattr(before, name) != getattr(after, name) for name in FIXED):
            return (), Outcome.ID_REUSED
        if not is_limitable(limit, catalog):
            return (), Outcome.METER_UNFIT
        if before == after:
            return (), Outcome.DUPLICATE
        change = LimitPut(after, catalog.accounts[limit.account].number, before)
        return (change,), Outcome.CREATED if before is None else Outcome.REPLACED

    return decide


def delete_limit(id: str) -> Decide[bool]:
    """Delete the limit, if it is there."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], bool]:
        limit = catalog.limits.get(id)
        if limit is None:
            return (), False
        return (LimitDeleted(id, catalog.accounts[limit.account].number, limit),), True

    return decide


def put_grant(grant: Grant) -> Decide[Outcome]:
    """Add the grant to its limit, unless it is there."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], Outcome]:
        limit = catalog.limits.get(grant.limit)
        # Who made the grant read the limit before: one that took its place may count something else.
        if limit is None or limit.scale != grant.scale:
            return (), Outcome.LIMIT_UNKNOWN
        before = limit.grant(grant.id)
        if before is not None:
            return (), Outcome.DUPLICATE if before == grant else Outcome.ID_REUSED
        return (GrantPut(grant, limit.account, catalog.accounts[limit.account].number),), Outcome.CREATED

    return decide


def delete_grant(limit: str, id: str) -> Decide[bool]:
    """Take the grant away, if it is there."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], bool]:
        known = catalog.limits.get(limit)
        grant = None if known is None else known.grant(id)
        if known is None or grant is None:
            return (), False
        return (GrantDeleted(grant, known.account, catalog.accounts[known.account].number),), True

    return decide
