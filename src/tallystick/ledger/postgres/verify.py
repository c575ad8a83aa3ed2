"""The proof: the logs are replayed from nothing, account by account, and compared with everything kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import msgspec
import psycopg

from tallystick.errors import LedgerError
from tallystick.ledger.base import Fault, Proof
from tallystick.ledger.packed import segment
from tallystick.ledger.packed.entries import CatalogHeader, apply
from tallystick.ledger.packed.limit_entries import LimitDeleted
from tallystick.ledger.packed.segment import GENESIS, Damaged
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.proving import AccountProof, Catalogs
from tallystick.ledger.postgres.reading import snapshot
from tallystick.ledger.sqlite.proving import FAULTS_MAX, Replay
from tallystick.model import Account, Catalog
from tallystick.model import Replay as Counting

Progress = Callable[[int, int], None]
ENTRIES_READ_TOGETHER = 100
TRIES_MAX = 5
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
    """Replay and compare, each account in one snapshot: its log is compared with what is kept at that moment.

    The catalog that an account's log goes by is that of the same snapshot, or else meters and limits that change
    meanwhile would be faults.
    """
    catalogs = CatalogReplay()
    with snapshot(db):
        catalogs.advance(db)
        accounts = sorted(catalogs.catalog.accounts.values(), key=lambda account: account.number)
        digest = hashlib.sha256(catalogs.link)
        (total,) = db.execute("SELECT coalesce(sum(events), 0)::bigint FROM head").fetchall()[0]
        numbers = {number for (number,) in db.execute("SELECT account FROM head")}
    faults: list[Fault] = []
    for unknown in sorted(numbers - {account.number for account in accounts}):
        with snapshot(db):
            (events,) = db.execute("SELECT events FROM head WHERE account = %s", (unknown,)).fetchall()[0]
        if events:
            faults.append(Fault(f"account {unknown}", "has events, and the catalog has no such account"))
    events = postings = entries = 0
    for account in accounts:
        replay = _proved(db, secret, catalogs, account, partial(_told, progress, events, total))
        events, postings, entries = events + replay.events, postings + replay.postings, entries + replay.entries
        digest.update(account.number.to_bytes(8, "little") + replay.link)
        faults += replay.faults
    faults = [*catalogs.faults, *faults]
    return Proof(events, postings, catalogs.entries + entries, digest.hexdigest(), tuple(faults[:FAULTS_MAX]))


def _told(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, max(total, before + done))


def _proved(db: Db, secret: int, catalogs: CatalogReplay, account: Account, done: Callable[[int], None]) -> Replay:
    """Replay an account's log; `done` is told how many of its events were replayed.

    Of several nodes no snapshot is one: there what looks wrong while the catalog changes is looked at again.
    """
    for _ in range(TRIES_MAX):
        replay = Replay(Catalog(0, {}))
        proof = AccountProof(db, secret, catalogs.known, account, replay)
        replay.series = proof.series
        try:
            with snapshot(db):
                catalogs.advance(db)
                _prove(proof, done)
        except UNREADABLE as error:
            replay.fault(proof.of, f"cannot be read any further: {type(error).__name__}: {error}")
        if not replay.faults or CatalogLog().last(db) == catalogs.last:
            break
    return replay


def _prove(proof: AccountProof, done: Callable[[int], None]) -> None:
    statement = """SELECT number, position, kind, first, last, count, recorded, time_min, time_max, header, link
        FROM entry WHERE account = %s AND position > %s ORDER BY position LIMIT %s"""
    at = 0
    while some := proof.db.execute(statement, (proof.account.number, at, ENTRIES_READ_TOGETHER)).fetchall():
        for row in some:
            proof.entry(row)
            at = row[1]
            done(proof.replay.events)
    proof.end()


class CatalogReplay:
    """The catalog's log replayed, as far as it was read; `known` grows with it."""

    def __init__(self) -> None:
        self.catalog = Catalog(0, {})
        self.link = GENESIS
        self.entries = 0
        self.last = 0
        self.faults: list[Fault] = []
        self._by_version = {0: self.catalog}
        self._replays: dict[tuple[str, int], Counting] = {}
        self._deleted: set[str] = set()
        self.known = Catalogs(self._by_version, self._replays, self._deleted)

    def advance(self, db: Db) -> None:
        """Replay what was not yet, as far as the present transaction sees it."""
        statement = "SELECT entry, recorded, header, link FROM catalog_entry WHERE entry > %s ORDER BY entry"
        for entry, recorded, header, chained in db.execute(statement, (self.last,)).fetchall():
            self._replay(entry, recorded, header, chained)

    def _replay(self, entry: int, recorded: int, header: bytes, chained: bytes) -> None:
        where = f"catalog entry {entry}"
        self.entries += 1
        self.link = segment.link(self.link, header)
        if entry != self.last + 1 or self.link != chained:
            self.faults.append(Fault(where, "its link does not follow from its header and the link before"))
            self.link = bytes(chained)
        self.last = entry
        try:
            said = msgspec.msgpack.decode(header, type=CatalogHeader)
            self.catalog = catalog = apply(self.catalog, said.changes)
        except UNREADABLE as error:
            self.faults.append(Fault(where, f"cannot be read: {error}"))
            return
        if (said.entry, said.recorded) != (entry, recorded):
            self.faults.append(Fault(where, "its columns are not what its header says"))
        self._deleted |= {change.id for change in said.changes if isinstance(change, LimitDeleted)}
        self._by_version[catalog.version] = catalog
        self._replays.update(((name, each.meters[0].epoch), each) for name, each in catalog.replays.items())
