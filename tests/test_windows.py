"""The calendar, against plain datetime and zoneinfo: text, windows of every kind of zone, buckets in UTC."""

from __future__ import annotations

import calendar
import functools
import importlib.resources
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tallystick import windows
from tallystick.windows import ANCHOR_MAX, DAY, HOUR, INSTANT_MAX, INSTANT_MIN, QUARTER, SECOND, Period, Window

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@functools.cache
def zone_info(name: str) -> ZoneInfo:
    """Read a zone with the standard library, from the same edition of the database."""
    with importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def local(instant: int, zone: str) -> datetime:
    return (EPOCH + timedelta(microseconds=instant)).astimezone(zone_info(zone))


def cut(start: str, end: str, window: str, zone: str = "UTC") -> list[str]:
    """Cut a range into buckets and write the edges as the local clock shows them."""
    bounds = windows.edges(windows.parse_instant(start), windows.parse_instant(end), Window(window), zone)
    return [local(edge, zone).isoformat() for edge in bounds.tolist()]


def lengths(start: str, end: str, window: str, zone: str) -> list[timedelta]:
    bounds = windows.edges(windows.parse_instant(start), windows.parse_instant(end), Window(window), zone)
    return [timedelta(microseconds=int(length)) for length in np.diff(bounds)]


# Text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01t00:00:00z", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T02:00:00+02:00", "2026-11-01T00:00:00+00:00"),
        ("2026-10-31T18:15:00-05:45", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T00:00:00-00:00", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T00:00:00.5Z", "2026-11-01T00:00:00.500000+00:00"),
        ("2026-11-01T00:00:00.1234569Z", "2026-11-01T00:00:00.123456+00:00"),
        ("2026-11-01T00:00:00.9999999999Z", "2026-11-01T00:00:00.999999+00:00"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59+00:00"),
        ("2016-12-31T23:59:60.25Z", "2016-12-31T23:59:59.250000+00:00"),
        ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00+00:00"),
        ("0001-01-02T00:00:00Z", "0001-01-02T00:00:00+00:00"),
        ("0001-01-01T23:00:00-01:00", "0001-01-02T00:00:00+00:00"),
        ("9999-12-31T00:00:00Z", "9999-12-31T00:00:00+00:00"),
        ("9999-12-31T14:00:00+14:00", "9999-12-31T00:00:00+00:00"),
    ],
)
def test_an_instant_is_read_to_the_microsecond(text: str, same: str) -> None:
    """Any offset, either case, digits past microseconds cut, a leap second as the second before it."""
    assert windows.parse_instant(text) == (datetime.fromisoformat(same) - EPOCH) // MICROSECOND


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-01",
        "2026-11-01T00:00:00",
        "2026-11-01T00:00Z",
        "2026-11-01 00:00:00Z",
        "20261101T000000Z",
        "2026-11-01T00:00:00,5Z",
        "2026-11-01T00:00:00.Z",
        "2026-11-01T00:00:00Z\n",
        " 2026-11-01T00:00:00Z",
        "2026-11-01T00:00:00 02:00",
        "2026-11-01T00:00:00+0200",
        "2026-11-01T00:00:00+02",
        "2026-11-01T00:00:00+24:00",
        "2026-11-01T00:00:00+02:60",
        "2026-11-01T24:00:00Z",
        "2026-11-01T00:60:00Z",
        "2026-11-01T00:00:61Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-11-00T00:00:00Z",
        "0000-12-31T23:00:00-02:00",
        "-001-01-02T00:00:00Z",
        "02026-11-01T00:00:00Z",
        "٢٠٢٦-11-01T00:00:00Z",
        "0001-01-01T23:59:59.999999Z",
        "9999-12-31T00:00:00.000001Z",
        "9999-12-31T23:59:59-23:59",
        "1793491200",
    ],
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    """A missing offset, a date alone, other digits, times that do not exist and dates out of range are errors."""
    with pytest.raises(ValueError, match=r"."):
        windows.parse_instant(text)


