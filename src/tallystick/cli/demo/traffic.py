"""The demo's traffic: made-up customers, the work they have done, and the requests that report it, with mishaps.

One day is told with all that happens in it; the others before and behind are what it grew from. Everything follows
from the seed and the clock. Each event says beforehand what must become of it, and the books are added up from the work
itself, never from what is sent, so that a server which reads, counts or sums wrongly cannot agree with them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec

from tallystick.cli.demo.days import LATE_DAYS, Days, grown

SEED = 1
ELSEWHERE = timezone(timedelta(hours=2))
JOBS_MIN = 30
"""How many a customer has on the day that is told, be it a Sunday: enough for all that goes wrong."""
TOGETHER = 500
"""How many events of the other days are sent in one request."""

BATCH = "application/cloudevents-batch+json"
LINES = "application/x-ndjson"
PLAIN = "application/json"
SINGLE = "application/cloudevents+json"

OFFICE = (0, 0, 0, 0, 0, 0, 1, 3, 8, 10, 9, 6, 5, 9, 10, 9, 6, 3, 1, 0, 0, 0, 0, 0)
EVENING = (2, 1, 1, 0, 0, 0, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 6, 8, 10, 11, 11, 9, 6, 3)
ALWAYS = (3, 2, 2, 2, 2, 3, 4, 6, 8, 8, 8, 7, 7, 8, 8, 8, 7, 6, 5, 5, 5, 4, 4, 3)
"""Weights of the hours of a day."""
SATURDAY = 5

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Customer:
    """An account and its habits: how many jobs, when, of which kinds (with weights), and how they are reported.

    `weekend` is how much of a weekday's work is done on a Saturday or a Sunday.
    """

    account: str
    jobs: int
    weekend: float
    hours: Sequence[int]
    kinds: Sequence[tuple[int, Labels]]
    media_type: str
    own_key: bool
    seconds_max: int = 0


def speech(language: str, operating_point: str | None = None, type: str = "transcription", **more: str) -> Labels:
    """Name a kind of speech job; an alignment has no operating point."""
    point = {} if operating_point is None else {"operating_point": operating_point}
    return {"type": type, "language": language, **point, **more}


ALTO = Customer(
    account="alto-media",
    jobs=50,
    weekend=0.6,
    hours=EVENING,
    kinds=(
        (60, speech("en", "enhanced")),
        (20, speech("de", "enhanced")),
        (12, speech("es", "standard")),
        (8, speech("en", type="alignment")),
    ),
    media_type=BATCH,
    own_key=False,
    seconds_max=2400,
)
KESTREL = Customer(
    account="kestrel-clinic",
    jobs=45,
    weekend=0.2,
    hours=OFFICE,
    kinds=(
        (70, speech("en", "enhanced", mode="batch")),
        (25, speech("cy", "standard", mode="batch")),
        (5, speech("en", "standard")),
    ),
    media_type=LINES,
    own_key=True,
    seconds_max=300,
)
NORDLYD = Customer(
    account="nordlyd",
    jobs=40,
    weekend=0.8,
    hours=ALWAYS,
    kinds=(
        (40, speech("da", "standard", mode="realtime")),
        (30, speech("sv", "standard", mode="realtime")),
        (30, speech("nb", "enhanced")),
    ),
    media_type=BATCH,
    own_key=False,
    seconds_max=900,
)
QUILL = Customer(
    account="quill-assist",
    jobs=55,
    weekend=0.5,
    hours=ALWAYS,
    kinds=(
        (50, {"model": "quill-small", "operation": "chat"}),
        (35, {"model": "quill-large", "operation": "chat"}),
        (15, {"model": "quill-embed", "operation": "embed"}),
    ),
    media_type=PLAIN,
    own_key=True,
)
CUSTOMERS = (ALTO, KESTREL, NORDLYD, QUILL)


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work as it was done: speech has milliseconds, a language model's answer has tokens in and out."""

    account: str
    number: int
    at: datetime
    labels: Labels
    millis: int | None = None
    tokens: tuple[int, int] = (0, 0)
    failed: bool = False

    @property
    def id(self) -> str:
        """The name that whoever did the work gave it."""
        return f"{self.account}-{self.number}"


