"""Damage is found behind the work, and answers that touch it are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from tallystick.errors import Code, Problem
from tallystick.ledger.sqlite import file
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.windows import INSTANT_MIN
from tests.ledger.build import Desk, StillClock, asynchronous, audio, query

NOW = 1_714_564_800_000_000


@asynccontextmanager
async def filled(tmp_path: Path) -> AsyncIterator[tuple[Desk, SqliteLedger]]:
    """Open a ledger with one event of each of two accounts, in commits of their own."""
    desk = Desk(tmp_path / "data", StillClock(NOW))
    async with desk.open(verify_bytes_per_s=0) as ledger:
        assert isinstance(ledger, SqliteLedger)
        await desk.send(ledger, audio("1", account="acme"))
        await desk.send(ledger, audio("2", account="beta"))
        yield desk, ledger


def flip(folder: Path, statement: str) -> None:
    """Change one byte of a blob, as a bad disk would."""
    db = apsw.Connection(str(folder / file.FILE_NAME))
    table, column, row, body = db.execute(statement).fetchone()  # type: ignore[misc]  # the statement gives a row
    middle = len(body) // 2
    changed = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    key = "entry" if table == "log" else "first"
    db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (changed, row))
    db.close()


def scrubbed(ledger: SqliteLedger) -> frozenset[int]:
    """Go once round the log, as the keeper does bit by bit."""
    db = ledger._connect_reader()
    scrub = ledger._keeper.scrub
    while True:
        scrub.step(db, 1)
        if scrub._entry == 0:
            break
    db.close()
    return scrub.damaged


@pytest.mark.parametrize(
    "damage",
    [
        "SELECT 'frame', 'body', first, body FROM frame ORDER BY first LIMIT 1",
        "SELECT 'log', 'columns', entry, columns FROM log WHERE kind = 1 ORDER BY entry LIMIT 1",
    ],
)
@asynchronous
async def test_a_damaged_entry_makes_its_account_unproven_and_no_other(tmp_path: Path, damage: str) -> None:
    """Who has usage in a damaged entry gets 503 until it is mended; everybody else is answered."""
    async with filled(tmp_path) as (_, ledger):
        flip(tmp_path / "data", damage)
        assert scrubbed(ledger) == {ledger.catalog.accounts["acme"].number}
        assert ledger.vitals().damaged_entries == 1
        with pytest.raises(Problem) as refused:
            await ledger.usage([query(accounts=("acme",))])
        assert refused.value.code is Code.UNPROVEN
        (table,) = await ledger.usage([query(accounts=("beta",))])
        assert table.total.count == 1


@asynchronous
async def test_a_damaged_header_makes_everyone_unproven(tmp_path: Path) -> None:
    """A header that cannot be trusted does not say whose usage it covers."""
    async with filled(tmp_path) as (_, ledger):
        flip(tmp_path / "data", "SELECT 'log', 'header', entry, header FROM log ORDER BY entry LIMIT 1")
        assert 0 in scrubbed(ledger)
        with pytest.raises(Problem) as refused:
            await ledger.usage([query(accounts=("beta",))])
        assert refused.value.code is Code.UNPROVEN


@asynchronous
async def test_a_sound_log_is_gone_round_again_and_again(tmp_path: Path) -> None:
    """Nothing is found where nothing is wrong, the second time round either."""
    async with filled(tmp_path) as (desk, ledger):
        assert scrubbed(ledger) == frozenset()
        await desk.send(ledger, audio("3", account="acme"))
        assert scrubbed(ledger) == frozenset()
        assert ledger.vitals().damaged_entries == 0


@asynchronous
async def test_damaged_postings_of_a_replay_are_found_by_the_scrub_and_by_verify(tmp_path: Path) -> None:
    """What a replay counted is as provable as what came with the events."""
    async with filled(tmp_path) as (_, ledger):
        audio_meter = ledger.catalog.meters["audio"]
        await ledger.put_meter(replace(audio_meter, name="again"), actor="test", start=INSTANT_MIN)
        while ledger.catalog.replays:
            await asyncio.sleep(0.01)
        assert scrubbed(ledger) == frozenset()
        flip(
            tmp_path / "data", "SELECT 'log', 'columns', entry, columns FROM log WHERE kind = 4 ORDER BY entry LIMIT 1"
        )
        assert scrubbed(ledger) == {account.number for account in ledger.catalog.accounts.values()}
        assert (await ledger.verify()).faults != ()


@asynchronous
async def test_whatever_is_kept_of_resources_is_proved(tmp_path: Path) -> None:
    """A resource, a counter of its space or what was counted once that is not what the log says is a fault."""
    for statement in (
        "UPDATE resource SET state = '{}'",
        "UPDATE space SET live = '{}'",
        "UPDATE counted_once SET value = 'x'",
        "DELETE FROM record",
    ):
        desk = Desk(tmp_path / str(hash(statement)), StillClock(NOW))
        async with desk.open(verify_bytes_per_s=0) as ledger:
            said = {"kind": "verification", "id": "v", "type": "identity", "state": "performed", "duration": 1}
            event = {**audio("1"), "type": "resource.upserted", "data": {**said, "space": "lab"}}
            await desk.send(ledger, event)
            assert (await ledger.verify()).faults == ()
            db = apsw.Connection(str(tmp_path / str(hash(statement)) / file.FILE_NAME))
            db.execute(statement)
            db.close()
            assert [fault.where for fault in (await ledger.verify()).faults] == ["resources"], statement