@given(st.integers(INSTANT_MIN, INSTANT_MAX))
@example(INSTANT_MIN)
@example(INSTANT_MAX)
@example(-1)
@example(0)
def test_an_instant_survives_its_text(instant: int) -> None:
    """What is written ends in Z, reads back as the same instant, and agrees with datetime."""
    text = windows.format_instant(instant)
    assert text.endswith("Z")
    assert windows.parse_instant(text) == instant
    assert datetime.fromisoformat(text) == EPOCH + timedelta(microseconds=instant)


@pytest.mark.parametrize(
    ("instant", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1, "1970-01-01T00:00:00.000001Z"), (-500_000, "1969-12-31T23:59:59.500000Z")],
)
def test_a_fraction_is_written_only_where_there_is_one(instant: int, text: str) -> None:
    """Whole seconds have no fraction, others have six digits."""
    assert windows.format_instant(instant) == text


@given(st.dates())
def test_a_day_survives_its_text(day: date) -> None:
    """A date reads as its first instant in UTC, and every instant of it writes as that date."""
    start = windows.parse_day(day.isoformat())
    assert start == (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // MICROSECOND
    assert windows.format_day(start) == windows.format_day(start + DAY - 1) == day.isoformat()


@pytest.mark.parametrize(
    "text", ["", "2026-11", "20261101", "2026-W44-7", "2026-11-1", "2026-02-29", "2026-11-01Z", "٢٠٢٦-11-01"]
)
def test_what_is_no_day_is_refused(text: str) -> None:
    """Only YYYY-MM-DD of a day that exists is a day; the other ISO 8601 forms are not."""
    with pytest.raises(ValueError, match=r"."):
        windows.parse_day(text)


def test_a_day_that_never_was_is_called_that() -> None:
    """Whoever reads the sentence need not know which library read the date."""
    for text in ("2026-02-30", "0000-01-01", "2026-13-01"):
        with pytest.raises(ValueError, match=r"^no day of the calendar$"):
            windows.parse_day(text)
        with pytest.raises(ValueError, match=r"^no day of the calendar$"):
            windows.parse_instant(f"{text}T00:00:00Z")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0S", 0),
        ("PT24H", 86_400),
        ("P7D", 604_800),
        ("P1W", 604_800),
        ("P1DT2H3M4S", 93_784),
        ("PT90M", 5400),
        ("P2W1D", 1_296_000),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, seconds: int) -> None:
    """Weeks, days, hours, minutes and seconds have a fixed length, and each may be larger than the next one's unit."""
    assert windows.parse_duration(text) == seconds * 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1M",
        "P1Y",
        "P1DT",
        "-P1D",
        "+P1D",
        "PT1.5H",
        "PT1S1M",
        "24H",
        "pt1h",
        "PT1H\n",
        "PT١H",
        "P0123456789W",
    ],
)
def test_what_has_no_fixed_length_is_no_duration(text: str) -> None:
    """Months and years, signs, fractions and other spellings are refused."""
    with pytest.raises(ValueError, match="PT24H"):
        windows.parse_duration(text)


# Windows of a zone


def test_a_range_is_cut_at_its_own_ends() -> None:
    """The first and the last bucket are as long as the range leaves them."""
    assert cut("2026-11-01T10:07:00Z", "2026-11-01T12:30:00.000001Z", "hour") == [
        "2026-11-01T10:07:00+00:00",
        "2026-11-01T11:00:00+00:00",
        "2026-11-01T12:00:00+00:00",
        "2026-11-01T12:30:00.000001+00:00",
    ]


def test_a_range_inside_one_bucket_is_one_bucket() -> None:
    """Without a boundary inside, the edges are the range's ends."""
    for window in Window:
        assert cut("2026-11-03T10:01:00Z", "2026-11-03T10:02:00Z", window) == [
            "2026-11-03T10:01:00+00:00",
            "2026-11-03T10:02:00+00:00",
        ]


