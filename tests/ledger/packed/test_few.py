"""What is packed one by one is what columns make of it, to the byte."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger.packed import few, segment
from tallystick.ledger.packed.segment import Columns
from tallystick.ledger.sqlite.tail import quarter_cells

YEAR = 366 * 86_400 * 10**6
TIMES = st.integers(0, 3) | st.integers(0, 2 * 15 * 60 * 10**6) | st.integers(-62 * YEAR, 8000 * YEAR)
AMOUNTS = st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)
SERIES = st.integers(1, 3) | st.integers(1, 2**33 - 1)
EVENTS = st.lists(
    st.tuples(TIMES, st.booleans(), st.lists(st.tuples(SERIES, AMOUNTS), max_size=3)), min_size=1, max_size=few.FEW
)


def columns(events: list[tuple[int, bool, list[tuple[int, int]]]]) -> Columns:
    """Put events into columns."""
    rows = [(at, series, amount) for at, (_, _, postings) in enumerate(events) for series, amount in postings]
    event, series, amount = (np.array([row[place] for row in rows], np.int64) for place in range(3))
    time = np.array([time for time, _, _ in events], np.int64)
    return Columns(time, np.array([timed for _, timed, _ in events], np.bool_), event, series, amount)


@given(EVENTS)
def test_columns_and_cells_are_those_of_numpy(events: list[tuple[int, bool, list[tuple[int, int]]]]) -> None:
    """Nobody can tell later how many events a commit had when it was packed."""
    postings = [(time, series, amount) for time, _, each in events for series, amount in each]
    times, timed, counts = zip(*((time, timed, len(each)) for time, timed, each in events), strict=True)
    whole = columns(events)
    assert few.pack_columns(times, timed, counts, postings) == segment.pack_columns(whole)
    due, found = quarter_cells(whole), few.quarter_cells(postings)
    for one, other in zip(found.columns, due.columns, strict=True):
        assert (one.dtype, one.tolist()) == (other.dtype, other.tolist())


@given(st.lists(st.tuples(st.binary(max_size=2_000), st.integers(0, 2**32 - 1)), min_size=1, max_size=few.FEW))
def test_a_frame_is_cut_where_many_would_be_cut(events: list[tuple[bytes, int]]) -> None:
    """One frame where there would be one, and none where there would be more."""
    raws, accounts = zip(*events, strict=True)
    due = segment.pack_frames(raws, np.array(accounts, np.uint32))
    assert few.pack_frame(raws, accounts) == (due[0] if len(due) == 1 else None)
