"""Holds on a disk that remembers its operations: what was acknowledged of them is in every crash image."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import apsw

from tallystick.admission import Asked, hold_of
from tallystick.errors import LedgerError, Problem
from tallystick.ledger.base import Ledger
from tallystick.model import Account, HoldMode
from tests.faults.campaign import opened
from tests.faults.images import crash_images, random_points
from tests.faults.vfs import Disk
from tests.faults.workload import PAUSE_S, TickingClock
from tests.ledger.build import batch_of
from tests.ledger.define import meter, put, work

IMAGES = 24
CLIENTS = 4
TURNS = 12
HOUR = 3_600_000_000
ACCOUNT = "acme"


@dataclass(slots=True)
class Told:
    """What was asked for and what was acknowledged, each with the point of the disk's log at which it was."""

    asked: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)


async def held(folder: Path) -> list[str]:
    """Crash images of a stretch of holds and settlements, with a restart in it."""
    told, clock = Told(), TickingClock()
    with Disk() as disk:
        for stretch in range(2):
            async with opened(folder / "live", clock, disk) as ledger:
                await ledger.put_account(Account(ACCOUNT, 0), actor="test")
                await put(ledger, meter())
                clients = (_client(ledger, clock, told, lambda: disk.point, f"{stretch}-{n}") for n in range(CLIENTS))
                await asyncio.gather(*clients)
        found = []
        for image in crash_images(disk.log, random_points(disk.log, IMAGES, seed=1), seed=1):
            image.write(folder / "image")
            found += await _flaws(folder / "image", clock, told, image.point)
            shutil.rmtree(folder / "image")
    return found


async def _client(ledger: Ledger, clock: TickingClock, told: Told, point: Callable[[], int], name: str) -> None:
    for turn in range(TURNS):
        id = f"{turn % 3}-{name}-{turn}"
        told.asked[id] = point()
        asked = Asked(ACCOUNT, id, "work", {}, Decimal(1), 1, HOUR, HoldMode.NORMAL)
        hold = hold_of(asked, ledger.catalog, ledger.now, text_length_max=256)
        await ledger.reserve(hold, catalog_version=ledger.catalog.version)
        told.held[id] = point()
        await asyncio.sleep(PAUSE_S)
        if turn % 3:
            await ledger.settle(ACCOUNT, id, batch_of([work(id)], catalog=ledger.catalog, now=clock()))
            told.settled[id] = point()


async def _flaws(folder: Path, clock: TickingClock, told: Told, point: int) -> list[str]:
    """Say what is wrong in a ledger after a crash at a point."""
    try:
        async with opened(folder, clock) as ledger:
            there = {id: await ledger.hold(ACCOUNT, id) for id in told.asked}
            faults = (await ledger.verify()).faults
    except (LedgerError, Problem, apsw.Error) as error:
        return [f"it cannot be used: {error!r}"]
    ended = {id for id, hold in there.items() if hold is not None and hold.settlement is not None}
    lost = {id for id, at in told.held.items() if at <= point and there[id] is None}
    open_again = {id for id, at in told.settled.items() if at <= point and id not in ended}
    ghosts = {id for id, at in told.asked.items() if at > point and there[id] is not None}
    found = [f"{fault.where}: {fault.detail}" for fault in faults]
    for what, some in (("are lost", lost), ("are open again", open_again), ("are there that nobody asked for", ghosts)):
        if some:
            found.append(f"acknowledged holds {what}: {sorted(some)}")
    return found
