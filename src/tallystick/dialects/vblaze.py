"""vblaze's /usage family: hours and streams of speech recognition by billing, model, tags and licence, all-time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, TypedDict

import msgspec
import numpy as np

from tallystick import windows
from tallystick.dialect import STATUSES, Dialect, Parameter, Report
from tallystick.errors import Problem
from tallystick.model import UsageQuery, UsageTable
from tallystick.query import Answers, Questions, Reply, Request, decimal_number, invalid
from tallystick.windows import DAY

METER = "audio"
LABELS = ("license", "billing", "model", "tags")
KEYS = ("billing", "model", "tags")
"""The dimensions in which usage is told apart, outermost first."""

REPORTS = ("usage", "usagemodel", "usagetags", "usagebilling", "usagefull", "usageraw", "usagelicense", "usagekeys")
REPORT_OF_KEY = {"billing": "usagebilling", "model": "usagemodel", "tags": "usagetags"}
KEY_OF_REPORT = {"usage": "model", **{report: key for key, report in REPORT_OF_KEY.items()}}
FILTERED = ("model", "tags", "billing", "license")
"""Where the value of a filter is looked for, in this order."""

SCALE = 4
"""Decimals of an hour."""


class Refusal(TypedDict):
    """What went wrong."""

    error: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked: the report, the value that its rows must have (None = any), and the question to the ledger."""

    report: str
    filter: str | None
    questions: Questions


class Row(NamedTuple):
    """What was counted under one set of labels; one that is absent is ""."""

    license: str
    billing: str
    model: str
    tags: str
    streams: int
    amount: int

    def value(self, label: str) -> str:
        """Return the value of a label."""
        value: str = getattr(self, label)
        return value


Leaf = tuple[str, str, str]
"""The values of KEYS."""


@dataclass(slots=True)
class Cell:
    """Hours, as an integer at SCALE, and streams."""

    hours: int = 0
    streams: int = 0

    def add(self, other: Cell) -> None:
        self.hours += other.hours
        self.streams += other.streams

    def shown(self) -> tuple[msgspec.Raw, int]:
        return decimal_number(self.hours, SCALE), self.streams


Leaves = Mapping[Leaf, Cell]


def parse(request: Request, report: str) -> Plan:
    """Read the filter and the days; a Problem when one is no day or they are the wrong way round."""
    filter = request.path.get("filter") or None
    if report == "usage" and filter in REPORT_OF_KEY:
        report, filter = REPORT_OF_KEY[filter], None
    queries = _queries(request)
    return Plan(report, filter, Questions(() if report == "usagekeys" else queries))


def render(request: Request, plan: Plan, answers: Answers) -> Reply:
    """Write the vendor's report."""
    if plan.report == "usagekeys":
        return _reply(KEYS)
    scale = request.scale_of(METER)
    everything = _rows(answers.usage)
    rows = _matching(everything, plan.filter)
    if plan.report == "usagelicense":
        return _reply(_by_license(everything, rows, scale))
    write = _WRITERS.get(plan.report)
    leaves = _leaves(rows, scale)
    return _reply(_by_key(leaves, KEY_OF_REPORT[plan.report]) if write is None else write(leaves))


def problem(problem: Problem) -> Reply:
    """Write a problem in the family's shape."""
    status = STATUSES.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    document: Refusal = {"error": problem.detail}
    return Reply(status.value, msgspec.json.encode(document))


def _reply(document: Any) -> Reply:
    return Reply(200, msgspec.json.encode(document))


# The question


def _queries(request: Request) -> tuple[UsageQuery, ...]:
    since, until = _day(request, "since"), _day(request, "until")
    if since is not None and until is not None and since > until:
        raise invalid("since", "since must not be after until.")
    start = windows.INSTANT_MIN if since is None else max(since, windows.INSTANT_MIN)
    end = windows.INSTANT_MAX if until is None else min(until + DAY, windows.INSTANT_MAX)
    if start >= end:
        return ()
    return (UsageQuery(METER, request.accounts, np.array([start, end], np.int64), LABELS),)


def _day(request: Request, parameter: str) -> int | None:
    text = request.value(parameter)
    if text is None:
        return None
    try:
        return windows.parse_day(text)
    except ValueError as error:
        raise invalid(parameter, f"{parameter} is {error}.") from None


# What was counted


def _rows(tables: Sequence[UsageTable]) -> list[Row]:
    """Return the rows that have a model, be it an empty one: the rest is other vendors' usage."""
    rows = []
    for row in tables[0].rows if tables else ():
        license, billing, model, tags = row.labels
        if model is not None:
            rows.append(Row(license or "", billing or "", model, tags or "", row.total.count, row.total.sum))
    return rows


def _matching(rows: Sequence[Row], filter: str | None) -> Sequence[Row]:
    """Return the rows with this value, in the first dimension that has it."""
    if filter is None:
        return rows
    found = (_having(rows, label, filter) for label in FILTERED)
    return next((some for some in found if some), ())


def _having(rows: Sequence[Row], label: str, value: str) -> Sequence[Row]:
    return [row for row in rows if row.value(label) == value]


