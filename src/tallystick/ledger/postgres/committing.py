"""The write path: some batches, one transaction; whatever was refused the server, or changed under it, begins anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tallystick.ledger import verdicts
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.packed.living import Counted, Living, Named
from tallystick.ledger.packed.segment import NewSeries
from tallystick.ledger.postgres import identities, locks, log, parts, reading, series
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.identities import Claims
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import Head
from tallystick.ledger.postgres.parts import Part
from tallystick.ledger.postgres.pool import Again
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.ledger.sqlite.changes import create_accounts
from tallystick.ledger.sqlite.job import Job, Strand
from tallystick.ledger.sqlite.label_sets import LabelSetBound
from tallystick.ledger.sqlite.order import left, take_in_order
from tallystick.ledger.sqlite.refusing import Refusing
from tallystick.model import Catalog, Labels, Verdict
from tallystick.rollup import Ints
from tallystick.settings import Settings


@dataclass(frozen=True, slots=True)
class Sight:
    """What a transaction judges by."""

    catalog: Catalog
    series: SeriesCache


@dataclass(frozen=True, slots=True)
class Mark:
    """How to find out, after a lost connection, whether a transaction was committed: its id and an entry of it."""

    transaction: str
    account: int
    number: int


@dataclass(slots=True)
class Kept:
    """What a transaction kept: how many events of each account, and its new series."""

    events: Counter[int]
    made: Sequence[NewSeries]
    sequence: int = 0
    recorded: int = 0


class Committer:
    """Commits groups of jobs, for one thread; what it has in memory can be read again."""

    def __init__(
        self,
        catalog: CatalogLog,
        cache: SeriesCache,
        settings: Settings,
        secret: int,
        clock: Callable[[], int],
        load: Callable[[Db, Iterable[Named], Iterable[Counted]], Living],
        store: Callable[[Db, Living], None],
    ) -> None:
        self._catalog = catalog
        self._cache = cache
        self._bound = LabelSetBound(settings.label_sets_max, settings.unique_values_max, self._used_label_sets)
        self._db: Db | None = None
        self._secret = secret
        self._clock = clock
        self._load = load
        self._store = store

    def prepare(self, db: Db, jobs: Sequence[Job]) -> list[Job]:
        """Make the accounts that are missing and may be made, and find the identities; stale jobs fail."""
        current = []
        for job in jobs:
            if job.batch.catalog_version != self._catalog.known.catalog.version:
                self._catalog.refresh(db)
            # Again and again, because one may be deleted as soon as it is made.
            while job.create_accounts and (missing := _missing(job, self._catalog.known.catalog)):
                self._catalog.change(db, create_accounts(missing), "event", self._clock())
            catalog = self._catalog.known.catalog
            job.accounts_deleted = catalog.accounts_deleted
            if job.batch.catalog_version != catalog.version:
                job.fail(CatalogStale())
                continue
            _resolve(job, catalog, self._secret)
            current.append(job)
        return current

    def write(self, db: Db, jobs: Sequence[Job], marked: Callable[[Mark], None]) -> Kept:
        """Judge the events of jobs and keep those that are left, inside a transaction that has just begun.

        `marked` is told how to find out what became of it.
        """
        self._db = db
        locks.hold(db, locks.CATALOG, shared=True)
        catalog = self._catalog.refresh(db).catalog
        current = [job for job in jobs if _is_current(job, catalog)]
        if not any(len(job.rows) for job in current):
            return Kept(Counter(), ())
        number, transaction = db.execute("SELECT nextval('entry_number'), pg_current_xact_id()::text").fetchall()[0]
        sight = Sight(catalog, self._cache)
        judged = [job for job in current if len(job.rows)]
        claims = Claims.of(judged, number)
        accounts = np.unique(claims.account).tolist()
        rows_of = [job.rows for job in judged]
        _judge(claims, identities.claim(db, claims, self._secret))
        live = left(judged)
        if not live:
            return Kept(Counter(), ())
        heads, is_locked = self._heads(db, live, accounts, sight)
        living = take_in_order(
            live, sight, self._bound, Refusing({}, self._clock()), lambda *asked: self._load(db, *asked)
        )
        is_kept, places = _left(judged, rows_of, claims)
        identities.give_back(db, claims, is_kept)
        live = left(live)
        if not live:
            return Kept(Counter(), ())
        made = self._number(db, live, sight)
        packed = parts.pack(live, places)
        parts.store(db, packed, number)
        if living is not None:
            self._store(db, living)
        marked(Mark(transaction, packed[0].account, number))
        return self._append(db, packed, number, catalog.version, made, None if is_locked else heads)

    def _heads(
        self, db: Db, live: Sequence[Job], accounts: Sequence[int], sight: Sight
    ) -> tuple[dict[int, Head], bool]:
        """Return the heads of the accounts, and whether they are locked: they are wherever more than their end counts.

        Whatever else is changed of an account is changed under its head's lock, so no two transactions can wait for
        each other.
        """
        heads = dict(log.heads(db, accounts))
        self._cache.refresh(db, {account: head.series for account, head in heads.items()})
        if not self._needs_order(live, sight):
            return heads, False
        heads = dict(log.heads(db, accounts, lock=True))
        self._cache.refresh(db, {account: head.series for account, head in heads.items()})
        self._bound.distrust()
        return heads, True

    def _needs_order(self, live: Sequence[Job], sight: Sight) -> bool:
        if any(job.batch.changes for job in live):
            return True
        if any(job.number(sight.series, sight.catalog.accounts).unknown for job in live):
            return True
        reach = self._bound.reach(sight, live)
        return bool(reach.tight or reach.near)

    def _number(self, db: Db, live: Sequence[Job], sight: Sight) -> list[NewSeries]:
        """Give numbers to the series that have none, under the locks of their accounts."""
        accounts = sight.catalog.accounts
        unknown = [(job, at) for job in live for at in job.number(sight.series, accounts).unknown]
        if not unknown:
            return []
        sets = [job.batch.label_sets[at] for job, at in unknown]
        keys = [(accounts[each.account].number, each.meter, each.meter_version, each.labels) for each in sets]
        numbers, made = series.numbered(db, self._cache, keys)
        for (job, at), number in zip(unknown, numbers.tolist(), strict=True):
            assert job.numbering is not None
            job.numbering.table[at] = number
        return made

    def _append(
        self,
        db: Db,
        packed: Sequence[Part],
        number: int,
        version: int,
        made: Sequence[NewSeries],
        seen: dict[int, Head] | None,
    ) -> Kept:
        """Place the parts behind their heads; `seen` are these as they were before, None = they are locked."""
        heads = log.heads(db, [part.account for part in packed], lock=True)
        if seen is not None and any(head.series != seen[account].series for account, head in heads.items()):
            raise Again("label sets were added meanwhile")
        count = sum(len(part.offsets) for part in packed)
        locks.hold(db, locks.GIVING, shared=True)
        (first,) = db.execute("SELECT give_sequences(%s)", (count,)).fetchall()[0]
        # A clock that is set back takes nobody's time away, and gives none.
        recorded = max([self._clock(), *(head.recorded for head in heads.values())])
        rows = [part.placed(heads[part.account], number, first, recorded, version, made) for part in packed]
        log.append(db, number, recorded, rows)
        events = Counter({row.account: row.count for row in rows})
        return Kept(events, made, first + count - 1, recorded)

    def _used_label_sets(self, account: int, meter: str) -> dict[int, set[Labels]]:
        """Return the label sets used in each UTC month, in the present transaction."""
        used: dict[int, set[Labels]] = {}
        if (account, meter) not in self._cache.strands:
            return used
        assert self._db is not None, "label sets are counted inside a transaction"
        epoch = self._catalog.known.catalog.meters[meter].epoch
        cells = reading.month_cells(self._db, self._cache, account, meter)
        for number, month in zip(cells.series.tolist(), cells.bucket.tolist(), strict=True):
            _, _, version, labels = self._cache.describe(number)
            if version >= epoch:
                used.setdefault(month, set()).add(labels)
        return used

    @property
    def warned(self) -> frozenset[tuple[Strand, int]]:
        """The strands and months that were seen near a bound."""
        return self._bound.warned

    def publish(self, kept: Kept) -> None:
        """Take in what is durable."""
        self._cache.learn(kept.made)


def _missing(job: Job, catalog: Catalog) -> list[str]:
    """Return the accounts of a job that do not exist, in the order in which they come."""
    batch, accounts = job.batch, catalog.accounts
    names = batch.account if not batch.doomed else [n for at, n in enumerate(batch.account) if at not in batch.doomed]
    return [name for name in dict.fromkeys(names) if name not in accounts]


def _resolve(job: Job, catalog: Catalog, secret: int) -> None:
    """Find the accounts and the fingerprints of a job's events; what has no account is refused."""
    batch, accounts = job.batch, catalog.accounts
    job.fingerprint = identities.fingerprints(secret, 0, batch.account, batch.source, batch.id)
    numbers = {name: accounts[name].number if name in accounts else 0 for name in set(batch.account)}
    job.account = np.fromiter(map(numbers.__getitem__, batch.account), np.uint32, len(batch))
    alive = job.account != 0
    for row in np.flatnonzero(~alive).tolist():
        doomed = batch.doomed.get(row)
        job.verdicts[row] = doomed.verdict if doomed else verdicts.account_unknown(batch.account[row])
    if not alive.all():
        job.keep(alive)


def _is_current(job: Job, catalog: Catalog) -> bool:
    if (job.batch.catalog_version, job.accounts_deleted) == (catalog.version, catalog.accounts_deleted):
        return True
    job.fail(CatalogStale())
    return False


def _judge(claims: Claims, found: Mapping[int, Verdict]) -> None:
    """Give the events that are kept already their verdicts, and go on with the others."""
    first = 0
    for job in claims.jobs:
        count = len(job.rows)
        job.fingerprint = claims.fingerprint[first : first + count].view(np.uint64)
        alive = np.ones(count, np.bool_)
        for row in [row for row in found if first <= row < first + count] if found else ():
            job.verdicts[int(job.rows[row - first])] = found[row]
            alive[row - first] = False
        first += count
        if not alive.all():
            job.keep(alive)


def _left(judged: Sequence[Job], rows_of: Sequence[Ints], claims: Claims) -> tuple[NDArray[np.bool_], Ints]:
    """Return which of all rows are left, and the places of those."""
    masks = [np.isin(rows, job.rows, assume_unique=True) for job, rows in zip(judged, rows_of, strict=True)]
    is_kept = np.concatenate(masks)
    return is_kept, claims.place[is_kept]
