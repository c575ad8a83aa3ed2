"""The verdicts that only a ledger can reach, worded once so that every ledger gives the same receipts."""

from __future__ import annotations

from tallystick.errors import Code
from tallystick.model import Status, Verdict

CONFLICT = Verdict(
    Status.CONFLICT,
    code=Code.ID_REUSED,
    pointer="/id",
    detail="An event with this account, source and id is kept with other content. Give the new event its own id.",
)


def duplicate(*, metered: bool) -> Verdict:
    """Say that the event is kept already, and whether it feeds a meter."""
    return Verdict(Status.DUPLICATE, metered)


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
