"""The only calendar arithmetic: instants as text, windows of a zone, quarters, days and months in UTC.

Instants are integers: microseconds since 1970-01-01T00:00:00Z, in the proleptic Gregorian calendar.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np
import whenever
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Instants = TypeVar("Instants", int, Int64s)

SECOND = 1_000_000
QUARTER = 900 * SECOND
HOUR = 3600 * SECOND
DAY = 24 * HOUR

INSTANT_MIN = -62_135_510_400 * SECOND
"""0001-01-02T00:00:00Z: a day inside the calendar, so that every zone has a local date for it."""
INSTANT_MAX = 253_402_214_400 * SECOND
"""9999-12-31T00:00:00Z, the end of the last day; only an end of a range may be here."""

_ORIGIN = -62_135_596_800 * SECOND  # 0001-01-01T00:00:00Z
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EPOCH_MONTH = 1970 * 12

# Two machines must cut the same buckets, so zones come from the pinned tzdata package, never from the system.
whenever.reset_tzpath(())


class Window(StrEnum):
    """How long a bucket is, in the clock and calendar of a zone."""

    MINUTE15 = "minute15"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    TOTAL = "total"


class Period(StrEnum):
    """How long a limit's use adds up before it begins at nothing again, in the clock and calendar of a zone."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    TOTAL = "total"


class EdgesExceeded(ValueError):
    """The range has more buckets than the caller allows."""


# Text

_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DURATION = re.compile(
    r"P(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?=\d)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})S)?)?", re.ASCII
)


def parse_instant(text: str) -> int:
    """Read an RFC 3339 date-time with offset; ValueError unless it is one, from INSTANT_MIN to INSTANT_MAX.

    Digits past microseconds are cut, and second 60 is read as 59.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time with an offset, such as 2026-11-01T00:00:00Z")
    year, month, day, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.groups()
    local = _local(int(year), int(month), int(day), int(hour), int(minute), 59 if second == "60" else int(second))
    micros = int((fraction or "").ljust(6, "0")[:6])
    return _within_reports(local + micros - _offset(sign, int(offset_hour or 0), int(offset_minute or 0)))


def local_instant(text: str, zone: str) -> int:
    """Read a date and time of day without offset, `2026-11-01T12:00:00`, as the clocks of a zone showed it.

    A time that a clock shows twice, when it is put back, is the first of the two; one that it skips is as much later as
    it was put forward. ValueError unless it is one, from INSTANT_MIN to INSTANT_MAX.
    """
    as_utc = parse_instant(text + "Z")
    local = whenever.Instant.from_timestamp(as_utc, unit="microsecond").to_tz("UTC").to_plain()
    instant = local.assume_tz(zone, disambiguation="compatible").timestamp(unit="microsecond")
    return _within_reports(int(instant))


def _within_reports(instant: int) -> int:
    if not INSTANT_MIN <= instant <= INSTANT_MAX:
        raise ValueError("outside 0001-01-02T00:00:00Z to 9999-12-31T00:00:00Z")
    return instant


def _local(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("no time of day")
    return _ordinal(year, month, day) * DAY + hour * HOUR + (minute * 60 + second) * SECOND


def _ordinal(year: int, month: int, day: int) -> int:
    try:
        return date(year, month, day).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        raise ValueError("no day of the calendar") from None


def _offset(sign: str | None, hour: int, minute: int) -> int:
    if hour > 23 or minute > 59:
        raise ValueError("no instant: its offset is beyond 23:59")
    return (hour * HOUR + minute * 60 * SECOND) * (-1 if sign == "-" else 1)


def format_instant(instant: int) -> str:
    """Write an instant as RFC 3339 in UTC, with six digits of fraction unless it is a whole second."""
    return (_NAIVE_EPOCH + timedelta(0, *divmod(instant, SECOND))).isoformat() + "Z"


def format_local(instant: int, zone: str) -> str:
    """Write an instant as the clocks of a zone show it, cut to the second, with their offset: `…T12:00:00+01:00`."""
    offset = _offset_of(whenever.Instant.from_timestamp(instant, unit="microsecond").to_tz(zone))
    shown = (_EPOCH + timedelta(microseconds=(instant + offset) // SECOND * SECOND)).isoformat()[:19]
    sign, minutes = "-" if offset < 0 else "+", abs(offset) // (60 * SECOND)
    return f"{shown}{sign}{minutes // 60:02}:{minutes % 60:02}"


def parse_day(text: str) -> int:
    """Read `YYYY-MM-DD` as the first instant of that UTC day; ValueError unless it is one."""
    if _DAY.fullmatch(text) is None:
        raise ValueError("not a date as YYYY-MM-DD")
    year, month, day = text.split("-")
    return _ordinal(int(year), int(month), int(day)) * DAY


def format_day(instant: int) -> str:
    """Write the UTC day of an instant as `YYYY-MM-DD`."""
    return date.fromordinal(instant // DAY + _EPOCH_ORDINAL).isoformat()


def parse_duration(text: str) -> int:
    """Read an ISO 8601 duration of weeks, days, hours, minutes and whole seconds, in microseconds; else ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError("not an ISO 8601 duration of parts with a fixed length, such as PT24H or P7D")
    parts = zip((7 * DAY, DAY, HOUR, 60 * SECOND, SECOND), match.groups(), strict=True)
    return sum(length * int(count or 0) for length, count in parts)


