"""What one transaction does to holds: calls decided, events counted, and one entry of each account's log for it all.

The heads of the accounts are locked, so whoever decides about one of them next goes by what this leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from tallystick.ledger.base import CatalogStale
from tallystick.ledger.packed import hold_entries, segment
from tallystick.ledger.packed.counters import Counter, Counters
from tallystick.ledger.packed.deciding import Deciding
from tallystick.ledger.packed.hold_entries import AdmissionHeader, Admitting, Crossed, Named
from tallystick.ledger.postgres import hold_tables, log, reading, shards
from tallystick.ledger.postgres.hold_tables import KeptCounters
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.pool import Again
from tallystick.ledger.postgres.reading import View
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.ledger.sqlite.admitting import HoldWork
from tallystick.ledger.sqlite.book import Book
from tallystick.ledger.sqlite.job import Job
from tallystick.model import AsOf, Catalog, Hold, HoldState, Limit, UsageQuery, UsageTable

FOLDED_TRIES_MAX = 5


def owners_of(catalog: Catalog, calls: Sequence[HoldWork], jobs: Iterable[Job]) -> list[int]:
    """Return the accounts, by number, for which a transaction has to look at limits and holds."""
    limited = {limit.account for limit in catalog.limits.values()}
    names = {work.account for work in calls}
    for job in jobs:
        names |= set(job.batch.account) & limited
        if job.settles is not None:
            names.add(job.settles[0])
    return sorted(catalog.accounts[name].number for name in names if name in catalog.accounts)


def append(db: Db, changes: Sequence[Admitting], recorded: int, number: int) -> int:
    """Write what became of holds and thresholds behind the logs of their accounts, as entries of this number.

    Returns the first of these accounts.
    """
    by_owner: dict[int, list[Admitting]] = {}
    for change in changes:
        by_owner.setdefault(change.owner, []).append(change)
    heads = log.heads(db, list(by_owner), lock=True)
    rows = []
    for owner, own in sorted(by_owner.items()):
        head = heads[owner]
        header = msgspec.msgpack.encode(AdmissionHeader(head.entries + 1, recorded, tuple(own)))
        rows.append((owner, head.entries + 1, len(own), header, segment.link(head.link, header)))
    log.append_admission(db, number, recorded, rows)
    crossings = [
        (place, each) for own in by_owner.values() for place, each in enumerate(own) if isinstance(each, Crossed)
    ]
    if crossings:
        hold_tables.note(db, {row[0]: row[1] for row in rows}, crossings)
    return rows[0][0]


@dataclass(slots=True, eq=False)
class RowBooks:
    """What decisions go by: rows of the accounts whose heads are locked.

    It knows no Turn: a circle of both would outlive every transaction, with all its holds, until garbage is looked for.
    """

    db: Db
    catalog: Catalog
    series: SeriesCache
    owners: Sequence[int]
    now: int
    counters: Counters
    known: dict[Named, Hold] = field(default_factory=dict)
    changed: dict[Named, Hold] = field(default_factory=dict)
    is_open: dict[Named, bool] = field(default_factory=dict)
    _crossed: dict[str, frozenset[tuple[int, int]]] | None = None
    _limits: Book = field(default_factory=Book)

    def find(self, owner: int, id: str) -> Hold | None:
        return self.known.get((owner, id))

    def put(self, owner: int, hold: Hold, *, is_open: bool) -> None:
        self.is_open[owner, hold.id] = is_open

    def counter(self, owner: int, limit: Limit) -> Counter:
        return self.counters.of(
            limit, owner, self.now, self.catalog, self._counted, lambda: self._open(owner, limit.account)
        )

    def _open(self, owner: int, account: str) -> Iterable[Hold]:
        """Return the holds of an account that are open now, with what this transaction made of them."""
        found = {kept.made.id: hold_entries.hold_of(kept, account) for kept in hold_tables.counted(self.db, owner)}
        found |= {id: hold for (of, id), hold in self.changed.items() if of == owner}
        return [hold for hold in found.values() if hold.state_at(self.now) is HoldState.OPEN]

    def _counted(self, query: UsageQuery) -> UsageTable:
        """Answer a query of an account whose log nobody else adds to; runs may be folded meanwhile."""
        now = View(self.catalog, self.series, AsOf(0, 0))
        before = self._folded()
        for _ in range(FOLDED_TRIES_MAX):
            table = reading.counted(self.db, now, query)
            after = self._folded()
            if before == after:
                return table
            before = after
        raise Again("runs were folded again and again")

    def _folded(self) -> list[tuple[int, int]]:
        which, named = shards.among(self.owners)
        statement = f"SELECT account, position FROM folded WHERE account {which} ORDER BY account"
        return self.db.execute(statement, (named,)).fetchall()

    def limits_of(self, account: str) -> Sequence[Limit]:
        return self._limits.limits_of(account, self.catalog)

    def watched(self) -> Mapping[str, Sequence[Limit]]:
        return self._limits.watched(self.catalog)

    def crossed(self, owner: int, limit: str) -> frozenset[tuple[int, int]]:
        if self._crossed is None:
            self._crossed = hold_tables.crossed(self.db, self.owners)
        return self._crossed.get(limit, frozenset())

    def note_crossed(self, limit: str, noted: frozenset[tuple[int, int]]) -> None:
        assert self._crossed is not None, "what was noted before was asked for"
        self._crossed[limit] = noted


@dataclass(slots=True, eq=False)
class Turn:
    """One transaction's part in admission, for accounts whose heads it has locked; `now` is not before any of them."""

    db: Db
    catalog: Catalog
    series: SeriesCache
    owners: Sequence[int]
    now: int
    deciding: Deciding = field(init=False)
    _kept: KeptCounters = field(init=False)
    _books: RowBooks = field(init=False)
    _over: list[Named] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._kept = hold_tables.load(self.db, self.owners, self.catalog)
        counters = self._kept.counters
        self._books = RowBooks(self.db, self.catalog, self.series, self.owners, self.now, counters)
        # Both have the same: who counts the open holds of an account has to know what this transaction made of them.
        self.deciding = Deciding(self._books, counters, self.catalog, self.now, changed=self._books.changed)

    def begin(self, calls: Sequence[HoldWork], jobs: Sequence[Job]) -> None:
        """Read the holds that are asked about, and let those expire that are due."""
        names = [(work.account, work.id) for work in calls] + [job.settles for job in jobs if job.settles is not None]
        accounts = {account.number: account.name for account in self.catalog.accounts.values()}
        wanted = [(self.deciding.owner(account), id) for account, id in names]
        for name, found in hold_tables.find(self.db, self.owners, wanted, self.now).items():
            hold = self._books.known[name] = hold_entries.hold_of(found.hold, accounts[name[0]])
            if found.is_counted and hold.deadline <= self.now:
                self._kept.counters.hold(name[0], hold, None)
                self._over.append(name)

    def decide(self, work: HoldWork) -> None:
        """Answer one call."""
        work.answer = self.deciding.decide(work.account, work.id, work.call)
        if work.answer is None:
            work.fail(CatalogStale())

    def refuse(self, job: Job) -> bool:
        """Keep the event of a settlement that cannot be from being recorded; false where it may be."""
        assert job.settles is not None
        job.answer = self.deciding.refuse(job.settles, job.batch)
        if job.answer is not None and len(job.rows):
            job.keep(np.zeros(len(job.rows), np.bool_))
        return job.answer is not None

    def settle(self, job: Job) -> None:
        """End the hold of a settlement whose event was judged, unless that was refused."""
        assert job.settles is not None
        job.answer = self.deciding.settle(job.settles, job.batch, job.verdicts.get(0))

    def watch(self, jobs: Iterable[Job]) -> Mapping[str, Sequence[Counter]]:
        """Return the counters of limits that have thresholds or refuse events, by the accounts of jobs."""
        if not self._books.watched():
            return {}
        return self.deciding.watch(name for job in jobs for name in job.batch.account)

    def count(self, jobs: Sequence[Job], watched: Mapping[str, Sequence[Counter]]) -> None:
        """Count the postings of jobs, and note the thresholds that they reach."""
        present = sorted({int(number) for job in jobs for number in np.unique(job.account).tolist()})
        self.deciding.count(jobs, present, watched)

    # The end of it

    def write(self) -> tuple[int, int] | None:
        """Write what changed: counters, a row per hold, and an entry of its account's log.

        Returns the account and the number of one of these entries.
        """
        hold_tables.save(self.db, self._kept)
        changed = self.deciding.changed
        if changed:
            hold_tables.store(self.db, changed, self._books.is_open)
        over = [name for name in self._over if name not in changed]
        if over:
            hold_tables.let_go(self.db, over)
        if over or self.deciding.changes:
            log.move_clocks(self.db, self.owners, self.now)
        if not self.deciding.changes:
            return None
        ((number,),) = self.db.execute("SELECT nextval('entry_number')").fetchall()
        return append(self.db, self.deciding.changes, self.now, number), number
