"""GET /v1/receipts: the last receipts of events that were not accepted, as this process remembers them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, TypedDict

import msgspec

from tallystick import windows
from tallystick.api import pages, reading
from tallystick.api.description import NAME_SCHEMA, Parameter, describe
from tallystick.api.http import Call
from tallystick.envelope import Names
from tallystick.errors import Code
from tallystick.model import Status, Verdict
from tallystick.query import Reply, invalid, value_of
from tallystick.receipts import Given

Place = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
STATUSES = (Status.DUPLICATE, Status.CONFLICT, Status.REJECTED)


class ReceiptShown(TypedDict):
    """The receipt of an event that was not accepted; `account` is that of the key which sent it, null the operator."""

    received_at: str
    account: str | None
    id: str | None
    source: str | None
    type: str | None
    status: Status
    metered: bool
    code: Code | None
    pointer: str
    detail: str


class ReceiptsShown(TypedDict):
    """Receipts, the last one given first."""

    receipts: list[ReceiptShown]
    next: str | None


@describe(
    query=(
        Parameter("account", "Only what keys of these accounts sent; absent = all that the key reads.", NAME_SCHEMA),
        Parameter("id", "Only of events with this id.", {"type": "string", "minLength": 1}),
        Parameter("type", "Only of events of this type.", {"type": "string", "minLength": 1}),
        Parameter("status", "Only with this verdict.", {"enum": list(STATUSES)}),
        *pages.PARAMETERS,
    ),
    replies={200: ReceiptsShown},
    codes=(Code.ACCOUNT_FORBIDDEN,),
)
async def index(call: Call) -> Reply:
    """List the last receipts of events that were not accepted, newest first.

    They are those that this process gave to the key's account, or for the operator's key to everybody, as many as
    `receipts_max` and `receipts_bytes_max` allow; the end of the process forgets them.
    """
    limit, behind = pages.asked(call, Place)
    names, catalog = reading.accounts_of(call), call.app.catalog
    owners = None if names is None else [catalog.accounts[name].number for name in names]
    id, type, status = value_of(call.query, "id"), value_of(call.query, "type"), _status(call)
    wanted = (
        given
        for given in call.app.receipts.newest(owners, behind)
        if id in (None, given.names.id) and type in (None, given.names.type) and status in (None, given.verdict.status)
    )
    page, following = pages.cut(list(islice(wanted, limit + 1)), limit)
    return pages.reply(call, "receipts", [_line(given) for given in page], following and following.place)


def note(call: Call, received: int, events: Sequence[tuple[Names, Verdict]]) -> None:
    """Remember the receipts of events that were not accepted, for the account of the key that sent them."""
    account = call.caller.account
    sender = None if account is None else call.app.catalog.accounts.get(account)
    if sender is not None or account is None:
        call.app.receipts.note(sender, received, events)


def _status(call: Call) -> Status | None:
    text = value_of(call.query, "status")
    if text not in (None, *STATUSES):
        raise invalid("status", f"status must be one of {', '.join(STATUSES)}.")
    return None if text is None else Status(text)


def _line(given: Given) -> ReceiptShown:
    verdict = given.verdict
    return {
        "received_at": windows.format_instant(given.received),
        "account": given.account,
        "id": given.names.id,
        "source": given.names.source,
        "type": given.names.type,
        "status": verdict.status,
        "metered": verdict.metered,
        "code": verdict.code,
        "pointer": verdict.pointer,
        "detail": verdict.detail,
    }
