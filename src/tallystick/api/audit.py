"""The audit over HTTP: who changed what, when, from what to what. Never a token or a digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

import msgspec

from tallystick import windows
from tallystick.api import accounts, auth, grants, keys, limits, pages
from tallystick.api.description import NAME_SCHEMA, Parameter, describe
from tallystick.api.http import Call
from tallystick.errors import Code
from tallystick.model import Account, AuditQuery, AuditRecord, Grant, Key, Limit, Stated
from tallystick.query import Reply, value_of

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
NOBODY = -1
"""The number of no account."""


class ChangeShown(TypedDict):
    """One change: who made it, to what, and what was there before and after."""

    sequence: int
    time: str
    actor: str
    action: str
    target: str
    account: str | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


class ChangesShown(TypedDict):
    """Changes, newest first."""

    audit: list[ChangeShown]
    next: str | None


@describe(
    query=(*pages.PARAMETERS, Parameter("account", "Only what concerns this account.", NAME_SCHEMA)),
    replies={200: ChangesShown},
    codes=(Code.ACCOUNT_FORBIDDEN,),
)
async def index(call: Call) -> Reply:
    """List changes, newest first: all of them for the operator, else those that concern the key's account."""
    limit, before = pages.asked(call, tuple[Number, Number])
    name, number = _whose(call)
    page = await call.app.ledger.audit(AuditQuery(limit, name, number, before))
    if call.caller.account is None and name is not None:
        _refuse_unknown(call, name, is_empty=before is None and not page.records and page.next is None)
    return pages.reply(call, "audit", [_line(record) for record in page.records], page.next)


def _whose(call: Call) -> tuple[str | None, int | None]:
    """Return name and number of the account that is asked about.

    An account's own key asks about the account that has the name now, never about one that had it before.
    """
    own, named = call.caller.account, value_of(call.query, "account")
    if own is None:
        return named, None
    if named not in (None, own):
        raise auth.foreign_account()
    account = call.app.catalog.accounts.get(own)
    return own, NOBODY if account is None else account.number


def _refuse_unknown(call: Call, name: str, *, is_empty: bool) -> None:
    """Refuse a name that no account has and none ever had."""
    if is_empty and name not in call.app.catalog.accounts:
        raise auth.foreign_account()


def _line(record: AuditRecord) -> ChangeShown:
    return {
        "sequence": record.place[0],
        "time": windows.format_instant(record.time),
        "actor": record.actor,
        "action": record.action,
        "target": record.target,
        "account": record.account,
        "before": _shown(record.before),
        "after": _shown(record.after),
    }


def _shown(noun: Stated | None) -> Mapping[str, Any] | None:
    match noun:
        case None:
            return None
        case Account():
            return accounts.shown(noun)
        case Key():
            return keys.shown(noun)
        case Limit():
            return limits.defined(noun)
        case Grant():
            return grants.shown(noun)
        case _:
            shown: dict[str, Any] = msgspec.to_builtins(noun)
            return shown
