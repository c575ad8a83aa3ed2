"""The definitions of limits and grants as they are sent: every flaw with its JSON pointer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from tallystick import limits, windows
from tallystick.envelope import pointer_to
from tallystick.errors import Code, Flaw, Problem
from tallystick.metering import label_to_come
from tallystick.model import Catalog, Grant, GrantKind, Labels, Limit, Meter, Policy, Property, Unheld, Verdict
from tallystick.quantity import AMOUNT_MAX
from tallystick.query import decimal_text
from tallystick.windows import ANCHOR_MAX, Period

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
ID_RULE = "must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', and begin with a letter or digit"
AMOUNT_RULE = "Plain decimal text; null = none of its own, only what grants give."
ANCHOR_RULE = "Where a period begins: a weekday (1 = Monday) or a day of the month (31 = its last)."
STATUSES = (402, 429)
THRESHOLD_MAX = 1000

_AMOUNT = re.compile(r"(-?)([0-9]{1,40})(?:\.([0-9]{1,40}))?", re.ASCII)

AMOUNT_SCHEMA = {"type": "string", "pattern": r"^[0-9]{1,40}(\.[0-9]{1,40})?$"}
ID_SCHEMA = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}

Found = tuple[Code, str, str]
"""A flaw: its code, where it is, and what to do."""


class LimitDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of PUT /v1/limits/{id}: the whole new definition."""

    id: Annotated[str | None, Meta(extra_json_schema={"description": "As in the path, or left out."})] = None
    account: str
    meter: str
    property: Property = Property.QUANTITY
    where: dict[str, str] = {}
    period: Period
    timezone: Annotated[str, Meta(extra_json_schema={"description": "An IANA zone."})] = "UTC"
    anchor: Annotated[int | None, Meta(extra_json_schema={"description": ANCHOR_RULE})] = None
    amount: Annotated[str | None, Meta(extra_json_schema={"description": AMOUNT_RULE})]
    policy: Policy = Policy.REJECT
    status: Annotated[int, Meta(extra_json_schema={"enum": list(STATUSES)})] = 429
    unheld: Unheld = Unheld.RECORD
    thresholds: list[Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": THRESHOLD_MAX})]] = []


class GrantDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename={"start": "from", "end": "until"}):
    """The body of POST /v1/limits/{id}/grants."""

    id: Annotated[str, Meta(extra_json_schema=ID_SCHEMA)]
    amount: Annotated[str, Meta(extra_json_schema=AMOUNT_SCHEMA)]
    kind: GrantKind
    start: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    end: Annotated[str | None, Meta(extra_json_schema={"description": "An instant; null = without end."})]


def limit_of(id: str, document: LimitDocument, catalog: Catalog, text_length_max: int) -> Limit:
    """Return the limit that a document defines; a Problem names everything that is wrong with it."""
    meter = catalog.meters.get(document.meter)
    _refuse(
        *_flaws_of_id(id, "", "A limit's id"),
        *_flaws_of_meter(document, meter, catalog, text_length_max),
        *_flaws_of_time(document),
        *_flaws_of_policy(document),
    )
    assert meter is not None, "an unknown one was refused"
    scale = limits.scale_of(document.property, meter)
    return Limit(
        id=id,
        account=document.account,
        meter=document.meter,
        property=document.property,
        scale=scale,
        period=document.period,
        amount=None if document.amount is None else amount_of(document.amount, scale),
        where=_where(document, meter, text_length_max),
        timezone=document.timezone,
        anchor=document.anchor,
        policy=document.policy,
        status=document.status,
        thresholds=tuple(document.thresholds),
        unheld=document.unheld,
    )


def _where(document: LimitDocument, meter: Meter, text_length_max: int) -> Labels:
    """Return the labels that a document without flaws asks for, as events have them."""
    said = ((name, label_to_come(meter, name, value, "", text_length_max)) for name, value in document.where.items())
    return tuple(sorted((name, text) for name, text in said if isinstance(text, str)))


def grant_of(limit: Limit, document: GrantDocument) -> Grant:
    """Return the grant that a document gives a limit; a Problem names everything that is wrong with it."""
    start, end = _instant(document.start), None if document.end is None else _instant(document.end)
    _refuse(
        *_flaws_of_id(document.id, "/id", "A grant's id"),
        *_flaws_of_amount(document.amount, limit.scale),
        *_flaws_of_validity(start, end, has_end=document.end is not None),
    )
    assert start is not None, "what is no instant was refused"
    amount = amount_of(document.amount, limit.scale)
    return Grant(limit.id, document.id, document.kind, amount, limit.scale, start, end)


