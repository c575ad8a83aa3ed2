"""Each kind of ledger against the suite, and what is peculiar to one kind."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.ledger.conformance")

from tests.ledger.build import Desk  # noqa: E402 - what is asserted there is explained only if registered first
from tests.ledger.conformance import Conformance, PersistentConformance  # noqa: E402


class TestMemory(Conformance):
    """The oracle keeps the contract too."""

    @pytest.fixture
    def desk(self) -> Desk:
        return Desk("memory:")


class TestSqlite(Conformance, PersistentConformance):
    """The embedded ledger, on a folder of its own for each test."""

    @pytest.fixture
    def desk(self, tmp_path: Path) -> Desk:
        return Desk(tmp_path / "ledger")
