"""What a limit allows and how it stands, as one piece of arithmetic: exact, at the limit's scale, at any instant.

A period says when use begins at nothing again; grants say how much may be used. The two have clocks of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from tallystick import windows
from tallystick.model import (
    Catalog,
    Crossing,
    Grant,
    GrantKind,
    Labels,
    Limit,
    Meter,
    Policy,
    Property,
    Total,
    Unheld,
    UsageQuery,
)
from tallystick.windows import Period

FIXED = ("unit", "scale", "aggregation")
"""What a meter keeps for as long as there are limits on its quantity."""


class Balance(msgspec.Struct, frozen=True, gc=False):
    """What is taken of a limit: used in the period, and held for work that is under way."""

    used: int = 0
    held: int = 0


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How a limit stands at an instant; amounts are integers at the limit's scale.

    `start` and `end` are the period, `resets_at` is its end, None where it never ends. `capacity` holds until
    `valid_until`: the earliest end of a grant in it, else the period's. `is_granted` is false where nothing gives
    capacity. `overage` is what was used beyond it. `has_remaining` is what `decide` says of the least amount there is.
    """

    start: int
    end: int
    resets_at: int | None
    capacity: int
    used: int
    held: int
    remaining: int
    overage: int
    valid_until: int | None
    is_granted: bool
    is_extended: bool
    has_remaining: bool

    @property
    def taken(self) -> int:
        """What is used and held together."""
        return self.used + self.held


class Decision(msgspec.Struct, frozen=True, gc=False):
    """Whether an amount fits, what remains then (where it does not: what remains as it is), and until when."""

    fits: bool
    remaining: int
    resets_at: int | None


def is_unlimited(limit: Limit) -> bool:
    """Say whether it lets everything through, and only tells what is included from what is not."""
    return limit.policy is Policy.ALLOW


def grants_at(limit: Limit, at: int) -> list[Grant]:
    """Return the grants that give capacity at an instant, besides the limit's own amount."""
    return [grant for grant in limit.grants if grant.is_valid(at)] if limit.grants else []


def capacity_at(limit: Limit, at: int) -> int:
    """Return what the limit allows at an instant: its own amount and the grants that are valid then."""
    return _capacity(limit, grants_at(limit, at))


def _capacity(limit: Limit, granted: Sequence[Grant]) -> int:
    own = limit.amount or 0
    return own + sum(grant.amount for grant in granted) if granted else own


def period_at(limit: Limit, at: int) -> tuple[int, int]:
    """Return the period [start, end) of the limit that an instant is in."""
    return windows.period_of(at, limit.period, limit.timezone, limit.anchor)


def standing(limit: Limit, balance: Balance, at: int, period: tuple[int, int] | None = None) -> Standing:
    """Say how a limit stands at an instant, of which `balance` is true; `period` is the one it is in, where known."""
    start, end = period or period_at(limit, at)
    resets_at = _resets_at(limit, end)
    granted = grants_at(limit, at)
    capacity = _capacity(limit, granted)
    return Standing(
        start=start,
        end=end,
        resets_at=resets_at,
        capacity=capacity,
        used=balance.used,
        held=balance.held,
        remaining=_remaining(capacity, balance),
        overage=max(0, balance.used - capacity),
        valid_until=min((grant.end for grant in granted if grant.end is not None), default=resets_at),
        is_granted=limit.amount is not None or bool(granted),
        is_extended=any(grant.kind is GrantKind.EXTENSION for grant in granted),
        has_remaining=_fits(limit, capacity, balance, 1),
    )


def fits(limit: Limit, balance: Balance, amount: int, now: int) -> bool:
    """Say whether `amount` more fits under a limit, beside what is used and held."""
    return _fits(limit, capacity_at(limit, now), balance, amount)


def decide(limit: Limit, balance: Balance, amount: int, now: int) -> Decision:
    """Say whether `amount` more fits, as `fits` does, and how the limit stands then."""
    capacity = capacity_at(limit, now)
    is_fit = _fits(limit, capacity, balance, amount)
    after = Balance(balance.used, balance.held + amount) if is_fit else balance
    return Decision(is_fit, _remaining(capacity, after), _resets_at(limit, period_at(limit, now)[1]))


