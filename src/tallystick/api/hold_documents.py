"""Holds as they are sent and shown: what is asked for read exactly, and how its limits stand, in body and headers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from tallystick import limits, quantity, windows
from tallystick.admission import Asked
from tallystick.api.documents import refuse
from tallystick.api.errors import ProblemDocument
from tallystick.api.event_description import NAME, ReceiptDocument
from tallystick.envelope import Unreadable, label_text, read
from tallystick.errors import Code, Problem
from tallystick.holding import Answer, Claim
from tallystick.limits import Standing
from tallystick.model import Catalog, Hold, HoldMode, HoldState, Meter, Policy, Property, Verdict
from tallystick.query import decimal_text
from tallystick.settings import Settings
from tallystick.windows import SECOND

COUNT_MAX = 10**9
FIELD_INTEGER_MAX = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651)."""
QUANTITY_SCHEMA = {
    "type": ["string", "number"],
    "description": "A decimal in a string, or a number; of seconds also an ISO 8601 duration.",
    "pattern": r"^[0-9]{1,12}(\.[0-9]{1,6})?$",
    "minimum": 0,
}
TTL_SCHEMA = {"description": "An ISO 8601 duration of weeks, days, hours, minutes and seconds; absent = hold_ttl_s."}

ABSENT = msgspec.Raw(b"null")

_PLAIN = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)


class HoldDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /v1/holds."""

    id: Annotated[str, Meta(extra_json_schema=NAME)]
    account: Annotated[str | None, Meta(extra_json_schema={"description": "A key of an account needs none."})] = None
    meter: str
    labels: dict[str, str] = {}
    quantity: Annotated[msgspec.Raw, Meta(extra_json_schema=QUANTITY_SCHEMA)] = msgspec.field(
        default_factory=lambda: ABSENT
    )
    count: Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": COUNT_MAX})] = 1
    ttl: Annotated[str | None, Meta(extra_json_schema=TTL_SCHEMA)] = None
    mode: HoldMode = HoldMode.NORMAL


class RenewalDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /v1/holds/{id}/renew; what is absent stays."""

    ttl: Annotated[str | None, Meta(extra_json_schema=TTL_SCHEMA)] = None
    quantity: Annotated[msgspec.Raw, Meta(extra_json_schema=QUANTITY_SCHEMA)] = msgspec.field(
        default_factory=lambda: ABSENT
    )


class HoldLimit(TypedDict):
    """A limit that counts for a hold, how it stands, and what the hold takes of it (null = nobody can tell)."""

    id: str
    meter: str
    property: Property
    policy: Policy
    amount: str | None
    capacity: str
    used: str
    held: str
    remaining: str
    resets_at: str | None


class SettledBy(TypedDict):
    """The event that ended a hold."""

    source: str
    id: str
    settled_at: str


class HoldShown(TypedDict):
    """A hold. `quantity` is what it holds, `asked` what was asked for first."""

    id: str
    account: str
    meter: str
    labels: Mapping[str, str]
    quantity: str
    asked: str
    count: int
    ttl: str
    mode: HoldMode
    state: HoldState
    created_at: str | None
    expires_at: str | None
    expired: bool
    exceeded: bool
    event: SettledBy | None


class HoldAdmitted(HoldShown):
    """A hold, and the limits that count for it, by id."""

    limits: list[HoldLimit]


class HoldSettled(HoldShown):
    """A hold that has ended, and the receipt of the event that ended it."""

    receipt: ReceiptDocument


class HoldsShown(TypedDict):
    """Holds by id."""

    holds: list[HoldShown]
    next: str | None


class RefusalDocument(ProblemDocument):
    """What does not fit: the limits under which it does not. `postponed` = none of them refuses, all say later."""

    postponed: NotRequired[bool]
    limits: NotRequired[list[HoldLimit]]


def asked_of(document: HoldDocument, account: str, catalog: Catalog, settings: Settings) -> Asked:
    """Return what a document asks for; a Problem names what is wrong with it."""
    id = label_text(document.id, "/id", settings.text_length_max)
    if isinstance(id, Verdict) or not id:
        detail = id.detail if isinstance(id, Verdict) else "A hold's id is not empty."
        raise refuse((isinstance(id, Verdict) and id.code) or Code.FIELD_LENGTH, "/id", detail)
    if not 1 <= document.count <= COUNT_MAX:
        raise refuse(Code.FIELD_VALUE, "/count", f"count must be a whole number from 1 to {COUNT_MAX}.")
    meter = catalog.meters.get(document.meter)
    return Asked(
        account,
        id,
        document.meter,
        document.labels,
        quantity_of(document.quantity, meter),
        document.count,
        ttl_of(document.ttl, settings) or settings.hold_ttl_s * SECOND,
        document.mode,
    )


def quantity_of(sent: msgspec.Raw, meter: Meter | None) -> Decimal | None:
    """Read a quantity exactly: a number, a decimal in a string, or a duration where the meter counts seconds."""
    try:
        value = read(b'{"quantity":' + bytes(sent) + b"}")["quantity"]
    except Unreadable as error:
        raise refuse(Code.QUANTITY_TYPE, "/quantity", error.detail) from None
    if value is None:
        return None
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return Decimal(value)
    is_duration = meter is not None and meter.unit == "s"
    found = quantity.quantity_of(value, "/quantity", is_duration=is_duration)
    if isinstance(found, Verdict):
        detail = 'quantity must be a number, or a decimal in a string such as "7.5".'
        raise refuse(found.code or Code.QUANTITY_TYPE, "/quantity", found.detail if is_duration else detail)
    return found


