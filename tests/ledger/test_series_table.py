"""Series as they are kept: those that are new with one entry in one row, and before in rows of their own."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from tallystick.errors import LedgerDamaged
from tallystick.ledger.sqlite import file
from tests.ledger.build import Desk, asynchronous, audio, lines, query
from tests.ledger.older import make_older

MODES = [f"m{number}" for number in range(30)]


def some(name: str, modes: list[str]) -> list[dict[str, object]]:
    """Return an event of each mode."""
    return [audio(f"{name}-{mode}", duration=1, mode=mode) for mode in modes]


async def told(desk: Desk) -> object:
    """Open the ledger again and return how much of each mode was used, once nothing was found wrong."""
    async with desk.open() as ledger:
        assert (await ledger.verify()).faults == ()
        (table,) = await ledger.usage([query(group_by=("mode",))])
        return lines(table)


def rows(folder: Path) -> tuple[int, int]:
    """Return how many rows of either kind a file has."""
    db = apsw.Connection(str(folder / file.FILE_NAME))
    ((single, parts),) = db.execute("SELECT (SELECT count(*) FROM series), (SELECT count(*) FROM series_part)")
    db.close()
    return single, parts


@asynchronous
async def test_one_entry_writes_one_row_for_all_its_series(tmp_path: Path) -> None:
    """And none where all of them were there."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        for name, modes in (("a", MODES[:20]), ("b", MODES[:20]), ("c", MODES[10:])):
            assert set(await desk.send(ledger, *some(name, modes))) == {"accepted"}
        (table,) = await ledger.usage([query(group_by=("mode",))])
    assert rows(tmp_path) == (0, 2)
    assert await told(desk) == lines(table)


@pytest.mark.parametrize("form", [4, 5, 6])
@asynchronous
async def test_rows_of_earlier_versions_and_parts_stand_beside_each_other(tmp_path: Path, form: int) -> None:
    """What is there keeps its number, and what is new follows it."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        await desk.send(ledger, *some("a", MODES[:20]))
    said = await told(desk)
    make_older(tmp_path, form)
    assert await told(desk) == said
    async with desk.open() as ledger:
        assert set(await desk.send(ledger, *some("b", MODES))) == {"accepted"}
        (table,) = await ledger.usage([query(group_by=("mode",))])
        assert sorted(line[-1] for line in lines(table)) == [10**6] * 10 + [2 * 10**6] * 20
    assert rows(tmp_path) == (20, 1)
    assert await told(desk) == lines(table)


@pytest.mark.parametrize("body", [b"", b"\0" * 50, b"(\xb5/\xfd\x04\x00\x09\x00\x00\xc0"])
@asynchronous
async def test_a_part_that_is_not_what_was_written_opens_nothing(tmp_path: Path, body: bytes) -> None:
    """The file is left as it is, and the error says what to do."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        await desk.send(ledger, *some("a", MODES))
    db = apsw.Connection(str(tmp_path / file.FILE_NAME))
    db.execute("UPDATE series_part SET body = ?", (body,))
    db.close()
    with pytest.raises(LedgerDamaged, match=r"cannot be opened: .* Run verify on a copy, restore a backup"):
        async with desk.open():
            pass
