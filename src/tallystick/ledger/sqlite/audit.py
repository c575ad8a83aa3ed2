"""The audit: who changed what in the catalog, read backwards from the log."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import msgspec

from tallystick.ledger.packed.entries import (
    AccountDeleted,
    AccountPut,
    CatalogHeader,
    Change,
    KeyDeleted,
    KeyPut,
    KeyRotated,
    KeyState,
    account_of,
    key_of,
)
from tallystick.ledger.packed.limit_entries import GrantDeleted, GrantPut, LimitDeleted, LimitPut
from tallystick.ledger.packed.meter_entries import MeterDeleted, MeterPut, RatesPut, ReplayBegun, ReplayDone
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite.definitions import OWN_ACTOR
from tallystick.ledger.sqlite.file import CATALOG_ENTRIES, rows
from tallystick.model import AuditPage, AuditQuery, AuditRecord, Key, Stated

ENTRIES_READ_MAX = 10_000
"""Entries looked at for one page: about a tenth of a second."""

Told = tuple[str, str, str | None, int, Stated | None, Stated | None]
"""Action, target, whose it is (name and number), before, after."""


def page(db: apsw.Connection, query: AuditQuery) -> AuditPage:
    """Return the newest records that a query wants."""
    found: list[AuditRecord] = []
    last = 2**63 - 1 if query.before is None else query.before[0]
    statement = f"SELECT entry, header FROM log WHERE {CATALOG_ENTRIES} AND entry <= ? ORDER BY entry DESC LIMIT ?"
    read = 0
    for entry, header in rows(db, statement, (last, ENTRIES_READ_MAX)):
        read, last = read + 1, entry
        for record in filter(query.wants, records(header)):
            if len(found) == query.limit:
                return AuditPage(found, found[-1].place)
            found.append(record)
    return AuditPage(found, (last, 0) if read == ENTRIES_READ_MAX else None)


def records(header: bytes) -> Iterator[AuditRecord]:
    """Yield what a catalog entry tells of, the last change first; raises Damaged if it cannot be read."""
    try:
        said = msgspec.msgpack.decode(header, type=CatalogHeader)
        if said.actor == OWN_ACTOR:
            return
        for place in range(len(said.changes) - 1, -1, -1):
            yield AuditRecord((said.entry, place), said.recorded, said.actor, *_told(said.changes[place]))
    except (msgspec.MsgspecError, ValueError) as error:
        raise Damaged(f"a catalog entry cannot be read: {error}") from error


def _told(change: Change) -> Told:
    match change:
        case AccountPut(name=name, number=number):
            after = account_of(name, number, (change.kind, change.timezone, change.members))
            before = None if change.before is None else account_of(name, number, change.before)
            return "account.put", name, name, number, before, after
        case AccountDeleted(name=name, number=number):
            return "account.delete", name, name, number, account_of(name, number, change.before), None
        case KeyPut(id=id, account=account, owner=owner):
            return "key.put", id, account, owner, _key(id, change.before), _key(id, change)
        case KeyRotated(id=id, successor=new):
            return "key.rotate", id, new.account, new.owner, _key(id, change.before), _key(new.id, new)
        case KeyDeleted(id=id, owner=owner, before=gone):
            return "key.delete", id, None if gone is None else gone.account, owner, _key(id, gone), None
        case LimitPut(limit=limit, owner=owner, before=earlier):
            return "limit.put", limit.id, limit.account, owner, earlier, limit
        case LimitDeleted(id=id, owner=owner, before=ended):
            return "limit.delete", id, ended.account, owner, ended, None
        case GrantPut(grant=grant, account=account, owner=owner):
            return "grant.put", f"{grant.limit}/{grant.id}", account, owner, None, grant
        case GrantDeleted(before=taken, account=account, owner=owner):
            return "grant.delete", f"{taken.limit}/{taken.id}", account, owner, taken, None
        case MeterPut(meter=meter, before=old):
            return "meter.put", meter.name, None, 0, old, meter
        case MeterDeleted(name=name, before=old):
            return "meter.delete", name, None, 0, old, None
        case RatesPut(table=table, rates=rates, before=old):
            return "rates.put", table, None, 0, old, rates
        case ReplayBegun(name=name, replay=replay):
            return "replay.begin", name, None, 0, None, replay
        case ReplayDone(name=name, replay=replay, before=replaced):
            return "replay.done", name, None, 0, replaced, replay


def _key(id: str, state: KeyPut | KeyState | None) -> Key | None:
    return None if state is None else key_of(id, "", state)
