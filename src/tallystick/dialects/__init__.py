"""The dialects: a report each, as two pure functions; they know nothing of each other. A new one is one name here."""

from __future__ import annotations

from importlib import import_module

from tallystick.dialect import Dialect

NAMES = (
    "hiya",
    "phonexia",
    "speechmatics",
    "vblaze",
    "visii",
)
"""The modules of this folder that have a DIALECT. `native` answers with its own handlers, and has none."""

DIALECTS: tuple[Dialect, ...] = tuple(import_module(f"{__name__}.{name}").DIALECT for name in NAMES)