# Windows of a zone


def is_zone(name: str) -> bool:
    """Say whether this is the name of an IANA zone, spelled as the database does."""
    return name in _zones()


@cache
def _zones() -> frozenset[str]:
    return frozenset(whenever.available_timezones())


def edges(start: int, end: int, window: Window, zone: str = "UTC", *, edges_max: int = 2_000_000) -> Int64s:
    """Cut [start, end) into buckets: `start`, each boundary of the window inside, and `end`, ascending.

    Days and longer begin at the first instant whose local clock has reached their midnight: the end of the gap where
    midnight is skipped, its first pass where it comes twice; a local day that never was has no bucket. Hours and
    quarters begin where the local clock shows a whole one, and wherever the zone's offset changes: no hour is longer
    than an hour, and each pass of a repeated one is its own bucket. So every boundary of a longer window is one of
    each shorter window too (weeks apart), and none depends on where the range begins.

    Raises EdgesExceeded rather than making more than `edges_max` edges.
    """
    if not INSTANT_MIN <= start < end <= INSTANT_MAX:
        raise ValueError("a range begins before it ends, within 0001-01-02T00:00:00Z to 9999-12-31T00:00:00Z")
    if window is Window.TOTAL:
        return np.array([start, end], np.int64)
    if window in _CLOCK:
        inner = _clock_edges(_spans(start, end, zone), _CLOCK[window], edges_max)
    else:
        # A fold before the range may have had the first pass of a midnight whose second pass is inside. Clocks were
        # never set back by more than a day, so two days before the range show it.
        inner = _calendar_edges(_spans(max(start - 2 * DAY, INSTANT_MIN), end, zone), window)
    cut = np.concatenate(([start], inner[(inner > start) & (inner < end)], [end]))
    _bound(len(cut), edges_max)
    return cut


def _bound(count: int, edges_max: int) -> None:
    if count > edges_max:
        raise EdgesExceeded(f"the range has {edges_max} buckets or more: ask for a longer window or a shorter range")


_CLOCK = {Window.MINUTE15: QUARTER, Window.HOUR: HOUR}

Spans = tuple[Int64s, Int64s, Int64s]
"""Stretches of constant offset, adjoining and ascending: where they begin, where they end, and their offsets."""


def _spans(start: int, end: int, zone: str) -> Spans:
    begins, offsets = _offsets(start, end, zone)
    first = np.array(begins, np.int64)
    return first, np.append(first[1:], end), np.array(offsets, np.int64)


def _offsets(start: int, end: int, zone: str) -> tuple[list[int], list[int]]:
    local = whenever.Instant.from_timestamp(start, unit="microsecond").to_tz(zone)
    begins, offsets = [start], [_offset_of(local)]
    while (after := local.next_transition()) is not None and (at := after.timestamp() * SECOND) < end:
        local = after
        if (offset := _offset_of(local)) != offsets[-1]:
            begins.append(at)
            offsets.append(offset)
    return begins, offsets


def _offset_of(local: whenever.ZonedDateTime) -> int:
    return local.offset.total("nanoseconds") // 1000


