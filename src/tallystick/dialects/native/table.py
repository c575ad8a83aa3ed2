"""The usage report as it is sent: pages of it, as JSON and as CSV, and the tag that says whether it changed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from tallystick import windows
from tallystick.dialects.native import cursors, parameters, sheet
from tallystick.dialects.native.usage import Question, question_of
from tallystick.model import Total, UsageQuery, UsageRow, UsageTable
from tallystick.query import Reply, Request, decimal_text, preferred
from tallystick.windows import Window

PATH = "/v1/usage"
JSON = "application/json"
COUNT_UNIT = "{event}"
ROWS_ENCODED_TOGETHER = 1000


def tag(request: Request, query: UsageQuery, sequence: int) -> str:
    """Return the ETag of the reply as of a sequence: what it is made from, all but the stamp."""
    page = page_of(request, query)
    made_from = (sequence, request.catalog.version, page.question.hex(), _form(request), page.limit, page.after)
    return f'"{cursors.digest(*made_from, request.now // windows.DAY).hex()[:32]}"'


def headers(tag: str) -> dict[str, str]:
    """Return the headers of a report and of the reply that it has not changed."""
    return {"ETag": tag, "Vary": "Accept", "Cache-Control": "private, no-cache"}


def render(request: Request, query: UsageQuery, table: UsageTable) -> Reply:
    """Write the table, or the page of it that was asked for, as JSON or as CSV."""
    question = question_of(request)
    page = page_of(request, query)
    rows, following = _cut(query, table.rows, page)
    sent = headers(tag(request, query, table.as_of.sequence))
    if following is not None:
        sent["Link"] = cursors.link(PATH, request, following)
    if _form(request) == sheet.MEDIA_TYPE:
        return Reply(200, _sheet(question, query, rows).encode(), sheet.CONTENT_TYPE, sent)
    body = _document(question, query, table, rows, following if page.limit else msgspec.UNSET)
    return Reply(200, body, headers=sent)


def _form(request: Request) -> str:
    return preferred(request.accept, (JSON, sheet.MEDIA_TYPE))


# Pages


Position = tuple[int, tuple[str | None, ...]]
"""A row's place in the order: where its bucket begins, and its labels."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows of the report that answers a question (its digest): those after a position, at most `limit`."""

    question: bytes
    limit: int | None
    after: Position | None


def page_of(request: Request, query: UsageQuery) -> Page:
    """Read which page of a report is asked for; a Problem names the parameter that is wrong."""
    question = question_of(request)
    where = sorted((label, sorted(values)) for label, values in query.where.items())
    buckets = (question.start, question.end, question.window, question.zone)
    digest = cursors.digest(query.meter, query.accounts, *buckets, query.group_by, where, question.aggregation)
    limit = parameters.limit(request, query.rows_max or 1_000_000)
    return Page(digest, limit, cursors.read(request, digest, Position))


def _cut(query: UsageQuery, rows: Sequence[UsageRow], page: Page) -> tuple[Sequence[UsageRow], str | None]:
    """Return the rows of a page, and the cursor of the next one if there is one.

    A row is before the cursor or after it by its place in the order alone, so none comes twice, whatever was counted
    in between.
    """
    starts = query.edges
    first = 0
    if page.after is not None:
        first = bisect_right(rows, _order(page.after), key=lambda row: _order((int(starts[row.bucket]), row.labels)))
    cut = rows[first : None if page.limit is None else first + page.limit]
    if first + len(cut) >= len(rows):
        return cut, None
    last = cut[-1]
    return cut, cursors.write(page.question, (int(starts[last.bucket]), last.labels))


def _order(position: Position) -> tuple[int, list[tuple[bool, str]]]:
    start, labels = position
    return start, [(label is not None, label or "") for label in labels]


# The reply


class UsageAsOf(msgspec.Struct):
    """Up to where the answer counts."""

    sequence: int
    time: str | None


class UsageTotal(msgspec.Struct):
    """The whole of the answer; quantities are exact decimals, as text."""

    count: int
    quantity: str | None


