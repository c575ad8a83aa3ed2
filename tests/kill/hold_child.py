"""A process that holds and settles until it is killed: `python -m tests.kill.hold_child FOLDER ROUND`.

It begins with a line on stdin, and says on stdout what it is about to ask and what it was told, each in one write.
"""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from pathlib import Path

from tallystick.admission import Asked, hold_of
from tallystick.clock import system_clock
from tallystick.holding import Outcome
from tallystick.ledger.base import Ledger
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.model import Account, HoldMode, Limit, Property
from tallystick.settings import Settings
from tallystick.windows import Period
from tests.faults.hurry import hurry
from tests.ledger.build import batch_of
from tests.ledger.define import meter, work
from tests.spoken import say

CAPACITY = 1200
CLIENTS = 8
HOURS = 3_600_000_000


async def begun(ledger: Ledger) -> None:
    """Make the account, its meter and its limit; nothing changes where they are there."""
    await ledger.put_account(Account("acme", 0), actor="test")
    await ledger.put_meter(meter(), actor="test")
    limit = Limit("all", "acme", "work", Property.QUANTITY, 0, Period.TOTAL, CAPACITY)
    await ledger.put_limit(limit, actor="test")


def asked(ledger: Ledger, id: str) -> Asked:
    return Asked("acme", id, "work", {}, Decimal(1), 1, HOURS, HoldMode.NORMAL)


async def reserve(ledger: Ledger, id: str) -> Outcome:
    """Ask for one unit."""
    catalog = ledger.catalog
    hold = hold_of(asked(ledger, id), catalog, ledger.now, text_length_max=256)
    return (await ledger.reserve(hold, catalog_version=catalog.version)).outcome


async def settle(ledger: Ledger, id: str) -> Outcome:
    """Use the unit of a hold."""
    batch = batch_of([work(f"event-{id}", 1)], catalog=ledger.catalog, now=system_clock())
    return (await ledger.settle("acme", id, batch)).outcome


async def hold_until_killed(folder: Path, number: int) -> None:
    """Hold and settle, half of what was held being left open, until nothing is left or somebody kills it."""
    ledger = await open_sqlite(folder, Settings(), system_clock)
    await begun(ledger)

    async def client(which: int) -> None:
        for turn in range(CAPACITY):
            id = f"{number}-{which}-{turn}"
            say("reserving", id)
            outcome = await reserve(ledger, id)
            say(outcome, id)
            if outcome is Outcome.REFUSED:
                return
            if turn % 2:
                say("settling", id)
                await settle(ledger, id)
                say("settled", id)

    await asyncio.gather(*(client(which) for which in range(CLIENTS)))
    await ledger.close()


if __name__ == "__main__":
    hurry()
    sys.stdin.readline()
    asyncio.run(hold_until_killed(Path(sys.argv[1]), int(sys.argv[2])))
