"""What an event adds to the meters, decided by the event and the catalog alone: the rules that every other path keeps.

Checks come in this order, and the first that fails is the verdict: members that the type requires, reserved labels,
then each meter of the catalog in turn: its labels as the meter lists them, its filter, its quantity.
"""

from __future__ import annotations

import re
from decimal import ROUND_05UP, Context, Decimal, Inexact, InvalidOperation
from functools import cache
from typing import Any

from tallystick.envelope import EXACT, label_text, named, number, pointer_to, refusal
from tallystick.errors import Code
from tallystick.model import Catalog, Event, Labels, Meter, Posting, Rounding, Verdict

AUDIO = "audio.processed"
STATUSES = frozenset({"success", "failed", "rejected", "cancelled"})
TYPES_WITH_STATUS = frozenset({AUDIO, "vision.request", "resource.upserted", "model.request"})
REQUIRED = {"model.request": ("model",)}

RESERVED = frozenset({"total", "key"})
LABELS_RESERVED = ("model", "billing", "license")

LETTER_OF_PARAMETER = {
    "scrubaudio": "A",
    "agentid": "a",
    "diarize": "D",
    "emotion": "E",
    "gender": "G",
    "hints": "H",
    "lid": "L",
    "music": "M",
    "sentiment": "S",
    "realtime": "R",
    "scrubtext": "T",
    "notext": "*",
}
LETTERS = frozenset(LETTER_OF_PARAMETER.values())

QUANTITY_MAX = Decimal(10) ** 12
EXPONENT_MIN = -12
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
DURATION = re.compile(r"(-?)P(?:([0-9]+)W)?(?:([0-9]+)D)?(?:T(?=[0-9])(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)S)?)?")
FRACTION = re.compile(r"[.,]([0-9]+)([WDHMS])\Z")
SECONDS_OF_PART = {"W": 604_800, "D": 86_400, "H": 3_600, "M": 60, "S": 1}

GUARD_DIGITS = 15
GUARDED = Context(prec=60, rounding=ROUND_05UP)


def meter(event: Event, catalog: Catalog, *, text_length_max: int = 256) -> tuple[Posting, ...] | Verdict:
    """Return what the event adds to each meter that counts it, or why it must be refused.

    An event of another status than success adds nothing and is not looked at further. The time, the clock and all
    that was counted before play no part.
    """
    if not succeeded(event):
        return ()
    refused = _required(event) or _reserved(event)
    if refused is not None:
        return refused
    postings: list[Posting] = []
    for each in catalog.meters.values():
        if event.type in each.events:
            posting = _posting(event, each, text_length_max)
            if isinstance(posting, Verdict):
                return posting
            postings += posting
    return tuple(postings)


def feeds(event_type: str, catalog: Catalog) -> bool:
    """Say whether any meter counts events of this type."""
    return any(event_type in each.events for each in catalog.meters.values())


def succeeded(event: Event) -> bool:
    """Say whether the event reports work that is counted; a type without a status always does."""
    return event.type not in TYPES_WITH_STATUS or event.data.get("status", "success") == "success"


def _required(event: Event) -> Verdict | None:
    for name in REQUIRED.get(event.type, ()):
        if event.data.get(name) is None:
            detail = f"`{name}` is required in the data of {event.type}."
            return refusal(Code.FIELD_MISSING, pointer_to("data", name), detail)
    return None


def _reserved(event: Event) -> Verdict | None:
    """Refuse the names that a report by model, billing and license needs for its own entries."""
    if event.type != AUDIO or event.data.get("model") is None:
        return None
    for name in LABELS_RESERVED:
        value = event.data.get(name)
        if isinstance(value, str) and value in RESERVED:
            detail = f"`{name}` may be neither `total` nor `key`: reports use these names themselves."
            return refusal(Code.LABEL_RESERVED, pointer_to("data", name), detail)
    return None


