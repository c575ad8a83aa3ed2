"""What a transaction used goes with it: nothing of ours waits in circles until the interpreter looks for garbage."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from tallystick.admission import Asked, hold_of
from tallystick.holding import Outcome
from tallystick.ledger.base import Ledger
from tallystick.model import Account, HoldMode, Limit, Property
from tallystick.windows import Period
from tests.ledger.build import LEDGERS, Desk, asynchronous, audio, tokens

TTL = 600_000_000


@pytest.fixture(params=LEDGERS)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    return Desk.of(request, tmp_path)


@contextmanager
def circles() -> Iterator[Counter[str]]:
    """Yield how many objects of ours only a search for garbage found in the end, by class."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("tallystick"))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def once(desk: Desk, ledger: Ledger, id: str) -> None:
    """Reserve and settle, ask for more than there is, and send an event that nobody set anything aside for."""
    asked = Asked("acme", id, "audio", {}, Decimal(1), 1, TTL, HoldMode.NORMAL)
    hold = hold_of(asked, ledger.catalog, ledger.now, text_length_max=256)
    reserved = await ledger.reserve(hold, catalog_version=ledger.catalog.version)
    settled = await ledger.settle("acme", id, desk.batch(ledger, audio(id, 1)))
    assert (reserved.outcome, settled.outcome) == (Outcome.CREATED, Outcome.DONE)
    await ledger.commit(desk.batch(ledger, tokens(f"free-{id}", 5, 7)))


@asynchronous
async def test_a_transaction_leaves_nothing_in_circles(desk: Desk) -> None:
    """Holds, settlements and events, each in a transaction of its own."""
    async with desk.open() as ledger:
        await ledger.put_account(Account("acme", 0), actor="test")
        limit = Limit("speech", "acme", "audio", Property.QUANTITY, 6, Period.MONTH, 10**12, thresholds=(50,))
        await ledger.put_limit(limit, actor="test")
        await once(desk, ledger, "first")
        with circles() as found:
            for number in range(5):
                await once(desk, ledger, f"job-{number}")
        assert not found
