"""The catalog's part of the list: accounts, keys, meters and rates, with a record of every change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tallystick.clock import Clock
from tallystick.errors import Code, Problem
from tallystick.ledger import verdicts
from tallystick.ledger.memory.counting import rate_at
from tallystick.limits import hindering
from tallystick.model import (
    Account,
    AuditPage,
    AuditQuery,
    AuditRecord,
    Catalog,
    Deletion,
    Grant,
    Key,
    Limit,
    Meter,
    RateTable,
    Replay,
    Stated,
)
from tallystick.windows import INSTANT_MIN

Told = tuple[str, str, Stated | None, Stated | None]
"""Action, target, before, after."""


class CatalogLog:
    """Keeps a catalog and who changed it; what has been counted is for the ledger that this is a part of."""

    def __init__(self, clock: Clock, catalog: Catalog) -> None:
        self._clock = clock
        self._catalog = catalog
        self._changes: list[AuditRecord] = []
        self._entries = 1  # what there is from the start
        self._key_uses: dict[str, int] = {}
        self._closed = False

    @property
    def catalog(self) -> Catalog:
        return self._catalog

    async def current(self) -> Catalog:
        return self._catalog

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Problem(Code.UNAVAILABLE, "The ledger is closed.")

    # What the ledger knows

    def _begin_anew(self, replay: Replay) -> None:
        raise NotImplementedError

    def _rated(self, table: str) -> Iterator[tuple[str, int]]:
        raise NotImplementedError

    def _has_events(self, account: str) -> bool:
        raise NotImplementedError

    # Accounts and keys

    async def put_account(self, account: Account, *, actor: str) -> Account:
        self._check_open()
        return self._put_account(account, actor)

    async def delete_account(self, name: str, *, actor: str) -> Deletion:
        self._check_open()
        account = self._catalog.accounts.get(name)
        if account is None:
            return Deletion.UNKNOWN
        if self._has_events(name):
            return Deletion.HAS_EVENTS
        if any(key.account == name for key in self._catalog.keys.values()):
            return Deletion.HAS_KEYS
        if any(limit.account == name for limit in self._catalog.limits.values()):
            return Deletion.HAS_LIMITS
        others = {other: kept for other, kept in self._catalog.accounts.items() if other != name}
        self._change(replace(self._catalog, accounts=others), actor, [("account.delete", name, account, None)])
        return Deletion.DELETED

    async def put_key(self, key: Key, *, actor: str) -> bool:
        self._check_open()
        before = self._key(key.id)
        if key.account is not None and key.account not in self._catalog.accounts:
            return False
        if before is not None and before.account != key.account:
            return False
        self._change(self._with_keys(key), actor, [("key.put", key.id, before, key)])
        return True

    async def rotate_key(self, id: str, successor: Key, *, ends: int, actor: str) -> Key | None:
        self._check_open()
        key = self._key(id)
        if key is None or (key.valid_until is not None and key.valid_until <= successor.created):
            return None
        if self._key(successor.id) is not None:
            return None
        old = replace(key, ends=ends if key.ends is None or ends < key.ends else key.ends)
        new = Key(successor.id, successor.digest, key.account, key.scopes, successor.created, key.expires)
        changes: list[Told] = [("key.put", id, key, old), ("key.rotate", id, key, new)]
        self._change(self._with_keys(old, new), actor, changes)
        return new

    async def delete_key(self, id: str, *, actor: str) -> bool:
        self._check_open()
        key = self._key(id)
        if key is None:
            return False
        others = {digest: other for digest, other in self._catalog.keys.items() if other.id != id}
        self._change(replace(self._catalog, keys=others), actor, [("key.delete", id, key, None)])
        return True

    def note_key_use(self, id: str, at: int) -> None:
        self._key_uses[id] = at

    @property
    def key_uses(self) -> Mapping[str, int]:
        return self._key_uses

    def _put_account(self, account: Account, actor: str) -> Account:
        accounts, given = self._catalog.accounts, self._catalog.numbers_given
        before = accounts.get(account.name)
        put = replace(account, number=given + 1 if before is None else before.number)
        if put != before:
            given = max(given, put.number)
            catalog = replace(self._catalog, accounts={**accounts, put.name: put}, numbers_given=given)
            self._change(catalog, actor, [("account.put", put.name, before, put)])
        return put

    def _key(self, id: str) -> Key | None:
        keys = [key for key in self._catalog.keys.values() if key.id == id]
        return keys[0] if keys else None

    def _with_keys(self, *keys: Key) -> Catalog:
        """Return the catalog with these keys, instead of others of their ids."""
        ids = [key.id for key in keys]
        others = {digest: key for digest, key in self._catalog.keys.items() if key.id not in ids}
        return replace(self._catalog, keys={**others, **{key.digest: key for key in keys}})

    # Meters and rates

    async def put_meter(self, meter: Meter, *, actor: str, start: int | None = None) -> None:
        self._check_open()
        before, version = self._catalog.meters.get(meter.name), self._catalog.version + 1
        if hindered := hindering(meter, self._catalog):
            raise verdicts.meter_limited(meter.name, hindered)
        if start is not None:
            self._replay(meter.name, Replay((replace(meter, version=version, epoch=version),), start), actor)
            return
        if before is not None:
            if before == replace(meter, version=before.version, epoch=before.epoch):
                return
            if (before.unit, before.scale, before.aggregation) != (meter.unit, meter.scale, meter.aggregation):
                raise verdicts.meter_in_use(meter.name)
        put = replace(meter, version=version, epoch=version if before is None else before.epoch)
        catalog = replace(self._catalog, version=version, meters={**self._catalog.meters, put.name: put})
        self._change(catalog, actor, [("meter.put", put.name, before, put)])

    async def delete_meter(self, name: str, *, actor: str) -> bool:
        self._check_open()
        meter = self._catalog.meters.get(name)
        if meter is None:
            return False
        if on_it := [limit.id for limit in self._catalog.limits.values() if limit.meter == name]:
            raise verdicts.meter_limited(name, on_it)
        others = {other: kept for other, kept in self._catalog.meters.items() if other != name}
        catalog = replace(self._catalog, version=self._catalog.version + 1, meters=others)
        self._change(catalog, actor, [("meter.delete", name, meter, None)])
        return True

    async def put_rates(self, table: str, rates: RateTable, *, actor: str, recount: bool = False) -> None:
        self._check_open()
        before, version = self._catalog.rates.get(table), self._catalog.version + 1
        if before == rates:
            return
        types = {type for type, at in self._rated(table) if rate_at(before or {}, type, at) != rate_at(rates, type, at)}
        if not types:
            catalog = replace(self._catalog, version=version, rates={**self._catalog.rates, table: rates})
            self._change(catalog, actor, [("rates.put", table, before, rates)])
            return
        if not recount:
            raise verdicts.rates_in_use(table, types)
        rated = [meter for meter in self._catalog.meters.values() if meter.rate and meter.rate.table == table]
        anew = tuple(replace(meter, version=version, epoch=version) for meter in rated)
        self._replay(f"rates/{table}", Replay(anew, INSTANT_MIN, (table, rates)), actor)

    def replayed(self, name: str) -> tuple[int, int] | None:
        return None

    def _replay(self, name: str, replay: Replay, actor: str) -> None:
        """Begin a replay and be done with it: two versions of the catalog, and two changes."""
        begun = replace(self._catalog, version=self._catalog.version + 1, replays={name: replay})
        self._change(begun, actor, [("replay.begin", name, None, replay)])
        meters = {**begun.meters, **{meter.name: meter for meter in replay.meters}}
        rates = {**begun.rates, **dict([replay.rates] if replay.rates else [])}
        done = replace(begun, version=begun.version + 1, meters=meters, rates=rates, replays={})
        self._change(done, "replay", [("replay.done", name, self._replaced(replay), replay)])
        self._begin_anew(replay)

    def _replaced(self, replay: Replay) -> Replay | None:
        """Return what was in force in the place of a replay."""
        names = [meter.name for meter in replay.meters]
        meters = tuple(self._catalog.meters[name] for name in names if name in self._catalog.meters)
        table = replay.rates[0] if replay.rates else ""
        rates = (table, self._catalog.rates[table]) if table in self._catalog.rates else None
        return Replay(meters, replay.start, rates) if meters or rates else None

    # The audit

    async def audit(self, query: AuditQuery) -> AuditPage:
        self._check_open()
        wanted = [
            record
            for record in reversed(self._changes)
            if (query.account is None or record.account == query.account)
            and (query.number is None or record.number == query.number)
            and (query.before is None or record.place < query.before)
        ]
        page = wanted[: query.limit]
        return AuditPage(page, page[-1].place if len(wanted) > len(page) else None)

    def _change(self, catalog: Catalog, actor: str, changes: Sequence[Told]) -> None:
        """Bring a catalog into force, and remember what is different in it; all of it is one entry."""
        self._entries += 1
        for place, (action, target, before, after) in enumerate(changes):
            owner = owner_of(after or before, self._catalog)
            numbers = {**self._catalog.accounts, **catalog.accounts}
            number = numbers[owner].number if owner is not None else 0
            where = (self._entries, place)
            sides = (undigested(before), undigested(after))
            self._changes.append(AuditRecord(where, self._clock(), actor, action, target, owner, number, *sides))
        self._catalog = catalog


def owner_of(noun: Stated | None, catalog: Catalog) -> str | None:
    """Return whose something is; meters and rates are the operator's."""
    if isinstance(noun, Account):
        return noun.name
    if isinstance(noun, Grant):
        return catalog.limits[noun.limit].account
    return noun.account if isinstance(noun, Key | Limit) else None


def undigested(noun: Stated | None) -> Stated | None:
    """Return what the audit shows of something: nobody needs a key's digest."""
    return replace(noun, digest="") if isinstance(noun, Key) else noun
