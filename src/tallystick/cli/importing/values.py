"""Single values of an import: units, times without a zone, cells that are numbers, all of them exact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tallystick.envelope import EXACT, TIME
from tallystick.errors import Code
from tallystick.windows import SECOND, format_instant, local_instant

TEXTS = frozenset(
    [
        "actor",
        "billing",
        "dataset",
        "id",
        "kind",
        "language",
        "license",
        "mode",
        "model",
        "operating_point",
        "operation",
        "parent",
        "space",
        "state",
        "status",
        "tags",
        "technology",
        "type",
        "url",
        "vendor",
    ]
)
"""Members of data that are text whatever they look like."""
UNITS: Mapping[str, Decimal] = {"ms": Decimal("0.001"), "s": Decimal(1), "min": Decimal(60), "h": Decimal(3600)}
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
PLAIN_NUMBER = re.compile(r"0|-?[1-9][0-9]*|-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]", re.ASCII)
"""Numbers as a label writes them: read as a number or kept as text, such a cell is the same label."""
LOCAL_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ]+(\d\d:\d\d)(:\d\d)?([.,]\d+)?)?[ ]*(?:([Zz]|UTC|GMT)|([+-]\d\d):?(\d\d))?", re.ASCII
)

TIME_FIELD = ("time",)
Path = tuple[str, ...]
"""Where a field stands in an event."""


class Unfit(Exception):
    """A record of which no event can be made: code, JSON pointer, and what to do."""

    def __init__(self, code: Code, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.pointer, self.detail = code, pointer, detail


def seconds_of(value: Any, unit: str, pointer: str) -> Decimal:
    """Convert a count of some unit to seconds, exactly."""
    text = value.strip() if isinstance(value, str) else str(value)
    if isinstance(value, bool) or not NUMBER.fullmatch(text):
        raise Unfit(Code.QUANTITY_TYPE, pointer, f"Send a plain number of {unit}, such as 2880 or 0.5, not {value!r}.")
    return EXACT.multiply(Decimal(text), UNITS[unit])


def time_of(text: str, zone: str) -> str:
    """Write a time as RFC 3339; one without a zone is of `zone`. What is no time stays as it is."""
    if TIME.fullmatch(text):
        return text
    match = LOCAL_TIME.fullmatch(text.strip())
    if match is None:
        return text
    day, minutes, seconds, fraction, utc, hours, rest = match.groups()
    clock = f"{day}T{minutes or '00:00'}{seconds or ':00'}{(fraction or '').replace(',', '.')}"
    if utc or (hours is None and zone == "UTC"):
        return clock + "Z"
    if hours is not None:
        return f"{clock}{hours}:{rest}"
    try:
        return format_instant(local_instant(clock, zone))
    except ValueError:
        return text


def converted(value: Any, path: Path, unit: str | None, zone: str) -> Any:
    """Convert a value as its unit, or the field that it goes to, asks."""
    pointer = "/" + "/".join(path)
    if path == TIME_FIELD:
        if unit is None:
            return time_of(value, zone) if isinstance(value, str) else value
        return _instant(value, unit, pointer)
    return value if unit is None else seconds_of(value, unit, pointer)


def _instant(value: Any, unit: str, pointer: str) -> str:
    try:
        return format_instant(int(EXACT.multiply(seconds_of(value, unit, pointer), Decimal(SECOND)) // 1))
    except (OverflowError, ArithmeticError):
        detail = f"{value} {unit} after 1970 is no instant: see the unit of --map."
        raise Unfit(Code.TIME_FORMAT, pointer, detail) from None


def typed(text: str, path: Path) -> Any:
    """Read a cell, or what --set says: a number where a label would write it the same, else text."""
    return Decimal(text) if is_number(text, path) else text


def is_number(text: str, path: Path) -> bool:
    """Say whether a cell of a field is written as a number."""
    return may_be_number(path) and PLAIN_NUMBER.fullmatch(text) is not None


def may_be_number(path: Path) -> bool:
    """Say whether cells of a field may be written as numbers."""
    return path[0] == "data" and path[-1] not in TEXTS
