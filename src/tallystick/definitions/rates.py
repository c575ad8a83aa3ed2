"""A rate table as a document, and back: `{"rates": [{"type", "multiplier", "from"}]}`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tallystick import windows
from tallystick.definitions.reading import Reading, decimal_text
from tallystick.errors import Code
from tallystick.model import RATE_SCALE, Rate, RateTable

MULTIPLIER_MAX = 10**6
FROM_RULE = "from must be an instant, as 2024-05-01T00:00:00Z, or a day in UTC, as 2024-05-01"


def read(document: Any) -> RateTable:
    """Make the rate table that a document defines; raises Problem with every flaw."""
    reading = Reading()
    members = reading.members(document, "", ("rates",), ("rates",))
    rates = members.get("rates", [])
    if not isinstance(rates, list):
        reading.refuse(Code.FIELD_TYPE, "/rates", "rates must be a list.")
        rates = []
    table: dict[str, dict[int, int]] = {}
    for place, rate in enumerate(rates):
        _read_rate(reading, rate, f"/rates/{place}", table)
    reading.done()
    return {type: tuple(Rate(at, starts[at]) for at in sorted(starts)) for type, starts in sorted(table.items())}


def _read_rate(reading: Reading, rate: Any, pointer: str, table: dict[str, dict[int, int]]) -> None:
    members = reading.members(rate, pointer, ("type", "multiplier", "from"), ("type", "multiplier"))
    if "type" not in members or "multiplier" not in members:
        return
    type = reading.text(members["type"], f"{pointer}/type")
    number = reading.number(members["multiplier"], f"{pointer}/multiplier", RATE_SCALE, MULTIPLIER_MAX)
    start = _start(reading, members.get("from"), f"{pointer}/from")
    starts = table.setdefault(type, {})
    if start in starts and type:
        detail = "This type has a rate from this instant on already: leave one of them out."
        reading.refuse(Code.FIELD_VALUE, pointer, detail)
    starts[start] = int((number or Decimal(0)).scaleb(RATE_SCALE))


def _start(reading: Reading, value: Any, pointer: str) -> int:
    if value is None:
        return 0
    start = instant_of(value)
    if start is None:
        reading.refuse(Code.TIME_FORMAT, pointer, f"{FROM_RULE}; absent is 1970-01-01.")
    return start or 0


def instant_of(value: Any) -> int | None:
    """Read an instant, or a day as its first instant in UTC; None if it is neither."""
    for parse in (windows.parse_instant, windows.parse_day) if isinstance(value, str) else ():
        try:
            instant = parse(value)
        except ValueError:
            continue
        return instant if windows.INSTANT_MIN <= instant <= windows.INSTANT_MAX else None
    return None


def written(rates: RateTable) -> dict[str, Any]:
    """Return the document that defines a rate table, by type and start."""
    lines = [
        {
            "type": type,
            "multiplier": decimal_text(Decimal(rate.multiplier).scaleb(-RATE_SCALE)),
            "from": windows.format_instant(rate.start),
        }
        for type in sorted(rates)
        for rate in rates[type]
    ]
    return {"rates": lines}
