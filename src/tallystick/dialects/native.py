"""Our own usage report, GET /v1/usage: any meter, window, zone, grouping, filter and aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from tallystick import windows
from tallystick.errors import Code, Flaw, Problem
from tallystick.model import Meter, Total, UsageQuery, UsageTable
from tallystick.query import Reply, Request, decimal_text, invalid
from tallystick.windows import INSTANT_MAX, INSTANT_MIN, Window

AGGREGATIONS = ("sum", "count", "min", "max", "avg")
UNBUILT = ("latest", "unique")
COUNT_UNIT = "{event}"

FILTER = "filter["


def parse(request: Request) -> UsageQuery:
    """Read the query parameters; a Problem names the one that is wrong."""
    question = _question(request)
    return UsageQuery(
        meter=question.meter.name,
        accounts=request.accounts,
        edges=_edges(question),
        group_by=_group_by(request, question.meter),
        where=_where(request, question.meter),
    )


def render(request: Request, query: UsageQuery, table: UsageTable, rows_max: int = 1_000_000) -> Reply:
    """Write the table as JSON; a Problem when it has more than `rows_max` rows."""
    if len(table.rows) > rows_max:
        detail = f"The report has more than {rows_max} rows: ask for a longer window, fewer groups or a shorter range."
        raise Problem(Code.ROWS_EXCEEDED, detail)
    question = _question(request)
    document = _Document(
        meter=question.meter.name,
        unit=COUNT_UNIT if question.aggregation == "count" else question.meter.unit,
        start=_text(question.start),
        end=_text(question.end),
        window=question.window,
        tz=question.zone,
        as_of=_AsOf(table.as_of.sequence, _text(table.as_of.time) if table.as_of.sequence else None),
        rows=_rows(question, query, table),
        total=_Total(table.total.count, _quantity(table.total, question)),
    )
    return Reply(200, msgspec.json.encode(document))


# The question


@dataclass(frozen=True, slots=True)
class _Question:
    """What parse and render both need; `start` and `end` are None where all of time is asked for."""

    meter: Meter
    start: int | None
    end: int | None
    window: Window
    zone: str
    aggregation: str


def _question(request: Request) -> _Question:
    meter = _meter(request)
    window = _window(request)
    question = _Question(
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


def _start(question: _Question) -> int:
    return INSTANT_MIN if question.start is None else question.start


def _end(question: _Question) -> int:
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
    text = request.value(parameter)
    if text is None:
        if required:
            raise invalid(parameter, f"Give {parameter}: only window=total needs none.")
        return None
    try:
        return windows.parse_instant(text)
    except ValueError as error:
        # A form decoder makes a space of a bare +, so an offset that was not encoded looks like this.
        hint = "; write the + of an offset as %2B" if " " in text else ""
        raise invalid(parameter, f"{parameter} is {error}{hint}.") from None


def _aggregation(request: Request, meter: Meter) -> str:
    name = request.value("aggregation") or meter.aggregation
    if name in UNBUILT:
        raise invalid("aggregation", f"{name} is not built yet; there are {', '.join(AGGREGATIONS)}.")
    if name not in AGGREGATIONS:
        raise invalid("aggregation", f"There is no such aggregation; there are {', '.join(AGGREGATIONS)}.")
    return name


def _edges(question: _Question) -> NDArray[np.int64]:
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


# The reply


class _AsOf(msgspec.Struct):
    sequence: int
    time: str | None


class _Total(msgspec.Struct):
    count: int
    quantity: str | None


class _Row(msgspec.Struct, rename={"start": "from", "end": "to"}, gc=False):
    start: str | None
    end: str | None
    labels: dict[str, str | None]
    count: int
    quantity: str | None


class _Document(msgspec.Struct, rename={"start": "from", "end": "to"}):
    meter: str
    unit: str
    start: str | None
    end: str | None
    window: str
    tz: str
    as_of: _AsOf
    rows: list[_Row]
    total: _Total


def _rows(question: _Question, query: UsageQuery, table: UsageTable) -> list[_Row]:
    texts = _bucket_texts(question, query, table)
    return [
        _Row(
            *texts[row.bucket],
            dict(zip(query.group_by, row.labels, strict=True)),
            row.total.count,
            _quantity(row.total, question),
        )
        for row in table.rows
    ]


def _bucket_texts(
    question: _Question, query: UsageQuery, table: UsageTable
) -> dict[int, tuple[str | None, str | None]]:
    """Write the ends of every bucket that has a row, once; an end that was not asked for is null."""
    buckets = {row.bucket for row in table.rows}
    if question.window is Window.TOTAL:
        return dict.fromkeys(buckets, (_text(question.start), _text(question.end)))
    edges = query.edges
    return {bucket: (_text(int(edges[bucket])), _text(int(edges[bucket + 1]))) for bucket in buckets}


def _text(instant: int | None) -> str | None:
    return None if instant is None else windows.format_instant(instant)


def _quantity(total: Total, question: _Question) -> str | None:
    """Write an aggregate as text; null where there is none, as the least of nothing."""
    scale = question.meter.scale
    match question.aggregation:
        case "count":
            return str(total.count)
        case "sum":
            return decimal_text(total.sum, scale)
        case "avg":
            return decimal_text(_half_even(total.sum, total.count), scale) if total.count else None
        case "min":
            return None if total.min is None else decimal_text(total.min, scale)
        case _:
            return None if total.max is None else decimal_text(total.max, scale)


def _half_even(amount: int, parts: int) -> int:
    whole, rest = divmod(amount, parts)
    return whole + (2 * rest > parts or (2 * rest == parts and whole % 2 == 1))
