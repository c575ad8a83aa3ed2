"""The only place that reads the time."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns now: microseconds since 1970-01-01T00:00:00Z."""


def system_clock() -> int:
    """Return the machine's time in microseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // 1000
