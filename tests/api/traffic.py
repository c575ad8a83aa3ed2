"""Traffic of a made-up fleet and questions about it, from a seed: as much as is asked for, the same every time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tallystick import windows
from tallystick.catalog import builtin
from tallystick.windows import DAY, HOUR, SECOND
from tests.api.client import NOON

Event = dict[str, Any]
Question = tuple[str, str, str]
"""Its kind, its target, and the account whose key asks it (or `operator`)."""

ACCOUNTS = tuple(f"org-{number:02}" for number in range(24))
BUSY = ACCOUNTS[:4]
"""Whose events half of all are."""
PROFILES = 150
SPACES = ("shop", "lab", "depot")
LANGUAGES = ("en", "cs", "de", "", "pt-br", "č/%,=")
MODELS = ("m", "n", "", "eng-us:callcenter")
ZONES = ("UTC", "Europe/Prague", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
LABELS = {name: [label for label, _ in meter.labels] for name, meter in builtin().meters.items()}
VALUES = ("", "a", "b", "en", "cs", "m", "n", "shop", "lab", "lens", "explore", "identity", "GR", "batch")
FIRST, LAST = NOON - 75 * DAY, NOON
MARKS = tuple(
    windows.parse_instant(text)
    for text in (
        "2026-08-31T23:59:59.999999Z",
        "2026-09-01T00:00:00Z",
        "2026-10-25T00:59:59.999999Z",
        "2026-10-25T01:00:00Z",
        "2026-10-31T23:59:59.999999Z",
        "2026-11-01T00:00:00Z",
        "2026-11-01T06:00:00Z",
    )
)
"""Ends of months, and of summer time in Prague and in New York."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the workers of a fleet say of their work: each kind of worker always the same."""

    audio: Sequence[Event]


def events(seed: int, count: int) -> Iterator[Event]:
    """Make events; one in fifty was made before, and half of those have changed since."""
    rng = random.Random(seed)
    fleet = Fleet([_labels(rng) for _ in range(PROFILES)])
    made: list[Event] = []
    for number in range(count):
        if made and rng.random() < 0.02:
            again = rng.choice(made)
            yield {**again, "subject": "changed"} if rng.random() < 0.5 else again
            continue
        event = _event(rng, fleet, number)
        if len(made) < 5_000:
            made.append(event)
        yield event


def _event(rng: random.Random, fleet: Fleet, number: int) -> Event:
    kind = rng.choices((_audio, _vision, _tokens, _upsert, _deletion), (55, 15, 15, 14, 1))[0]
    time = rng.choice(MARKS) if rng.random() < 0.02 else rng.randrange(FIRST, LAST)
    account = rng.choice(BUSY if rng.random() < 0.5 else ACCOUNTS)
    event = {"id": f"e{number}", "source": rng.choice(("a", "a/b")), "account": account}
    stamp = {} if rng.random() < 0.02 else {"time": windows.format_instant(time)}
    return {**event, **stamp, **kind(rng, fleet, number)}


def _audio(rng: random.Random, fleet: Fleet, number: int) -> Event:
    duration = rng.choice((f"{rng.randrange(10**10) / 10**6:f}", rng.randrange(5_000), "PT1M1.5S"))
    return {"type": "audio.processed", **_space(rng), "data": {"duration": duration, **rng.choice(fleet.audio)}}


def _labels(rng: random.Random) -> Event:
    said = (
        ("technology", ("speech_to_text", "language_identification")),
        ("vendor", ("phonexia", "whisper")),
        ("operation", ("transcribe", "identify")),
        ("mode", ("batch", "realtime", "")),
        ("type", ("transcription", "alignment")),
        ("model", MODELS),
        ("language", LANGUAGES),
        ("operating_point", ("standard", "enhanced")),
        ("tags", ("", "G", "GR", "*D", "D*")),
        ("billing", ("", "unit-1", "unit,2")),
        ("license", ("", "l1")),
        ("status", ("success", "success", "failed")),
    )
    return {name: rng.choice(values) for name, values in said if rng.random() < 0.7}


def _vision(rng: random.Random, fleet: Fleet, number: int) -> Event:
    kind = rng.choice(("explore", "lens", "similar", "track"))
    return {"type": "vision.request", "data": {"type": kind, "dataset": rng.choice(SPACES)}}


def _tokens(rng: random.Random, fleet: Fleet, number: int) -> Event:
    data = {"model": rng.choice(MODELS), "input": rng.randrange(10_000), "output": rng.randrange(3_000)}
    return {"type": "model.request", "data": data}


def _upsert(rng: random.Random, fleet: Fleet, number: int) -> Event:
    about: tuple[Event, ...] = (
        {"kind": "image", "url": f"https://example.org/{rng.randrange(9)}.jpg"},
        {"kind": "audio", "duration": "7.5"},
        {"kind": "verification", "type": rng.choice(("identity", "message")), "state": "performed", "duration": "1.5"},
        {"kind": "voiceprint", "state": "computed", "duration": "2"},
    )
    data = {"id": f"r{rng.randrange(max(number // 3, 1))}", **rng.choice(about)}
    return {"type": "resource.upserted", "space": rng.choice(SPACES), "data": data}


