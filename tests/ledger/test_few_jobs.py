"""What a few events become is what many would, whichever jobs they came in and whatever was left of these."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger.packed.few import FEW
from tallystick.ledger.packed.series import SeriesIndex
from tallystick.ledger.sqlite.job import Job, Numbering, pack, pack_few, pack_postings
from tallystick.model import Batch, LabelSet

Event = tuple[bytes, int, int, bool, list[tuple[int, int]]]
"""Its bytes, account, time, whether it had one, and its postings: a label set and an amount each."""

SETS = [LabelSet("acme", "audio", 1, (("operation", str(at)),)) for at in range(3)]
NUMBERS = np.array([7, 2**33 - 1, 1], np.int64)
EVENTS = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=40),
        st.integers(1, 3),
        st.integers(0, 10**16),
        st.booleans(),
        st.lists(st.tuples(st.integers(0, 2), st.integers(-(2**63), 2**63 - 1)), max_size=3),
    ),
    min_size=1,
    max_size=5,
)


def job_of(events: list[Event], alive: list[bool]) -> Job:
    """Return a job of events, some of which have their verdict already."""
    postings = [(at, *posting) for at, (*_, some) in enumerate(events) for posting in some]
    event, label_set, amount = (np.array([row[place] for row in postings], np.int64) for place in range(3))
    raws, owners, times, timed, _ = zip(*events, strict=True)
    names = [""] * len(events)
    time, had = np.array(times, np.int64), np.array(timed, np.bool_)
    batch = Batch(1, 0, raws, names, names, names, time, had, event, label_set, amount, SETS)
    job = Job(batch, False, cast("asyncio.Future[Any]", None), 0)
    job.account = np.array(owners, np.uint32)
    job.fingerprint = np.array([int.from_bytes(raw[:8], "big") for raw in raws], np.uint64)
    if not all(alive):
        job.keep(np.array(alive, np.bool_))
    job.numbering = Numbering(SeriesIndex(), NUMBERS, ())
    return job


@given(st.lists(st.tuples(EVENTS, st.lists(st.booleans(), min_size=5, max_size=5)), min_size=1, max_size=4))
def test_one_by_one_is_as_in_columns(sent: list[tuple[list[Event], list[bool]]]) -> None:
    """Frames, digests, columns, cells, accounts, times and identities: the segment is the same one."""
    jobs = [job_of(events, alive[: len(events)]) for events, alive in sent]
    jobs = [job for job in jobs if len(job.rows)]
    found = pack_few(jobs) if jobs else None
    rows, postings = sum(len(job.rows) for job in jobs), sum(len(job.posting_set) for job in jobs)
    assert (found is not None) == (0 < rows <= FEW and postings <= FEW)
    if found is None:
        return
    packed, due = found[0], pack(jobs)
    assert (*packed.frames,) == (*due.frames,)
    for name in ("time_min", "time_max", "accounts", "account_events"):
        assert getattr(packed, name) == getattr(due, name)
    assert packed.run.fingerprint.tolist() == due.run.fingerprint.tolist()
    assert packed.run.sequence.tolist() == due.run.sequence.tolist()
    some, columns = found[1], pack_postings(jobs)
    assert (some.digest, some.columns) == (columns.digest, columns.columns)
    for one, other in zip(some.cells.columns, columns.cells.columns, strict=True):
        assert (one.dtype, one.tolist()) == (other.dtype, other.tolist())


def test_events_too_large_for_one_frame_are_left_to_columns() -> None:
    """Two of them are cut into frames, as always."""
    large: list[Event] = [(b"x" * 9_000, 1, 0, True, []), (b"y" * 9_000, 1, 0, True, [])]
    assert pack_few([job_of(large, [True, True])]) is None
    assert len(pack([job_of(large, [True, True])]).frames) == 2
