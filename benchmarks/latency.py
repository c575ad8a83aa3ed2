"""(i) How long a single event waits for its commit beside bulk that never stops and a thread that never waits."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import embedded, meters, traffic
from tallystick.ledger.base import Ledger
from tallystick.model import Meter

SINGLES = {False: traffic.Traffic(seed=77), True: traffic.Traffic(seed=77, rich=True)}
"""Usual ones, and such as have 13 labels."""
SETTLE_S = 1.0
"""How long the bulk runs before the probe begins: the first commits make accounts and series."""


def singles(count: int, rich: bool = False) -> Iterator[bytes]:
    """Return bodies of one event each that no other traffic contains."""
    return traffic.bodies(traffic.events(SINGLES[rich], count), 1)


@dataclass(frozen=True, slots=True)
class Single:
    """One event's way to its verdict: from when, by the performance counter, and for how long."""

    begun: float
    seconds: float

    @property
    def ended(self) -> float:
        """When the verdict came."""
        return self.begun + self.seconds


async def probe(ledger: Ledger, bodies: Iterator[bytes], every_s: float, stop: asyncio.Event) -> list[Single]:
    """Send single events at a steady pace until told to stop."""
    singles: list[Single] = []
    for body in bodies:
        if stop.is_set():
            break
        begun = time.perf_counter()
        await embedded.send(ledger, body)
        singles.append(Single(begun, time.perf_counter() - begun))
        await asyncio.sleep(every_s)
    return singles


async def repeat(ledger: Ledger, bodies: Iterator[bytes], stop: asyncio.Event) -> None:
    """Send bulk until told to stop; when it runs out, the probe is over too."""
    for body in bodies:
        if stop.is_set():
            return
        await embedded.send(ledger, body)
    stop.set()


async def beside(
    folder: Path, bulk: Iterator[bytes], single: Iterator[bytes], every_s: float, own: Sequence[Meter]
) -> list[float]:
    """Probe while two bulk batches are always under way."""
    stop = asyncio.Event()
    async with embedded.opened(folder, own) as ledger:
        work = [asyncio.create_task(repeat(ledger, bulk, stop)) for _ in range(2)]
        await asyncio.sleep(SETTLE_S)
        probed = await probe(ledger, single, every_s, stop)
        stop.set()
        await asyncio.gather(*work)
    return [single.seconds for single in probed]


def spin(stop: threading.Event) -> None:
    """Keep the interpreter busy, as a worker that computes in Python would."""
    number = 0
    while not stop.is_set():
        number += 1


def beside_bulk(path: Path, count: int, every_s: float, rich: bool = False) -> list[float]:
    """Return the latencies of up to `count` single events, in seconds."""
    single = iter(list(singles(count, rich)))
    own = meters.RICH if rich else ()
    stop = threading.Event()
    busy = threading.Thread(target=spin, args=(stop,))
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder:
        busy.start()
        try:
            return asyncio.run(beside(Path(folder) / "data", traffic.read(path), single, every_s, own))
        finally:
            stop.set()
            busy.join()
