"""Seeded traffic: request bodies of CloudEvents, made and written down before anything is timed."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

CONTENT_TYPE = "application/cloudevents-batch+json"
START = 1_748_736_000_000_000
"""2025-06-01T00:00:00Z in microseconds: when the generated traffic begins."""
SECOND = 1_000_000
DAY = 86_400 * SECOND
PIECE_EVENTS = 20_000

SPLIT = msgspec.json.Decoder(list[msgspec.Raw])

LANGUAGES = tuple(a + b for a in "abcdefghij" for b in "nrtsx")
MODES = ("batch", "realtime")
OPERATING_POINTS = ("standard", "enhanced")


@dataclass(frozen=True, slots=True)
class Wide:
    """One more account, with many label sets, and its share of the events."""

    account: str
    label_sets: int
    share: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the traffic looks like; `shuffled_days` > 0 scatters every time over the days before.

    `rich` events have thirteen labels, in which label set n differs from the others as it does without.
    """

    accounts: int = 200
    label_sets: int = 20
    events_per_s: int = 1_000
    late_share: float = 0.05
    late_days: int = 30
    shuffled_days: int = 0
    wide: tuple[Wide, ...] = ()
    rich: bool = False
    seed: int = 1


USUAL = Traffic()
WORST = Traffic(label_sets=100, shuffled_days=3 * 365, seed=2)
RICH = Traffic(rich=True, seed=4)
LONG = Traffic(wide=(Wide("wide-200", 200, 0.01), Wide("wide-10000", 10_000, 0.02)), seed=3)
RICH_LONG = replace(LONG, rich=True, seed=5)


def labels_of(number: int) -> str:
    """Return label set `number` as the members of an event's data; the first 200 have no billing code."""
    mode, point = MODES[number % 2], OPERATING_POINTS[number // 2 % 2]
    language, team = LANGUAGES[number // 4 % 50], number // 200
    billing = f',"billing":"team-{team}"' if team else ""
    return f'"type":"transcription","mode":"{mode}","language":"{language}","operating_point":"{point}"{billing}'


def rich_labels_of(number: int) -> str:
    """Return label set `number` with the labels that it lacks among thirteen."""
    more = f'"technology":"stt","vendor":"vendor-{number % 3}","operation":"transcribe","model":"large-v{number % 5}"'
    return (
        f'{labels_of(number)},{more},"tags":"DG","billing":"team-{number}","license":"site","space":"north","team":"a"'
    )


def instants(traffic: Traffic, first: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the times of events `first` … `first + count` in microseconds, some of them late."""
    if traffic.shuffled_days:
        return START - rng.integers(0, traffic.shuffled_days * DAY, count, dtype=np.int64)
    times = START + (np.arange(first, first + count, dtype=np.int64) * SECOND) // traffic.events_per_s
    late = rng.random(count) < traffic.late_share
    times[late] -= rng.integers(0, traffic.late_days * DAY, int(late.sum()), dtype=np.int64)
    return times


def owners(traffic: Traffic, count: int, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Return the account and the label set's number of each event."""
    accounts = [f"org-{number:03d}" for number in rng.integers(0, traffic.accounts, count).tolist()]
    sets: list[int] = rng.integers(0, traffic.label_sets, count).tolist()
    for wide in traffic.wide:
        chosen = np.flatnonzero(rng.random(count) < wide.share).tolist()
        for place, number in zip(chosen, rng.integers(0, wide.label_sets, len(chosen)).tolist(), strict=True):
            accounts[place], sets[place] = wide.account, number
    return accounts, sets


def uuids(count: int, rng: np.random.Generator) -> list[str]:
    """Return random version 4 UUIDs."""
    octets = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = octets.tobytes().hex()
    texts = (digits[at : at + 32] for at in range(0, 32 * count, 32))
    return [f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" for text in texts]


def piece(traffic: Traffic, first: int, count: int, fragments: Sequence[str]) -> list[bytes]:
    """Return events `first` … `first + count`; the same numbers always give the same events."""
    rng = np.random.default_rng((traffic.seed, first))
    accounts, sets = owners(traffic, count, rng)
    times = np.datetime_as_string(instants(traffic, first, count, rng).view("datetime64[us]")).tolist()
    workers = rng.integers(0, 40, count).tolist()
    milliseconds = rng.integers(500, 900_000, count).tolist()
    columns = zip(uuids(count, rng), accounts, sets, times, workers, milliseconds, strict=True)
    return [
        f'{{"specversion":"1.0","id":"{id}","source":"/worker/{worker:02d}","type":"audio.processed",'
        f'"account":"{account}","time":"{time}Z",'
        f'"data":{{"duration":{ms // 1000}.{ms % 1000:03d},{fragments[number]},"status":"success"}}}}'.encode()
        for id, account, number, time, worker, ms in columns
    ]


def events(traffic: Traffic, count: int, first: int = 0) -> Iterator[bytes]:
    """Yield events, each one JSON object."""
    widest = max([traffic.label_sets, *(wide.label_sets for wide in traffic.wide)])
    fragments = list(map(rich_labels_of if traffic.rich else labels_of, range(widest)))
    for at in range(first, first + count, PIECE_EVENTS):
        yield from piece(traffic, at, min(PIECE_EVENTS, first + count - at), fragments)


def bodies(source: Iterator[bytes], batch_events: int) -> Iterator[bytes]:
    """Yield request bodies of `batch_events` events each."""
    batch: list[bytes] = []
    for event in source:
        batch.append(event)
        if len(batch) == batch_events:
            yield b"[" + b",".join(batch) + b"]"
            batch = []
    if batch:
        yield b"[" + b",".join(batch) + b"]"


def write(path: Path, traffic: Traffic, count: int, batch_events: int) -> Path:
    """Write the bodies to a file, each behind its length."""
    return write_events(path, events(traffic, count), batch_events)


def write_events(path: Path, source: Iterator[bytes], batch_events: int) -> Path:
    """Write events to a file as bodies, each behind its length; on the disk, so that nothing measured waits for it."""
    with path.open("wb") as file:
        for body in bodies(source, batch_events):
            file.write(struct.pack("<I", len(body)) + body)
        file.flush()
        os.fsync(file.fileno())
    return path


def read(path: Path) -> Iterator[bytes]:
    """Yield the bodies of a file one by one."""
    with path.open("rb") as file:
        while head := file.read(4):
            yield file.read(struct.unpack("<I", head)[0])


def sample(path: Path, count: int, total: int) -> list[bytes]:
    """Return `count` random events out of a file of `total`."""
    wanted = set(np.random.default_rng(5).choice(total, min(count, total), replace=False).tolist())
    found, first = [], 0
    for body in read(path):
        events = SPLIT.decode(body)
        found += [bytes(event) for place, event in enumerate(events, first) if place in wanted]
        first += len(events)
    return found
