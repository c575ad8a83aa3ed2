"""vblaze's /usage family: hours and streams of speech recognition by billing, model, tags and licence, all-time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from itertools import groupby
from operator import itemgetter
from typing import Any, TypedDict

import msgspec
import numpy as np

from tallystick import windows
from tallystick.dialect import STATUSES, Dialect, Parameter, Report
from tallystick.errors import Problem
from tallystick.model import UsageQuery, UsageTable
from tallystick.query import Answers, Questions, Quoted, Reply, Request, decimal_text, invalid
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


Row = tuple[str, str, str, str, int, int]
"""What was counted under one set of LABELS, "" where one is absent: their values, streams, and the amount."""

Leaf = tuple[str, str, str, int, int]
"""What was counted under one set of KEYS: their values, hours as an integer at SCALE, and streams."""


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
        return Reply(200, msgspec.json.encode(KEYS))
    scale = request.scale_of(METER)
    everything = _rows(answers.usage)
    rows = _matching(everything, plan.filter)
    if plan.report == "usagelicense":
        return Reply(200, _by_license(everything, rows, scale).encode())
    write = _WRITERS.get(plan.report)
    leaves = _leaves(rows, scale)
    return Reply(200, (_by_key(leaves, KEY_OF_REPORT[plan.report]) if write is None else write(leaves)).encode())


def problem(problem: Problem) -> Reply:
    """Write a problem in the family's shape."""
    status = STATUSES.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    document: Refusal = {"error": problem.detail}
    return Reply(status.value, msgspec.json.encode(document))


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
    labelled = [(row.labels, row.total) for row in (tables[0].rows if tables else ())]
    return [
        (license or "", billing or "", model, tags or "", total.count, total.sum)
        for (license, billing, model, tags), total in labelled
        if model is not None
    ]


def _matching(rows: Sequence[Row], filter: str | None) -> Sequence[Row]:
    """Return the rows with this value, in the first dimension that has it."""
    if filter is None:
        return rows
    found = (_having(rows, label, filter) for label in FILTERED)
    return next((some for some in found if some), ())


def _having(rows: Sequence[Row], label: str, value: str) -> Sequence[Row]:
    place = LABELS.index(label)
    return [row for row in rows if row[place] == value]


def _leaves(rows: Iterable[Row], scale: int) -> list[Leaf]:
    """Sum what has the same billing, model and tags; only then are hours rounded, and all sums are of rounded hours."""
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for _, billing, model, tags, streams, amount in rows:
        keys = billing, model, tags
        if keys in sums:
            before = sums[keys]
            sums[keys] = before[0] + streams, before[1] + amount
        else:
            sums[keys] = streams, amount
    unit, hour = 2 * 10**SCALE, 3600 * 10**scale
    # Rounded half up.
    return [(*keys, (unit * amount + hour) // (2 * hour), streams) for keys, (streams, amount) in sorted(sums.items())]


# The reports, written as text at once: there may be ten thousand leaves


def _cell(hours: int, streams: int) -> str:
    return f"[{decimal_text(hours, SCALE)},{streams}]"


def _by_key(leaves: Sequence[Leaf], key: str) -> str:
    place = KEYS.index(key)
    cells: dict[str, tuple[int, int]] = {}
    for leaf in leaves:
        value = (leaf[0], leaf[1], leaf[2])[place]
        hours, streams = cells.get(value, (0, 0))
        cells[value] = hours + leaf[3], streams + leaf[4]
    quoted = Quoted()
    members = [f"{quoted[value]}:{_cell(*cells[value])}," for value in sorted(cells)]
    total = _cell(sum([leaf[3] for leaf in leaves]), sum([leaf[4] for leaf in leaves]))
    return f'{{{"".join(members)}"total":{total}}}'


def _full(leaves: Sequence[Leaf]) -> str:
    return _level(leaves, 0, Quoted())[0]


def _level(leaves: Iterable[Leaf], depth: int, quoted: Quoted) -> tuple[str, int, int]:
    """Write the values of one dimension with what is below each, their total and the dimension's name.

    What is below a value of the last dimension is a cell. Returns the hours and streams of the total too.
    """
    members: list[str] = []
    total_hours = total_streams = 0
    if depth == len(KEYS) - 1:
        for _, _, tags, hours, streams in leaves:
            members.append(f"{quoted[tags]}:{_cell(hours, streams)},")
            total_hours += hours
            total_streams += streams
    else:
        for value, below in groupby(leaves, key=itemgetter(depth)):
            text, hours, streams = _level(below, depth + 1, quoted)
            members.append(f"{quoted[value]}:{text},")
            total_hours += hours
            total_streams += streams
    members.append(f'"total":{_cell(total_hours, total_streams)},"key":"{KEYS[depth]}"')
    return f"{{{''.join(members)}}}", total_hours, total_streams


def _raw(leaves: Sequence[Leaf]) -> str:
    billings, models, all_tags = map(_Part, KEYS)
    members = []
    for billing, model, tags, hours, streams in leaves:
        parts = ",".join(filter(None, (billings[billing], models[model], all_tags[tags])))
        members.append(f'"{parts}":{_cell(hours, streams)}')
    return f"{{{','.join(members)}}}"


class _Part(dict[str, str]):
    """What the values of a key give to a raw key, as it stands within a text of JSON; an empty one gives nothing."""

    def __init__(self, key: str) -> None:
        super().__init__({"": ""})
        self._key = key

    def __missing__(self, value: str) -> str:
        escaped = value.replace("%", "%25").replace(",", "%2C").replace("=", "%3D")
        part = self[value] = msgspec.json.encode(f"{self._key}={escaped}").decode()[1:-1]
        return part


def _by_license(everything: Sequence[Row], rows: Sequence[Row], scale: int) -> str:
    """Tell licences apart where several are in use, whatever of them the filter leaves."""
    if len({row[0] for row in everything}) < 2:
        return _raw(_leaves(rows, scale))
    of: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of[row[0]].append(row)
    quoted = Quoted()
    return f"{{{','.join(f'{quoted[license]}:{_raw(_leaves(of[license], scale))}' for license in sorted(of))}}}"


_WRITERS: Mapping[str, Callable[[Sequence[Leaf]], str]] = {"usagefull": _full, "usageraw": _raw}


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
