"""A process that commits until it is killed: `python -m tests.kill.child FOLDER SEED EVENTS`, begun by a line on stdin.

It says on stdout what it is about to send and what was acknowledged, each line in one write, so that whoever killed it
knows as much as its clients would.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tallystick.clock import system_clock
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.settings import Settings
from tests.faults.hurry import hurry
from tests.faults.workload import samples_of, work
from tests.spoken import SpokenRecord, say


async def commit_until_killed(folder: Path, seed: int, events: int) -> None:
    """Open the ledger and send everything; the end is reached only by a process that nobody killed in time."""
    ledger = await open_sqlite(folder, Settings(), system_clock)
    record = SpokenRecord()
    await work(ledger, samples_of(seed, events), record, lambda: 0, system_clock, seed)
    for surprise in record.surprises:
        say("surprise", surprise)
    await ledger.close()
    say("closed")


if __name__ == "__main__":
    hurry()
    sys.stdin.readline()
    asyncio.run(commit_until_killed(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
