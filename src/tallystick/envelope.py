"""The JSON of one event: read exactly, its time, its space, what it says; and whether two events say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from tallystick.errors import Code
from tallystick.model import Event, Status, Verdict

DEPTH_MAX = 64
"""How deep objects and lists may be nested in an event; the event itself is the first level."""

UPSERTED, DELETED = "resource.upserted", "resource.deleted"
"""The types of events about resources."""

UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What no attribute or label may contain: controls, bidi embeddings, overrides and isolates, lone surrogates."""

EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""For operations that are exact whatever the number of digits; never for one that may have to round."""

NOT_CONTENT = frozenset({"specversion", "account", "space", "datacontenttype", "traceparent", "tracestate"})
"""Attributes that content leaves out: compared as resolved, or about the way the event took."""

TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
EPOCH_DAY = date(1970, 1, 1).toordinal()
SECOND = 1_000_000
DAY = 86_400 * SECOND
TIME_MIN = (date(1, 1, 2).toordinal() - EPOCH_DAY) * DAY
TIME_END = (date(9999, 12, 31).toordinal() - EPOCH_DAY) * DAY


class Unreadable(ValueError):
    """Bytes that are not one JSON object which can be kept: the code, the place and the reason."""

    def __init__(self, code: Code, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.pointer = pointer
        self.detail = detail


def refusal(code: Code, pointer: str, detail: str) -> Verdict:
    """Make the verdict on an event that is not taken."""
    return Verdict(Status.REJECTED, code=code, pointer=pointer, detail=detail)


def pointer_to(*names: str | int) -> str:
    """Write a JSON pointer (RFC 6901); what UTF-8 cannot carry becomes a question mark."""
    path = "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in names)
    return path.encode("utf-8", "replace").decode("utf-8")


def named(pointer: str) -> str:
    """Name the member that a JSON pointer leads to, as a sentence has it: `data.duration`; the event for itself."""
    path = pointer[1:].replace("/", ".").replace("~1", "/").replace("~0", "~")
    return f"`{path}`" if pointer else "the event"


# Reading


def number(text: str) -> Decimal:
    """Read a JSON number exactly, whatever its size; ValueError past what a decimal's exponent can hold."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("the exponent of a number is too large") from None


_decoder = msgspec.json.Decoder(float_hook=number)


def read(raw: bytes) -> dict[str, Any]:
    """Read one event's JSON object with numbers as int or Decimal; of repeated names the last wins.

    Raises Unreadable: `not_json`, also for NaN, Infinity and nesting past DEPTH_MAX; `not_object`; `text_invalid` for
    bytes that are not UTF-8 and lone surrogates anywhere; `quantity_range` for an exponent of nineteen digits or more.
    """
    try:
        value = _decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        value = _read_slowly(raw)
    else:
        if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX:
            _inspect(value, ())
    if not isinstance(value, dict):
        raise Unreadable(Code.NOT_OBJECT, "", "Send the event as a JSON object, in braces.")
    return value


class _Id(msgspec.Struct):
    id: str | None = None


_id_decoder = msgspec.json.Decoder(_Id)


def id_of(raw: bytes) -> str | None:
    """Return the id of an event that may be anything else but good, for its receipt; None if it has none to show."""
    try:
        return _id_decoder.decode(raw).id
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _id_slowly(raw)


def _id_slowly(raw: bytes) -> str | None:
    try:
        value = json.loads(raw.decode("utf-8"), parse_int=_integer)
        found = value.get("id") if isinstance(value, dict) else None
        return found.encode("utf-8").decode("utf-8") if isinstance(found, str) else None
    except (ValueError, RecursionError):
        return None


class Names(msgspec.Struct, frozen=True):
    """What names an event, as far as it has that as text."""

    id: str | None
    source: str | None
    type: str | None


class _Named(msgspec.Struct):
    id: Any = None
    source: Any = None
    type: Any = None


_names_decoder = msgspec.json.Decoder(_Named)


def names_of(raw: bytes) -> Names:
    """Return what names an event that may be anything else but good; of one that cannot be read no more than the id."""
    try:
        found = _names_decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Names(_id_slowly(raw), None, None)
    id, source, type = (text if isinstance(text, str) else None for text in (found.id, found.source, found.type))
    return Names(id, source, type)