def test_total_is_one_bucket() -> None:
    """The window total has no boundaries, however long the range."""
    assert len(cut("0001-01-02T00:00:00Z", "9999-12-31T00:00:00Z", "total", "Europe/Prague")) == 2


def test_weeks_begin_on_monday() -> None:
    """Week boundaries are the zone's Monday midnights, also across a change of clocks."""
    assert cut("2026-10-20T00:00:00Z", "2026-11-04T00:00:00Z", "week", "Europe/Prague") == [
        "2026-10-20T02:00:00+02:00",
        "2026-10-26T00:00:00+01:00",
        "2026-11-02T00:00:00+01:00",
        "2026-11-04T01:00:00+01:00",
    ]


def test_months_and_years_are_the_zones_own() -> None:
    """A month and a year begin at local midnight, hours away from UTC's."""
    assert cut("2023-11-30T08:00:00Z", "2024-03-15T00:00:00Z", "month", "Pacific/Chatham")[1:-1] == [
        "2023-12-01T00:00:00+13:45",
        "2024-01-01T00:00:00+13:45",
        "2024-02-01T00:00:00+13:45",
        "2024-03-01T00:00:00+13:45",
    ]
    assert cut("2022-06-01T00:00:00Z", "2024-06-01T00:00:00Z", "year", "Asia/Kolkata")[1:-1] == [
        "2023-01-01T00:00:00+05:30",
        "2024-01-01T00:00:00+05:30",
    ]


def test_days_have_23_and_25_hours_where_clocks_change() -> None:
    """A local day is as long as it really was."""
    hours = timedelta(hours=1)
    assert lengths("2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z", "day", "Europe/Prague") == [
        24 * hours,
        23 * hours,
        24 * hours,
    ]
    assert lengths("2026-10-23T22:00:00Z", "2026-10-26T23:00:00Z", "day", "Europe/Prague") == [
        24 * hours,
        25 * hours,
        24 * hours,
    ]


def test_each_pass_of_a_repeated_hour_is_a_bucket() -> None:
    """Where clocks go back, the hour that comes twice is counted twice, one hour each."""
    assert cut("2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z", "hour", "Europe/Prague") == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
        "2026-10-25T04:00:00+01:00",
    ]


def test_half_an_hour_repeated_or_skipped_is_cut_exactly() -> None:
    """Lord Howe moves its clocks by 30 minutes: the odd half hour is a bucket of its own, and no hour is longer."""
    assert cut("2024-04-06T14:00:00Z", "2024-04-06T16:30:00Z", "hour", "Australia/Lord_Howe") == [
        "2024-04-07T01:00:00+11:00",
        "2024-04-07T01:30:00+10:30",
        "2024-04-07T02:00:00+10:30",
        "2024-04-07T03:00:00+10:30",
    ]
    assert cut("2024-10-05T14:30:00Z", "2024-10-05T17:00:00Z", "hour", "Australia/Lord_Howe") == [
        "2024-10-06T01:00:00+10:30",
        "2024-10-06T02:30:00+11:00",
        "2024-10-06T03:00:00+11:00",
        "2024-10-06T04:00:00+11:00",
    ]
    assert (
        lengths("2024-04-06T00:00:00Z", "2024-04-08T00:00:00Z", "minute15", "Australia/Lord_Howe")
        == [timedelta(minutes=15)] * 192
    )


def test_a_day_without_midnight_begins_at_its_first_instant() -> None:
    """Where clocks jump over midnight, the day begins at the end of the gap."""
    assert cut("2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z", "day", "America/Sao_Paulo")[1:-1] == [
        "2018-11-04T01:00:00-02:00",
        "2018-11-05T00:00:00-02:00",
    ]


