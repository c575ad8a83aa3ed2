"""Crash campaigns: work on a disk that remembers, then each image of it opened and examined by the real ledger."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from tallystick.errors import LedgerError, Problem
from tallystick.ledger.base import Ledger
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.settings import Settings
from tests.faults.images import Image, crash_images, random_points
from tests.faults.vfs import Disk, honest
from tests.faults.workload import Record, TickingClock, flaws, resent, samples_of, work

IMAGES = int(os.environ.get("TALLYSTICK_TEST_IMAGES", "200"))
"""How many crash images a test run examines; a long campaign sets 2,000 or more."""
IMAGES_PER_RUN = 100
EVENTS_PER_RUN = 160
RESEND_EVERY = 5


@asynccontextmanager
async def opened(folder: Path, clock: TickingClock, disk: Disk | None = None) -> AsyncIterator[Ledger]:
    """Open the ledger in a folder, on a disk of ours or on the real one."""
    ledger = await open_sqlite(folder, Settings(), clock, vfs=disk.name if disk else None)
    try:
        yield ledger
    finally:
        await ledger.close()


@dataclass(frozen=True, slots=True)
class Run:
    """One stretch of work: what the disk saw of it and what the clients did."""

    disk: Disk
    record: Record
    clock: TickingClock


async def recorded(folder: Path, disk: Disk, seed: int, events: int = EVENTS_PER_RUN) -> Run:
    """Work on a new ledger, with a restart in the middle, closed at the end."""
    run = Run(disk, Record(), TickingClock())
    samples = samples_of(seed, events)
    for half in (samples[: events // 2], samples[events // 2 :]):
        async with opened(folder, run.clock, disk) as ledger:
            await work(ledger, half, run.record, lambda: disk.point, run.clock, seed)
    return run


async def examined(image: Image, run: Run, folder: Path, *, send_again: bool) -> list[str]:
    """Open an image as a restart after the crash would, and say what is wrong with it."""
    image.write(folder)
    try:
        async with opened(folder, run.clock) as ledger:
            found = await flaws(ledger, run.record, image.point)
            return found + (await resent(ledger, run.record, run.clock) if send_again else [])
    except (LedgerError, Problem, apsw.Error) as error:
        return [f"it cannot be used: {error!r}"]


async def campaign(folder: Path, images: int, first_seed: int = 1, lies: Callable[[str], bool] = honest) -> list[str]:
    """Examine this many crash images of as many runs as they need; return every flaw found."""
    found: list[str] = []
    for seed in itertools.count(first_seed):
        if images <= 0:
            return found
        with Disk(lies) as disk:
            run = await recorded(folder / f"live{seed}", disk, seed)
            points = random_points(disk.log, min(images, IMAGES_PER_RUN), seed)
            found += await _flaws_of(crash_images(disk.log, points, seed), run, folder / "image")
        images -= IMAGES_PER_RUN
    raise AssertionError("unreachable")


async def _flaws_of(images: Iterable[Image], run: Run, folder: Path) -> list[str]:
    found: list[str] = []
    for number, image in enumerate(images):
        found += await examined(image, run, folder, send_again=number % RESEND_EVERY == 0)
        shutil.rmtree(folder)
    return found


def flaws_of_campaign(
    folder: Path, images: int, first_seed: int = 1, lies: Callable[[str], bool] = honest
) -> list[str]:
    """Run a campaign to its end, outside any event loop."""
    return asyncio.run(campaign(folder, images, first_seed, lies))
