"""Arithmetic under rollups: any order of keys, any size of sums, and cells of some series among many."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick import rollup
from tallystick.model import Total
from tallystick.rollup import Cells

KEYS = (7, 1 << 12, 1 << 20, 1 << 31, 1 << 33, 1 << 62)
"""Keys are below one of these: their order is found by one digit, by two, or by comparing."""
AMOUNTS = st.integers(-(2**63), 2**63 - 1)


def added(postings: list[tuple[int, int]]) -> list[tuple[int, int, int, int, int]]:
    """Aggregate postings plainly: key, count, sum, least and greatest."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for key, amount in postings:
        found[key].append(amount)
    return [(key, len(some), sum(some), min(some), max(some)) for key, some in sorted(found.items())]


def said(cells: Cells) -> list[tuple[int, int, int, int, int]]:
    totals = [(total.count, total.sum, total.min or 0, total.max or 0) for total in cells.totals()]
    return [(key, *total) for key, total in zip(cells.key.tolist(), totals, strict=True)]


def of(postings: list[tuple[int, int]]) -> Cells:
    keys, amounts = (np.array(column, np.int64) for column in (zip(*postings, strict=True) if postings else ((), ())))
    return rollup.of_postings(keys, amounts, np.arange(len(keys)))


@given(
    st.sampled_from(KEYS).flatmap(lambda most: st.lists(st.tuples(st.integers(0, most - 1), AMOUNTS), max_size=40)),
    st.booleans(),
)
def test_cells_add_up_under_any_keys(postings: list[tuple[int, int]], dated: bool) -> None:
    """However far apart keys are and however large sums get, with the latest amounts and without."""
    apart = of([(at, amount) for at, (_, amount) in enumerate(postings)])
    keys = np.array([key for key, _ in postings], np.int64)
    moved = rollup.rekey(apart, keys, dated=dated)
    assert said(moved) == added(postings)
    parts = [of(postings[:7]), of(postings[7:]), of(postings[:3])]
    assert said(rollup.merge(parts, dated=dated)) == added(postings + postings[:3])
    whole = added([(0, amount) for _, amount in postings])
    assert rollup.total(moved) == (Total(*whole[0][1:]) if whole else Total())


@given(st.lists(st.integers(0, 99), max_size=30), st.sets(st.integers(0, 120), max_size=40))
def test_cells_of_some_series(series: list[int], wanted: set[int]) -> None:
    """Whether there are more series than cells or less."""
    cells = of([(one << rollup.BUCKET_BITS | at % 5, at) for at, one in enumerate(series)])
    found = cells.of(np.array(sorted(wanted), np.int64))
    assert said(found) == [row for row in said(cells) if row[0] >> rollup.BUCKET_BITS in wanted]


@pytest.mark.parametrize("high", [-(2**31) - 1, -(2**31), 2**31 - 1, 2**31])
def test_a_sum_may_pass_64_bits(high: int) -> None:
    """At the ends of an int64 and beyond them."""
    one, low = np.ones(1, np.int64), np.array([rollup.LOW_MASK])
    cells = Cells(0 * one, one, np.array([high], np.int64), low, one, one, one, one)
    assert cells.sums() == [(high << 32) + 2**32 - 1]
