"""Many kept events read by two threads are those that one reads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite import file, second_reader
from tallystick.ledger.sqlite.judging import kept_events
from tallystick.ledger.sqlite.second_reader import SecondReader
from tests.ledger.build import Desk, asynchronous, audio

EVENTS = 400


async def filled(folder: Path) -> None:
    """Make a ledger whose events are in several frames."""
    desk = Desk(folder)
    async with desk.open() as ledger:
        for start in range(0, EVENTS, 50):
            await desk.send(ledger, *(audio(str(at), mode=f"m{at % 7}") for at in range(start, start + 50)))


@pytest.mark.parametrize("many", [1, 100, EVENTS + 1])
@asynchronous
async def test_two_threads_read_what_one_reads(tmp_path: Path, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked for, in any order and repeatedly; and then the thread ends."""
    monkeypatch.setattr(second_reader, "MANY", many)
    await filled(tmp_path)
    db = file.connect(tmp_path)
    reader = SecondReader(partial(file.connect, tmp_path))
    rng = np.random.default_rng(1)
    for count in (1, 2, 3, 120, EVENTS):
        wanted = rng.integers(1, EVENTS + 1, count)
        assert reader.kept_events(db, wanted) == kept_events(db, wanted)
    reader.close()
    with pytest.raises(RuntimeError):
        reader._thread.submit(print)
    db.close()


@pytest.mark.parametrize("at", [1, EVENTS])
@asynchronous
async def test_damage_is_told_by_whichever_thread_meets_it(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is asked for afterwards, elsewhere, is read."""
    monkeypatch.setattr(second_reader, "MANY", 1)
    await filled(tmp_path)
    db = file.connect(tmp_path, writes=True)
    db.execute("UPDATE frame SET body = x'00' WHERE first = (SELECT max(first) FROM frame WHERE first <= ?)", (at,))
    reader = SecondReader(partial(file.connect, tmp_path))
    with pytest.raises(Damaged):
        reader.kept_events(db, np.arange(1, EVENTS + 1))
    middle = np.arange(150, 250)
    assert [*reader.kept_events(db, middle)] == middle.tolist()
    reader.close()
    db.close()