def _read_slowly(raw: bytes) -> Any:
    """Read what the fast decoder refused: give the value after all, or say what is wrong and where."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(Code.TEXT_INVALID, "", f"Send UTF-8: byte {error.start} of the event is not.") from None
    try:
        value = json.loads(text, parse_float=_number_or_text, parse_int=_integer, parse_constant=_no_constant)
    except RecursionError:
        _refuse_depth(())
    except ValueError as error:
        raise Unreadable(Code.NOT_JSON, "", f"An event must be JSON: {error}.") from None
    _inspect(value, ())
    return value


class _Beyond(str):
    """The text of a number that no decimal can hold, until its place in the event is known."""


def _number_or_text(text: str) -> Decimal | _Beyond:
    try:
        return number(text)
    except ValueError:
        return _Beyond(text)


def _integer(text: str) -> int | Decimal:
    # Python refuses to read an integer of more than 4,300 digits; a decimal takes any number of them.
    return int(text) if len(text) <= 1000 else Decimal(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _inspect(value: Any, path: tuple[str | int, ...]) -> None:
    """Raise Unreadable for the first thing in `value` that cannot be kept."""
    if isinstance(value, _Beyond):
        raise Unreadable(Code.QUANTITY_RANGE, pointer_to(*path), _beyond(path))
    if isinstance(value, str):
        _inspect_text(value, path)
    elif isinstance(value, dict | list):
        if len(path) >= DEPTH_MAX:
            _refuse_depth(path)
        for name, member in value.items() if isinstance(value, dict) else enumerate(value):
            _inspect_text(name, (*path, name))
            _inspect(member, (*path, name))


def _inspect_text(text: str | int, path: tuple[str | int, ...]) -> None:
    if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Unreadable(Code.TEXT_INVALID, pointer_to(*path), _halved(path))


def _beyond(path: tuple[str | int, ...]) -> str:
    return f"The exponent of {named(pointer_to(*path))} is too large: send a number from 1e-12 to 1e12."


def _halved(path: tuple[str | int, ...]) -> str:
    return f"Remove half a surrogate pair from {named(pointer_to(*path))}: that is no character."


def _refuse_depth(path: tuple[str | int, ...]) -> NoReturn:
    detail = f"Nest {named(pointer_to(*path[:1]))} less deeply: {DEPTH_MAX} levels are the most."
    raise Unreadable(Code.NOT_JSON, pointer_to(*path), detail)


# Values


@lru_cache(maxsize=16)
def parse_time(text: str) -> int:
    """Read an RFC 3339 date-time as microseconds since 1970; ValueError says what is wrong with it.

    Finer digits are cut, a second of 60 is read as 59. Only the letter T (or t) parts date and time.
    """
    match = TIME.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time with an offset or Z")
    year, month, day, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.groups()
    seconds = int(hour) * 3600 + int(minute) * 60 + min(int(second), 59)
    if sign is not None:
        offset = int(offset_hour) * 3600 + int(offset_minute) * 60
        seconds += offset if sign == "-" else -offset
    days = date(int(year), int(month), int(day)).toordinal() - EPOCH_DAY
    instant = days * DAY + seconds * SECOND + int((fraction or "")[:6].ljust(6, "0"))
    if not TIME_MIN <= instant < TIME_END:
        raise ValueError("not between 0001-01-02 and 9999-12-30 in UTC")
    return instant


def text_of(value: Any) -> str | None:
    """Write a value as a label has it: text as sent, a number in shortest decimal, true or false; None for the rest."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        shortest = Decimal(value).normalize(EXACT)
        return format(abs(shortest) if shortest.is_zero() else shortest, "f")
    return None


def label_text(value: Any, pointer: str, length_max: int) -> str | Verdict:
    """Write a value as a label, or say why it cannot be one."""
    if isinstance(value, str) and len(value) <= length_max and value.isascii() and value.isprintable():
        return value
    # A short number such as 1e999999999 has a very long plain form, which must not be written out to be measured.
    too_long = isinstance(value, Decimal) and bool(value) and abs(value.adjusted()) > length_max
    text = "" if too_long else text_of(value)
    if text is None:
        detail = f"{named(pointer)} is a label: send text, a number, true or false."
        return refusal(Code.FIELD_TYPE, pointer, detail)
    if too_long or len(text) > length_max:
        return refusal(
            Code.FIELD_LENGTH, pointer, f"{named(pointer)} is a label: send at most {length_max} characters."
        )
    if UNSAFE.search(text):
        return refusal(Code.TEXT_INVALID, pointer, unsafe_text(pointer))
    return text