def amount_of(text: str, scale: int) -> int:
    """Read an amount without flaws as an integer at a scale."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.rstrip("0").ljust(scale, "0"))


def _refuse(*found: Found) -> None:
    if found:
        code, _, detail = found[0]
        raise Problem(code, detail, tuple(Flaw(pointer, each) for _, pointer, each in found))


def _flaws_of_id(id: str, pointer: str, what: str) -> Iterator[Found]:
    if not ID.fullmatch(id):
        yield Code.FIELD_VALUE, pointer, f"{what} {ID_RULE}."


def _flaws_of_meter(
    document: LimitDocument, meter: Meter | None, catalog: Catalog, text_length_max: int
) -> Iterator[Found]:
    if meter is None:
        names = ", ".join(sorted(catalog.meters))
        yield Code.FIELD_VALUE, "/meter", f"There is no such meter; there are {names}."
        return
    if not limits.adds_up(document.property, meter):
        detail = f"Quantities of {meter.name} ({meter.aggregation}) do not add up: limit its count, or another meter."
        yield Code.FIELD_VALUE, "/property", detail
    labels = [name for name, _ in meter.labels]
    for name, value in document.where.items():
        pointer = pointer_to("where", name)
        if name not in labels:
            detail = f"{meter.name} has no such label; it has {', '.join(labels)}." if labels else "It has no labels."
            yield Code.FIELD_VALUE, pointer, detail
        text = label_to_come(meter, name, value, pointer, text_length_max)
        if isinstance(text, Verdict) and text.code is not None:
            yield text.code, pointer, text.detail
    if document.amount is not None:
        yield from _flaws_of_amount(document.amount, limits.scale_of(document.property, meter))


def _flaws_of_amount(text: str, scale: int) -> Iterator[Found]:
    match, pointer = _AMOUNT.fullmatch(text), "/amount"
    if match is None:
        yield Code.QUANTITY_TYPE, pointer, 'amount must be a plain decimal in a string, such as "100" or "7.5".'
        return
    sign, _, fraction = match.groups()
    if sign:
        yield Code.QUANTITY_NEGATIVE, pointer, "amount is never negative: send 0 or more."
    elif len((fraction or "").rstrip("0")) > scale:
        allowed = f"at most {scale} decimals" if scale else "a whole number"
        yield Code.QUANTITY_PRECISION, pointer, f"amount is kept exactly: send {allowed}."
    elif amount_of(text, scale) > AMOUNT_MAX:
        yield Code.QUANTITY_RANGE, pointer, f"amount is too large: send at most {decimal_text(AMOUNT_MAX, scale)}."


def _flaws_of_time(document: LimitDocument) -> Iterator[Found]:
    if not windows.is_zone(document.timezone):
        yield Code.FIELD_VALUE, "/timezone", "timezone must be an IANA zone, such as Europe/Prague."
    if document.anchor is None:
        return
    last = ANCHOR_MAX.get(document.period)
    if last is None:
        yield Code.FIELD_VALUE, "/anchor", f"Only {', '.join(ANCHOR_MAX)} have an anchor: leave it out."
    elif not 1 <= document.anchor <= last:
        what = "a weekday, 1 (Monday) to 7" if last == 7 else "a day of the month, 1 to 31 (31 = its last day)"
        yield Code.FIELD_VALUE, "/anchor", f"The anchor of a {document.period} must be {what}."


def _flaws_of_policy(document: LimitDocument) -> Iterator[Found]:
    if document.status not in STATUSES:
        yield Code.FIELD_VALUE, "/status", f"status must be {' or '.join(map(str, STATUSES))}."
    before = 0
    for place, threshold in enumerate(document.thresholds):
        if not before < threshold <= THRESHOLD_MAX:
            detail = f"thresholds must be percentages from 1 to {THRESHOLD_MAX}, each larger than the one before."
            yield Code.FIELD_VALUE, f"/thresholds/{place}", detail
        before = max(before, threshold)


def _flaws_of_validity(start: int | None, end: int | None, *, has_end: bool) -> Iterator[Found]:
    detail = "must be an RFC 3339 instant with an offset or Z, such as 2026-11-01T00:00:00Z"
    if start is None:
        yield Code.TIME_FORMAT, "/from", f"from {detail}."
    if has_end and end is None:
        yield Code.TIME_FORMAT, "/until", f"until {detail}; or null: without end."
    if start is not None and end is not None and end <= start:
        yield Code.FIELD_VALUE, "/until", "until must be after from; or null: without end."


def _instant(text: str) -> int | None:
    try:
        return windows.parse_instant(text)
    except ValueError:
        return None
