"""The only questions dialects ask, answered together from one moment of the ledger."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from tallystick import limits
from tallystick.errors import Code, Flaw, Problem
from tallystick.ledger.base import Ledger
from tallystick.limits import Balance, Standing
from tallystick.model import (
    Catalog,
    EventPage,
    EventQuery,
    Limit,
    LimitQuery,
    LiveQuery,
    LiveSpace,
    UsageQuery,
    UsageTable,
)

K = TypeVar("K")

EMPTY_PAGES_MAX = 20
"""Some seconds of looking at the most; then the client gets an empty page and a cursor."""

Number = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "number"})]
"""A number of a reply, exact, already written."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a dialect may know of a request: it was authenticated, and `accounts` are those its answer may read.

    `accounts` None = all (the operator's key, no account named). `query` keeps order and repetition, decoded once.
    `now` is the instant of the request. `accept` is the Accept header as sent, "" when absent. `settings` are those
    that the report declares, by name.
    """

    now: int
    catalog: Catalog
    accounts: tuple[str, ...] | None
    query: tuple[tuple[str, str], ...] = ()
    path: Mapping[str, str] = field(default_factory=dict)
    accept: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def scale_of(self, meter: str) -> int:
        """Return the decimals of a meter's amounts; of one that is not there, there are no amounts."""
        found = self.catalog.meters.get(meter)
        return 0 if found is None else found.scale

    def value(self, parameter: str) -> str | None:
        """Return what a query parameter says, None when absent; a Problem when it is empty or given twice."""
        return value_of(self.query, parameter)


@dataclass(frozen=True, slots=True)
class Reply:
    """A rendered answer: bytes, ready to send; `parts` follow them as they are made, and end the answer."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: AsyncGenerator[bytes, None] | None = None


async def run(ledger: Ledger, queries: Sequence[UsageQuery]) -> Sequence[UsageTable]:
    """Answer every query of one report from one read transaction; tables follow the order of `queries`."""
    return await ledger.usage(queries) if queries else ()


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit and how it stands."""

    limit: Limit
    standing: Standing


@dataclass(frozen=True, slots=True)
class LimitPlan:
    """Limits, each with the instant at which it is to stand, and what there is to ask about them.

    `queries` may go among others of one report: what `run` makes of them is what `rows` takes.
    """

    limits: Sequence[tuple[Limit, int]]

    @property
    def queries(self) -> Sequence[UsageQuery]:
        """What has been used of each limit."""
        return [limits.usage_of(limit, at) for limit, at in self.limits]

    def rows(self, tables: Sequence[UsageTable]) -> Sequence[LimitRow]:
        """Say how each limit stands, from the answers to `queries`."""
        rows = []
        for (limit, at), table in zip(self.limits, tables, strict=True):
            balance = Balance(limits.used_of(limit, table.total), table.held)
            rows.append(LimitRow(limit, limits.standing(limit, balance, at)))
        return rows


def limit_plan(catalog: Catalog, query: LimitQuery) -> LimitPlan:
    """Find the limits that are asked about, by id."""
    return LimitPlan([(limit, query.at) for limit in catalog.limits_of(query.account) if query.wants(limit)])


async def standings(ledger: Ledger, plan: LimitPlan) -> Sequence[LimitRow]:
    """Say how limits stand, all of them from one read."""
    return plan.rows(await run(ledger, plan.queries))


@dataclass(frozen=True, slots=True)
class Questions:
    """All that one report asks."""

    usage: Sequence[UsageQuery] = ()
    limits: Sequence[LimitQuery] = ()
    live: Sequence[LiveQuery] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of the questions, each in their order."""

    usage: Sequence[UsageTable] = ()
    limits: Sequence[Sequence[LimitRow]] = ()
    live: Sequence[Sequence[LiveSpace]] = ()


async def answers(ledger: Ledger, catalog: Catalog, questions: Questions) -> Answers:
    """Answer all questions of one report: usage and limits from one read, what exists from one right behind it."""
    plans = [limit_plan(catalog, each) for each in questions.limits]
    asked = [*questions.usage, *(query for plan in plans for query in plan.queries)]
    tables = list(await run(ledger, asked))
    usage, tables = tables[: len(questions.usage)], tables[len(questions.usage) :]
    rows = []
    for plan in plans:
        rows.append(plan.rows(tables[: len(plan.limits)]))
        tables = tables[len(plan.limits) :]
    return Answers(usage, rows, [await ledger.live(each) for each in questions.live])


def value_of(query: Sequence[tuple[str, str]], parameter: str) -> str | None:
    """Return what a query parameter says, None when absent; a Problem when it is empty or given twice."""
    values = [value for name, value in query if name == parameter]
    if len(values) > 1:
        raise invalid(parameter, f"Give {parameter} only once.")
    if values == [""]:
        raise invalid(parameter, f"Give {parameter} a value, or leave it out.")
    return values[0] if values else None


async def page(ledger: Ledger, query: EventQuery) -> EventPage:
    """List events; where nothing was found yet, look some way further before giving up."""
    found = await ledger.events(query)
    for _ in range(EMPTY_PAGES_MAX):
        if found.rows or found.next is None:
            break
        found = await ledger.events(found.next)
    return found


def preferred(accept: str, offered: Sequence[str]) -> str:
    """Return the media type that an Accept header likes best (RFC 9110); the first where it does not care.

    Of types liked alike, one that is named goes before one that a `*` stands for. Where none will do, the first is
    given all the same.
    """
    liked = _liked(accept)
    return max(offered, key=lambda type: _liking(type, liked))


_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def _liked(accept: str) -> Mapping[str, float]:
    """Return how much an Accept header likes each range in it; what cannot be read is passed over."""
    liked = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        if _QUALITY.fullmatch(quality):
            liked[name] = float(quality)
    return liked


def _liking(type: str, liked: Mapping[str, float]) -> tuple[float, int]:
    for exactness, name in ((2, type), (1, type.split("/")[0] + "/*"), (0, "*/*")):
        if name in liked:
            return (liked[name], exactness) if liked[name] else (0, 0)
    return (0, 0)


def invalid(parameter: str, detail: str) -> Problem:
    """Say what is wrong with one query parameter, and what to do."""
    return Problem(Code.PARAMETER_INVALID, detail, (Flaw(parameter, detail),))


class Once(dict[K, str]):
    """Texts made of values, each of them once: reports say the same thousands of times."""

    def __init__(self, make: Callable[[K], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, value: K) -> str:
        """Make a text that was not asked for yet."""
        text = self[value] = self._make(value)
        return text


class Quoted(Once[str | None]):
    """Texts as JSON has them, None as null."""

    def __init__(self) -> None:
        super().__init__(json_text)


class Decimals(Once[int]):
    """Amounts at a scale as `decimal_text` writes them."""

    def __init__(self, scale: int) -> None:
        super().__init__(partial(decimal_text, scale=scale))


def json_text(value: object) -> str:
    """Write a value as JSON."""
    return msgspec.json.encode(value).decode()


def decimal_number(amount: int, scale: int) -> Number:
    """Return what `decimal_text` writes, as a number of a JSON document."""
    return msgspec.Raw(decimal_text(amount, scale).encode())


def decimal_text(amount: int, scale: int) -> str:
    """Write an amount at a scale as plain decimal text: no exponent, no trailing zeros."""
    if not scale:
        return str(amount)
    sign, digits = ("-", str(-amount)) if amount < 0 else ("", str(amount))
    if len(digits) <= scale:
        digits = digits.zfill(scale + 1)
    part = digits[-scale:].rstrip("0")
    return f"{sign}{digits[:-scale]}.{part}" if part else sign + digits[:-scale]
