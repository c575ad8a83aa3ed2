"""What one process works with: settings, clock and ledger, opened together and closed together."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any

from tallystick.body_waits import BodyWaits
from tallystick.clock import Clock, system_clock
from tallystick.ledger.base import Ledger
from tallystick.ledger.open import open_ledger
from tallystick.model import Catalog
from tallystick.receipts import LastReceipts
from tallystick.settings import Settings
from tallystick.telemetry import Counts


@dataclass(slots=True)
class App:
    """Holds no behaviour.

    `counts` are what /metrics shows of requests and events, `receipts` the last of events that were not accepted, of
    this process and as long as it lives. `session_secret` signs the sessions of this process, which
    end with it; `page_sessions` are those of browsers, by digest. `calls` are the requests being answered,
    `body_bytes` the bodies they hold in memory, `waits` those whose bodies are still to come.
    """

    settings: Settings
    clock: Clock
    ledger: Ledger
    draining: bool = False
    counts: Counts = field(default_factory=Counts)
    session_secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    page_sessions: dict[str, Any] = field(default_factory=dict, repr=False)
    calls: int = 0
    body_bytes: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    waits: BodyWaits = field(init=False)
    receipts: LastReceipts = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.waits = BodyWaits(settings.body_wait_s_max)
        self.receipts = LastReceipts(settings.receipts_max, settings.receipts_bytes_max, place=self.clock())

    @property
    def catalog(self) -> Catalog:
        """The catalog in force."""
        return self.ledger.catalog

    async def close(self) -> None:
        """Finish what was taken and let go of the data."""
        await self.ledger.close()


async def open_app(settings: Settings, clock: Clock = system_clock) -> App:
    """Open the ledger that the settings name; raises LedgerError where it cannot be opened or trusted."""
    ledger = await open_ledger(settings.url or settings.data, settings, clock)
    return App(settings, clock, ledger)
