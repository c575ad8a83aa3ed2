"""(e)–(h) What size does: flatness, memory, disk and reports while a ledger grows; start-up and old ids afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import apsw

from benchmarks import embedded, latency, meters, traffic
from tallystick import query
from tallystick.clock import system_clock
from tallystick.dialects import native
from tallystick.ingest.accept import accept
from tallystick.ledger.base import Ledger
from tallystick.ledger.sqlite.keeper import Keeper

REPEATS = 30
PROBE_EVERY_S = 0.1
PROBES_MAX = 20_000
GROUP_BY = "mode,language,operating_point,billing"


@dataclass(frozen=True, slots=True)
class Growth:
    """How the ledger took its events: seconds per tenth, single commits beside them, what it cost, report latencies.

    Of the single commits, `merging_s` are those that met a merge of identities, `singles_s` the others.
    """

    tenths_s: Sequence[float]
    singles_s: Sequence[float]
    merging_s: Sequence[float]
    memory_bytes: int
    disk_bytes: int
    reports_s: dict[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Return:
    """What a restart costs, what events that were kept long ago cost, and what those cost others.

    `singles_s` are of the single commits beside them, if there were any.
    """

    start_s: float
    resend_s: float
    singles_s: Sequence[float]


def memory() -> int:
    """Return the bytes of private memory of this process (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def disk(folder: Path) -> int:
    """Return the bytes that a folder's files take."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


class Tenths:
    """Bodies to send, with the time at which each further tenth of them was asked for."""

    def __init__(self, bodies: Iterator[bytes], count: int) -> None:
        self.bodies, self.count, self.taken = bodies, count, 0
        self.marks: list[float] = []

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if len(self.marks) < 10 and self.taken * 10 >= len(self.marks) * self.count:
            self.marks.append(time.perf_counter())
        body = next(self.bodies)
        self.taken += 1
        return body

    def durations(self) -> list[float]:
        """Return how long each tenth took."""
        return [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]


async def report(ledger: Ledger, account: str) -> tuple[float, int]:
    """Ask natively for 31 days of one account by every label; return how long the answer took and its size."""
    first, last = traffic.START - 30 * traffic.DAY, traffic.START + traffic.DAY
    asked = {"meter": "audio", "from": instant(first), "to": instant(last), "window": "total", "group_by": GROUP_BY}
    request = query.Request(now=system_clock(), catalog=ledger.catalog, accounts=(account,), query=tuple(asked.items()))
    started = time.perf_counter()
    usage = native.parse(request)
    tables = await query.run(ledger, [usage])
    reply = native.render(request, usage, tables[0])
    return time.perf_counter() - started, len(reply.body)


def instant(micros: int) -> str:
    """Return an instant of a whole second as the query writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(micros // traffic.SECOND))


async def reports(ledger: Ledger) -> dict[str, Sequence[float]]:
    """Return how long the report of each wide account takes, several times over."""
    return {
        wide.account: [(await report(ledger, wide.account))[0] for _ in range(REPEATS)] for wide in traffic.LONG.wide
    }


@contextmanager
def merges() -> Iterator[list[tuple[float, float]]]:
    """Note from when to when identities are merged, by the performance counter."""
    times: list[tuple[float, float]] = []
    merge = Keeper.merge_identities

    def noted(self: Keeper, db: apsw.Connection) -> None:
        begun = time.perf_counter()
        merge(self, db)
        times.append((begun, time.perf_counter()))

    with patch.object(Keeper, "merge_identities", noted):
        yield times


async def growing(folder: Path, bodies: Tenths, in_flight: int, rich: bool) -> Growth:
    """Fill a ledger while single events are probed; then ask for reports."""
    stop = asyncio.Event()
    # Made before memory is looked at: some 10 MB that are not the ledger's.
    probes = list(latency.singles(PROBES_MAX, rich))
    with merges() as merged:
        async with embedded.opened(folder, meters.RICH if rich else ()) as ledger:
            before = memory()
            prober = asyncio.create_task(latency.probe(ledger, iter(probes), PROBE_EVERY_S, stop))
            await embedded.drain(ledger, bodies, in_flight)
            bodies.marks.append(time.perf_counter())
            grown = memory() - before
            stop.set()
            singles = await prober
            answers = await reports(ledger)
    merging = [any(begun < single.ended and single.begun < ended for begun, ended in merged) for single in singles]
    of_kind = {
        met: [single.seconds for single, at in zip(singles, merging, strict=True) if at is met] for met in (False, True)
    }
    return Growth(bodies.durations(), of_kind[False], of_kind[True], grown, disk(folder), answers)


def grow(path: Path, folder: Path, count: int, in_flight: int, rich: bool = False) -> Growth:
    """Send a file of `count` bodies, read as it goes, into a ledger that stays."""
    return asyncio.run(growing(folder, Tenths(traffic.read(path), count), in_flight, rich))


async def returning(folder: Path, old: Sequence[bytes], beside: bool) -> Return:
    """Open a ledger of some size, ask it one question, then send it events that it already has."""
    began = time.perf_counter()
    stop = asyncio.Event()
    async with embedded.opened(folder) as ledger:
        await report(ledger, traffic.LONG.wide[0].account)
        start_s = time.perf_counter() - began
        fresh = traffic.bodies(traffic.events(traffic.Traffic(seed=78), PROBES_MAX if beside else 0), 1)
        prober = asyncio.create_task(latency.probe(ledger, fresh, 0.01, stop))
        resent = time.perf_counter()
        await resend(ledger, old)
        resend_s = time.perf_counter() - resent
        stop.set()
        return Return(start_s, resend_s, [single.seconds for single in await prober])


async def resend(ledger: Ledger, old: Sequence[bytes]) -> None:
    """Send kept events again; each has to be found to be a duplicate."""
    intake = await accept(
        b"[" + b",".join(old) + b"]",
        content_type=traffic.CONTENT_TYPE,
        headers={},
        caller=embedded.OPERATOR,
        ledger=ledger,
        settings=embedded.SETTINGS,
        now=system_clock(),
    )
    if intake.duplicate != len(old):
        raise RuntimeError(f"Of {len(old)} events that were kept, {intake.duplicate} were found.")


def come_back(folder: Path, old: Sequence[bytes], beside: bool) -> Return:
    """Measure a restart and old ids on the ledger that `grow` left; `beside` others that commit one event at a time."""
    return asyncio.run(returning(folder, old, beside))
