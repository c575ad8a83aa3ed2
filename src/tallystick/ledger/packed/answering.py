"""Tables of reports, from the cells that count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np
from msgspec import structs

from tallystick import rollup, windows
from tallystick.ledger.packed.planning import Ranges, any_between
from tallystick.ledger.packed.segment import Columns
from tallystick.ledger.packed.series import Selection
from tallystick.ledger.verdicts import rows_exceeded
from tallystick.model import VALUE, AsOf, UsageQuery, UsageRow, UsageRows, UsageTable
from tallystick.rollup import Cells, Ints

CELLS_HELD_MIN = 500_000
"""From so many on, cells of a report are merged before more are read."""
VALUES_MAX = 5_000_000
"""Rows of single values that are looked at for one report of how many there are."""


def answer(
    query: UsageQuery,
    chosen: Selection,
    parts: Iterator[Cells],
    latest: Callable[[Cells, Selection], list[int]],
    as_of: AsOf,
) -> UsageTable:
    """Make the table of a query from the cells that count, which are under (bucket of the query, group).

    `latest` tells the latest amounts of cells.
    """
    cells = merged(parts, query.rows_max, dated=query.latest) if len(chosen.series) else rollup.nothing()
    all = rollup.total(cells)
    amounts: list[int] | None = None
    if query.latest and len(cells):
        amounts = latest(cells, chosen)
        whole = rollup.rekey(cells, np.zeros(len(cells), np.int64))
        everyone = replace(chosen, group=np.zeros_like(chosen.group), groups=chosen.groups[:1])
        all = structs.replace(all, latest=latest(whole, everyone)[0])
    return UsageTable(_rows(cells, chosen, amounts), all, as_of)


def _rows(cells: Cells, chosen: Selection, latest: list[int] | None) -> UsageRows:
    buckets, places = np.divmod(cells.key, max(1, len(chosen.groups)))
    is_every_group = np.array_equal(places, np.arange(len(chosen.groups)))
    labels = chosen.groups if is_every_group else [chosen.groups[place] for place in places.tolist()]
    counts, least, greatest = (column.tolist() for column in (cells.count, cells.min, cells.max))
    return UsageRows(buckets.tolist(), labels, counts, cells.sums(), least, greatest, latest)


def merged(parts: Iterator[Cells], rows_max: int | None, *, dated: bool = True) -> Cells:
    """Merge parts as they come, so that no more is held or done than the rows of an answer need.

    `dated` as in `rollup.rekey`.
    """
    held: list[Cells] = []
    count, enough = 0, CELLS_HELD_MIN
    for cells in parts:
        held.append(cells)
        count += len(cells)
        if count > enough:
            held = [_bounded(rollup.merge(held, dated=dated), rows_max)]
            count = len(held[0])
            enough = max(CELLS_HELD_MIN, 2 * count)
    return _bounded(rollup.merge(held, dated=dated) if held else rollup.nothing(), rows_max)


def _bounded(cells: Cells, rows_max: int | None) -> Cells:
    if rows_max is not None and len(cells) > rows_max:
        raise rows_exceeded(rows_max)
    return cells


def placed(cells: Cells, ranges: Ranges, chosen: Selection, *, dated: bool) -> Cells:
    """Return the cells that are in ranges, under (bucket of the query, group); `dated` as in `rollup.rekey`."""
    return grouped(*within(cells, ranges), chosen, dated=dated)


def within(cells: Cells, ranges: Ranges) -> tuple[Cells, Ints]:
    """Return the cells that are in ranges, and the query's bucket of each."""
    inside, buckets = ranges.place(cells.bucket)
    return cells if len(inside) == len(cells) else cells.take(inside), buckets


def grouped(cells: Cells, buckets: Ints, chosen: Selection, *, dated: bool) -> Cells:
    """Return the cells whose series are read under (bucket of the query, group); `buckets` has one for each cell."""
    read, groups = chosen.place(cells.series)
    if len(read) < len(cells):
        cells, buckets = cells.take(read), buckets[read]
    return rollup.rekey(cells, buckets * len(chosen.groups) + groups, dated=dated)


def of_cut(columns: Columns, edges: Ints, cut: Ints, chosen: Selection) -> Cells:
    """Sum the postings inside quarters that an edge of the query cuts, under (bucket of the query, group)."""
    time = columns.time[columns.posting_event]
    bucket = np.searchsorted(edges, time, side="right") - 1
    quarters = windows.quarter(time)
    inside = (bucket >= 0) & (bucket < len(edges) - 1) & any_between(cut, quarters, quarters)
    read, groups = chosen.place(columns.posting_series[inside])
    return rollup.of_postings(
        bucket[inside][read] * len(chosen.groups) + groups,
        columns.posting_amount[inside][read],
        time[inside][read],
    )


def valued(query: UsageQuery) -> UsageQuery:
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
