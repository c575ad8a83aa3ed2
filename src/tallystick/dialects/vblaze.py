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
from tallystick.query import Answers, Decimals, Once, Questions, Quoted, Reply, Request, invalid, json_text
from tallystick.windows import DAY

METER = "audio"
KEYS = ("billing", "model", "tags")
"""The dimensions in which usage is told apart, outermost first."""
LABELS = (*KEYS, "license")
BLANK = frozenset(LABELS) - {"model"}
"""An empty model is one, and without it the usage is another vendor's."""

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


Row = tuple[tuple[str, ...], int, int]
"""What was counted under one set of LABELS, or of KEYS alone: their values, streams, and the amount."""

Leaf = tuple[str, str, str, int, int]
"""What was counted under one set of KEYS: their values, hours as an integer at SCALE, and streams."""


def parse(request: Request, report: str) -> Plan:
    """Read the filter and the days; a Problem when one is no day or they are the wrong way round."""
    filter = request.path.get("filter") or None
    if report == "usage" and filter in REPORT_OF_KEY:
        report, filter = REPORT_OF_KEY[filter], None
    queries = _queries(request, KEYS if filter is None and report != "usagelicense" else LABELS)
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


def _queries(request: Request, labels: tuple[str, ...]) -> tuple[UsageQuery, ...]:
    since, until = _day(request, "since"), _day(request, "until")
    if since is not None and until is not None and since > until:
        raise invalid("since", "since must not be after until.")
    start = windows.INSTANT_MIN if since is None else max(since, windows.INSTANT_MIN)
    end = windows.INSTANT_MAX if until is None else min(until + DAY, windows.INSTANT_MAX)
    if start >= end:
        return ()
    return (UsageQuery(METER, request.accounts, np.array([start, end], np.int64), labels, blank=BLANK),)


def _day(request: Request, parameter: str) -> int | None:
    text = request.value(parameter)
    if text is None:
        return None
    try:
        return windows.parse_day(text)
    except ValueError as error:
        raise invalid(parameter, f"{parameter} is {error}.") from None


# What was counted


def _rows(tables: Sequence[UsageTable]) -> Sequence[Row]:
    """Return the rows that have a model, be it an empty one: the rest is other vendors' usage."""
    place = KEYS.index("model")
    return [row for row in (tables[0].amounts if tables else ()) if row[0][place] is not None]


def _matching(rows: Sequence[Row], filter: str | None) -> Sequence[Row]:
    """Return the rows with this value, in the first dimension that has it."""
    if filter is None:
        return rows
    found = (_having(rows, label, filter) for label in FILTERED)
    return next((some for some in found if some), ())


def _having(rows: Sequence[Row], label: str, value: str) -> Sequence[Row]:
    place = LABELS.index(label)
    return [row for row in rows if row[0][place] == value]


def _leaves(rows: Iterable[Row], scale: int) -> list[Leaf]:
    """Sum what has the same billing, model and tags; only then are hours rounded, and all sums are of rounded hours.

    Rows come in order of their labels, and so do leaves.
    """
    sums: dict[tuple[str, ...], tuple[int, int]] = {}
    for labels, streams, amount in rows:
        keys = labels[: len(KEYS)]
        before = sums.get(keys)
        sums[keys] = (streams, amount) if before is None else (before[0] + streams, before[1] + amount)
    unit, hour = 2 * 10**SCALE, 3600 * 10**scale
    # Rounded half up.
    return [
        (billing, model, tags, (unit * amount + hour) // (2 * hour), streams)
        for (billing, model, tags), (streams, amount) in sums.items()
    ]


# The reports, written as text at once: there may be ten thousand leaves


def _by_key(leaves: Sequence[Leaf], key: str) -> str:
    place = KEYS.index(key)
    cells: dict[str, tuple[int, int]] = {}
    for leaf in leaves:
        value = (leaf[0], leaf[1], leaf[2])[place]
        hours, streams = cells.get(value, (0, 0))
        cells[value] = hours + leaf[3], streams + leaf[4]
    quoted, hours_of = Quoted(), Decimals(SCALE)
    members = [f"{quoted[value]}:[{hours_of[cells[value][0]]},{cells[value][1]}]," for value in sorted(cells)]
    total_hours, total_streams = sum([leaf[3] for leaf in leaves]), sum([leaf[4] for leaf in leaves])
    return f'{{{"".join(members)}"total":[{hours_of[total_hours]},{total_streams}]}}'


def _full(leaves: Sequence[Leaf]) -> str:
    """Write tags below their models below their billings; each of the three has its total and its name."""
    quoted, hours_of = Quoted(), Decimals(SCALE)
    parts: list[str] = []
    # Hours and streams so far: of everything, of the billing and of the model.
    all_hours = all_streams = 0
    for billing, of_billing in groupby(leaves, key=itemgetter(0)):
        parts.append(f"{quoted[billing]}:{{")
        billing_hours = billing_streams = 0
        for model, of_model in groupby(of_billing, key=itemgetter(1)):
            parts.append(f"{quoted[model]}:{{")
            model_hours = model_streams = 0
            for _, _, tags, hours, streams in of_model:
                parts.append(f"{quoted[tags]}:[{hours_of[hours]},{streams}],")
                model_hours += hours
                model_streams += streams
            parts.append(f'"total":[{hours_of[model_hours]},{model_streams}],"key":"tags"}},')
            billing_hours += model_hours
            billing_streams += model_streams
        parts.append(f'"total":[{hours_of[billing_hours]},{billing_streams}],"key":"model"}},')
        all_hours += billing_hours
        all_streams += billing_streams
    return f'{{{"".join(parts)}"total":[{hours_of[all_hours]},{all_streams}],"key":"billing"}}'


def _raw(leaves: Sequence[Leaf]) -> str:
    billings, models, all_tags = (Once(partial(_part, key)) for key in KEYS)
    hours_of = Decimals(SCALE)
    members = [
        f'"{(billings[billing] + models[model] + all_tags[tags])[:-1]}":[{hours_of[hours]},{streams}]'
        for billing, model, tags, hours, streams in leaves
    ]
    return f"{{{','.join(members)}}}"


def _part(key: str, value: str) -> str:
    """Write what a value gives to a raw key, as it stands within a text of JSON, and a comma; nothing if empty."""
    if not value:
        return ""
    escaped = value.replace("%", "%25").replace(",", "%2C").replace("=", "%3D")
    return f"{json_text(f'{key}={escaped}')[1:-1]},"


def _by_license(everything: Sequence[Row], rows: Sequence[Row], scale: int) -> str:
    """Tell licences apart where several are in use, whatever of them the filter leaves."""
    if len({labels[-1] for labels, _, _ in everything}) < 2:
        return _raw(_leaves(rows, scale))
    of: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of[row[0][-1]].append(row)
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
