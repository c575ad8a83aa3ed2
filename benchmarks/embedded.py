"""(b) The embedded ledger in one process: bodies through `ingest.accept` until they are durable."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import traffic
from tallystick.cli import runtime
from tallystick.clock import system_clock
from tallystick.ingest.accept import accept
from tallystick.ledger.base import Ledger
from tallystick.ledger.open import open_ledger
from tallystick.model import Caller, Meter, Scope
from tallystick.settings import Settings

OPERATOR = Caller("benchmark", None, frozenset(Scope))
SETTINGS = Settings()


@asynccontextmanager
async def opened(folder: Path, meters: Sequence[Meter] = ()) -> AsyncIterator[Ledger]:
    """Open the ledger of a folder, with own meters beside the built-in ones, and close it again."""
    runtime.settle()
    ledger = await open_ledger(folder, SETTINGS, system_clock)
    try:
        for meter in meters:
            await ledger.put_meter(meter, actor="benchmark")
        yield ledger
    finally:
        await ledger.close()


async def send(ledger: Ledger, body: bytes) -> int:
    """Take one body in; every event has to be new, or the number measured would mean nothing."""
    intake = await accept(
        body,
        content_type=traffic.CONTENT_TYPE,
        headers={},
        caller=OPERATOR,
        ledger=ledger,
        settings=SETTINGS,
        now=system_clock(),
    )
    if intake.duplicate or intake.conflict or intake.rejected:
        raise RuntimeError(f"Not every event was accepted: {intake.receipts(False)[:3]}")
    return intake.accepted


async def drain(ledger: Ledger, bodies: Iterator[bytes], in_flight: int) -> int:
    """Send every body, `in_flight` of them at a time, and return how many events were accepted."""

    async def worker() -> int:
        return sum([await send(ledger, body) for body in bodies])

    return sum(await asyncio.gather(*(worker() for _ in range(in_flight))))


async def timed(folder: Path, bodies: Iterable[bytes], in_flight: int, meters: Sequence[Meter]) -> float:
    """Return the rate at which a fresh ledger takes the bodies."""
    async with opened(folder, meters) as ledger:
        started = time.perf_counter()
        count = await drain(ledger, iter(bodies), in_flight)
        return count / (time.perf_counter() - started)


def events_per_s(path: Path, in_flight: int, meters: Sequence[Meter] = ()) -> float:
    """Send a file of bodies, read beforehand, into a ledger of its own."""
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder:
        return asyncio.run(timed(Path(folder) / "data", list(traffic.read(path)), in_flight, meters))
