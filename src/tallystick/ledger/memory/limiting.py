"""The list's limits and grants, which decide nothing yet about what comes in."""

from __future__ import annotations

from dataclasses import replace

from tallystick.ledger.memory.changes import CatalogLog
from tallystick.limits import is_limitable
from tallystick.model import Grant, Limit, Outcome


class LimitLog(CatalogLog):
    """Keeps limits as a part of the catalog."""

    async def put_limit(self, limit: Limit, *, actor: str) -> Outcome:
        self._check_open()
        known = self._catalog.limits.get(limit.id)
        if limit.account not in self._catalog.accounts:
            return Outcome.ACCOUNT_UNKNOWN
        if known is not None and (known.account, known.meter, known.property, known.scale) != (
            limit.account,
            limit.meter,
            limit.property,
            limit.scale,
        ):
            return Outcome.ID_REUSED
        if not is_limitable(limit, self._catalog):
            return Outcome.METER_UNFIT
        put = replace(limit, grants=() if known is None else known.grants)
        if put == known:
            return Outcome.DUPLICATE
        sides = (None if known is None else replace(known, grants=()), replace(limit, grants=()))
        self._limit({limit.id: put}, actor, ("limit.put", limit.id, *sides))
        return Outcome.CREATED if known is None else Outcome.REPLACED

    async def delete_limit(self, id: str, *, actor: str) -> bool:
        self._check_open()
        known = self._catalog.limits.get(id)
        if known is not None:
            self._limit({id: None}, actor, ("limit.delete", id, known, None))
        return known is not None

    async def put_grant(self, grant: Grant, *, actor: str) -> Outcome:
        self._check_open()
        limit = self._catalog.limits.get(grant.limit)
        if limit is None or limit.scale != grant.scale:
            return Outcome.LIMIT_UNKNOWN
        same = [each for each in limit.grants if each.id == grant.id]
        if same:
            return Outcome.DUPLICATE if same == [grant] else Outcome.ID_REUSED
        granted = replace(limit, grants=(*limit.grants, grant))
        self._limit({limit.id: granted}, actor, ("grant.put", f"{limit.id}/{grant.id}", None, grant))
        return Outcome.CREATED

    async def delete_grant(self, limit: str, id: str, *, actor: str) -> bool:
        self._check_open()
        known = self._catalog.limits.get(limit)
        gone = [] if known is None else [each for each in known.grants if each.id == id]
        if known is None or not gone:
            return False
        rest = replace(known, grants=tuple(each for each in known.grants if each not in gone))
        self._limit({limit: rest}, actor, ("grant.delete", f"{limit}/{id}", gone[0], None))
        return True

    def _limit(
        self,
        new: dict[str, Limit | None],
        actor: str,
        told: tuple[str, str, Limit | Grant | None, Limit | Grant | None],
    ) -> None:
        limits = {**self._catalog.limits, **new}
        left = {id: limit for id, limit in limits.items() if limit is not None}
        self._change(replace(self._catalog, limits=left), actor, [told])
