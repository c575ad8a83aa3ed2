"""A ledger that is copied to a place of the other kind now and then, beside the oracle, which stays where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tallystick.ledger import copying
from tallystick.ledger.copying import copy
from tallystick.ledger.open import open_ledger
from tallystick.ledger.postgres import copy_source
from tallystick.ledger.postgres.ledger import PostgresLedger
from tests.ledger.test_model import Housekeeping, Twins
from tests.ledger.test_model_postgres import Chores
from tests.postgres import Databases

EXAMPLES = int(os.environ.get("TALLYSTICK_TEST_EXAMPLES", "8"))


class Movers(Twins):
    """Drives a ledger that goes on somewhere else again and again."""

    databases: Databases

    def __init__(self) -> None:
        super().__init__()
        self._at = str(self._place)
        self._urls: list[str] = []
        self._folders = 0

    def _open(self) -> None:
        self._ledger = self._run(open_ledger(self._at, self._settings, self._clock))
        is_postgres = isinstance(self._ledger, PostgresLedger)
        self._housekeeping = Chores(self._ledger) if is_postgres else Housekeeping(self._ledger)  # type: ignore[assignment, arg-type]

    def _crash(self) -> None:
        """Go on with another process."""
        self._close()
        self._open()

    @precondition(lambda self: self._sent)
    @rule(is_database=st.booleans())
    def move(self, is_database: bool) -> None:
        """Copy everything, and go on with the copy."""
        self._close()
        if is_database:
            place = self.databases.take()
            self._urls.append(place)
        else:
            self._folders += 1
            place = str(Path(self._folder.name, f"moved-{self._folders}"))
        made = copy(self._at, place, self._settings, lambda what, done, all: None, self._clock)
        assert made.faults == []
        self._at = place
        self._open()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            for url in self._urls:
                self.databases.give_back(url)


@pytest.mark.slow
def test_a_copy_says_what_the_ledger_said(postgres_server: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happened before, every reply of a copy, and of copies of copies, is that of the oracle."""
    monkeypatch.setattr(copying, "GROUP_STEPS", 3)
    monkeypatch.setattr(copy_source, "RECOUNT_EVENTS", 4)
    monkeypatch.setattr(copy_source, "ACTIVE_S", 0)
    monkeypatch.setattr(Movers, "databases", postgres_server, raising=False)
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Movers, settings=settings(max_examples=EXAMPLES, stateful_step_count=30, suppress_health_check=checks)
    )
