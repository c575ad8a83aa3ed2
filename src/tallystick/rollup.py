"""Mergeable aggregates over postings, in columns: the arithmetic under every rollup, pure and exact.

A cell holds what the postings of one series add up to in one bucket. Sums are kept in two columns, `high * 2**32 + low`
with 0 <= low < 2**32, so that adding int64 columns can neither wrap nor turn approximate. `at` is twice the time of the
latest posting, and odd where several of that time have different amounts: then `latest` is the largest of them, and
their events have to be looked at to tell which is the latest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tallystick.model import Total

Ints = NDArray[np.int64]

LOW_BITS = 32
LOW_MASK = (1 << LOW_BITS) - 1
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
BUCKET_BITS = 30
"""Bits of a bucket number inside a cell's key: quarter hours of ten thousand years fit."""


@dataclass(frozen=True, slots=True)
class Cells:
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

    def totals(self) -> list[Total]:
        """Return every row as Python integers."""
        columns = (column.tolist() for column in self.columns[1:6])
        return [Total(n, (high << LOW_BITS) + low, a, b) for n, high, low, a, b in zip(*columns, strict=True)]


def key(series: Ints, bucket: Ints) -> Ints:
    """Return the cell keys of (series, bucket) pairs."""
    return (series << BUCKET_BITS) | bucket


def of_postings(keys: Ints, amounts: Ints, times: Ints) -> Cells:
    """Aggregate postings: one amount and one time per key, keys in any order and repeated."""
    ones = np.ones(len(keys), np.int64)
    return _reduce(Cells(keys, ones, amounts >> LOW_BITS, amounts & LOW_MASK, amounts, amounts, times * 2, amounts))


def merge(parts: Sequence[Cells]) -> Cells:
    """Aggregate over the union of parts; keys may be in several of them."""
    if len(parts) == 1:
        return parts[0]
    return _reduce(Cells(*(np.concatenate(columns) for columns in zip(*(p.columns for p in parts), strict=True))))


def rekey(cells: Cells, keys: Ints) -> Cells:
    """Aggregate the same cells under other keys, one per row: coarser buckets, or groups of series."""
    return _reduce(Cells(keys, *cells.columns[1:]))


def nothing() -> Cells:
    """Return no cells."""
    empty = np.empty(0, np.int64)
    return Cells(*[empty] * 8)


def _reduce(cells: Cells) -> Cells:
    if len(cells) <= 1:
        return cells
    order = np.argsort(cells.key, kind="stable")
    keys = cells.key[order]
    first = np.empty(len(keys), np.bool_)
    first[0] = True
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    low = np.add.reduceat(cells.low[order], starts)
    at, latest = _latest(cells.at[order], cells.latest[order], starts)
    return Cells(
        keys[starts],
        np.add.reduceat(cells.count[order], starts),
        np.add.reduceat(cells.high[order], starts) + (low >> LOW_BITS),
        low & LOW_MASK,
        np.minimum.reduceat(cells.min[order], starts),
        np.maximum.reduceat(cells.max[order], starts),
        at,
        latest,
    )


def _latest(at: Ints, amounts: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Return the latest time of each group, odd where it is not clear whose amount is the latest, and that amount."""
    if len(starts) == len(at):
        return at, amounts
    last = np.maximum.reduceat(at, starts)
    is_last = at >> 1 == np.repeat(last >> 1, np.diff(starts, append=len(at)))
    least = np.minimum.reduceat(np.where(is_last, amounts, INT_MAX), starts)
    greatest = np.maximum.reduceat(np.where(is_last, amounts, INT_MIN), starts)
    return last | (least != greatest), greatest
