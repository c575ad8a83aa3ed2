"""The write path on one screen: a request's body in, a receipt per event out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tallystick.envelope import Names, id_of, names_of
from tallystick.errors import Code
from tallystick.ingest.decode import Items, decode
from tallystick.ingest.prepare import Prepared, Preparer
from tallystick.ledger.base import CatalogStale, Ledger
from tallystick.model import Caller, Receipt, Status, Verdict
from tallystick.precedence import precedence
from tallystick.raws import sizes_of
from tallystick.settings import Settings

T = TypeVar("T")

PREPARERS_MAX = 8

INLINE_BYTES = 64 * 1024
"""Up to here a request is prepared on the loop, in about a millisecond; larger ones on a thread of their own."""
PART_BYTES = 1024 * 1024
"""How much of a request is handed to the ledger at a time: so much that threads seldom wait for each other over it."""
PARTS_FEW, PARTS_TOGETHER = 4, 16
"""Parts of a request that are handed over one by one, as soon as each is prepared; of more, so many at once: the ledger
asks for what it knows of all of them together, and what is known lies far apart.
"""


async def accept(
    body: bytes,
    *,
    content_type: str | None,
    headers: Mapping[str, str],
    caller: Caller,
    ledger: Ledger,
    settings: Settings,
    now: int,
    dry_run: bool = False,
) -> Intake:
    """Take a request in: take it apart, check each event, keep the good ones; a verdict on each is the answer.

    In a dry run none is kept, and what only the ledger knows is not asked: whether an identity or account is known.
    Raises Problem for a body that cannot be taken apart, and when not everything could be made durable: what was kept
    of it is then a duplicate when the request is sent again.
    """
    take_apart = partial(decode, body, content_type, headers, batch_events_max=settings.batch_events_max)
    is_bulk = len(body) > INLINE_BYTES
    with nullcontext() if is_bulk else precedence.small():
        items = await beside(take_apart) if is_bulk else take_apart()
        intake = Intake(items, dict(items.bad), np.zeros(len(items.raws), np.bool_))
        ready: list[tuple[_Part, Prepared]] = []
        keeping: list[Awaitable[_Kept]] = []
        parts = [*_split(items, _readable(items), PART_BYTES)]
        together = PARTS_TOGETHER if len(parts) > PARTS_FEW else 1
        for number, rows in enumerate(parts, start=1):
            part = _Part(items, rows, caller, ledger, settings, now, is_bulk)
            prepared = await part.prepare()
            if dry_run:
                intake.add(part.checked(prepared))
                continue
            ready.append((part, prepared))
            if len(ready) == together or number == len(parts):
                keeping += [asyncio.ensure_future(each.keep(its)) for each, its in ready]
                ready.clear()
        for outcome in await asyncio.gather(*keeping, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            intake.add(outcome)
    return intake


@dataclass(frozen=True, slots=True)
class Intake:
    """What became of one request's events: the verdict on each that was not simply accepted, and which were metered."""

    items: Items
    verdicts: dict[int, Verdict]
    metered: NDArray[np.bool_]

    @property
    def single(self) -> bool:
        return self.items.single

    @property
    def accepted(self) -> int:
        return len(self.items.raws) - len(self.verdicts)

    @property
    def duplicate(self) -> int:
        return self._count(Status.DUPLICATE)

    @property
    def conflict(self) -> int:
        return self._count(Status.CONFLICT)

    @property
    def rejected(self) -> int:
        return self._count(Status.REJECTED)

    def add(self, outcome: _Kept) -> None:
        """Note what became of a part."""
        self.verdicts.update(outcome.verdicts)
        self.metered[outcome.metered] = True

    def tally(self) -> Mapping[tuple[Status, Code | None], int]:
        """Count the events by verdict and code."""
        judged = Counter((verdict.status, verdict.code) for verdict in self.verdicts.values())
        return {(Status.ACCEPTED, None): self.accepted, **judged}

    def _count(self, status: Status) -> int:
        return sum(verdict.status is status for verdict in self.verdicts.values())

    def receipts(self, all: bool) -> list[Receipt]:
        """Return the receipts of conflicts and rejections, or of all events, in the order they were sent."""
        if all:
            return [self._receipt(index) for index in range(len(self.items.raws))]
        refused = (Status.CONFLICT, Status.REJECTED)
        return [self._receipt(index) for index in sorted(self.verdicts) if self.verdicts[index].status in refused]

    def last_not_accepted(self, most: int) -> list[tuple[Names, Verdict]]:
        """Return what names the last events that were not accepted, at most so many, and the verdicts on them."""
        rows = sorted(self.verdicts)[max(len(self.verdicts) - most, 0) :]
        return [(names_of(self.items.raws[row]), self.verdicts[row]) for row in rows]

    def _receipt(self, index: int) -> Receipt:
        verdict = self.verdicts.get(index) or Verdict(Status.ACCEPTED, metered=bool(self.metered[index]))
        return Receipt(index, id_of(self.items.raws[index]), verdict)


