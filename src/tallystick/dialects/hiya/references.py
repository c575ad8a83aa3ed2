"""What hiya's replies have in common: references to what there is, durations as text, and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec

from tallystick.model import AccountKind, LiveResource, ResourceQuery
from tallystick.query import Reply, Request, invalid
from tallystick.windows import HOUR, SECOND

MINUTE = 60 * SECOND
PAGE_DIGITS_MAX = 1000
"""Far more than a page has that anything is on, and few enough to read and to write again at once."""
PAGE_SIZE = 20
PAGE_SIZE_MAX = 50
OFFSET_MAX = 2**62
"""Farther back than any page that has something on it, and still what a ledger can count."""


class Reference(TypedDict):
    """Something by its handle, with the name that people gave it."""

    handle: str
    alias: str | None


class Owner(TypedDict):
    """A user or an organisation."""

    type: AccountKind
    handle: str
    alias: str | None


class SpaceReference(Reference):
    """A space, with whose it is."""

    owner: Owner


@dataclass(frozen=True, slots=True)
class Page:
    """Which page, counted from 1, of how many items."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """How many items come before it."""
        return min((self.number - 1) * self.size, OFFSET_MAX)


def page_of(request: Request) -> Page:
    """Read `page` and `page-size`."""
    number = _number(request, "page", 1, None)
    return Page(number, _number(request, "page-size", PAGE_SIZE, PAGE_SIZE_MAX))


def _number(request: Request, parameter: str, default: int, most: int | None) -> int:
    text = request.value(parameter)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= PAGE_DIGITS_MAX else 0
    if number < 1 or (most is not None and number > most):
        allowed = "from 1" if most is None else f"from 1 to {most}"
        raise invalid(parameter, f"{parameter} must be a whole number {allowed}.")
    return number


def check_sort(request: Request, allowed: str) -> None:
    """Refuse an order that is not there; what there is has one."""
    if request.value("sort") not in (None, allowed):
        raise invalid("sort", f"sort must be {allowed}.")


def listed(items: Sequence[Any], page: Page, total: int) -> Reply:
    """Write a page: a bare list, with its place in headers."""
    headers = {
        "Page-Total": str(-(-total // page.size)),
        "Page-Size": str(page.size),
        "Page-Current": str(page.number),
        "Item-Total": str(total),
    }
    return Reply(200, msgspec.json.encode(items), headers=headers)


def duration_text(microseconds: int) -> str:
    """Write a duration as ISO 8601 with hours as the largest unit, as Kotlin does."""
    hours, rest = divmod(microseconds, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds, fraction = divmod(rest, SECOND)
    text = f"{hours}H" if hours else ""
    if minutes or (hours and rest):
        text += f"{minutes}M"
    if rest or not text:
        text += f"{seconds}{_fraction(fraction)}S"
    return f"PT{text}"


def _fraction(microseconds: int) -> str:
    if not microseconds:
        return ""
    return f".{microseconds // 1000:03}" if microseconds % 1000 == 0 else f".{microseconds:06}"


def duration_of(state: Mapping[str, Any]) -> str | None:
    """Write the duration of a resource; None where it has none yet."""
    return duration_text(state["duration"]) if "duration" in state else None


def text_of(state: Mapping[str, Any], name: str) -> str | None:
    """Return a text of a state; None where it is absent."""
    value: str | None = state.get(name)
    return value


def reference(resource: LiveResource) -> Reference:
    """Refer to a resource."""
    alias = resource.state.get("attributes", {}).get("alias")
    return {"handle": resource.id, "alias": alias if isinstance(alias, str) else None}


def space_reference(space: LiveResource, owner: Owner) -> SpaceReference:
    """Refer to a space."""
    return {**reference(space), "owner": owner}


def owner_of(request: Request, account: str) -> Owner:
    """Refer to an account; accounts have no other name than their own."""
    return {"type": request.catalog.accounts[account].kind, "handle": account, "alias": None}


def query_of(account: str, space: str, kind: str, id: str) -> ResourceQuery:
    """Ask for one resource."""
    return ResourceQuery(account, space, kind, id, limit=1)


def query_of_all(account: str, names: Sequence[tuple[str, str, str]]) -> ResourceQuery:
    """Ask for several resources together, by (space, kind, id)."""
    return ResourceQuery(account, names=names, limit=len(names))
