"""kill -9 while clients hold and settle: what was admitted is still held, and never was there more than there is."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tallystick.clock import system_clock
from tallystick.holding import Outcome
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.model import HoldState, LimitQuery
from tallystick.query import limit_plan, standings
from tallystick.settings import Settings
from tests.faults.hurry import hurry
from tests.kill.hold_child import CAPACITY, begun, reserve, settle

ROUNDS = max(3, int(os.environ.get("TALLYSTICK_TEST_KILLS", "12")) // 3)
WORDS = (20, 60, 150, 300)
"""After how many words a child is killed."""


@dataclass
class Heard:
    """What a child said: what it asked for, and what it was told for certain."""

    reserving: set[str] = field(default_factory=set)
    created: set[str] = field(default_factory=set)
    settling: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)

    def hear(self, lines: list[str]) -> None:
        for line in lines:
            word, _, id = line.partition(" ")
            if hasattr(self, word):
                getattr(self, word).add(id)


def lived(folder: Path, number: int, words: int) -> list[str]:
    """Let a child work until it has said so much, kill it, and return all that it said."""
    command = [sys.executable, "-m", "tests.kill.hold_child", str(folder), str(number)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"go\n")
        child.stdin.flush()
        said = b"".join(child.stdout.readline() for _ in range(words))
        child.kill()
        said += child.stdout.read()
    return said.decode().splitlines()


async def examined(folder: Path, heard: Heard, *, to_the_end: bool) -> None:
    """Open what a child left and compare it with what it was told; at the end, use up what is left."""
    ledger = await open_sqlite(folder, Settings(), system_clock)
    try:
        await begun(ledger)
        states = {}
        for id in heard.reserving:
            hold = await ledger.hold("acme", id)
            states[id] = None if hold is None else hold.state_at(ledger.now)
        assert {id for id in heard.created if states[id] is None} == set(), "a hold was lost"
        assert {id for id in heard.settled if states[id] is not HoldState.SETTLED} == set(), "a settlement was lost"
        assert {id for id, state in states.items() if state is HoldState.SETTLED} <= heard.settling
        (row,) = await standings(ledger, limit_plan(ledger.catalog, LimitQuery("acme", ledger.now)))
        kept = list(states.values())
        assert row.standing.used == kept.count(HoldState.SETTLED)
        assert row.standing.held == kept.count(HoldState.OPEN)
        assert row.standing.taken <= CAPACITY
        # Whoever got no answer asks again, and is told what was done.
        for id in heard.created - heard.settling:
            assert await reserve(ledger, id) is Outcome.DUPLICATE
        for id in heard.settling - heard.settled:
            assert await settle(ledger, id) in (Outcome.DONE, Outcome.DUPLICATE)
        if to_the_end:
            left = CAPACITY - row.standing.taken
            for number in range(left):
                assert await reserve(ledger, f"end-{number}") is Outcome.CREATED
            assert await reserve(ledger, "beyond") is Outcome.REFUSED
        heard.settled |= heard.settling
        assert not (await ledger.verify()).faults
    finally:
        await ledger.close()


@pytest.mark.slow
def test_holds_survive_a_kill_and_never_overshoot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each SIGKILL every acknowledged hold and settlement is there; in the end capacity is used up exactly."""
    hurry(monkeypatch.setattr)
    rng, heard = random.Random(7), Heard()
    for number in range(ROUNDS):
        heard.hear(lived(tmp_path / "data", number, rng.choice(WORDS)))
        asyncio.run(examined(tmp_path / "data", heard, to_the_end=number == ROUNDS - 1))
    assert len(heard.created) > 20, "the children were killed before they had done much"
