"""Usage from runs, and from the postings that these do not count yet: one snapshot of the database, exact sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from tallystick import rollup, windows
from tallystick.ledger.packed import rollups
from tallystick.ledger.packed.answering import answer, distinct, of_cut, placed, valued
from tallystick.ledger.packed.planning import any_between, plan
from tallystick.ledger.packed.rollups import Grain
from tallystick.ledger.packed.segment import unpack_columns
from tallystick.ledger.packed.selecting import select
from tallystick.ledger.packed.series import Selection
from tallystick.ledger.postgres import shards
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.latest import latest
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import CORRECTED, EVENTS
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.ledger.sqlite.tail import quarter_cells
from tallystick.model import AsOf, Catalog, Limit, UsageQuery, UsageTable
from tallystick.rollup import Cells, Ints

POSTED = f"kind IN ({EVENTS}, {CORRECTED})"
"""Which entries have postings, in the words of the index on their times."""
Held = Callable[[Db, Catalog, Sequence[Limit | None]], Sequence[int]]
"""Says what is held of limits, in the snapshot of the answer."""


@contextmanager
def snapshot(db: Db) -> Iterator[None]:
    """Read everything from one moment."""
    db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        if not db.closed and not db.broken:
            db.execute("ROLLBACK")


@dataclass(frozen=True, slots=True)
class View:
    """What answers are made from, beside the database: the catalog and the series of one snapshot."""

    catalog: Catalog
    series: SeriesCache
    as_of: AsOf


def view(db: Db, log: CatalogLog, cache: SeriesCache, names: Sequence[str] | None) -> View:
    """Return the catalog of the present snapshot, and what is known of these accounts (None = of all)."""
    catalog = log.refresh(db).catalog
    refresh_series(db, cache, catalog, names)
    return View(catalog, cache, moment(db))


def refresh_series(db: Db, cache: SeriesCache, catalog: Catalog, names: Sequence[str] | None) -> None:
    """Read the series of accounts that are not known yet."""
    if names is None:
        found = db.execute("SELECT account, series FROM head WHERE series > 0").fetchall()
    else:
        numbers = [catalog.accounts[name].number for name in names if name in catalog.accounts]
        which, named = shards.among(numbers)
        found = db.execute(f"SELECT account, series FROM head WHERE account {which}", (named,)).fetchall()
    cache.refresh(db, dict(found))


def moment(db: Db) -> AsOf:
    """Say how far the log goes: the number of events in it, which is the last one's place."""
    sequence, recorded = db.execute(
        "SELECT coalesce(sum(events), 0)::bigint, coalesce(max(recorded) FILTER (WHERE events > 0), 0) FROM head"
    ).fetchall()[0]
    return AsOf(sequence, recorded)


def names_of(queries: Sequence[UsageQuery]) -> Sequence[str] | None:
    """Return the accounts that queries ask about; None = all."""
    if any(query.accounts is None for query in queries):
        return None
    return list(dict.fromkeys(name for query in queries for name in query.accounts or ()))


def usage(
    db: Db, log: CatalogLog, cache: SeriesCache, queries: Sequence[UsageQuery], at: int, held: Held
) -> list[UsageTable]:
    """Answer queries from one snapshot; `at` is the instant of the question."""
    limits = [query.limit if query.limit and query.edges[0] <= at < query.edges[-1] else None for query in queries]
    with snapshot(db):
        now = view(db, log, cache, names_of(queries))
        amounts = held(db, now.catalog, limits) if any(limits) else [0] * len(limits)
        tables = [counted(db, now, query) for query in queries]
    return [replace(table, held=amount) for table, amount in zip(tables, amounts, strict=True)]


def counted(db: Db, now: View, query: UsageQuery) -> UsageTable:
    """Answer one query, in the present transaction."""
    asked = valued(query)
    chosen = select(asked, now.catalog, now.series)

    def latest_of(cells: Cells, selection: Selection) -> list[int]:
        return latest(db, now.catalog, cells, selection)

    return distinct(query, answer(asked, chosen, parts(db, asked, chosen), latest_of, now.as_of))


