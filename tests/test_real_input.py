"""Real files through a real server that is killed on the way: usage equals the files' own sums, to the last digit."""

from __future__ import annotations

import asyncio
import csv
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tallystick.clock import system_clock
from tallystick.ledger.base import Proof
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.settings import Settings
from tests.kill.haunted import Haunted, haunted, send_all

DATA = Path(__file__).parents[1].parent / "shared" / "data"
ACCOUNT = "radio"
FIRST_DAY = datetime(2024, 2, 20, tzinfo=UTC)
DAYS = 20
KILLS = 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real input is not there (../shared/data)"),
]


@dataclass(frozen=True, slots=True)
class Clip:
    """A recorded clip as the file has it, and the day on which it counts as transcribed."""

    name: str
    speaker: str | None
    milliseconds: int
    day: int

    @property
    def raw(self) -> bytes:
        seconds = f"{self.milliseconds // 1000}.{self.milliseconds % 1000:03d}"
        time = FIRST_DAY + timedelta(days=self.day, milliseconds=self.milliseconds * 7919 % 86_400_000)
        data = {"duration": seconds, "language": "ps", "billing": self.speaker}
        return event("clips", self.name, "audio.processed", time.isoformat(), data)


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a language model as the file has it."""

    number: int
    time: str
    tokens_in: int
    tokens_out: int

    @property
    def raw(self) -> bytes:
        data = {"model": "code", "input": self.tokens_in, "output": self.tokens_out}
        return event("requests", str(self.number), "model.request", self.time, data)


def event(source: str, id: str, type: str, time: str, data: dict[str, Any]) -> bytes:
    envelope = {"specversion": "1.0", "source": source, "id": id, "type": type, "account": ACCOUNT, "time": time}
    return json.dumps({**envelope, "data": data}).encode()


def clips() -> list[Clip]:
    with (DATA / "speech-clips-ps.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [
            Clip(row["clip"], row["speaker"] or None, int(row["duration_ms"]), number * 31 % DAYS)
            for number, row in enumerate(rows)
        ]


def calls() -> list[Call]:
    with (DATA / "llm-requests-code.csv").open(newline="") as file:
        return [
            Call(
                number, f"{row['TIMESTAMP'].replace(' ', 'T')}Z", int(row["ContextTokens"]), int(row["GeneratedTokens"])
            )
            for number, row in enumerate(csv.DictReader(file))
        ]


def batches(raws: Sequence[bytes], size_max: int, seed: int) -> Iterator[list[bytes]]:
    """Yield all in shuffled batches that overlap: each has a part of earlier ones, and some of its own twice."""
    rng, left = random.Random(seed), list(raws)
    rng.shuffle(left)
    before: list[bytes] = []
    while left:
        size = rng.randint(1, size_max)
        fresh, left = left[:size], left[size:]
        again = rng.sample(before, min(len(before), size // 5))
        batch = [*fresh, *again, *rng.sample(fresh, len(fresh) // 10)]
        rng.shuffle(batch)
        before = [*before, *fresh][-20_000:]
        yield batch


def usage(house: Haunted, **parameters: str) -> dict[str, Any]:
    answer = house.ask("GET", f"/v1/usage?{urlencode({'account': ACCOUNT, **parameters})}")
    assert answer.status == 200, answer.body
    table: dict[str, Any] = answer.json
    return table


async def proof_of(folder: Path) -> Proof:
    ledger = await open_sqlite(folder, Settings(), system_clock)
    try:
        return await ledger.verify()
    finally:
        await ledger.close()


def test_clips_sum_to_the_files_own_durations_per_speaker_and_day(tmp_path: Path) -> None:
    """Shuffled, overlapping, repeated and interrupted, the clips add up per speaker and day to the millisecond."""
    everything = clips()
    expected: Counter[tuple[str, str | None]] = Counter()
    for clip in everything:
        day = (FIRST_DAY + timedelta(days=clip.day)).strftime("%Y-%m-%d")
        expected[day, clip.speaker] += clip.milliseconds
    with haunted(tmp_path) as house:
        sent = list(batches([clip.raw for clip in everything], 4000, seed=1))
        send_all(house, sent, clients=3, kills=KILLS, seed=1)
        assert house.interruptions == KILLS
        end = FIRST_DAY + timedelta(days=DAYS)
        asked = {"from": FIRST_DAY.isoformat(), "to": end.isoformat(), "window": "day", "group_by": "billing"}
        table = usage(house, meter="audio", **asked)
    found = {(row["from"][:10], row["labels"]["billing"]): Decimal(row["quantity"]) * 1000 for row in table["rows"]}
    assert found == expected
    assert Decimal(table["total"]["quantity"]) * 1000 == sum(clip.milliseconds for clip in everything)
    assert table["total"]["count"] == len(everything)
    proof = asyncio.run(proof_of(tmp_path))
    assert (proof.events, list(proof.faults)) == (len(everything), [])


def test_requests_sum_to_the_files_own_tokens_per_quarter_hour(tmp_path: Path) -> None:
    """The same for tokens in and out: each quarter hour and the total are those of the file."""
    everything = calls()
    expected: dict[str, Counter[str]] = {"tokens_in": Counter(), "tokens_out": Counter()}
    for call in everything:
        quarter = f"{call.time[:14]}{int(call.time[14:16]) // 15 * 15:02d}:00Z"
        expected["tokens_in"][quarter] += call.tokens_in
        expected["tokens_out"][quarter] += call.tokens_out
    with haunted(tmp_path) as house:
        sent = list(batches([call.raw for call in everything], 300, seed=2))
        send_all(house, sent, clients=3, kills=KILLS, seed=2)
        assert house.interruptions == KILLS
        asked = {"from": "2023-11-16T00:00:00Z", "to": "2023-11-17T00:00:00Z", "window": "minute15"}
        tables = {name: usage(house, meter=name, **asked) for name in expected}
    for name, table in tables.items():
        assert {row["from"]: int(row["quantity"]) for row in table["rows"]} == expected[name]
        assert int(table["total"]["quantity"]) == expected[name].total()
    proof = asyncio.run(proof_of(tmp_path))
    assert (proof.events, list(proof.faults)) == (len(everything), [])