def test_a_day_with_two_midnights_begins_at_the_first() -> None:
    """Newfoundland went back at 00:01: the second midnight is inside the day, wherever the range begins."""
    assert cut("1990-10-27T12:00:00Z", "1990-10-29T12:00:00Z", "day", "America/St_Johns")[1:-1] == [
        "1990-10-28T00:00:00-02:30",
        "1990-10-29T00:00:00-03:30",
    ]
    assert cut("1990-10-28T02:45:00Z", "1990-10-29T12:00:00Z", "day", "America/St_Johns")[:-1] == [
        "1990-10-27T23:15:00-03:30",
        "1990-10-29T00:00:00-03:30",
    ]


def test_a_midnight_inside_the_repeated_stretch_is_not_lost_with_a_range_that_ends_there() -> None:
    """The range ends before the second midnight, where the clock shows the day before again; the first one counts."""
    assert cut("1990-10-27T12:00:00Z", "1990-10-28T02:45:00Z", "day", "America/St_Johns") == [
        "1990-10-27T09:30:00-02:30",
        "1990-10-28T00:00:00-02:30",
        "1990-10-27T23:15:00-03:30",
    ]


def test_a_clock_that_goes_back_at_midnight_has_not_reached_it() -> None:
    """São Paulo went from 24:00 to 23:00: the day begins an hour later, when the clock shows midnight."""
    assert cut("2019-02-16T12:00:00Z", "2019-02-18T12:00:00Z", "day", "America/Sao_Paulo")[1:-1] == [
        "2019-02-17T00:00:00-03:00",
        "2019-02-18T00:00:00-03:00",
    ]


def test_a_change_of_name_without_a_change_of_offset_cuts_nothing() -> None:
    """Honolulu's war time became peace time at 13:30 and the clock went on."""
    assert cut("1945-08-14T22:30:00Z", "1945-08-14T23:30:00Z", "hour", "Pacific/Honolulu") == [
        "1945-08-14T13:00:00-09:30",
        "1945-08-14T14:00:00-09:30",
    ]


def test_a_local_day_that_never_was_has_no_bucket() -> None:
    """Samoa went from 29 to 31 December 2011 in one step."""
    assert cut("2011-12-29T10:00:00Z", "2012-01-01T10:00:00Z", "day", "Pacific/Apia") == [
        "2011-12-29T00:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2012-01-01T00:00:00+14:00",
        "2012-01-02T00:00:00+14:00",
    ]


def test_offsets_of_odd_seconds_are_exact() -> None:
    """Before standard time a zone had its mean solar time, to the second."""
    assert cut("1849-06-01T00:00:00Z", "1849-06-02T12:00:00Z", "day", "Europe/Amsterdam")[1:-1] == [
        "1849-06-02T00:00:00+00:17:30",
    ]
    assert cut("0001-01-02T00:00:00Z", "0001-01-02T01:00:00Z", "hour", "Asia/Tokyo")[1:-1] == [
        "0001-01-02T10:00:00+09:18:59"
    ]


def test_a_zone_comes_from_the_package_and_not_from_the_system() -> None:
    """The search path for a system database is empty, and names are taken as the database spells them."""
    import whenever

    assert tuple(whenever.get_tzpath()) == ()
    assert windows.is_zone("Europe/Prague")
    assert not any(map(windows.is_zone, ("", "europe/prague", "Europe/Prag", "+02:00", "/etc/localtime", "../UTC")))


@pytest.mark.parametrize(("start", "end"), [(1, 1), (2, 1), (INSTANT_MIN - 1, 0), (0, INSTANT_MAX + 1)])
def test_a_range_is_not_empty_and_within_the_calendar(start: int, end: int) -> None:
    """An empty, reversed or too wide range is an error, never an empty answer."""
    with pytest.raises(ValueError, match="begins before it ends"):
        windows.edges(start, end, Window.DAY)


