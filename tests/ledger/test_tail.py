"""Cells in memory: summed up, they say the same, and whoever came between is not lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick import rollup
from tallystick.ledger.sqlite.tail import LARGE_CELLS, Overlay
from tallystick.rollup import Cells

SIZES = st.sampled_from([1, 2, LARGE_CELLS // 2, LARGE_CELLS, 2 * LARGE_CELLS])


def cells(size: int, seed: int) -> Cells:
    rng = np.random.default_rng(seed)
    keys = rng.permutation(2 * size)[:size]
    return rollup.of_postings(keys, rng.integers(-9, 9, size), rng.integers(0, 99, size))


def total(overlay: Overlay) -> list[list[int]]:
    return [column.tolist() for column in rollup.merge([*overlay.active, rollup.nothing()]).columns]


@settings(max_examples=60, deadline=None)
@given(st.lists(SIZES, max_size=8), st.lists(st.tuples(SIZES, st.booleans()), max_size=4))
def test_gathering_changes_no_sum_whatever_comes_meanwhile(before: list[int], between: list[tuple[int, bool]]) -> None:
    """Commits and tidying go on while parts are summed up; the sum takes the place of just these parts."""
    overlay = Overlay((), 0)
    for seed, size in enumerate(before):
        overlay = overlay.add(cells(size, seed)).tidied()
    parts = overlay.alike
    whole = rollup.merge(parts) if parts else rollup.nothing()
    for seed, (size, tidies) in enumerate(between):
        overlay = overlay.add(cells(size, 100 + seed))
        overlay = overlay.tidied() if tidies else overlay
    assert set(map(id, parts)) <= set(map(id, overlay.active))
    after = overlay.gathered(parts, whole)
    assert total(after) == total(overlay)
    assert not parts or len(after.active) == len(overlay.active) - len(parts) + 1


def test_what_was_put_off_is_not_done_all_at_once() -> None:
    """However many parts came while somebody waited: the writer sums up a few cells, the keeper does the rest."""
    overlay = Overlay((), 0)
    for seed in range(20):
        overlay = overlay.add(cells(LARGE_CELLS - 1, seed))
    once = overlay.tidied()
    assert once.active[:18] == overlay.active[:18]
    assert len(once.active) == 19
    assert total(once) == total(overlay)


def test_a_sum_of_parts_that_were_frozen_meanwhile_is_dropped() -> None:
    """They are being folded, and what came after them is not theirs."""
    overlay = Overlay((), 0)
    for seed in range(3):
        overlay = overlay.add(cells(LARGE_CELLS, seed))
    parts = overlay.alike
    frozen = overlay.freeze(7, 7).add(cells(5, 9))
    assert parts
    assert frozen.gathered(parts, rollup.merge(parts)) is frozen
