"""visii's usage of an organisation: credits of a month, images of a year, and requests by dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, NamedTuple, NotRequired, TypedDict, cast

import msgspec
import numpy as np

from tallystick import limits, windows
from tallystick.dialect import Dialect, Parameter, Report
from tallystick.errors import Code, Problem
from tallystick.model import (
    RATE_SCALE,
    Catalog,
    Counts,
    LimitQuery,
    LiveQuery,
    LiveSpace,
    Property,
    UsageQuery,
)
from tallystick.query import (
    Answers,
    Decimals,
    LimitRow,
    Number,
    Questions,
    Quoted,
    Reply,
    Request,
    decimal_number,
    invalid,
)
from tallystick.windows import SECOND, Period

CREDITS, REQUESTS, IMAGES = "vision_credits", "vision_requests", "images"
"""The meters."""
LABELS = ("space", "type")
YEAR_MIN, YEAR_MAX = 1970, 9999
DELETED_COUNTED = "deleted_datasets_counted"
"""The setting that has deleted datasets count in `used`."""

STATUS = {
    Code.PARAMETER_INVALID: HTTPStatus.BAD_REQUEST,
    # Whatever is wrong with a key looks like an organisation that is not there.
    Code.KEY_MISSING: HTTPStatus.NOT_FOUND,
    Code.KEY_INVALID: HTTPStatus.NOT_FOUND,
    Code.SCOPE_MISSING: HTTPStatus.NOT_FOUND,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNPROVEN: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The status of what the report can meet; anything else is 500."""
LimitType = Literal["fixed", "unlimited"]


class CreditUsage(TypedDict):
    """Credits of the month; `limit` and `remaining` are absent where they are unlimited."""

    limit: NotRequired[Number]
    limitType: LimitType
    month: int
    remaining: NotRequired[Number]
    used: Number
    year: int


class RequestUsage(TypedDict):
    """Requests of one type in a dataset."""

    credits: Number
    requests: int
    type: str


class DatasetUsage(TypedDict):
    """A dataset: its images now, or when it was deleted, and its requests of the month."""

    images: int
    usage: list[RequestUsage]
    deleted: NotRequired[bool]


class ImageUsage(TypedDict):
    """Images processed in the year, and in use now."""

    limit: NotRequired[Number]
    limitType: LimitType
    processed: int
    remaining: NotRequired[Number]
    total: int
    year: int


class Usage(TypedDict):
    """Everything of one organisation."""

    credits: CreditUsage
    datasets: dict[str, DatasetUsage]
    images: ImageUsage
    lastUpdated: str
    requestCredits: dict[str, Number]


class UsageReport(TypedDict):
    """The vendor's report."""

    status: Literal["ok"]
    usage: Usage


