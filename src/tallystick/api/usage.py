"""The native report: who may read what is settled here, the rest is the dialect's."""

from __future__ import annotations

import asyncio
import re
from typing import TypedDict

from tallystick import query
from tallystick.api import pages, reading, replays
from tallystick.api.description import INSTANT_SCHEMA, NAME_SCHEMA, Parameter, describe
from tallystick.api.http import Call
from tallystick.api.reports import ROWS_INLINE_MAX
from tallystick.dialects import native
from tallystick.errors import Code
from tallystick.model import Meter
from tallystick.query import Reply
from tallystick.windows import Window

TEXT_SCHEMA = {"type": "string", "minLength": 1}

_TAG = re.compile(r'(?:W/)?("[!#-~\x80-\xff]*")')


ACCOUNT = Parameter("account", "Only this account; absent = all that the key reads.", NAME_SCHEMA)


class MeterReported(TypedDict):
    """What there is to ask of a meter: its unit, its own aggregation and its labels."""

    meter: str
    unit: str
    aggregation: str
    labels: list[str]


class MetersReported(TypedDict):
    """Meters by name."""

    meters: list[MeterReported]
    next: str | None


@describe(query=pages.PARAMETERS, replies={200: MetersReported})
async def meters(call: Call) -> Reply:
    """List the meters that reports may be asked of, by name, page by page."""
    limit, after = pages.asked(call, str)
    known = call.app.catalog.meters
    page, following = pages.cut(sorted(name for name in known if after is None or name > after), limit)
    return pages.reply(call, "meters", [_reported(known[name]) for name in page], following)


def _reported(meter: Meter) -> MeterReported:
    labels = [label for label, _ in meter.labels]
    return {"meter": meter.name, "unit": meter.unit, "aggregation": meter.aggregation, "labels": labels}


@describe(
    query=(
        Parameter("meter", "What is counted.", TEXT_SCHEMA, required=True, more={"example": "audio"}),
        ACCOUNT,
        Parameter("from", "The first instant; may be left out with window=total.", INSTANT_SCHEMA),
        Parameter("to", "The instant behind the last.", INSTANT_SCHEMA),
        Parameter("window", "How long each bucket is; absent = total.", Window),
        Parameter(
            "tz",
            "The IANA zone in which days and months begin; absent = UTC.",
            TEXT_SCHEMA,
            more={"example": "Europe/Prague"},
        ),
        Parameter(
            "group_by",
            "Labels, or account, with commas between them.",
            TEXT_SCHEMA,
            more={"example": "account,language"},
        ),
        Parameter(
            "filter",
            "filter[label]=value; repeated = any of these, empty = without the label.",
            {"type": "object", "additionalProperties": {"type": "string"}},
            more={"style": "deepObject", "explode": True},
        ),
        Parameter("limit", "Rows of a page; absent = all rows.", {"type": "integer", "minimum": 1}),
        Parameter("cursor", "Where a page goes on, from `next` of the one before."),
        Parameter("aggregation", "Absent = the meter's own.", {"enum": list(native.AGGREGATIONS)}),
    ),
    replies={200: {"application/json": native.UsageDocument, "text/csv": {}}, 304: None},
    codes=(Code.NOT_FOUND, Code.ACCOUNT_FORBIDDEN, Code.ROWS_EXCEEDED, Code.UNPROVEN),
)
async def native_report(call: Call) -> Reply:
    """Sum usage over every account that the key reads, or those that the query names."""
    ledger = call.app.ledger
    replays.refuse_partial(call, dict(call.query).get("meter"))
    request = reading.request_of(call, reading.accounts_of(call))
    question = native.parse(request, call.app.settings.usage_rows_max)
    native.page_of(request, question)
    if (known := call.headers.get("if-none-match")) is not None:
        now = native.tag(request, question, (await ledger.as_of([question])).sequence)
        if matches(known, now):
            return Reply(304, b"", "", native.headers(now))
    (table,) = await query.run(ledger, [question])
    if len(table.rows) > ROWS_INLINE_MAX:
        return await asyncio.to_thread(native.render, request, question, table)
    return native.render(request, question, table)


def matches(known: str, tag: str) -> bool:
    """Say whether an If-None-Match header names a tag, by weak comparison (RFC 9110)."""
    return known.strip() == "*" or tag in _TAG.findall(known)
