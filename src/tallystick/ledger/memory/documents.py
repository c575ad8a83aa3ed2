"""Events as JSON says them: read from their bytes, followed along paths, compared by content."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import jmespath

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
NOT_CONTENT = {"specversion", "id", "source", "datacontenttype", "traceparent", "tracestate"}
PLAIN_PATH = re.compile(r"\$(\.[A-Za-z_][A-Za-z0-9_]*)+")

Document = Mapping[str, Any]
"""An event as JSON says it, without null members; every number is a Decimal."""


def read(raw: bytes) -> Document:
    """Read an event from its bytes, exactly: numbers as Decimal, the last of repeated names, no null members."""
    document = json.loads(raw.decode(), parse_float=Decimal, parse_int=Decimal, object_hook=without_nulls)
    if not isinstance(document, dict):
        raise ValueError("an event is a JSON object")
    return document


def without_nulls(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def time_of(document: Document, received: int) -> int:
    """Return the event's instant in microseconds: its own, or that of its receipt."""
    return instant(document["time"]) if "time" in document else received


def instant(text: str) -> int:
    """Return the instant of an RFC 3339 text; digits past microseconds are cut, a leap second is the one before."""
    return (datetime.fromisoformat(re.sub(r"(T\d\d:\d\d):60", r"\1:59", text.upper())) - EPOCH) // MICROSECOND


def month_of(time: int) -> tuple[int, int]:
    moment = EPOCH + timedelta(microseconds=time)
    return moment.year, moment.month


def data_of(document: Document) -> Document:
    """Return the event's data; what is no object has no members."""
    data = document.get("data")
    return data if isinstance(data, dict) else {}


def space_of(document: Document, account: str) -> str | None:
    """Return the space an event belongs to: named outright, in its data, or by what follows the account's name."""
    members = data_of(document)
    owner, slash, rest = document.get("subject", "").partition("/")
    from_subject = rest if owner == account and slash else None
    named = document.get("space", members.get("space", members.get("dataset", from_subject)))
    return None if named is None else written(named)


def facts_of(document: Document, account: str) -> Document:
    """Return what a path may lead to: the event with its account and space resolved; its time is not among them."""
    said = {name: value for name, value in document.items() if name != "time"}
    return {**said, "account": account, "space": space_of(document, account), "data": data_of(document)}


def at(facts: Document, path: str) -> Any:
    """Follow a path like `$.data.duration`, or search for any other expression; what is not there is None."""
    if not PLAIN_PATH.fullmatch(path):
        return searched(facts, path)
    value: Any = facts
    for name in path.split(".")[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def searched(facts: Document, expression: str) -> Any:
    """Search with JMESPath; an expression that does not apply to what is there finds nothing."""
    try:
        return jmespath.search(expression.removeprefix("$."), with_integers(facts))
    except (ValueError, TypeError):
        return None


def with_integers(value: Any) -> Any:
    """Give the whole numbers of JSON as int: JMESPath's functions take no others."""
    if isinstance(value, dict):
        return {name: with_integers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [with_integers(item) for item in value]
    is_whole = isinstance(value, Decimal) and value.as_tuple().exponent == 0
    return int(value) if is_whole else value


def written(value: Any) -> str:
    """Write a text as sent, a number in shortest decimal, a truth in words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return shortest(Decimal(value)) if isinstance(value, Decimal | int) else str(value)


def shortest(value: Decimal) -> str:
    """Write a number in plain decimal, with no digit that says nothing."""
    text = format(value, "f") if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def content(document: Document, account: str) -> Document:
    """Return what two sendings of one event must have in common."""
    time = instant(document["time"]) if "time" in document else None
    resolved = {"account": account, "space": space_of(document, account), "time": time}
    said = {**document, **resolved}
    return {name: value for name, value in said.items() if name not in NOT_CONTENT}


def alike(a: Any, b: Any) -> bool:
    """Compare two JSON values: numbers by value, text by code points, and true is not 1."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return bool(a == b)