@dataclass(frozen=True, slots=True)
class Item:
    """One event as it is sent, and what must become of it: a receipt's status, its code, the work that it adds."""

    raw: bytes
    status: str
    code: str | None = None
    work: Work | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One request: whose key it shows (None = the operator's), in which form, with which events."""

    sender: str | None
    media_type: str
    items: Sequence[Item]

    @property
    def body(self) -> bytes:
        """The request's body."""
        raws = [item.raw for item in self.items]
        if self.media_type == LINES:
            return b"\n".join(raws) + b"\n"
        return raws[0] if self.media_type == SINGLE else b"[" + b",".join(raws) + b"]"


@dataclass(slots=True)
class Books:
    """What the work adds up to: the numbers that the server has to arrive at by itself.

    `audio` is per (account, day), `jobs` per account and the labels of its batch jobs of days before `today`, `tokens`
    per model and day; each counts events beside what they hold, in milliseconds or tokens.
    """

    today: datetime
    statuses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    postings: int = 0
    audio: dict[tuple[str, datetime], list[int]] = field(default_factory=dict)
    jobs: dict[str, dict[tuple[str | None, ...], list[int]]] = field(default_factory=dict)
    tokens: dict[tuple[str, datetime], list[int]] = field(default_factory=dict)

    def enter(self, item: Item) -> None:
        """Add what must become of one event."""
        self.statuses[item.status] += 1
        if item.code is not None:
            self.codes[item.code] += 1
        if item.work is not None and not item.work.failed:
            self._count(item.work)

    def _count(self, work: Work) -> None:
        midnight = work.at.replace(hour=0, minute=0, second=0, microsecond=0)
        if work.millis is None:
            self.postings += 2
            _add(self.tokens.setdefault((work.labels["model"], midnight), [0, 0, 0]), 1, *work.tokens)
            return
        self.postings += 1
        _add(self.audio.setdefault((work.account, midnight), [0, 0]), 1, work.millis)
        if work.at < self.today and work.labels.get("mode", "batch") == "batch":
            kind = tuple(work.labels.get(label) for label in ("type", "language", "operating_point"))
            _add(self.jobs.setdefault(work.account, {}).setdefault(kind, [0, 0]), 1, work.millis)


def _add(sums: list[int], *amounts: int) -> None:
    for place, amount in enumerate(amounts):
        sums[place] += amount


def books_of(parcels: Sequence[Parcel], days: Days) -> Books:
    """Add up what must become of everything that is sent."""
    books = Books(days.today)
    for parcel in parcels:
        for item in parcel.items:
            books.enter(item)
    return books


def make(days: Days, seed: int = SEED) -> list[Parcel]:
    """Make the requests of all days in the order in which they are sent: a customer's other days, then the one told."""
    rng = random.Random(seed)
    parcels: list[Parcel] = []
    for customer in CUSTOMERS:
        parcels += _quiet(customer, days, rng)
        done = _day_of(customer, days, days.told, rng, least=JOBS_MIN)
        parcels += _reported(customer, done, rng)
        parcels += _mishaps(customer, done, days, rng)
    parcels += _late(days, rng)
    return parcels


# Work


def _day_of(customer: Customer, days: Days, day: datetime, rng: random.Random, *, least: int = 0) -> list[Work]:
    """Do a customer's work of a day, in the order of its ends; what would end behind now is not done yet."""
    share = (customer.weekend if day.weekday() >= SATURDAY else 1) * grown(days, day) * rng.uniform(0.85, 1.15)
    hours = rng.choices(range(24), customer.hours, k=max(least, round(customer.jobs * share)))
    ends = sorted(day + timedelta(hours=hour, milliseconds=rng.randrange(3_600_000)) for hour in hours)
    first = 100_000 * (1 + (day - days.first).days)
    return [_work(customer, first + number, at, rng) for number, at in enumerate(ends) if at < days.now]


def _work(customer: Customer, number: int, at: datetime, rng: random.Random) -> Work:
    weights, kinds = zip(*customer.kinds, strict=True)
    (labels,) = rng.choices(kinds, weights)
    failed = rng.randrange(100) < 3
    if not customer.seconds_max:
        tokens = (rng.randrange(20, 8_000), rng.randrange(1, 900))
        return Work(customer.account, number, at, labels, tokens=tokens, failed=failed)
    # The product of two even chances: most recordings are short, a few are long.
    millis = 400 + customer.seconds_max * rng.randrange(1, 1001) * rng.randrange(1, 1001) // 1000
    return Work(customer.account, number, at, labels, millis=millis, failed=failed)


# Events


_encode = msgspec.json.Encoder(decimal_format="number").encode


def _event(customer: Customer, work: Work) -> dict[str, Any]:
    """Write the event of a piece of work; the operator's key has to name the account, a customer's own does not."""
    event = {
        "specversion": "1.0",
        "id": work.id,
        "source": f"/{work.account}/node-{work.number % 4}",
        "type": "model.request" if work.millis is None else "audio.processed",
        "time": work.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": _data(work),
    }
    return event if customer.own_key else {**event, "account": work.account}


def _data(work: Work) -> dict[str, Any]:
    status = {"status": "failed"} if work.failed else {}
    if work.millis is None:
        return {**work.labels, "input": work.tokens[0], "output": work.tokens[1], **status}
    return {**work.labels, "duration": _duration(work.millis, work.number), **status}


def _duration(millis: int, form: int) -> Decimal | str:
    """Write a duration in one of the three ways that there are: a number, the same as text, or ISO 8601."""
    seconds = Decimal(millis).scaleb(-3)
    minutes, rest = divmod(millis, 60_000)
    return (seconds, str(seconds), f"PT{minutes}M{Decimal(rest).scaleb(-3)}S")[form % 3]


def _reworded(event: Mapping[str, Any]) -> bytes:
    """Say the same otherwise: another order, another zone, a null, and a number with a zero that says nothing."""
    elsewhere = datetime.fromisoformat(event["time"]).astimezone(ELSEWHERE).isoformat()
    data = {name: _padded(value) for name, value in reversed(list(event["data"].items()))}
    return _encode({"subject": None, **dict(reversed(list(event.items()))), "time": elsewhere, "data": data})


def _padded(value: Any) -> Any:
    return value.quantize(Decimal("0.0000")) if isinstance(value, Decimal) else value


def _accepted(customer: Customer, work: Work) -> Item:
    return Item(_encode(_event(customer, work)), "accepted", work=work)


def _again(parcel: Parcel) -> Parcel:
    """Send a request a second time, as a client does that got no answer."""
    return replace(parcel, items=[replace(item, status="duplicate", work=None) for item in parcel.items])


# Requests


def _quiet(customer: Customer, days: Days, rng: random.Random) -> Iterator[Parcel]:
    """Report the work of all days but the one that is told, much of it at once and nothing amiss."""
    items = [_accepted(customer, work) for day in days.quiet() for work in _day_of(customer, days, day, rng)]
    sender = customer.account if customer.own_key else None
    for start in range(0, len(items), TOGETHER):
        yield Parcel(sender, customer.media_type, items[start : start + TOGETHER])


def _reported(customer: Customer, done: Sequence[Work], rng: random.Random) -> Iterator[Parcel]:
    """Report a day's work in requests of an hour or more, some of them twice, and what is urgent one by one."""
    sender = customer.account if customer.own_key else None
    urgent = set(rng.sample(range(len(done)), 12))
    waiting: list[Item] = []
    for place, work in enumerate(done):
        item = _accepted(customer, work)
        if place in urgent:
            yield Parcel(sender, SINGLE, [item])
            continue
        waiting.append(item)
        if place + 1 == len(done) or (len(waiting) >= 20 and done[place + 1].at.hour != work.at.hour):
            parcel = Parcel(sender, customer.media_type, waiting)
            yield parcel
            if rng.randrange(4) == 0:
                yield _again(parcel)
            waiting = []
    if waiting:
        yield Parcel(sender, customer.media_type, waiting)


def _late(days: Days, rng: random.Random) -> Iterator[Parcel]:
    """Report, at the end, work of the days before, in no order: a recorder was offline."""
    for customer in (ALTO, KESTREL):
        works = []
        for number in range(90_001, 90_041):
            at = days.told - timedelta(milliseconds=rng.randrange(LATE_DAYS * 86_400_000))
            works.append(_work(customer, number, at, rng))
        sender = customer.account if customer.own_key else None
        yield Parcel(sender, customer.media_type, [_accepted(customer, work) for work in works])


# Mishaps

BROKEN_SPEECH: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("field_missing", {"id": None}),
    ("field_type", {"source": 7}),
    ("field_value", {"data": {"status": "done"}}),
    ("text_invalid", {"source": "asr-\u202e1"}),
    ("time_format", {"time": "3.3.2026 10:00"}),
    ("time_future", {"time": "2999-01-01T00:00:00Z"}),
    ("quantity_missing", {"data": {"duration": None}}),
    ("quantity_type", {"data": {"duration": "three minutes"}}),
    ("quantity_negative", {"data": {"duration": -3}}),
    ("quantity_range", {"data": {"duration": 10**13}}),
)
BROKEN_TOKENS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("field_missing", {"data": {"model": None}}),
    ("quantity_precision", {"data": {"input": Decimal("1.5")}}),
)
FOREIGN: tuple[tuple[str, Mapping[str, Any]], ...] = (("account_forbidden", {"account": "nordlyd"}),)
"""What makes an event refused: its code, and the members that are changed; a member that is null counts as absent."""


