"""A ledger that is sent made-up traffic and asked about it, and what it says, in digests."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from tallystick.ledger.memory import ledger as memory
from tallystick.ledger.memory.answers import answer
from tallystick.model import AsOf, Catalog, Change, UsageQuery, UsageTable
from tallystick.settings import Settings
from tallystick.windows import DAY, SECOND
from tests.api import traffic
from tests.api.client import NOON, OPERATOR, Answer, World

BATCH_EVENTS = 2_000
IDS = {"X-Request-Id": "one-and-the-same", "X-Correlation-Id": "one-and-the-same"}
COMPARED = ("content-type", "etag", "link", "ratelimit", "ratelimit-policy", "retry-after", "page-total", "item-total")
LIMITS: tuple[dict[str, Any], ...] = (
    {
        "meter": "audio",
        "thresholds": [],
        "period": "month",
        "amount": "5000000",
        "where": {"technology": "speech_to_text"},
    },
    {
        "meter": "audio",
        "thresholds": [],
        "period": "day",
        "amount": "1",
        "where": {"vendor": "whisper", "operation": "transcribe"},
    },
    {"meter": "tokens_in", "thresholds": [], "period": "total", "amount": "10"},
)


@dataclass(slots=True)
class Told:
    """What a ledger said: of each batch, and of each question a digest of its whole reply; and how long it took."""

    seconds: float = 0
    receipts: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    kinds: Counter[tuple[str, int]] = field(default_factory=Counter)
    reply_bytes: int = 0


def told(kept: Path | str | None, seed: int, events: int, questions: int) -> Told:
    """Send events to a ledger, and ask it questions; in a process of its own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if kept is None:
        _remember()
    started = time.monotonic()
    found = asyncio.run(_told(kept, traffic.events(seed, events), list(traffic.questions(seed, questions))))
    found.seconds = time.monotonic() - started
    return found


def _remember() -> None:
    """Have the oracle look only at what a question can be about: at what it was given once, by meter and account.

    What it makes of that stays its own. Without it 200,000 events would be gone through thousands of times.
    """
    ledger = memory.MemoryLedger
    lists: dict[int, Any] = {}
    heap: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    spoken: dict[tuple[int, str], list[Change]] = {}
    counted, said = ledger._counted, ledger._said

    def counted_once(self: memory.MemoryLedger) -> Any:
        if len(self._events) not in lists:
            lists.clear()
            heap.clear()
            lists[len(self._events)] = counted(self)
            for pair in lists[len(self._events)]:
                heap[pair[1].meter, pair[0].account].append(pair)
        return lists[len(self._events)]

    def said_once(self: memory.MemoryLedger, account: str) -> list[Change]:
        key = len(self._events), account
        if key not in spoken:
            spoken[key] = said(self, account)
        return spoken[key]

    def answer_some(query: UsageQuery, catalog: Catalog, everything: Any, as_of: AsOf) -> UsageTable:
        names = traffic.ACCOUNTS if query.accounts is None else query.accounts
        some = [pair for name in names for pair in heap.get((query.meter, name), ())]
        return answer(query, catalog, some, as_of)

    mock.patch.object(ledger, "_counted", counted_once).start()
    mock.patch.object(ledger, "_said", said_once).start()
    mock.patch.object(memory, "answer", answer_some).start()


async def _told(kept: Path | str | None, made: Iterator[traffic.Event], questions: Sequence[traffic.Question]) -> Told:
    world = World(Settings(operator_key=OPERATOR, label_sets_max=100_000), now=NOON - DAY, folder=kept)
    found = Told()
    try:
        await _begin(world)
        while batch := list(itertools.islice(made, BATCH_EVENTS)):
            world.now += SECOND
            found.receipts.append(_digest(await world.ingest(*batch)))
        world.now = NOON
        for kind, target, key in questions:
            scheme = "token" if kind == "visii" else "Bearer"
            answer = await world.ask("GET", target, key=key, scheme=scheme, headers=IDS)
            found.replies.append(_digest(answer))
            found.kinds[kind, answer.status] += 1
            found.reply_bytes += len(answer.body)
    finally:
        await world.app.close()
    return found


async def _begin(world: World) -> None:
    for name in traffic.ACCOUNTS:
        await world.account(name)
        for number, limit in enumerate(LIMITS):
            body = {"account": name, "property": "quantity", "timezone": "UTC", "policy": "allow", **limit}
            put = await world.ask("PUT", f"/v1/limits/{name}-{number}", body)
            assert put.status == 201, put.body


def _digest(answer: Answer) -> str:
    shown = [f"{name}: {answer.headers[name]}" for name in COMPARED if name in answer.headers]
    head = "\n".join([str(answer.status), *shown, ""]).encode()
    return hashlib.sha256(head + answer.body).hexdigest()
