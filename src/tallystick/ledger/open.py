"""Opening a ledger by where it is kept."""

from __future__ import annotations

from pathlib import Path

from tallystick.catalog import builtin
from tallystick.clock import Clock
from tallystick.ledger.base import Ledger
from tallystick.ledger.memory import MemoryLedger
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.settings import Settings


async def open_ledger(place: str | Path, settings: Settings, clock: Clock) -> Ledger:
    """Open the ledger at `place`: a folder for the embedded one, or "memory:" for one that ends with the process.

    Raises LedgerError with what to do when it cannot be opened.
    """
    if place == "memory:":
        return MemoryLedger(settings, clock, builtin())
    return await open_sqlite(Path(place), settings, clock)
