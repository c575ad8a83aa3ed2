"""The verdicts and refusals that only a ledger can reach, worded once so that every ledger gives the same answers."""

from __future__ import annotations

from collections.abc import Collection

from tallystick.errors import Code, Problem
from tallystick.model import Limit, Status, Verdict

CONFLICT = Verdict(
    Status.CONFLICT,
    code=Code.ID_REUSED,
    pointer="/id",
    detail="An event with this account, source and id is kept with other content. Give the new event its own id.",
)


_DUPLICATES = {metered: Verdict(Status.DUPLICATE, metered) for metered in (False, True)}


def duplicate(*, metered: bool) -> Verdict:
    """Say that the event is kept already, and whether it feeds a meter."""
    return _DUPLICATES[metered]


def account_unknown(account: str) -> Verdict:
    """Say that no account has this name, and that the event may not create it."""
    detail = f"There is no account {account!r}. Create it, or send the name of one that exists."
    return Verdict(Status.REJECTED, code=Code.ACCOUNT_UNKNOWN, pointer="/account", detail=detail)


def label_sets_exceeded(meter: str) -> Verdict:
    """Say that the event would give its account one label set too many."""
    detail = (
        f"Meter {meter!r} already has as many label sets as label_sets_max allows in the month of this event. "
        "Use fewer label values or raise the setting, then send it again."
    )
    return Verdict(Status.REJECTED, code=Code.LABEL_SETS_EXCEEDED, pointer="/data", detail=detail)


def unique_values_exceeded(meter: str) -> Verdict:
    """Say that the event would give its account one distinct value too many."""
    detail = (
        f"Meter {meter!r} already has as many distinct values as unique_values_max allows in the month of this event. "
        "Send fewer of them or raise the setting, then send it again."
    )
    return Verdict(Status.REJECTED, code=Code.LABEL_SETS_EXCEEDED, pointer="/data", detail=detail)


def over_limit(limit: Limit) -> Verdict:
    """Say that the event does not fit under a limit that refuses such events."""
    detail = (
        f"The limit {limit.id!r} has no room for this event, and refuses what does not fit. Ask for a hold before the "
        "work, wait until the limit resets, or have it raised."
    )
    return Verdict(Status.REJECTED, code=Code.OVER_LIMIT, detail=detail, http_status=limit.status)


def meter_in_use(name: str) -> Problem:
    """Say that a meter cannot go on counting in another unit, scale or aggregation."""
    detail = (
        f"Meter {name!r} has another unit, scale or aggregation, and amounts of both cannot be added up. Let it begin "
        "anew, from an instant or from the beginning, or choose another name."
    )
    return Problem(Code.IN_USE, detail)


def meter_limited(name: str, limits: Collection[str]) -> Problem:
    """Say which limits would lose what they count."""
    named = ", ".join(repr(id) for id in sorted(limits)[:20])
    detail = (
        f"There are limits on the meter {name!r} that need it as it is: {named}. Keep its unit, scale, aggregation and "
        "the labels that they name, or delete them first."
    )
    return Problem(Code.IN_USE, detail)


def replaying(what: str) -> Problem:
    """Say that a meter or rate table is being counted from kept events, and has to be left alone meanwhile."""
    return Problem(Code.IN_USE, f"{what} is being counted from kept events. Wait until that is done, then try again.")


def rates_in_use(table: str, types: Collection[str]) -> Problem:
    """Say which types would have another rate for events that are counted already."""
    named = ", ".join(repr(type) for type in sorted(types)[:20])
    detail = (
        f"Rate table {table!r} would change the rate of events that are counted already, of type {named}. Let the new "
        "rates begin later, or ask for a recount."
    )
    return Problem(Code.IN_USE, detail)


def rows_exceeded(rows_max: int) -> Problem:
    """Say that a report has more rows than it may have."""
    detail = f"The report has more than {rows_max} rows: ask for a longer window, fewer groups or a shorter range."
    return Problem(Code.ROWS_EXCEEDED, detail)
