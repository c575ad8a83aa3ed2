"""Numbers for people: exact, grouped, and never made by a float."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.dashboard import chart, figures, projection
from tallystick.dashboard.chart import HEIGHT, Bars, Line, Series

amounts = st.decimals(min_value=0, max_value=10**24, places=6, allow_nan=False)


@given(amounts)
def test_grouping_changes_no_digit(amount: Decimal) -> None:
    """Without its commas it is the text that it was, and no group is longer than three."""
    text = figures.plain(amount)
    grouped = figures.grouped(text)
    assert grouped.replace(",", "") == text
    assert all(len(part) == 3 for part in grouped.partition(".")[0].split(",")[1:])
    assert Decimal(text) == amount


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("59.9", ""),
        ("60", "1 min"),
        ("36125.5", "10 h 2 min 5.5 s"),
        ("3600", "1 h"),
        ("36000000.000001", "10,000 h 0.000001 s"),
    ],
)
def test_seconds_are_said_exactly(amount: str, said: str) -> None:
    """Hours, minutes and what is left, to the last digit; other units and small amounts are not."""
    assert figures.spoken(Decimal(amount), "s") == said
    assert figures.spoken(Decimal(amount), "{request}") == ""


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        ("3", "2", "+50.0 %"),
        ("1", "2", "−50.0 %"),
        ("2", "2", "no change"),
        ("0", "0", "no change"),
        ("1", "0", "new"),
        ("2000000.1", "2000000", "almost the same"),
        ("21000", "1", "+2,099,900.0 %"),
    ],
)
def test_a_change_is_said_in_percent(now: str, before: str, said: str) -> None:
    """More, less, nothing, and what was not there before."""
    assert figures.change(Decimal(now), Decimal(before)) == said


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        ("1", "3", "33.3 %"),
        ("0", "3", "0.0 %"),
        ("1", "100000", "< 0.1 %"),
        ("99999", "100000", "> 99.9 %"),
        ("1", "0", "–"),
    ],
)
def test_a_share_is_never_nothing_or_all_by_rounding(part: str, whole: str, said: str) -> None:
    """What is there is said to be there, and what lacks something is not said to be whole."""
    assert figures.share(Decimal(part), Decimal(whole)) == said


@given(st.lists(st.lists(amounts, min_size=3, max_size=3), min_size=1, max_size=12), st.sampled_from(["s", "events"]))
def test_bars_stand_within_the_axis_and_keep_their_order(groups: list[list[Decimal]], unit: str) -> None:
    """No bar, line or tick is above the axis; the eight largest have their own colour and the rest one together."""
    by_name: dict[str | None, dict[int, Decimal]] = {
        f"g{at}": dict(enumerate(amounts)) for at, amounts in enumerate(groups)
    }
    series = chart.stacked(by_name, 3, {name: str(name) for name in by_name})
    total = figures.added(amount for amounts in groups for amount in amounts)
    assert figures.added(each.total for each in series) == total
    assert len(series) == min(len(groups), chart.SERIES_MAX + 1)
    assert [each.total for each in series[:8]] == sorted((each.total for each in series[:8]), reverse=True)
    drawn = chart.drawing(Bars(["a", "b", "c"], ["a", "b", "c"], series, unit, lines=[Line("limit", total)]))
    tops = [sum(each["heights"][at] for each in drawn["series"]) for at in range(3)]
    assert all(0 <= top <= HEIGHT for top in [*tops, drawn["lines"][0]["height"]])
    assert 2 <= len(drawn["ticks"]) <= chart.TICKS_MAX + 1
    assert all(isinstance(height, int) for each in drawn["series"] for height in each["heights"])


def test_ticks_of_time_are_whole_hours_and_minutes() -> None:
    """An axis of seconds is read in the units of a clock, other ones in round numbers."""

    def ticks(most: str, unit: str) -> list[str]:
        bars = Bars(["a"], ["a"], [Series("a", 0, [Decimal(most)])], unit)
        found: list[str] = chart.drawing(bars)["ticks"]
        return found

    assert ticks("45953.267", "s") == ["0", "3 h", "6 h", "9 h", "12 h", "15 h"]
    assert ticks("240", "s") == ["0", "1 min", "2 min", "3 min", "4 min"]
    assert ticks("0.03", "s") == ["0", "0.01 s", "0.02 s", "0.03 s"]
    assert ticks("4200000", "tokens") == ["0", "1 M", "2 M", "3 M", "4 M", "5 M"]
    assert ticks("0", "events") == ["0", "1"]


def test_the_rest_of_a_period_is_projected_from_its_whole_buckets() -> None:
    """The mean of what is whole is still to come; today has what it has, or the mean; too little says nothing."""
    sums = [Decimal(4), Decimal(2), Decimal(1), Decimal(0), Decimal(0)]
    edges = [0, 10, 20, 30, 40, 50]
    found = projection.project(sums, edges, 25)
    assert found is not None
    assert found.basis == 2
    assert [int(amount) for amount in found.expected] == [0, 0, 2, 3, 3]
    assert [int(amount) for amount in found.running] == [0, 0, 2, 12, 15]
    busy = projection.project([Decimal(4), Decimal(2), Decimal(9), Decimal(0), Decimal(0)], edges, 25)
    assert busy is not None
    assert busy.expected[2] == 0
    assert projection.project(sums, edges, 15) is None
    assert projection.project(sums, edges, 50) is None
    assert projection.project([Decimal(0)] * 5, edges, 25) is None