class Refusal(TypedDict):
    """What went wrong."""

    status: Literal["error"]
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked: the month, and the questions to the ledger. `end` is the instant behind the month."""

    year: int
    month: int
    end: int
    questions: Questions


def parse(request: Request) -> Plan:
    """Read `year` and `month`, whose absence means the current ones; a Problem where one is none."""
    (account,) = request.accounts or ()
    this_year, this_month = divmod(windows.month_of(request.now), 12)
    year = _number(request, "year", YEAR_MIN, YEAR_MAX, this_year)
    month = _number(request, "month", 1, 12, this_month + 1)
    first = int(windows.month_start(np.array([12 * year + month - 1], np.int64))[0])
    of_month, of_year = (windows.period_of(first, period) for period in (Period.MONTH, Period.YEAR))
    within = np.array(of_month, np.int64)
    questions = Questions(
        usage=(
            UsageQuery(CREDITS, request.accounts, within, LABELS, blank=frozenset(LABELS)),
            UsageQuery(REQUESTS, request.accounts, within, LABELS, blank=frozenset(LABELS)),
            UsageQuery(IMAGES, request.accounts, np.array(of_year, np.int64)),
        ),
        limits=(
            LimitQuery(account, _nearest(request.now, of_month), CREDITS, Period.MONTH, (), "UTC"),
            LimitQuery(account, _nearest(request.now, of_year), IMAGES, Period.YEAR, (), "UTC"),
        ),
        live=(LiveQuery(account),),
    )
    return Plan(year, month, of_month[1], questions)


def _number(request: Request, parameter: str, least: int, most: int, default: int) -> int:
    text = request.value(parameter)
    if text is None:
        return default
    number = int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else -1
    if not least <= number <= most:
        raise invalid(parameter, f"{parameter} must be a whole number from {least} to {most}.")
    return number


def _nearest(now: int, period: tuple[int, int]) -> int:
    """Return now, or the instant of a period that is nearest to it."""
    start, end = period
    return min(max(now, start), end - 1)


def render(request: Request, plan: Plan, answers: Answers) -> Reply:
    """Write the vendor's report; its datasets are written as text at once, for there may be thousands."""
    datasets = _datasets(request.scale_of(CREDITS), answers)
    document: UsageReport = {
        "status": "ok",
        "usage": {
            "credits": _credits(request, plan, answers),
            "datasets": cast(dict[str, DatasetUsage], _written(datasets)),
            "images": _images(plan, answers, datasets),
            "lastUpdated": windows.format_instant(request.now // SECOND * SECOND),
            "requestCredits": _multipliers(request.catalog, min(request.now, plan.end - 1)),
        },
    }
    return Reply(200, msgspec.json.encode(document))


# Credits


def _credits(request: Request, plan: Plan, answers: Answers) -> CreditUsage:
    scale = request.scale_of(CREDITS)
    month, counts_all = windows.month_of(plan.end - 1), bool(request.settings.get(DELETED_COUNTED))
    deleted = {space.space for space in answers.live[0] if not counts_all and _was_deleted(space, month)}
    uncounted = sum(
        [amount for labels, _, amount in answers.usage[0].amounts if labels[0] in deleted] if deleted else ()
    )
    used = answers.usage[0].total.sum - uncounted
    members = {"month": plan.month, "used": decimal_number(used, scale), "year": plan.year}
    return cast(CreditUsage, _by_name({**_limited(_binding(answers.limits[0]), used, scale), **members}))


def _binding(rows: Sequence[LimitRow]) -> LimitRow | None:
    """Return the limit that bounds most, of those on the calendar's own periods; None where nothing does."""
    bounding = [
        row
        for row in rows
        if row.limit.property is Property.QUANTITY
        and row.limit.anchor in (None, 1)
        and not limits.is_unlimited(row.limit)
    ]
    return min(bounding, key=lambda row: row.standing.capacity, default=None)


def _limited(row: LimitRow | None, used: int, scale: int) -> Mapping[str, object]:
    """Say what a limit allows and what is left of it beside what is used and held; nothing where it is unlimited."""
    if row is None:
        return {"limitType": "unlimited"}
    capacity, held = row.standing.capacity, row.standing.held
    remaining = max(0, capacity - used - held)
    return {
        "limit": decimal_number(capacity, scale),
        "limitType": "fixed",
        "remaining": decimal_number(remaining, scale),
    }


def _by_name(members: Mapping[str, object]) -> Mapping[str, object]:
    """Put members in the vendor's order."""
    return dict(sorted(members.items()))


def _was_deleted(space: LiveSpace, month: int) -> bool:
    """Say whether a dataset was deleted by the end of a month, and not made again by then."""
    if not space.closed_in or not _is_dataset(space):
        return False
    closed = _last(space.closed_in, month)
    made = _last(space.made_in.get("dataset", {}), month)
    return closed is not None and (made is None or made <= closed)


def _last(instants: Mapping[int, int], month: int) -> int | None:
    return max((at for of, at in instants.items() if of <= month), default=None)


def _is_dataset(space: LiveSpace) -> bool:
    """Say whether a name is one of a dataset: not where it was only ever another vendor's space."""
    return "dataset" in space.made_in or not space.made_in


def _multipliers(catalog: Catalog, at: int) -> dict[str, Number]:
    """Return what a request of each type cost at an instant, of those that had a rate."""
    meter = catalog.meters.get(CREDITS)
    table = {} if meter is None or meter.rate is None else catalog.rates.get(meter.rate.table, {})
    found = {type: [rate.multiplier for rate in rates if rate.start <= at] for type, rates in table.items()}
    return {type: decimal_number(found[type][-1], RATE_SCALE) for type in sorted(found) if found[type]}


# Datasets and images


class Dataset(NamedTuple):
    """A dataset: its images, whether it was deleted, and its requests by type, `RequestUsage`s as JSON."""

    images: int
    deleted: bool
    usage: str


def _datasets(scale: int, answers: Answers) -> dict[str, Dataset]:
    """Return every dataset that exists, and every name with requests; requests without a dataset are under ""."""
    usage = _requests(scale, answers)
    live = {space.space: space for space in answers.live[0]}
    existing = [
        name for name, space in live.items() if "dataset" in space.containers or (not name and _count(space.live))
    ]
    # Both are in order, which sorting them together finds out.
    names = dict.fromkeys(sorted([*existing, *usage]))
    return {name: _dataset(live.get(name), usage.get(name, "")) for name in names}


def _dataset(space: LiveSpace | None, usage: str) -> Dataset:
    if space is None:
        return Dataset(0, False, usage)
    if "dataset" not in space.containers and space.closed_in and _is_dataset(space):
        return Dataset(_count(space.closed), True, usage)
    return Dataset(_count(space.live), False, usage)


def _written(datasets: Mapping[str, Dataset]) -> msgspec.Raw:
    """Write a `DatasetUsage` under each name."""
    quoted, end = Quoted(), ("", ',"deleted":true')
    members = [
        f'{quoted[name]}:{{"images":{images},"usage":[{usage}]{end[deleted]}}}'
        for name, (images, deleted, usage) in datasets.items()
    ]
    return msgspec.Raw(f"{{{','.join(members)}}}".encode())


def _count(counts: Counts) -> int:
    return counts["image"][0] if "image" in counts else 0


def _requests(scale: int, answers: Answers) -> Mapping[str, str]:
    """Return requests and credits by dataset, ordered by type."""
    amounts = {labels: amount for labels, _, amount in answers.usage[0].amounts}
    counts = {labels: requests for labels, _, requests in answers.usage[1].amounts}
    quoted, credits = Quoted(), Decimals(scale)
    found: dict[str, str] = {}
    free = counts.keys() - amounts.keys()
    for names in sorted([*amounts, *free]) if free else amounts:
        name, type = names
        line = f'{{"credits":{credits[amounts.get(names, 0)]},"requests":{counts.get(names, 0)},"type":{quoted[type]}}}'
        found[name] = f"{found[name]},{line}" if name in found else line
    return found


def _images(plan: Plan, answers: Answers, datasets: Mapping[str, Dataset]) -> ImageUsage:
    processed = answers.usage[2].total.sum
    total = sum(dataset.images for dataset in datasets.values() if not dataset.deleted)
    members = {"processed": processed, "total": total, "year": plan.year}
    return cast(ImageUsage, _by_name({**_limited(_binding(answers.limits[1]), processed, 0), **members}))


def problem(problem: Problem) -> Reply:
    """Write a problem in the vendor's shape; every 404 is the same."""
    status = STATUS.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    message = "Not Found" if status == HTTPStatus.NOT_FOUND else problem.detail
    document: Refusal = {"status": "error", "message": message}
    return Reply(status.value, msgspec.json.encode(document))


DIALECT = Dialect(
    "visii",
    paths=("/orgs/{organisation}/usage",),
    problem=problem,
    statuses=STATUS,
    refusal=Refusal,
    reports=(
        Report(
            "/orgs/{organisation}/usage",
            "Report credits of a month and images of a year by dataset, as visii does.",
            parse,
            render,
            UsageReport,
            query=(
                Parameter(
                    "year",
                    "Absent = the current year, in UTC.",
                    {"type": "integer", "minimum": YEAR_MIN, "maximum": YEAR_MAX},
                ),
                Parameter(
                    "month", "Absent = the current month, in UTC.", {"type": "integer", "minimum": 1, "maximum": 12}
                ),
            ),
            parts=(Parameter("organisation", "The organisation."),),
            organisation="organisation",
            settings=(DELETED_COUNTED,),
        ),
    ),
    scheme="token",
)
