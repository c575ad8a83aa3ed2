"""Each kind of ledger against the suite about limits and grants."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.build import LEDGERS, SPLIT, Desk
from tests.ledger.conformance_limits import LimitConformance, PersistentLimits


class TestLimits(LimitConformance):
    """Every ledger."""

    @pytest.fixture(params=(*LEDGERS, SPLIT))
    def desk(self, request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
        return Desk.of(request, tmp_path)


class TestPersistentLimits(PersistentLimits):
    """Those that are there after the end of the process."""

    @pytest.fixture(params=(*LEDGERS[1:], SPLIT))
    def desk(self, request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
        return Desk.of(request, tmp_path)
