"""Usage from the file's rollups and what is not folded yet, from one read transaction: exact sums over the union."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import apsw
import numpy as np
from numpy.typing import NDArray

from tallystick import rollup, windows
from tallystick.ledger.packed import rollups
from tallystick.ledger.packed.answering import answer, distinct, grouped, of_cut, placed, valued
from tallystick.ledger.packed.planning import any_between, plan
from tallystick.ledger.packed.rollups import Grain
from tallystick.ledger.packed.segment import unpack_columns
from tallystick.ledger.packed.selecting import select
from tallystick.ledger.packed.series import Selection, SeriesIndex
from tallystick.ledger.sqlite.file import CORRECTED, EVENTS, rows
from tallystick.ledger.sqlite.latest import latest
from tallystick.ledger.sqlite.scrub import refuse_damaged
from tallystick.ledger.sqlite.source import Source, Unpack, asked_again
from tallystick.ledger.sqlite.tail import Published, Tail
from tallystick.model import AsOf, UsageQuery, UsageTable
from tallystick.rollup import Cells, Ints


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
            asked = [valued(query) for query in queries]
            chosen = [select(query, state.catalog, index) for query in asked]
            for each in chosen:
                refuse_damaged(damaged, each.accounts.tolist())
            pairs = list(zip(asked, chosen, strict=True))
            source = Source(db, unpack, asked_again((query, each.accounts) for query, each in pairs))
            late = Late(state, done, index, Counter((query.meter, each.accounts.tobytes()) for query, each in pairs))
            tables = [_answer(source, late, query, selection) for query, selection in pairs]
            told = zip(queries, tables, held, strict=True)
            return [replace(distinct(query, table), held=amount) for query, table, amount in told]


def counted(db: apsw.Connection, tail: Tail, query: UsageQuery) -> UsageTable:
    """Answer one query as of what is published, for the writer thread, inside its transaction."""
    state = tail.published
    late = Late(state, folded(db), tail.series)
    return _answer(Source(db, rollups.unpack), late, query, select(query, state.catalog, tail.series))


def as_of(now: Tail, damaged: frozenset[int], queries: Sequence[UsageQuery]) -> AsOf:
    """Say up to where `usage` would count, or raise Damaged as it would."""
    state = now.published
    if damaged:
        for query in queries:
            refuse_damaged(damaged, select(query, state.catalog, now.series).accounts.tolist())
    return AsOf(state.sequence, state.recorded)


@dataclass(frozen=True, slots=True)
class Late:
    """Reads cells that rollups lack; what several questions of a report ask of is looked for once.

    `asked` tells how many questions there are about a meter and account numbers.
    """

    state: Published
    done: Folded
    index: SeriesIndex
    asked: Mapping[tuple[str, bytes], int] = field(default_factory=dict)
    _held: dict[tuple[str, bytes], Sequence[Cells]] = field(default_factory=dict)

    def cells(self, query: UsageQuery, chosen: Selection) -> Iterable[Cells]:
        """Return the cells of the series that are read, and of others of the same accounts and meter."""
        asked = query.meter, chosen.accounts.tobytes()
        if self.asked.get(asked, 1) == 1:
            return self._of(chosen.series, chosen.accounts)
        if asked not in self._held:
            strands = [self.index.strands[account, query.meter].numbers for account in chosen.accounts.tolist()]
            numbers = np.sort(np.array([number for strand in strands for number in strand], np.int64))
            some = list(self._of(numbers, chosen.accounts))
            self._held[asked] = [rollup.merge(some)] if some else []
        return self._held[asked]

    def _of(self, series: Ints, accounts: Ints) -> Iterator[Cells]:
        for cells, border in self.state.overlay.parts(self.state.entry):
            if len(some := cells.of(series)):
                yield self._lacking(some, border, accounts)

    def _lacking(self, cells: Cells, border: int, accounts: Ints) -> Cells:
        """Return the cells of accounts whose rollups end before `border`."""
        if len(accounts) == 1:
            return cells if self.done.through(int(accounts[0])) < border else rollup.nothing()
        account_of = np.array(self.index.accounts, np.int64)
        return cells.take(self.done.lacking(border)(account_of[cells.series]))


def _answer(source: Source, late: Late, query: UsageQuery, chosen: Selection) -> UsageTable:
    state = late.state

    def latest_of(cells: Cells, selection: Selection) -> list[int]:
        return latest(source.db, state, cells, selection)

    parts = _parts(source, late, query, chosen)
    return answer(query, chosen, parts, latest_of, AsOf(state.sequence, state.recorded))


def _parts(source: Source, late: Late, query: UsageQuery, chosen: Selection) -> Iterator[Cells]:
    """Yield everything that counts, as cells under (bucket of the query, group)."""
    reads = plan(query.edges)
    for cells, buckets in source.cells(query, chosen.accounts, reads):
        yield grouped(cells, buckets, chosen, dated=query.latest)
    for cells in late.cells(query, chosen):
        yield placed(cells, reads.all_quarters, chosen, dated=query.latest)
    if len(reads.cut):
        yield from _cut(source.db, late.state.entry, query.edges, reads.cut, chosen)


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


def _cut(db: apsw.Connection, entry: int, edges: Ints, cut: Ints, chosen: Selection) -> Iterator[Cells]:
    """Sum the postings of events inside quarters that an edge of the query cuts: exact, and slower."""
    touching = _touching(db, entry, cut)
    if len(touching) == 0:
        return
    for (body,) in rows(db, "SELECT columns FROM log WHERE entry IN carray(?)", (apsw.carray(touching),)):
        yield of_cut(unpack_columns(body), edges, cut, chosen)


def _touching(db: apsw.Connection, entry: int, cut: Ints) -> Ints:
    """Return the entries of the log up to `entry` whose range of times touches one of these quarters."""
    statement = f"""
        SELECT entry, time_min, time_max FROM log
        WHERE kind = {EVENTS} AND time_min < ?1 AND time_max >= ?2 AND entry <= ?3 UNION ALL
        SELECT entry, time_min, time_max FROM log
        WHERE kind = {CORRECTED} AND time_min < ?1 AND time_max >= ?2 AND entry <= ?3"""
    bounds = (int(windows.quarter_start(cut[-1:] + 1)[0]), int(windows.quarter_start(cut[:1])[0]), entry)
    ranges = np.array(list(rows(db, statement, bounds)), np.int64).reshape(-1, 3)
    touch = any_between(cut, windows.quarter(ranges[:, 1]), windows.quarter(ranges[:, 2]))
    return np.sort(ranges[touch, 0])
