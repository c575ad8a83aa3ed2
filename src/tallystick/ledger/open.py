"""Opening a ledger by where it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tallystick.catalog import builtin
from tallystick.clock import Clock, system_clock
from tallystick.errors import LedgerError
from tallystick.ledger.base import Ledger
from tallystick.ledger.memory import MemoryLedger
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.settings import POSTGRES, Settings

if TYPE_CHECKING:
    from tallystick.ledger.postgres.migrating import Migrated

# The driver of PostgreSQL is an extra: what uses it is imported where it is needed.


async def open_ledger(place: str | Path, settings: Settings, clock: Clock) -> Ledger:
    """Open the ledger at `place`: a folder for the embedded one, `postgresql://…` for the distributed one, or "memory:"
    for one that ends with the process.

    Raises LedgerError with what to do when it cannot be opened.
    """
    if place == "memory:":
        return MemoryLedger(settings, clock, builtin())
    if is_postgres(str(place)):
        return await _open_postgres(str(place), settings, clock)
    return await open_sqlite(Path(place), settings, clock)


async def _open_postgres(url: str, settings: Settings, clock: Clock) -> Ledger:
    try:
        from tallystick.ledger.postgres.ledger import open_postgres
    except ImportError as error:
        raise lacking(error) from error
    return await open_postgres(url, settings, clock)


def is_postgres(place: str) -> bool:
    """Say whether a ledger is kept in PostgreSQL."""
    return place.startswith(POSTGRES)


def migrate_ledger(url: str, *, citus: bool = False, clock: Clock = system_clock) -> Migrated:
    """Bring a database to the present format, and with `citus` spread it over nodes; safe to repeat.

    Raises LedgerError with what to do when that cannot be.
    """
    try:
        from tallystick.ledger.postgres.migrating import migrate
    except ImportError as error:
        raise lacking(error) from error
    return migrate(url, clock(), citus=citus)


def lacking(error: ImportError) -> LedgerError:
    """Say what to install where the driver of PostgreSQL is not there."""
    return LedgerError(
        f"A ledger in PostgreSQL needs the extra postgres ({error}): pip install 'tallystick[postgres]'."
    )
