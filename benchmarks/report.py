"""The table that a run prints: each number, the floor it has to clear, and whether it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One number of one slice; `met` is None where nothing is demanded."""

    part: str
    what: str
    value: str
    floor: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """Return the floor's verdict in words."""
        return {None: "", True: "met", False: "NOT MET"}[self.met]


def rate(part: str, what: str, events_per_s: float) -> Line:
    """Return a rate without a floor."""
    return Line(part, what, f"{events_per_s:,.0f} events/s")


def ratio(part: str, what: str, value: float, floor: float | None = None) -> Line:
    """Return a ratio; with a floor it has to be at least that."""
    if floor is None:
        return Line(part, what, f"{value:.2f}")
    return Line(part, what, f"{value:.2f}", f">= {floor:g}", value >= floor)


def ceiling(part: str, what: str, value: float, unit: str, most: float | None = None) -> Line:
    """Return a number that may be at most `most`."""
    if most is None:
        return Line(part, what, f"{value:,.1f} {unit}")
    return Line(part, what, f"{value:,.1f} {unit}", f"<= {most:g} {unit}", value <= most)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return percentile(values, 0.5)


def text(lines: Iterable[Line]) -> str:
    """Lay the lines out in columns."""
    cells = [("", "what", "measured", "floor", "")]
    cells += [(line.part, line.what, line.value, line.floor, line.verdict) for line in lines]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    rows = [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in cells
    ]
    return "\n".join([rows[0], "-" * max(map(len, rows)), *rows[1:]])