@pytest.mark.parametrize("window", [Window.MINUTE15, Window.HOUR, Window.DAY, Window.WEEK])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Prague"])
def test_the_number_of_edges_is_bounded_exactly(window: Window, zone: str) -> None:
    """As many edges as allowed are made; one more is an error."""
    start = windows.parse_instant("2026-01-01T00:00:00Z")
    made = windows.edges(start, start + 400 * DAY, window, zone)
    assert np.array_equal(windows.edges(start, start + 400 * DAY, window, zone, edges_max=len(made)), made)
    with pytest.raises(windows.EdgesExceeded, match="longer window"):
        windows.edges(start, start + 400 * DAY, window, zone, edges_max=len(made) - 1)


def test_all_of_time_in_quarters_is_refused_at_once() -> None:
    """The bound is checked before the memory is spent."""
    with pytest.raises(windows.EdgesExceeded):
        windows.edges(INSTANT_MIN, INSTANT_MAX, Window.MINUTE15, "Europe/Prague")


ODD_ZONES = [
    "UTC",
    "Europe/Prague",
    "Europe/Dublin",
    "Europe/Amsterdam",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "America/Sao_Paulo",
    "America/Asuncion",
    "America/St_Johns",
    "America/Juneau",
    "America/Havana",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Asia/Manila",
    "Asia/Tehran",
    "Asia/Pyongyang",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "America/Nuuk",
    "Asia/Gaza",
    "Etc/GMT+12",
    "Pacific/Kiritimati",
]

# Around a change of clocks, where boundaries can go wrong.
ODD_MOMENTS = [
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Pacific/Kwajalein", "1993-08-21T12:00:00Z"),
    ("America/Juneau", "1867-10-18T00:00:00Z"),
    ("Asia/Manila", "1844-12-31T16:00:00Z"),
    ("America/St_Johns", "1990-10-28T02:31:00Z"),
    ("America/St_Johns", "1988-10-30T02:31:00Z"),
    ("America/Havana", "2024-11-03T05:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Sao_Paulo", "2019-02-17T02:00:00Z"),
    ("Africa/Monrovia", "1972-01-07T00:44:30Z"),
    ("Europe/Amsterdam", "1937-06-30T23:40:28Z"),
    ("Australia/Lord_Howe", "2024-04-06T15:00:00Z"),
    ("Antarctica/Troll", "2024-10-27T01:00:00Z"),
    ("Asia/Pyongyang", "2015-08-14T15:00:00Z"),
    ("America/New_York", "1883-11-18T17:00:00Z"),
    ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
]


@st.composite
def places(draw: st.DrawFn) -> tuple[str, int]:
    """Draw a zone and an instant: any, or one near a known oddity."""
    if draw(st.booleans()):
        zone, text = draw(st.sampled_from(ODD_MOMENTS))
        return zone, windows.parse_instant(text) + draw(st.integers(-3 * DAY, 3 * DAY))
    return draw(st.sampled_from(ODD_ZONES)), draw(st.integers(-4_000_000_000, 4_000_000_000)) * SECOND


def bucket_of(instant: int, window: Window, zone: str) -> tuple[int, ...]:
    """Name the local bucket of an instant by the standard library; later buckets have greater names."""
    at = local(instant, zone)
    offset = at.utcoffset() or timedelta()
    match window:
        case Window.MINUTE15 | Window.HOUR:
            unit = timedelta(minutes=15 if window is Window.MINUTE15 else 60)
            return (instant * MICROSECOND + offset) // unit, offset // MICROSECOND
        case Window.DAY:
            return (at.toordinal(),)
        case Window.WEEK:
            return at.isocalendar()[:2]
        case Window.MONTH:
            return at.year, at.month
        case _:
            return (at.year,)