def parts(db: Db, query: UsageQuery, chosen: Selection) -> Iterator[Cells]:
    """Yield everything that counts, as cells under (bucket of the query, group)."""
    reads = plan(query.edges)
    for grain, ranges, periods in reads.rollups:
        for cells in _runs(db, query.meter, chosen.accounts, grain, periods):
            yield placed(cells, ranges, chosen, dated=query.latest)
    if len(reads.all_quarters.start):
        start = int(windows.quarter_start(reads.all_quarters.start[:1])[0])
        end = int(windows.quarter_start(reads.all_quarters.end[-1:])[0])
        for cells in unfolded(db, chosen.accounts, start, end):
            yield placed(cells.take(chosen.place(cells.series)[0]), reads.all_quarters, chosen, dated=query.latest)
    if len(reads.cut):
        yield from _cut(db, query.edges, reads.cut, chosen)


def _runs(db: Db, meter: str, accounts: Ints, grain: Grain, periods: Ints) -> Iterator[Cells]:
    # Periods are neighbours, mostly: what lies between is left out when cells are placed.
    which, named = shards.among(accounts)
    statement = f"""SELECT body FROM run WHERE account {which} AND meter = %s AND grain = %s
        AND period BETWEEN %s AND %s"""
    bounds = (named, meter, int(grain), int(periods[0]), int(periods[-1]))
    for (body,) in db.execute(statement, bounds, binary=True):
        yield rollups.unpack(body)


def unfolded(db: Db, accounts: Ints, start: int, end: int) -> Iterator[Cells]:
    """Yield the cells of entries that the runs of accounts do not count yet, as far as their times may matter."""
    which, named = shards.among(accounts)
    statement = f"""SELECT p.body FROM entry e JOIN posting p USING (account, number)
        LEFT JOIN folded f ON f.account = e.account
        WHERE e.account {which} AND e.position > coalesce(f.position, 0) AND e.{POSTED}
        AND e.time_min < %s AND e.time_max >= %s"""
    for (body,) in db.execute(statement, (named, end, start), binary=True):
        yield quarter_cells(unpack_columns(body))


def _cut(db: Db, edges: Ints, cut: Ints, chosen: Selection) -> Iterator[Cells]:
    """Sum the postings of events inside quarters that an edge of the query cuts: exact, and slower."""
    for body in touching(db, chosen.accounts, cut):
        yield of_cut(unpack_columns(body), edges, cut, chosen)


def touching(db: Db, accounts: Ints, cut: Ints) -> Iterator[bytes]:
    """Yield the postings of entries whose range of times touches one of these quarters (ascending)."""
    which, named = shards.among(accounts)
    statement = f"""SELECT account, number, time_min, time_max FROM entry
        WHERE account {which} AND {POSTED} AND time_min < %s AND time_max >= %s"""
    start, end = int(windows.quarter_start(cut[:1])[0]), int(windows.quarter_start(cut[-1:] + 1)[0])
    ranges = np.array(db.execute(statement, (named, end, start)).fetchall(), np.int64).reshape(-1, 4)
    found = ranges[any_between(cut, windows.quarter(ranges[:, 2]), windows.quarter(ranges[:, 3]))]
    if len(found):
        of_one, owner = shards.only("p.account", accounts)
        statement = f"""SELECT p.body FROM unnest(%s::bigint[], %s::bigint[]) w (account, number)
            JOIN posting p USING (account, number) WHERE true{of_one}"""
        for (body,) in db.execute(statement, (found[:, 0], found[:, 1], *owner), binary=True).fetchall():
            yield bytes(body)


def month_cells(db: Db, cache: SeriesCache, account: int, meter: str) -> Cells:
    """Return one account's cells of a meter per UTC month, in the present transaction."""
    numbers = np.array(cache.strands[account, meter].numbers, np.int64)
    # One statement, because each of them sees a moment of its own here, and runs may be folded between two.
    statement = f"""SELECT true, body FROM run WHERE account = %s AND meter = %s AND grain = {int(Grain.MONTH)}
        UNION ALL
        SELECT false, p.body FROM entry e JOIN posting p USING (account, number)
        LEFT JOIN folded f ON f.account = e.account
        WHERE e.account = %s AND e.position > coalesce(f.position, 0) AND e.{POSTED}"""
    found = []
    for is_run, body in db.execute(statement, (account, meter, account), binary=True).fetchall():
        cells = rollups.unpack(body) if is_run else quarter_cells(unpack_columns(body))
        some = cells.take(np.isin(cells.series, numbers))
        found.append(some if is_run else rollups.coarse(some, Grain.MONTH))
    return rollup.merge(found) if found else rollup.nothing()
