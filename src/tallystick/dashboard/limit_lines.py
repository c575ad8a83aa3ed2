"""The limits that bound what the usage page shows, as lines across its chart."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tallystick import windows
from tallystick.dashboard.chart import Line
from tallystick.dashboard.client import Api
from tallystick.dashboard.question import Question
from tallystick.dashboard.session import Reader
from tallystick.dashboard.visit import Visit
from tallystick.windows import Period


async def lines_of(visit: Visit, api: Api, reader: Reader, asked: Question) -> list[Line]:
    """Return the limits of just what is shown: bars of their period, or a running total over it, as of now."""
    account = asked.account or (reader.account if reader.accounts is not None and len(reader.accounts) == 1 else None)
    if account is None or not reader.has("limits") or not asked.days.start <= visit.now < asked.days.end:
        return []
    limits = await api.listed("/v1/limits", "limits", [("account", account)])
    return [
        Line(f"limit {limit['id']}", Decimal(limit["capacity"]))
        for limit in limits
        if _bounds(limit, asked) and _fits(limit, asked, visit.now)
    ]


def _bounds(limit: Mapping[str, Any], asked: Question) -> bool:
    """Say whether a limit counts just what is shown, in the same unit."""
    if limit["meter"] != asked.name or limit["property"] != "quantity":
        return False
    return sorted(limit["where"].items()) == sorted(asked.filters)


def _fits(limit: Mapping[str, Any], asked: Question, now: int) -> bool:
    if asked.is_running:
        bounds = windows.period_of(now, Period(limit["period"]), limit["timezone"], limit["anchor"])
        return bounds == (asked.days.start, asked.days.end)
    return bool(limit["period"] == asked.buckets and limit["timezone"] == asked.zone and limit["anchor"] is None)
