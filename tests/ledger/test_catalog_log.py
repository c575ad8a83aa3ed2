"""What the embedded ledger makes of catalog entries: the audit, deletions that meet commits, and what is beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from tallystick.catalog import builtin
from tallystick.errors import Code, Problem
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.packed.entries import CatalogHeader, apply
from tallystick.ledger.sqlite import audit, file, keeper, ownership, verify
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.ledger.sqlite.ownership import Ownership
from tallystick.ledger.sqlite.scrub import EVERYONE
from tallystick.ledger.sqlite.writer import Lane
from tallystick.model import Account, AuditQuery, AuditRecord, Deletion, Key, Scope
from tests.ledger.build import Desk, asynchronous, audio, total

EARLIER: list[Any] = [
    [1, 5, "first start", [["key_put", "k1", "aa" * 32, None, ["admin"], 5, None]]],
    [2, 6, "event", [["account_put", "acme", 1, "org", "UTC", []]]],
    [3, 7, "k1", [["account_put", "acme", 1, "org", "Asia/Tokyo", ["ada"], ["org", "UTC", []]]]],
    [4, 8, "k1", [["key_put", "k2", "bb" * 32, "acme", ["report"], 8, 99], ["key_deleted", "k1"]]],
]
"""Entries as the first version wrote them, before keys kept what they replaced."""


@asynchronous
async def test_a_deletion_overtakes_a_commit_that_is_under_way(tmp_path: Path) -> None:
    """Events that were screened for an account which is deleted before their turn are not kept under its number."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        held, submit, has_come = [], ledger._writer.submit, asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(works: Any, lane: Lane) -> None:
            if any(isinstance(work, Job) for work in works):
                held.append((works, lane))
                loop.call_soon_threadsafe(has_come.set)
            else:
                submit(works, lane)

        await ledger.put_account(Account("acme", 0), actor="test")
        await desk.send(ledger, audio("1", account="globex"))
        ledger._writer.submit = hold  # type: ignore[method-assign]  # to set the timing
        late = asyncio.ensure_future(ledger.commit(desk.batch(ledger, audio("1"))))
        await has_come.wait()
        assert await ledger.delete_account("acme", actor="test") is Deletion.DELETED
        ledger._writer.submit = submit  # type: ignore[method-assign]  # to set the timing
        submit(*held[0])
        with pytest.raises(CatalogStale):
            await late
        assert (await total(ledger)).count == 1
        assert list((await ledger.verify()).faults) == []
    async with desk.open() as ledger:
        assert list(ledger.catalog.accounts) == ["globex"]


@asynchronous
async def test_events_that_come_while_a_deletion_looks_are_seen(tmp_path: Path) -> None:
    """What is committed after the log was searched is met inside the transaction."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        await ledger.put_account(Account("acme", 0), actor="test")
        read = ledger._read

        async def read_and_dawdle(ask: Any) -> Any:
            found = await read(ask)
            await desk.send(ledger, audio("1"))
            return found

        ledger._read = read_and_dawdle  # type: ignore[method-assign]  # to set the timing
        assert await ledger.delete_account("acme", actor="test") is Deletion.HAS_EVENTS


@asynchronous
async def test_an_owner_is_found_in_whichever_commit_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search goes on from page to page, takes up where it ended, and ends at the first event."""
    monkeypatch.setattr(ownership, "ENTRIES_READ_TOGETHER", 2)
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        for n in range(7):
            await desk.send(ledger, audio("1", account=f"org{n}"), audio("2", account=f"org{n}"))
        db = ledger._connect_reader()
        looks = {name: Ownership(account.number) for name, account in ledger.catalog.accounts.items()}
        looks["next"] = Ownership(8)
        for look in looks.values():
            look.look(db)
        assert {name for name, look in looks.items() if look.has_events} == set(looks) - {"next"}
        await desk.send(ledger, audio("1", account="next"))
        looks["next"].look(db)
        assert looks["next"].has_events
        db.close()


