"""What a limit allows and how it stands: capacity, both clocks, and one decision for whoever asks and whoever works."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick import limits, windows
from tallystick.catalog import builtin
from tallystick.limits import Balance, Standing
from tallystick.model import Grant, GrantKind, Limit, Policy, Property, Replay, Total
from tallystick.windows import INSTANT_MAX, INSTANT_MIN, Period
from tests.ledger.define import meter

NOW = windows.parse_instant("2026-11-15T12:00:00Z")
MONTH = (windows.parse_instant("2026-11-01T00:00:00Z"), windows.parse_instant("2026-12-01T00:00:00Z"))


def limit(amount: int | None = 100, **definition: Any) -> Limit:
    """Define a limit of so many seconds of audio per month, at three decimals unless it says otherwise."""
    made = Limit("l", "acme", "audio", Property.QUANTITY, 3, Period.MONTH, amount)
    return replace(made, **definition)


def grant(amount: int, start: str, end: str | None = None, kind: GrantKind = GrantKind.EXTENSION) -> Grant:
    until = None if end is None else windows.parse_instant(end)
    return Grant("l", f"{start}/{amount}", kind, amount, 3, windows.parse_instant(start), until)


def standing(made: Limit, used: int = 0, held: int = 0, at: int = NOW) -> Standing:
    return limits.standing(made, Balance(used, held), at)


def test_capacity_is_the_amount_and_the_grants_that_are_valid() -> None:
    """A grant counts from its first instant to before its last, and one without end for ever."""
    made = limit(
        grants=(
            grant(20, "2026-11-10T00:00:00Z", "2026-11-20T00:00:00Z"),
            grant(3, "2026-11-15T00:00:00Z"),
            grant(4, "2026-11-20T00:00:00Z", kind=GrantKind.BASE),
        )
    )
    on = {
        "2026-11-09T23:59:59.999999Z": 100,
        "2026-11-10T00:00:00Z": 120,
        "2026-11-15T00:00:00Z": 123,
        "2026-11-19T23:59:59.999999Z": 123,
        "2026-11-20T00:00:00Z": 107,
    }
    assert {at: limits.capacity_at(made, windows.parse_instant(at)) for at in on} == on


def test_a_limit_without_an_amount_has_what_grants_give() -> None:
    """With none that is valid there is nothing, and nothing gives it: then work does not fit."""
    granted = limit(None, grants=(grant(5, "2026-11-10T00:00:00Z", "2026-11-16T00:00:00Z"),))
    shown = standing(granted)
    assert (shown.capacity, shown.is_granted, shown.has_remaining) == (5, True, True)
    later = standing(granted, at=windows.parse_instant("2026-11-16T00:00:00Z"))
    assert (later.capacity, later.is_granted, later.has_remaining) == (0, False, False)
    assert standing(limit(0)).is_granted


def test_capacity_and_consumption_have_their_own_clocks() -> None:
    """Use resets with the period; the capacity holds until the earliest end of a grant, else as long as the period."""
    assert (standing(limit()).start, standing(limit()).resets_at) == MONTH
    assert standing(limit()).valid_until == MONTH[1]
    soon, late = "2026-11-20T00:00:00Z", "2026-12-24T00:00:00Z"
    made = limit(grants=(grant(1, "2026-11-01T00:00:00Z", late), grant(1, "2026-11-01T00:00:00Z")))
    assert standing(made).valid_until == windows.parse_instant(late)
    both = replace(made, grants=(*made.grants, grant(1, "2026-11-01T00:00:00Z", soon)))
    assert (standing(both).valid_until, standing(both).resets_at) == (windows.parse_instant(soon), MONTH[1])


def test_an_extension_that_ends_lowers_the_capacity_and_leaves_what_was_used() -> None:
    """What was used beyond the rest is overage, and remaining never goes below nothing."""
    made = limit(grants=(grant(50, "2026-11-01T00:00:00Z", "2026-11-20T00:00:00Z"),))
    before, after = standing(made, 120), standing(made, 120, at=windows.parse_instant("2026-11-20T00:00:00Z"))
    assert (before.capacity, before.remaining, before.overage, before.is_extended) == (150, 30, 0, True)
    assert (after.capacity, after.remaining, after.overage, after.is_extended) == (100, 0, 20, False)
    assert (before.has_remaining, after.has_remaining) == (True, False)


def test_only_an_extension_extends() -> None:
    """A base grant gives capacity and no flag, and an extension that is over or to come gives neither."""
    base = grant(5, "2026-11-01T00:00:00Z", kind=GrantKind.BASE)
    assert (standing(limit(grants=(base,))).capacity, standing(limit(grants=(base,))).is_extended) == (105, False)
    assert not standing(limit(grants=(grant(5, "2026-11-16T00:00:00Z"),))).is_extended


def test_a_limit_for_ever_never_resets() -> None:
    """Its period is all of time, and without grants that end its capacity holds for ever."""
    shown = standing(limit(period=Period.TOTAL))
    assert (shown.start, shown.end, shown.resets_at, shown.valid_until) == (INSTANT_MIN, INSTANT_MAX, None, None)


def test_a_period_is_that_of_the_zone_and_the_anchor() -> None:
    """A billing month from the 20th in Prague is under way until the 20th there."""
    made = limit(timezone="Europe/Prague", anchor=20)
    shown = [windows.format_instant(bound) for bound in limits.period_at(made, NOW)]
    assert shown == ["2026-10-19T22:00:00Z", "2026-11-19T23:00:00Z"]


@pytest.mark.parametrize(
    ("used", "held", "has_remaining", "remaining"),
    [
        (0, 0, True, 100),
        (99, 0, True, 1),
        (100, 0, False, 0),
        (60, 39, True, 1),
        (60, 40, False, 0),
        (60, 60, False, 0),
    ],
)
def test_held_amounts_are_taken_as_used_ones_are(used: int, held: int, has_remaining: bool, remaining: int) -> None:
    """Something remains as long as used and held together are less than the capacity, exactly."""
    shown = standing(limit(), used, held)
    assert (shown.has_remaining, shown.remaining, shown.taken) == (has_remaining, remaining, used + held)


amounts = st.integers(0, 200)


@given(st.none() | amounts, amounts, amounts, amounts, amounts, st.sampled_from(Policy))
def test_what_is_shown_and_what_is_decided_are_one_arithmetic(
    amount: int | None, extra: int, used: int, held: int, wanted: int, policy: Policy
) -> None:
    """An amount fits if it is nothing, or is within the capacity with what is taken; the flag is about the least."""
    made = limit(amount, policy=policy, grants=(grant(extra, "2026-11-01T00:00:00Z"),))
    balance, capacity = Balance(used, held), (amount or 0) + extra
    decision = limits.decide(made, balance, wanted, NOW)
    shown = limits.standing(made, balance, NOW)
    assert decision.fits == (policy is Policy.ALLOW or wanted == 0 or used + held + wanted <= capacity)
    assert shown.has_remaining == limits.decide(made, balance, 1, NOW).fits
    assert shown.has_remaining == (policy is Policy.ALLOW or not used + held >= capacity)
    after = limits.standing(made, Balance(used, held + wanted) if decision.fits else balance, NOW)
    assert (decision.remaining, decision.resets_at) == (after.remaining, MONTH[1])
    assert shown.remaining == max(0, capacity - used - held)
    assert shown.overage == max(0, used - capacity)


def test_a_policy_of_allow_is_unlimited_and_tells_the_overage() -> None:
    """Its amount is what is included."""
    allowing = limit(policy=Policy.ALLOW)
    assert [limits.is_unlimited(limit(policy=policy)) for policy in Policy] == [False, False, True]
    shown = standing(allowing, 130)
    assert (shown.capacity, shown.overage, shown.has_remaining) == (100, 30, True)


def test_use_is_asked_for_over_the_whole_period() -> None:
    """The question ends with the period and not with the instant, and "" asks for absent labels too."""
    asked = limits.usage_of(limit(where=(("operation", ""), ("technology", "stt"))), NOW)
    assert (asked.meter, asked.accounts, tuple(asked.edges.tolist())) == ("audio", ("acme",), MONTH)
    assert asked.where == {"operation": frozenset({""}), "technology": frozenset({"stt"})}
    assert limits.used_of(limit(), Total(2, 90)) == 90
    assert limits.used_of(limit(property=Property.COUNT), Total(2, 90)) == 2


def test_a_count_is_whole_and_a_quantity_has_the_meters_scale() -> None:
    """A quantity is limited where it adds up, and a count always."""
    seconds, most = meter(scale=3), meter(scale=3, aggregation="max")
    assert [limits.scale_of(each, seconds) for each in Property] == [3, 0]
    assert [limits.adds_up(each, seconds) for each in Property] == [True, True]
    assert [limits.adds_up(each, most) for each in Property] == [False, True]


@pytest.mark.parametrize(
    ("change", "hinders", "hinders_count"),
    [
        ({}, False, False),
        ({"quantity": None}, False, False),
        ({"unit": "min"}, True, False),
        ({"scale": 2}, True, False),
        ({"aggregation": "max"}, True, False),
        ({"labels": {"kind": "$.data.kind", "more": "$.data.more"}}, False, False),
        ({"labels": {"more": "$.data.more"}}, True, True),
    ],
)
def test_a_meter_keeps_what_its_limits_need(change: dict[str, Any], hinders: bool, hinders_count: bool) -> None:
    """No definition changes what the amounts of a limit mean, or takes the labels that it names."""
    made = limit(meter="work", where=(("kind", "a"),))
    counting = replace(made, id="c", property=Property.COUNT, scale=0)
    catalog = replace(builtin(), meters={"work": meter(scale=3)}, limits={"l": made, "c": counting})
    expected = ["l"] * hinders + ["c"] * hinders_count
    assert limits.hindering(meter(**{"scale": 3, **change}), catalog) == expected
    coming = Replay((meter(**{"scale": 3, **change}),), 0)
    replaying = replace(catalog, limits={}, replays={"work": coming})
    assert limits.is_limitable(made, replaying) is not hinders
    assert limits.is_limitable(counting, replaying) is not hinders_count


def test_a_meter_without_limits_is_free() -> None:
    """Others are not in its way, and one that is not there cannot be limited."""
    catalog = replace(builtin(), limits={"l": limit()})
    assert limits.hindering(meter("images", unit="x"), catalog) == []
    assert not limits.is_limitable(limit(meter="gone"), catalog)
    assert not limits.is_limitable(limit(), catalog), "audio has six decimals"
    assert limits.is_limitable(limit(scale=6), catalog)
