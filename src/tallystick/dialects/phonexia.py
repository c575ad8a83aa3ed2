"""phonexia's billing: how much audio a label set may still process in its period, and what was processed ever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Literal, TypedDict

import msgspec
import numpy as np

from tallystick import limits, windows
from tallystick.dialect import STATUSES, Dialect, Report
from tallystick.errors import Problem
from tallystick.model import Labels, Limit, LimitQuery, Property, UsageQuery
from tallystick.query import (
    Answers,
    Decimals,
    LimitRow,
    Number,
    Once,
    Questions,
    Reply,
    Request,
    decimal_number,
    json_text,
)
from tallystick.windows import Period

METER = "audio"
Key = Literal["technology", "vendor", "operation"]
KEYS: tuple[Key, ...] = ("technology", "vendor", "operation")
"""The labels by which a capacity may be told apart, in the order in which they are shown."""
PERIODS = (Period.MONTH, Period.WEEK, Period.DAY, Period.HOUR, Period.MINUTE)
"""The periods that are shown, the longest first."""
PROPERTY: Literal["processed_audio_length"] = "processed_audio_length"


class Label(TypedDict):
    """One label of a label set."""

    key: Key
    value: str


class CurrentPeriod(TypedDict):
    """When consumption began at nothing, and when it does again."""

    period: Literal["month", "week", "day", "hour", "minute"]
    start_time: str
    end_time: str


class Detail(TypedDict):
    """One capacity in seconds, how much of it was consumed, and until when it holds."""

    property: Literal["processed_audio_length"]
    capacity: int
    consumed: Number
    valid_until: str
    is_extended: bool


class Capacity(TypedDict):
    """What a label set may process in a period."""

    labels: list[Label]
    current_period: CurrentPeriod
    has_remaining_capacity: bool
    details: list[Detail]


class Capacities(TypedDict):
    """The vendor's report; a label set without a limit is not in it."""

    items: list[Capacity]


class Consumption(TypedDict):
    """How many seconds of audio were processed."""

    property: Literal["processed_audio_length"]
    consumption: Number


class Consumed(TypedDict):
    """What was processed under a label set."""

    labels: list[Label]
    consumptions: list[Consumption]


class Consumptions(TypedDict):
    """The vendor's report of all time."""

    items: list[Consumed]


