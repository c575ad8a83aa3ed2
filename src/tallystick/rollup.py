"""Mergeable aggregates over postings, in columns: the arithmetic under every rollup, pure and exact.

A cell holds what the postings of one series add up to in one bucket. Sums are kept in two columns, `high * 2**32 + low`
with 0 <= low < 2**32, so that adding int64 columns can neither wrap nor turn approximate. `at` is twice the time of the
latest posting, and odd where several of that time have different amounts: then `latest` is the largest of them, and
their events have to be looked at to tell which is the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tallystick.model import Total

Ints = NDArray[np.int64]

LOW_BITS = 32
LOW_MASK = (1 << LOW_BITS) - 1
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
HIGH_OF_INT = 2**31
"""Sums whose `high` is nearer to zero, or just below it, are an int64."""
DIGIT_BITS = 16
DIGIT_MASK = (1 << DIGIT_BITS) - 1
COUNT, HIGH, LOW, MIN, MAX, AT, LATEST = range(1, 8)
"""Places of the columns of cells behind their keys."""
BUCKET_BITS = 30
"""Bits of a bucket number inside a cell's key: quarter hours of ten thousand years fit."""


class Cells(msgspec.Struct, frozen=True, eq=False):
    """Aggregates in columns, one row per key, ascending; a key is `series << 30 | bucket`."""

    key: Ints
    count: Ints
    high: Ints
    low: Ints
    min: Ints
    max: Ints
    at: Ints
    latest: Ints

    def __len__(self) -> int:
        return len(self.key)

    @property
    def columns(self) -> tuple[Ints, ...]:
        return (self.key, self.count, self.high, self.low, self.min, self.max, self.at, self.latest)

    @property
    def series(self) -> Ints:
        return self.key >> BUCKET_BITS

    @property
    def bucket(self) -> Ints:
        return self.key & ((1 << BUCKET_BITS) - 1)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Cells:
        """Return the chosen rows; the choice must keep their order."""
        return Cells(*(column[rows] for column in self.columns))

    def of(self, series: Ints) -> Cells:
        """Return the cells of some series, which ascend: the few are looked for among the many."""
        if len(series) > len(self):
            at = np.minimum(np.searchsorted(series, self.series), len(series) - 1)
            return self.take(series[at] == self.series)
        starts = np.searchsorted(self.key, series << BUCKET_BITS)
        counts = np.searchsorted(self.key, (series + 1) << BUCKET_BITS) - starts
        if not counts.any():
            return nothing()
        before = np.cumsum(counts) - counts
        return self.take(np.repeat(starts - before, counts) + np.arange(before[-1] + counts[-1]))

    def totals(self) -> list[Total]:
        """Return every row as Python integers."""
        rest = (column.tolist() for column in (self.min, self.max))
        return [Total(*row) for row in zip(self.count.tolist(), self.sums(), *rest, strict=True)]

    def sums(self) -> list[int]:
        """Return every sum as Python's integer."""
        if len(self) and self.high.min() >= -HIGH_OF_INT and self.high.max() < HIGH_OF_INT:
            sums: list[int] = ((self.high << LOW_BITS) + self.low).tolist()
            return sums
        return [(high << LOW_BITS) + low for high, low in zip(self.high.tolist(), self.low.tolist(), strict=True)]


def key(series: Ints, bucket: Ints) -> Ints:
    """Return the cell keys of (series, bucket) pairs."""
    return (series << BUCKET_BITS) | bucket


def of_postings(keys: Ints, amounts: Ints, times: Ints) -> Cells:
    """Aggregate postings: one amount and one time per key, keys in any order and repeated."""
    ones = np.ones(len(keys), np.int64)
    cells = Cells(keys, ones, amounts >> LOW_BITS, amounts & LOW_MASK, amounts, amounts, times * 2, amounts)
    return rekey(cells, keys)


