"""Own meters beside the built-in `audio`, so that every event of the rich traffic feeds three."""

from __future__ import annotations

from dataclasses import replace

from tallystick.catalog import builtin
from tallystick.model import Meter, Rounding

AUDIO = builtin().meters["audio"]
LABELS = (*AUDIO.labels, ("team", "$.data.team"))
BILLED_S = 15
"""Seconds that are billed once they have begun."""
RICH: tuple[Meter, ...] = (
    replace(AUDIO, name="jobs", labels=LABELS, quantity=None, unit="{job}", scale=0, rounding=None),
    replace(AUDIO, name="billed", labels=LABELS, scale=0, rounding=Rounding(to=str(BILLED_S), mode="up")),
)
