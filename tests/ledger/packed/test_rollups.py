"""Runs of cells are packed and unpacked many at once, each as it would be by itself."""

from __future__ import annotations

from contextlib import suppress
from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tallystick import rollup
from tallystick.ledger.packed import rollups
from tallystick.ledger.packed.segment import Damaged
from tallystick.rollup import Cells

WORD = st.integers(-(2**63), 2**63 - 1)
ROW = st.tuples(st.integers(0, 2**62 - 1), *[WORD] * 7)
RUN = st.lists(ROW, min_size=1, max_size=6, unique_by=lambda row: row[0]).map(sorted)


def cells_of(rows: list[tuple[int, ...]]) -> Cells:
    """Make cells of rows."""
    return Cells(*np.array(rows, np.int64).reshape(-1, 8).T)


def rows_of(cells: Cells) -> list[tuple[int, ...]]:
    """Return cells as rows."""
    return list(zip(*(column.tolist() for column in cells.columns), strict=True))


@given(st.lists(RUN, min_size=1, max_size=5))
def test_runs_packed_together_are_what_they_are_packed_by_themselves(runs: list[list[tuple[int, ...]]]) -> None:
    """Each body unpacks to its own run, and all of them to all cells in order."""
    together = rollup.joined([cells_of(run) for run in runs])
    starts = [0, *accumulate(map(len, runs))][:-1]
    bodies = rollups.pack_runs(together, starts)
    assert [rows_of(rollups.unpack(body)) for body in bodies] == runs
    assert [rows_of(rollups.unpack(rollups.pack(cells_of(run)))) for run in runs] == runs
    assert rows_of(rollups.unpack_runs(bodies)) == [row for run in runs for row in run]


def test_a_run_may_have_no_cells() -> None:
    """Packing nothing and unpacking it gives nothing."""
    assert rows_of(rollups.unpack(rollups.pack(rollup.nothing()))) == []


@given(st.lists(RUN, min_size=1, max_size=3), st.data())
def test_damage_never_gives_other_cells(runs: list[list[tuple[int, ...]]], data: st.DataObject) -> None:
    """A bit of any body that is not as it was is told, or makes no difference."""
    bodies = [rollups.pack(cells_of(run)) for run in runs]
    which = data.draw(st.integers(0, len(bodies) - 1))
    at = data.draw(st.integers(0, len(bodies[which]) - 1))
    hurt = bytearray(bodies[which])
    hurt[at] ^= 1 << data.draw(st.integers(0, 7))
    # One bit says whether there is a checksum: without it the rest is still what was written.
    with suppress(Damaged):
        found = rollups.unpack_runs([*bodies[:which], bytes(hurt), *bodies[which + 1 :]])
        assert rows_of(found) == [row for run in runs for row in run]
