"""Reports of the embedded ledger: what they hold while they add up, and when they give up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tallystick import rollup
from tallystick.errors import Code, Problem
from tallystick.ledger.sqlite import reading
from tallystick.rollup import Cells


def parts(count: int, keys: int, read: list[int]) -> Iterator[Cells]:
    """Yield parts of ten cells each, over so many keys in turn, and note which were read."""
    for part in range(count):
        read.append(part)
        key = np.arange(part * 10, part * 10 + 10, dtype=np.int64) % keys
        yield rollup.of_postings(key, np.full(10, part, np.int64), key)


@pytest.mark.parametrize("held", [0, 15, 1000])
def test_a_sum_in_steps_is_the_sum(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    """However few cells are held at a time."""
    monkeypatch.setattr(reading, "CELLS_HELD_MIN", held)
    summed = reading._merged(parts(30, 70, []), 70)
    whole = rollup.merge(list(parts(30, 70, [])))
    assert all((a == b).all() for a, b in zip(summed.columns, whole.columns, strict=True))


def test_a_report_is_given_up_as_soon_as_it_has_too_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would only make it larger is not read any more."""
    monkeypatch.setattr(reading, "CELLS_HELD_MIN", 20)
    read: list[int] = []
    with pytest.raises(Problem) as caught:
        reading._merged(parts(1000, 10_000, read), 50)
    assert caught.value.code is Code.ROWS_EXCEEDED
    assert len(read) < 20


def test_a_report_over_little_that_was_often_added_to_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are counted, not what they are the sum of."""
    monkeypatch.setattr(reading, "CELLS_HELD_MIN", 20)
    assert len(reading._merged(parts(1000, 10, []), 10)) == 10
    assert len(reading._merged(iter(()), 1)) == 0
