"""Quantities: what an event says as a number or a duration, read exactly and rounded to a scale."""

from __future__ import annotations

import re
from decimal import ROUND_05UP, Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache
from typing import Any

from tallystick.envelope import EXACT, named, number, refusal
from tallystick.errors import Code
from tallystick.model import Meter, Rounding, Verdict

QUANTITY_MAX = Decimal(10) ** 12
EXPONENT_MIN = -12
AMOUNT_MAX = 2**63 - 1
"""Postings are kept as signed 64-bit integers."""
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
DURATION = re.compile(r"(-?)P(?:([0-9]+)W)?(?:([0-9]+)D)?(?:T(?=[0-9])(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)S)?)?")
FRACTION = re.compile(r"[.,]([0-9]+)([WDHMS])\Z")
SECONDS_OF_PART = {"W": 604_800, "D": 86_400, "H": 3_600, "M": 60, "S": 1}

GUARD_DIGITS = 15
GUARD = Decimal(1).scaleb(-GUARD_DIGITS)
UNITS = tuple(int(10 ** (GUARD_DIGITS - scale)) for scale in range(GUARD_DIGITS + 1))
"""What the last digit of each scale is at the guard."""
GUARDED = Context(prec=60, rounding=ROUND_05UP)


def quantity_of(value: Any, pointer: str, *, is_duration: bool) -> Decimal | Verdict:
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


def scaled(quantity: Decimal, meter: Meter, pointer: str) -> int | Verdict:
    """Return a quantity as an integer at the scale of a meter, rounded as it says, or why that cannot be."""
    amount = _at_scale(quantity, meter, pointer)
    if isinstance(amount, int) and amount > AMOUNT_MAX:
        detail = f"{named(pointer)} is too large for the meter {meter.name}: send at most {_largest(meter)}."
        return refusal(Code.QUANTITY_RANGE, pointer, detail)
    return amount


def _at_scale(quantity: Decimal, meter: Meter, pointer: str) -> int | Verdict:
    if meter.rounding is not None:
        return rounded(quantity, meter.rounding, meter.scale)
    digits = Context(prec=60, traps=[Inexact, InvalidOperation])
    try:
        return int(digits.quantize(quantity, Decimal(1).scaleb(-meter.scale)).scaleb(meter.scale, digits))
    except Inexact:
        allowed = f"at most {meter.scale} decimals" if meter.scale else "a whole number"
        detail = f"The meter {meter.name} counts {named(pointer)} exactly: send {allowed}."
        return refusal(Code.QUANTITY_PRECISION, pointer, detail)


def _largest(meter: Meter) -> Decimal:
    return Decimal(AMOUNT_MAX).scaleb(-meter.scale)


def out_of_range(quantity: Decimal, pointer: str) -> Verdict | None:
    """Refuse a quantity that no meter takes: below 0, above 10^12, or so small that it is none."""
    if quantity < 0:
        return refusal(Code.QUANTITY_NEGATIVE, pointer, f"{named(pointer)} is never negative: send 0 or more.")
    if quantity > QUANTITY_MAX or (quantity and quantity.adjusted() < EXPONENT_MIN):
        return refusal(Code.QUANTITY_RANGE, pointer, f"{named(pointer)} is out of range: send 0, or 1e-12 to 1e12.")
    return None


def at_guard(digits: bytes) -> int:
    """Return a number, given as digits with at most GUARD_DIGITS decimals, as an integer at the guard."""
    whole, _, decimals = digits.partition(b".")
    return int(whole + decimals) * UNITS[len(decimals)]


def rounded(quantity: Decimal, rounding: Rounding, scale: int) -> int:
    """Round a quantity in range to a multiple of `rounding.to`, at least its minimum, as an integer at `scale`."""
    whole = int(quantity)
    if quantity == whole:
        guarded = whole * UNITS[0]
    else:
        # ROUND_05UP keeps enough of the digits past the guard for the rounding that follows to come out as if from all.
        guarded = int(GUARDED.quantize(quantity, GUARD).scaleb(GUARD_DIGITS, GUARDED))
    return rounded_at_guard(guarded, rounding, scale)


def rounded_at_guard(guarded: int, rounding: Rounding, scale: int) -> int:
    """Round likewise what is an integer at the guard."""
    step = _step(rounding.to)
    floor, rest = divmod(guarded, step)
    if rest and _goes_up(rounding.mode, floor, rest, step):
        floor += 1
    amount = max(floor * step, _step(rounding.minimum))
    return amount // UNITS[scale]


def _goes_up(mode: str, floor: int, rest: int, step: int) -> bool:
    """Say whether what is between two multiples becomes the upper one."""
    if mode == "half_up":
        return 2 * rest >= step
    if mode == "half_even":
        return 2 * rest > step or (2 * rest == step and floor % 2 == 1)
    return mode == "up"


@lru_cache(maxsize=256)
def _step(text: str) -> int:
    return int(Decimal(text).scaleb(GUARD_DIGITS, GUARDED))
