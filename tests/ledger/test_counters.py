"""What the writer remembers of limits is no more than the log says, and the proof looks at it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

from tallystick.ledger.sqlite import file
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tests.ledger.build import Desk, asynchronous
from tests.ledger.script import Play, played

SCRIPT = """
    limit   10 1h thresholds=20
    use     3     -> accepted
    hold    a 4   -> allowed 3
"""


@asynchronous
async def test_a_counter_that_went_wrong_is_a_fault(tmp_path: Path) -> None:
    """Used or held by one too much: the proof names the limit."""
    desk = Desk(tmp_path)
    await played(desk, SCRIPT)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        await Play(desk, ledger).line("hold b 1 -> allowed 2")
        assert not (await ledger.verify()).faults
        (counter,) = ledger._counters._of[1].values()
        for name in ("used", "held"):
            setattr(counter, name, getattr(counter, name) + 1)
            (fault,) = (await ledger.verify()).faults
            assert "'limit'" in fault.detail
            setattr(counter, name, getattr(counter, name) - 1)
        assert not (await ledger.verify()).faults


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE hold SET body = replace(body, '4', '5')", "hold 'a'"),
        ("DELETE FROM hold", "hold 'a'"),
        ("DELETE FROM crossing", "thresholds"),
        ("UPDATE hold SET ends = NULL", "wrong place"),
        ("UPDATE hold SET body = '[]'", "cannot be read"),
    ],
)
def test_a_row_that_is_not_what_the_log_says_is_a_fault(tmp_path: Path, change: str, says: str) -> None:
    """Whatever is changed of holds behind the ledger's back is found."""

    async def proved() -> list[str]:
        desk = Desk(tmp_path)
        await played(desk, SCRIPT)
        async with desk.open() as ledger:
            db = apsw.Connection(str(tmp_path / file.FILE_NAME))
            db.execute(change)
            db.close()
            return [fault.detail for fault in (await ledger.verify()).faults]

    faults = asyncio.run(proved())
    assert any(says in fault for fault in faults), faults


@asynchronous
async def test_calls_that_wait_together_are_one_transaction(tmp_path: Path) -> None:
    """Sixty-four holds at once are far fewer entries of the log."""
    desk = Desk(tmp_path)
    await played(desk, "limit 100 1mo")
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        before = ledger._tail.entry
        await asyncio.gather(*(Play(desk, ledger).line(f"hold many-{n} 1") for n in range(64)))
        assert 1 <= ledger._tail.entry - before < 32
        await Play(desk, ledger).line("left -> 36")
