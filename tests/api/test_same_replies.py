"""The same events and the same questions on every kind of ledger: the replies are the same to the byte.

The clock is the test's, and moves a second at each batch, so what an answer says of itself (`as_of`, ETag, when it is
valid) has to be the same too. Ids of requests are those that were sent along: replies repeat them. Nothing else is
left out, and no reply is changed before it is compared.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.api import traffic
from tests.api.asking import Told, told
from tests.api.client import place
from tests.ledger.build import LEDGERS

EVENTS = int(os.environ.get("TALLYSTICK_TEST_SAME_EVENTS", "1200"))
QUESTIONS = int(os.environ.get("TALLYSTICK_TEST_SAME_QUESTIONS", "200"))
SEED = int(os.environ.get("TALLYSTICK_TEST_SAME_SEED", "1"))
AT_ONCE = 3


def test_every_ledger_gives_the_same_replies(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Native usage in any window, zone, grouping and filter, and the reports of the five vendors."""
    places = {kept: place(kept, request, tmp_path) for kept in LEDGERS}
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:
        asked = {kept: pool.submit(told, at, SEED, EVENTS, QUESTIONS) for kept, at in places.items()}
        said = {kept: each.result() for kept, each in asked.items()}
    oracle = said["memory"]
    with capsys.disabled():
        print(f"\n{EVENTS} events, {QUESTIONS} questions, {oracle.reply_bytes} bytes of replies:", flush=True)
        print(", ".join(f"{kind} {status}: {count}" for (kind, status), count in sorted(oracle.kinds.items())))
        print(", ".join(f"{kept} {found.seconds:.0f} s" for kept, found in said.items()))
    good = sum(count for (_, status), count in oracle.kinds.items() if status == 200)
    assert good > QUESTIONS * 3 // 4
    for kept, found in said.items():
        assert found.receipts == oracle.receipts, kept
        assert differing(oracle, found) == [], kept


def differing(oracle: Told, found: Told) -> list[traffic.Question]:
    """Return the questions whose replies are not the same."""
    questions = traffic.questions(SEED, QUESTIONS)
    return [asked for asked, a, b in zip(questions, oracle.replies, found.replies, strict=True) if a != b]
