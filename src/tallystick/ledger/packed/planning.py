"""Which cells fill the buckets of a query exactly: whole months, days and quarter hours, and what an edge cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tallystick import windows
from tallystick.ledger.packed import rollups
from tallystick.ledger.packed.rollups import Grain
from tallystick.rollup import Ints

QUARTERS_PER_DAY = 96
REMEMBERED_EDGES_MAX = 64
"""Up to so many edges, plans are remembered."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Half-open ranges of a grain's buckets, ascending, each within one bucket of the query."""

    start: Ints
    end: Ints
    bucket: Ints

    def place(self, buckets: Ints) -> tuple[Ints, Ints]:
        """Return the rows that are in a range, and the query's bucket of each."""
        if len(self.start) == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        at = np.searchsorted(self.start, buckets, side="right") - 1
        inside = np.flatnonzero((at >= 0) & (buckets < self.end[at]))
        return inside, self.bucket[at[inside]]

    def periods(self, grain: Grain) -> Ints:
        """Return the periods under which cells of these ranges, of which there is one at least, may be kept."""
        apart = np.flatnonzero(self.start[1:] != self.end[:-1])
        first = rollups.period(self.start[np.concatenate(([0], apart + 1))], grain)
        last = rollups.period(self.end[np.concatenate((apart, [len(self.end) - 1]))] - 1, grain)
        return windows.distinct(
            np.sort(np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)]))
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a query reads: whole months, days and quarters from rollups, and events of quarters that an edge cuts.

    `rollups` has a grain's ranges, where there are any, and the periods under which their cells may be kept.
    """

    rollups: Sequence[tuple[Grain, Ranges, Ints]]
    all_quarters: Ranges
    cut: Ints


def plan(edges: Ints) -> Plan:
    """Split the buckets between ascending edges into the coarsest grains that fill them exactly."""
    # Limits and reports ask about the same few periods again and again.
    return _remembered(edges.tobytes()) if len(edges) <= REMEMBERED_EDGES_MAX else _plan(edges)


@lru_cache(maxsize=256)
def _remembered(edges: bytes) -> Plan:
    return _plan(np.frombuffer(edges, np.int64))


def _plan(edges: Ints) -> Plan:
    floor = windows.quarter(edges)
    off = windows.quarter_start(floor) != edges
    start, end = (floor + off)[:-1], floor[1:]
    bucket = np.arange(len(start))
    all_quarters = _ranges([(start, end, bucket)])
    day_start, day_end = -(-start // QUARTERS_PER_DAY), end // QUARTERS_PER_DAY
    has_days = day_start < day_end
    quarters = _around(start, end, day_start * QUARTERS_PER_DAY, day_end * QUARTERS_PER_DAY, has_days, bucket)
    start, end, bucket = day_start[has_days], day_end[has_days], bucket[has_days]
    starts_us, ends_us = windows.day_start(start), windows.day_start(end)
    month_start, month_end = windows.month(starts_us), windows.month(ends_us)
    month_start = month_start + (windows.month_start(month_start) != starts_us)
    has_months = month_start < month_end
    inner = [windows.day(windows.month_start(m)) for m in (month_start, month_end)]
    days = _around(start, end, inner[0], inner[1], has_months, bucket)
    months = _ranges([(month_start[has_months], month_end[has_months], bucket[has_months])])
    grains = ((Grain.MONTH, months), (Grain.DAY, days), (Grain.QUARTER, quarters))
    kept = [(grain, ranges, ranges.periods(grain)) for grain, ranges in grains if len(ranges.start)]
    return Plan(kept, all_quarters, windows.distinct(floor[off]))


def _around(start: Ints, end: Ints, inner_start: Ints, inner_end: Ints, has: Ints, bucket: Ints) -> Ranges:
    """Return what is left of [start, end) around an inner range, where there is one."""
    head_end = np.where(has, inner_start, end)
    tail_start = np.where(has, inner_end, end)
    return _ranges([(start, head_end, bucket), (tail_start, end, bucket)])


def _ranges(parts: Sequence[tuple[Ints, Ints, Ints]]) -> Ranges:
    start, end, bucket = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    keep = start < end
    order = np.argsort(start[keep], kind="stable")
    return Ranges(start[keep][order], end[keep][order], bucket[keep][order])


def any_between(ascending: Ints, first: Ints, last: Ints) -> NDArray[np.bool_]:
    """Say for each pair whether any of `ascending` is from its first to its last."""
    at = np.searchsorted(ascending, first)
    return np.asarray((at < len(ascending)) & (ascending[np.minimum(at, len(ascending) - 1)] <= last))
