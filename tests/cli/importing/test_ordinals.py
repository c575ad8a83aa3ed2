"""Equal lines are counted exactly, in memory and on disk."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.cli.importing import ordinals
from tallystick.cli.importing.ordinals import Ordinals


@pytest.mark.parametrize("keys_in_memory", [0, 1 << 19])
@given(batches=st.lists(st.lists(st.integers(0, 12) | st.just(2**64 - 1), min_size=1, max_size=30), max_size=30))
def test_each_key_gets_the_number_that_counting_gives(keys_in_memory: int, batches: list[list[int]]) -> None:
    """Over many batches, whatever was merged and written meanwhile."""
    counted, seen = Ordinals(keys_in_memory), Counter[int]()
    for batch in batches:
        expected = []
        for key in batch:
            seen[key] += 1
            expected.append(seen[key])
        assert counted.number(np.array(batch, np.uint64)).tolist() == expected


def test_runs_on_disk_are_merged_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly spread keys, a few at a time: a second look at all of them finds each."""
    monkeypatch.setattr(ordinals, "MERGED_KEYS", 50)
    keys = np.random.default_rng(5).integers(0, 2**64, 2000, np.uint64, endpoint=False)
    counted = Ordinals(keys_in_memory=100)
    for start in range(0, 2000, 40):
        assert set(counted.number(keys[start : start + 40]).tolist()) == {1}
    assert set(counted.number(keys).tolist()) == {2}
