"""Any I/O call may fail, once or from then on: nothing is acknowledged that is not kept, and no number is wrong."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.campaign import opened
from tests.faults.failing import EVENTS
from tests.faults.hurry import hurry
from tests.faults.vfs import Failure
from tests.faults.workload import Record, TickingClock, binary_samples, counted, flaws
from tests.spoken import hear

FAILURES = int(os.environ.get("TALLYSTICK_TEST_FAILURES", "2"))
"""How many calls of each kind are made to fail; a long campaign sets thousands and so tries them all."""
NEVER = 10**9
DIED = 70
SAMPLES = {sample.id: sample for sample in binary_samples(EVENTS)}


@dataclass(slots=True)
class Heard:
    """What a process said of one failing call; `ended` is how it died of it, if it did."""

    number: int
    said: list[str] = field(default_factory=list)
    ended: int | None = None

    def values(self, word: str) -> list[str]:
        return [line.removeprefix(word + " ") for line in self.said if line.startswith(word + " ")]

    @property
    def sprung(self) -> bool:
        return self.values("sprung") != ["0"]

    @property
    def calls(self) -> int:
        return int(self.values("calls")[0])


def played(folder: Path, stage: str, failure: Failure, forever: bool, numbers: Sequence[int]) -> Iterator[Heard]:
    """Play every number, in a new process after each that died."""
    left = list(numbers)
    while left:
        heard = _listen(folder, [stage, failure, "forever" if forever else "once", ",".join(map(str, left))])
        yield from heard
        left = left[len(heard) :]


def _listen(folder: Path, arguments: Sequence[str]) -> list[Heard]:
    command = [sys.executable, "-m", "tests.faults.failing", str(folder), *arguments]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600)
    heard: list[Heard] = []
    for line in ended.stdout.splitlines():
        if line.startswith("trap "):
            heard.append(Heard(int(line.split()[1])))
        heard[-1].said.append(line)
    assert heard, ended.stderr
    if heard[-1].said[-1] != "done":
        assert ended.returncode == DIED, ended.stderr
        heard[-1].ended = ended.returncode
    return heard


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read with the bounds that the failing process wrote with."""
    hurry(monkeypatch.setattr)


@functools.cache
def calls_in(folder: Path, stage: str, failure: Failure) -> int:
    """Count the calls that can fail so, by playing the scene to its end undisturbed."""
    (heard,) = played(folder / "undisturbed", stage, failure, False, [NEVER])
    assert heard.values("flaw") == []
    return heard.calls


async def left_behind(folder: Path, heard: Heard) -> list[str]:
    """Examine the folder of a process that ended itself."""
    record = Record()
    hear(heard.said, SAMPLES, record)
    async with opened(folder / str(heard.number), TickingClock()) as ledger:
        return await flaws(ledger, record)


@pytest.mark.slow
@pytest.mark.parametrize("forever", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize("stage", ["working", "opening"])
def test_a_failing_call_costs_no_event_and_makes_no_number_wrong(
    tmp_path: Path, stage: str, failure: Failure, forever: bool
) -> None:
    """Whichever call fails, acked events are there, also after a restart or power cut; refused ones are taken later."""
    calls = calls_in(tmp_path, stage, failure)
    numbers = sorted(random.Random(1).sample(range(1, calls + 1), min(calls, FAILURES)))
    heard = list(played(tmp_path, stage, failure, forever, numbers))
    found = [f"call {one.number}: {flaw}" for one in heard for flaw in one.values("flaw")]
    for one in heard:
        if one.ended is not None:
            found += [f"call {one.number}, died: {flaw}" for flaw in asyncio.run(left_behind(tmp_path, one))]
    assert not found, counted(found)
    assert sum(one.sprung for one in heard) >= len(heard) // 2
