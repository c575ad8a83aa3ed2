"""Whether one event can be taken, and what it adds: the exact path, which every faster one must agree with.

Checks come in this order, and the first that fails is the verdict:

 1. size; JSON that can be kept (envelope.read); specversion
 2. id, source and type: there, text, of the right length, clean
 3. subject: the same, if it is there
 4. every other attribute with a text: clean
 5. time: its form, then not too far ahead
 6. account: its form, then whether the key may name it, then its name
 7. space: text of the right length, clean
 8. data: its form; status, for the types that have one
 9. what it says of a resource (resources.change_of)
10. what the meters make of it (metering.meter)
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tallystick.envelope import (
    DELETED,
    SECOND,
    UNSAFE,
    Unreadable,
    event_without_nulls,
    label_text,
    parse_time,
    pointer_to,
    read,
    refusal,
    space_member,
    unsafe_text,
    without_nulls,
)
from tallystick.errors import Code
from tallystick.metering import STATUSES, TYPES_WITH_STATUS, feeds, meter, metered
from tallystick.model import Caller, Catalog, Checked, Verdict
from tallystick.resources import change_of
from tallystick.settings import Settings

ACCOUNT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,49}")
SPECVERSION = "1.0"

Envelope = Mapping[str, Any]


def validate(
    raw: bytes, *, plain: bool, caller: Caller, catalog: Catalog, settings: Settings, now: int
) -> Checked | Verdict:
    """Read one event and return it with what it adds and changes, or the reason why it is refused.

    What needs state is not looked at: whether the identity is taken, whether the account exists. `plain` is true for
    formats that do not ask for a specversion. `now` is the time of receipt.
    """
    envelope = _envelope(raw, settings)
    if isinstance(envelope, Verdict):
        return envelope
    refused = (
        _specversion(envelope, plain)
        or _names(envelope, settings)
        or _texts(envelope)
        or _time(envelope, settings, now)
    )
    if refused is not None:
        return refused
    account = _account(envelope, caller)
    if isinstance(account, Verdict):
        return account
    refused = _space(envelope, account, settings) or _data(envelope, catalog) or _status(envelope)
    if refused is not None:
        return refused
    event = event_without_nulls(envelope, account, now)
    change = change_of(event, text_length_max=settings.text_length_max)
    if isinstance(change, Verdict):
        return change
    postings = meter(event, catalog, text_length_max=settings.text_length_max)
    return postings if isinstance(postings, Verdict) else Checked(event, postings, change)


def but_for_meters(
    raw: bytes, *, plain: bool, caller: Caller, catalog: Catalog, settings: Settings, now: int
) -> Checked | None:
    """Return an event that nothing but a meter refuses, with what the other meters make of it; None for any other."""
    without = replace(catalog, meters={})
    checked = validate(raw, plain=plain, caller=caller, catalog=without, settings=settings, now=now)
    if isinstance(checked, Verdict):
        return None
    return replace(checked, postings=metered(checked.event, catalog, text_length_max=settings.text_length_max))


def _envelope(raw: bytes, settings: Settings) -> Envelope | Verdict:
    """Read the event's JSON; members that are null count as absent from here on."""
    if len(raw) > settings.event_bytes_max:
        detail = f"Send events of at most {settings.event_bytes_max} bytes: this one has {len(raw)}."
        return refusal(Code.EVENT_TOO_LARGE, "", detail)
    try:
        envelope: Envelope = without_nulls(read(raw))
    except Unreadable as error:
        return refusal(error.code, error.pointer, error.detail)
    return envelope


def _specversion(envelope: Envelope, plain: bool) -> Verdict | None:
    version = envelope.get("specversion")
    if version == SPECVERSION or (version is None and plain):
        return None
    detail = f'`specversion` must be "{SPECVERSION}".'
    if version is None:
        return refusal(Code.FIELD_MISSING, "/specversion", f"{detail} Only plain JSON may leave it out.")
    return refusal(Code.FIELD_VALUE if isinstance(version, str) else Code.FIELD_TYPE, "/specversion", detail)


def _names(envelope: Envelope, settings: Settings) -> Verdict | None:
    """Check what names the event and its work: id, source, type, and subject where there is one."""
    for name in ("id", "source", "type"):
        if name not in envelope:
            return refusal(Code.FIELD_MISSING, f"/{name}", f"`{name}` is required: {_wanted(settings)}.")
    for name in ("id", "source", "type", "subject"):
        if name in envelope and (refused := _name(envelope, name, settings)) is not None:
            return refused
    return None


