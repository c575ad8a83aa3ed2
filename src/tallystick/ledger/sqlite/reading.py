"""Usage from the file's rollups and what is not folded yet, from one read transaction: exact sums over the union."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import apsw
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from tallystick import rollup, windows
from tallystick.ledger.sqlite import rollups
from tallystick.ledger.sqlite.file import CORRECTED, EVENTS, rows
from tallystick.ledger.sqlite.latest import latest
from tallystick.ledger.sqlite.planning import plan
from tallystick.ledger.sqlite.rollups import Grain
from tallystick.ledger.sqlite.scrub import refuse_damaged
from tallystick.ledger.sqlite.segment import unpack_columns
from tallystick.ledger.sqlite.series import Selection, SeriesIndex
from tallystick.ledger.sqlite.source import Source, Unpack, asked_again
from tallystick.ledger.sqlite.tail import Published, Tail
from tallystick.ledger.verdicts import rows_exceeded
from tallystick.model import VALUE, Account, AsOf, Meter, Total, UsageQuery, UsageRow, UsageTable
from tallystick.rollup import Cells, Ints

CELLS_HELD_MIN = 500_000
"""From so many on, cells of a report are merged before more are read."""
VALUES_MAX = 5_000_000
"""Rows of single values that are looked at for one report of how many there are."""
SELECTIONS_MAX = 32
"""Groupings remembered per account and meter."""


def select(query: UsageQuery, published: Published, index: SeriesIndex) -> Selection:
    """Find the series of a query and group them by its labels."""
    accounts, meter = published.catalog.accounts, published.catalog.meters.get(query.meter)
    if meter is None or not _known(meter).issuperset((*query.group_by, *query.where)):
        return Selection(np.empty(0, np.int64), np.empty(0, np.int64), (), np.empty(0, np.int64))
    names = list(accounts if query.accounts is None else (a for a in dict.fromkeys(query.accounts) if a in accounts))
    strand = index.strands.get((accounts[names[0]].number, query.meter)) if len(names) == 1 else None
    if strand is None:
        return _group(query, meter.epoch, names, accounts, index)
    # What reports and limits ask again and again; it holds until the account meets a new label set.
    size, key = len(strand.numbers), (meter.epoch, query.group_by, frozenset(query.where.items()))
    found = strand.selections.get(key)
    if found is None or found[0] != size:
        found = (size, _group(query, meter.epoch, names, accounts, index))
        if len(strand.selections) >= SELECTIONS_MAX:
            strand.selections.clear()
        strand.selections[key] = found
    return found[1]


def _known(meter: Meter) -> set[str]:
    values = {VALUE} if meter.aggregation == "unique" else set[str]()
    return {"account", *values, *(name for name, _ in meter.labels)}


def _group(
    query: UsageQuery, epoch: int, names: Sequence[str], accounts: Mapping[str, Account], index: SeriesIndex
) -> Selection:
    numbers: list[int] = []
    groups: list[tuple[str | None, ...]] = []
    read: list[int] = []
    for name in names:
        strand = index.strands.get((accounts[name].number, query.meter))
        if strand is None:
            continue
        read.append(accounts[name].number)
        for number, labels, version in zip(strand.numbers, strand.labels, strand.versions, strict=False):
            if version < epoch:
                continue
            # Said in the quickest way: an account may have ten thousand label sets.
            values = dict(labels)
            for label, wanted in query.where.items():
                if values.get(label, "") not in wanted:
                    break
            else:
                numbers.append(number)
                groups.append(tuple([name if label == "account" else values.get(label) for label in query.group_by]))
    ordered = sorted(set(groups), key=lambda group: [(value is not None, value or "") for value in group])
    rank = {group: at for at, group in enumerate(ordered)}
    series = np.array(numbers, np.int64)
    order = np.argsort(series, kind="stable")
    return Selection(
        series[order], np.array([rank[g] for g in groups], np.int64)[order], ordered, np.array(sorted(read), np.int64)
    )


@dataclass(frozen=True, slots=True)
class Folded:
    """Up to which entry of the log the file's rollups count, for all accounts and for those that are further."""

    base: int
    further: dict[int, int]

    @property
    def last(self) -> int:
        return max([self.base, *self.further.values()])

    def through(self, account: int) -> int:
        return self.further.get(account, self.base)

    def lacking(self, border: int) -> Callable[[Ints], NDArray[np.bool_]]:
        """Return which accounts' rollups end before `border`, as a mask over account numbers."""
        done = np.array([account for account, through in self.further.items() if through >= border], np.int64)
        if self.base >= border:
            return lambda accounts: np.zeros(len(accounts), np.bool_)
        return lambda accounts: ~np.isin(accounts, done)


def folded(db: apsw.Connection) -> Folded:
    through: dict[int, int] = dict(rows(db, "SELECT account, through FROM folded"))
    return Folded(through.pop(0), through)


