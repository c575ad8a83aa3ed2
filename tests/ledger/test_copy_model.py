"""A ledger that is copied to a place of the other kind now and then, beside the oracle, which stays where it is."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tallystick.ledger import copying
from tallystick.ledger.copying import copy
from tallystick.ledger.open import open_ledger
from tallystick.ledger.postgres import copy_source
from tallystick.ledger.postgres.ledger import PostgresLedger
from tests.ledger.build import Desk
from tests.ledger.test_admission_model import lines, told
from tests.ledger.test_model import Housekeeping, Twins
from tests.ledger.test_model_postgres import Chores, Unordered
from tests.postgres import Databases, split

EXAMPLES = int(os.environ.get("TALLYSTICK_TEST_EXAMPLES", "8"))
SEEDS = int(os.environ.get("TALLYSTICK_TEST_SCRIPTS", "2"))


def quiet(what: str, done: int, all: int) -> None:
    """Let nobody hear how far a copy is."""


class Movers(Twins):
    """Drives a ledger that goes on somewhere else again and again."""

    databases: Databases
    is_split = False

    def __init__(self) -> None:
        super().__init__()
        self._at = str(self._place)
        self._urls: list[str] = []
        self._folders = 0

    def _open(self) -> None:
        self._ledger = self._run(open_ledger(self._at, self._settings, self._clock))
        chores: Any = Chores(self._ledger) if isinstance(self._ledger, PostgresLedger) else Housekeeping(self._ledger)
        self._housekeeping = chores

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
            if self.is_split:
                split(place)
        else:
            self._folders += 1
            place = str(Path(self._folder.name, f"moved-{self._folders}"))
        made = copy(self._at, place, self._settings, quiet, self._clock)
        assert made.faults == []
        self._at = place
        self._open()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            for url in self._urls:
                self.databases.give_back(url)


class SplitMovers(Unordered, Movers):
    """Drives one whose databases are spread over nodes."""

    is_split = True


class Moving:
    """Brings the ledger of a desk to a place of the other kind; with `is_split` to a database spread over nodes."""

    def __init__(self, folder: Path, databases: Databases, *, is_split: bool) -> None:
        self._folder = folder
        self._databases = databases
        self._is_split = is_split
        self._urls: list[str] = []
        self._moves = 0

    def __call__(self, desk: Desk) -> None:
        self._moves += 1
        if isinstance(desk.url, Path):
            self._urls.append(self._databases.take())
            place: str | Path = self._urls[-1]
            if self._is_split:
                split(self._urls[-1])
        else:
            place = self._folder / str(self._moves)
        made = copy(str(desk.url), str(place), desk.settings, quiet, desk.clock)
        assert made.faults == []
        desk.url, desk.is_split = place, self._is_split and isinstance(place, str)

    def end(self) -> None:
        """Give back what was taken."""
        for url in self._urls:
            self._databases.give_back(url)


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_holds_and_limits_go_on_in_a_copy(
    seed: int, is_split: bool, tmp_path: Path, postgres_server: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holds, events, limits and time in any order, with a copy twice on the way: nobody is told anything else."""
    monkeypatch.setattr(copying, "GROUP_STEPS", 3)
    monkeypatch.setattr(copy_source, "ACTIVE_S", 0)
    script = list(lines(random.Random(1000 + seed)))
    memory = asyncio.run(told(Desk("memory:"), script, reopens=False))
    moving = Moving(tmp_path, postgres_server, is_split=is_split)
    try:
        moved = asyncio.run(told(Desk(tmp_path / "0"), script, reopens=True, between=moving))
    finally:
        moving.end()
    assert moved == memory


@pytest.mark.slow
@pytest.mark.parametrize("movers", [Movers, SplitMovers])
def test_a_copy_says_what_the_ledger_said(
    movers: type[Movers], postgres_server: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happened before, every reply of a copy, and of copies of copies, is that of the oracle."""
    monkeypatch.setattr(copying, "GROUP_STEPS", 3)
    monkeypatch.setattr(copy_source, "RECOUNT_EVENTS", 4)
    monkeypatch.setattr(copy_source, "ACTIVE_S", 0)
    monkeypatch.setattr(Movers, "databases", postgres_server, raising=False)
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        movers, settings=settings(max_examples=EXAMPLES, stateful_step_count=30, suppress_health_check=checks)
    )