SPANS = {
    Window.MINUTE15: (DAY, QUARTER // 3),
    Window.HOUR: (2 * DAY, QUARTER),
    Window.DAY: (12 * DAY, QUARTER),
    Window.WEEK: (40 * DAY, HOUR),
    Window.MONTH: (100 * DAY, 2 * HOUR),
    Window.YEAR: (900 * DAY, 20 * HOUR),
}
"""How long a range to try per window, and how closely to look inside its buckets."""


@settings(max_examples=150, deadline=None)
@given(places(), st.sampled_from(list(SPANS)), st.integers(1, 10**6))
def test_buckets_are_those_of_the_local_clock(place: tuple[str, int], window: Window, part: int) -> None:
    """Inside a bucket the zone's clock names one bucket throughout, and at each inner edge the name changes.

    Where a clock went back behind a boundary of days or longer, the bucket already begun goes on: the name of an
    instant is then the greatest seen so far.
    """
    zone, start = place
    longest, step = SPANS[window]
    end = start + max(longest * part // 10**6, 1)
    bounds = windows.edges(start, end, window, zone).tolist()
    assert (bounds[0], bounds[-1]) == (start, end)
    goes_on = window not in (Window.MINUTE15, Window.HOUR)
    reached = max(bucket_of(start - ago, window, zone) for ago in range(0, 2 * DAY, 59 * SECOND))
    before: tuple[int, ...] | None = None
    for low, high in pairwise(bounds):
        names = [bucket_of(instant, window, zone) for instant in (*range(low, high, step), high - 1)]
        if goes_on:
            names = [reached := max(reached, name) for name in names]
        assert len(set(names)) == 1
        assert names[0] != before
        before = names[0]


@settings(max_examples=100, deadline=None)
@given(places(), st.sampled_from(list(SPANS)), st.floats(0, 1), st.floats(0, 1))
def test_no_boundary_depends_on_where_the_range_begins(
    place: tuple[str, int], window: Window, first: float, second: float
) -> None:
    """A part of a range is cut where the whole range is cut."""
    zone, start = place
    longest = SPANS[window][0]
    low, high = sorted((start + int(longest * first), start + int(longest * second) + 1))
    whole = windows.edges(start, start + longest + 1, window, zone)
    part = windows.edges(low, high, window, zone) if low < high else np.array([low, high])
    assert part[1:-1].tolist() == whole[(whole > low) & (whole < high)].tolist()


@settings(max_examples=100, deadline=None)
@given(places(), st.integers(1, 800))
def test_every_boundary_is_one_of_each_shorter_window(place: tuple[str, int], days: int) -> None:
    """Quarters make hours, hours days, days weeks and months, months years: no bucket is torn by a longer one."""
    zone, start = place
    cuts = {window: set(windows.edges(start, start + days * DAY, window, zone).tolist()) for window in Window}
    order = [Window.MINUTE15, Window.HOUR, Window.DAY, Window.MONTH, Window.YEAR, Window.TOTAL]
    assert all(cuts[longer] <= cuts[shorter] for shorter, longer in pairwise(order))
    assert cuts[Window.TOTAL] <= cuts[Window.WEEK] <= cuts[Window.DAY]


def test_every_zone_of_the_database_cuts_days_from_first_to_last() -> None:
    """No zone fails at the ends of the calendar, and everywhere a year of days has 364 to 367 boundaries."""
    names = sorted(windows._zones())
    assert len(names) > 400
    for zone in names:
        for start in (INSTANT_MIN, 0, INSTANT_MAX - 366 * DAY):
            bounds = windows.edges(start, start + 366 * DAY, Window.DAY, zone)
            assert 366 <= len(bounds) <= 368
            assert bool((np.diff(bounds) > 0).all())


# Buckets in UTC

instants = st.lists(st.integers(INSTANT_MIN, INSTANT_MAX), max_size=20)


@given(instants)
@example([INSTANT_MIN, INSTANT_MAX, -1, 0, 1, -QUARTER, QUARTER - 1, -DAY, DAY - 1])
def test_utc_buckets_are_those_of_datetime(values: list[int]) -> None:
    """Quarters and days are counted from year 1, months are 12 × year + month − 1, also before 1970."""
    array = np.array(values, np.int64)
    times = [EPOCH + timedelta(microseconds=value) for value in values]
    origin = datetime(1, 1, 1, tzinfo=UTC)
    assert windows.quarter(array).tolist() == [(time - origin) // timedelta(minutes=15) for time in times]
    assert windows.day(array).tolist() == [time.toordinal() - 1 for time in times]
    assert windows.month(array).tolist() == [12 * time.year + time.month - 1 for time in times]


@given(instants)
@example([INSTANT_MIN, INSTANT_MAX, -1, 0])
def test_a_utc_bucket_begins_at_or_before_what_is_in_it(values: list[int]) -> None:
    """The start of a bucket is in it, the instant before is in the one before, and its number is its own."""
    array = np.array(values, np.int64)
    for number, start in (
        (windows.quarter, windows.quarter_start),
        (windows.day, windows.day_start),
        (windows.month, windows.month_start),
    ):
        numbers = number(array)
        starts = start(numbers)
        assert numbers.dtype == starts.dtype == np.int64
        assert bool((starts <= array).all())
        assert bool((array < start(numbers + 1)).all())
        assert np.array_equal(number(starts), numbers)
        assert np.array_equal(number(starts - 1), numbers - 1)


# Periods of a limit


def period(at: str, period: str, zone: str = "UTC", anchor: int | None = None) -> list[str]:
    """Return the ends of the period that an instant is in, as the local clock shows them."""
    bounds = windows.period_of(windows.parse_instant(at), Period(period), zone, anchor)
    return [local(bound, zone).isoformat() for bound in bounds]


def day_of(instant: int, zone: str) -> date:
    """Return the local day that an instant is counted in: the last one that has begun."""
    edges = windows.edges(instant - 4 * DAY, instant + DAY, Window.DAY, zone)
    return local(int(edges[edges <= instant].max()), zone).date()


def name_of(day: date, period: Period, anchor: int) -> int:
    """Number the period of a local day by its year, month or week; later ones have greater numbers."""
    if period is Period.WEEK:
        return (day.toordinal() - anchor) // 7
    if period is Period.YEAR:
        return day.year - ((day.month, day.day) < (1, anchor))
    first = min(anchor, calendar.monthrange(day.year, day.month)[1])
    return day.year * 12 + day.month - (day.day < first)


@given(places(), st.sampled_from([period for period in Period if period not in (Period.MINUTE, Period.TOTAL)]))
def test_a_period_without_an_anchor_is_the_bucket_of_a_report(place: tuple[str, int], period: Period) -> None:
    """A limit resets where a report of the same zone begins a new line."""
    zone, at = place
    edges = windows.edges(at - 400 * DAY, at + 400 * DAY, Window(period), zone) if period is not Period.HOUR else None
    if edges is None:
        edges = windows.edges(at - DAY, at + DAY, Window.HOUR, zone)
    after = int(np.searchsorted(edges, at, side="right"))
    assert windows.period_of(at, period, zone) == (int(edges[after - 1]), int(edges[after]))


@given(places())
def test_a_minute_is_cut_as_an_hour_is(place: tuple[str, int]) -> None:
    """It begins where the local clock shows a whole one or its offset changes, and never crosses an hour's end."""
    zone, at = place
    start, end = windows.period_of(at, Period.MINUTE, zone)
    hour = windows.period_of(at, Period.HOUR, zone)
    assert hour[0] <= start <= at < end <= hour[1]
    assert end - start <= 60 * SECOND
    for bound in (start, end):
        shown = local(bound, zone)
        assert (shown.second, shown.microsecond) == (0, 0) or bound in hour
    assert local(start, zone).replace(second=0, microsecond=0) == local(end - 1, zone).replace(second=0, microsecond=0)


@given(places(), st.sampled_from(list(ANCHOR_MAX)), st.integers(1, 31))
@example(("UTC", 1_772_236_800 * SECOND), Period.MONTH, 31)
@example(("Pacific/Apia", 1_325_239_200 * SECOND), Period.MONTH, 30)
def test_an_anchored_period_begins_on_its_day(place: tuple[str, int], period: Period, anchor: int) -> None:
    """It holds whole local days, those from one anchor to the next, and the next one begins where it ends."""
    zone, at = place
    anchor = min(anchor, ANCHOR_MAX[period])
    start, end = windows.period_of(at, period, zone, anchor)
    assert start <= at < end
    name = name_of(day_of(at, zone), period, anchor)
    first, last = day_of(start, zone), day_of(end - 1, zone)
    assert name_of(first, period, anchor) == name_of(last, period, anchor) == name
    assert name_of(day_of(start - 1, zone), period, anchor) < name < name_of(day_of(end, zone), period, anchor)
    assert windows.period_of(start, period, zone, anchor) == windows.period_of(end - 1, period, zone, anchor)
    assert windows.period_of(end, period, zone, anchor)[0] == end


def test_weeks_begin_on_monday_or_on_the_day_that_is_asked_for() -> None:
    """Weekday 1 is Monday, which is where a week begins without an anchor."""
    assert period("2026-11-04T00:00:00Z", "week") == ["2026-11-02T00:00:00+00:00", "2026-11-09T00:00:00+00:00"]
    assert period("2026-11-04T00:00:00Z", "week", anchor=1) == period("2026-11-04T00:00:00Z", "week")
    assert period("2026-11-04T00:00:00Z", "week", "Europe/Prague", 7) == [
        "2026-11-01T00:00:00+01:00",
        "2026-11-08T00:00:00+01:00",
    ]


def test_the_31st_is_the_last_day_of_any_month() -> None:
    """Where a month has no such day, its last one stands for it, and every month has its period."""
    assert period("2024-02-28T23:59:59Z", "month", anchor=31) == [
        "2024-01-31T00:00:00+00:00",
        "2024-02-29T00:00:00+00:00",
    ]
    assert period("2026-03-29T12:00:00Z", "month", "Europe/Prague", 30) == [
        "2026-02-28T00:00:00+01:00",
        "2026-03-30T00:00:00+02:00",
    ]
    assert period("2026-01-05T00:00:00Z", "year", anchor=6) == [
        "2025-01-06T00:00:00+00:00",
        "2026-01-06T00:00:00+00:00",
    ]


def test_days_of_a_limit_have_23_and_25_hours_too() -> None:
    """A limit per day lasts as long as the local day does."""
    assert period("2026-03-29T12:00:00Z", "day", "Europe/Prague") == [
        "2026-03-29T00:00:00+01:00",
        "2026-03-30T00:00:00+02:00",
    ]
    assert period("2018-11-04T12:00:00Z", "day", "America/Sao_Paulo") == [
        "2018-11-04T01:00:00-02:00",
        "2018-11-05T00:00:00-02:00",
    ]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Apia", "America/New_York"])
@pytest.mark.parametrize("period", list(Period))
def test_the_first_and_the_last_period_end_where_instants_do(period: Period, zone: str) -> None:
    """Nothing is asked about before or after the calendar, and all of time is one period."""
    first, last = windows.period_of(INSTANT_MIN, period, zone), windows.period_of(INSTANT_MAX - 1, period, zone)
    assert first[0] == INSTANT_MIN < first[1]
    assert last[0] < last[1] == INSTANT_MAX
    assert (first == last) == (period is Period.TOTAL)
    for outside in (INSTANT_MIN - 1, INSTANT_MAX):
        with pytest.raises(ValueError, match="an instant is within"):
            windows.period_of(outside, period, zone)