def unsafe_text(pointer: str) -> str:
    """Say what is to be done about a text that UNSAFE finds something in."""
    return f"Remove control characters, bidi overrides and halves of surrogate pairs from {named(pointer)}."


def space_member(envelope: Mapping[str, Any], account: str) -> tuple[str, Any]:
    """Find what names the event's space: a JSON pointer and the value there; None where nothing does."""
    data = envelope.get("data")
    members = data if isinstance(data, dict) else {}
    named = (
        ("/space", envelope.get("space")),
        ("/data/space", members.get("space")),
        ("/data/dataset", members.get("dataset")),
        ("/subject", _tail(envelope.get("subject"), account)),
    )
    return next((found for found in named if found[1] is not None), ("", None))


def _tail(subject: Any, account: str) -> str | None:
    """Return what follows the first slash of a subject that begins with its account."""
    head, slash, tail = subject.partition("/") if isinstance(subject, str) else ("", "", "")
    return tail if slash and head == account else None


def space_of(envelope: Mapping[str, Any], account: str) -> str | None:
    """Resolve the space of an event; ValueError if what names it cannot be a label."""
    pointer, value = space_member(envelope, account)
    text = text_of(value)
    if text is None and value is not None:
        raise ValueError(f"{pointer} names no space")
    return text


# Events


def event_of(envelope: Mapping[str, Any], account: str, received: int) -> Event:
    """Make the event that a kept envelope reports; `received` is its time where it has none of its own.

    Data that is no object stays among the attributes, as `data`; so does an empty one, which is not the same as none.
    """
    return event_without_nulls(without_nulls(envelope), account, received)


def event_without_nulls(envelope: Mapping[str, Any], account: str, received: int) -> Event:
    """Make the event of an envelope that has no members that are null."""
    members = dict(envelope)
    time = members.pop("time", None)
    data = members.get("data")
    if isinstance(data, dict) and data:
        del members["data"]
    else:
        data = {}
    space = space_of(envelope, account)
    return Event(
        account=account,
        source=members.pop("source"),
        id=members.pop("id"),
        type=members.pop("type"),
        subject=members.pop("subject", None),
        space=space,
        time=received if time is None else parse_time(time),
        timed=time is not None,
        data=data,
        attributes=members,
    )


def without_nulls(value: Any) -> Any:
    """Copy a value without the members that are null, at any depth; a null in a list keeps its place."""
    # Most members are plain, and a call for each would cost more than the copy.
    if isinstance(value, dict):
        return {
            name: without_nulls(member) if isinstance(member, dict | list) else member
            for name, member in value.items()
            if member is not None
        }
    if isinstance(value, list):
        return [without_nulls(member) if isinstance(member, dict | list) else member for member in value]
    return value


# Content


_encoder = msgspec.json.Encoder(order="deterministic", decimal_format="number")


def content(event: Event) -> bytes:
    """Write what an event says as canonical JSON: two events of one identity say the same if these bytes are equal.

    Numbers count by value, text as it was sent, the time as an instant if the event came with one.
    """
    others = {name: value for name, value in event.attributes.items() if name not in NOT_CONTENT}
    said = {
        "account": event.account,
        "attributes": _canonical(others),
        "data": _canonical(event.data),
        "space": event.space,
        "subject": event.subject,
        "time": event.time if event.timed else None,
        "type": event.type,
    }
    return _encoder.encode(said)


def same_content(a: Event, b: Event) -> bool:
    """Say whether two events of one identity are the same report (a duplicate) or not (a conflict)."""
    return content(a) == content(b)


def _canonical(value: Any) -> Any:
    """Copy a value with every number in the one form that its value has."""
    if isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {name: _canonical(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(member) for member in value]
    return _canonical_number(value) if isinstance(value, int | Decimal) else value


def _canonical_number(value: int | Decimal) -> int | Decimal:
    """Give an integer below 10^18 as int and anything else as a decimal without trailing zeros."""
    if isinstance(value, int) and abs(value) < 10**18:
        return value
    shortest = Decimal(value).normalize(EXACT)
    is_small = -18 < shortest.adjusted() < 18
    return int(shortest) if is_small and shortest == shortest.to_integral_value() else shortest
