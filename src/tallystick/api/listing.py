"""GET /v1/events and GET /v1/export: kept events, a page at a time or all of them as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from tallystick import query
from tallystick.api import http, reading
from tallystick.api.description import INSTANT_SCHEMA, NAME_SCHEMA, Parameter, describe
from tallystick.api.http import Call
from tallystick.dialects.native import events, sheet
from tallystick.errors import Code
from tallystick.model import EventPage, EventRow
from tallystick.query import Reply

PAGE_ROWS = 1000
"""Events that an export reads at a time: some ten milliseconds of one of the readers, which reports need as well."""
ROWS_AT_ONCE = 100
"""About a millisecond of writing; then others get their turn."""


TEXT_SCHEMA = {"type": "string", "minLength": 1}
CHOICE = (
    Parameter("account", "Only these accounts; absent = all that the key reads.", NAME_SCHEMA),
    Parameter("space", "Only events of this space.", TEXT_SCHEMA),
    Parameter("subject", "Only events with this subject.", TEXT_SCHEMA),
    Parameter("type", "Only events of this type.", TEXT_SCHEMA),
    Parameter("id", "Only events with this id.", TEXT_SCHEMA),
    Parameter("from", "The first instant of their time.", INSTANT_SCHEMA),
    Parameter("to", "The instant behind the last.", INSTANT_SCHEMA),
)


@describe(
    query=(
        *CHOICE,
        Parameter("limit", "Most events of a page; absent = 100.", {"type": "integer", "minimum": 1, "maximum": 1000}),
        Parameter("cursor", "Where a page goes on, from `next` of the one before.", TEXT_SCHEMA),
    ),
    replies={200: events.EventsDocument},
    codes=(Code.ACCOUNT_FORBIDDEN, Code.UNPROVEN),
)
async def index(call: Call) -> Reply:
    """List a page of events, newest recorded first."""
    request = reading.request_of(call, reading.accounts_of(call))
    page = await query.page(call.app.ledger, events.page_of(request))
    written = []
    for some in _pieces(page.rows):
        written += [events.item(row, call.app.catalog) for row in some]
        await asyncio.sleep(0)
    return events.render(request, page, b",".join(written))


@describe(
    query=(*CHOICE, Parameter("format", "Absent = ndjson.", {"enum": ["csv", "ndjson"]})),
    replies={200: {events.NDJSON: {}, sheet.MEDIA_TYPE: {}}},
    codes=(Code.ACCOUNT_FORBIDDEN, Code.UNPROVEN, Code.HTTP_VERSION),
)
async def export(call: Call) -> Reply:
    """Stream every event that was acknowledged by now, oldest first."""
    http.refuse_unframed(call)
    request = reading.request_of(call, reading.accounts_of(call))
    form = events.form_of(request)
    asked = replace(events.parse(request), oldest_first=True, limit=PAGE_ROWS)
    # Read before the answer begins, so that what is refused is refused in the usual way.
    first = await call.app.ledger.events(asked)
    return Reply(200, events.head(form), events.CONTENT_TYPES[form], {}, _lines(call, first, form))


async def _lines(call: Call, page: EventPage, form: str) -> AsyncGenerator[bytes, None]:
    while True:
        for some in _pieces(page.rows):
            yield b"".join(events.line(row, call.app.catalog, form) for row in some)
            await asyncio.sleep(0)
        if page.next is None:
            return
        page = await call.app.ledger.events(page.next)


def _pieces(rows: Sequence[EventRow]) -> list[Sequence[EventRow]]:
    return [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