def merge(parts: Sequence[Cells], *, dated: bool = True) -> Cells:
    """Aggregate over the union of parts; keys may be in several of them. `dated` as in `rekey`."""
    if len(parts) == 1:
        return parts[0]
    keys = np.concatenate([part.key for part in parts])
    # Parts are ascending each, which a merge sort finds out.
    order = np.argsort(keys, kind="stable")
    return _reduce(keys[order], lambda at: np.concatenate([part.columns[at] for part in parts])[order], dated)


def joined(parts: Sequence[Cells]) -> Cells:
    """Return the cells of parts behind one another."""
    if len(parts) == 1:
        return parts[0]
    return Cells(*(np.concatenate(columns) for columns in zip(*(part.columns for part in parts), strict=True)))


def rekey(cells: Cells, keys: Ints, *, dated: bool = True) -> Cells:
    """Aggregate the same cells under other keys, one per row: coarser buckets, or groups of series.

    Where they are not `dated`, nobody will ask for the latest amounts, and they are left out (zeros).
    """
    columns = cells.columns
    is_ascending = bool((keys[1:] >= keys[:-1]).all())
    if is_ascending:
        return _reduce(keys, lambda at: columns[at], dated)
    order = _order(keys)
    return _reduce(keys[order], lambda at: columns[at][order], dated)


def total(cells: Cells) -> Total:
    """Aggregate all cells as Python integers, but for the latest amount."""
    if not len(cells):
        return Total()
    amount = (int(cells.high.sum()) << LOW_BITS) + int(cells.low.sum())
    return Total(int(cells.count.sum()), amount, int(cells.min.min()), int(cells.max.max()))


def nothing() -> Cells:
    """Return no cells."""
    empty = np.empty(0, np.int64)
    return Cells(*[empty] * 8)


def _reduce(key: Ints, column: Callable[[int], Ints], dated: bool) -> Cells:
    """Aggregate cells whose keys ascend and may be repeated; `column` gives their columns, by their places.

    One at a time: all columns of many cells, in another order, would be as much memory again.
    """
    if len(key) <= 1:
        return Cells(key, *map(column, (COUNT, HIGH, LOW, MIN, MAX, AT, LATEST)))
    first = np.ones(len(key), np.bool_)
    np.not_equal(key[1:], key[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    low = np.add.reduceat(column(LOW), starts)
    high = np.add.reduceat(column(HIGH), starts) + (low >> LOW_BITS)
    low &= LOW_MASK
    at, latest = _latest(column(AT), column(LATEST), starts) if dated else [np.zeros(len(starts), np.int64)] * 2
    return Cells(
        key[starts],
        np.add.reduceat(column(COUNT), starts),
        high,
        low,
        np.minimum.reduceat(column(MIN), starts),
        np.maximum.reduceat(column(MAX), starts),
        at,
        latest,
    )


def _order(keys: Ints) -> NDArray[np.intp]:
    """Return what sorts keys, stably."""
    least = keys.min()
    if int(keys.max()) - int(least) >> 2 * DIGIT_BITS:
        return np.argsort(keys, kind="stable")
    # Digits of 16 bits are counted instead of compared, which takes a few milliseconds off a large report.
    above = keys - least
    by_low = np.argsort((above & DIGIT_MASK).astype(np.uint16), kind="stable")
    high = (above >> DIGIT_BITS).astype(np.uint16)
    return by_low[np.argsort(high[by_low], kind="stable")] if high.any() else by_low


def _latest(at: Ints, amounts: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Return the latest time of each group, odd where it is not clear whose amount is the latest, and that amount."""
    if len(starts) == len(at):
        return at, amounts
    last = np.maximum.reduceat(at, starts)
    is_last = at >> 1 == np.repeat(last >> 1, np.diff(starts, append=len(at)))
    least = np.minimum.reduceat(np.where(is_last, amounts, INT_MAX), starts)
    greatest = np.maximum.reduceat(np.where(is_last, amounts, INT_MIN), starts)
    return last | (least != greatest), greatest
