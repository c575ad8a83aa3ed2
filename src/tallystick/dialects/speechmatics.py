"""Speechmatics' batch usage, GET /v2/usage: jobs and hours per type, language and operating point, in UTC days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np

from tallystick import windows
from tallystick.dialect import STATUSES, Dialect, Parameter, Report
from tallystick.errors import Problem
from tallystick.model import UsageQuery, UsageTable
from tallystick.query import Answers, Number, Questions, Quoted, Reply, Request, decimal_text, invalid
from tallystick.windows import DAY

METER = "audio"
MODE = "batch"
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


class Line(NamedTuple):
    """One line of the report, in the order of its lines; a label that the jobs do not have is ""."""

    negative_count: int
    type: str
    language: str
    operating_point: str
    amount: int


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
    quoted, scale = Quoted(), request.scale_of(METER)
    lists = ",".join(
        f'"{name}":[{",".join([_entry(line, scale, quoted) for line in lines])}]' if lines else f'"{name}":null'
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
        UsageQuery(METER, request.accounts, whole, ("type", "language", "operating_point"), where),
        UsageQuery(METER, request.accounts, days, ("type",), where),
    )


def _since(plan: Plan, tables: Sequence[UsageTable]) -> int:
    if tables:
        first = next((row.bucket for row in tables[1].rows if row.labels[0]), None)
        if first is not None:
            return int(plan.questions.usage[1].edges[first])
    return DAY_MIN if plan.since is None else plan.since


def _details(tables: Sequence[UsageTable]) -> list[Line]:
    """Gather the jobs that have a type; an empty language or operating point is none."""
    totals: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in tables[0].rows if tables else ():
        type_, language, operating_point = row.labels
        if type_:
            total = totals[type_, language or "", operating_point or ""]
            total[0] -= row.total.count
            total[1] += row.total.sum
    return sorted([Line(count, *key, amount) for key, (count, amount) in totals.items()])


def _summary(details: Sequence[Line]) -> list[Line]:
    totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for line in details:
        total = totals[line.type]
        total[0] += line.negative_count
        total[1] += line.amount
    return sorted([Line(count, type_, "", "", amount) for type_, (count, amount) in totals.items()])


def _entry(line: Line, scale: int, quoted: Quoted) -> str:
    negative_count, type_, language, operating_point, amount = line
    labels = f'"language":{quoted[language]},' if language else ""
    if operating_point:
        labels += f'"operating_point":{quoted[operating_point]},'
    hours = _hours(amount, scale)
    return f'{{"mode":"{MODE}","type":{quoted[type_]},{labels}"count":{-negative_count},"duration_hrs":{hours}}}'


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
