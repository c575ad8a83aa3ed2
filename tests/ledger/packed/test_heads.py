"""Upper halves of fingerprints that are kept in two bytes each: found if they are there, and only then."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger.packed.heads import Heads

LEAST, MOST = 0, 2**32 - 1
UPPER = (
    st.integers(LEAST, MOST)
    | st.builds(lambda first, second: first << 16 | second, st.integers(0, 3), st.integers(0, 2))
    | st.builds(lambda first, second: first << 16 | second, st.integers(65_533, 65_535), st.integers(65_534, 65_535))
)
MANY = st.lists(UPPER, max_size=40)


def fingerprints(upper: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return fingerprints with these upper halves, in order, and some lower ones."""
    return np.array([(one << 32) + one % 7 for one in sorted(upper)], np.uint64)


def heads_of(parts: Sequence[Sequence[int]]) -> Heads:
    """Add all at their places, in as many pieces as there are parts."""
    together = fingerprints([one for part in parts for one in part])
    heads = Heads(len(together))
    ends = np.cumsum([0, *map(len, parts)]).tolist()
    for begin, end in itertools.pairwise(ends):
        heads.add(together[begin:end])
    return heads


@given(st.lists(MANY, max_size=4), MANY)
def test_what_is_there_is_found(parts: list[list[int]], wanted: list[int]) -> None:
    """A head that is missed would let an event be counted twice; one too many would cost a read."""
    kept = {one for part in parts for one in part}
    if not kept:
        return
    heads = heads_of(parts)
    asked = [*wanted, *list(kept)[:5], *(one ^ 1 for one in list(kept)[:5])]
    rows = heads.present(fingerprints(asked)).tolist()
    assert rows == [row for row, one in enumerate(sorted(asked)) if one in kept]
    for one in asked:
        assert heads.has_one(fingerprints([one]).tolist()) == (one in kept)
    assert heads.has_one(fingerprints(asked).tolist()) == bool(kept & set(asked))


def test_many_of_one_beginning() -> None:
    """Real fingerprints spread; these do not, and nothing depends on it."""
    upper = [7 << 16 | second for second in range(0, 65_536, 3)]
    heads = heads_of([upper])
    asked = [7 << 16 | second for second in range(2_000)]
    assert heads.present(fingerprints(asked)).tolist() == list(range(0, 2_000, 3))


def test_takes_no_more_than_there_is_room_for() -> None:
    """A run that has more entries than it says is damaged."""
    heads = Heads(2)
    heads.add(fingerprints([1, 2]))
    with pytest.raises(ValueError, match="room for 2"):
        heads.add(fingerprints([3]))
