"""Stacked bars as whole numbers from 0 to HEIGHT, beside the exact texts that they stand for.

A script draws the numbers and shows the texts; it never makes one of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any

from tallystick.dashboard import figures
from tallystick.dashboard.figures import EXACT, ZERO

HEIGHT = 100_000
SERIES_MAX = 8
TICKS_MAX = 5
_FLOOR = Context(prec=1000, rounding=ROUND_FLOOR)
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
"""Steps of an axis of time, up to half a day; then hours go by tens."""


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of the bars: an amount per bucket, ascending by time. `place` numbers the colours, -1 is "other"."""

    name: str
    place: int
    amounts: Sequence[Decimal]

    @property
    def total(self) -> Decimal:
        """All of it."""
        return figures.added(self.amounts)


@dataclass(frozen=True, slots=True)
class Line:
    """A level that is drawn across, such as a limit."""

    name: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Bars:
    """What is drawn. `expected` is what is still to come in each bucket, where that is projected."""

    buckets: Sequence[str]
    names: Sequence[str]
    series: Sequence[Series]
    unit: str
    expected: Sequence[Decimal] | None = None
    lines: Sequence[Line] = ()
    today: int | None = None


def stacked(
    groups: Mapping[str | None, Mapping[int, Decimal]], buckets: int, name_of: Mapping[str | None, str]
) -> list[Series]:
    """Make series of amounts by group and bucket: the largest SERIES_MAX groups, and all others together."""
    totals = {group: figures.added(amounts.values()) for group, amounts in groups.items()}
    ordered = sorted(groups, key=lambda group: (-totals[group], group is not None, group or ""))
    series = [
        Series(name_of[group], place, [groups[group].get(bucket, ZERO) for bucket in range(buckets)])
        for place, group in enumerate(ordered[:SERIES_MAX])
    ]
    if rest := ordered[SERIES_MAX:]:
        amounts = [figures.added(groups[group].get(bucket, ZERO) for group in rest) for bucket in range(buckets)]
        series.append(Series(f"{len(rest)} more together", -1, amounts))
    return series


def running(series: Sequence[Series]) -> list[Series]:
    """Return the same series, each bucket with all before it."""
    return [Series(each.name, each.place, list(_sums(each.amounts))) for each in series]


def _sums(amounts: Sequence[Decimal]) -> Iterator[Decimal]:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
        yield total


def drawing(bars: Bars) -> dict[str, Any]:
    """Return what the script is given: whole numbers for places, texts for people."""
    sums = [figures.added(amounts) for amounts in zip(*(each.amounts for each in bars.series), strict=True)]
    sums = sums or [ZERO] * len(bars.buckets)
    expected = bars.expected or [ZERO] * len(bars.buckets)
    tops = [EXACT.add(*pair) for pair in zip(sums, expected, strict=True)]
    step, count = _ticks(max([*tops, *(line.amount for line in bars.lines), ZERO]), bars.unit)
    top = EXACT.multiply(step, Decimal(count))

    def texts(amounts: Sequence[Decimal]) -> list[str]:
        return [f"{figures.grouped(figures.plain(amount))} {bars.unit}" if amount else "" for amount in amounts]

    def places(amounts: Sequence[Decimal]) -> list[int]:
        return [_place(amount, top) for amount in amounts]

    return {
        "height": HEIGHT,
        "buckets": list(bars.buckets),
        "names": list(bars.names),
        "sums": texts(sums),
        "series": [
            {"name": each.name, "place": each.place, "heights": places(each.amounts), "texts": texts(each.amounts)}
            for each in bars.series
        ],
        "expected": None if bars.expected is None else {"heights": places(expected), "texts": _about(bars)},
        "ticks": [_tick(EXACT.multiply(step, Decimal(at)), bars.unit) for at in range(count + 1)],
        "lines": [{"name": line.name, "height": _place(line.amount, top)} for line in bars.lines],
        "today": bars.today,
    }


def _about(bars: Bars) -> list[str]:
    return [f"about {_short(amount)} {bars.unit}" if amount else "" for amount in bars.expected or ()]


def _place(amount: Decimal, top: Decimal) -> int:
    return int(_FLOOR.divide(EXACT.multiply(max(amount, ZERO), Decimal(HEIGHT)), top))


def _short(amount: Decimal) -> str:
    return figures.grouped(figures.rounded(amount, 0 if amount >= 100 else 2))


def _ticks(most: Decimal, unit: str) -> tuple[Decimal, int]:
    """Return the step of an axis and how many of them reach `most`; there is always at least one."""
    step = next(step for step in _steps(most, unit) if EXACT.multiply(step, Decimal(TICKS_MAX)) >= most)
    count = int(_FLOOR.divide(most, step))
    return step, max(1, count + (EXACT.multiply(step, Decimal(count)) < most))


def _steps(most: Decimal, unit: str) -> Iterator[Decimal]:
    if unit == "s" and most >= 5:
        yield from map(Decimal, _SECONDS)
        hour = Decimal(3600)
        yield from (EXACT.multiply(hour, step) for step in _tens(1))
    yield from _tens(min(most.adjusted() - 2, 0) if most else 0)


def _tens(power: int) -> Iterator[Decimal]:
    while True:
        for digit in (1, 2, 5):
            yield Decimal(digit).scaleb(power)
        power += 1


def _tick(amount: Decimal, unit: str) -> str:
    if unit == "s" and amount:
        for length, name in ((3600, "h"), (60, "min")):
            if not amount % length:
                return f"{figures.grouped(figures.plain(amount / length))} {name}"
        return f"{figures.plain(amount)} s"
    for size, name in ((10**12, " T"), (10**9, " G"), (10**6, " M")):
        if amount >= size:
            return f"{figures.grouped(figures.plain(EXACT.divide(amount, Decimal(size))))}{name}"
    return figures.grouped(figures.plain(amount))
