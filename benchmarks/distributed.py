"""(p) The ledger in PostgreSQL: bodies through `ingest.accept` until they are durable, one process, (q) or two."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg

from benchmarks import embedded, traffic
from tallystick.cli import runtime
from tallystick.clock import system_clock
from tallystick.ledger.open import open_ledger

WAIT_S = 3.0
"""How long processes have for getting ready before they begin together."""
SETTINGS = replace(embedded.SETTINGS, label_sets_max=1_000_000)


def prepare(url: str) -> None:
    """Make an empty database of an older run's, with the ledger's tables."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DROP SCHEMA public CASCADE")
        db.execute("CREATE SCHEMA public")
    asyncio.run(_opened(url, (), 1, 0.0))
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CHECKPOINT")


async def _opened(url: str, bodies: Sequence[bytes], in_flight: int, begin: float) -> tuple[int, float, float]:
    runtime.settle()
    ledger = await open_ledger(url, SETTINGS, system_clock)
    try:
        await asyncio.sleep(max(0.0, begin - time.time()))
        started = time.time()
        count = await embedded.drain(ledger, iter(bodies), in_flight)
        return count, started, time.time()
    finally:
        await ledger.close()


def share(url: str, path: Path, in_flight: int, begin: float, at: int, of: int) -> tuple[int, float, float]:
    """Send every `of`-th body from `at` on; returns how many events were accepted, and from when to when."""
    return asyncio.run(_opened(url, list(traffic.read(path))[at::of], in_flight, begin))


def events_per_s(path: Path, url: str, in_flight: int, processes: int = 1) -> float:
    """Send a file of bodies, read beforehand, by so many processes at once into a ledger of their own."""
    prepare(url)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        begin = time.time() + WAIT_S
        work = [pool.submit(share, url, path, in_flight, begin, at, processes) for at in range(processes)]
        done = [each.result() for each in work]
    counts, starts, ends = zip(*done, strict=True)
    return float(sum(counts) / (max(ends) - min(starts)))
