"""The events page: the last ones as they come in, search, and one event's whole story."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec

from tallystick import windows
from tallystick.dashboard import rendering
from tallystick.dashboard.client import Api
from tallystick.dashboard.session import Reader
from tallystick.dashboard.tail import PAGES_READ_MAX, VERDICTS, Fed, Item, Place, Search, Told, kept_page, read
from tallystick.dashboard.visit import Pairs, Sent, Visit, url

FIELDS = ("account", "space", "type", "id", "verdict")
HOLDS_READ_MAX = 2000
"""Among how many settled holds the one of an event is looked for."""


async def show(visit: Visit, api: Api, reader: Reader) -> Sent:
    """Show the last events, or those that are looked for; the first page goes on by itself until it is paused."""
    asked = [(name, value) for name in FIELDS if (value := visit.value(name).strip())]
    search = Search(**{name: visit.value(name).strip() for name in FIELDS})
    place = Place(visit.value("cursor"), visit.value("receipts"))
    tail = await read(api, search, place)
    is_first = place == Place()
    is_paused = bool(visit.value("paused"))
    return rendering.page(
        "events.html",
        visit,
        reader,
        title="Events",
        asked=dict(asked),
        verdicts=VERDICTS,
        rows=[_row(row) if isinstance(row, Item) else _told_row(row) for row in tail.rows],
        next=_next(asked, tail.next),
        first=url("/events", asked),
        is_first=is_first,
        is_live=is_first and not is_paused,
        toggle=url("/events", asked if is_paused else [*asked, ("paused", "1")]),
        accounts=[each["account"] for each in reader.accounts or ()],
        as_of=rendering.instant(windows.format_instant(visit.now)),
        curl="\n".join(_curls(visit, search)),
        origin=visit.origin,
    )


async def story(visit: Visit, api: Api, reader: Reader) -> Sent | None:
    """Show one event: what was sent, what became of it, what it moved and which hold it settled."""
    identity = [(name, visit.value(name)) for name in ("account", "id")]
    source = visit.value("source")
    if not all(value for _, value in identity) or not source:
        return None
    item = await _find(api, identity, source)
    if item is None:
        return None
    return rendering.page(
        "event.html",
        visit,
        reader,
        title=f"Event {visit.value('id')}",
        item=item,
        row=_row(item),
        text=msgspec.json.format(bytes(item.event), indent=2).decode(),
        recorded=rendering.instant(item.recorded_at),
        time=_time(item),
        moved=[await _moved(api, item, fed) for fed in item.fed],
        hold=await _hold(api, reader, item),
        may_see_holds=reader.has("limits"),
        curl=_curl(visit, "/v1/events", identity),
    )


async def _find(api: Api, identity: Pairs, source: str) -> Item | None:
    cursor = ""
    for _ in range(PAGES_READ_MAX):
        page = await kept_page(api, identity, cursor)
        found = next((item for item in page.events if item.sent.get("source") == source), None)
        if found is not None or page.next is None:
            return found
        cursor = page.next
    return None


def _row(item: Item) -> dict[str, Any]:
    sent = item.sent
    pairs = [("account", item.account), ("source", str(sent.get("source", ""))), ("id", str(sent.get("id", "")))]
    return {
        "id": str(sent.get("id", "")),
        "source": str(sent.get("source", "")),
        "type": str(sent.get("type", "")),
        "account": item.account,
        "space": item.space,
        "recorded": rendering.instant(item.recorded_at),
        "recorded_at": item.recorded_at,
        "status": item.receipt.status,
        "reason": "counted" if item.receipt.metered else "no meter counts it",
        "pointer": "",
        "fed": item.fed,
        "url": url("/events/one", pairs),
    }


def _told_row(told: Told) -> dict[str, Any]:
    return {
        "id": told.id or "",
        "source": told.source or "",
        "type": told.type or "",
        "account": told.account,
        "space": None,
        "recorded": rendering.instant(told.received_at),
        "recorded_at": told.received_at,
        "status": told.status,
        "reason": told.detail or "it is kept already, and changes nothing",
        "pointer": told.pointer,
        "fed": (),
        "url": url("/events", [("id", told.id), ("paused", "1")]) if told.id else "",
    }


def _next(asked: Pairs, place: Place | None) -> str:
    """Return the address of the next page, "" where there is none."""
    if place is None:
        return ""
    behind = [(name, value) for name, value in (("cursor", place.kept), ("receipts", place.receipts)) if value]
    return url("/events", [*asked, *behind])


def _time(item: Item) -> str:
    """Return the instant at which it counts, as UTC: the event's own time, or when it was recorded."""
    sent = item.sent.get("time")
    try:
        return windows.format_instant(windows.parse_instant(sent)) if isinstance(sent, str) else item.recorded_at
    except ValueError:
        return item.recorded_at


async def _moved(api: Api, item: Item, fed: Fed) -> dict[str, Any]:
    """Return what an event added to, as it stands now: the day's usage of just these labels, and where it is shown."""
    day = date.fromisoformat(_time(item)[:10])
    filters = [(f"filter[{label}]", value) for label, value in fed.labels.items()]
    pairs = [
        ("meter", fed.meter),
        ("account", item.account),
        ("from", f"{day}T00:00:00Z"),
        ("to", f"{day + timedelta(days=1)}T00:00:00Z"),
        *filters,
    ]
    said = (await api.get("/v1/usage", pairs)).document if fed.quantity is not None else None
    shown = [("meter", fed.meter), ("account", item.account), ("from", str(day)), ("through", str(day)), ("tz", "UTC")]
    return {
        "meter": fed.meter,
        "labels": fed.labels,
        "quantity": fed.quantity,
        "value": fed.value,
        "day": str(day),
        "unit": "" if said is None else said["unit"],
        "now": None if said is None else said["total"]["quantity"],
        "events": None if said is None else str(said["total"]["count"]),
        "url": url("/usage", [*shown, *filters]),
    }


async def _hold(api: Api, reader: Reader, item: Item) -> dict[str, Any] | None:
    """Return the hold that the event settled, if it did."""
    if not reader.has("limits"):
        return None
    wanted = {"source": item.sent.get("source"), "id": item.sent.get("id")}
    query = [("account", item.account), ("state", "settled")]
    holds: Sequence[dict[str, Any]] = await api.listed("/v1/holds", "holds", query, rows_max=HOLDS_READ_MAX)
    return next((hold for hold in holds if hold["event"] and wanted.items() <= hold["event"].items()), None)


def _curls(visit: Visit, search: Search) -> list[str]:
    """Return the requests that ask for both lists, as far as they are asked."""
    wanted = (
        (search.wants_kept, "/v1/events", search.of_kept),
        (search.wants_receipts, "/v1/receipts", search.of_receipts),
    )
    return [_curl(visit, path, asked) for is_wanted, path, asked in wanted if is_wanted]


def _curl(visit: Visit, path: str, asked: Pairs) -> str:
    target = visit.origin + path + (f"?{urlencode(asked)}" if asked else "")
    return f'curl -s -H "Authorization: Bearer $KEY" {shlex.quote(target)}'