@asynchronous
async def test_a_page_of_the_audit_may_be_short_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few entries are looked at for one page, all that is wanted is found in the end, in order."""
    monkeypatch.setattr(audit, "ENTRIES_READ_MAX", 3)
    async with Desk(tmp_path).open() as ledger:
        for n in range(12):
            await ledger.put_account(Account(f"org{n % 5}", 0, members=(f"m{n}",)), actor="test")
        found: list[AuditRecord] = []
        sizes, before = [], None
        while True:
            page = await ledger.audit(AuditQuery(2, account="org1", before=before))
            found += page.records
            sizes.append(len(page.records))
            before = page.next
            if before is None:
                break
        assert [record.after.members for record in found if isinstance(record.after, Account)] == [
            ("m11",),
            ("m6",),
            ("m1",),
        ]
        assert 0 in sizes


@asynchronous
async def test_a_damaged_log_gives_no_audit(tmp_path: Path) -> None:
    """Nobody is shown who changed what by entries that are not what was written."""
    async with Desk(tmp_path).open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        await ledger.put_account(Account("acme", 0), actor="test")
        ledger._keeper.scrub.damaged = frozenset({EVERYONE})
        with pytest.raises(Problem) as caught:
            await ledger.audit(AuditQuery(1))
        assert caught.value.code is Code.UNPROVEN


def test_entries_of_the_first_version_are_read() -> None:
    """What they lack has its default: the fold is the same, and the audit shows what they say."""
    headers = [msgspec.msgpack.encode(entry) for entry in EARLIER]
    catalog = builtin()
    for header in headers:
        catalog = apply(catalog, msgspec.msgpack.decode(header, type=CatalogHeader).changes)
    acme = Account("acme", 1, timezone="Asia/Tokyo", members=("ada",))
    key = Key("k2", "bb" * 32, "acme", frozenset({Scope.REPORT}), 8, 99)
    assert (dict(catalog.accounts), dict(catalog.keys), catalog.numbers_given) == ({"acme": acme}, {key.digest: key}, 1)
    told = [record for header in headers for record in audit.records(header)]
    assert [(r.place, r.actor, r.action, r.target, r.account, r.number) for r in told] == [
        ((1, 0), "first start", "key.put", "k1", None, 0),
        ((2, 0), "event", "account.put", "acme", "acme", 1),
        ((3, 0), "k1", "account.put", "acme", "acme", 1),
        ((4, 1), "k1", "key.delete", "k1", None, 0),
        ((4, 0), "k1", "key.put", "k2", "acme", 0),
    ]
    assert (told[2].before, told[2].after, told[3].before) == (Account("acme", 1), acme, None)
    assert not any(digest in repr(told) for digest in ("aa" * 32, "bb" * 32))


@asynchronous
async def test_the_keeper_stores_when_keys_were_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look that is due writes what is new since the last one, so that a crash forgets little."""
    monkeypatch.setattr(keeper, "LOOK_EVERY_S", 60)
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        for id in ("k1", "k2"):
            await ledger.put_key(Key(id, id * 32, None, frozenset(Scope), 1), actor="test")
        db = ledger._connect_reader()
        stored: list[dict[str, int]] = []
        for uses in ({"k1": 5}, {"k1": 6, "k2": 6, "unknown": 6}, {}):
            for id, at in uses.items():
                ledger.note_key_use(id, at)
            await asyncio.to_thread(ledger._keeper.store_key_uses)
            stored.append(dict(file.rows(db, "SELECT id, at FROM key_use")))
        assert stored == [{"k1": 5}, {"k1": 6, "k2": 6}, {"k1": 6, "k2": 6}]
        assert ledger._uses.due(["k1", "k2"]) == {}
        db.close()


def test_the_keeper_stores_uses_about_once_a_minute() -> None:
    """Its looks are counted: a key that is used all the time costs a row a minute."""
    assert 30 <= keeper.USES_EVERY_LOOKS * keeper.LOOK_EVERY_S <= 90


@asynchronous
async def test_catalog_entries_are_found_by_an_index(tmp_path: Path) -> None:
    """Neither a start nor the audit reads the segments of all events to find them."""
    async with Desk(tmp_path).open():
        db = apsw.Connection(str(tmp_path / file.FILE_NAME))
        plan = f"EXPLAIN QUERY PLAN SELECT header FROM log WHERE {file.CATALOG_ENTRIES}"
        for order in ("ORDER BY entry", "AND entry <= 9 ORDER BY entry DESC LIMIT 5"):
            (step,) = db.execute(f"{plan} {order}").fetchall()
            assert "USING INDEX log_catalog" in str(step[-1])
        db.close()


@asynchronous
async def test_verify_checks_the_pages_of_every_table(tmp_path: Path) -> None:
    """A table that a migration adds is not forgotten."""
    async with Desk(tmp_path).open():
        db = apsw.Connection(str(tmp_path / file.FILE_NAME))
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        db.close()
    assert set(verify.TABLES) == tables
