"""How amounts come about, a column at a time: numbers at a scale, rounded and rated as quantity.py does one by one.

Everything is exact in 64 bits, or the row is left to others.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter

import numpy as np

from tallystick.envelope import EXACT
from tallystick.ingest.columns import DIGITS_MAX, Ints, Mask, Numbers
from tallystick.model import RATE_SCALE, Catalog, Meter, Posting, Rate, Rounding
from tallystick.quantity import AMOUNT_MAX, UNITS, at_guard, rounded, rounded_at_guard

QUANTITY_DIGITS = 12
"""No meter takes a quantity above 10^12."""
SPARE_DIGITS = 3
"""Decimals past the scale that are read where a meter rounds them away."""
WORKING_SCALE_MAX = 12
RATED_SCALE_MIN, RATED_SCALE_MAX = 6, 9
"""Decimals of a quantity that is multiplied by a rate, which has RATE_SCALE more."""
PRODUCT_MAX = 1 << 62
PLAIN = re.compile(rb"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,12})?")
"""A JSON number that every meter finds in range."""


@dataclass(frozen=True, slots=True)
class Way:
    """How an amount at `scale` comes from an event: a member of data (None: one for each event), rounded, rated.

    `rates` are the multipliers of the event's type, ascending by their start; None for a meter without a rate.
    """

    member: str | None
    scale: int
    rounding: Rounding | None = None
    rates: tuple[Rate, ...] | None = None

    @property
    def finest(self) -> int:
        """Return the decimals that the result and what it is rounded to may have."""
        return max(self.scale, *(map(_decimals, _steps(self.rounding))), 0)

    @property
    def working_scale(self) -> int:
        """Return the decimals that quantities are read with, before they are rated and rounded."""
        wanted = self.finest + (SPARE_DIGITS if self.rounding else 0)
        if self.rates is not None:
            return min(max(wanted, RATED_SCALE_MIN), RATED_SCALE_MAX)
        return min(wanted, WORKING_SCALE_MAX)

    @property
    def is_columnar(self) -> bool:
        """Say whether what it is rounded to is as plain as columns need it."""
        scale = self.working_scale + (RATE_SCALE if self.rates is not None else 0)
        steps = list(_steps(self.rounding))
        fits = all(0 <= step <= Decimal(10) ** (DIGITS_MAX - scale) for step in steps)
        return self.finest <= scale and fits and (not steps or steps[0] > 0)

    def amount(self, number: bytes, time: int) -> int | None:
        """Return the amount of one event by the text of its number; nothing where that needs a closer look."""
        if not PLAIN.fullmatch(number):
            return None
        if self.rates is not None:
            amount = self._rated_amount(number, self.rates, time)
        elif self.rounding is not None:
            amount = rounded_at_guard(at_guard(number), self.rounding, self.scale)
        else:
            amount, rest = divmod(at_guard(number), UNITS[self.scale])
            if rest:
                return None
        return amount if amount is not None and amount <= AMOUNT_MAX else None

    def _rated_amount(self, number: bytes, rates: tuple[Rate, ...], time: int) -> int | None:
        at = bisect_right(rates, time, key=attrgetter("start"))
        if at == 0:
            return None
        multiplier = Decimal(rates[at - 1].multiplier).scaleb(-RATE_SCALE)
        quantity = EXACT.multiply(Decimal(number.decode()), multiplier)
        if self.rounding is not None:
            return rounded(quantity, self.rounding, self.scale)
        exact = quantity.scaleb(self.scale, EXACT)
        amount = int(exact)
        return amount if amount == exact else None

    def amounts(self, numbers: Numbers | None, times: Ints) -> tuple[Ints, Mask]:
        """Return the amount of each event, and which of them are exact and in range; the rest means nothing.

        `numbers` are those of the member, one per instant in `times`.
        """
        scale = self.working_scale
        if numbers is None:
            value, plain = np.full(len(times), 10**scale, np.int64), np.ones(len(times), np.bool_)
        else:
            value, plain = numbers.at(scale)
            if QUANTITY_DIGITS + scale < DIGITS_MAX:
                plain &= value <= 10 ** (QUANTITY_DIGITS + scale)
        if self.rates is not None:
            value, plain = _rated(value, plain, self.rates, times)
            scale += RATE_SCALE
        return self._at_scale(value, plain, scale)

    def _at_scale(self, value: Ints, plain: Mask, scale: int) -> tuple[Ints, Mask]:
        if self.rounding is not None:
            value = _rounded(value, self.rounding, scale)
        if scale == self.scale:
            return value, plain
        amount, rest = np.divmod(value, 10 ** (scale - self.scale))
        return amount, (plain if self.rounding is not None else plain & (rest == 0))


def way_of(meter: Meter, posting: Posting, catalog: Catalog) -> Way:
    """Return how a meter comes to the amounts of all postings with these labels."""
    rates = None
    if meter.rate is not None:
        rates = catalog.rates[meter.rate.table][dict(posting.labels).get(meter.rate.label, "")]
    return Way(_member(meter), meter.scale, meter.rounding, rates)


def ways_are_columnar(meter: Meter) -> bool:
    """Say whether columns can work out every amount of a meter."""
    return Way(_member(meter), meter.scale, meter.rounding, () if meter.rate is not None else None).is_columnar


def _member(meter: Meter) -> str | None:
    return meter.quantity.removeprefix("$.data.") if meter.quantity is not None else None


def _steps(rounding: Rounding | None) -> Iterator[Decimal]:
    if rounding is not None:
        yield Decimal(rounding.to)
        yield Decimal(rounding.minimum)


def _decimals(step: Decimal) -> int:
    return -int(step.normalize().as_tuple().exponent)


def _rated(value: Ints, plain: Mask, rates: tuple[Rate, ...], times: Ints) -> tuple[Ints, Mask]:
    """Multiply by the rate in force at each instant; none is in force before the first one starts."""
    starts = np.fromiter(map(attrgetter("start"), rates), np.int64, len(rates))
    multipliers = np.fromiter((0, *map(attrgetter("multiplier"), rates)), np.int64, len(rates) + 1)
    at = np.searchsorted(starts, times, side="right")
    multiplier = multipliers[at]
    plain = plain & (at > 0) & (value <= PRODUCT_MAX // np.maximum(multiplier, 1))
    return np.where(plain, value, 0) * multiplier, plain


def _rounded(value: Ints, rounding: Rounding, scale: int) -> Ints:
    step, minimum = (int(each.scaleb(scale)) for each in _steps(rounding))
    floor, rest = np.divmod(value, step)
    if rounding.mode == "up":
        floor += rest > 0
    elif rounding.mode == "half_up":
        floor += 2 * rest >= step
    elif rounding.mode == "half_even":
        floor += (2 * rest > step) | ((2 * rest == step) & (floor % 2 == 1))
    result: Ints = np.maximum(floor * step, minimum)
    return result