def _deletion(rng: random.Random, fleet: Fleet, number: int) -> Event:
    if rng.random() < 0.1:
        space = rng.choice(SPACES)
        return {"type": "resource.deleted", "space": space, "data": {"kind": "space", "id": space}}
    data = {"kind": "image", "id": f"r{rng.randrange(max(number // 3, 1))}"}
    return {"type": "resource.deleted", "space": rng.choice(SPACES), "data": data}


def _space(rng: random.Random) -> Event:
    return {"space": rng.choice(SPACES)} if rng.random() < 0.4 else {}


# Questions


def questions(seed: int, count: int) -> Iterator[Question]:
    """Make questions."""
    rng = random.Random(seed)
    kinds = (native, hiya, phonexia, vblaze, speechmatics, visii)
    for _ in range(count):
        kind = rng.choices(kinds, (50, 10, 10, 10, 10, 10))[0]
        account = rng.choice(BUSY if rng.random() < 0.2 else ACCOUNTS)
        target = kind(rng, account)
        yield kind.__name__, target, "operator" if kind is native and rng.random() < 0.3 else account


def native(rng: random.Random, account: str) -> str:
    """Ask for usage: any meter, bounds, window, zone, grouping, filter and aggregation."""
    meter = rng.choice((*LABELS, "audio", "audio"))
    window = rng.choice(("minute15", "hour", "day", "day", "week", "month", "year", "total"))
    asked = [("meter", meter), ("window", window), *(_bounds(rng, window))]
    if rng.random() < 0.7:
        asked.append(("tz", rng.choice(ZONES)))
    if rng.random() < 0.7:
        asked.append(("group_by", ",".join(rng.sample(LABELS[meter], rng.randint(1, min(3, len(LABELS[meter])))))))
    for label in rng.sample(LABELS[meter], rng.choice((0, 0, 1, 1, 2)) if len(LABELS[meter]) > 1 else 0):
        asked += [(f"filter[{label}]", rng.choice(VALUES)) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.3:
        asked.append(("aggregation", rng.choice(("sum", "count", "min", "max", "avg", "latest", "unique"))))
    if rng.random() < 0.15:
        asked.append(("limit", str(rng.randint(1, 20))))
    return "/v1/usage?" + "&".join(f"{name}={quote(value, safe=',')}" for name, value in asked)


def _bounds(rng: random.Random, window: str) -> list[tuple[str, str]]:
    if window == "total" and rng.random() < 0.3:
        return []
    longest = {"minute15": DAY, "hour": 3 * DAY}.get(window, 80 * DAY)
    start = rng.choice(MARKS) if rng.random() < 0.2 else rng.randrange(FIRST - DAY, LAST)
    if rng.random() < 0.6:
        start = start // HOUR * HOUR
    end = start + rng.choice((rng.randrange(1, longest), longest, HOUR, HOUR // 9, 1, 37 * SECOND))
    return [("from", windows.format_instant(start)), ("to", windows.format_instant(end))]


def hiya(rng: random.Random, account: str) -> str:
    """Ask for what is in a space, and for records of what was done."""
    kind, page = rng.choice(("verification", "voiceprint")), rng.randint(1, 4)
    return rng.choice(
        (
            f"/spaces/{account}/{rng.choice(SPACES)}/stats",
            f"/v1/spaces/{account}/{rng.choice(SPACES)}/stats",
            f"/orgs/{account}/records/{kind}?page={page}&page-size={rng.choice((1, 20, 50))}",
            f"/orgs/{account}/records/{kind}?after={_day(rng)}T00:00:00Z&page-size=50",
            f"/orgs/{account}/spaces",
        )
    )


def phonexia(rng: random.Random, account: str) -> str:
    """Ask what is left, and what was used in all."""
    return rng.choice(("/api/billing/capacities", "/api/billing/consumptions"))


def vblaze(rng: random.Random, account: str) -> str:
    """Ask for one of the family's reports, of some days or of all, of everything or of one value."""
    names = ("", "model", "tags", "keys", "full", "license", "raw", "billing")
    filter = rng.choice(("", "", "/GR", "/m", "/unit%2C2", "/en", "/none", "/tags", "/eng-us:callcenter"))
    return f"/usage{rng.choice(names)}{filter}{_days(rng)}"


def speechmatics(rng: random.Random, account: str) -> str:
    """Ask for jobs of some days."""
    return f"/v2/usage{_days(rng)}"


def visii(rng: random.Random, account: str) -> str:
    """Ask for a month."""
    return f"/orgs/{account}/usage" + rng.choice(
        ("", f"?month={rng.randint(8, 11)}", "?month=10&year=2026", "?month=13")
    )


def _days(rng: random.Random) -> str:
    given: Sequence[str] = rng.sample(("since", "until"), rng.randint(0, 2))
    return "?" + "&".join(f"{name}={_day(rng)}" for name in given) if given else ""


def _day(rng: random.Random) -> str:
    return windows.format_day(rng.randrange(FIRST, LAST) // DAY * DAY)
