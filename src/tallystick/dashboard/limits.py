"""The limits page: how each limit stands, when it resets, when it will be used up, and what is held now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick import windows
from tallystick.dashboard import figures, rendering
from tallystick.dashboard.client import Api
from tallystick.dashboard.figures import EXACT, ROUNDED, ZERO
from tallystick.dashboard.session import Reader
from tallystick.dashboard.visit import Sent, Visit
from tallystick.windows import Period

LIMITS_MAX = 500
ACCOUNTS_MAX = 20
"""Of how many accounts open holds are asked for, where no account is named."""
WIDTH = 1000
NEAR = Decimal(80)
"""From this percentage on a limit is near."""


@dataclass(frozen=True, slots=True)
class Bar:
    """How wide used and held are, of WIDTH; a limit that is passed fills all of it."""

    used: int
    held: int


async def show(visit: Visit, api: Api, reader: Reader) -> Sent:
    """Show the limits of an account, or of all that the key reads."""
    account = visit.value("account")
    named = [("account", account)] if account else []
    limits = await api.listed("/v1/limits", "limits", named, rows_max=LIMITS_MAX)
    accounts = sorted({limit["account"] for limit in limits})
    holders = [account] if account else [reader.account] if reader.account else accounts[:ACCOUNTS_MAX]
    return rendering.page(
        "limits.html",
        visit,
        reader,
        title="Limits",
        account=account,
        origin=visit.origin,
        accounts=await _choices(api, reader, accounts),
        limits=[_shown(limit, visit.now) for limit in sorted(limits, key=_worst_first)],
        holds=[hold for holder in holders for hold in await _holds(api, holder, visit.now)],
        holders_left=0 if account or reader.account else max(0, len(accounts) - ACCOUNTS_MAX),
        as_of=rendering.instant(windows.format_instant(visit.now)),
        operates=reader.account is None and reader.has("admin"),
    )


async def _choices(api: Api, reader: Reader, seen: Sequence[str]) -> list[str]:
    if reader.accounts is not None:
        return [each["account"] for each in reader.accounts]
    if not reader.has("admin"):
        return list(seen)
    return [each["account"] for each in await api.listed("/v1/accounts", "accounts", rows_max=1000)]


async def _holds(api: Api, account: str, now: int) -> list[dict[str, Any]]:
    """Return the open holds of an account, with their age."""
    holds = await api.listed("/v1/holds", "holds", [("account", account), ("state", "open")], rows_max=200)
    return [
        {
            **hold,
            "age": rendering.length(now - windows.parse_instant(hold["created_at"])),
            "left": rendering.length(windows.parse_instant(hold["expires_at"]) - now),
        }
        for hold in holds
    ]


def _worst_first(limit: Mapping[str, Any]) -> tuple[Decimal, str, str]:
    return -(_percent(limit) if limit["policy"] != "allow" else ZERO), limit["account"], limit["id"]


def _percent(limit: Mapping[str, Any]) -> Decimal:
    """Return used and held in percent of the capacity; of no capacity it is all used up."""
    taken = EXACT.add(Decimal(limit["used"]), Decimal(limit["held"]))
    percent = figures.ratio(taken, Decimal(limit["capacity"]))
    return Decimal(100) if percent is None else percent


def _shown(limit: Mapping[str, Any], now: int) -> dict[str, Any]:
    capacity = Decimal(limit["capacity"])
    return {
        **limit,
        "state": state_of(limit),
        "percent": figures.share(EXACT.add(Decimal(limit["used"]), Decimal(limit["held"])), capacity),
        "bar": _bar(limit),
        "resets": limit["resets_at"] and rendering.instant(limit["resets_at"]),
        "resets_in": limit["resets_at"] and rendering.length(windows.parse_instant(limit["resets_at"]) - now),
        "valid": rendering.instant(limit["valid_until"])
        if limit["valid_until"] and limit["valid_until"] != limit["resets_at"]
        else "",
        "exhausted": _exhausted(limit, now),
    }


def state_of(limit: Mapping[str, Any]) -> str:
    """Say in a word how a limit stands: unlimited, over, full, near or fine."""
    if limit["policy"] == "allow":
        return "unlimited"
    if Decimal(limit["used"]) > Decimal(limit["capacity"]):
        return "over"
    if not Decimal(limit["remaining"]):
        return "full"
    return "near" if _percent(limit) >= NEAR else "fine"


def _bar(limit: Mapping[str, Any]) -> Bar:
    used, held, capacity = (Decimal(limit[name]) for name in ("used", "held", "capacity"))
    whole = max(capacity, EXACT.add(used, held))
    if not whole:
        return Bar(0, 0)

    def wide(amount: Decimal) -> int:
        return int(ROUNDED.divide(EXACT.multiply(amount, Decimal(WIDTH)), whole))

    return Bar(wide(used), wide(held))


def _exhausted(limit: Mapping[str, Any], now: int) -> str:
    """Say when it is used up if use goes on as it has in this period; "" where it is not before it resets."""
    used, remaining = Decimal(limit["used"]), Decimal(limit["remaining"])
    if limit["resets_at"] is None or not used or not remaining or limit["policy"] == "allow":
        return ""
    start, end = windows.period_of(now, Period(limit["period"]), limit["timezone"], limit["anchor"])
    at = now + int(ROUNDED.divide(EXACT.multiply(remaining, Decimal(now - start)), used))
    return rendering.instant(windows.format_instant(at))[:16] if at < end else ""
