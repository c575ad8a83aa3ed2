"""What one transaction takes along."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import apsw

from tallystick.ledger.sqlite.ledger import GROUP_BYTES_PER_MS, SqliteLedger
from tallystick.ledger.sqlite.writer import Lane, Task, Work
from tests.ledger.build import Desk, asynchronous


def test_a_group_takes_what_fits(tmp_path: Path) -> None:
    """Bulk that would make it longer than `commit_ms_max` waits for the next, and what is too large goes by itself."""
    groups: list[list[int]] = []

    @asynchronous
    async def run() -> None:
        async with Desk(tmp_path).open(commit_ms_max=10) as ledger:
            assert isinstance(ledger, SqliteLedger)
            writer, combine, gate = ledger._writer, ledger._writer._combine, threading.Event()

            def noting(works: Sequence[Work]) -> Sequence[Work]:
                groups.append([work.bytes // GROUP_BYTES_PER_MS for work in works])
                return combine(works)

            def hold(db: apsw.Connection) -> None:
                gate.wait(10)

            writer._combine = noting
            writer.submit([Task(hold)], Lane.URGENT)
            bulk = [Task(lambda db: None, bytes=ms * GROUP_BYTES_PER_MS) for ms in (6, 6, 4, 1, 30, 2)]
            for task in bulk:
                writer.reserve(task.bytes)
            writer.submit(bulk, Lane.BULK)
            gate.set()

    run()
    assert [group for group in groups if sum(group)] == [[6], [6, 4], [1], [30], [2]]