def ttl_of(text: str | None, settings: Settings) -> int | None:
    """Read how long a hold is to last, in microseconds."""
    if text is None:
        return None
    try:
        ttl = windows.parse_duration(text)
    except ValueError as error:
        raise refuse(Code.FIELD_VALUE, "/ttl", f"ttl is {error}.") from None
    if not SECOND <= ttl <= settings.hold_ttl_s_max * SECOND:
        detail = f"ttl must be from PT1S to PT{settings.hold_ttl_s_max}S; renew a hold that is needed for longer."
        raise refuse(Code.FIELD_VALUE, "/ttl", detail)
    return ttl


def shown(hold: Hold, now: int) -> HoldShown:
    """Return a hold as the API shows it."""
    ending, is_kept = hold.settlement, hold.mode is not HoldMode.CHECK_ONLY
    state = hold.state_at(now)
    by: SettledBy | None = None
    if ending is not None:
        settled_at = windows.format_instant(ending.at)
        by = {"source": ending.source, "id": ending.event, "settled_at": settled_at}
    return {
        "id": hold.id,
        "account": hold.account,
        "meter": hold.meter,
        "labels": dict(hold.labels),
        "quantity": decimal_text(hold.quantity, hold.scale),
        "asked": decimal_text(hold.asked, hold.scale),
        "count": hold.count,
        "ttl": f"PT{hold.ttl // SECOND}S",
        "mode": hold.mode,
        "state": state,
        "created_at": windows.format_instant(hold.created) if is_kept else None,
        "expires_at": windows.format_instant(hold.deadline) if is_kept else None,
        "expired": state is HoldState.EXPIRED or (ending is not None and ending.expired),
        "exceeded": ending is not None and ending.exceeded,
        "event": by,
    }


def limit_of(claim: Claim) -> HoldLimit:
    """Return a limit of a hold as the API shows it."""
    limit, standing = claim.limit, claim.standing
    return {
        "id": limit.id,
        "meter": limit.meter,
        "property": limit.property,
        "policy": limit.policy,
        "amount": None if claim.amount is None else decimal_text(claim.amount, limit.scale),
        "capacity": decimal_text(standing.capacity, limit.scale),
        "used": decimal_text(standing.used, limit.scale),
        "held": decimal_text(standing.held, limit.scale),
        "remaining": decimal_text(standing.remaining, limit.scale),
        "resets_at": None if standing.resets_at is None else windows.format_instant(standing.resets_at),
    }


# Refusals


def refusal_of(answer: Answer) -> tuple[Problem, RefusalDocument | dict[str, object]]:
    """Return the problem of a hold that does not fit, and the members that it has besides.

    402 if a limit says so, else 429; where all that is in the way only puts work off, the answer is to come later.
    """
    violated = answer.violated
    refusing = [claim for claim in violated if claim.limit.policy is Policy.REJECT]
    status = 402 if any(claim.limit.status == 402 for claim in refusing) else 429
    words = [_words(claim) for claim in violated]
    resets = [claim.standing.resets_at for claim in violated]
    problem = Problem(
        Code.OVER_LIMIT,
        ("This does not fit now: " if refusing else "This has to wait: ") + " ".join(words),
        retry_after_s=None if None in resets else max((_seconds(at, answer.now) for at in resets if at), default=None),
        headers=fields_of(answer.claims, answer.now),
        http_status=status,
    )
    return problem, {"postponed": not refusing, "limits": [limit_of(claim) for claim in violated]}


def _words(claim: Claim) -> str:
    said = limit_of(claim)
    asked = "some" if said["amount"] is None else said["amount"]
    resets = "never resets" if said["resets_at"] is None else f"resets at {said['resets_at']}"
    left = f"{said['remaining']} of {said['capacity']}"
    return f"The limit {said['id']!r} has {left} left, and {asked} is asked for; it {resets}."


def fields_of(claims: Sequence[Claim], now: int) -> dict[str, str]:
    """Return the RateLimit fields (draft-ietf-httpapi-ratelimit-headers-11) of the limits that bound a hold.

    Amounts are whole units, rounded down; a limit that never resets has no window.
    """
    bounding = [(claim, claim.standing) for claim in claims if not limits.is_unlimited(claim.limit)]
    if not bounding:
        return {}
    return {
        "RateLimit-Policy": ", ".join(_policy(claim, standing) for claim, standing in bounding),
        "RateLimit": ", ".join(_remaining(claim, standing, now) for claim, standing in bounding),
    }


def _policy(claim: Claim, standing: Standing) -> str:
    window = "" if standing.resets_at is None else f";w={(standing.end - standing.start) // SECOND}"
    return f'"{claim.limit.id}";q={_whole(standing.capacity, claim)}{window}'


def _remaining(claim: Claim, standing: Standing, now: int) -> str:
    reset = "" if standing.resets_at is None else f";t={_seconds(standing.resets_at, now)}"
    return f'"{claim.limit.id}";r={_whole(standing.remaining, claim)}{reset}'


def _whole(amount: int, claim: Claim) -> int:
    return min(FIELD_INTEGER_MAX, amount // int(10**claim.limit.scale))


def _seconds(at: int, now: int) -> int:
    return -((now - at) // SECOND)