def _clock_edges(spans: Spans, unit: int, edges_max: int) -> Int64s:
    begins, ends, offsets = spans
    first = -(-(begins + offsets) // unit)
    counts = -(-(ends + offsets) // unit) - first
    total = int(counts.sum())
    _bound(total, edges_max)
    before = np.cumsum(counts) - counts
    ticks = np.repeat(first - before, counts) + np.arange(total, dtype=np.int64)
    whole = ticks * unit - np.repeat(offsets, counts)
    return distinct(np.insert(whole, np.searchsorted(whole, begins), begins))


def _calendar_edges(spans: Spans, window: Window) -> Int64s:
    begins, ends, offsets = spans
    number, midnight = _CALENDAR[window]
    local = np.array([(begins + offsets).min(), (ends + offsets).max()], np.int64)
    low, high = (int(n) for n in number(local))
    return distinct(_reached(midnight(np.arange(low, high + 1, dtype=np.int64)), spans))


def _reached(midnights: Int64s, spans: Spans) -> Int64s:
    """Give the first instants at which the local clock has reached each midnight, as far as the stretches go."""
    begins, ends, offsets = spans
    reached = np.maximum.accumulate(ends + offsets)
    midnights = midnights[midnights < reached[-1]]
    span = np.searchsorted(reached, midnights, side="right")
    starts: Int64s = np.maximum(begins[span], midnights - offsets[span])
    return starts


def distinct(ascending: Int64s) -> Int64s:
    """Return each of ascending numbers once; numpy's own way loads a part of it that nothing else here needs."""
    return ascending[np.diff(ascending, prepend=ascending[:1] - 1) > 0]


# Periods of a limit

ANCHOR_MAX = {Period.WEEK: 7, Period.MONTH: 31, Period.YEAR: 31}
"""The periods that may begin elsewhere than the calendar's: on a weekday, 1 = Monday, or on a day of the month.

A year is anchored in January. Where a month is too short for the day, its last one stands for it.
"""


# The limits of one answer are asked about at one instant, and few of them have periods of their own.
@lru_cache(maxsize=256)
def period_of(instant: int, period: Period, zone: str = "UTC", anchor: int | None = None) -> tuple[int, int]:
    """Return the period [start, end) that an instant is in; without an anchor it is the bucket that `edges` cuts.

    Days and longer begin at the first instant whose local clock has reached their midnight. The first and the last
    period end where instants do.
    """
    if not INSTANT_MIN <= instant < INSTANT_MAX:
        raise ValueError("an instant is within 0001-01-02T00:00:00Z to 9999-12-31T00:00:00Z")
    if period is Period.TOTAL:
        return INSTANT_MIN, INSTANT_MAX
    if period in _PERIOD_CLOCK:
        unit = _PERIOD_CLOCK[period]
        near = _within(instant - 2 * unit), _within(instant + 2 * unit)
        bounds = _clock_edges(_spans(*near, zone), unit, 100)
    else:
        # A period before, one behind, and what clocks were ever set back or forward by.
        reach = _PERIOD_DAYS_MAX[period] * DAY + 3 * DAY
        near = _within(instant - reach), _within(instant + reach)
        bounds = _reached(_midnights(*near, period, anchor or 1), _spans(*near, zone))
    before, after = bounds[bounds <= instant], bounds[bounds > instant]
    return int(before.max(initial=INSTANT_MIN)), int(after.min(initial=INSTANT_MAX))


_PERIOD_CLOCK = {Period.MINUTE: 60 * SECOND, Period.HOUR: HOUR}
_PERIOD_DAYS_MAX = {Period.DAY: 1, Period.WEEK: 7, Period.MONTH: 31, Period.YEAR: 366}


def _within(instant: int) -> int:
    return min(max(instant, INSTANT_MIN), INSTANT_MAX)


def _midnights(start: int, end: int, period: Period, anchor: int) -> Int64s:
    """Give the local midnights at which periods begin, from one before `start` to one behind `end`, as if in UTC."""
    number, midnight = _CALENDAR[Window(period)]
    first, last = (int(n) for n in number(np.array([start, end], np.int64)))
    begins = midnight(np.arange(first - 1, last + 3, dtype=np.int64))
    if period in (Period.DAY, Period.WEEK):
        return begins + (anchor - 1) * DAY
    days = (month_start(month(begins) + 1) - begins) // DAY
    anchored: Int64s = begins + (np.minimum(anchor, days) - 1) * DAY
    return anchored


# Buckets in UTC


def quarter(instants: Instants) -> Instants:
    """Number the quarter hours since 0001-01-01T00:00:00Z, of one instant or of many."""
    return (instants - _ORIGIN) // QUARTER


def quarter_start(quarters: Int64s) -> Int64s:
    """Give the first instants of quarter hours."""
    return quarters * QUARTER + _ORIGIN


def day(instants: Int64s) -> Int64s:
    """Number the days since 0001-01-01."""
    return (instants - _ORIGIN) // DAY


def day_start(days: Int64s) -> Int64s:
    """Give the first instants of days."""
    return days * DAY + _ORIGIN


def month(instants: Int64s) -> Int64s:
    """Number the months: 12 × year + month − 1."""
    return instants.view("datetime64[us]").astype("datetime64[M]").view(np.int64) + _EPOCH_MONTH


def month_of(instant: int) -> int:
    """Number the month of one instant."""
    day = date.fromordinal(instant // DAY + _EPOCH_ORDINAL)
    return day.year * 12 + day.month - 1


def month_start(months: Int64s) -> Int64s:
    """Give the first instants of months."""
    return (months - _EPOCH_MONTH).view("datetime64[M]").astype("datetime64[us]").view(np.int64)


def _week(instants: Int64s) -> Int64s:
    return (instants // DAY + 3) // 7  # 1970-01-01 was a Thursday


def _week_start(weeks: Int64s) -> Int64s:
    return (weeks * 7 - 3) * DAY


def _year(instants: Int64s) -> Int64s:
    return month(instants) // 12


def _year_start(years: Int64s) -> Int64s:
    return month_start(years * 12)


_CALENDAR: dict[Window, tuple[Callable[[Int64s], Int64s], Callable[[Int64s], Int64s]]] = {
    Window.DAY: (day, day_start),
    Window.WEEK: (_week, _week_start),
    Window.MONTH: (month, month_start),
    Window.YEAR: (_year, _year_start),
}
