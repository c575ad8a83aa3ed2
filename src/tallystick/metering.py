"""What an event adds to the meters, decided by the event and the catalog alone: the rules that every other path keeps.

Checks come in this order, and the first that fails is the verdict: members that the type requires, reserved labels,
then each meter of the catalog in turn: its filter, its labels as the meter lists them, its quantity.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache, partial
from operator import attrgetter
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from tallystick.envelope import EXACT, UPSERTED, label_text, named, pointer_to, refusal, text_of
from tallystick.errors import Code
from tallystick.model import RATE_SCALE, VALUE, Catalog, Event, Labels, Meter, Posting, Rated, Verdict
from tallystick.quantity import out_of_range, quantity_of, scaled

AUDIO = "audio.processed"
STATUSES = frozenset({"success", "failed", "rejected", "cancelled"})
TYPES_WITH_STATUS = frozenset({AUDIO, "vision.request", UPSERTED, "model.request"})
REQUIRED = {"model.request": ("model",), "vision.request": ("type",)}

RESERVED = frozenset({"total", "key"})
LABELS_RESERVED = ("model", "billing", "license")
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

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
LabelPaths = tuple[tuple[str, str], ...]
"""Names of labels, and the paths in the event that lead to them."""


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
    read: dict[LabelPaths, Labels | Verdict] = {}
    for each in catalog.meters.values():
        if event.type in each.events:
            posting = _posting(event, each, catalog, read, text_length_max)
            if isinstance(posting, Verdict):
                return posting
            postings += posting
    return tuple(postings)


def metered(event: Event, catalog: Catalog, *, text_length_max: int = 256) -> tuple[Posting, ...]:
    """Return what the event adds to the meters that can take it; those that would refuse it count nothing of it."""
    found = (
        meter(event, replace(catalog, meters={each.name: each}), text_length_max=text_length_max)
        for each in catalog.meters.values()
    )
    return tuple(posting for some in found if not isinstance(some, Verdict) for posting in some)


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
    if event.type != AUDIO:
        return None
    for name in LABELS_RESERVED:
        value = event.data.get(name)
        if isinstance(value, str) and value in RESERVED:
            detail = f"`{name}` may be neither `total` nor `key`: reports use these names themselves."
            return refusal(Code.LABEL_RESERVED, pointer_to("data", name), detail)
    return None


def _posting(
    event: Event, meter: Meter, catalog: Catalog, read: dict[LabelPaths, Labels | Verdict], text_length_max: int
) -> tuple[Posting, ...] | Verdict:
    """Return what an event adds to a meter; `read` has its labels, for meters that have the same ones."""
    once = _once(event, meter)
    if not _holds(event, meter) or (meter.once_per and once is None):
        return ()
    labels = read.get(meter.labels)
    if labels is None:
        labels = read[meter.labels] = _labels(event, meter.labels, text_length_max)
    if isinstance(labels, Verdict):
        return labels
    if meter.aggregation == "unique":
        return _valued(event, meter, labels, text_length_max)
    amount = _amount(event, meter, labels, catalog)
    if isinstance(amount, Verdict):
        return amount
    return (Posting(meter.name, meter.version, labels, amount, once),)


def _once(event: Event, meter: Meter) -> str | None:
    """Return what a meter with `once_per` compares; None where the event has nothing of it."""
    if meter.once_per == "state":
        return ""
    return text_of(event.data.get("url")) if meter.once_per == "url" else None


# Paths


@cache
def names_of(path: str) -> tuple[str, ...] | None:
    """Split a plain path such as `$.data.duration` into its names; None for what has to be searched for."""
    names = path.removeprefix("$.").split(".")
    return tuple(names) if path.startswith("$.") and all(map(PLAIN_NAME.fullmatch, names)) else None


@cache
def _pointer(path: str) -> str:
    return pointer_to(*(names_of(path) or ()))


_search = cache(jmespath.compile)
_RESOLVED = ("account", "source", "id", "type", "subject", "space")
_resolved = attrgetter(*_RESOLVED)


def _member(event: Event, path: str) -> Any:
    """Return what a path leads to; None where it leads nowhere. `$.space` and `$.account` are the resolved ones."""
    return _reader(path)(event)


@cache
def _reader(path: str) -> Callable[[Event], Any]:
    """Return what follows a path."""
    names = names_of(path)
    if names is None:
        return partial(_found, path=path)
    first, *rest = names
    if first == "data" and len(rest) == 1:
        (name,) = rest
        return lambda event: event.data.get(name) if isinstance(event.data, dict) else None
    return partial(_followed, first=first, rest=rest)


def _followed(event: Event, first: str, rest: Sequence[str]) -> Any:
    if first in _RESOLVED:
        value: Any = getattr(event, first)
    else:
        value = event.data if first == "data" else event.attributes.get(first)
    for name in rest:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _found(event: Event, path: str) -> Any:
    """Search the event with a JMESPath expression; what does not apply to the values found is nothing."""
    facts = {**event.attributes, **dict(zip(_RESOLVED, _resolved(event), strict=True)), "data": event.data}
    try:
        return _search(path.removeprefix("$.")).search(facts)
    except (JMESPathError, TypeError):
        return None


# Labels


def _labels(event: Event, paths: LabelPaths, text_length_max: int) -> Labels | Verdict:
    labels: list[tuple[str, str]] = []
    for name, path in paths:
        value = _member(event, path)
        if value is None:
            continue
        text = _label(event, name, value, path, text_length_max)
        if isinstance(text, Verdict):
            return text
        labels.append((name, text))
    return tuple(sorted(labels))


def _label(event: Event, name: str, value: Any, path: str, text_length_max: int) -> str | Verdict:
    if name == "tags" and event.type == AUDIO:
        return _letters(value, _pointer(path))
    return label_text(value, _pointer(path), text_length_max)


def label_to_come(meter: Meter, name: str, text: str, pointer: str, text_length_max: int) -> str | Verdict:
    """Write a label as the events of a meter will have it, or say why none will: what is said before there is one."""
    if name == "tags" and meter.events == {AUDIO}:
        return _letters(text, pointer)
    return label_text(text, pointer, text_length_max)


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


def _holds(event: Event, meter: Meter) -> bool:
    """Say whether every condition of the meter's filter holds; what is absent, or no text, is like an empty one."""
    if not meter.where:
        return True
    paths = dict(meter.labels)
    return all(_text(event, name, paths.get(name, f"$.data.{name}")) in values for name, values in meter.where)