def _leaves(rows: Iterable[Row], scale: int) -> Leaves:
    """Sum what has the same billing, model and tags; only then are hours rounded, and all sums are of rounded hours."""
    sums: defaultdict[Leaf, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        total = sums[row.billing, row.model, row.tags]
        total[0] += row.amount
        total[1] += row.streams
    return {leaf: Cell(_hours(amount, scale), streams) for leaf, (amount, streams) in sorted(sums.items())}


def _hours(amount: int, scale: int) -> int:
    """Turn seconds at a scale into hours at SCALE, rounded half up."""
    hour = 3600 * 10**scale
    rounded: int = (2 * amount * 10**SCALE + hour) // (2 * hour)
    return rounded


# The reports


def _by_key(leaves: Leaves, key: str) -> Mapping[str, Any]:
    place, cells, total = KEYS.index(key), defaultdict[str, Cell](Cell), Cell()
    for leaf, cell in leaves.items():
        cells[leaf[place]].add(cell)
        total.add(cell)
    return {**{value: cells[value].shown() for value in sorted(cells)}, "total": total.shown()}


def _full(leaves: Leaves) -> Mapping[str, Any]:
    tree: dict[str, Any] = {}
    for (billing, model, tags), cell in leaves.items():
        tree.setdefault(billing, {}).setdefault(model, {})[tags] = cell
    return _level(tree, 0)[0]


def _level(tree: Mapping[str, Any], depth: int) -> tuple[Mapping[str, Any], Cell]:
    """Return the values of one dimension with what is below each, their total and the dimension's name; and the total.

    What is below a value of the last dimension is a cell.
    """
    document: dict[str, Any] = {}
    total = Cell()
    for value, below in tree.items():
        if isinstance(below, Cell):
            document[value], part = below.shown(), below
        else:
            document[value], part = _level(below, depth + 1)
        total.add(part)
    return {**document, "total": total.shown(), "key": KEYS[depth]}, total


def _raw(leaves: Leaves) -> Mapping[str, Any]:
    return {_raw_key(leaf): cell.shown() for leaf, cell in leaves.items()}


def _raw_key(leaf: Leaf) -> str:
    return ",".join(f"{key}={_escaped(value)}" for key, value in zip(KEYS, leaf, strict=True) if value)


def _escaped(value: str) -> str:
    return value.replace("%", "%25").replace(",", "%2C").replace("=", "%3D")


def _by_license(everything: Sequence[Row], rows: Sequence[Row], scale: int) -> Mapping[str, Any]:
    """Tell licences apart where several are in use, whatever of them the filter leaves."""
    if len({row.license for row in everything}) < 2:
        return _raw(_leaves(rows, scale))
    licenses = sorted({row.license for row in rows})
    return {license: _raw(_leaves(_having(rows, "license", license), scale)) for license in licenses}


_WRITERS: Mapping[str, Callable[[Leaves], Mapping[str, Any]]] = {"usagefull": _full, "usageraw": _raw}


# What is said of them

DAY_SCHEMA = {"type": "string", "format": "date", "pattern": "^[1-9][0-9]{3}-"}
CELL_SCHEMA = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 2,
    "maxItems": 2,
    "description": "Hours, then streams.",
}
CELLS = (
    "Report hours and streams by model, tags or billing, and their total, as vblaze does.",
    {"type": "object", "required": ["total"], "additionalProperties": CELL_SCHEMA},
)
FLAT = (
    "Report hours and streams in one flat list, by licence where there are several, as vblaze does.",
    dict[str, Any],
)
SAID: Mapping[str, tuple[str, Any]] = {
    "usagefull": (
        "Report hours and streams by billing, in it by model, and in it by tags, as vblaze does.",
        dict[str, Any],
    ),
    "usageraw": FLAT,
    "usagelicense": FLAT,
    "usagekeys": (
        "List the keys by which usage is told apart, as vblaze does; nothing behind the path changes the list.",
        list[str],
    ),
}
"""The summary of a report and the kind of its document; CELLS are those of the others."""

QUERY = (
    Parameter("since", "The first UTC day, as YYYY-MM-DD; absent = from the beginning.", DAY_SCHEMA),
    Parameter("until", "The last UTC day; absent = up to now.", DAY_SCHEMA),
)
FILTER = Parameter("filter", "One value, compared exactly: only what has it is counted. A slash may stand in it.")


def _reports(name: str) -> tuple[Report[Plan], Report[Plan]]:
    """Declare a report, alone and with a filter behind it."""
    summary, reply = SAID.get(name, CELLS)
    parsed = partial(parse, report=name)
    return (
        Report(f"/{name}", summary, parsed, render, reply, QUERY),
        Report(f"/{name}/{{filter...}}", summary, parsed, render, reply, QUERY, (FILTER,)),
    )


DIALECT = Dialect(
    "vblaze",
    paths=tuple(f"/{name}" for name in REPORTS),
    problem=problem,
    statuses=STATUSES,
    refusal=Refusal,
    reports=tuple(report for name in REPORTS for report in _reports(name)),
    anonymous=True,
)