class UsageLine(msgspec.Struct, rename={"start": "from", "end": "to"}, gc=False):
    """One bucket of one group; a label that the events do not have is null."""

    start: str | None
    end: str | None
    labels: dict[str, str | None]
    count: int
    quantity: str | None


ROWS_SCHEMA = {"type": "array", "items": msgspec.json.schema_components([UsageLine])[1]["UsageLine"]}


class UsageDocument(msgspec.Struct, rename={"start": "from", "end": "to"}):
    """The report."""

    meter: str
    unit: str
    start: str | None
    end: str | None
    window: str
    tz: str
    as_of: UsageAsOf
    rows: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=ROWS_SCHEMA)]
    total: UsageTotal
    next: str | msgspec.UnsetType | None = msgspec.UNSET


def _document(
    question: Question,
    query: UsageQuery,
    table: UsageTable,
    rows: Sequence[UsageRow],
    following: str | msgspec.UnsetType | None,
) -> bytes:
    document = UsageDocument(
        meter=question.meter.name,
        unit=COUNT_UNIT if question.aggregation == "count" else question.meter.unit,
        start=_text(question.start),
        end=_text(question.end),
        window=question.window,
        tz=question.zone,
        as_of=UsageAsOf(table.as_of.sequence, _text(table.as_of.time) if table.as_of.sequence else None),
        rows=_rows(question, query, rows),
        total=UsageTotal(table.total.count, _quantity(table.total, question)),
        next=following,
    )
    return msgspec.json.encode(document)


def _rows(question: Question, query: UsageQuery, rows: Sequence[UsageRow]) -> msgspec.Raw:
    # A piece at a time: an encoder keeps the interpreter to itself until it is done.
    texts = _bucket_texts(question, query, rows)
    parts = []
    for start in range(0, len(rows), ROWS_ENCODED_TOGETHER):
        some = [
            UsageLine(
                *texts[row.bucket],
                dict(zip(query.group_by, row.labels, strict=True)),
                row.total.count,
                _quantity(row.total, question),
            )
            for row in rows[start : start + ROWS_ENCODED_TOGETHER]
        ]
        parts.append(msgspec.json.encode(some)[1:-1])
    return msgspec.Raw(b"[" + b",".join(parts) + b"]")


def _sheet(question: Question, query: UsageQuery, rows: Sequence[UsageRow]) -> str:
    texts = _bucket_texts(question, query, rows)
    lines = [sheet.line(("from", "to", *map(sheet.cell, query.group_by), "count", "quantity"))]
    for row in rows:
        bucket = (text or "" for text in texts[row.bucket])
        labels = map(sheet.cell, row.labels)
        lines.append(sheet.line((*bucket, *labels, str(row.total.count), _quantity(row.total, question) or "")))
    return "".join(lines)


def _bucket_texts(
    question: Question, query: UsageQuery, rows: Sequence[UsageRow]
) -> dict[int, tuple[str | None, str | None]]:
    """Write the ends of every bucket that has a row, once; an end that was not asked for is null."""
    buckets = {row.bucket for row in rows}
    if question.window is Window.TOTAL:
        return dict.fromkeys(buckets, (_text(question.start), _text(question.end)))
    edges = query.edges
    return {bucket: (_text(int(edges[bucket])), _text(int(edges[bucket + 1]))) for bucket in buckets}


def _text(instant: int | None) -> str | None:
    return None if instant is None else windows.format_instant(instant)


def _quantity(total: Total, question: Question) -> str | None:
    """Write an aggregate as text; null where there is none, as the least of nothing."""
    scale = question.meter.scale
    match question.aggregation:
        case "count":
            return str(total.count)
        case "sum":
            return decimal_text(total.sum, scale)
        case "avg":
            return decimal_text(_half_even(total.sum, total.count), scale) if total.count else None
        case "unique":
            return str(total.unique or 0)
        case "latest":
            return None if total.latest is None else decimal_text(total.latest, scale)
        case "min":
            return None if total.min is None else decimal_text(total.min, scale)
        case _:
            return None if total.max is None else decimal_text(total.max, scale)


def _half_even(amount: int, parts: int) -> int:
    whole, rest = divmod(amount, parts)
    return whole + (2 * rest > parts or (2 * rest == parts and whole % 2 == 1))
