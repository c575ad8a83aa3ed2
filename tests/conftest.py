"""What holds for every test: Hypothesis without deadlines, any running order, and a run that allows no skips."""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import Iterator
from zlib import crc32

import pytest
from hypothesis import settings

from tests.citus import watched
from tests.postgres import Databases, databases, split

# Before anyone imports them: a failed assertion of what several tests share is explained like any other.
pytest.register_assert_rewrite(
    "tests.ledger.conformance",
    "tests.ledger.conformance_limits",
    "tests.ledger.conformance_metering",
    "tests.ledger.define",
    "tests.ledger.script",
)

# Whoever starts the tests behind a shell's `&` has ctrl-c ignored by everything below it, where tests say what it does.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline would turn a busy machine into a failed test.
settings.register_profile("tallystick", deadline=None, print_blob=True)
settings.load_profile("tallystick")

SPLIT = ("TestPostgresSplit", "postgres-split")
"""In the names of tests that run for the ledger in PostgreSQL already."""
SPLIT_ONE_OF = int(os.environ.get("TALLYSTICK_TEST_SPLIT_ONE_OF", "6"))
"""One of so many of their tests is run; `make split` runs all."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Databases]:
    """One PostgreSQL for all tests of this process."""
    with databases() as found:
        yield found


@pytest.fixture
def postgres(postgres_server: Databases) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    url = postgres_server.take()
    yield url
    postgres_server.give_back(url)


@pytest.fixture
def postgres_ledger(postgres_server: Databases) -> Iterator[str]:
    """The URL of a database with the tables of a ledger and nothing in them."""
    url = postgres_server.take_with_tables()
    yield url
    postgres_server.give_back(url)


@pytest.fixture
def postgres_split(postgres_ledger: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a ledger, with nothing in it, whose commits are split by account; its statements are watched."""
    split(postgres_ledger)
    with watched(monkeypatch, postgres_ledger):
        yield postgres_ledger


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--order SEED`."""
    parser.addoption("--order", type=int, default=None, metavar="SEED", help="run the tests in this random order")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out most of what is played again with commits split by account; shuffle where a seed is given.

    Files are shuffled first, so that what a file shares is built once.
    """
    left_out = {item for item in items if _is_left_out(item.nodeid)}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    seed = config.getoption("order")
    if seed is None:
        return
    rank = random.Random(seed)
    ranks: dict[str, float] = {}
    for item in items:
        ranks.setdefault(item.location[0], rank.random())
    items.sort(key=lambda item: (ranks[item.location[0]], rank.random()))


def pytest_collection_finish() -> None:
    """Look at modules and tests as garbage no more, and at the rest less often: a tenth of all work was that."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _is_left_out(name: str) -> bool:
    return any(mark in name for mark in SPLIT) and crc32(name.encode()) % SPLIT_ONE_OF != 0


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that skipped something where TALLYSTICK_TEST_SKIPS=none."""
    if os.environ.get("TALLYSTICK_TEST_SKIPS") != "none" or exitstatus != pytest.ExitCode.OK:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("Skipped tests count as failures here (TALLYSTICK_TEST_SKIPS=none).", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
