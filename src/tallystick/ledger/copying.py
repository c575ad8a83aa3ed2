"""A whole ledger brought to another place, of whatever kinds the two are: step by step, then proved and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tallystick.clock import Clock, system_clock
from tallystick.errors import LedgerError
from tallystick.ledger.base import Fault
from tallystick.ledger.comparing import compare
from tallystick.ledger.open import is_postgres, lacking
from tallystick.ledger.packed.steps import Content, Source, Step, Target, Unfinished
from tallystick.ledger.sqlite import copy_source, copy_target
from tallystick.settings import Settings

GROUP_BYTES, GROUP_STEPS = 4 * 1024 * 1024, 500
"""What one transaction takes: about so much of events, and no more steps than this."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied, and what is wrong with it; `head` is the last link of the copy's chain."""

    events: int
    steps: int
    entries: int
    head: str
    faults: Sequence[Fault]


def copy(origin: str, place: str, settings: Settings, progress: Progress, clock: Clock = system_clock) -> Copied:
    """Copy a ledger into a folder or database where there is none, or go on with that; neither may be in use.

    The copy opens like any ledger once its log is replayed and everything in it equals what is copied, and not before.
    `progress` is told what is being done, how far it is, and to what. Raises LedgerError with what to do.
    """
    with _source(origin, settings) as source:
        with _target(place, settings, source.name, clock) as target:
            steps = _take(source, target, progress)
            target.finish(source.key_uses())
        with _source(place, settings, is_copy=True) as made:
            proof = made.verify(lambda done, all: progress("proved", done, all))
            both = source.events + made.events
            faults = [*proof.faults, *compare(source, made, lambda done: progress("compared", done, both))]
    if not faults:
        with _target(place, settings, origin, clock) as target:
            target.complete()
    return Copied(proof.events, steps, proof.entries, proof.head, faults)


def _take(source: Source, target: Target, progress: Progress) -> int:
    """Write the steps that the target does not have, some at a time; returns how many there are."""
    done = target.done
    contents: list[Content] = []
    size = 0
    steps = _numbered(source.steps())
    for number, mark, step in steps:
        if number <= target.done.steps:
            _check(number, mark, target)
            continue
        contents.append(step.read())
        done = Unfinished(done.origin, number, done.events + step.events, mark)
        size += _size(contents[-1])
        if size >= GROUP_BYTES or len(contents) >= GROUP_STEPS:
            target.take(contents, done)
            contents, size = [], 0
        progress("copied", done.events, source.events)
    if contents:
        target.take(contents, done)
    return done.steps


def _numbered(steps: Iterator[Step]) -> Iterator[tuple[int, str, Step]]:
    """Number steps from 1, each with a mark that tells it and all before it from any others."""
    mark = b""
    for number, step in enumerate(steps, 1):
        mark = hashlib.sha256(mark + step.mark).digest()
        yield number, mark.hex(), step


def _check(number: int, mark: str, target: Target) -> None:
    if number == target.done.steps and mark != target.done.mark:
        raise LedgerError(
            f"{target.name} is an unfinished copy of {target.done.origin}, not of this ledger as it is. Empty it, or "
            "name another place."
        )


def _size(content: Content) -> int:
    return sum(map(len, getattr(content, "raws", ())))


def _source(place: str, settings: Settings, *, is_copy: bool = False) -> AbstractContextManager[Source]:
    if not is_postgres(place):
        return copy_source.open_source(Path(place), settings, is_copy=is_copy)
    try:
        from tallystick.ledger.postgres import copy_source as of_postgres
    except ImportError as error:
        raise lacking(error) from error
    return of_postgres.open_source(place, is_copy=is_copy)


def _target(place: str, settings: Settings, origin: str, clock: Clock) -> AbstractContextManager[Target]:
    if not is_postgres(place):
        return copy_target.open_target(Path(place), settings, origin)
    try:
        from tallystick.ledger.postgres import copy_target as of_postgres
    except ImportError as error:
        raise lacking(error) from error
    return of_postgres.open_target(place, origin, clock())
