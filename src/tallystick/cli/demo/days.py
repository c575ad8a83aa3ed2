"""The days of which the demo tells: two months that end now, all of them in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

DAYS = 60
"""How many days there is usage of: a month to look at, and another one to compare it with."""
SHOWN_DAYS = 30
LATE_DAYS = 2
"""How far back before the day that is told the events reach that are reported late."""
BILLED_DAYS = 20
"""How long ago the present period of every limit has begun; it ends in a week at the earliest, whatever the month."""
ONE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Days:
    """The days up to an instant; each is named by its midnight."""

    now: datetime

    @property
    def today(self) -> datetime:
        """The day that is not over."""
        return self.now.replace(hour=0, minute=0, second=0, microsecond=0)

    @property
    def told(self) -> datetime:
        """The day that is told event by event: the last one that is over, so that Speechmatics' report has it."""
        return self.today - ONE

    @property
    def late(self) -> datetime:
        """The first day of which something is reported late."""
        return self.told - LATE_DAYS * ONE

    @property
    def first(self) -> datetime:
        """The first day with usage."""
        return self.today - (DAYS - 1) * ONE

    @property
    def shown(self) -> datetime:
        """The first day that the dashboard is opened with."""
        return self.today - (SHOWN_DAYS - 1) * ONE

    @property
    def billed(self) -> datetime:
        """The day on which the present period of every limit has begun; its number is the limit's anchor."""
        return self.today - BILLED_DAYS * ONE

    def quiet(self) -> list[datetime]:
        """Return the days beside the one that is told."""
        days = [self.first + number * ONE for number in range(DAYS)]
        return [day for day in days if day != self.told]


def until(now: int) -> Days:
    """Return the days up to an instant in microseconds since 1970."""
    return Days(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now))


def grown(days: Days, day: datetime) -> float:
    """Return how much of today's work was done on a day: customers grow, here to twice as much in two months."""
    return 1 - (days.today - day) / (2 * DAYS * ONE)
