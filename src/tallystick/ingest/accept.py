"""The write path on one screen: a request's body in, a receipt per event out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from tallystick.ingest.decode import Items, decode
from tallystick.ingest.prepare import Prepared, Preparer, join
from tallystick.ledger.base import CatalogStale, Ledger
from tallystick.model import Caller, Receipt, Status, Verdict
from tallystick.settings import Settings

PIECE_BYTES = 64 * 1024
"""How much is decoded at a stretch, before other requests have their turn: about a millisecond's work."""
PART_BYTES = 1024 * 1024
"""How much is handed to the ledger at a time: so much that threads seldom wait for each other over it."""


async def accept(
    body: bytes,
    *,
    content_type: str | None,
    headers: Mapping[str, str],
    caller: Caller,
    ledger: Ledger,
    settings: Settings,
    now: int,
) -> Intake:
    """Take a request in: take it apart, check each event, keep the good ones; a verdict on each is the answer.

    Raises Problem for a body that cannot be taken apart, and when not everything could be made durable: what was kept
    of it is then a duplicate when the request is sent again.
    """
    items = decode(body, content_type, headers, batch_events_max=settings.batch_events_max)
    intake = Intake(items, dict(items.bad), np.zeros(len(items.raws), np.bool_))
    parts = [_Part(items, rows, caller, ledger, settings, now) for rows in _parts(items)]
    keeping: list[Awaitable[_Kept]] = []
    for part in parts[:-1]:
        keeping.append(asyncio.ensure_future(part.keep(await part.prepare(), bulk=True)))
    if parts:
        # The last part needs no task of its own, which spares a small request two turns of the loop.
        keeping.append(parts[-1].keep(await parts[-1].prepare(), bulk=len(parts) > 1))
    for kept in await asyncio.gather(*keeping, return_exceptions=True):
        if isinstance(kept, BaseException):
            raise kept
        intake.verdicts.update(kept.verdicts)
        intake.metered[kept.metered] = True
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

    def _count(self, status: Status) -> int:
        return sum(verdict.status is status for verdict in self.verdicts.values())

    def receipts(self, all: bool) -> list[Receipt]:
        """Return the receipts of conflicts and rejections, or of all events, in the order they were sent."""
        if all:
            return [self._receipt(index) for index in range(len(self.items.raws))]
        refused = (Status.CONFLICT, Status.REJECTED)
        return [self._receipt(index) for index in sorted(self.verdicts) if self.verdicts[index].status in refused]

    def _receipt(self, index: int) -> Receipt:
        verdict = self.verdicts.get(index) or Verdict(Status.ACCEPTED, metered=bool(self.metered[index]))
        return Receipt(index, _id_of(self.items.raws[index]), verdict)


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

    async def prepare(self) -> Prepared:
        """Prepare the events a piece at a time, all under one catalog."""
        preparer, catalog, plain = _preparer(self.settings), self.ledger.catalog, self.items.plain
        pieces: list[Prepared] = []
        rest = list(_split(self.items, self.rows, PIECE_BYTES))
        while rest:
            raws = [self.items.raws[row] for row in rest.pop(0)]
            if pieces or rest:
                async with _turn():
                    pieces.append(
                        preparer.prepare(raws, plain=plain, caller=self.caller, catalog=catalog, now=self.now)
                    )
                    await asyncio.sleep(0)
            else:
                pieces.append(preparer.prepare(raws, plain=plain, caller=self.caller, catalog=catalog, now=self.now))
        return join(pieces)

    async def keep(self, prepared: Prepared, *, bulk: bool) -> _Kept:
        """Commit what passed; prepare it again if the meters changed meanwhile."""
        creates = self.caller.account is None and self.settings.accounts_created_by_events
        while True:
            try:
                judged = await self.ledger.commit(prepared.batch, create_accounts=creates, bulk=bulk)
                break
            except CatalogStale:
                prepared = await self.prepare()
        rows = np.asarray(self.rows, np.int64)
        places = rows[prepared.index]
        verdicts = {int(rows[at]): verdict for at, verdict in prepared.refused.items()}
        verdicts.update((int(places[at]), verdict) for at, verdict in judged.items())
        return _Kept(verdicts, places[prepared.batch.posting_event])


@lru_cache(maxsize=8)
def _preparer(settings: Settings) -> Preparer:
    return Preparer(settings)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def _turn() -> asyncio.Lock:
    """Return the lock under which large requests prepare: one piece per turn of the loop, however many there are."""
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def _parts(items: Items) -> Iterator[Sequence[int]]:
    """Split a request into parts, leaving out what is known to be no JSON."""
    rows = [row for row in range(len(items.raws)) if row not in items.bad] if items.bad else range(len(items.raws))
    return _split(items, rows, PART_BYTES)


def _split(items: Items, rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Split rows into even parts of at most about `size` bytes of events."""
    if not len(rows):
        return
    sizes = np.cumsum([len(items.raws[row]) for row in rows])
    parts = -(-int(sizes[-1]) // size)
    cuts = np.searchsorted(sizes, [int(sizes[-1]) * part // parts for part in range(1, parts)])
    start = 0
    for end in [*dict.fromkeys(cuts.tolist()), len(rows)]:
        if start < end:
            yield rows[start:end]
        start = end


class _Id(msgspec.Struct):
    id: str | None = None


_id_decoder = msgspec.json.Decoder(_Id)


def _id_of(raw: bytes) -> str | None:
    try:
        return _id_decoder.decode(raw).id
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
