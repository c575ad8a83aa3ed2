"""Limits over HTTP: the operator defines them, and whoever has them reads how they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from tallystick import query, windows
from tallystick.api import auth, documents, limit_documents, pages
from tallystick.api.description import NAME_SCHEMA, Parameter, describe
from tallystick.api.http import Call
from tallystick.api.limit_documents import ID_SCHEMA, LimitDocument
from tallystick.errors import Code, Problem
from tallystick.model import Crossing, Limit, Outcome, Policy, Property, Unheld
from tallystick.query import LimitPlan, LimitRow, Reply, decimal_text, value_of
from tallystick.windows import Period

REFUSALS = {
    Outcome.ID_REUSED: (
        Code.ID_REUSED,
        "A limit keeps its account, meter and property. Choose another id, or delete this one first.",
    ),
    Outcome.METER_UNFIT: (Code.IN_USE, "The meter is being defined anew. Wait until that is done, then try again."),
}


class LimitDefined(TypedDict):
    """The definition of a limit."""

    id: str
    account: str
    meter: str
    property: Property
    where: Mapping[str, str]
    period: Period
    timezone: str
    anchor: int | None
    amount: str | None
    policy: Policy
    status: int
    thresholds: Sequence[int]
    unheld: Unheld


class ThresholdShown(TypedDict):
    """A threshold that use has reached, for the first time in a period."""

    threshold: int
    period_start: str
    at: str
    used: str
    capacity: str


class ThresholdsShown(TypedDict):
    """Crossed thresholds in the order in which they were seen."""

    thresholds: list[ThresholdShown]
    next: str | None


class LimitShown(LimitDefined):
    """A limit, and how it stands at the instant of the request."""

    capacity: str
    used: str
    held: str
    remaining: str
    overage: str
    resets_at: str | None
    valid_until: str | None
    is_extended: bool


class LimitsShown(TypedDict):
    """Limits by id."""

    limits: list[LimitShown]
    next: str | None


EXAMPLE = {"account": "acme", "meter": "audio", "period": "month", "amount": "36000", "status": 402}
QUANTITY_CODES = (Code.QUANTITY_TYPE, Code.QUANTITY_NEGATIVE, Code.QUANTITY_PRECISION, Code.QUANTITY_RANGE)


@describe(
    query=(*pages.PARAMETERS, Parameter("account", "Only the limits of this account.", NAME_SCHEMA)),
    replies={200: LimitsShown},
    codes=(Code.ACCOUNT_FORBIDDEN,),
)
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


@describe(replies={200: LimitShown})
async def get(call: Call) -> Reply:
    """Show one limit and how it stands."""
    (shown,) = await _shown(call, [named_in(call)])
    return documents.reply(shown)


@describe(
    path=(Parameter("id", "The limit's id.", ID_SCHEMA),),
    body=LimitDocument,
    example=EXAMPLE,
    replies={200: LimitShown, 201: LimitShown},
    codes=(Code.ACCOUNT_FORBIDDEN, Code.ID_REUSED, Code.IN_USE, Code.TEXT_INVALID, *QUANTITY_CODES),
)
async def put(call: Call) -> Reply:
    """Define a limit, or replace its definition; its grants stay."""
    refuse_changes(call)
    id, app = call.path["id"], call.app
    document = await documents.read(call, LimitDocument)
    documents.require_name("id", document.id, id)
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


@describe(replies={204: None})
async def delete(call: Call) -> Reply:
    """Delete a limit with its grants."""
    refuse_changes(call)
    if not await call.app.ledger.delete_limit(call.path["id"], actor=call.caller.key_id):
        raise not_found()
    return Reply(204, b"", "")


@describe(query=pages.PARAMETERS, replies={200: ThresholdsShown})
async def thresholds(call: Call) -> Reply:
    """List the thresholds of a limit that use has reached, each once per period, page by page."""
    rows_max, after = pages.asked(call, int)
    crossings = await call.app.ledger.crossings(named_in(call).id)
    places, following = pages.cut(range(max(0, after or 0), len(crossings)), rows_max)
    lines = [_crossing(crossings[place]) for place in places]
    return pages.reply(call, "thresholds", lines, None if following is None else following + 1)


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
    return documents.refuse(Code.ACCOUNT_FORBIDDEN, "/account", "There is no account of this name. Create it first.")


async def _shown(call: Call, limits: Sequence[Limit]) -> list[LimitShown]:
    rows = await query.standings(call.app.ledger, LimitPlan([(limit, call.now) for limit in limits]))
    return [_standing(row) for row in rows]


def defined(limit: Limit) -> LimitDefined:
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
        "unheld": limit.unheld,
    }


def _standing(row: LimitRow) -> LimitShown:
    standing, scale = row.standing, row.limit.scale
    return {
        **defined(row.limit),
        "capacity": decimal_text(standing.capacity, scale),
        "used": decimal_text(standing.used, scale),
        "held": decimal_text(standing.held, scale),
        "remaining": decimal_text(standing.remaining, scale),
        "overage": decimal_text(standing.overage, scale),
        "resets_at": _text(standing.resets_at),
        "valid_until": _text(standing.valid_until),
        "is_extended": standing.is_extended,
    }


def _crossing(crossing: Crossing) -> ThresholdShown:
    return {
        "threshold": crossing.threshold,
        "period_start": windows.format_instant(crossing.start),
        "at": windows.format_instant(crossing.at),
        "used": decimal_text(crossing.used, crossing.scale),
        "capacity": decimal_text(crossing.capacity, crossing.scale),
    }


def _text(instant: int | None) -> str | None:
    return None if instant is None else windows.format_instant(instant)
