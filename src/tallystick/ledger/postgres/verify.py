"""The proof: the logs are replayed from nothing, account by account, and compared with everything kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import psycopg

from tallystick.errors import LedgerError
from tallystick.ledger.base import Fault, Proof
from tallystick.ledger.packed import segment
from tallystick.ledger.packed.entries import CatalogHeader, apply
from tallystick.ledger.packed.limit_entries import LimitDeleted
from tallystick.ledger.packed.segment import GENESIS, Damaged
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.proving import AccountProof, Catalogs
from tallystick.ledger.postgres.reading import snapshot
from tallystick.ledger.sqlite.proving import FAULTS_MAX, Replay
from tallystick.model import Account, Catalog
from tallystick.model import Replay as Counting

Progress = Callable[[int, int], None]
ENTRIES_READ_TOGETHER = 100
UNREADABLE = (
    psycopg.DataError,
    Damaged,
    msgspec.MsgspecError,
    LedgerError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
)
"""What a flipped bit can lead to."""


def verify(db: Db, secret: int, progress: Progress) -> Proof:
    """Replay and compare, each account in one snapshot: its log is compared with what is kept at that moment."""
    faults: list[Fault] = []
    with snapshot(db):
        catalogs, accounts, entries, link = _catalogs(db, faults)
        (total,) = db.execute("SELECT coalesce(sum(events), 0)::bigint FROM head").fetchall()[0]
        numbers = {number for (number,) in db.execute("SELECT account FROM head")}
    for unknown in sorted(numbers - {account.number for account in accounts}):
        with snapshot(db):
            (events,) = db.execute("SELECT events FROM head WHERE account = %s", (unknown,)).fetchall()[0]
        if events:
            faults.append(Fault(f"account {unknown}", "has events, and the catalog has no such account"))
    events = postings = 0
    digest = hashlib.sha256(link)
    for account in accounts:
        replay = Replay(Catalog(0, {}))
        proof = AccountProof(db, secret, catalogs, account, replay)
        replay.series = proof.series
        try:
            with snapshot(db):
                _prove(proof, progress, events, total)
        except UNREADABLE as error:
            replay.fault(proof.of, f"cannot be read any further: {type(error).__name__}: {error}")
        events, postings, entries = events + replay.events, postings + replay.postings, entries + replay.entries
        digest.update(account.number.to_bytes(8, "little") + replay.link)
        faults += replay.faults
    return Proof(events, postings, entries, digest.hexdigest(), tuple(faults[:FAULTS_MAX]))


def _prove(proof: AccountProof, progress: Progress, before: int, total: int) -> None:
    """Replay an account's log; `before` is how many events were replayed of others."""
    statement = """SELECT number, position, kind, first, last, count, recorded, time_min, time_max, header, link
        FROM entry WHERE account = %s AND position > %s ORDER BY position LIMIT %s"""
    at = 0
    while some := proof.db.execute(statement, (proof.account.number, at, ENTRIES_READ_TOGETHER)).fetchall():
        for row in some:
            proof.entry(row)
            at = row[1]
            done = before + proof.replay.events
            progress(done, max(total, done))
    proof.end()


def _catalogs(db: Db, faults: list[Fault]) -> tuple[Catalogs, list[Account], int, bytes]:
    """Replay the catalog's log; returns its states, the accounts there are, its entries and its last link."""
    catalog, link, entries = Catalog(0, {}), GENESIS, 0
    by_version: dict[int, Catalog] = {0: catalog}
    replays: dict[tuple[str, int], Counting] = {}
    deleted: set[str] = set()
    statement = "SELECT entry, recorded, header, link FROM catalog_entry ORDER BY entry"
    for entry, recorded, header, chained in db.execute(statement).fetchall():
        where = f"catalog entry {entry}"
        entries += 1
        link = segment.link(link, header)
        if entry != entries or link != chained:
            faults.append(Fault(where, "its link does not follow from its header and the link before"))
            link = bytes(chained)
        try:
            said = msgspec.msgpack.decode(header, type=CatalogHeader)
            catalog = apply(catalog, said.changes)
        except UNREADABLE as error:
            faults.append(Fault(where, f"cannot be read: {error}"))
            continue
        if (said.entry, said.recorded) != (entry, recorded):
            faults.append(Fault(where, "its columns are not what its header says"))
        deleted |= {change.id for change in said.changes if isinstance(change, LimitDeleted)}
        by_version[catalog.version] = catalog
        replays.update(((name, each.meters[0].epoch), each) for name, each in catalog.replays.items())
    accounts = sorted(catalog.accounts.values(), key=lambda account: account.number)
    return Catalogs(by_version, replays, frozenset(deleted)), accounts, entries, link
