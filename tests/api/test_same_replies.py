"""The same events and the same questions on every kind of ledger: the replies are the same to the byte.

The clock is the test's, and moves a second at each batch, so what an answer says of itself (`as_of`, ETag, when it is
valid) has to be the same too. Ids of requests are those that were sent along: replies repeat them. Nothing else is
left out, and no reply is changed before it is compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tallystick.settings import Settings
from tallystick.windows import DAY, SECOND
from tests.api import traffic
from tests.api.client import NOON, OPERATOR, Answer, World, place

EVENTS = int(os.environ.get("TALLYSTICK_TEST_SAME_EVENTS", "1500"))
QUESTIONS = int(os.environ.get("TALLYSTICK_TEST_SAME_QUESTIONS", "200"))
SEED = int(os.environ.get("TALLYSTICK_TEST_SAME_SEED", "1"))
BATCH_EVENTS = 2_000
IDS = {"X-Request-Id": "one-and-the-same", "X-Correlation-Id": "one-and-the-same"}
COMPARED = ("content-type", "etag", "link", "ratelimit", "ratelimit-policy", "retry-after", "page-total", "item-total")
LIMITS: tuple[dict[str, Any], ...] = (
    {"meter": "audio", "period": "month", "amount": "5000000", "where": {"technology": "speech_to_text"}},
    {"meter": "audio", "period": "day", "amount": "1", "where": {"vendor": "whisper", "operation": "transcribe"}},
    {"meter": "tokens_in", "period": "total", "amount": "10"},
)

Question = tuple[str, str, str]


@dataclass(slots=True)
class Told:
    """What a ledger said: of each batch, and of each question a digest of its whole reply."""

    receipts: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    kinds: Counter[tuple[str, int]] = field(default_factory=Counter)
    reply_bytes: int = 0


async def told(kept: Path | str | None, questions: Sequence[Question]) -> Told:
    """Send all the events to a ledger, and ask it everything."""
    world = World(Settings(operator_key=OPERATOR, label_sets_max=100_000), now=NOON - DAY, folder=kept)
    found = Told()
    try:
        await _begin(world)
        made = traffic.events(SEED, EVENTS)
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


def test_every_ledger_gives_the_same_replies(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Native usage in any window, zone, grouping and filter, and the reports of the five vendors."""
    questions = list(traffic.questions(SEED, QUESTIONS))
    said: dict[str, Told] = {}
    for kept in ("sqlite", "postgres", "memory"):
        started = time.monotonic()
        said[kept] = asyncio.run(told(place(kept, request, tmp_path), questions))
        print(f"{kept}: {EVENTS} events, {QUESTIONS} questions in {time.monotonic() - started:.0f} s", flush=True)
    first = said["memory"]
    print(f"{first.reply_bytes} bytes of replies: {dict(sorted(first.kinds.items()))}")
    good = sum(count for (_, status), count in first.kinds.items() if status == 200)
    assert good > QUESTIONS * 3 // 4
    for kept, found in said.items():
        assert found.receipts == first.receipts, kept
        wrong = [question for question, a, b in zip(questions, first.replies, found.replies, strict=True) if a != b]
        assert wrong == [], (kept, len(wrong))
