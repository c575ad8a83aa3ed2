"""The checks of this folder, each on a new ledger in a folder: what it returns is what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import apsw
import numpy as np
import pytest

from tallystick.errors import LedgerError
from tallystick.ledger.packed.heads import Fingerprints
from tallystick.ledger.sqlite import identity
from tests.faults.campaign import campaign, opened, recorded
from tests.faults.failing import play
from tests.faults.vfs import Call, Disk, Failure, Trap
from tests.faults.workload import Record, TickingClock, flaws, long_samples, samples_of, send, work

Check = Callable[[Path], Coroutine[None, None, list[str]]]
IMAGES = 40
SYNCS = (2, 4, 6)
COLLIDING_BITS = 0x8000_0000_0000_0003


async def power_cuts(folder: Path) -> list[str]:
    """Crash images of a stretch of work."""
    return await campaign(folder, IMAGES)


async def failed_syncs(folder: Path) -> list[str]:
    """A sync that fails once, early, later and later still."""
    calls = frozenset({Call.SYNC})
    traps = [Trap(Failure.EIO, at, calls=calls) for at in SYNCS]
    return [flaw for trap in traps for flaw in await play(folder / str(trap.at), "working", trap)]


async def restarts(folder: Path) -> list[str]:
    """Work, a restart, more work and another restart."""
    with Disk() as disk:
        run = await recorded(folder, disk, seed=3)
    async with opened(folder, run.clock) as ledger:
        return await flaws(ledger, run.record)


async def collisions(folder: Path) -> list[str]:
    """Work in which nearly all fingerprints are equal to many others."""
    fingerprints = identity.fingerprints

    def colliding(secret: int, accounts: Sequence[str], sources: Sequence[str], ids: Sequence[str]) -> Fingerprints:
        return fingerprints(secret, accounts, sources, ids) & np.uint64(COLLIDING_BITS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "fingerprints", colliding)
        return await restarts(folder)


async def rotten_end(folder: Path) -> list[str]:
    """A last entry of the log that is not what was written: it is refused or reported, and nothing is dropped."""
    record, clock = Record(), TickingClock()
    async with opened(folder, clock) as ledger:
        await work(ledger, samples_of(4, 40), record, lambda: 0, clock, seed=4)
    db = apsw.Connection(str(folder / "ledger.db"))
    last = "(SELECT max(entry) FROM log)"
    db.execute(f"UPDATE log SET header = CAST(header || x'00' AS BLOB) WHERE entry = {last}")
    db.close()
    try:
        async with opened(folder, clock) as ledger:
            faults = (await ledger.verify()).faults
            return [] if faults else ["the damaged end went unnoticed", *await flaws(ledger, record)]
    except LedgerError:
        return []


async def long_sums(folder: Path) -> list[str]:
    """Sums past what a double or 64 bits can hold."""
    record, clock, samples = Record(), TickingClock(), long_samples(60)
    async with opened(folder, clock) as ledger:
        for start in range(0, len(samples), 10):
            some = samples[start : start + 10]
            record.sending(some, 0)
            await send(ledger, [sample.raw for sample in some], clock)
            record.acking(some, 0)
        return await flaws(ledger, record)
