"""Jobs for report tests: kept by the ledger in memory, which counts them by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tallystick import query, windows
from tallystick.catalog import builtin
from tallystick.ledger.memory import MemoryLedger
from tallystick.model import Account, Batch, UsageQuery, UsageTable
from tallystick.query import Answers, Questions, Request
from tallystick.settings import Settings

NOW = windows.parse_instant("2026-11-02T12:00:00Z")

Event = Mapping[str, Any]


def job(at: str, seconds: Any = 60, *, account: str = "acme", status: str = "success", **labels: Any) -> Event:
    """Write down one piece of audio work that ended at an instant."""
    data = {"duration": seconds, "status": status, **labels}
    return {"type": "audio.processed", "account": account, "time": at, "data": data}


def ask(parameters: str = "", accounts: tuple[str, ...] | None = ("acme",), now: int = NOW) -> Request:
    """Make a request of a query such as `since=2026-01-01 until=2026-02-01`."""
    pairs = (part.partition("=") for part in parameters.split())
    return Request(now, builtin(), accounts, tuple((name, value) for name, _, value in pairs))


def answer(events: Sequence[Event], queries: Sequence[UsageQuery]) -> Sequence[UsageTable]:
    """Keep the events, all in one commit, and ask the ledger about usage."""
    return answers(events, Questions(queries)).usage


def answers(events: Sequence[Event], questions: Questions) -> Answers:
    """Keep the events, all in one commit, and ask the ledger."""
    return asyncio.run(_answers(events, questions))


async def _answers(events: Sequence[Event], questions: Questions) -> Answers:
    ledger = MemoryLedger(Settings(), lambda: NOW, builtin())
    for name in sorted({event["account"] for event in events}):
        await ledger.put_account(Account(name, 0), actor="test")
    assert not await ledger.commit(_batch(events))
    return await query.answers(ledger, ledger.catalog, questions)


def _batch(events: Sequence[Event]) -> Batch:
    """Lay events out as a batch; this ledger reads them from their bytes, so there are no postings in it."""
    ids = [str(number) for number in range(len(events))]
    whole = [{"specversion": "1.0", "source": "test", "id": id, **event} for id, event in zip(ids, events, strict=True)]
    nothing = np.array([], np.int64)
    return Batch(
        catalog_version=builtin().version,
        received=NOW,
        raw=[json.dumps(event).encode() for event in whole],
        account=[event["account"] for event in events],
        source=["test"] * len(events),
        id=ids,
        time=np.array([windows.parse_instant(event["time"]) for event in events], np.int64),
        timed=np.ones(len(events), np.bool_),
        posting_event=nothing,
        posting_set=nothing,
        posting_amount=nothing,
        label_sets=(),
    )
