"""Speechmatics' batch usage, GET /v2/usage: jobs and hours per type, language and operating point, in UTC days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from operator import itemgetter
from typing import NotRequired, TypedDict

import msgspec
import numpy as np

from tallystick import windows
from tallystick.dialect import STATUSES, Dialect, Parameter, Report
from tallystick.errors import Problem
from tallystick.model import UsageQuery, UsageTable
from tallystick.query import Answers, Number, Once, Questions, Reply, Request, decimal_text, invalid, json_text
from tallystick.windows import DAY

METER = "audio"
MODE = "batch"
LABELS = ("type", "language", "operating_point")
DAY_MIN = 0
"""1970-01-01, where the report's calendar begins: no earlier day can be asked for, and none is counted."""


class UsageEntry(TypedDict):
    """Jobs of one mode and type, in `details` of one language and operating point."""

    mode: str
    type: str
    language: NotRequired[str]
    operating_point: NotRequired[str]
    count: int
    duration_hrs: Number


class UsageReport(TypedDict):
    """The vendor's report; without jobs both lists are null."""

    since: str
    until: str
    summary: list[UsageEntry] | None
    details: list[UsageEntry] | None


class Refusal(TypedDict):
    """The vendor's shape of what went wrong."""

    code: int
    error: str
    detail: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked: the first day if one was given, the last day that counts, and the questions to the ledger.

    Days are their first instants. Without a day between the two there is nothing to ask.
    """

    since: int | None
    until: int
    questions: Questions


Line = tuple[int, str, str, str, int]
"""One line of the report: count, type, language, operating point and amount; a label that jobs do not have is ""."""


def parse(request: Request) -> Plan:
    """Read `since` and `until`; a Problem when one is no day or they are the wrong way round."""
    since = _day(request, "since")
    until = _day(request, "until")
    if since is not None and until is not None and since > until:
        raise invalid("since", "since must not be after until.")
    # The vendor never reports the day that is not over.
    yesterday = request.now // DAY * DAY - DAY
    last = yesterday if until is None else min(until, yesterday)
    return Plan(since, last, Questions(_queries(request, DAY_MIN if since is None else since, last)))


def render(request: Request, plan: Plan, answers: Answers) -> Reply:
    """Write the vendor's report, null where it is empty.

    Its lines are written as text at once, a `UsageEntry` each: there may be ten thousand.
    """
    details = _details(answers.usage)
    since, until = windows.format_day(_since(plan, answers.usage)), windows.format_day(plan.until)
    scale = request.scale_of(METER)
    lists = ",".join(
        f'"{name}":[{_entries(lines, scale)}]' if lines else f'"{name}":null'
        for name, lines in (("summary", _summary(details)), ("details", details))
    )
    return Reply(200, f'{{"since":"{since}","until":"{until}",{lists}}}'.encode())


def problem(problem: Problem) -> Reply:
    """Write a problem in the vendor's shape."""
    status = STATUSES.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    # The vendor's own clients look for this text, not for the status.
    error = "Permission Denied" if status == HTTPStatus.UNAUTHORIZED else status.phrase
    document: Refusal = {"code": status.value, "error": error}
    if status == HTTPStatus.BAD_REQUEST:
        document["detail"] = problem.detail
    return Reply(status.value, msgspec.json.encode(document))


def _day(request: Request, parameter: str) -> int | None:
    text = request.value(parameter)
    if text is None:
        return None
    try:
        day = windows.parse_day(text)
    except ValueError as error:
        raise invalid(parameter, f"{parameter} is {error}.") from None
    if day < DAY_MIN:
        raise invalid(parameter, f"{parameter} must not be before {windows.format_day(DAY_MIN)}.")
    return day


def _queries(request: Request, first: int, last: int) -> tuple[UsageQuery, ...]:
    """Ask for the whole range by all labels, and by day for the first day with a job."""
    if first > last:
        return ()
    where = {"mode": frozenset({"", MODE})}
    whole = np.array([first, last + DAY], np.int64)
    days = np.arange(first, last + 2 * DAY, DAY, dtype=np.int64)
    return (
        UsageQuery(METER, request.accounts, whole, LABELS, where, frozenset(LABELS)),
        UsageQuery(METER, request.accounts, days, LABELS[:1], where),
    )


def _since(plan: Plan, tables: Sequence[UsageTable]) -> int:
    if tables:
        first = next((row.bucket for row in tables[1].rows if row.labels[0]), None)
        if first is not None:
            return int(plan.questions.usage[1].edges[first])
    return DAY_MIN if plan.since is None else plan.since


def _details(tables: Sequence[UsageTable]) -> list[Line]:
    """Gather the jobs that have a type, the most frequent first, else in order of their labels."""
    lines = [(count, *labels, amount) for labels, count, amount in (tables[0].amounts if tables else ()) if labels[0]]
    return _most_frequent(lines)


def _summary(details: Sequence[Line]) -> list[Line]:
    counts: defaultdict[str, int] = defaultdict(int)
    amounts: defaultdict[str, int] = defaultdict(int)
    for count, type_, _, _, amount in details:
        counts[type_] += count
        amounts[type_] += amount
    return _most_frequent([(counts[type_], type_, "", "", amounts[type_]) for type_ in sorted(counts)])


def _most_frequent(lines: Sequence[Line]) -> list[Line]:
    # A stable sort: those that are as frequent stay in their order.
    return sorted(lines, key=itemgetter(0), reverse=True)


def _entries(lines: Sequence[Line], scale: int) -> str:
    """Write a `UsageEntry` for each line."""
    types, languages, points = (Once(partial(_member, name)) for name in LABELS)
    hours = Once(partial(_hours, scale=scale))
    return ",".join(
        [
            f'{{"mode":"{MODE}",{types[type_]}{languages[language]}{points[operating_point]}"count":{count},'
            f'"duration_hrs":{hours[amount]}}}'
            for count, type_, language, operating_point, amount in lines
        ]
    )


def _member(name: str, value: str) -> str:
    """Write a member of an entry, and a comma; what is empty gives none."""
    return f'"{name}":{json_text(value)},' if value else ""


def _hours(amount: int, scale: int) -> str:
    """Write seconds at a scale as hours, rounded half up to two decimals."""
    hundredth = 36 * 10**scale
    return decimal_text((2 * amount + hundredth) // (2 * hundredth), 2)


DAY_SCHEMA = {"type": "string", "format": "date", "pattern": "^(19[7-9]|[2-9][0-9]{2})[0-9]-"}

DIALECT = Dialect(
    "speechmatics",
    paths=("/v2",),
    problem=problem,
    statuses=STATUSES,
    refusal=Refusal,
    reports=(
        Report(
            "/v2/usage",
            "Report the batch usage of one account as Speechmatics does; the key's own where none is named.",
            parse,
            render,
            UsageReport,
            query=(
                Parameter("since", "The first UTC day, as YYYY-MM-DD.", DAY_SCHEMA),
                Parameter("until", "The last UTC day; today is never counted.", DAY_SCHEMA),
            ),
        ),
    ),
    request_id_header="Request-Id",
)
