"""The write path: some batches, one transaction; whatever was refused the server, or changed under it, begins anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tallystick.ledger.base import CatalogStale
from tallystick.ledger.packed.counters import Counter as LimitCounter
from tallystick.ledger.packed.living import Counted, Living, Named
from tallystick.ledger.packed.segment import NewSeries
from tallystick.ledger.packed.selecting import counts
from tallystick.ledger.postgres import admitting, identities, locks, log, parts, reading, screening, series
from tallystick.ledger.postgres.admitting import Turn
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.identities import Claims
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import Head
from tallystick.ledger.postgres.parts import Part
from tallystick.ledger.postgres.pool import Again
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.ledger.sqlite.admitting import HoldWork
from tallystick.ledger.sqlite.changes import create_accounts
from tallystick.ledger.sqlite.job import Job, Strand
from tallystick.ledger.sqlite.label_sets import LabelSetBound
from tallystick.ledger.sqlite.order import left, take_in_order
from tallystick.ledger.sqlite.refusing import Refusing
from tallystick.model import Catalog, Labels
from tallystick.rollup import Ints
from tallystick.settings import Settings


@dataclass(frozen=True, slots=True)
class Sight:
    """What a transaction judges by."""

    catalog: Catalog
    series: SeriesCache


@dataclass(frozen=True, slots=True)
class Mark:
    """How to find out, after a lost connection, whether a transaction was committed: an entry of it."""

    account: int
    number: int


@dataclass(slots=True)
class Kept:
    """What a transaction kept: how many events of each account, and its new series; `clock` is what holds went by."""

    events: Counter[int]
    made: Sequence[NewSeries]
    sequence: int = 0
    recorded: int = 0
    clock: int = 0


@dataclass(slots=True)
class _Task:
    """What a transaction has judged so far; `marked` is told where one of its entries is."""

    db: Db
    sight: Sight
    judged: Sequence[Job]
    claims: Claims
    rows_of: Sequence[Ints]
    number: int
    marked: Callable[[int, int], None] = lambda account, number: None

    @property
    def accounts(self) -> list[int]:
        """The accounts of its events, by number."""
        found: list[int] = np.unique(self.claims.account).tolist()
        return found


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
            if job.batch.catalog_version != self._catalog.known.catalog.version:
                job.fail(CatalogStale())
                continue
            # Again and again, because one may be deleted as soon as it is made.
            while job.create_accounts and (lacking := job.missing(self._catalog.known.catalog.accounts)):
                self._catalog.change(db, create_accounts(lacking), "event", self._clock())
            catalog = self._catalog.known.catalog
            job.accounts_deleted = catalog.accounts_deleted
            if job.batch.catalog_version != catalog.version:
                job.fail(CatalogStale())
                continue
            screening.resolve(job, catalog, self._secret)
            current.append(job)
        return current

    def write(self, db: Db, jobs: Sequence[Job], calls: Sequence[HoldWork], marked: Callable[[Mark], None]) -> Kept:
        """Decide calls about holds, judge the events of jobs and keep those that are left, then end settled holds.

        Inside a transaction that has just begun; `marked` is told how to find out what became of it.
        """
        self._db = db
        locks.hold(db, locks.CATALOG, shared=True)
        catalog = self._catalog.refresh(db).catalog
        current = [job for job in jobs if screening.is_current(job, catalog)]
        judged = [job for job in current if len(job.rows)]
        settling = [job for job in current if job.settles is not None]
        if not (judged or settling or calls):
            return Kept(Counter(), ())
        (number,) = db.execute("SELECT nextval('entry_number')").fetchall()[0]
        claims = Claims.of(judged, number)
        rows_of = [job.rows for job in judged]
        if judged:
            screening.judge(claims, identities.claim(db, claims, self._secret))
        owners = admitting.owners_of(catalog, calls, [*left(judged), *settling])
        if not (left(judged) or settling or calls):
            return Kept(Counter(), ())
        task = _Task(db, Sight(catalog, self._cache), judged, claims, rows_of, number)
        task.marked = lambda account, number: marked(Mark(account, number))
        if not owners and not calls and not settling:
            return self._keep(task, None, {})
        return self._admit(task, owners, calls, settling, current)

    def _admit(
        self,
        task: _Task,
        owners: Sequence[int],
        calls: Sequence[HoldWork],
        settling: Sequence[Job],
        current: Sequence[Job],
    ) -> Kept:
        """Keep what is left of a task where limits and holds have to be looked at, with all its heads locked."""
        accounts = sorted({*owners, *task.accounts})
        heads = log.heads(task.db, accounts, lock=True)
        self._cache.refresh(task.db, {account: head.series for account, head in heads.items()})
        self._bound.distrust()
        now = max([self._clock(), *(max(head.recorded, head.clock) for head in heads.values())])
        turn = Turn(task.db, task.sight.catalog, self._cache, owners, now)
        turn.begin(calls, settling)
        for call in calls:
            turn.decide(call)
        open_ones = [job for job in settling if not turn.refuse(job)]
        kept = self._keep(task, turn, turn.watch(current))
        for job in open_ones:
            turn.settle(job)
        written = turn.write()
        if written is not None:
            task.marked(*written)
        return replace(kept, clock=now)

    def _keep(self, task: _Task, turn: Turn | None, watched: Mapping[str, Sequence[LimitCounter]]) -> Kept:
        """Judge the events of a task in order, and keep those that are left."""
        db, sight = task.db, task.sight
        live, heads = left(task.judged), None
        if not task.judged:
            return Kept(Counter(), ())
        if turn is None:
            heads = self._heads(db, live, task.accounts, sight)
        now = self._clock() if turn is None else turn.now
        living = take_in_order(live, sight, self._bound, Refusing(watched, now), lambda *asked: self._load(db, *asked))
        is_kept, places = screening.remaining(task.judged, task.rows_of, task.claims)
        identities.give_back(db, task.claims, is_kept)
        live = left(live)
        if not live:
            return Kept(Counter(), ())
        if turn is not None:
            turn.count(live, watched)
        made = self._number(db, live, sight)
        packed = parts.pack(live, places)
        parts.store(db, packed, task.number)
        if living is not None:
            self._store(db, living)
        task.marked(packed[0].account, task.number)
        return self._append(db, packed, task.number, sight.catalog.version, made, heads, now)

    def _heads(self, db: Db, live: Sequence[Job], accounts: Sequence[int], sight: Sight) -> dict[int, Head] | None:
        """Return the heads of the accounts as they are; None = they are locked, as wherever more than their end counts.

        Whatever else is changed of an account is changed under its head's lock, so no two transactions can wait for
        each other.
        """
        heads = dict(log.heads(db, accounts))
        self._cache.refresh(db, {account: head.series for account, head in heads.items()})
        if not self._needs_order(live, sight):
            return heads
        heads = dict(log.heads(db, accounts, lock=True))
        self._cache.refresh(db, {account: head.series for account, head in heads.items()})
        self._bound.distrust()
        return None

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
        now: int,
    ) -> Kept:
        """Place the parts behind their heads; `seen` are these as they were before, None = they are locked."""
        heads = log.heads(db, [part.account for part in packed], lock=True)
        if seen is not None and any(head.series != seen[account].series for account, head in heads.items()):
            raise Again("label sets were added meanwhile")
        count = sum(len(part.offsets) for part in packed)
        locks.hold(db, locks.GIVING, shared=True)
        (first,) = db.execute("SELECT give_sequences(%s)", (count,)).fetchall()[0]
        # A clock that is set back takes nobody's time away, and gives none.
        recorded = max([now, *(max(head.recorded, head.clock) for head in heads.values())])
        own: dict[int, tuple[NewSeries, ...]] = {}
        for new in made:
            own[new.account] = (*own.get(new.account, ()), new)
        rows = [
            part.placed(heads[part.account], number, first, recorded, version, own.get(part.account, ()))
            for part in packed
        ]
        log.append(db, number, recorded, rows)
        events = Counter({row.account: row.count for row in rows})
        return Kept(events, made, first + count - 1, recorded)

    def _used_label_sets(self, account: int, meter: str) -> dict[int, set[Labels]]:
        """Return the label sets used in each UTC month, in the present transaction."""
        used: dict[int, set[Labels]] = {}
        if (account, meter) not in self._cache.strands:
            return used
        assert self._db is not None, "label sets are counted inside a transaction"
        in_force = self._catalog.known.catalog.meters[meter]
        cells = reading.month_cells(self._db, self._cache, account, meter)
        for number, month in zip(cells.series.tolist(), cells.bucket.tolist(), strict=True):
            _, _, version, labels = self._cache.describe(number)
            if counts(in_force, version):
                used.setdefault(month, set()).add(labels)
        return used

    @property
    def warned(self) -> frozenset[tuple[Strand, int]]:
        """The strands and months that were seen near a bound."""
        return self._bound.warned

    def publish(self, kept: Kept) -> None:
        """Take in what is durable."""
        self._cache.learn(kept.made)
