"""A process whose disk fails: `python -m tests.faults.failing FOLDER STAGE FAILURE FOREVER N,N,…`.

For each N it works on a new ledger whose disk fails the N-th call, and says what it did, what was acknowledged and what
was found wrong. A ledger may end its process when it cannot go on; whoever listens then looks at what is left.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import numpy as np

from tallystick.errors import LedgerError, Problem
from tallystick.ledger.base import Ledger
from tallystick.model import Total, UsageQuery
from tests.faults.campaign import Run, examined, opened
from tests.faults.hurry import hurry
from tests.faults.images import crash_images
from tests.faults.vfs import Disk, Failure, Trap, retried
from tests.faults.workload import DAY, NOON, Record, Sample, TickingClock, binary_samples, flaws, send
from tests.spoken import SpokenRecord, say

EVENTS = 48
PIECE = 4
ATTEMPTS_MAX = 40
ATTEMPTS_BEFORE_REPAIR = 3
WAIT_S = 0.05
ANSWER_S_MAX = 20
IMAGES = 3


@dataclass(slots=True)
class Scene:
    """A ledger on a failing disk, and what is known of both."""

    folder: Path
    disk: Disk
    trap: Trap
    record: Record
    clock: TickingClock

    def failed(self, attempts: int) -> None:
        """After a few failures in a row somebody repairs a disk that would never come back by itself."""
        if attempts >= ATTEMPTS_BEFORE_REPAIR:
            self.disk.mend()


async def play(folder: Path, stage: str, trap: Trap) -> list[str]:
    """Work through the failure; return what went wrong beyond refusals."""
    with Disk() as disk:
        scene = Scene(folder, disk, trap, SpokenRecord(), TickingClock())
        samples = binary_samples(EVENTS)
        async with opened(folder, scene.clock, disk) as ledger:
            await persist(scene, ledger, samples[:PIECE])
            if stage == "working":
                disk.arm(trap)
                found = await worked(scene, ledger, samples[PIECE:])
        if stage == "opening":
            disk.arm(trap)
            found = await reopened(scene, samples[PIECE:])
        say("sprung", str(disk.sprung))
        say("calls", str(disk.calls))
        return found + await aftermath(scene)


async def worked(scene: Scene, ledger: Ledger, samples: Sequence[Sample]) -> list[str]:
    """Send everything, asking for the total after each piece."""
    found = []
    for start in range(0, len(samples), PIECE):
        found += await persist(scene, ledger, samples[start : start + PIECE])
        found += await wrong_total(ledger, scene.record)
    scene.disk.mend()
    return found + await flaws(ledger, scene.record)


async def reopened(scene: Scene, samples: Sequence[Sample]) -> list[str]:
    """Open as often as it takes, then work as if nothing had been."""
    for attempts in range(1, ATTEMPTS_MAX):
        try:
            async with opened(scene.folder, scene.clock, scene.disk) as ledger:
                return await worked(scene, ledger, samples)
        except (LedgerError, Problem, apsw.Error, OSError):
            scene.failed(attempts)
    return ["it never opened again"]


async def persist(scene: Scene, ledger: Ledger, samples: Sequence[Sample]) -> list[str]:
    """Send a piece until it is acknowledged, as a client does; only a Problem is an answer to try again on."""
    scene.record.sending(samples, scene.disk.point)
    for attempts in range(1, ATTEMPTS_MAX):
        try:
            answer = send(ledger, [sample.raw for sample in samples], scene.clock)
            verdicts = await asyncio.wait_for(answer, ANSWER_S_MAX)
        except Problem:
            scene.failed(attempts)
            await asyncio.sleep(WAIT_S)
        except Exception as error:
            return [f"commit raised {error!r}"]
        else:
            scene.record.acking(samples, scene.disk.point)
            refused = [verdict for verdict in verdicts if verdict is not None and verdict.code is not None]
            return [f"refused as {refused}"] if refused else []
    return [f"no ack after {ATTEMPTS_MAX} attempts"]


async def wrong_total(ledger: Ledger, record: Record) -> list[str]:
    """Ask for the total: a refusal is an answer, a sum must be of all that was acked and nothing that was not sent."""
    try:
        total = await asyncio.wait_for(total_of(ledger), ANSWER_S_MAX)
    except Problem:
        return []
    except Exception as error:
        return [f"usage raised {error!r}"]
    acked = sum(amount(record.sent[identity][0]) for identity in record.acked)
    sent = sum(amount(sample) for sample, _ in record.sent.values())
    if total.sum & acked == acked and total.sum | sent == sent and total.count == total.sum.bit_count():
        return []
    return [f"a wrong number: {total.count} events, {total.sum:b}, acked {acked:b}, sent {sent:b}"]


async def total_of(ledger: Ledger) -> Total:
    (table,) = await ledger.usage([UsageQuery("audio", None, np.array([NOON - 5 * DAY, NOON + DAY], np.int64))])
    return table.total


def amount(sample: Sample) -> int:
    return sample.amounts[0][1]


async def aftermath(scene: Scene) -> list[str]:
    """Restart after the end, on what the page cache has and on what a power cut would have left at some point."""
    async with opened(scene.folder, scene.clock) as ledger:
        found = [*await flaws(ledger, scene.record), *retried(scene.disk.log)]
    run = Run(scene.disk, scene.record, scene.clock)
    start, end = scene.disk.sprung_at or 0, scene.disk.point
    points = [start + (end - start) * number // IMAGES for number in range(1, IMAGES + 1)]
    for number, image in enumerate(crash_images(scene.disk.log, points, seed=scene.trap.at)):
        folder = scene.folder.with_name(f"{scene.folder.name}-image{number}")
        wrong = await examined(image, run, folder, send_again=True)
        found += [f"after a power cut at {image.point} (failure at {start}): {flaw}" for flaw in wrong]
    return found


def main(folder: Path, stage: str, failure: Failure, forever: bool, numbers: Sequence[int]) -> None:
    for number in numbers:
        say("trap", str(number))
        found = asyncio.run(play(folder / str(number), stage, Trap(failure, number, forever)))
        for flaw in found:
            say("flaw", flaw.replace("\n", " "))
        say("done")


if __name__ == "__main__":
    hurry()
    main(
        Path(sys.argv[1]),
        sys.argv[2],
        Failure(sys.argv[3]),
        sys.argv[4] == "forever",
        [int(number) for number in sys.argv[5].split(",")],
    )
