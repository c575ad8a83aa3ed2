"""Each kind of ledger against the suite about meters, rates and resources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.build import Desk
from tests.ledger.conformance_metering import MeteringConformance, PersistentMetering

LEDGERS = ("memory", "sqlite")
GAPS = {
    "test_a_meter_that_begins_anew_has_records_of_what_it_counted_since[sqlite]": (
        "records are kept without the epoch of their meter, so those of before it began anew are still told"
    )
}
"""What a ledger is known not to keep yet, and why."""


class TestMetering(MeteringConformance):
    """Every ledger that keeps this part of the contract."""

    @pytest.fixture(params=LEDGERS)
    def desk(self, request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
        if request.node.name in GAPS:
            request.applymarker(pytest.mark.xfail(reason=GAPS[request.node.name], strict=True))
        return Desk("memory:" if request.param == "memory" else tmp_path / "ledger")


class TestPersistentMetering(PersistentMetering):
    """The ledger in a file."""

    @pytest.fixture
    def desk(self, tmp_path: Path) -> Desk:
        return Desk(tmp_path / "ledger")
