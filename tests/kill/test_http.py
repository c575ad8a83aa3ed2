"""kill -9 of a real server under concurrent clients who send again what was not acknowledged."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from tallystick.clock import system_clock
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.settings import Settings
from tests.faults.workload import Record, counted, flaws, samples_of
from tests.kill.haunted import haunted, send_all

KILLS = int(os.environ.get("TALLYSTICK_TEST_KILLS", "5"))
EVENTS_PER_KILL = 1500
CLIENTS = 4


async def examined(folder: Path, record: Record) -> list[str]:
    """Open the folder of a server that has ended and say what is wrong with it."""
    ledger = await open_sqlite(folder, Settings(), system_clock)
    try:
        return await flaws(ledger, record)
    finally:
        await ledger.close()


@pytest.mark.slow
def test_a_killed_server_keeps_what_it_acknowledged_and_counts_retries_once(tmp_path: Path) -> None:
    """No client sends again what was acknowledged, so what is missing at the end was lost; sums and proof agree."""
    rng, record, lock = random.Random(5), Record(), threading.Lock()
    samples = samples_of(500, EVENTS_PER_KILL * KILLS)
    cuts = [0]
    while cuts[-1] < len(samples):
        cuts.append(min(cuts[-1] + rng.randint(1, 60), len(samples)))
    batches = [samples[a:b] for a, b in pairwise(cuts)]
    record.sending(samples, 0)

    def acked(number: int) -> None:
        with lock:
            record.acking(batches[number], 0)

    with haunted(tmp_path / "data") as house:
        raws = [[sample.raw for sample in batch] for batch in batches]
        send_all(house, raws, clients=CLIENTS, kills=KILLS, seed=5, acked=acked)
        assert house.interruptions == KILLS
    assert len(record.acked) == len(samples)
    found = asyncio.run(examined(tmp_path / "data", record))
    assert not found, counted(found)
