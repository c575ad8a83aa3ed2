"""What holds for the tests of ledgers: a failed assertion of the shared suite is explained like any other."""

import pytest

pytest.register_assert_rewrite(
    "tests.ledger.conformance",
    "tests.ledger.conformance_limits",
    "tests.ledger.conformance_metering",
    "tests.ledger.define",
)
