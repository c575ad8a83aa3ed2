"""What the rest of a running period would come to if it went on as it has gone so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tallystick.dashboard import figures
from tallystick.dashboard.figures import EXACT, ROUNDED, ZERO

BASIS_MIN = 2
"""From fewer whole buckets than this nothing is projected."""
_PLACES = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Projection:
    """What is still to come per bucket, nothing where all is known; `basis` is from how many whole buckets.

    `running` is the same for running totals: on top of what is known, and of it alone where nothing is.
    """

    expected: Sequence[Decimal]
    running: Sequence[Decimal]
    basis: int


def project(sums: Sequence[Decimal], edges: Sequence[int], now: int) -> Projection | None:
    """Project the mean of the whole buckets behind us onto what is left; None where nothing or too little is known."""
    current = next((place for place in range(len(sums)) if edges[place] <= now < edges[place + 1]), None)
    if current is None or current < BASIS_MIN:
        return None
    known = figures.added(sums)
    mean = ROUNDED.quantize(ROUNDED.divide(figures.added(sums[:current]), Decimal(current)), _PLACES)
    if not mean:
        return None
    today = max(EXACT.subtract(mean, sums[current]), ZERO)
    expected = [ZERO] * current + [today] + [mean] * (len(sums) - current - 1)
    running, total = [ZERO] * current + [today], EXACT.add(known, today)
    for _ in range(current + 1, len(sums)):
        total = EXACT.add(total, mean)
        running.append(total)
    return Projection(expected, running, current)
