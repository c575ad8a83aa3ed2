"""Our own usage report, GET /v1/usage: any meter, window, zone, grouping, filter and aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tallystick import windows
from tallystick.dialects.native import parameters
from tallystick.errors import Code, Flaw, Problem
from tallystick.model import Meter, UsageQuery
from tallystick.query import Request, invalid
from tallystick.windows import INSTANT_MAX, INSTANT_MIN, Window

OF_AMOUNTS = ("sum", "count", "min", "max", "avg", "latest")
AGGREGATIONS = (*OF_AMOUNTS, "unique")
OF_VALUES = ("unique", "count")
"""What a meter of distinct values can be asked for: it counts values, and no amounts."""

FILTER = "filter["


def parse(request: Request, rows_max: int = 1_000_000) -> UsageQuery:
    """Read the query parameters; a Problem names the one that is wrong. `rows_max` bounds the whole report."""
    question = question_of(request)
    return UsageQuery(
        meter=question.meter.name,
        accounts=request.accounts,
        edges=_edges(question),
        group_by=_group_by(request, question.meter),
        where=_where(request, question.meter),
        rows_max=rows_max,
        latest=question.aggregation == "latest",
        distinct=question.aggregation == "unique",
    )


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, as the reply says it back; `start` and `end` are None where all of time is asked for."""

    meter: Meter
    start: int | None
    end: int | None
    window: Window
    zone: str
    aggregation: str


def question_of(request: Request) -> Question:
    """Read what is not for the ledger to know, too."""
    meter = _meter(request)
    window = _window(request)
    question = Question(
        meter=meter,
        start=_instant(request, "from", required=window is not Window.TOTAL),
        end=_instant(request, "to", required=window is not Window.TOTAL),
        window=window,
        zone=_zone(request),
        aggregation=_aggregation(request, meter),
    )
    if _start(question) >= _end(question):
        raise invalid("from", "from must be before to.")
    return question


def _start(question: Question) -> int:
    return INSTANT_MIN if question.start is None else question.start


def _end(question: Question) -> int:
    return INSTANT_MAX if question.end is None else question.end


def _meter(request: Request) -> Meter:
    name = request.value("meter")
    if name is None:
        raise invalid("meter", "Name the meter to report: ?meter=NAME.")
    meter = request.catalog.meters.get(name)
    if meter is None:
        detail = f"There is no meter of this name; there are {', '.join(sorted(request.catalog.meters))}."
        raise Problem(Code.NOT_FOUND, detail, (Flaw("meter", detail),))
    return meter


def _window(request: Request) -> Window:
    name = request.value("window") or Window.TOTAL
    if name not in set(Window):
        raise invalid("window", f"There is no such window; there are {', '.join(Window)}.")
    return Window(name)


def _zone(request: Request) -> str:
    name = request.value("tz") or "UTC"
    if not windows.is_zone(name):
        raise invalid("tz", "Name an IANA zone, spelled as in its database, such as Europe/Prague.")
    return name


def _instant(request: Request, parameter: str, *, required: bool) -> int | None:
    instant = parameters.instant(request, parameter)
    if instant is None and required:
        raise invalid(parameter, f"Give {parameter}: only window=total needs none.")
    return instant


def _aggregation(request: Request, meter: Meter) -> str:
    name = request.value("aggregation") or meter.aggregation
    if name not in AGGREGATIONS:
        raise invalid("aggregation", f"There is no such aggregation; there are {', '.join(AGGREGATIONS)}.")
    kind, fitting = ("distinct values", OF_VALUES) if meter.aggregation == "unique" else ("amounts", OF_AMOUNTS)
    if name not in fitting:
        raise invalid("aggregation", f"{meter.name} counts {kind}: it has {', '.join(fitting)}.")
    return name


def _edges(question: Question) -> NDArray[np.int64]:
    try:
        return windows.edges(_start(question), _end(question), question.window, question.zone)
    except windows.EdgesExceeded as error:
        detail = f"{error}."
        raise Problem(Code.ROWS_EXCEEDED, detail, (Flaw("window", detail),)) from None


def _group_by(request: Request, meter: Meter) -> tuple[str, ...]:
    text = request.value("group_by")
    names = tuple(text.split(",")) if text is not None else ()
    for name in names:
        if name != "account":
            _check_label(name, meter, "group_by")
    if len(set(names)) < len(names):
        raise invalid("group_by", "Name each label only once.")
    return names


def _where(request: Request, meter: Meter) -> Mapping[str, frozenset[str]]:
    wanted: dict[str, set[str]] = {}
    for parameter, value in request.query:
        if parameter.startswith(FILTER):
            label = parameter.removeprefix(FILTER).removesuffix("]")
            _check_label(label if parameter.endswith("]") else "", meter, parameter)
            wanted.setdefault(label, set()).add(value)
    return {label: frozenset(values) for label, values in wanted.items()}


def _check_label(name: str, meter: Meter, parameter: str) -> None:
    labels = [label for label, _ in meter.labels]
    if name not in labels:
        raise invalid(parameter, f"{meter.name} has no such label; it has {', '.join(labels)}.")
