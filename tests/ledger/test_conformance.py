"""Each kind of ledger against the suite, and what is peculiar to one kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tallystick.ledger.memory import MemoryLedger
from tests.ledger.build import Desk, asynchronous, audio, raw_of
from tests.ledger.conformance import Conformance, PersistentConformance


class TestMemory(Conformance):
    """The oracle keeps the contract too."""

    @pytest.fixture
    def desk(self) -> Desk:
        return Desk("memory:")

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            pytest.param({"raw": raw_of(audio("1", 61))}, "link", id="another event"),
            pytest.param({"time": 0}, "time", id="another time"),
            pytest.param({"postings": ()}, "postings", id="no postings"),
        ],
    )
    @asynchronous
    async def test_verify_finds_what_was_changed_behind_its_back(
        self, desk: Desk, change: dict[str, Any], says: str
    ) -> None:
        """An event that is not what was kept any more is a fault, and the fault says which event and what of it."""
        async with desk.open() as ledger:
            assert isinstance(ledger, MemoryLedger)
            await desk.send(ledger, audio("0"), audio("1"), audio("2"))
            ledger._events[1] = replace(ledger._events[1], **change)
            faults = (await ledger.verify()).faults
            assert {fault.where for fault in faults} >= {"event 2"}
            assert any(f"its {says} should be" in fault.detail for fault in faults)


class TestSqlite(Conformance, PersistentConformance):
    """The embedded ledger, on a folder of its own for each test."""

    @pytest.fixture
    def desk(self, tmp_path: Path) -> Desk:
        return Desk(tmp_path / "ledger")


class TestPostgres(Conformance, PersistentConformance):
    """The distributed ledger, on a database of its own for each test."""

    @pytest.fixture
    def desk(self, postgres_ledger: str) -> Desk:
        return Desk(postgres_ledger)


class TestPostgresSplit(Conformance, PersistentConformance):
    """The distributed ledger with commits split by account, as over Citus."""

    @pytest.fixture
    def desk(self, postgres_split: str) -> Desk:
        return Desk(postgres_split, is_split=True)