class Refusal(TypedDict):
    """What went wrong."""

    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask; there is nothing else to remember."""

    questions: Questions


Values = tuple[str | None, ...]
"""The values of KEYS; None is absent."""


# Capacities


def parse_capacities(request: Request) -> Plan:
    """Ask how the limits of audio stand now."""
    (account,) = request.accounts or ()
    return Plan(Questions(limits=(LimitQuery(account, request.now, METER),)))


def render_capacities(request: Request, plan: Plan, answers: Answers) -> Reply:
    """Write one item per label set and period that has a capacity."""
    scale = request.scale_of(METER)
    shown = [row for row in answers.limits[0] if is_shown(row.limit)]
    exhausted = {values_of(row.limit.where) for row in shown if not row.standing.has_remaining}
    parts: defaultdict[tuple[Values, int, int, int], list[LimitRow]] = defaultdict(list)
    for row in shown:
        if row.standing.is_granted:
            place = PERIODS.index(row.limit.period)
            parts[values_of(row.limit.where), place, row.standing.start, row.standing.end].append(row)
    ordered = sorted(parts, key=lambda part: (_order(part[0]), *part[1:]))
    items = [_capacity(part[0], parts[part], scale, has_remaining=part[0] not in exhausted) for part in ordered]
    document: Capacities = {"items": items}
    return Reply(200, msgspec.json.encode(document))


def is_shown(limit: Limit) -> bool:
    """Say whether a limit is a capacity as the vendor knows them; others refuse all the same."""
    return (
        limit.property is Property.QUANTITY
        and limit.period in PERIODS
        and bool(limit.where)
        and all(name in KEYS for name, _ in limit.where)
        and not limits.is_unlimited(limit)
    )


def _capacity(values: Values, rows: Sequence[LimitRow], scale: int, *, has_remaining: bool) -> Capacity:
    """Write an item; its rows have their period in common."""
    one = rows[0]
    return {
        "labels": _labels(values),
        "current_period": {
            "period": one.limit.period.value,  # type: ignore[typeddict-item]  # is_shown lets these through only
            "start_time": windows.format_instant(one.standing.start),
            "end_time": windows.format_instant(one.standing.end),
        },
        "has_remaining_capacity": has_remaining,
        "details": [_detail(row, scale) for row in rows],
    }


def _detail(row: LimitRow, scale: int) -> Detail:
    standing = row.standing
    until = standing.end if standing.valid_until is None else standing.valid_until
    return {
        "property": PROPERTY,
        "capacity": standing.capacity // 10**scale,
        "consumed": decimal_number(standing.used, scale),
        "valid_until": windows.format_instant(until),
        "is_extended": standing.is_extended,
    }


# Consumptions


def parse_consumptions(request: Request) -> Plan:
    """Ask for all audio that was ever processed."""
    ever = np.array([windows.INSTANT_MIN, windows.INSTANT_MAX], np.int64)
    return Plan(Questions((UsageQuery(METER, request.accounts, ever, KEYS, blank=frozenset(KEYS)),)))


def render_consumptions(request: Request, plan: Plan, answers: Answers) -> Reply:
    """Write one item per label set that has a technology; an empty vendor or operation is none.

    Items are written as text at once, a `Consumed` each: there may be ten thousand.
    """
    seconds = Decimals(request.scale_of(METER))
    technologies, vendors, operations = (Once(partial(_said, key)) for key in KEYS)
    items = [
        f'{{"labels":[{(technologies[technology] + vendors[vendor] + operations[operation])[:-1]}],'
        f'"consumptions":[{{"property":"{PROPERTY}","consumption":{seconds[amount]}}}]}}'
        for (technology, vendor, operation), _, amount in answers.usage[0].amounts
        if technology
    ]
    return Reply(200, f'{{"items":[{",".join(items)}]}}'.encode())


def _said(key: Key, value: str) -> str:
    """Write what a value gives to a list of labels, a `Label` and a comma; an empty one gives nothing."""
    label: Label = {"key": key, "value": value}
    return json_text(label) + "," if value else ""


# What both have in common


def values_of(where: Labels) -> Values:
    """Return what a label set says of each key."""
    said: Mapping[str, str] = dict(where)
    return tuple(said.get(key) for key in KEYS)


def _labels(values: Values) -> list[Label]:
    return [{"key": key, "value": value} for key, value in zip(KEYS, values, strict=True) if value is not None]


def _order(values: Iterable[str | None]) -> tuple[tuple[bool, str], ...]:
    """Order by code points, absent first."""
    return tuple((value is not None, value or "") for value in values)


def problem(problem: Problem) -> Reply:
    """Write a problem in the vendor's shape."""
    status = STATUSES.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    document: Refusal = {"detail": problem.detail}
    return Reply(status.value, msgspec.json.encode(document))


def _reports() -> Iterator[Report[Plan]]:
    yield Report(
        "/api/billing/capacities",
        "Report how much audio each label set may process in its period, and how much of it was, as phonexia does.",
        parse_capacities,
        render_capacities,
        Capacities,
    )
    yield Report(
        "/api/billing/consumptions",
        "Report how much audio was processed under each label set, of all time, as phonexia does.",
        parse_consumptions,
        render_consumptions,
        Consumptions,
    )


DIALECT = Dialect(
    "phonexia",
    paths=("/api",),
    problem=problem,
    statuses=STATUSES,
    refusal=Refusal,
    reports=tuple(_reports()),
    anonymous=True,
)