def usage(
    db: apsw.Connection,
    tail: Callable[[], Tail],
    damaged: frozenset[int],
    queries: Sequence[UsageQuery],
    at: int = 0,
    unpack: Unpack = rollups.unpack,
) -> list[UsageTable]:
    """Answer queries from one read transaction and the state that belongs to it; `at` is the instant of the question.

    Raises Damaged if one reads an account of `damaged` (EVERYONE = all).
    """
    limits = [query.limit if query.limit and query.edges[0] <= at < query.edges[-1] else None for query in queries]
    while True:
        now = tail()
        (state, held), index = now.moment(limits, at), now.series
        with db:
            done = folded(db)
            # Commits and a whole fold came between the two lines above; what was folded is not in `state` yet.
            if done.last > state.entry:
                continue
            asked = [_valued(query) for query in queries]
            chosen = [select(query, state, index) for query in asked]
            for each in chosen:
                refuse_damaged(damaged, each.accounts.tolist())
            pairs = list(zip(asked, chosen, strict=True))
            source = Source(db, unpack, asked_again((query, each.accounts) for query, each in pairs))
            tables = [_answer(source, state, done, index, query, selection) for query, selection in pairs]
            told = zip(queries, tables, held, strict=True)
            return [replace(distinct(query, table), held=amount) for query, table, amount in told]


def counted(db: apsw.Connection, tail: Tail, query: UsageQuery) -> UsageTable:
    """Answer one query as of what is published, for the writer thread, inside its transaction."""
    state = tail.published
    source = Source(db, rollups.unpack)
    return _answer(source, state, folded(db), tail.series, query, select(query, state, tail.series))


def _valued(query: UsageQuery) -> UsageQuery:
    """Ask for the values themselves where their number is asked for."""
    if not query.distinct:
        return query
    return replace(query, group_by=(*query.group_by, VALUE), rows_max=VALUES_MAX)


def distinct(query: UsageQuery, table: UsageTable) -> UsageTable:
    """Count the values of a table whose rows are grouped by them last, which makes neighbours of those of one group."""
    if not query.distinct:
        return table
    rows = []
    for (bucket, labels), some in groupby(table.rows, key=lambda row: (row.bucket, row.labels[:-1])):
        totals = [row.total for row in some]
        count = sum(total.count for total in totals)
        rows.append(UsageRow(bucket, labels, structs.replace(totals[0], count=count, sum=count, unique=len(totals))))
    if query.rows_max is not None and len(rows) > query.rows_max:
        raise rows_exceeded(query.rows_max)
    values = {row.labels[-1] for row in table.rows}
    return UsageTable(rows, structs.replace(table.total, unique=len(values)), table.as_of)


def as_of(now: Tail, damaged: frozenset[int], queries: Sequence[UsageQuery]) -> AsOf:
    """Say up to where `usage` would count, or raise Damaged as it would."""
    state = now.published
    if damaged:
        for query in queries:
            refuse_damaged(damaged, select(query, state, now.series).accounts.tolist())
    return AsOf(state.sequence, state.recorded)


