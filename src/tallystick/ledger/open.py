"""Opening a ledger by where it is kept."""

from __future__ import annotations

from pathlib import Path

from tallystick.catalog import builtin
from tallystick.clock import Clock
from tallystick.errors import LedgerError
from tallystick.ledger.base import Ledger
from tallystick.ledger.memory import MemoryLedger
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.settings import Settings

SCHEMES = ("postgresql://", "postgres://")


async def open_ledger(place: str | Path, settings: Settings, clock: Clock) -> Ledger:
    """Open the ledger at `place`: a folder for the embedded one, `postgresql://…` for the distributed one, or "memory:"
    for one that ends with the process.

    Raises LedgerError with what to do when it cannot be opened.
    """
    if place == "memory:":
        return MemoryLedger(settings, clock, builtin())
    if str(place).startswith(SCHEMES):
        return await _open_postgres(str(place), settings, clock)
    return await open_sqlite(Path(place), settings, clock)


async def _open_postgres(url: str, settings: Settings, clock: Clock) -> Ledger:
    try:
        # Its driver is an extra.
        from tallystick.ledger.postgres.ledger import open_postgres
    except ImportError as error:
        raise LedgerError(
            f"A ledger in PostgreSQL needs the extra postgres ({error}): pip install 'tallystick[postgres]'."
        ) from error
    return await open_postgres(url, settings, clock)
