"""Crash images: what a disk may hold when the power goes, built from the log of its operations.

What was synced is there. Of the rest any part may be: each write wholly, not at all, or torn into sectors, in any
order; a sector that a file grew by may hold rubbish; a deletion may not have happened yet.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.faults.vfs import Delete, Op, Sync, Truncate, Write

EMPTY: Mapping[str, bytes] = MappingProxyType({})
SECTOR_BYTES = 512
SURVIVAL = (0.0, 0.1, 0.5, 0.9, 1.0)
"""How much of what was not synced survives: each image draws one, so that extremes are as common as the middle."""


@dataclass(frozen=True, slots=True)
class Image:
    """The files left by a crash at a point of the log."""

    point: int
    files: Mapping[str, bytes]

    def write(self, folder: Path) -> Path:
        """Put the files into a new folder."""
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder


@dataclass(slots=True)
class _Version:
    """A file between its creation and its deletion: what is durable and what is pending.

    `named` says whether its folder durably knows it; a file that was never written is one that does not exist.
    """

    durable: bytearray | None = None
    pending: list[tuple[int, Write | Truncate]] = field(default_factory=list)
    named: bool = False

    def settle(self, upto: int) -> None:
        if self.durable is None and not self.pending:
            return
        content = self.durable or bytearray()
        for index, op in self.pending:
            if index < upto:
                _apply(content, op)
        self.durable = content
        self.pending = [(index, op) for index, op in self.pending if index >= upto]

    def lose(self, upto: int, rng: random.Random) -> None:
        """After a failed sync the kernel calls the pages clean: what did not reach the disk will not be tried again."""
        survival = rng.choice(SURVIVAL)
        tried = [op for index, op in self.pending if index < upto]
        self.durable = _survivor(self.durable, tried, survival, rng)
        self.pending = [(index, op) for index, op in self.pending if index >= upto]

    def after_crash(self, survival: float, rng: random.Random) -> bytearray | None:
        if not self.named and rng.random() >= survival:
            return None
        return _survivor(self.durable, [op for _, op in self.pending], survival, rng)


class _Folder:
    """The files of a disk at a point of its log, each with the versions of it that a crash may bring back."""

    def __init__(self, initial: Mapping[str, bytes], rng: random.Random) -> None:
        self._rng = rng
        self._files = {name: [_Version(bytearray(content), named=True)] for name, content in initial.items()}

    def advance(self, index: int, op: Op) -> None:
        history = self._files.setdefault(op.file, [_Version()])
        match op:
            case Write() | Truncate():
                history[-1].pending.append((index, op))
            case Delete():
                history.append(_Version())
                if op.durable:
                    self._sync_names()
            case Sync(failed=True):
                history[-1].lose(op.upto, self._rng)
            case Sync():
                history[-1].settle(op.upto)
                if op.folder:
                    self._sync_names()

    def _sync_names(self) -> None:
        for history in self._files.values():
            del history[:-1]
            history[-1].named = True

    def after_crash(self) -> dict[str, bytes]:
        survival = self._rng.choice(SURVIVAL)
        files = {}
        for name, history in self._files.items():
            content = self._rng.choice(history).after_crash(survival, self._rng)
            if content is not None:
                files[name] = bytes(content)
        return files


def crash_images(
    log: Sequence[Op], points: Iterable[int], seed: int, initial: Mapping[str, bytes] = EMPTY
) -> Iterator[Image]:
    """Yield one image for each point, in ascending order; a point named twice gives two different ones.

    `initial` are the files that were there, durably, when the log began.
    """
    rng = random.Random(seed)
    folder = _Folder(initial, rng)
    done = 0
    for point in sorted(points):
        for index in range(done, point):
            folder.advance(index, log[index])
        done = max(done, point)
        yield Image(point, folder.after_crash())


def random_points(log: Sequence[Op], count: int, seed: int) -> list[int]:
    """Draw points to crash at, evenly over the log and with both its ends."""
    rng = random.Random(seed)
    return [0, len(log), *(rng.randint(0, len(log)) for _ in range(count - 2))]


def _survivor(
    durable: bytearray | None, pending: Sequence[Write | Truncate], survival: float, rng: random.Random
) -> bytearray | None:
    content = bytearray(durable or b"")
    changed = False
    for op in _disordered(pending, rng) if survival < 1 else pending:
        if isinstance(op, Truncate):
            if rng.random() < survival:
                _apply(content, op)
                changed = True
        else:
            changed |= _tear(content, op, survival, rng)
    return content if changed or durable is not None else None


def _disordered(pending: Sequence[Write | Truncate], rng: random.Random) -> list[Write | Truncate]:
    """Shuffle the writes between two truncations: a file system keeps only changes of size in order."""
    ordered: list[Write | Truncate] = []
    run: list[Write | Truncate] = []
    for op in pending:
        if isinstance(op, Truncate):
            rng.shuffle(run)
            ordered += [*run, op]
            run = []
        else:
            run.append(op)
    rng.shuffle(run)
    return ordered + run


def _tear(content: bytearray, op: Write, survival: float, rng: random.Random) -> bool:
    """Apply some sectors of a write; return whether any."""
    changed = False
    for piece in _sectors(op):
        if rng.random() < survival:
            # Only what a file grew by can be rubbish: elsewhere a sector is the old or the new one.
            grows = piece.offset >= len(content)
            rubbish = grows and survival < 1 and rng.random() < 0.02
            _apply(content, Write(op.file, piece.offset, rng.randbytes(len(piece.data))) if rubbish else piece)
            changed = True
    return changed


def _sectors(op: Write) -> Iterator[Write]:
    """Cut a write where the sectors of its file begin."""
    start = 0
    while start < len(op.data):
        end = min(start + SECTOR_BYTES - (op.offset + start) % SECTOR_BYTES, len(op.data))
        yield Write(op.file, op.offset + start, op.data[start:end])
        start = end


def _apply(content: bytearray, op: Write | Truncate) -> None:
    if isinstance(op, Truncate):
        del content[op.size :]
        content.extend(bytes(op.size - len(content)))
    else:
        content.extend(bytes(max(0, op.offset - len(content))))
        content[op.offset : op.offset + len(op.data)] = op.data
