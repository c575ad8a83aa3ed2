"""An import from end to end: batches through the door, several under way, verdicts back to their lines."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import click

from tallystick.cli import output
from tallystick.cli.importing.batches import Batch, Refusal
from tallystick.cli.importing.reading import Read
from tallystick.cli.options import Failure
from tallystick.cli.progress import Progress, clear
from tallystick.cli.source import Answer, Door, Question

UNDER_WAY_MAX = 3
RETRY_S_MAX = 60
"""How long a door that does not answer, or has no room, is asked again."""
REFUSALS_SHOWN = 5
WAITING = (503, 507)
TOO_LARGE = 413
STATUSES = ("accepted", "duplicate", "conflict", "rejected")


@dataclass(slots=True)
class Tally:
    """What became of the lines of one file."""

    file: str
    lines: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0

    @property
    def refused(self) -> int:
        return self.conflict + self.rejected

    def add(self, other: dict[str, int]) -> None:
        for status in STATUSES:
            setattr(self, status, getattr(self, status) + other[status])
        self.lines += sum(other.values())


@dataclass(slots=True)
class Rejects:
    """The file of refused lines, made when the first is refused; the first few are shown too."""

    path: Path
    written: int = 0
    _file: IO[str] | None = None

    def add(self, name: str, refusals: Sequence[Refusal]) -> None:
        """Write refusals as lines of JSON."""
        if refusals and self._file is None:
            try:
                self._file = self.path.open("w", encoding="utf-8")
            except OSError as error:
                raise Failure(f"Refused lines cannot be written to {self.path}: {error.strerror}.") from None
        for refusal in refusals:
            assert self._file is not None
            line = {"file": name, **asdict(refusal), "raw": refusal.raw.decode("utf-8", "replace")}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            if self.written < REFUSALS_SHOWN:
                clear()
                click.echo(f"{name} line {refusal.line}: {refusal.code} {refusal.pointer} {refusal.detail}", err=True)
            self.written += 1

    def close(self) -> None:
        """Say where they are."""
        if self._file is not None:
            self._file.close()
            click.echo(f"{self.written} refused lines, with reasons, are in {self.path}", err=True)


@dataclass(slots=True)
class Import:
    """Which files are imported, and how; `answered` once the door is known to answer."""

    names: Sequence[str]
    dry_run: bool
    rejects: Rejects
    answered: bool = False

    async def run(self, read: Read, door: Door) -> tuple[list[Tally], bool]:
        """Import what is read, file after file; returns their tallies, and whether each was read to its end."""
        tallies, whole = [], True
        for name in self.names:
            tally, broken = await self._file(name, read, door)
            tallies.append(tally)
            if broken is not None:
                click.echo(f"{name} could not be read to its end: {broken}", err=True)
                whole = False
        return tallies, whole

    async def _file(self, name: str, read: Read, door: Door) -> tuple[Tally, str | None]:
        tally, progress, batch = Tally(name), Progress("lines"), Batch()
        under_way: deque[tuple[Batch, asyncio.Task[list[Refusal]]]] = deque()

        async def settle() -> None:
            batch, sending = under_way.popleft()
            self.rejects.add(name, sorted([*batch.refused, *await sending], key=lambda refusal: refusal.line))
            progress.note(progress.count + len(batch.events) + len(batch.refused), batch.share)

        try:
            while not batch.ends:
                batch = await read()
                for note in batch.notes:
                    click.echo(note, err=True)
                under_way.append((batch, asyncio.create_task(self._send(door, batch, tally))))
                while len(under_way) >= UNDER_WAY_MAX:
                    await settle()
            while under_way:
                await settle()
        except BaseException:
            await _abandon([sending for _, sending in under_way])
            clear()
            raise
        progress.end(name)
        return tally, batch.broken

    async def _send(self, door: Door, batch: Batch, tally: Tally) -> list[Refusal]:
        """Send a batch until there is a verdict on every event of it; it may be sent any number of times."""
        tally.add(dict.fromkeys(STATUSES, 0) | {"rejected": len(batch.refused)})
        refusals: list[Refusal] = []
        parts = [(0, len(batch.events))] if batch.events else []
        while parts:
            start, end = parts.pop()
            answer = await self._ask(door, batch.events[start:end])
            if answer.status == TOO_LARGE and end - start > 1:
                middle = (start + end) // 2
                parts += [(middle, end), (start, middle)]
                continue
            if answer.status not in (200, 207):
                raise output.refused(answer)
            found = json.loads(answer.body)
            tally.add({status: found[status] for status in STATUSES})
            refusals += (_refusal(batch, start, receipt) for receipt in found["receipts"])
        return refusals

    async def _ask(self, door: Door, events: Sequence[bytes]) -> Answer:
        target = "/v1/events" + "?dry_run=true" * self.dry_run
        question = Question("POST", target, b"[%b]" % b",".join(events))
        until = time.monotonic() + RETRY_S_MAX
        while True:
            failure: Exception
            try:
                answer = await door.ask(question)
            except Failure as error:
                failure, wait = error, 1.0
            else:
                if answer.status not in WAITING:
                    self.answered = True
                    return answer
                failure, wait = output.refused(answer), float(answer.headers.get("retry-after", 1))
            if not self.answered or time.monotonic() + wait > until:
                raise failure
            await asyncio.sleep(wait)


async def _abandon(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _refusal(batch: Batch, start: int, receipt: dict[str, Any]) -> Refusal:
    at = start + receipt["index"]
    return Refusal(
        batch.lines[at],
        batch.raws[at],
        receipt["status"],
        receipt["code"],
        receipt.get("pointer", ""),
        receipt["detail"],
    )
