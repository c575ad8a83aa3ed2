"""Seeded work for a ledger, a record of what was sent and acknowledged when, and what must hold of it ever after."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tallystick.errors import Problem
from tallystick.ledger.base import Ledger
from tallystick.model import Status, Total, UsageQuery, Verdict
from tests.ledger.build import batch_of, instant, text_of

ACCOUNTS = ("acme", "globex", "initech")
MODELS = ("base", "large", "tiny", None)
SOURCE = "worker/1"
METERS = ("audio", "tokens_in", "tokens_out", "verifications")
NOON = instant("2024-02-29T12:00:00Z")
DAY = 86_400_000_000
CLIENTS = 4
PAUSE_S = 0.005
"""A pause that clients make now and then: what is done behind the log comes in between."""

Identity = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """An event with what each meter must make of it, worked out beside it and not by the code under test."""

    account: str
    id: str
    model: str | None
    time: int
    raw: bytes
    amounts: tuple[tuple[str, int], ...]

    @property
    def identity(self) -> Identity:
        return (self.account, SOURCE, self.id)


@dataclass(slots=True)
class Record:
    """What was sent and what was acknowledged, each with the point of the disk's log at which it was."""

    sent: dict[Identity, tuple[Sample, int]] = field(default_factory=dict)
    acked: dict[Identity, int] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)

    def sending(self, samples: Sequence[Sample], point: int) -> None:
        for sample in samples:
            self.sent.setdefault(sample.identity, (sample, point))

    def acking(self, samples: Sequence[Sample], point: int) -> None:
        for sample in samples:
            self.acked.setdefault(sample.identity, point)


@dataclass(slots=True)
class TickingClock:
    """A clock that is a millisecond later each time it is asked."""

    now: int = NOON + DAY

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def samples_of(seed: int, count: int) -> list[Sample]:
    """Make events: transcriptions of microsecond lengths, token counts, a few that failed; times over four days."""
    rng = random.Random(seed)
    return [_sample(f"{seed}-{n}", rng) for n in range(count)]


def binary_samples(count: int) -> list[Sample]:
    """Make transcriptions of 1, 2, 4 … microseconds: a sum says of each whether it is in it."""
    return [_audio(n, 1 << n) for n in range(count)]


def long_samples(count: int) -> list[Sample]:
    """Make transcriptions so long that a double cannot hold their microseconds, and their sums pass 64 bits."""
    rng = random.Random(7)
    return [_audio(n, 10**18 - 2 * rng.randrange(10**9) - 1) for n in range(count)]


def _audio(number: int, microseconds: int) -> Sample:
    rng = random.Random(number)
    account, model, time = rng.choice(ACCOUNTS), rng.choice(MODELS), NOON - rng.randrange(4 * DAY)
    data = {"duration": _seconds(microseconds)}
    raw = _raw(f"bit-{number}", "audio.processed", account, time, {**data, "model": model}, rng)
    return Sample(account, f"bit-{number}", model, time, raw, (("audio", microseconds),))


def _sample(id: str, rng: random.Random) -> Sample:
    account, time = rng.choice(ACCOUNTS), NOON - rng.randrange(4 * DAY)
    if rng.random() < 0.2:
        return _tokens(id, account, time, rng)
    if rng.random() < 0.2:
        return _verification(id, account, time, rng)
    if rng.random() < 0.1:
        return _contents(id, account, time, rng)
    return _transcription(id, account, time, rng, failed=rng.random() < 0.2)


def _tokens(id: str, account: str, time: int, rng: random.Random) -> Sample:
    model, tokens_in, tokens_out = str(rng.choice(MODELS)), rng.randrange(9000), rng.randrange(900)
    data = {"model": model, "input": tokens_in, "output": tokens_out}
    amounts = (("tokens_in", tokens_in), ("tokens_out", tokens_out))
    return Sample(account, id, model, time, _raw(id, "model.request", account, time, data, rng), amounts)


def _verification(id: str, account: str, time: int, rng: random.Random) -> Sample:
    """Return an upsert of a resource of its own, which counts as soon as it is performed."""
    model, microseconds, performed = rng.choice(MODELS), rng.randrange(10**10), rng.random() < 0.7
    state = "performed" if performed else "performing"
    data = {"kind": "verification", "id": id, "type": "identity", "state": state, "duration": _seconds(microseconds)}
    amounts = (("verifications", microseconds),) if performed else ()
    raw = _raw(id, "resource.upserted", account, time, {**data, "model": model, "space": rng.choice("xy")}, rng)
    return Sample(account, id, model, time, raw, amounts)


