"""Each kind of ledger against the suite about meters, rates and resources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.build import SPLIT, Desk
from tests.ledger.conformance_metering import MeteringConformance, PersistentMetering

LEDGERS = ("memory", "sqlite")


class TestMetering(MeteringConformance):
    """Every ledger that keeps this part of the contract."""

    @pytest.fixture(params=LEDGERS)
    def desk(self, request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
        return Desk("memory:" if request.param == "memory" else tmp_path / "ledger")


class TestPersistentMetering(PersistentMetering):
    """The ledger in a file."""

    @pytest.fixture
    def desk(self, tmp_path: Path) -> Desk:
        return Desk(tmp_path / "ledger")


class TestPostgresMetering(MeteringConformance, PersistentMetering):
    """The distributed ledger, and with commits split by account, as over Citus."""

    @pytest.fixture(params=("postgres", SPLIT))
    def desk(self, request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
        return Desk.of(request, tmp_path)
