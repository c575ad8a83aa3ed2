"""Limits over HTTP: the operator defines them, and whoever has them reads how they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tallystick import query, windows
from tallystick.api import auth, documents, limit_documents, pages
from tallystick.api.http import Call
from tallystick.api.limit_documents import LimitDocument
from tallystick.errors import Code, Problem
from tallystick.model import Limit, Outcome
from tallystick.query import LimitPlan, LimitRow, Reply, decimal_text, value_of

REFUSALS = {
    Outcome.ID_REUSED: (
        Code.ID_REUSED,
        "A limit keeps its account, meter and property. Choose another id, or delete this one first.",
    ),
    Outcome.METER_UNFIT: (Code.IN_USE, "The meter is being defined anew. Wait until that is done, then try again."),
}


async def index(call: Call) -> Reply:
    """List the limits of the accounts that the key reads, or of the one that is named, by id, page by page."""
    rows_max, after = pages.asked(call, str)
    named, catalog = value_of(call.query, "account"), call.app.catalog
    names = (
        auth.readable(call.caller, catalog) if named is None else auth.readable_named(call.caller, (named,), catalog)
    )
    chosen = catalog.limits.values() if names is None else [each for name in names for each in catalog.limits_of(name)]
    wanted = sorted(limit.id for limit in chosen if after is None or limit.id > after)
    page, following = pages.cut(wanted, rows_max)
    shown = await _shown(call, [catalog.limits[id] for id in page])
    return pages.reply(call, "limits", shown, following)


async def get(call: Call) -> Reply:
    """Show one limit and how it stands."""
    (shown,) = await _shown(call, [named_in(call)])
    return documents.reply(shown)


async def put(call: Call) -> Reply:
    """Define a limit, or replace its definition; its grants stay."""
    refuse_changes(call)
    id, app = call.path["id"], call.app
    document = await documents.read(call, LimitDocument)
    if document.account not in app.catalog.accounts:
        raise _unknown_account()
    limit = limit_documents.limit_of(id, document, app.catalog, app.settings.text_length_max)
    outcome = await app.ledger.put_limit(limit, actor=call.caller.key_id)
    if outcome is Outcome.ACCOUNT_UNKNOWN:
        raise _unknown_account()
    if outcome in REFUSALS:
        raise Problem(*REFUSALS[outcome])
    (shown,) = await _shown(call, [app.catalog.limits.get(id, limit)])
    return documents.reply(shown, 201 if outcome is Outcome.CREATED else 200)


async def delete(call: Call) -> Reply:
    """Delete a limit with its grants."""
    refuse_changes(call)
    if not await call.app.ledger.delete_limit(call.path["id"], actor=call.caller.key_id):
        raise not_found()
    return Reply(204, b"", "")


def named_in(call: Call) -> Limit:
    """Return the limit that the path names; a foreign one and one that is not there look the same."""
    limit = call.app.catalog.limits.get(call.path["id"])
    if limit is None or not auth.may_read(call.caller, limit.account, call.app.catalog):
        raise not_found()
    return limit


def refuse_changes(call: Call) -> None:
    """Let only the operator change limits: nobody raises a limit of their own."""
    if call.caller.account is not None:
        named_in(call)
        auth.require_operator(call.caller)


def not_found() -> Problem:
    """Say that there is no such limit."""
    return Problem(Code.NOT_FOUND, "There is no such limit.")


def _unknown_account() -> Problem:
    return documents.refuse(Code.ACCOUNT_FORBIDDEN, "/account", "This key makes no limits for that account.")


async def _shown(call: Call, limits: Sequence[Limit]) -> list[dict[str, Any]]:
    rows = await query.standings(call.app.ledger, LimitPlan([(limit, call.now) for limit in limits]))
    return [{**defined(row.limit), **_standing(row)} for row in rows]


def defined(limit: Limit) -> dict[str, Any]:
    """Return the definition of a limit as the API shows it."""
    return {
        "id": limit.id,
        "account": limit.account,
        "meter": limit.meter,
        "property": limit.property,
        "where": dict(limit.where),
        "period": limit.period,
        "timezone": limit.timezone,
        "anchor": limit.anchor,
        "amount": None if limit.amount is None else decimal_text(limit.amount, limit.scale),
        "policy": limit.policy,
        "status": limit.status,
        "thresholds": limit.thresholds,
    }


def _standing(row: LimitRow) -> dict[str, Any]:
    standing, scale = row.standing, row.limit.scale
    amounts = ("capacity", "used", "held", "remaining", "overage")
    return {
        **{name: decimal_text(getattr(standing, name), scale) for name in amounts},
        "resets_at": _text(standing.resets_at),
        "valid_until": _text(standing.valid_until),
        "is_extended": standing.is_extended,
    }


def _text(instant: int | None) -> str | None:
    return None if instant is None else windows.format_instant(instant)