def _contents(id: str, account: str, time: int, rng: random.Random) -> Sample:
    """Return an upsert of one of few identities, or the end of one or of a whole space: what no meter counts."""
    space, name = rng.choice("xy"), f"i{rng.randrange(5)}"
    kind = rng.choice(("identity", "identity", "identity", "space"))
    type = "resource.deleted" if kind == "space" or rng.random() < 0.3 else "resource.upserted"
    data = {"kind": kind, "id": space if kind == "space" else name, "space": space}
    return Sample(account, id, None, time, _raw(id, type, account, time, data, rng), ())


def _transcription(id: str, account: str, time: int, rng: random.Random, *, failed: bool) -> Sample:
    model, microseconds = rng.choice(MODELS), rng.randrange(10**10)
    data = {"duration": _seconds(microseconds), "model": model, "status": "failed" if failed else None}
    amounts = () if failed else (("audio", microseconds),)
    return Sample(account, id, model, time, _raw(id, "audio.processed", account, time, data, rng), amounts)


def _seconds(microseconds: int) -> str:
    return f"{microseconds // 10**6}.{microseconds % 10**6:06d}"


def _raw(id: str, type: str, account: str, time: int, data: dict[str, Any], rng: random.Random) -> bytes:
    # Random text that no compression takes away: a commit spans pages.
    note = rng.randbytes(rng.randrange(100)).hex()
    event = {"specversion": "1.0", "id": id, "source": SOURCE, "type": type, "account": account}
    return json.dumps({**event, "time": text_of(time), "note": note, "data": data}).encode()


def altered(sample: Sample) -> bytes:
    """Return the event with other content under the same identity."""
    event = json.loads(sample.raw)
    return json.dumps({**event, "data": {**event["data"], "language": "xx"}}).encode()


async def send(ledger: Ledger, raws: Sequence[bytes], clock: Callable[[], int]) -> list[Verdict | None]:
    """Commit raw events as one batch; return each one's verdict, None = accepted."""
    verdicts = await ledger.commit(batch_of(raws, catalog=ledger.catalog, now=clock()), create_accounts=True)
    return [verdicts.get(index) for index in range(len(raws))]


async def work(
    ledger: Ledger,
    samples: Sequence[Sample],
    record: Record,
    point: Callable[[], int],
    clock: Callable[[], int],
    seed: int,
) -> None:
    """Send events from several clients at once; some are sent again with the next ones, some with other content."""
    shares = [samples[number::CLIENTS] for number in range(CLIENTS)]
    clients = (_client(ledger, share, record, point, clock, random.Random(seed + n)) for n, share in enumerate(shares))
    await asyncio.gather(*clients)


async def _client(
    ledger: Ledger,
    samples: Sequence[Sample],
    record: Record,
    point: Callable[[], int],
    clock: Callable[[], int],
    rng: random.Random,
) -> None:
    before: list[Sample] = []
    for fresh in _pieces(samples, rng):
        again = rng.sample(before, min(len(before), rng.randrange(3)))
        reused = rng.sample(before, min(len(before), rng.randrange(2)))
        record.sending(fresh, point())
        raws = [sample.raw for sample in [*fresh, *again]] + [altered(sample) for sample in reused]
        verdicts = await send(ledger, raws, clock)
        record.acking(fresh, point())
        expected = [None] * len(fresh) + [Status.DUPLICATE] * len(again) + [Status.CONFLICT] * len(reused)
        found = [verdict and verdict.status for verdict in verdicts]
        if found != expected:
            record.surprises.append(f"verdicts {found} instead of {expected}")
        before += fresh
        await asyncio.sleep(rng.choice((0, 0, PAUSE_S)))


def _pieces(samples: Sequence[Sample], rng: random.Random) -> Iterator[Sequence[Sample]]:
    start = 0
    while start < len(samples):
        end = start + rng.randint(1, 12)
        yield samples[start:end]
        start = end


