"""What a hold comes to in every meter that an event of its kind feeds, by the catalog in force: worked out before the
ledger decides.

A hold is like an event to come: what it says of labels counts as such an event's labels would, a label that it does not
have is absent, and a condition of a meter on what is no label is taken to hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction

import msgspec

from tallystick.envelope import pointer_to, refusal
from tallystick.errors import Code, Flaw, Problem
from tallystick.metering import label_to_come, multiplier_of
from tallystick.model import RATE_SCALE, Catalog, Hold, HoldLine, HoldMode, Labels, Meter, Verdict
from tallystick.quantity import AMOUNT_MAX, out_of_range, rounded, scaled

KINDS_MAX = 10_000
ONE = Fraction(1)
UPWARD = Context(prec=50, rounding=ROUND_CEILING)


class Asked(msgspec.Struct, frozen=True):
    """What a client asks to have set aside; `quantity` None = as many as `count`, of a meter that counts events."""

    account: str
    id: str
    meter: str
    labels: Mapping[str, str]
    quantity: Decimal | None
    count: int
    ttl: int
    mode: HoldMode


def hold_of(asked: Asked, catalog: Catalog, now: int, *, text_length_max: int) -> Hold:
    """Return the hold that is asked for, with what it takes of each meter by the rates of `now`.

    Raises Problem for what an event of this kind would be refused for.
    """
    meter = catalog.meters.get(asked.meter)
    if meter is None:
        raise _refused(
            Code.FIELD_VALUE, "/meter", f"There is no such meter; there are {', '.join(sorted(catalog.meters))}."
        )
    quantity = _quantity(asked, meter)
    labels, fed = _fed(meter, tuple(sorted(asked.labels.items())), catalog, text_length_max)
    work = _Work(catalog, now, meter, dict(fed), quantity, asked.count)
    lines = tuple(work.line(catalog.meters[name]) for name, _ in fed)
    own = work.own()
    return Hold(
        account=asked.account,
        id=asked.id,
        meter=meter.name,
        labels=labels,
        scale=meter.scale,
        asked=own,
        quantity=own,
        count=asked.count,
        ttl=asked.ttl,
        mode=asked.mode,
        created=0,
        deadline=0,
        lines=lines,
    )


def quantity_at(hold: Hold, meter: Meter | None, quantity: Decimal) -> int:
    """Return another quantity for a hold at its scale; a Problem where it has none such."""
    checked = out_of_range(quantity, "/quantity") or (_too_little() if quantity == 0 else None)
    if checked is not None:
        raise _problem(checked)
    if meter is not None and meter.scale == hold.scale:
        return _amount(meter, Fraction(quantity), hold.count)
    return _ceiling(Fraction(quantity) * 10**hold.scale)


_Fed = tuple[tuple[str, Labels], ...]
_remembered: dict[tuple[str, Labels, int], tuple[Mapping[str, Meter], Labels, _Fed]] = {}
"""Which meters the work of a kind feeds, with the labels that they see of it, by the meters that were in force."""


def _fed(meter: Meter, labels: Labels, catalog: Catalog, text_length_max: int) -> tuple[Labels, _Fed]:
    """Return the meters that the work feeds by name, with their labels; most holds are of a few kinds, and those of one
    kind share their labels.
    """
    found = _remembered.get((meter.name, labels, text_length_max))
    if found is None or found[0] is not catalog.meters:
        family = _Family(meter, [each for each in catalog.meters.values() if each.events & meter.events])
        family.take(dict(labels), text_length_max)
        if len(_remembered) >= KINDS_MAX:
            _remembered.clear()
        found = catalog.meters, labels, tuple((each.name, family.labels_of(each)) for each in family.fed())
        _remembered[meter.name, labels, text_length_max] = found
    return found[1], found[2]


@dataclass(slots=True)
class _Family:
    """The meters that an event may feed together with one of them, and what is known of the event."""

    meter: Meter
    meters: list[Meter]
    facts: dict[str, str] = field(default_factory=dict)
    among: dict[str, frozenset[str]] = field(default_factory=dict)

    def take(self, labels: Mapping[str, str], text_length_max: int) -> None:
        """Learn the values of labels, by their paths, and what follows from the filter of the meter."""
        paths = {name: path for each in reversed(self.meters) for name, path in each.labels} | dict(self.meter.labels)
        for name, value in labels.items():
            pointer = pointer_to("labels", name)
            if name not in paths:
                known = f"there are {', '.join(sorted(paths))}" if paths else "it has none"
                raise _refused(Code.FIELD_VALUE, pointer, f"{self.meter.name} has no such label; {known}.")
            text = label_to_come(self.meter, name, value, pointer, text_length_max)
            if isinstance(text, Verdict):
                raise _problem(text)
            self.facts[paths[name]] = text
        for name, values in self.meter.where:
            path = _path(self.meter, name)
            if path not in self.facts:
                self.among[path] = values
                if len(values) == 1:
                    self.facts[path] = next(iter(values))
            elif self.facts[path] not in values:
                wanted = ", ".join(sorted(values))
                detail = f"{self.meter.name} counts only what has {name} {wanted}."
                raise _refused(Code.FIELD_VALUE, pointer_to("labels", name), detail)

    def fed(self) -> Iterator[Meter]:
        """Yield the meters that such an event feeds."""
        labels = {path for each in self.meters for _, path in each.labels}
        for meter in self.meters:
            if all(self._holds(_path(meter, name), values, labels) for name, values in meter.where):
                yield meter

    def _holds(self, path: str, values: frozenset[str], labels: set[str]) -> bool:
        if path in self.facts:
            return self.facts[path] in values
        if path in self.among:
            return not values.isdisjoint(self.among[path])
        return path not in labels or "" in values

    def labels_of(self, meter: Meter) -> Labels:
        return tuple(sorted((name, self.facts[path]) for name, path in meter.labels if path in self.facts))


@dataclass(slots=True)
class _Work:
    """The work that a hold is for: `quantity` is in units of `meter`, `count` a number of events."""

    catalog: Catalog
    now: int
    meter: Meter
    labels: Mapping[str, Labels]
    quantity: Decimal
    count: int
    _own: int | None = None

    def own(self) -> int:
        """Return the quantity at the scale of the meter itself."""
        if self._own is None:
            self._own = _amount(self.meter, self.quantity, self.count)
        return self._own

    def line(self, meter: Meter) -> HoldLine:
        """Return what the work comes to in one meter."""
        labels, is_counted = self.labels[meter.name], self.meter.quantity is None
        count = max(self.count, _ceiling(self._raw())) if is_counted else self.count
        return HoldLine(meter.name, meter.scale, labels, self._of(meter, labels), count, is_counted)

    def _of(self, meter: Meter, labels: Labels) -> int | None:
        rate = self._rate(meter, labels)
        if meter.name == self.meter.name:
            return self.own()
        if meter.aggregation != "sum":
            return None
        if meter.quantity == self.meter.quantity:
            return _amount(meter, self._raw() * rate, self.count)
        return _amount(meter, self.count * rate, self.count) if meter.quantity is None else None

    def _raw(self) -> Fraction:
        """Return what events say, before the rate of the own meter: their number where it counts them."""
        rate = self._rate(self.meter, self.labels[self.meter.name])
        if rate == 0:
            detail = f"{self.meter.name} counts nothing of this kind: hold it on another meter, or not at all."
            raise _refused(Code.QUANTITY_RANGE, "/quantity", detail)
        return Fraction(self.quantity) / rate

    def _rate(self, meter: Meter, labels: Labels) -> Fraction:
        if meter.rate is None:
            return ONE
        multiplier = multiplier_of(self.catalog, meter.rate, labels, self.now)
        if multiplier is None:
            name = meter.rate.label
            detail = f"The rate table {meter.rate.table} has no rate for this {name} now. Send one that it has."
            raise _refused(Code.RATE_MISSING, pointer_to("labels", name), detail)
        return Fraction(multiplier, 10**RATE_SCALE)


def _quantity(asked: Asked, meter: Meter) -> Decimal:
    if asked.quantity is None:
        if meter.quantity is None and meter.rate is None:
            return Decimal(asked.count)
        raise _refused(Code.FIELD_MISSING, "/quantity", f"quantity is required: how much of {meter.name} to hold.")
    checked = out_of_range(asked.quantity, "/quantity") or (_too_little() if asked.quantity == 0 else None)
    if checked is None and meter.rounding is None:
        exact = scaled(asked.quantity, meter, "/quantity")
        checked = exact if isinstance(exact, Verdict) else None
    if checked is not None:
        raise _problem(checked)
    return asked.quantity


def _amount(meter: Meter, quantity: Fraction | Decimal, count: int) -> int:
    """Return a quantity at a meter's scale, as it rounds each of `count` like events, and never less than the whole."""
    amount = _at_scale(meter, quantity)
    if meter.rounding is not None and count > 1:
        amount = max(amount, count * _at_scale(meter, Fraction(quantity) / count))
    if amount > AMOUNT_MAX:
        raise _refused(Code.QUANTITY_RANGE, "/quantity", f"This is too much for the meter {meter.name}: hold less.")
    return amount


def _at_scale(meter: Meter, quantity: Fraction | Decimal) -> int:
    if meter.rounding is None:
        return _ceiling(Fraction(quantity) * 10**meter.scale)
    # Asked the other way round, as a Fraction is one of many kinds of numbers, it would take longer than the rest.
    if not isinstance(quantity, Decimal):
        quantity = UPWARD.divide(Decimal(quantity.numerator), Decimal(quantity.denominator))
    return rounded(quantity, meter.rounding, meter.scale)


def _path(meter: Meter, name: str) -> str:
    return dict(meter.labels).get(name, f"$.data.{name}")


def _ceiling(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _too_little() -> Verdict:
    return refusal(Code.QUANTITY_RANGE, "/quantity", "quantity must be more than 0: a hold of nothing holds nothing.")


def _problem(verdict: Verdict) -> Problem:
    assert verdict.code is not None, "what is refused has a code"
    return _refused(verdict.code, verdict.pointer, verdict.detail)


def _refused(code: Code, pointer: str, detail: str) -> Problem:
    return Problem(code, detail, (Flaw(pointer, detail),))