@dataclass(frozen=True, slots=True)
class _Kept:
    verdicts: Mapping[int, Verdict]
    metered: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Part:
    """Some neighbouring events of a request, decoded and kept together."""

    items: Items
    rows: Sequence[int]
    caller: Caller
    ledger: Ledger
    settings: Settings
    now: int
    is_bulk: bool

    async def prepare(self) -> Prepared:
        return await beside(self._prepare) if self.is_bulk else self._prepare()

    def _prepare(self) -> Prepared:
        raws = _chosen(self.items.raws, self.rows)
        return preparer(self.settings).prepare(
            raws, plain=self.items.plain, caller=self.caller, catalog=self.ledger.catalog, now=self.now
        )

    async def keep(self, prepared: Prepared) -> _Kept:
        """Commit what passed; prepare it again if the meters changed meanwhile."""
        creates = self.caller.account is None and self.settings.accounts_created_by_events
        while True:
            try:
                judged = await self.ledger.commit(prepared.batch, create_accounts=creates, bulk=self.is_bulk)
                break
            except CatalogStale:
                prepared = await self.prepare()
        return self._outcome(prepared, judged)

    def checked(self, prepared: Prepared) -> _Kept:
        """Say what would become of it, as far as that can be told without the ledger."""
        return self._outcome(prepared, {at: doomed.verdict for at, doomed in prepared.batch.doomed.items()})

    def _outcome(self, prepared: Prepared, judged: Mapping[int, Verdict]) -> _Kept:
        rows = np.asarray(self.rows, np.int64)
        places = rows[prepared.index]
        verdicts = {int(rows[at]): verdict for at, verdict in prepared.refused.items()}
        verdicts.update((int(places[at]), verdict) for at, verdict in judged.items())
        return _Kept(verdicts, places[prepared.batch.metered])


_bulk = ThreadPoolExecutor(1, "tallystick-bulk", precedence.join_bulk)
"""One thread for all large requests: their order is kept, and the loop answers others meanwhile."""


async def beside(work: Callable[[], T]) -> T:
    """Do what bulk needs on the thread of large requests: a thread more would only have them wait for each other."""
    with precedence.computing():
        return await asyncio.get_running_loop().run_in_executor(_bulk, work)


_preparers: dict[int, tuple[Settings, Preparer]] = {}
"""By the identity of settings, of which there is one set for a process: comparing them takes longer than an event."""


def preparer(settings: Settings) -> Preparer:
    """Return what remembers shapes, for the loop and the thread of bulk: what one of them learned the other knows."""
    found = _preparers.get(id(settings))
    if found is None:
        if len(_preparers) >= PREPARERS_MAX:
            _preparers.clear()
        found = _preparers[id(settings)] = settings, Preparer(settings)
    return found[1]


def _readable(items: Items) -> Sequence[int]:
    """Return the rows that are not known to be no JSON."""
    return [row for row in range(len(items.raws)) if row not in items.bad] if items.bad else range(len(items.raws))


def _chosen(raws: Sequence[bytes], rows: Sequence[int]) -> Sequence[bytes]:
    return raws[rows.start : rows.stop] if isinstance(rows, range) else [raws[row] for row in rows]


def _split(items: Items, rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Split rows into even parts of at most about `size` bytes of events."""
    if not len(rows):
        return
    chosen = _chosen(items.raws, rows)
    sizes = np.cumsum(np.fromiter(sizes_of(chosen), np.int64, len(chosen)))
    parts = -(-int(sizes[-1]) // size)
    cuts = np.searchsorted(sizes, [int(sizes[-1]) * part // parts for part in range(1, parts)])
    start = 0
    for end in [*dict.fromkeys(cuts.tolist()), len(rows)]:
        if start < end:
            yield rows[start:end]
        start = end