def _answer(
    source: Source, state: Published, done: Folded, index: SeriesIndex, query: UsageQuery, chosen: Selection
) -> UsageTable:
    cells = rollup.nothing()
    if len(chosen.series):
        cells = _merged(_parts(source, state, done, index, query, chosen), query.rows_max)
    width = max(1, len(chosen.groups))
    buckets, groups = (cells.key // width).tolist(), (cells.key % width).tolist()
    totals = cells.totals()
    whole = rollup.rekey(cells, np.zeros(len(cells), np.int64))
    all = whole.totals()[0] if len(whole) else Total()
    if query.latest and len(cells):
        amounts = latest(source.db, state, cells, chosen)
        totals = [structs.replace(total, latest=amount) for total, amount in zip(totals, amounts, strict=True)]
        everyone = replace(chosen, group=np.zeros_like(chosen.group), groups=chosen.groups[:1])
        all = structs.replace(all, latest=latest(source.db, state, whole, everyone)[0])
    table = [UsageRow(b, chosen.groups[g], total) for b, g, total in zip(buckets, groups, totals, strict=True)]
    return UsageTable(table, all, AsOf(state.sequence, state.recorded))


def _merged(parts: Iterator[Cells], rows_max: int | None) -> Cells:
    """Merge parts as they come, so that no more is held or done than the rows of an answer need."""
    held: list[Cells] = []
    count, enough = 0, CELLS_HELD_MIN
    for cells in parts:
        held.append(cells)
        count += len(cells)
        if count > enough:
            held = [_bounded(rollup.merge(held), rows_max)]
            count = len(held[0])
            enough = max(CELLS_HELD_MIN, 2 * count)
    return _bounded(rollup.merge(held) if held else rollup.nothing(), rows_max)


def _bounded(cells: Cells, rows_max: int | None) -> Cells:
    if rows_max is not None and len(cells) > rows_max:
        raise rows_exceeded(rows_max)
    return cells


def _parts(
    source: Source, state: Published, done: Folded, index: SeriesIndex, query: UsageQuery, chosen: Selection
) -> Iterator[Cells]:
    """Yield everything that counts, as cells under (bucket of the query, group)."""
    reads = plan(query.edges)
    for cells, buckets in source.cells(query, chosen.accounts, reads):
        yield _grouped(cells, buckets, chosen)
    for cells, border in state.overlay.parts(state.entry):
        some = cells.take(chosen.place(cells.series)[0])
        inside, buckets = reads.all_quarters.place((kept := _lacking(some, done, border, index, chosen)).bucket)
        yield _grouped(kept.take(inside), buckets, chosen)
    if len(reads.cut):
        yield from _cut(source.db, state.entry, query.edges, reads.cut, chosen)


def _lacking(cells: Cells, done: Folded, border: int, index: SeriesIndex, chosen: Selection) -> Cells:
    """Return the cells of accounts whose rollups end before `border`."""
    if len(chosen.accounts) == 1:
        return cells if done.through(int(chosen.accounts[0])) < border else rollup.nothing()
    account_of = np.array(index.accounts, np.int64)
    return cells.take(done.lacking(border)(account_of[cells.series]))


def month_cells(db: apsw.Connection, state: Published, index: SeriesIndex, account: int, meter: str) -> Cells:
    """Return one account's cells of a meter per UTC month; for the writer thread, between commits."""
    with db:
        done = folded(db)
        statement = "SELECT body FROM rollup WHERE meter = ? AND account = ? AND grain = ?"
        kept = list(rows(db, statement, (meter, account, int(Grain.MONTH))))
    numbers = np.array(index.strands[account, meter].numbers, np.int64)
    parts = [rollups.unpack(body) for (body,) in kept]
    for cells, border in state.overlay.parts(state.entry):
        some = cells.take(np.isin(cells.series, numbers))
        if done.through(account) < border:
            parts.append(rollups.coarse(some, Grain.MONTH))
    return rollup.merge(parts) if parts else rollup.nothing()


def _grouped(cells: Cells, buckets: Ints, chosen: Selection) -> Cells:
    read, groups = chosen.place(cells.series)
    return rollup.rekey(cells.take(read), buckets[read] * len(chosen.groups) + groups)


def _cut(db: apsw.Connection, entry: int, edges: Ints, cut: Ints, chosen: Selection) -> Iterator[Cells]:
    """Sum the postings of events inside quarters that an edge of the query cuts: exact, and slower."""
    touching = _touching(db, entry, cut)
    if len(touching) == 0:
        return
    for (body,) in rows(db, "SELECT columns FROM log WHERE entry IN carray(?)", (apsw.carray(touching),)):
        columns = unpack_columns(body)
        time = columns.time[columns.posting_event]
        bucket = np.searchsorted(edges, time, side="right") - 1
        quarters = windows.quarter(time)
        inside = (bucket >= 0) & (bucket < len(edges) - 1) & _any_between(cut, quarters, quarters)
        if inside.any():
            read, groups = chosen.place(columns.posting_series[inside])
            yield rollup.of_postings(
                bucket[inside][read] * len(chosen.groups) + groups,
                columns.posting_amount[inside][read],
                time[inside][read],
            )


def _touching(db: apsw.Connection, entry: int, cut: Ints) -> Ints:
    """Return the entries of the log up to `entry` whose range of times touches one of these quarters."""
    statement = f"""
        SELECT entry, time_min, time_max FROM log
        WHERE kind = {EVENTS} AND time_min < ?1 AND time_max >= ?2 AND entry <= ?3 UNION ALL
        SELECT entry, time_min, time_max FROM log
        WHERE kind = {CORRECTED} AND time_min < ?1 AND time_max >= ?2 AND entry <= ?3"""
    bounds = (int(windows.quarter_start(cut[-1:] + 1)[0]), int(windows.quarter_start(cut[:1])[0]), entry)
    ranges = np.array(list(rows(db, statement, bounds)), np.int64).reshape(-1, 3)
    touch = _any_between(cut, windows.quarter(ranges[:, 1]), windows.quarter(ranges[:, 2]))
    return np.sort(ranges[touch, 0])


def _any_between(ascending: Ints, first: Ints, last: Ints) -> NDArray[np.bool_]:
    """Say for each pair whether any of `ascending` is from its first to its last."""
    at = np.searchsorted(ascending, first)
    return np.asarray((at < len(ascending)) & (ascending[np.minimum(at, len(ascending) - 1)] <= last))
