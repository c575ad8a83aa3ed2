"""A copy whose process is killed at any moment, again and again, until one comes to its end."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.errors import LedgerError
from tallystick.model import EventQuery
from tests.ledger.build import Desk, audio, listed, tokens, usage
from tests.ledger.define import upsert
from tests.postgres import split

KILLS = int(os.environ.get("TALLYSTICK_TEST_COPY_KILLS", "3"))
COMMITS = 60
LINES_MAX = 40
"""After how many lines of what it says a copy is killed at the latest: at each step it says one."""
S_MAX = 120


async def filled(desk: Desk) -> None:
    """Make many small commits, of several accounts."""
    async with desk.open() as ledger:
        for number in range(COMMITS):
            account = ("acme", "globex", "initech")[number % 3]
            made = audio(f"a{number}", number + 1, account=account), tokens(f"t{number}", number, 1, account="acme")
            await desk.send(ledger, *made, upsert(f"u{number}", "image", str(number), at=number, account=account))


async def told(desk: Desk) -> tuple[object, ...]:
    """Ask for events in their order, usage and the proof."""
    async with desk.open() as ledger:
        table = await usage(ledger, meter="audio", group_by=("account",))
        page = await ledger.events(EventQuery(None))
        first = [(row.sequence, row.recorded) for row in page.rows]
        faults = list((await ledger.verify()).faults)
        return await listed(ledger), first, list(table.rows), faults


@pytest.mark.slow
@pytest.mark.parametrize("way", ["into a database", "over nodes", "into a folder"])
def test_a_copy_that_is_killed_again_and_again_loses_and_repeats_nothing(
    way: str, tmp_path: Path, postgres: str
) -> None:
    """Until it is complete it does not open, and the same command goes on; in the end both say the same."""
    origin, place = (postgres, tmp_path / "copy") if way == "into a folder" else (tmp_path / "ledger", postgres)
    if way == "over nodes":
        split(postgres)
    asyncio.run(filled(Desk(origin)))
    before = asyncio.run(told(Desk(origin)))
    command = [sys.executable, "-m", "tests.kill.copy_child", str(origin), str(place)]
    rng, kills = random.Random(11), 0
    while kills < KILLS and killed_after(command, rng.randint(1, LINES_MAX)) and not complete(Desk(place)):
        kills += 1
    assert kills > 1, "it was through before it was killed"
    if not complete(Desk(place)):
        assert subprocess.run(command, timeout=S_MAX, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert asyncio.run(told(Desk(place))) == before


def killed_after(command: list[str], lines: int) -> bool:
    """Start a copy and kill it when it has said so many lines; false if it came to its end before."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = [line for _, line in zip(range(lines), child.stdout, strict=False)]
        child.kill()
        return len(said) == lines


def complete(desk: Desk) -> bool:
    """Say whether a copy opens; else it says what to do."""
    try:
        asyncio.run(told(desk))
    except LedgerError as error:
        assert "not complete" in str(error)
        return False
    return True