def _fits(limit: Limit, capacity: int, balance: Balance, amount: int) -> bool:
    # What costs nothing is not kept from anybody, even if others have used too much.
    return is_unlimited(limit) or amount == 0 or balance.used + balance.held + amount <= capacity


def _remaining(capacity: int, balance: Balance) -> int:
    return max(0, capacity - balance.used - balance.held)


def _resets_at(limit: Limit, end: int) -> int | None:
    return None if limit.period is Period.TOTAL else end


# What a limit counts


def usage_of(limit: Limit, at: int) -> UsageQuery:
    """Ask for what a limit counts in the period that an instant is in, to its very end."""
    where = {name: frozenset({value}) for name, value in limit.where}
    return UsageQuery(limit.meter, (limit.account,), np.array(period_at(limit, at), np.int64), where=where, limit=limit)


def counts(limit: Limit, meter: str, labels: Labels) -> bool:
    """Say whether a limit counts what a meter counts under a label set; `""` is also what is absent."""
    if limit.meter != meter:
        return False
    if not limit.where:
        return True
    values = dict(labels)
    return all(values.get(name, "") == value for name, value in limit.where)


def refuses_unheld(limit: Limit) -> bool:
    """Say whether events without a hold are refused where they do not fit."""
    return limit.unheld is Unheld.REFUSE and not is_unlimited(limit)


def crossing(limit: Limit, threshold: int, now: Standing, at: int) -> Crossing:
    """Note that use has reached a threshold in the present period."""
    return Crossing(limit.id, threshold, now.start, at, now.used, now.capacity, limit.scale)


def reached(limit: Limit, now: Standing) -> tuple[int, ...]:
    """Return the thresholds, percentages of the capacity, that use has reached; none where nothing is used."""
    return tuple(each for each in limit.thresholds if now.used and now.used * 100 >= each * now.capacity)


def used_of(limit: Limit, total: Total) -> int:
    """Return what a total of its meter is to a limit."""
    return total.count if limit.property is Property.COUNT else total.sum


def scale_of(property: Property, meter: Meter) -> int:
    """Return the scale of a limit's amounts: an event is counted whole."""
    return 0 if property is Property.COUNT else meter.scale


def adds_up(property: Property, meter: Meter) -> bool:
    """Say whether use of a meter is a sum of its parts, so that it can be said how much is left."""
    return property is Property.COUNT or meter.aggregation == "sum"


def fits_meter(limit: Limit, meter: Meter) -> bool:
    """Say whether a limit can count by this definition of its meter."""
    labels = {name for name, _ in meter.labels}
    return (
        limit.scale == scale_of(limit.property, meter)
        and adds_up(limit.property, meter)
        and all(name in labels for name, _ in limit.where)
    )


def is_limitable(limit: Limit, catalog: Catalog) -> bool:
    """Say whether a limit can count by its meter as it is, and as a replay is about to make it."""
    meter = catalog.meters.get(limit.meter)
    if meter is None:
        return False
    coming = [each for replay in catalog.replays.values() for each in replay.meters if each.name == limit.meter]
    return fits_meter(limit, meter) and all(_keeps(limit, meter, each) for each in coming)


def hindering(meter: Meter, catalog: Catalog) -> list[str]:
    """Return the limits, by id, that would lose what they count if their meter were defined like this."""
    before = catalog.meters.get(meter.name)
    on_it = limits_on(meter.name, catalog)
    return [limit.id for limit in on_it if before is None or not _keeps(limit, before, meter)]


def limits_on(meter: str, catalog: Catalog) -> Iterable[Limit]:
    """Return the limits on a meter."""
    return (limit for limit in catalog.limits.values() if limit.meter == meter)


def _keeps(limit: Limit, before: Meter, after: Meter) -> bool:
    is_same = all(getattr(before, name) == getattr(after, name) for name in FIXED)
    return fits_meter(limit, after) and (is_same or limit.property is Property.COUNT)