def _posting(event: Event, meter: Meter, text_length_max: int) -> tuple[Posting, ...] | Verdict:
    labels = _labels(event, meter, text_length_max)
    if isinstance(labels, Verdict):
        return labels
    if not _holds(meter, labels):
        return ()
    amount = _amount(event, meter)
    if isinstance(amount, Verdict):
        return amount
    return (Posting(meter.name, meter.version, labels, amount),)


# Paths


@cache
def _names(path: str) -> tuple[str, ...]:
    """Split `$.data.duration` into its names."""
    return tuple(path.split(".")[1:])


@cache
def _pointer(path: str) -> str:
    return pointer_to(*_names(path))


def _member(event: Event, path: str) -> Any:
    """Return what a path leads to; None where it leads nowhere. `$.space` and `$.account` are the resolved ones."""
    first, *rest = _names(path)
    if first in ("account", "source", "id", "type", "subject", "space"):
        value: Any = getattr(event, first)
    else:
        value = event.data if first == "data" else event.attributes.get(first)
    for name in rest:
        value = value.get(name) if isinstance(value, dict) else None
    return value


# Labels


def _labels(event: Event, meter: Meter, text_length_max: int) -> Labels | Verdict:
    labels: list[tuple[str, str]] = []
    for name, path in meter.labels:
        value = _member(event, path)
        if value is None:
            continue
        text = _label(event, name, value, _pointer(path), text_length_max)
        if isinstance(text, Verdict):
            return text
        labels.append((name, text))
    return tuple(sorted(labels))


def _label(event: Event, name: str, value: Any, pointer: str, text_length_max: int) -> str | Verdict:
    if name == "tags" and event.type == AUDIO:
        return _letters(value, pointer)
    return label_text(value, pointer, text_length_max)


def _letters(value: Any, pointer: str) -> str | Verdict:
    """Write tags, sent as letters or as a list of parameter names, as letters in code-point order without repeats."""
    if isinstance(value, str):
        if set(value) <= LETTERS:
            return "".join(sorted(set(value)))
        return refusal(Code.FIELD_VALUE, pointer, f"`tags` may have the letters {''.join(sorted(LETTERS))} only.")
    if not isinstance(value, list):
        return refusal(Code.FIELD_TYPE, pointer, "Send `tags` as a string of letters or a list of parameter names.")
    for index, name in enumerate(value):
        if not isinstance(name, str):
            return refusal(Code.FIELD_TYPE, f"{pointer}/{index}", "A list of `tags` holds parameter names, as text.")
        if name not in LETTER_OF_PARAMETER:
            known = ", ".join(LETTER_OF_PARAMETER)
            return refusal(Code.FIELD_VALUE, f"{pointer}/{index}", f"A list of `tags` may name {known} only.")
    return "".join(sorted({LETTER_OF_PARAMETER[name] for name in value}))


def _holds(meter: Meter, labels: Labels) -> bool:
    """Say whether every condition of the meter's filter holds; an absent label is like an empty one."""
    found = dict(labels)
    return all(found.get(name, "") in values for name, values in meter.where)


# Quantities


def _amount(event: Event, meter: Meter) -> int | Verdict:
    """Return the event's quantity as an integer at the meter's scale."""
    if meter.quantity is None:
        return _scaled(Decimal(1), meter, "")
    pointer = _pointer(meter.quantity)
    value = _member(event, meter.quantity)
    if value is None:
        detail = f"{named(pointer)} is what the meter {meter.name} counts: send it."
        return refusal(Code.QUANTITY_MISSING, pointer, detail)
    quantity = _quantity(value, pointer, is_duration=meter.unit == "s")
    return quantity if isinstance(quantity, Verdict) else _scaled(quantity, meter, pointer)


