"""The upper halves of ascending fingerprints, two bytes for each: where one lies tells the rest of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tallystick.rollup import Ints

HALF_BITS = 16
PLACES = 1 << HALF_BITS
"""What the first half of an upper half may be."""
HALF_MASK = PLACES - 1

Fingerprints = NDArray[np.uint64]


class Heads:
    """Of each upper half, its second half, in order; and of each first half there may be, where its begin.

    The latter take 256 KiB, whatever the number.
    """

    def __init__(self, entries: int) -> None:
        """Make room for that many; until `add` was given as many, nothing is to be looked for."""
        self._low = np.empty(entries, np.uint16)
        self._starts = np.zeros(PLACES + 1, np.uint32)
        self._added = 0
        self._begun = 0

    def __len__(self) -> int:
        return len(self._low)

    @staticmethod
    def bytes_of(entries: int) -> int:
        """Say what so many take."""
        return 2 * entries + 4 * (PLACES + 1)

    def add(self, fingerprints: Fingerprints) -> None:
        """Take the next fingerprints, ascending; raises ValueError where there are more than there is room for."""
        if not len(fingerprints):
            return
        above = (fingerprints >> np.uint64(2 * HALF_BITS)).astype(np.uint32)
        end = self._added + len(above)
        if end > len(self):
            raise ValueError(f"there is room for {len(self)} fingerprints, and here are {end}")
        self._low[self._added : end] = above & HALF_MASK
        first = above >> HALF_BITS
        # What begins in here; what comes behind it begins where the next are added.
        begins = np.arange(self._begun, PLACES + 1 if end == len(self) else int(first[-1]) + 1)
        self._starts[begins] = self._added + np.searchsorted(first, begins)
        self._added, self._begun = end, int(first[-1]) + 1

    def present(self, wanted: Fingerprints) -> Ints:
        """Return the places of those wanted whose upper halves are here."""
        above = (wanted >> np.uint64(2 * HALF_BITS)).astype(np.uint32)
        first, low = above >> HALF_BITS, (above & HALF_MASK).astype(np.uint16)
        at, ends = (self._starts[first + after].astype(np.int64) for after in (0, 1))
        left = ends - at
        # Bisection of all at once; each step leaves less than half of what may be longest.
        for _ in range(int(left.max(initial=0)).bit_length()):
            half = left >> 1
            is_before = (self._low.take(at + half, mode="clip") < low) & (left > 0)
            at = np.where(is_before, at + half + 1, at)
            left = np.where(is_before, left - half - 1, half)
        return np.flatnonzero((at < ends) & (self._low.take(at, mode="clip") == low))

    def has_one(self, wanted: Iterable[int]) -> bool:
        """Say whether the upper half of one of a few fingerprints is here."""
        starts = memoryview(self._starts)  # type: ignore[arg-type]  # numpy's stubs do not say that it is a buffer
        values = memoryview(self._low)  # type: ignore[arg-type]  # nor that this is one
        for one in wanted:
            above = one >> 2 * HALF_BITS
            first, low = above >> HALF_BITS, above & HALF_MASK
            end = starts[first + 1]
            at = bisect_left(values, low, starts[first], end)
            if at < end and values[at] == low:
                return True
        return False
