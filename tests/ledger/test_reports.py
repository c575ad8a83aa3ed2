"""Reports of the embedded ledger: what they hold while they add up, and when they give up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tallystick import rollup
from tallystick.errors import Code, Problem
from tallystick.ledger.packed import answering, segment
from tallystick.ledger.sqlite import reading
from tallystick.rollup import Cells
from tests.ledger.build import Desk, asynchronous, audio, total, usage


def parts(count: int, keys: int, read: list[int]) -> Iterator[Cells]:
    """Yield parts of ten cells each, over so many keys in turn, and note which were read."""
    for part in range(count):
        read.append(part)
        key = np.arange(part * 10, part * 10 + 10, dtype=np.int64) % keys
        yield rollup.of_postings(key, np.full(10, part, np.int64), key)


@pytest.mark.parametrize("held", [0, 15, 1000])
def test_a_sum_in_steps_is_the_sum(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    """However few cells are held at a time."""
    monkeypatch.setattr(answering, "CELLS_HELD_MIN", held)
    summed = answering.merged(parts(30, 70, []), 70)
    whole = rollup.merge(list(parts(30, 70, [])))
    assert all((a == b).all() for a, b in zip(summed.columns, whole.columns, strict=True))


def test_a_report_is_given_up_as_soon_as_it_has_too_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would only make it larger is not read any more."""
    monkeypatch.setattr(answering, "CELLS_HELD_MIN", 20)
    read: list[int] = []
    with pytest.raises(Problem) as caught:
        answering.merged(parts(1000, 10_000, read), 50)
    assert caught.value.code is Code.ROWS_EXCEEDED
    assert len(read) < 20


def test_a_report_over_little_that_was_often_added_to_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are counted, not what they are the sum of."""
    monkeypatch.setattr(answering, "CELLS_HELD_MIN", 20)
    assert len(answering.merged(parts(1000, 10, []), 10)) == 10
    assert len(answering.merged(iter(()), 1)) == 0


@asynchronous
async def test_what_an_edge_does_not_cut_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report off the quarter hour reads events where its edges are; how long it is between them costs nothing."""
    opened: list[bytes] = []

    def counting(body: bytes) -> segment.Columns:
        opened.append(body)
        return segment.unpack_columns(body)

    monkeypatch.setattr(reading, "unpack_columns", counting)
    desk = Desk(tmp_path / "ledger")
    async with desk.open(verify_bytes_per_s=0) as ledger:
        for day in range(1, 29):
            await desk.send(ledger, audio(str(day), day, at=f"2024-02-{day:02}T00:10:00Z"))
        table = await usage(ledger, "2024-02-02T00:07:00Z", "2024-02-10T00:10:00.000001Z", "2024-02-20T00:10:00Z")
        assert [row.total.sum for row in table.rows] == [sum(range(2, 11)) * 10**6, sum(range(11, 20)) * 10**6]
        assert len(opened) == 3
        assert (await total(ledger, "2024-01-01T00:07:00Z", "2024-03-01T00:07:00Z")).sum == sum(range(1, 29)) * 10**6
        assert len(opened) == 3