def _quantity(value: Any, pointer: str, *, is_duration: bool) -> Decimal | Verdict:
    """Read a quantity: a JSON number; for seconds also one in a string, or an ISO 8601 duration."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    if not is_duration:
        return refusal(Code.QUANTITY_TYPE, pointer, f"Send {named(pointer)} as a JSON number.")
    seconds = _seconds(value) if isinstance(value, str) else None
    if seconds is None:
        detail = (
            f"Send {named(pointer)} as a number of seconds (7.5), a string that holds one, or an ISO 8601 duration of "
            "weeks, days, hours, minutes and seconds (PT7.5S); months and years have no fixed length."
        )
        return refusal(Code.QUANTITY_TYPE, pointer, detail)
    return seconds


def _seconds(text: str) -> Decimal | Verdict | None:
    if NUMBER.fullmatch(text):
        try:
            return number(text)
        except ValueError:
            # No decimal holds it; any number as far out of range is refused in the same words.
            return Decimal("1e99" if "e-" not in text.lower() else "1e-99")
    return _iso_seconds(text)


def _iso_seconds(text: str) -> Decimal | None:
    """Read an ISO 8601 duration of parts with a fixed length; only its last part may have a fraction."""
    fraction = FRACTION.search(text)
    whole = FRACTION.sub(r"\2", text)
    match = DURATION.fullmatch(whole)
    if match is None or not any(match.groups()[1:]):
        return None
    sign, *parts = match.groups()
    seconds = Decimal(0)
    for part, length in zip(parts, SECONDS_OF_PART.values(), strict=True):
        seconds = EXACT.fma(Decimal(part or 0), Decimal(length), seconds)
    if fraction is not None:
        digits, unit = fraction.groups()
        seconds = EXACT.fma(Decimal(f"0.{digits}"), Decimal(SECONDS_OF_PART[unit]), seconds)
    return -seconds if sign else seconds


def _scaled(quantity: Decimal, meter: Meter, pointer: str) -> int | Verdict:
    refused = _out_of_range(quantity, pointer)
    if refused is not None:
        return refused
    if meter.rounding is not None:
        return rounded(quantity, meter.rounding, meter.scale)
    digits = Context(prec=60, traps=[Inexact, InvalidOperation])
    try:
        return int(digits.quantize(quantity, Decimal(1).scaleb(-meter.scale)).scaleb(meter.scale, digits))
    except Inexact:
        allowed = f"at most {meter.scale} decimals" if meter.scale else "a whole number"
        detail = f"The meter {meter.name} counts {named(pointer)} exactly: send {allowed}."
        return refusal(Code.QUANTITY_PRECISION, pointer, detail)


def _out_of_range(quantity: Decimal, pointer: str) -> Verdict | None:
    if quantity < 0:
        return refusal(Code.QUANTITY_NEGATIVE, pointer, f"{named(pointer)} is never negative: send 0 or more.")
    if quantity > QUANTITY_MAX or (quantity and quantity.adjusted() < EXPONENT_MIN):
        return refusal(Code.QUANTITY_RANGE, pointer, f"{named(pointer)} is out of range: send 0, or 1e-12 to 1e12.")
    return None


def rounded(quantity: Decimal, rounding: Rounding, scale: int) -> int:
    """Round a quantity in range to a multiple of `rounding.to`, at least its minimum, as an integer at `scale`."""
    # ROUND_05UP keeps enough of the digits past the guard for the rounding that follows to come out as if from all.
    guarded = int(GUARDED.quantize(quantity, Decimal(1).scaleb(-GUARD_DIGITS)).scaleb(GUARD_DIGITS, GUARDED))
    step = _at_guard(rounding.to)
    floor, rest = divmod(guarded, step)
    up = {
        "up": rest > 0,
        "down": False,
        "half_up": 2 * rest >= step,
        "half_even": 2 * rest > step or (2 * rest == step and floor % 2 == 1),
    }[rounding.mode]
    amount = max((floor + up) * step, _at_guard(rounding.minimum))
    return amount // int(10 ** (GUARD_DIGITS - scale))


def _at_guard(text: str) -> int:
    return int(Decimal(text).scaleb(GUARD_DIGITS, GUARDED))
