"""kill -9 in the middle of commits, again and again on one folder: acknowledged events are there, once, and add up."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.clock import system_clock
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.settings import Settings
from tests.faults.hurry import hurry
from tests.faults.workload import Record, counted, flaws, resent, samples_of
from tests.spoken import hear

ROUNDS = int(os.environ.get("TALLYSTICK_TEST_KILLS", "8"))
ROUNDS_MAX = 4 * ROUNDS
"""On a machine that is busy otherwise, children get less done before they are killed; then there are more of them."""
ACKED_MIN = 100
EVENTS = 400
LIFETIMES_S = (0.0, 0.02, 0.1, 0.2, 0.3, 0.4)
"""How long a child may live after its first words: its opening, its first commits and the thick of it are all hit."""


def spawn(folder: Path, seed: int) -> subprocess.Popen[bytes]:
    """Start a child that has imported everything and waits for its line."""
    command = [sys.executable, "-m", "tests.kill.child", str(folder), str(seed), str(EVENTS)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)


def let_live(child: subprocess.Popen[bytes], lifetime_s: float) -> list[str]:
    """Let a child run for a while, kill it, and return what it said."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(b"go\n")
    child.stdin.flush()
    first = child.stdout.readline() if lifetime_s else b""
    time.sleep(lifetime_s)
    child.kill()
    said = first + child.stdout.read()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    return said.decode().splitlines()


async def examined(folder: Path, record: Record, *, send_again: bool) -> list[str]:
    """Open what a child left behind and say what is wrong with it."""
    ledger = await open_sqlite(folder, Settings(), system_clock)
    try:
        found = await flaws(ledger, record)
        return found + (await resent(ledger, record, system_clock) if send_again else [])
    finally:
        await ledger.close()


def rounds(folder: Path, seed: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Yield children one after the other, the next being made ready while one runs."""
    spare = spawn(folder, seed)
    try:
        for number in range(ROUNDS_MAX):
            child, spare = spare, spawn(folder, seed + number + 1)
            yield child, seed + number
    finally:
        spare.kill()
        spare.communicate()


@pytest.mark.slow
def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each SIGKILL every acked event is there exactly once, sums are those of the events, and verify agrees."""
    hurry(monkeypatch.setattr)
    rng, record = random.Random(1), Record()
    for number, (child, seed) in enumerate(rounds(tmp_path / "data", seed=100)):
        if number >= ROUNDS and len(record.acked) > ACKED_MIN:
            child.kill()
            child.communicate()
            break
        samples = {sample.id: sample for sample in samples_of(seed, EVENTS)}
        hear(let_live(child, rng.choice(LIFETIMES_S)), samples, record)
        found = asyncio.run(examined(tmp_path / "data", record, send_again=rng.random() < 0.4))
        assert not found, f"seed {seed}\n{counted(found)}"
    assert len(record.acked) > ACKED_MIN, "the children were killed before they had acknowledged much"
