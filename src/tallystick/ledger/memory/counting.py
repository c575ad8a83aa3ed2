"""What an event adds to one meter, worked out from its JSON in fractions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from tallystick.ledger.memory.documents import Document, at, data_of, written
from tallystick.model import RATE_SCALE, VALUE, Catalog, Meter, Posting, RateTable, Rounding

TAG_LETTERS = {
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
AUDIO = "audio.processed"
TYPES_WITH_STATUS = {AUDIO, "vision.request", "resource.upserted", "model.request"}
SECONDS = {"W": 604_800, "D": 86_400, "H": 3_600, "M": 60, "S": 1}
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
DURATION = re.compile(r"P([0-9]+W)?([0-9]+D)?(T(?=[0-9])([0-9]+H)?([0-9]+M)?([0-9]+S)?)?")
LAST_FRACTION = re.compile(r"[.,][0-9]+(?=[WDHMS]$)")
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
QUANTITY_MAX = 10**12
QUANTITY_LEAST = Decimal("1e-12")
AMOUNT_MAX = 2**63 - 1
EXPONENT_MAX = 2**20
"""A label with more digits than this could not be written down."""


class NotCounted(ValueError):
    """The meter cannot take what the event says; an event that says it for the first time would be refused."""


def is_counted(document: Document) -> bool:
    """Say whether the event reports success, or is of a type that knows nothing else."""
    return document["type"] not in TYPES_WITH_STATUS or data_of(document).get("status", "success") == "success"


def posting_of(document: Document, facts: Document, time: int, meter: Meter, catalog: Catalog) -> Posting | None:
    """Return what the event adds to a meter, None if that does not count it; raise NotCounted if it cannot."""
    if document["type"] not in meter.events or not is_counted(document) or not holds(facts, meter):
        return None
    once = {None: None, "state": "", "url": at(facts, "$.data.url")}[meter.once_per]
    if meter.once_per and once is None:
        return None
    labels = tuple(sorted(labels_of(facts, meter)))
    if meter.aggregation == "unique":
        value = (VALUE, label(needed(facts, meter)))
        return Posting(meter.name, meter.version, (value, *labels), 1)
    amount = amount_of(facts, meter, rate_of(meter, catalog, dict(labels), time))
    return Posting(meter.name, meter.version, labels, amount, once)


def holds(facts: Document, meter: Meter) -> bool:
    """Say whether the event is one that the meter is about; what is no text is like none."""
    return all(condition(facts, meter, name) in values for name, values in meter.where)


def condition(facts: Document, meter: Meter, name: str) -> str:
    value = at(facts, dict(meter.labels).get(name, f"$.data.{name}"))
    if value is None or isinstance(value, dict | float):
        return ""
    if is_tags(facts, name):
        return tags(value) if are_tags(value) else ""
    return "" if isinstance(value, list) else written(value)


def labels_of(facts: Document, meter: Meter) -> Iterator[tuple[str, str]]:
    for name, path in meter.labels:
        value = at(facts, path)
        if value is None:
            continue
        if not is_tags(facts, name):
            yield name, label(value)
        elif are_tags(value):
            yield name, tags(value)
        else:
            raise NotCounted(f"{name} are no tags")


def label(value: Any) -> str:
    """Write a value as a label has it, however long: that was looked at when the event came."""
    if not isinstance(value, str | bool | int | Decimal):
        raise NotCounted("a list or an object is no label")
    if isinstance(value, Decimal) and value and abs(value.adjusted()) > EXPONENT_MAX:
        raise NotCounted("a number as long is no label")
    text = written(value)
    if FORBIDDEN.search(text):
        raise NotCounted("a text as this is no label")
    return text


def is_tags(facts: Document, name: str) -> bool:
    return name == "tags" and bool(facts["type"] == AUDIO)


def are_tags(value: Any) -> bool:
    known: Any = TAG_LETTERS.values() if isinstance(value, str) else TAG_LETTERS
    return isinstance(value, str | list) and all(isinstance(tag, str) and tag in known for tag in value)


def tags(value: str | list[str]) -> str:
    """Write tags as letters, in order and once each, whether they came as letters or as parameter names."""
    return "".join(sorted({TAG_LETTERS.get(tag, tag) for tag in value}))


def rate_of(meter: Meter, catalog: Catalog, labels: Mapping[str, str], time: int) -> Fraction:
    """Return what one unit of the event counts, for a meter with rates as for one without."""
    if meter.rate is None:
        return Fraction(1)
    multiplier = rate_at(catalog.rates.get(meter.rate.table, {}), labels.get(meter.rate.label, ""), time)
    if multiplier is None:
        raise NotCounted(f"there is no rate in {meter.rate.table}")
    return Fraction(multiplier, 10**RATE_SCALE)


def rate_at(rates: RateTable, type: str, time: int) -> int | None:
    """Return the multiplier of a type at an instant: that of the last rate that has started."""
    started = [rate for rate in rates.get(type, ()) if rate.start <= time]
    return max(started, key=lambda rate: rate.start).multiplier if started else None


def amount_of(facts: Document, meter: Meter, rate: Fraction) -> int:
    """Return the event's quantity as an integer at the meter's scale."""
    quantity = Fraction(1) if meter.quantity is None else number(needed(facts, meter), meter.unit == "s")
    rated = quantity * rate
    scaled: Fraction = (rated if meter.rounding is None else rounded(rated, meter.rounding)) * 10**meter.scale
    if scaled.denominator != 1:
        raise NotCounted(f"{quantity} has more digits than meter {meter.name} keeps")
    if scaled > AMOUNT_MAX:
        raise NotCounted(f"{quantity} is more than meter {meter.name} keeps")
    return scaled.numerator


def needed(facts: Document, meter: Meter) -> Any:
    value = at(facts, meter.quantity or "")
    if value is None:
        raise NotCounted(f"meter {meter.name} finds nothing to count")
    return value


def number(value: Any, is_duration: bool) -> Fraction:
    """Return the number that a JSON number stands for or, where it is of seconds, a text like 7.5 or PT1M30.5S."""
    if isinstance(value, str) and is_duration:
        return seconds(value)
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        raise NotCounted("not a number")
    return in_range(Decimal(value))


def seconds(text: str) -> Fraction:
    if NUMBER.fullmatch(text):
        try:
            return in_range(Decimal(text))
        except InvalidOperation:
            raise NotCounted("out of range") from None
    if not DURATION.fullmatch(LAST_FRACTION.sub("", text)) or text[1:] == "":
        raise NotCounted("not a duration")
    parts = re.findall(r"([0-9.,]+)([WDHMS])", text)
    return in_range(sum((Fraction(digits.replace(",", ".")) * SECONDS[unit] for digits, unit in parts), Fraction(0)))


def in_range(quantity: Decimal | Fraction) -> Fraction:
    """Return a quantity from 0 to 10^12 that is not next to nothing."""
    if not 0 <= quantity <= QUANTITY_MAX or 0 < quantity < Fraction(QUANTITY_LEAST):
        raise NotCounted("out of range")
    return Fraction(quantity)


def rounded(quantity: Fraction, rounding: Rounding) -> Fraction:
    """Round to a multiple, as the meter says, and up to its minimum."""
    step = Fraction(rounding.to)
    steps = quantity / step
    whole = {
        "up": math.ceil(steps),
        "down": math.floor(steps),
        "half_up": math.floor(steps + Fraction(1, 2)),
        "half_even": round(steps),
    }[rounding.mode]
    return max(whole * step, Fraction(rounding.minimum))