def _text(event: Event, name: str, path: str) -> str:
    value = _member(event, path)
    if name == "tags" and event.type == AUDIO and value is not None:
        letters = _letters(value, "")
        return letters if isinstance(letters, str) else ""
    return text_of(value) or ""


# Quantities


def _amount(event: Event, meter: Meter, labels: Labels, catalog: Catalog) -> int | Verdict:
    """Return the event's quantity, times its rate where the meter has one, as an integer at the meter's scale."""
    pointer = _pointer(meter.quantity) if meter.quantity else ""
    quantity = _quantity(event, meter, pointer)
    if isinstance(quantity, Verdict) or meter.rate is None:
        return quantity if isinstance(quantity, Verdict) else scaled(quantity, meter, pointer)
    multiplier = multiplier_of(catalog, meter.rate, labels, event.time)
    if multiplier is None:
        path = dict(meter.labels)[meter.rate.label]
        detail = f"The rate table {meter.rate.table} has no rate for {named(_pointer(path))} at this event's time."
        return refusal(Code.RATE_MISSING, _pointer(path), f"{detail} Send a type that it has, or add the rate.")
    return scaled(EXACT.multiply(quantity, Decimal(multiplier).scaleb(-RATE_SCALE)), meter, pointer)


def _quantity(event: Event, meter: Meter, pointer: str) -> Decimal | Verdict:
    if meter.quantity is None:
        return Decimal(1)
    value = _member(event, meter.quantity)
    if value is None:
        return _missing(meter, pointer)
    quantity = quantity_of(value, pointer, is_duration=meter.unit == "s")
    return quantity if isinstance(quantity, Verdict) else out_of_range(quantity, pointer) or quantity


def _missing(meter: Meter, pointer: str) -> Verdict:
    detail = f"{named(pointer)} is what the meter {meter.name} counts: send it."
    return refusal(Code.QUANTITY_MISSING, pointer, detail)


def multiplier_of(catalog: Catalog, rated: Rated, labels: Labels, time: int) -> int | None:
    """Return the multiplier, at RATE_SCALE, in force for a label set at an instant; None where there is none."""
    rates = catalog.rates.get(rated.table, {}).get(dict(labels).get(rated.label, ""), ())
    at = bisect_right(rates, time, key=attrgetter("start"))
    return rates[at - 1].multiplier if at else None


def _valued(event: Event, meter: Meter, labels: Labels, text_length_max: int) -> tuple[Posting, ...] | Verdict:
    """Return the posting of a meter of distinct values: the value is a label of its own, first in order."""
    assert meter.quantity is not None
    pointer = _pointer(meter.quantity)
    value = _member(event, meter.quantity)
    if value is None:
        return _missing(meter, pointer)
    text = label_text(value, pointer, text_length_max)
    return text if isinstance(text, Verdict) else (Posting(meter.name, meter.version, ((VALUE, text), *labels), 1),)
