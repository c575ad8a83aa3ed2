"""Numbers that new series are expected to get: right if nothing comes between, and of no consequence if not."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger.packed.few import FEW
from tallystick.ledger.packed.series import Forecast, SeriesIndex, key_of
from tallystick.ledger.sqlite import commit, job
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.ledger.sqlite.writer import Lane, Task
from tallystick.model import LabelSet
from tests.ledger.build import Desk, asynchronous, audio, lines, usage
from tests.ledger.test_selecting import CATALOG, label_set

SETS = [label_set("acme", language=f"l{number:02}") for number in range(30)]


class Line:
    """Jobs on their way to the writer: each is forecast when it comes, and gets its numbers, or none, in the end."""

    def __init__(self) -> None:
        self.index, self.forecast = SeriesIndex(), Forecast()
        self.waiting: deque[tuple[list[LabelSet], list[int], list[bool]]] = deque()

    def comes(self, sets: list[LabelSet]) -> None:
        keys = [key_of(one, CATALOG.accounts) for one in sets]
        new = [(one, key) for one, key in zip(sets, keys, strict=True) if not self.index.find(key)]
        done: list[bool] = []
        expected = self.forecast.numbers(self.index, [key for _, key in new], lambda: bool(done)).tolist()
        self.waiting.append(([one for one, _ in new], expected, done))

    def is_written(self) -> bool:
        """Write the first; says whether it was forecast rightly."""
        sets, expected, done = self.waiting.popleft()
        numbers, _ = self.index.numbers(sets, CATALOG.accounts)
        done.append(True)
        return bool(numbers.tolist() == expected)

    def is_refused(self) -> None:
        self.waiting.popleft()[2].append(True)

    def another_comes_between(self, one: LabelSet) -> None:
        self.index.numbers([one], CATALOG.accounts)


JOBS = st.lists(st.lists(st.sampled_from(SETS), max_size=5), max_size=8)


@given(JOBS, st.lists(st.booleans(), max_size=8))
def test_numbers_are_forecast_rightly_if_nothing_comes_between(jobs: list[list[LabelSet]], writes: list[bool]) -> None:
    """However many jobs wait, and whichever label sets they have in common."""
    line = Line()
    for sets, is_next in zip(jobs, [*writes, *[False] * len(jobs)], strict=False):
        line.comes(sets)
        assert not is_next or line.is_written()
    while line.waiting:
        assert line.is_written()


@given(JOBS, st.lists(st.sampled_from(["written", "refused", "between"]), max_size=12), JOBS)
def test_a_forecast_that_was_wrong_is_right_again(
    before: list[list[LabelSet]], meanwhile: list[str], after: list[list[LabelSet]]
) -> None:
    """What was refused, or came between, is made up for as soon as nothing waits any more that did not know of it."""
    line = Line()
    for number, sets in enumerate(before):
        line.comes(sets)
        what = meanwhile[number] if number < len(meanwhile) else "written"
        if what == "between":
            line.another_comes_between(label_set("globex", language=str(number)))
        else:
            line.is_refused() if what == "refused" else line.is_written()
    while line.waiting:
        line.is_written()
    for sets in after:
        line.comes(sets)
    for _ in after:
        assert line.is_written()


@pytest.mark.parametrize("between", [False, True])
def test_what_was_packed_with_other_numbers_is_packed_again(tmp_path: Path, between: bool) -> None:
    """A single event with a label set of its own goes before bulk that was packed already: each counts as itself."""
    packed: list[int] = []

    def counting(jobs: Any) -> Any:
        packed.append(sum(len(each.rows) for each in jobs))
        return job.pack_postings(jobs)

    @asynchronous
    async def run() -> None:
        desk = Desk(tmp_path)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            await desk.send(ledger, audio("first", 1))
            gate, screened = threading.Event(), threading.Event()

            def hold(db: apsw.Connection) -> None:
                gate.wait(10)

            submit = ledger._writer.submit

            def submitted(works: Any, lane: Lane) -> None:
                submit(works, lane)
                if lane is Lane.BULK:
                    screened.set()

            ledger._writer.submit = submitted  # type: ignore[method-assign]  # to see when bulk is packed
            ledger._writer.submit([Task(hold)], Lane.URGENT)
            many = [audio(f"bulk{number}", 10, language=f"l{number % 7}") for number in range(2 * FEW)]
            bulk = asyncio.ensure_future(ledger.commit(desk.batch(ledger, *many), bulk=True))
            await asyncio.to_thread(screened.wait, 10)
            single = [audio("single", 100, language="own")] if between else []
            others = asyncio.ensure_future(desk.send(ledger, *single))
            await asyncio.sleep(0.02)
            gate.set()
            await asyncio.gather(bulk, others)
            table = await usage(ledger, group_by=("language",))
            told = {language: count for _, language, count, _ in lines(table)}
            kept = Counter([None, *(f"l{number % 7}" for number in range(2 * FEW)), *["own"] * between])
            assert told == kept
            assert (await ledger.verify()).faults == ()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "pack_postings", counting)
        run()
    assert packed.count(2 * FEW) == between
