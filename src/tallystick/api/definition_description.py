"""What /openapi.json says of meters, rates and resources: their documents as schemas and as replies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from tallystick.definitions import meters

NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"}
TEXT = {"type": "string", "minLength": 1, "maxLength": 256}
PATH = {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Plain ($.data.a.b), or JMESPath."}
VALUE = {"type": ["string", "number", "boolean"]}
DECIMAL = {"type": ["string", "number"], "description": "A decimal number, from 0 on."}
START = {"type": "string", "description": "An instant (RFC 3339), or a UTC day as YYYY-MM-DD."}
LABEL = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$"}


def _object(required: Mapping[str, Any], optional: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with these members and no others; null is as good as absent."""
    absent = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in optional.items()}
    properties = {**required, **absent}
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


def _by_label(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "propertyNames": LABEL, "additionalProperties": schema}


METER = _object(
    {"events": {"type": "array", "items": TEXT, "minItems": 1}},
    {
        "name": NAME,
        "where": _by_label({"anyOf": [VALUE, {"type": "array", "items": VALUE, "minItems": 1}]}),
        "quantity": PATH,
        "aggregation": {"enum": list(meters.AGGREGATIONS)},
        "unit": {"type": "string", "minLength": 1, "maxLength": meters.UNIT_LENGTH_MAX},
        "scale": {"type": "integer", "minimum": 0, "maximum": meters.SCALE_MAX},
        "round": _object({"to": DECIMAL, "mode": {"enum": list(meters.ROUNDINGS)}}, {"minimum": DECIMAL}),
        "labels": {**_by_label(PATH), "maxProperties": meters.LABELS_MAX},
        "once_per": {"enum": ["state", "url"]},
        "rate": _object({"table": NAME, "label": LABEL}, {}),
        "from": {**START, "description": 'Count kept events from here on: an instant, a UTC day, or "beginning".'},
        "version": {"description": "As it was shown; ignored."},
        "replay": {"description": "As it was shown; ignored."},
    },
)
METER_EXAMPLE = {"events": ["call.ended"], "quantity": "$.data.seconds", "unit": "s", "labels": {"line": "$.data.line"}}

RATES = _object(
    {"rates": {"type": "array", "items": _object({"type": TEXT, "multiplier": DECIMAL}, {"from": START})}},
    {
        "table": {"description": "As it was shown; ignored."},
        "replay": {"description": "As it was shown; ignored."},
    },
)
RATES_EXAMPLE = {"rates": [{"type": "lens", "multiplier": "3", "from": "2026-01-01"}]}


class ReplayShown(TypedDict):
    """How many of the kept events are counted."""

    done: int
    of: int


class MeterShown(TypedDict):
    name: str
    events: list[str]
    where: NotRequired[dict[str, list[str]]]
    quantity: NotRequired[str]
    aggregation: str
    unit: str
    scale: int
    round: NotRequired[dict[str, str]]
    labels: dict[str, str]
    once_per: NotRequired[str]
    rate: NotRequired[dict[str, str]]
    version: int
    replay: NotRequired[ReplayShown]


class MetersShown(TypedDict):
    """Meters by name."""

    meters: list[MeterShown]
    next: str | None


RateShown = TypedDict("RateShown", {"type": str, "multiplier": str, "from": str})


class RatesShown(TypedDict):
    """A rate table, by type and start."""

    table: str
    rates: list[RateShown]
    replay: NotRequired[ReplayShown]


class TablesShown(TypedDict):
    """Rate tables by name."""

    tables: list[RatesShown]
    next: str | None


class ResourceShown(TypedDict):
    """What exists, as its latest upsert says; the duration is in seconds, as decimal text."""

    space: NotRequired[str]
    kind: str
    id: str
    time: str
    status: NotRequired[str]
    state: NotRequired[str]
    type: NotRequired[str]
    model: NotRequired[str]
    actor: NotRequired[str]
    parent: NotRequired[str]
    url: NotRequired[str]
    duration: NotRequired[str]
    attributes: NotRequired[dict[str, Any]]


class ResourcesShown(TypedDict):
    """Resources by space, kind and id."""

    resources: list[ResourceShown]
    next: str | None