async def flaws(ledger: Ledger, record: Record, point: int | None = None) -> list[str]:
    """Say what is wrong in a ledger after a crash at `point` (None = now): acked events, ghosts, numbers, the proof."""
    try:
        present, strange = await _present(ledger, record)
        found = [*record.surprises, *strange, *_missing_and_ghosts(present, record, point)]
        for meter in METERS:
            found += await _wrong_numbers(ledger, meter, present)
        proof = await ledger.verify()
    except Problem as problem:
        return [f"no answer: {problem}"]
    found += [f"verify: {fault.where}: {fault.detail}" for fault in proof.faults]
    if proof.events != len(present):
        found.append(f"verify counts {proof.events} events, {len(present)} of those sent are there")
    return found


async def _present(ledger: Ledger, record: Record) -> tuple[list[Sample], list[str]]:
    """Return which of the events sent are there, and which of them are there as something else."""
    present, strange = [], []
    for identity, (sample, _) in record.sent.items():
        kept = await ledger.event(*identity)
        if kept is not None:
            present.append(sample)
            if (kept.raw, kept.account, kept.time) != (sample.raw, sample.account, sample.time):
                strange.append(f"event {sample.id} is kept as something else")
    return present, strange


def _missing_and_ghosts(present: Sequence[Sample], record: Record, point: int | None) -> Iterator[str]:
    there = {sample.identity for sample in present}
    due = {identity for identity, at in record.acked.items() if point is None or at <= point}
    early = {identity for identity, (_, at) in record.sent.items() if point is not None and at > point}
    if lost := due - there:
        yield f"{len(lost)} of {len(due)} acknowledged events are lost, among them {sorted(lost)[0]}"
    if ghosts := early & there:
        yield f"{len(ghosts)} events are there that nobody had sent"


async def _wrong_numbers(ledger: Ledger, meter: str, present: Sequence[Sample]) -> list[str]:
    """Compare usage with sums made here, in buckets that begin on days, on quarter hours and off them."""
    start = NOON - 5 * DAY
    days = [start + n * DAY for n in range(7)]
    odd = sorted({start, start + 2 * DAY + 1, start + 3 * DAY + 37_000_001, start + 3 * DAY + 900_000_000, days[-1]})
    queries = [
        UsageQuery(meter, None, np.array(edges, np.int64), group_by)
        for edges in (days, odd)
        for group_by in (("account", "model"), ())
    ]
    tables = await ledger.usage(queries)
    wrong = []
    for query, table in zip(queries, tables, strict=True):
        expected = _expected(query, present)
        found = {(row.bucket, row.labels): row.total for row in table.rows}
        if found != expected:
            wrong.append(f"{meter} by {query.group_by} is {found} instead of {expected}")
    return wrong


def _expected(query: UsageQuery, present: Sequence[Sample]) -> dict[tuple[int, tuple[str | None, ...]], Total]:
    amounts: dict[tuple[int, tuple[str | None, ...]], list[int]] = {}
    for sample in present:
        bucket = sum(edge <= sample.time for edge in query.edges.tolist()) - 1
        labels = tuple({"account": sample.account, "model": sample.model}[name] for name in query.group_by)
        for meter, amount in sample.amounts:
            if meter == query.meter:
                amounts.setdefault((bucket, labels), []).append(amount)
    return {key: Total(len(some), sum(some), min(some), max(some)) for key, some in amounts.items()}


async def resent(ledger: Ledger, record: Record, clock: Callable[[], int]) -> list[str]:
    """Send everything once more, as clients do that are unsure: what is there is a duplicate, the rest is taken."""
    samples = [sample for sample, _ in record.sent.values()]
    there = {sample.identity for sample in (await _present(ledger, record))[0]}
    verdicts = await send(ledger, [sample.raw for sample in samples], clock)
    wrong = [
        sample.id
        for sample, verdict in zip(samples, verdicts, strict=True)
        if (verdict and verdict.status) != (Status.DUPLICATE if sample.identity in there else None)
    ]
    found = [f"{len(wrong)} events sent again got the wrong verdict, first {wrong[0]}"] if wrong else []
    return found + await flaws(ledger, Record(record.sent, dict.fromkeys(record.sent, 0)))


def counted(found: Sequence[str]) -> str:
    """Sum up many flaws for a message."""
    return "\n".join(f"{times} x {flaw[:300]}" for flaw, times in Counter(found).most_common(8))
