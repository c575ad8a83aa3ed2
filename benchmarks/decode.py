"""(a) Decoding only: what nobody who reads these events in Python can go below."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import traffic


class Envelope(msgspec.Struct):
    """A CloudEvent as it arrives: attributes typed, the payload a dict with exact numbers."""

    id: str
    source: str
    type: str
    specversion: str
    time: str | None = None
    subject: str | None = None
    account: str | None = None
    data: dict[str, Any] | None = None


DECODER = msgspec.json.Decoder(list[Envelope], float_hook=Decimal)


def events_per_s(path: Path) -> float:
    """Decode every body of a file, read beforehand, once and return the rate."""
    bodies = list(traffic.read(path))
    started = time.perf_counter()
    count = sum(len(DECODER.decode(body)) for body in bodies)
    return count / (time.perf_counter() - started)
