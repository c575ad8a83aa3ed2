"""Frames: whatever is packed comes back, and what they take on the disk."""

from __future__ import annotations

import random
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger.packed.segment import FRAME_BYTES_MAX, FRAME_BYTES_MIN, pack_frames, unpack_frame

ROOM = (4096 - 8) // 2 - 16
"""What one of two rows of a page has for its frame (https://www.sqlite.org/fileformat.html)."""
WORDS = ("transcription", "realtime", "standard", "enhanced", "north", "south", "team", "large")


@given(st.lists(st.integers(1, 2 * FRAME_BYTES_MAX), min_size=1, max_size=40), st.integers(0, 2**32))
def test_what_is_packed_comes_back_in_frames_of_bounded_size(lengths: list[int], seed: int) -> None:
    """Nothing is lost or changed; a frame is no larger than may be unpacked for one event, unless that is larger."""
    chance = random.Random(seed)
    raws = [chance.randbytes(length) if chance.random() < 0.5 else b"x" * length for length in lengths]
    accounts = np.arange(len(raws), dtype=np.uint32)
    frames = pack_frames(raws, accounts)
    events = [unpack_frame(frame.body) for frame in frames]
    assert [raw for each in events for raw in each.raws] == raws
    assert [number for each in events for number in each.accounts] == accounts.tolist()
    assert [frame.count for frame in frames] == [len(each.raws) for each in events]
    sizes = [sum(map(len, each.raws)) for each in events]
    assert all(size <= FRAME_BYTES_MAX or len(each.raws) == 1 for size, each in zip(sizes, events, strict=True))
    # Two neighbours could not have been one.
    assert all(a + len(b.raws[0]) > FRAME_BYTES_MIN for a, b in zip(sizes, events[1:], strict=False))


def some_events(labels: int, count: int) -> list[bytes]:
    """Return events with so many labels of few values each."""
    chance = random.Random(labels)

    def event() -> bytes:
        said = ",".join(f'"label-{at}":"{chance.choice(WORDS)}"' for at in range(labels))
        return f'{{"id":"{chance.randbytes(16).hex()}","account":"org-{chance.randrange(200)}",{said}}}'.encode()

    return [event() for _ in range(count)]


def filling(raws: list[bytes]) -> tuple[float, float]:
    """Return how many pairs of frames, in order, fit a page, and how much of it they fill, as shares."""
    sizes = [len(frame.body) for frame in pack_frames(raws, np.zeros(len(raws), np.uint32))[:-1]]
    pairs = [a + b for a, b in zip(sizes[::2], sizes[1::2], strict=False)]
    return mean(pair <= 2 * ROOM for pair in pairs), mean(pairs) / (2 * ROOM)


@pytest.mark.parametrize("labels", [2, 6, 13, 30])
def test_two_packed_frames_fill_a_page_whatever_the_events_are_like(labels: int) -> None:
    """What does not fit of a page would stay empty, and frames are most of the file."""
    fit, filled = filling(some_events(labels, 2500))
    assert fit > 0.95
    assert filled > 0.95


def test_events_of_different_clients_leave_no_half_of_a_page_empty() -> None:
    """Where requests that pack better and worse take turns, two frames of those that pack worse fit a page."""
    better, worse = some_events(30, 2000), some_events(2, 2000)
    fit, _ = filling([raw for at in range(0, 2000, 100) for some in (better, worse) for raw in some[at : at + 100]])
    assert fit > 0.8