def _mishaps(customer: Customer, done: Sequence[Work], days: Days, rng: random.Random) -> Iterator[Parcel]:
    """Send what goes wrong in a day: repeats in other words, ids used twice, and events that cannot be taken."""
    sender = customer.account if customer.own_key else None
    some = rng.sample([work for work in done if not work.failed], 6)
    noon = days.told + timedelta(hours=12)
    fresh = [_work(customer, number, noon, rng) for number in range(80_001, 80_031)]
    reworded = [Item(_reworded(_event(customer, work)), "duplicate") for work in some[:4]]
    first = _accepted(customer, fresh[0])
    twice = [first, replace(first, status="duplicate", work=None)]
    reused = Item(_encode(_event(customer, _other(some[4]))), "conflict", "id_reused")
    broken = list(_broken(customer, fresh[1:]))
    yield Parcel(sender, customer.media_type, [*reworded, *twice, reused, *(item for item, _ in broken)])
    yield Parcel(sender, SINGLE, [Item(_encode(_event(customer, _other(some[5]))), "conflict", "id_reused")])
    if broken:
        # A refused event claims no identity: put right, it is taken.
        yield Parcel(sender, customer.media_type, [_accepted(customer, work) for _, work in broken])


def _other(work: Work) -> Work:
    if work.millis is None:
        return replace(work, tokens=(work.tokens[0] + 1, work.tokens[1]))
    return replace(work, millis=work.millis + 1)


def _broken(customer: Customer, fresh: Sequence[Work]) -> Iterator[tuple[Item, Work]]:
    kinds = BROKEN_SPEECH if customer.seconds_max else BROKEN_TOKENS
    if customer.own_key:
        kinds = (*kinds, *FOREIGN)
    for (code, change), work in zip(kinds, fresh, strict=False):
        event = _event(customer, replace(work, failed=False))
        for name, value in change.items():
            event[name] = {**event[name], **value} if name == "data" else value
        yield Item(_encode(event), "rejected", code), work
    if customer.media_type == LINES:
        yield Item(_encode(_event(customer, fresh[-1]))[:60], "rejected", "not_json"), fresh[-1]
