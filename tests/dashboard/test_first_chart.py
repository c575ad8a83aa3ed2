"""What the benchmark measures of the usage page, over a ledger that a test has the time to make."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks import embedded, first_chart, traffic

EVENTS = 20_000
WAIT_S_MAX = 5.0
"""On a machine that does other work meanwhile; the benchmark asks for a second."""


async def _fill(folder: Path, bodies: Path) -> None:
    async with embedded.opened(folder) as ledger:
        await embedded.drain(ledger, traffic.read(bodies), 1)


def test_the_first_chart_of_many_accounts_is_soon_there(tmp_path: Path) -> None:
    """In a new browser before a new server, and again: of the two hundred accounts of the long run."""
    if not first_chart.has_browser():
        pytest.skip("there is no Chromium on this machine")
    bodies = traffic.write(tmp_path / "bodies", traffic.LONG, EVENTS, 5_000)
    asyncio.run(_fill(tmp_path / "data", bodies))
    name = "all accounts"
    waits = first_chart.measure(tmp_path / "data", 1, {name: first_chart.PAGES[name]}, warm=1)[name]
    assert [len(waits.cold_s), len(waits.warm_s)] == [1, 1]
    assert 0 < min(waits.cold_s + waits.warm_s) <= max(waits.cold_s + waits.warm_s) < WAIT_S_MAX
