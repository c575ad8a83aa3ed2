"""The ledger in PostgreSQL and the oracle, asked the same at random."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tallystick.ledger.base import KeptEvent, Ledger
from tallystick.ledger.open import open_ledger
from tallystick.ledger.postgres import folding, listing, recounting
from tallystick.ledger.postgres.ledger import PostgresLedger
from tests.ledger.test_model import Twins
from tests.postgres import Databases, end_connections, split

EXAMPLES = int(os.environ.get("TALLYSTICK_TEST_EXAMPLES", "12"))

SMALL = (
    (folding, "ENTRIES_AT_ONCE", 2),
    (listing, "ENTRIES_READ_TOGETHER", 2),
    (listing, "EVENTS_READ_TOGETHER", 2),
    (recounting, "SLICE_EVENTS", 3),
)
"""Bounds so low that a few events make many slices."""


class Chores:
    """What processes do behind the logs, done at set moments."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger
        ledger._writing._folder.stop()
        ledger._writing._folder.join()

    def fold(self, times: int) -> None:
        """Fold so many accounts, each as far as one transaction goes."""
        for account in [*self._ledger._writing._behind.run(lambda db: folding.lagging(db, 1))][:times]:
            self._ledger._writing._behind.run(partial(folding.fold, cache=self._ledger._cache, account=account))

    def keep_identities(self, times: int) -> None:
        """There is nothing to do for them."""

    def checkpoint(self) -> None:
        """The server's business."""

    def close(self) -> None:
        """Nothing is held."""


class PostgresTwins(Twins):
    """Drives a ledger on a database of its own."""

    databases: Databases
    is_split = False

    def _open(self) -> None:
        if not hasattr(self, "_url"):
            self._url = self.databases.take_with_tables()
            if self.is_split:
                split(self._url)
        self._ledger = self._run(open_ledger(self._url, self._settings, self._clock))
        assert isinstance(self._ledger, PostgresLedger)
        self._housekeeping = Chores(self._ledger)  # type: ignore[assignment]  # it has the same duties

    def _crash(self) -> None:
        """End every connection, and go on with another process."""
        end_connections(self._url)
        self._close()
        self._open()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "_url"):
                self.databases.give_back(self._url)


class Unordered(Twins):
    """Does not look at sequences: over Citus the accounts of a batch have no order among them."""

    def _same(self, ask: Callable[[Ledger], Awaitable[Any]]) -> None:
        async def unordered(ledger: Ledger) -> Any:
            reply = await ask(ledger)
            return replace(reply, sequence=0) if isinstance(reply, KeptEvent) else reply

        super()._same(unordered)


class SplitTwins(Unordered, PostgresTwins):
    """Drives one whose commits are split by account, as over Citus."""

    is_split = True


@pytest.mark.slow
@pytest.mark.parametrize("twins", [PostgresTwins, SplitTwins])
def test_the_ledger_in_postgres_says_what_the_oracle_says(
    postgres_server: Databases, monkeypatch: pytest.MonkeyPatch, twins: type[PostgresTwins]
) -> None:
    """Whatever events, questions, restarts and refusals come, in any order, every reply of the two is equal."""
    for module, name, bound in SMALL:
        monkeypatch.setattr(module, name, bound)
    monkeypatch.setattr(PostgresTwins, "databases", postgres_server, raising=False)
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        twins, settings=settings(max_examples=EXAMPLES, stateful_step_count=30, suppress_health_check=checks)
    )
