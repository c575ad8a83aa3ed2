"""A meter definition (events.md, "A meter definition") as a document, and back."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from tallystick.definitions.paths import PATH_LENGTH_MAX, flaw_of
from tallystick.definitions.reading import Reading, decimal_text
from tallystick.envelope import UPSERTED, pointer_to, text_of
from tallystick.errors import Code
from tallystick.model import Meter, Rated, Rounding

AGGREGATIONS = ("sum", "count", "min", "max", "avg", "latest", "unique")
ROUNDINGS = ("up", "down", "half_up", "half_even")
MEMBERS = (
    "name",
    "events",
    "where",
    "quantity",
    "aggregation",
    "unit",
    "scale",
    "round",
    "labels",
    "once_per",
    "rate",
)
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
LABEL_RULE = "1 to 64 of A-Z, a-z, 0-9 and _, not beginning with a digit"
LABELS_MAX = 32
UNIT = re.compile(r"(?:[!-z|~]|\{[!-z|~]*\})+", re.ASCII)
UNIT_LENGTH_MAX = 63
SCALE_MAX = 9
SCALE_OF_SECONDS = 6
STEP_MAX = 10**12


def read(document: Any, *, name: str | None = None, tables: Collection[str] = ()) -> Meter:
    """Make the meter that a document defines, with version and epoch 0; raises Problem with a flaw per member.

    `name` is what the place of the document says it is called; it may say the same itself. `tables` are the rate tables
    that there are. Numbers are int or Decimal.
    """
    reading = Reading()
    members = reading.members(document, "", MEMBERS, ["events", *(["name"] if name is None else [])])
    unit = _unit(reading, members)
    labels = _labels(reading, members.get("labels", {}))
    aggregation = reading.choice(members.get("aggregation", "sum"), "/aggregation", AGGREGATIONS)
    scale = _scale(reading, members, unit, aggregation)
    meter = Meter(
        name=_name(reading, members, name),
        version=0,
        events=_events(reading, members["events"]) if "events" in members else frozenset(),
        quantity=_path(reading, members["quantity"], "/quantity") if "quantity" in members else None,
        unit=unit,
        scale=scale,
        labels=tuple(labels.items()),
        aggregation=aggregation,
        where=_where(reading, members.get("where", {})),
        rounding=_rounding(reading, members["round"], scale) if "round" in members else None,
        once_per=reading.choice(members["once_per"], "/once_per", ("state", "url")) if "once_per" in members else None,
        rate=_rate(reading, members["rate"], labels, tables) if "rate" in members else None,
        epoch=0,
    )
    _check_together(reading, meter)
    reading.done()
    return meter


def written(meter: Meter) -> dict[str, Any]:
    """Return the document that defines a meter; read gives the same meter again, but for version and epoch."""
    document: dict[str, Any] = {
        "name": meter.name,
        "events": sorted(meter.events),
        "where": {name: sorted(values) for name, values in meter.where},
        "quantity": meter.quantity,
        "aggregation": meter.aggregation,
        "unit": meter.unit,
        "scale": meter.scale,
        "round": None if meter.rounding is None else _rounding_document(meter.rounding),
        "labels": dict(meter.labels),
        "once_per": meter.once_per,
        "rate": None if meter.rate is None else {"table": meter.rate.table, "label": meter.rate.label},
    }
    return {name: value for name, value in document.items() if (value is not None and value != {}) or name == "labels"}


def _rounding_document(rounding: Rounding) -> dict[str, str]:
    return {"to": rounding.to, "mode": rounding.mode, "minimum": rounding.minimum}


# Members


def _name(reading: Reading, members: Mapping[str, Any], name: str | None) -> str:
    said = members.get("name", name)
    if name is not None and said != name:
        reading.refuse(Code.FIELD_VALUE, "/name", f"name must be {name}, as the meter is called here, or left out.")
    return reading.name(name if name is not None else said, "/name") if said is not None else ""


def _events(reading: Reading, value: Any) -> frozenset[str]:
    if not isinstance(value, list):
        reading.refuse(Code.FIELD_TYPE, "/events", "events must be a list of event types.")
        return frozenset()
    if not value:
        reading.refuse(Code.FIELD_VALUE, "/events", "events must name at least one event type.")
    return frozenset(reading.text(type, f"/events/{place}") for place, type in enumerate(value))


def _where(reading: Reading, value: Any) -> tuple[tuple[str, frozenset[str]], ...]:
    if not isinstance(value, Mapping):
        reading.refuse(
            Code.FIELD_TYPE, "/where", "where must be an object: a label, or a member of data, to its values."
        )
        return ()
    for name in value:
        _check_label(reading, name, "/where", "A name in where")
    return tuple((str(name), _values(reading, wanted, f"/where{pointer_to(name)}")) for name, wanted in value.items())


def _values(reading: Reading, value: Any, pointer: str) -> frozenset[str]:
    values = value if isinstance(value, list) else [value]
    if not values:
        reading.refuse(Code.FIELD_VALUE, pointer, "A condition needs at least one value.")
    return frozenset(
        reading.text(
            each if text_of(each) is None else text_of(each),
            f"{pointer}/{place}" if isinstance(value, list) else pointer,
            may_be_empty=True,
        )
        for place, each in enumerate(values)
    )


def _path(reading: Reading, value: Any, pointer: str) -> str:
    path = reading.text(value, pointer, PATH_LENGTH_MAX)
    flaw = flaw_of(path) if path else None
    if flaw is not None:
        reading.refuse(Code.FIELD_VALUE, pointer, f"This path leads nowhere: {flaw}.")
    return path


def _unit(reading: Reading, members: Mapping[str, Any]) -> str:
    unit = reading.text(members.get("unit", "1"), "/unit", UNIT_LENGTH_MAX)
    if unit and not UNIT.fullmatch(unit):
        detail = "unit must be a UCUM unit in ASCII, such as s, By, 1 or {request}."
        reading.refuse(Code.FIELD_VALUE, "/unit", detail)
    return unit


def _scale(reading: Reading, members: Mapping[str, Any], unit: str, aggregation: str) -> int:
    default = SCALE_OF_SECONDS if unit == "s" and aggregation != "unique" else 0
    scale = members.get("scale", default)
    if isinstance(scale, int) and not isinstance(scale, bool) and 0 <= scale <= SCALE_MAX:
        return scale
    reading.refuse(Code.FIELD_VALUE, "/scale", f"scale must be a whole number from 0 to {SCALE_MAX}.")
    return default


def _rounding(reading: Reading, value: Any, scale: int) -> Rounding:
    members = reading.members(value, "/round", ("to", "mode", "minimum"), ("to", "mode"))
    to = reading.number(members["to"], "/round/to", scale, STEP_MAX) if "to" in members else None
    minimum = reading.number(members.get("minimum", "0"), "/round/minimum", scale, STEP_MAX)
    mode = reading.choice(members["mode"], "/round/mode", ROUNDINGS) if "mode" in members else ROUNDINGS[0]
    if to is not None and not to:
        reading.refuse(Code.FIELD_VALUE, "/round/to", "to must be greater than 0.")
    elif to and minimum and minimum % to:
        reading.refuse(Code.FIELD_VALUE, "/round/minimum", "minimum must be a multiple of to.")
    return Rounding(decimal_text(to or Decimal(1)), mode, decimal_text(minimum or Decimal(0)))


def _labels(reading: Reading, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        reading.refuse(Code.FIELD_TYPE, "/labels", "labels must be an object: the name of each label to its path.")
        return {}
    if len(value) > LABELS_MAX:
        reading.refuse(Code.FIELD_LENGTH, "/labels", f"A meter has at most {LABELS_MAX} labels.")
    for name in value:
        _check_label(reading, name, "/labels", "A label")
    if "account" in value:
        detail = "Call this label otherwise: usage is grouped by account without one."
        reading.refuse(Code.LABEL_RESERVED, "/labels/account", detail)
    return {name: _path(reading, path, f"/labels{pointer_to(name)}") for name, path in value.items()}


def _check_label(reading: Reading, name: str, pointer: str, what: str) -> None:
    if not LABEL.fullmatch(name):
        reading.refuse(Code.FIELD_VALUE, pointer + pointer_to(name), f"{what} must be {LABEL_RULE}.")


def _rate(reading: Reading, value: Any, labels: Collection[str], tables: Collection[str]) -> Rated:
    members = reading.members(value, "/rate", ("table", "label"), ("table", "label"))
    table = reading.text(members["table"], "/rate/table") if "table" in members else ""
    label = reading.text(members["label"], "/rate/label") if "label" in members else ""
    if table and table not in tables:
        known = f"there are {', '.join(sorted(tables))}" if tables else "there are none"
        reading.refuse(Code.FIELD_VALUE, "/rate/table", f"There is no such rate table; {known}. Define it first.")
    if label and label not in labels:
        reading.refuse(Code.FIELD_VALUE, "/rate/label", "label must be one of the meter's labels.")
    return Rated(table, label)


# What must fit together


def _check_together(reading: Reading, meter: Meter) -> None:
    if meter.once_per is not None and meter.events != {UPSERTED}:
        detail = f"once_per is for resources: events must be {UPSERTED} alone."
        reading.refuse(Code.FIELD_VALUE, "/once_per", detail)
    if meter.aggregation != "unique":
        return
    if meter.quantity is None:
        detail = "unique counts distinct values: say with quantity where they are."
        reading.refuse(Code.FIELD_MISSING, "/quantity", detail)
    others = {"round": meter.rounding, "once_per": meter.once_per, "rate": meter.rate}
    for name in [name for name, value in others.items() if value is not None]:
        reading.refuse(Code.FIELD_VALUE, f"/{name}", f"unique counts distinct values: leave {name} out.")
    if meter.scale:
        reading.refuse(Code.FIELD_VALUE, "/scale", "unique counts distinct values: scale is 0.")
