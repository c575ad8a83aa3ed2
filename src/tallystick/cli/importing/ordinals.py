"""Counts equal lines in constant memory, so that each of them has a number among its equals.

What a line is counted by is 64 bits of its hash. Two lines that share them share a count, which costs nothing: the
number that a line gets depends only on the lines before it, and equal lines never get the same one.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Counts = NDArray[np.int64]

KEYS_IN_MEMORY = 1 << 19
"""Runs from here on are kept on disk: 16 bytes for each different line."""
RUNS_PER_LEVEL = 4
MERGED_KEYS = 1 << 18
"""How many keys are merged at a time, about."""


class Ordinals:
    """Sorted runs of (key, how often), each level four times as large as the one before; large ones on disk."""

    def __init__(self, keys_in_memory: int = KEYS_IN_MEMORY) -> None:
        self._keys_in_memory = keys_in_memory
        self._levels: list[list[_Run]] = []

    def number(self, keys: Keys) -> Counts:
        """Return which of its equals each key is, from 1 on, among all that were ever given."""
        distinct, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
        before = np.zeros(len(distinct), np.int64)
        for level in self._levels:
            for run in level:
                before += run.counted(distinct)
        self._add(_Run(distinct, counts.astype(np.int64)), 0)
        return before[places] + _ranks(places, counts)

    def _add(self, run: _Run, level: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(run)
        if len(self._levels[level]) == RUNS_PER_LEVEL:
            runs, self._levels[level] = self._levels[level], []
            self._add(_merged(runs, self._keys_in_memory), level + 1)


def _ranks(places: NDArray[np.intp], counts: NDArray[np.intp]) -> Counts:
    """Return, for each element, which of its equals it is in this batch, from 1 on."""
    order = np.argsort(places, kind="stable")
    ranks = np.empty(len(places), np.int64)
    ranks[order] = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks + 1


@dataclass(slots=True)
class _Run:
    """Ascending keys with their counts; `map` is what they are read from where they are on disk."""

    keys: Keys
    counts: Counts
    map: mmap.mmap | None = None

    def counted(self, wanted: Keys) -> Counts:
        """Return how often each of these ascending keys is here."""
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        found: Counts = np.where(self.keys[places] == wanted, self.counts[places], 0)
        self.forget()
        return found

    def forget(self) -> None:
        """Let go of the pages that were read: they stay in the system's cache, and are no memory of this process."""
        if self.map is not None:
            self.map.madvise(mmap.MADV_DONTNEED)


def _merged(runs: Sequence[_Run], keys_in_memory: int) -> _Run:
    size = sum(len(run.keys) for run in runs)
    if size <= keys_in_memory:
        return _sum(runs)
    with tempfile.TemporaryFile() as keys, tempfile.TemporaryFile() as counts:
        for part in _parts(runs, size):
            together = _sum(part)
            keys.write(together.keys.tobytes())
            counts.write(together.counts.tobytes())
        return _on_disk(keys, counts)


def _on_disk(keys: IO[bytes], counts: IO[bytes]) -> _Run:
    """Join both into one file that is mapped; it is gone when nobody maps it any more."""
    size = keys.tell()
    counts.seek(0)
    while block := counts.read(1 << 20):
        keys.write(block)
    keys.flush()
    mapped = mmap.mmap(keys.fileno(), 2 * size, access=mmap.ACCESS_READ)
    return _Run(
        np.frombuffer(mapped, np.uint64, size // 8), np.frombuffer(mapped, np.int64, size // 8, offset=size), mapped
    )


def _parts(runs: Sequence[_Run], size: int) -> Iterator[list[_Run]]:
    """Cut all runs at the same keys; hashes are spread evenly, so equal steps hold about as many."""
    steps = -(-size // MERGED_KEYS)
    edges = [(1 << 64) * step // steps for step in range(1, steps)]
    cuts = [[0, *np.searchsorted(run.keys, np.array(edges, np.uint64)).tolist(), len(run.keys)] for run in runs]
    for step in range(steps):
        yield [
            _Run(run.keys[cut[step] : cut[step + 1]], run.counts[cut[step] : cut[step + 1]])
            for run, cut in zip(runs, cuts, strict=True)
        ]
        for run in runs:
            run.forget()


def _sum(runs: Sequence[_Run]) -> _Run:
    keys, places = np.unique(np.concatenate([run.keys for run in runs]), return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, places, np.concatenate([run.counts for run in runs]))
    return _Run(keys, counts)
