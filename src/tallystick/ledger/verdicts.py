"""The verdicts that only a ledger can reach, worded once so that every ledger gives the same receipts."""

from __future__ import annotations

from tallystick.errors import Code
from tallystick.model import Status, Verdict

CONFLICT = Verdict(
    Status.CONFLICT,
    code=Code.ID_REUSED,
    pointer="/id",
    detail="An event with this source and id is kept already, with other content; give a new event an id of its own.",
)


def duplicate(*, metered: bool) -> Verdict:
    """Say that the event is kept already, and whether it feeds a meter."""
    return Verdict(Status.DUPLICATE, metered)


def account_unknown(account: str) -> Verdict:
    """Say that no account has this name, and that events may not create one here."""
    detail = f"There is no account {account!r}; create it, or name one that exists."
    return Verdict(Status.REJECTED, code=Code.ACCOUNT_UNKNOWN, pointer="/account", detail=detail)


def label_sets_exceeded(meter: str, label_sets_max: int) -> Verdict:
    """Say that the event would give its account one label set too many."""
    detail = (
        f"The account has {label_sets_max} label sets of meter {meter!r} in the month of this event, the most allowed; "
        "send fewer distinct label values, or raise label_sets_max and send the event again."
    )
    return Verdict(Status.REJECTED, code=Code.LABEL_SETS_EXCEEDED, pointer="/data", detail=detail)
