"""Four more customers of the demo, each of another vendor's kind, and their own sums.

As in traffic.py the sums are added up from the work, never from what is sent.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from tallystick.cli.demo.days import DAYS, ONE, Days, grown
from tallystick.cli.demo.traffic import LINES, OFFICE, SATURDAY, SEED

WEEKEND = 0.3
"""How much of a weekday's work is done on a Saturday or a Sunday."""
CHECKED_WITHIN = timedelta(hours=2)
"""By when after it came an audio is checked, or deleted again."""

RECORDS = "brightline"
"""Recorded calls in vblaze's terms: model, tags, billing."""
VOICES = "verity"
"""Voices checked in hiya's terms: audios and verifications in a space."""
PICTURES = "sightly"
"""Pictures searched in visii's terms: requests of a type in a dataset."""
SPEECH = "voxgate"
"""Speech in phonexia's terms: technology, vendor, operation."""
SPACE = "support"
MULTIPLIERS = {"explore": Decimal(1), "lens": Decimal(3), "similar": Decimal("0.5"), "assistant": Decimal(2)}
HOUR_MS = 3_600_000


@dataclass(slots=True)
class Month:
    """What is sent, and what it adds up to; durations are milliseconds.

    `requests` are those of the calendar month in which the told day is. `millis_billed` and
    `credits_billed` are what counts for the limits of RECORDS and of PICTURES.
    """

    days: Days
    events: list[dict[str, Any]] = field(default_factory=list)
    postings: int = 0
    calls: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    audios: list[int] = field(default_factory=list)
    verifications: list[int] = field(default_factory=list)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    technologies: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    millis_billed: int = 0
    credits_billed: Decimal = Decimal(0)

    def bodies(self, size: int = 400) -> Iterator[tuple[str, bytes]]:
        """Yield requests: a media type and a body of lines."""
        for start in range(0, len(self.events), size):
            yield LINES, b"\n".join(map(msgspec.json.encode, self.events[start : start + size]))

    def by_model(self) -> dict[str, tuple[Decimal, int]]:
        """Return hours and streams as vblaze adds them up: hours are rounded where model, tags and billing are one."""
        sums: dict[str, tuple[Decimal, int]] = {}
        for (model, _, _), (streams, millis) in self.calls.items():
            hours, count = sums.get(model, (Decimal(0), 0))
            rounded = (Decimal(millis) / HOUR_MS).quantize(Decimal("0.0001"), ROUND_HALF_UP)
            sums[model] = (hours + rounded, count + streams)
        return dict(sorted(sums.items()))

    def credits(self) -> Decimal:
        """Return what the requests of that calendar month cost."""
        return sum((MULTIPLIERS[type] * count for (_, type), count in self.requests.items()), Decimal(0))


def make(days: Days, seed: int = SEED) -> Month:
    """Make the events of all days, in no order of time: recorders come online when they do."""
    rng, month = random.Random(f"month {seed}"), Month(days)
    times = _times(days, rng)
    for number in range(520):
        _call(month, rng, next(times), number)
        _speech(month, rng, next(times), number)
    for number in range(840):
        _picture(month, rng, next(times), number)
    for number in range(40):
        _voice(month, rng, next(at for at in times if at + CHECKED_WITHIN < days.now), number)
    rng.shuffle(month.events)
    return month


def _times(days: Days, rng: random.Random) -> Iterator[datetime]:
    """Yield instants up to now: more of them of late, on weekdays and at office hours."""
    all_days = [days.first + number * ONE for number in range(DAYS)]
    weights = [grown(days, day) * (WEEKEND if day.weekday() >= SATURDAY else 1) for day in all_days]
    while True:
        (day,), (hour,) = rng.choices(all_days, weights), rng.choices(range(24), OFFICE)
        at = day + timedelta(hours=hour, milliseconds=rng.randrange(HOUR_MS))
        if at < days.now:
            yield at


def _event(account: str, id: str, type: str, at: datetime, data: Mapping[str, Any], **more: str) -> dict[str, Any]:
    time = at.isoformat().replace("+00:00", "Z")
    return {
        "id": id,
        "source": f"{account}-worker",
        "type": type,
        "account": account,
        "time": time,
        **more,
        "data": data,
    }


def _seconds(millis: int) -> str:
    return f"{millis // 1000}.{millis % 1000:03}"


def _add(sums: dict[Any, list[int]], key: Any, millis: int) -> None:
    cell = sums.setdefault(key, [0, 0])
    cell[0] += 1
    cell[1] += millis


def _call(month: Month, rng: random.Random, at: datetime, number: int) -> None:
    model = rng.choice(("eng-us:callcenter", "eng-us:callcenter", "spa-co:callcenter", "deu:broadcast"))
    tags, billing, millis = (
        rng.choice(("", "DG", "*")),
        rng.choice(("", "sales", "care")),
        rng.randrange(5_000, 1_800_000),
    )
    data = {"duration": _seconds(millis), "model": model, "tags": tags or None, "billing": billing or None}
    month.events.append(_event(RECORDS, f"call-{number}", "audio.processed", at, data))
    month.postings += 1
    _add(month.calls, (model, tags, billing), millis)
    if at >= month.days.billed:
        month.millis_billed += millis


def _speech(month: Month, rng: random.Random, at: datetime, number: int) -> None:
    technology, vendor = rng.choice(
        (("speech_to_text", "whisper"), ("speech_to_text", "phonexia"), ("speaker_identification", "phonexia"))
    )
    millis = rng.randrange(2_000, 400_000)
    data = {"duration": f"PT{_seconds(millis)}S", "technology": technology, "vendor": vendor, "operation": "process"}
    month.events.append(_event(SPEECH, f"job-{number}", "audio.processed", at, data))
    month.postings += 1
    _add(month.technologies, (technology, vendor), millis)


def _picture(month: Month, rng: random.Random, at: datetime, number: int) -> None:
    type, dataset = rng.choice(tuple(MULTIPLIERS)), rng.choice(("shoes", "shoes", "lamps"))
    data = {"type": type, "dataset": dataset}
    month.events.append(_event(PICTURES, f"search-{number}", "vision.request", at, data))
    month.postings += 2
    if at >= month.days.told.replace(day=1) and at.month == month.days.told.month:
        month.requests[dataset, type] += 1
    if at >= month.days.billed:
        month.credits_billed += MULTIPLIERS[type]


def _voice(month: Month, rng: random.Random, at: datetime, number: int) -> None:
    """Add an audio, most of them with a verification of it; every tenth is deleted again, and counts all the same."""
    millis = rng.randrange(2_000, 60_000)
    seconds = _seconds(millis)
    audio = {"kind": "audio", "id": f"call-{number}", "duration": seconds}
    month.events.append(_event(VOICES, f"audio-{number}", "resource.upserted", at, audio, space=SPACE))
    if number % 10:
        month.audios.append(millis)
    else:
        gone = at + timedelta(hours=1)
        deleted = {"kind": "audio", "id": f"call-{number}"}
        month.events.append(_event(VOICES, f"gone-{number}", "resource.deleted", gone, deleted, space=SPACE))
    if number % 4:
        checked = {"kind": "verification", "id": f"check-{number}", "type": "authenticity", "state": "performed"}
        more = {**checked, "parent": audio["id"], "duration": seconds, "model": "default/v1", "actor": "ada"}
        later = at + timedelta(seconds=5)
        month.events.append(_event(VOICES, f"check-{number}", "resource.upserted", later, more, space=SPACE))
        month.postings += 1
        month.verifications.append(millis)
