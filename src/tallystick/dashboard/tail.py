"""What the list of events is made of: those that are kept, and the last that were not, in one order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice, takewhile
from operator import attrgetter
from typing import Any

import msgspec

from tallystick import windows
from tallystick.dashboard.client import Api
from tallystick.dashboard.visit import Pairs

ROWS = 50
PAGES_READ_MAX = 20
"""A page of kept events may be empty and yet lead on; after so many a reader has to ask again."""
ACCEPTED = "accepted"
VERDICTS = (ACCEPTED, "duplicate", "conflict", "rejected")
END = "-"
"""Stands for a cursor behind which nothing is left."""

_SENT = msgspec.json.Decoder(float_hook=str)


class Fed(msgspec.Struct):
    """What an event added to a meter; of a meter of distinct values it is a value."""

    meter: str
    labels: dict[str, str]
    quantity: str | None
    value: str | None = None


class Receipt(msgspec.Struct):
    """The verdict."""

    status: str
    metered: bool


class Item(msgspec.Struct):
    """A kept event as GET /v1/events shows it; `event` are the bytes that were sent."""

    sequence: int
    recorded_at: str
    account: str
    space: str | None
    event: msgspec.Raw
    receipt: Receipt
    fed: list[Fed]

    @property
    def sent(self) -> dict[str, Any]:
        """The event's own members, with numbers as they were written."""
        found: dict[str, Any] = _SENT.decode(self.event)
        return found

    @property
    def instant(self) -> int:
        """When it was recorded."""
        return windows.parse_instant(self.recorded_at)


class Told(msgspec.Struct):
    """The receipt of an event that was not accepted, as GET /v1/receipts shows it; `account` is the sender's."""

    received_at: str
    account: str | None
    id: str | None
    source: str | None
    type: str | None
    status: str
    code: str | None
    pointer: str
    detail: str

    @property
    def instant(self) -> int:
        """When the event was received."""
        return windows.parse_instant(self.received_at)


class Kept(msgspec.Struct):
    """A page of kept events, the newest recorded first."""

    events: list[Item]
    next: str | None


class Remembered(msgspec.Struct):
    """A page of receipts, the last one given first."""

    receipts: list[Told]
    next: str | None


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, "" = anything. A receipt has no space: where one is asked for there are kept events only."""

    id: str
    account: str
    space: str
    type: str
    verdict: str

    @property
    def of_kept(self) -> Pairs:
        """The question about kept events."""
        return _given(id=self.id, account=self.account, space=self.space, type=self.type)

    @property
    def of_receipts(self) -> Pairs:
        """The question about receipts."""
        return _given(id=self.id, account=self.account, type=self.type, status=self.verdict)

    @property
    def wants_kept(self) -> bool:
        """Whether what is kept can be among it."""
        return self.verdict in ("", ACCEPTED)

    @property
    def wants_receipts(self) -> bool:
        """Whether what was not accepted can be among it."""
        return self.verdict != ACCEPTED and not self.space


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins in either list: a cursor of the API, "" at the beginning, END behind the last."""

    kept: str = ""
    receipts: str = ""


@dataclass(frozen=True, slots=True)
class Tail:
    """A page of the list, newest first, and where the next one begins; None where nothing is left."""

    rows: Sequence[Item | Told]
    next: Place | None


async def read(api: Api, search: Search, place: Place) -> Tail:
    """Return a page: the newest rows of both lists together, and in each list the place behind what was taken of it."""
    kept, told = Kept([], None), Remembered([], None)
    if search.wants_kept and place.kept != END:
        kept = await kept_page(api, search.of_kept, place.kept)
    if search.wants_receipts and place.receipts != END:
        told = await _told_page(api, search.of_receipts, place.receipts, ROWS)
    rows = list(islice(_merged(kept.events, _reached(kept, told)), ROWS))
    taken = sum(isinstance(row, Item) for row in rows)
    # Only the end of a page of the API is a place to go on from, so what is not taken whole is asked for again.
    if 0 < taken < len(kept.events):
        kept = await kept_page(api, search.of_kept, place.kept, taken)
    if 0 < len(rows) - taken < len(told.receipts):
        told = await _told_page(api, search.of_receipts, place.receipts, len(rows) - taken)
    following = Place(
        _behind(place.kept, kept.next, is_whole=taken >= len(kept.events)),
        _behind(place.receipts, told.next, is_whole=len(rows) - taken >= len(told.receipts)),
    )
    shown = _merged(kept.events[:taken], told.receipts[: len(rows) - taken])
    return Tail(list(shown), None if following == Place(END, END) else following)


async def kept_page(api: Api, asked: Pairs, cursor: str, rows: int = ROWS) -> Kept:
    """Return a page of kept events that has some, if there is one: a search for what is rare takes several."""
    page = Kept([], cursor or None)
    for _ in range(PAGES_READ_MAX):
        more = [("cursor", page.next)] if page.next else []
        answer = await api.get("/v1/events", [*asked, ("limit", str(rows)), *more])
        page = msgspec.json.decode(answer.body, type=Kept)
        if page.events or page.next is None:
            break
    return page


async def _told_page(api: Api, asked: Pairs, cursor: str, rows: int) -> Remembered:
    more = [("cursor", cursor)] if cursor else []
    answer = await api.get("/v1/receipts", [*asked, ("limit", str(rows)), *more])
    return msgspec.json.decode(answer.body, type=Remembered)


def _reached(kept: Kept, told: Remembered) -> Sequence[Told]:
    """Return the receipts that are no older than what was read of the kept events: older ones come on a later page."""
    if not kept.events or kept.next is None:
        return told.receipts
    oldest = kept.events[-1].instant
    return list(takewhile(lambda each: each.instant >= oldest, told.receipts))


def _merged(kept: Sequence[Item], told: Sequence[Told]) -> Iterator[Item | Told]:
    """Yield both, newest first; neither list changes its own order."""
    return merge(kept, told, key=attrgetter("instant"), reverse=True)


def _behind(place: str, following: str | None, *, is_whole: bool) -> str:
    """Return the place behind what was taken of a list: the end of the page, or where it began if nothing was."""
    return (following or END) if is_whole else place


def _given(**asked: str) -> Pairs:
    return [(name, value) for name, value in asked.items() if value]
