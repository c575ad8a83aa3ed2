"""Events, batches and ledgers for tests, in few words; batches go through the same path as those of production."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
import pytest
from numpy.typing import NDArray

from tallystick.ingest.prepare import prepare
from tallystick.ledger.base import Ledger
from tallystick.ledger.open import open_ledger
from tallystick.model import (
    Batch,
    Caller,
    Catalog,
    EventPage,
    EventQuery,
    Scope,
    Total,
    UsageQuery,
    UsageTable,
    Verdict,
)
from tallystick.settings import Settings

P = ParamSpec("P")
Raw = bytes | Mapping[str, Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OPERATOR = Caller("operator", None, frozenset(Scope))
LEDGERS = ("memory", "sqlite", "postgres")
SPLIT = "postgres-split"
"""The distributed ledger as it is over Citus: commits are split by account. Named where that makes a difference."""
FIRST, LAST = "0001-01-02T00:00:00Z", "9999-12-31T00:00:00Z"


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test that is a coroutine, in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def instant(text: str) -> int:
    """Return the microseconds since 1970 of a text like 2024-05-01T10:07:00Z."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def text_of(time: int) -> str:
    """Return an instant as RFC 3339 text, to the microsecond."""
    return (EPOCH + timedelta(microseconds=time)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def edges(*texts: str) -> NDArray[np.int64]:
    """Return the edges of buckets, from texts."""
    return np.array([instant(text) for text in texts], np.int64)


@dataclass
class StillClock:
    """A clock that stands still until a test moves it."""

    now: int = instant("2024-05-01T12:00:00Z")

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int) -> None:
        self.now += seconds * 1_000_000


def audio(id: str, seconds: Any = 60, *, account: str = "acme", at: str | None = None, **labels: Any) -> dict[str, Any]:
    """Write down one transcription; `at` absent = it says no time of its own."""
    event = {"specversion": "1.0", "id": id, "source": "test", "type": "audio.processed", "account": account}
    stamp = {} if at is None else {"time": at}
    return {**event, **stamp, "data": {"duration": seconds, **labels}}


def tokens(id: str, tokens_in: int, tokens_out: int, *, account: str = "acme", **labels: Any) -> dict[str, Any]:
    """Write down one request to a language model: it feeds two meters."""
    data = {"model": "m", "input": tokens_in, "output": tokens_out, **labels}
    return {**audio(id, account=account), "type": "model.request", "data": data}


def raw_of(event: Raw) -> bytes:
    return event if isinstance(event, bytes) else json.dumps(event, ensure_ascii=False).encode()


def batch_of(events: Sequence[Raw], *, catalog: Catalog, now: int, settings: Settings | None = None) -> Batch:
    """Prepare events as the operator's; all of them must pass the checks that come before the ledger."""
    raws = [raw_of(event) for event in events]
    prepared = prepare(raws, caller=OPERATOR, catalog=catalog, settings=settings or Settings(), now=now)
    assert not prepared.refused, prepared.refused
    return prepared.batch


@dataclass
class Desk:
    """One ledger under test, with its clock and the folder (or `memory:`) that it is opened on.

    With `is_split` a batch over several accounts is one commit for each of them.
    """

    url: str | Path
    clock: StillClock = field(default_factory=StillClock)
    settings: Settings = field(default_factory=Settings)
    is_split: bool = False

    @asynccontextmanager
    async def open(self, **settings: Any) -> AsyncIterator[Ledger]:
        """Open the ledger, with some settings changed, and close it at the end."""
        ledger = await open_ledger(self.url, replace(self.settings, **settings), self.clock)
        try:
            yield ledger
        finally:
            await ledger.close()

    @staticmethod
    def of(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
        """Return a desk on the kind of ledger that a fixture's parameter names."""
        if request.param in ("postgres", SPLIT):
            url = request.getfixturevalue("postgres_split" if request.param == SPLIT else "postgres_ledger")
            return Desk(url, is_split=request.param == SPLIT)
        return Desk("memory:" if request.param == "memory" else tmp_path / "ledger")

    def batch(self, ledger: Ledger, *events: Raw) -> Batch:
        """Prepare events for the ledger, received now."""
        return batch_of(events, catalog=ledger.catalog, now=self.clock())

    async def send(self, ledger: Ledger, *events: Raw, create_accounts: bool = True) -> list[str]:
        """Commit events as one batch; say of each what became of it: `accepted`, `conflict id_reused`."""
        verdicts = await ledger.commit(self.batch(ledger, *events), create_accounts=create_accounts)
        assert set(verdicts) <= set(range(len(events)))
        return [spoken(verdicts.get(index)) for index in range(len(events))]

    async def send_in_order(self, ledger: Ledger, *events: Raw) -> list[str]:
        """Commit events that are listed in this order: one by one where a batch has none across its accounts."""
        if not self.is_split:
            return await self.send(ledger, *events)
        return [said for event in events for said in await self.send(ledger, event)]


def spoken(verdict: Verdict | None) -> str:
    """Say a verdict in words."""
    if verdict is None:
        return "accepted"
    return verdict.status if verdict.code is None else f"{verdict.status} {verdict.code}"


def query(
    *texts: str,
    meter: str = "audio",
    accounts: tuple[str, ...] | None = None,
    group_by: tuple[str, ...] = (),
    where: Mapping[str, set[str]] | None = None,
) -> UsageQuery:
    """Ask for usage between instants; without any, for all there is."""
    wanted = {label: frozenset(values) for label, values in (where or {}).items()}
    return UsageQuery(meter, accounts, edges(*(texts or (FIRST, LAST))), group_by, wanted)


async def usage(ledger: Ledger, *texts: str, **options: Any) -> UsageTable:
    """Ask one question about usage."""
    (table,) = await ledger.usage([query(*texts, **options)])
    return table


async def total(ledger: Ledger, *texts: str, **options: Any) -> Total:
    """Ask how much there is altogether."""
    return (await usage(ledger, *texts, **options)).total


async def pages(ledger: Ledger, query: EventQuery) -> AsyncIterator[EventPage]:
    """List events page by page, to the end."""
    page = await ledger.events(query)
    while True:
        yield page
        if page.next is None:
            return
        page = await ledger.events(page.next)


async def listed(ledger: Ledger, **asked: Any) -> list[str]:
    """List the ids of all events that match, in the order in which they come."""
    query = EventQuery(**{"accounts": None, **asked})
    return [json.loads(row.raw)["id"] async for page in pages(ledger, query) for row in page.rows]


def lines(table: UsageTable) -> list[tuple[Any, ...]]:
    """Write a table as lines of (bucket, label…, count, sum)."""
    return [(row.bucket, *row.labels, row.total.count, row.total.sum) for row in table.rows]
