"""The stretch of days that a page shows: presets, own ranges, earlier and later, and its buckets with their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from tallystick import windows
from tallystick.windows import Window

PRESETS: Mapping[str, str] = {
    "today": "Today",
    "7-days": "7 days",
    "30-days": "30 days",
    "this-month": "This month",
    "last-month": "Last month",
    "this-year": "This year",
}
DEFAULT = "this-month"
BUCKETS_MAX = 750
DAYS = (date(1, 1, 3), date(9999, 12, 29))
"""The first and the last day that a page shows."""
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
LONGEST: Sequence[tuple[int, Window]] = ((2, Window.HOUR), (100, Window.DAY), (1200, Window.MONTH))
"""Up to how many days which bucket shows best."""


class DaysInvalid(ValueError):
    """The days that were asked for are none; `name` is the field."""

    def __init__(self, name: str, detail: str) -> None:
        self.name = name
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Days:
    """Whole days of a zone, first to last, both of them in it."""

    first: date
    last: date
    zone: str

    @property
    def start(self) -> int:
        """The first instant."""
        return _midnight(self.first, self.zone)

    @property
    def end(self) -> int:
        """The instant behind the last."""
        return _midnight(self.last + timedelta(days=1), self.zone)

    @property
    def count(self) -> int:
        """How many days."""
        return (self.last - self.first).days + 1

    def moved(self, steps: int) -> Days:
        """Return as long a stretch before (-1) or behind (1); whole months move by months."""
        behind = self.last + timedelta(days=1)
        if self.first.day == behind.day == 1:
            months = (behind.year - self.first.year) * 12 + behind.month - self.first.month
            first, behind = _months_on(self.first, steps * months), _months_on(behind, steps * months)
            return Days(first, behind - timedelta(days=1), self.zone)
        shift = timedelta(days=steps * self.count)
        return Days(self.first + shift, self.last + shift, self.zone)

    def can_move(self, steps: int) -> bool:
        """Say whether there is a calendar for it."""
        try:
            moved = self.moved(steps)
        except (OverflowError, ValueError):
            return False
        return DAYS[0] <= moved.first and moved.last <= DAYS[1]

    def window(self) -> Window:
        """Return the bucket that shows it best."""
        return next((window for days, window in LONGEST if self.count <= days), Window.YEAR)

    def name(self) -> str:
        """Write it the short way: a day, a month, a year, or from when to when."""
        if self.first == self.last:
            return day_name(self.first)
        behind = self.last + timedelta(days=1)
        if self.first.day == behind.day == 1:
            if behind == _months_on(self.first, 1):
                return f"{MONTHS[self.first.month - 1]} {self.first.year}"
            if self.first.month == 1 and behind == _months_on(self.first, 12):
                return str(self.first.year)
        return f"{day_name(self.first)} to {day_name(self.last)}"


def of_preset(preset: str, now: int, zone: str) -> Days:
    """Return the days that a preset stands for now."""
    today = date.fromisoformat(windows.format_local(now, zone)[:10])
    month = today.replace(day=1)
    match preset:
        case "today":
            return Days(today, today, zone)
        case "7-days":
            return Days(today - timedelta(days=6), today, zone)
        case "30-days":
            return Days(today - timedelta(days=29), today, zone)
        case "last-month":
            return Days(_months_on(month, -1), month - timedelta(days=1), zone)
        case "this-year":
            return Days(date(today.year, 1, 1), date(today.year, 12, 31), zone)
        case _:
            return Days(month, _months_on(month, 1) - timedelta(days=1), zone)


def of_fields(first: str, last: str, zone: str) -> Days:
    """Read both ends as a form sends them; raises DaysInvalid, which names the field."""
    days = Days(_day("from", first), _day("through", last), zone)
    if days.last < days.first:
        raise DaysInvalid("through", "The last day is before the first.")
    return days


def bucket_names(edges: Sequence[int], window: Window, zone: str) -> list[str]:
    """Name each bucket by where it begins, as the clocks of the zone show it; none of them twice."""
    shown = [windows.format_local(edge, zone) for edge in edges[:-1]]
    match window:
        case Window.MINUTE15 | Window.HOUR:
            names = [f"{text[:10]} {text[11:16]}" for text in shown]
        case Window.MONTH:
            names = [text[:7] for text in shown]
        case Window.YEAR:
            names = [text[:4] for text in shown]
        case _:
            names = [text[:10] for text in shown]
    twice = len(set(names)) < len(names)
    return [f"{name} {text[19:]}" if twice else name for name, text in zip(names, shown, strict=True)]


def axis_name(name: str, window: Window, *, one_day: bool) -> str:
    """Shorten the name of a bucket for below a bar."""
    match window:
        case Window.MINUTE15 | Window.HOUR:
            return name[11:16] if one_day else f"{int(name[8:10])} {MONTHS[int(name[5:7]) - 1][:3]} {name[11:16]}"
        case Window.MONTH:
            return f"{MONTHS[int(name[5:7]) - 1][:3]} {name[:4]}"
        case Window.YEAR:
            return name
        case _:
            return f"{int(name[8:10])} {MONTHS[int(name[5:7]) - 1][:3]}"


def day_name(day: date) -> str:
    """Write a day as people do."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _day(name: str, text: str) -> date:
    try:
        day = windows.parse_day(text)
    except ValueError:
        raise DaysInvalid(name, "Write a day as YYYY-MM-DD.") from None
    if not DAYS[0] <= (found := date.fromisoformat(windows.format_day(day))) <= DAYS[1]:
        raise DaysInvalid(name, f"Write a day from {DAYS[0]} to {DAYS[1]}.")
    return found


def _months_on(first: date, months: int) -> date:
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    return date(year, month + 1, 1)


def _midnight(day: date, zone: str) -> int:
    return windows.local_instant(f"{day.isoformat()}T00:00:00", zone)
