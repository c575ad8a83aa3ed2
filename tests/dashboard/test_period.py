"""Days of a zone: presets, own ranges, steps, and the names of buckets."""

from __future__ import annotations

from datetime import date

import pytest

from tallystick import windows
from tallystick.dashboard import period
from tallystick.dashboard.period import Days, DaysInvalid
from tallystick.windows import Window

NOW = windows.parse_instant("2026-03-31T22:30:00Z")


def test_presets_are_of_the_zone() -> None:
    """Half past ten in the evening in UTC is another day, and another month, in Prague."""
    assert period.of_preset("today", NOW, "UTC").first == date(2026, 3, 31)
    assert period.of_preset("today", NOW, "Europe/Prague").first == date(2026, 4, 1)
    assert period.of_preset("this-month", NOW, "Europe/Prague").name() == "April 2026"
    assert period.of_preset("last-month", NOW, "Europe/Prague").name() == "March 2026"
    assert period.of_preset("7-days", NOW, "UTC").count == 7
    assert period.of_preset("this-year", NOW, "UTC").name() == "2026"


def test_days_begin_and_end_with_the_clock_of_the_zone() -> None:
    """The day on which the clocks go forward has 23 hours."""
    day = Days(date(2026, 3, 29), date(2026, 3, 29), "Europe/Prague")
    assert day.end - day.start == 23 * windows.HOUR
    assert windows.format_instant(day.start) == "2026-03-28T23:00:00Z"


@pytest.mark.parametrize(
    ("first", "last", "before", "after"),
    [
        ("2026-03-01", "2026-03-31", "2026-02-01 2026-02-28", "2026-04-01 2026-04-30"),
        ("2026-01-01", "2026-12-31", "2025-01-01 2025-12-31", "2027-01-01 2027-12-31"),
        ("2026-03-05", "2026-03-06", "2026-03-03 2026-03-04", "2026-03-07 2026-03-08"),
    ],
)
def test_steps_are_as_long_as_what_is_shown(first: str, last: str, before: str, after: str) -> None:
    """Whole months move by months, anything else by its days; there and back is where it was."""
    days = period.of_fields(first, last, "UTC")
    for steps, said in ((-1, before), (1, after)):
        moved = days.moved(steps)
        assert f"{moved.first} {moved.last}" == said
        assert moved.moved(-steps) == days


def test_the_calendar_ends() -> None:
    """Where there is no earlier or later, there is no step, and days beyond are refused by field."""
    assert not period.of_fields("0001-01-05", "0001-01-20", "UTC").can_move(-1)
    assert not period.of_fields("9999-12-01", "9999-12-29", "UTC").can_move(1)
    flawed = (
        ("x", "2026-01-01", "from"),
        ("2026-01-01", "2026-02-30", "through"),
        ("2026-01-02", "2026-01-01", "through"),
    )
    for first, last, name in flawed:
        with pytest.raises(DaysInvalid) as raised:
            period.of_fields(first, last, "UTC")
        assert raised.value.name == name


def test_an_hour_that_comes_twice_has_two_names() -> None:
    """Where the clocks go back, the offset tells the two apart."""
    day = Days(date(2026, 10, 25), date(2026, 10, 25), "Europe/Prague")
    edges = [int(edge) for edge in windows.edges(day.start, day.end, Window.HOUR, day.zone)]
    names = period.bucket_names(edges, Window.HOUR, day.zone)
    assert len(set(names)) == 25
    assert names[2:4] == ["2026-10-25 02:00 +02:00", "2026-10-25 02:00 +01:00"]
