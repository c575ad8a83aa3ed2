"""The audit: who changed what in the catalog, read backwards from its log."""

from __future__ import annotations

from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.sqlite.audit import ENTRIES_READ_MAX, records
from tallystick.model import AuditPage, AuditQuery, AuditRecord


def page(db: Db, query: AuditQuery) -> AuditPage:
    """Return the newest records that a query wants."""
    found: list[AuditRecord] = []
    last = 2**63 - 1 if query.before is None else query.before[0]
    statement = "SELECT entry, header FROM catalog_entry WHERE entry <= %s ORDER BY entry DESC LIMIT %s"
    entries = db.execute(statement, (last, ENTRIES_READ_MAX)).fetchall()
    for _, header in entries:
        for record in filter(query.wants, records(header)):
            if len(found) == query.limit:
                return AuditPage(found, found[-1].place)
            found.append(record)
    return AuditPage(found, (entries[-1][0], 0) if len(entries) == ENTRIES_READ_MAX else None)