def _name(envelope: Envelope, name: str, settings: Settings) -> Verdict | None:
    value = envelope[name]
    if not isinstance(value, str):
        return refusal(Code.FIELD_TYPE, f"/{name}", f"`{name}` must be {_wanted(settings)}.")
    if not 1 <= len(value) <= settings.text_length_max:
        return refusal(Code.FIELD_LENGTH, f"/{name}", f"`{name}` must be {_wanted(settings)}: it has {len(value)}.")
    return _text(name, value)


def _wanted(settings: Settings) -> str:
    return f"a string of 1 to {settings.text_length_max} characters"


def _texts(envelope: Envelope) -> Verdict | None:
    """Check the text of every attribute, also of those that nothing here understands, and their names."""
    for name, value in envelope.items():
        if name != "data" and (refused := _text(name, value)) is not None:
            return refused
    return None


def _text(name: str, value: Any) -> Verdict | None:
    if _is_plain(name) and (not isinstance(value, str) or _is_plain(value)):
        return None
    return refusal(Code.TEXT_INVALID, pointer_to(name), unsafe_text(pointer_to(name)))


def _is_plain(text: str) -> bool:
    return (text.isascii() and text.isprintable()) or not UNSAFE.search(text)


def _time(envelope: Envelope, settings: Settings, now: int) -> Verdict | None:
    value = envelope.get("time")
    if value is None:
        return None
    try:
        time = parse_time(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None:
        detail = "Send `time` as in 2024-05-31T23:59:59.123456+02:00 (RFC 3339), from 0001-01-02 to 9999-12-30."
        return refusal(Code.TIME_FORMAT, "/time", detail)
    if time > now + settings.time_ahead_s_max * SECOND:
        detail = f"`time` may be at most {settings.time_ahead_s_max} seconds ahead: check the sender's clock and zone."
        return refusal(Code.TIME_FUTURE, "/time", detail)
    return None


def _account(envelope: Envelope, caller: Caller) -> str | Verdict:
    """Say whose event this is: as it says itself, else as the key says, else as its subject begins."""
    named = envelope.get("account")
    if named is not None and not isinstance(named, str):
        return refusal(Code.FIELD_TYPE, "/account", "`account` must be the name of an account, as a string.")
    if caller.account is not None:
        if named in (None, caller.account):
            return caller.account
        return refusal(
            Code.ACCOUNT_FORBIDDEN, "/account", "This key may send for its own account only: leave `account` out."
        )
    pointer = "/subject" if named is None else "/account"
    if named is None:
        subject = envelope.get("subject")
        if subject is None:
            detail = "Say whose usage this is: send `account`, or a `subject` that begins with the account's name."
            return refusal(Code.FIELD_MISSING, pointer, detail)
        named = subject.partition("/")[0]
    if ACCOUNT_NAME.fullmatch(named):
        return str(named)
    detail = "An account's name has 1 to 50 of a-z, 0-9 and `-`, and does not begin with `-`."
    return refusal(Code.FIELD_VALUE, pointer, f"{detail} Send `account`, or a `subject` that begins with it.")


def _space(envelope: Envelope, account: str, settings: Settings) -> Verdict | None:
    pointer, value = space_member(envelope, account)
    text = None if value is None else label_text(value, pointer, settings.text_length_max)
    return text if isinstance(text, Verdict) else None


def _data(envelope: Envelope, catalog: Catalog) -> Verdict | None:
    data, encoded = envelope.get("data"), envelope.get("data_base64")
    if data is not None and not isinstance(data, dict) and _is_understood(envelope["type"], catalog):
        return refusal(Code.FIELD_TYPE, "/data", f"`data` of {envelope['type']} must be a JSON object.")
    if encoded is None:
        return None
    if data is not None:
        return refusal(Code.FIELD_VALUE, "/data_base64", "Send either `data` or `data_base64`, not both.")
    if not isinstance(encoded, str):
        return refusal(Code.FIELD_TYPE, "/data_base64", "`data_base64` must be a string, of base64.")
    try:
        base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return refusal(Code.FIELD_VALUE, "/data_base64", "Send `data_base64` as base64, padded to its end.")
    return None


def _is_understood(event_type: str, catalog: Catalog) -> bool:
    return event_type in TYPES_WITH_STATUS or event_type == DELETED or feeds(event_type, catalog)


def _status(envelope: Envelope) -> Verdict | None:
    if envelope["type"] not in TYPES_WITH_STATUS:
        return None
    status = envelope.get("data", {}).get("status", "success")
    detail = f"`status` must be one of {', '.join(sorted(STATUSES))}; absent is success."
    if not isinstance(status, str):
        return refusal(Code.FIELD_TYPE, "/data/status", detail)
    return None if status in STATUSES else refusal(Code.FIELD_VALUE, "/data/status", detail)
