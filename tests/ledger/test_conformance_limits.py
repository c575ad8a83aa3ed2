"""Each kind of ledger against the suite about limits and grants."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.build import Desk
from tests.ledger.conformance_limits import LimitConformance, PersistentLimits

LEDGERS = ("memory", "sqlite")


class TestLimits(LimitConformance):
    """Every ledger."""

    @pytest.fixture(params=LEDGERS)
    def desk(self, request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
        return Desk("memory:" if request.param == "memory" else tmp_path / "ledger")


class TestPersistentLimits(PersistentLimits):
    """The ledger in a file."""

    @pytest.fixture
    def desk(self, tmp_path: Path) -> Desk:
        return Desk(tmp_path / "ledger")
