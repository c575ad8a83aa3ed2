"""Listings of the embedded ledger: each call does little, whatever the log looks like, and believes nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from tallystick.errors import Code, Problem
from tallystick.ledger.packed import segment
from tallystick.ledger.sqlite import directory, file
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.model import EventQuery
from tests.ledger.build import Desk, asynchronous, audio, instant, listed, text_of


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A data folder whose log nobody reads but those who ask."""
    return Desk(tmp_path / "ledger")


def numbered(n: int, **labels: Any) -> dict[str, Any]:
    """Return the n-th event: an hour after the one before."""
    return audio(
        str(n), account=f"org{n % 3}", at=text_of(instant("2024-04-01T00:00:00Z") + n * 3_600_000_000), **labels
    )


@pytest.mark.parametrize(
    "narrowed",
    [
        {"SEGMENTS_READ_MAX": 1},
        {"SEGMENTS_READ_MAX": 3, "SEGMENTS_PASSED_MAX": 5},
        {"SEGMENTS_PASSED_MAX": 1},
        {"EVENTS_READ_MAX": 1},
        {"EVENTS_READ_MAX": 7, "SEGMENTS_PASSED_MAX": 2},
        {"BYTES_READ_MAX": 1},
        {"BYTES_READ_MAX": 5000, "FRAMES_READ_TOGETHER": 1},
    ],
    ids=str,
)
@asynchronous
async def test_whatever_one_call_may_do_the_list_is_the_same(desk: Desk, narrowed: dict[str, int]) -> None:
    """Calls that give up early lose nothing, repeat nothing, and every one gets further."""
    chance = random.Random(str(narrowed))
    later = {"start": instant("2024-04-02T00:00:00Z"), "end": instant("2024-04-04T12:00:00Z")}
    async with desk.open(verify_bytes_per_s=0) as ledger:
        n = 0
        while n < 120:
            size = chance.choice([1, 1, 5, 30])
            comment = "x" * chance.choice([1, 3000])
            await desk.send(ledger, *(numbered(n + k, comment=comment) for k in range(size)))
            n += size
        for asked in ({}, {"accounts": ("org1",)}, later, {"id": "17"}, {"after": 13, "through": 101}):
            for oldest_first in (False, True):
                whole = await listed(ledger, oldest_first=oldest_first, **asked)
                with pytest.MonkeyPatch.context() as patched:
                    for name, value in narrowed.items():
                        patched.setattr(directory, name, value)
                    assert await listed(ledger, oldest_first=oldest_first, **asked) == whole
                assert whole


@asynchronous
async def test_a_call_does_little_however_much_there_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a hundred opens the frames of a hundred events; a search that finds nothing stops after a while."""
    opened: list[int] = []

    def counting(body: bytes) -> bytes:
        opened.append(len(body))
        return segment.frame_digest(body)

    monkeypatch.setattr(directory, "frame_digest", counting)
    async with desk.open(verify_bytes_per_s=0) as ledger:
        for start in range(0, 12_000, 4000):
            await desk.send(ledger, *(audio(str(start + n)) for n in range(4000)))
        page = await ledger.events(EventQuery(None))
        assert [json.loads(row.raw)["id"] for row in page.rows] == [str(n) for n in range(11_999, 11_899, -1)]
        assert len(opened) <= 4
        opened.clear()
        page = await ledger.events(EventQuery(None, id="none"))
        assert page.next is not None
        assert page.rows == []
        assert page.next.through == 12_000 - directory.EVENTS_READ_MAX
        frames = len(opened)
        opened.clear()
        nothing = await ledger.events(EventQuery(None, start=instant("2030-01-01T00:00:00Z")))
        assert (list(nothing.rows), nothing.next, opened) == ([], None, [])
        assert frames < 200


def flip(column: str, table: str, where: str) -> Callable[[apsw.Connection], None]:
    """Return what changes one byte of a blob behind the ledger's back."""

    def damage(db: apsw.Connection) -> None:
        key = "first" if table == "frame" else "entry"
        at, blob = file.row(db, f"SELECT {key}, {column} FROM {table} WHERE {where}")
        changed = bytearray(blob)
        changed[len(changed) // 2] ^= 0x10
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (bytes(changed), at))

    return damage


def swap_frames(db: apsw.Connection) -> None:
    """Put a sound frame where another one belongs."""
    db.execute("UPDATE frame SET body = (SELECT body FROM frame WHERE first = 1) WHERE first = 2")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip("body", "frame", "first = 2"), id="a frame"),
        pytest.param(flip("columns", "log", "first = 2"), id="postings"),
        pytest.param(flip("header", "log", "first = 2"), id="a header"),
        pytest.param(swap_frames, id="another frame"),
        pytest.param(lambda db: db.execute("DELETE FROM frame WHERE first = 2"), id="no frame"),
    ],
)
@asynchronous
async def test_what_is_not_as_it_was_written_is_not_listed(
    desk: Desk, damage: Callable[[apsw.Connection], None]
) -> None:
    """A page that touches damage is refused, in both directions; one that does not is given."""
    async with desk.open(verify_bytes_per_s=0) as ledger:
        for n in range(3):
            await desk.send(ledger, audio(str(n)))
        db = file.connect(Path(desk.url), writes=True)
        damage(db)
        db.close()
        for oldest_first in (False, True):
            with pytest.raises(Problem) as caught:
                await listed(ledger, oldest_first=oldest_first)
            assert caught.value.code is Code.UNPROVEN
        assert await listed(ledger, after=2) == ["2"]
        assert await listed(ledger, through=1) == ["0"]


@asynchronous
async def test_what_is_known_to_be_damaged_is_refused_by_account(desk: Desk) -> None:
    """Listings and tags follow reports: an account with damage is refused, others are answered."""
    async with desk.open(verify_bytes_per_s=0) as ledger:
        assert isinstance(ledger, SqliteLedger)
        await desk.send(ledger, audio("1"), audio("2", account="globex"))
        ledger._keeper.scrub.damaged = frozenset({ledger.catalog.accounts["globex"].number})
        assert await listed(ledger, accounts=("acme",)) == ["1"]
        for accounts in (None, ("globex",)):
            with pytest.raises(Problem) as caught:
                await listed(ledger, accounts=accounts)
            assert caught.value.code is Code.UNPROVEN


@asynchronous
async def test_what_is_not_acknowledged_is_not_listed(desk: Desk) -> None:
    """A commit that the file has, and readers were not told of, is in no page."""
    async with desk.open(verify_bytes_per_s=0) as ledger:
        assert isinstance(ledger, SqliteLedger)
        await desk.send(ledger, audio("1"))
        before = replace(ledger._tail)
        await desk.send(ledger, audio("2"))
        db = ledger._connect_reader()
        for query in (EventQuery(None), EventQuery(None, through=2, oldest_first=True)):
            page = directory.events(db, before, frozenset(), query)
            assert ([row.sequence for row in page.rows], page.as_of.sequence, page.next) == ([1], 1, None)
        db.close()
