"""Kept events, listed or exported: each as it was sent, with its receipt and what it fed."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from tallystick import windows
from tallystick.dialects.native import cursors, parameters, sheet
from tallystick.envelope import read
from tallystick.model import VALUE, Catalog, EventPage, EventQuery, EventRow, Posting, Status
from tallystick.query import Reply, Request, decimal_text, invalid

PATH = "/v1/events"
LIMIT, LIMIT_MAX = 100, 1000
NDJSON = "application/x-ndjson"
CONTENT_TYPES = {NDJSON: NDJSON, sheet.MEDIA_TYPE: sheet.CONTENT_TYPE}
COLUMNS = (
    "sequence", "recorded_at", "time", "account", "space", "source", "id", "type", "subject", "metered", "data",
)  # fmt: skip


def parse(request: Request) -> EventQuery:
    """Read which events are asked for; a Problem names the parameter that is wrong."""
    start, end = parameters.instant(request, "from"), parameters.instant(request, "to")
    if start is not None and end is not None and start >= end:
        raise invalid("from", "from must be before to.")
    return EventQuery(
        accounts=request.accounts,
        start=start,
        end=end,
        space=request.value("space"),
        subject=request.value("subject"),
        type=request.value("type"),
        id=request.value("id"),
    )


# A page of them


def page_of(request: Request) -> EventQuery:
    """Read which page of the list is asked for."""
    query = parse(request)
    limit = parameters.limit(request, LIMIT_MAX) or LIMIT
    through = cursors.read(request, _digest(query), int)
    return replace(query, through=through, limit=limit)


def render(request: Request, page: EventPage, items: bytes) -> Reply:
    """Write a page around its items, which are JSON with commas between them."""
    headers = {}
    cursor = None
    if page.next is not None:
        cursor = cursors.write(_digest(page.next), page.next.through)
        headers["Link"] = cursors.link(PATH, request, cursor)
    body = b'{"events":[' + items + b'],"next":' + msgspec.json.encode(cursor) + b"}"
    return Reply(200, body, headers=headers)


def _digest(query: EventQuery) -> bytes:
    return cursors.digest(query.accounts, query.start, query.end, query.space, query.subject, query.type, query.id)


class EventReceipt(msgspec.Struct):
    """The verdict that the event got."""

    status: Status
    metered: bool


class EventFed(msgspec.Struct, omit_defaults=True):
    """What the event added to a meter; `value` is what a meter of distinct values found."""

    meter: str
    labels: dict[str, str]
    quantity: str | None
    value: str | msgspec.UnsetType = msgspec.UNSET


class EventItem(msgspec.Struct):
    """A kept event: within it is the JSON that was sent."""

    sequence: int
    recorded_at: str
    account: str
    space: str | None
    event: msgspec.Raw
    receipt: EventReceipt
    fed: list[EventFed]


class EventsDocument(msgspec.Struct):
    """A page of events, newest recorded first."""

    events: list[EventItem]
    next: str | None


def item(row: EventRow, catalog: Catalog) -> bytes:
    """Write an event as one line of JSON; within it are the bytes that were sent."""
    return msgspec.json.encode(
        EventItem(
            sequence=row.sequence,
            recorded_at=windows.format_instant(row.recorded),
            account=row.account,
            space=row.space,
            event=msgspec.Raw(_one_line(row.raw)),
            receipt=EventReceipt(Status.ACCEPTED, row.metered),
            fed=[_fed(posting, catalog) for posting in row.postings],
        )
    )


def _fed(posting: Posting, catalog: Catalog) -> EventFed:
    labels = dict(posting.labels)
    value = labels.pop(VALUE, msgspec.UNSET)
    return EventFed(posting.meter, labels, _quantity(posting, catalog), value)


def _quantity(posting: Posting, catalog: Catalog) -> str | None:
    """Write what was counted; null where the meter began anew or went since the event was looked up."""
    meter = catalog.meters.get(posting.meter)
    if meter is None or posting.meter_version < meter.epoch:
        return None
    return decimal_text(posting.amount, meter.scale)


def _one_line(raw: bytes) -> bytes:
    # In JSON a line end can only stand between tokens: in a string it is escaped.
    return raw.replace(b"\r", b" ").replace(b"\n", b" ")


# All of them


def head(form: str) -> bytes:
    """Return what comes before the lines of an export."""
    return sheet.line(COLUMNS).encode() if form == sheet.MEDIA_TYPE else b""


def form_of(request: Request) -> str:
    """Return the media type that an export is asked for in."""
    match request.value("format"):
        case None | "ndjson":
            return NDJSON
        case "csv":
            return sheet.MEDIA_TYPE
        case _:
            raise invalid("format", "format is csv or ndjson.")


def line(row: EventRow, catalog: Catalog, form: str) -> bytes:
    """Write an event as one line of an export."""
    return _cells(row) if form == sheet.MEDIA_TYPE else item(row, catalog) + b"\n"


class _Data(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")


_data = msgspec.json.Decoder(_Data)


def _cells(row: EventRow) -> bytes:
    envelope = read(row.raw)
    data = _one_line(bytes(_data.decode(row.raw).data)).decode()
    texts = (row.account, row.space, envelope["source"], envelope["id"], envelope["type"], envelope.get("subject"))
    return sheet.line(
        (
            str(row.sequence),
            windows.format_instant(row.recorded),
            windows.format_instant(row.time),
            *map(sheet.cell, texts),
            "true" if row.metered else "false",
            sheet.cell(None if data == "null" else data),
        )
    ).encode()
