"""A ledger copied to another place: what goes along, what is refused, and what comes out when something goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from tallystick.errors import LedgerError
from tallystick.ledger import comparing, copying
from tallystick.ledger.copying import Copied
from tallystick.ledger.packed.steps import Target
from tallystick.ledger.postgres import copy_source, copy_state, identities, locks
from tallystick.ledger.postgres.copy_target import PostgresTarget
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.sqlite import file
from tallystick.ledger.sqlite.copy_target import SqliteTarget
from tallystick.model import (
    Account,
    AccountKind,
    AuditQuery,
    EventQuery,
    Grant,
    GrantKind,
    HoldQuery,
    Key,
    RecordQuery,
    Scope,
)
from tallystick.windows import INSTANT_MAX, INSTANT_MIN
from tests.ledger.build import Desk, StillClock, asynchronous, audio, listed, query
from tests.ledger.conformance_metering import everything_of
from tests.ledger.define import delete, meter, put, put_rates, rates, upsert, work
from tests.ledger.script import Play
from tests.postgres import run

Tell = Callable[[str, int, int], None]
PLACES = ("folder", "database")
NODES = "nodes"
"""A database whose tables are spread over them."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps go into one transaction, and a server that was just closed is not taken for one that serves."""
    monkeypatch.setattr(copying, "GROUP_STEPS", 4)
    monkeypatch.setattr(copy_source, "ACTIVE_S", 0)


def quiet(what: str, done: int, all: int) -> None:
    """Let nobody hear how far a copy is."""


def copied(origin: str | Path, place: str | Path, tell: Tell = quiet) -> Copied:
    return copying.copy(str(origin), str(place), Desk("memory:").settings, tell, StillClock())


async def lived(desk: Desk) -> None:
    """Make a ledger with something of everything in it."""
    async with desk.open() as ledger:
        await ledger.put_account(Account("acme", 0, AccountKind.ORG, "Europe/Prague", ("ada", "bob")), actor="ada")
        await ledger.put_account(Account("gone", 0), actor="ada")
        await put_rates(ledger, "prices", rates(red=500_000))
        await put(ledger, meter())
        await ledger.put_key(Key("k", "digest", "acme", frozenset({Scope.REPORT}), desk.clock()), actor="ada")
        ledger.note_key_use("k", desk.clock() + 7)
        play = Play(desk, ledger)
        for line in (
            "limit 100 1d thresholds=1,50 kind=red",
            "limit 9 1h id=short property=count",
            "hold open 3 kind=red ttl=1h",
            "hold over 2 kind=red ttl=1m",
            "hold settled 5 kind=red",
            "settle settled 4 kind=red",
            "hold released 1",
            "release released",
            "use 7 kind=red",
            "tick 2m",
            "use 1 kind=blue at=2024-01-31T23:59:59Z",
            "unlimit short",
            "limit 5 1h id=short property=count thresholds=10",
            "use 1 kind=red",
        ):
            await play.line(line)
        await ledger.put_grant(Grant("limit", "more", GrantKind.EXTENSION, 50, 0, 0), actor="ada")
        await desk.send(ledger, audio("a1", 1.5, account="acme"), audio("g1", 60, account="globex"), work("w9"))
        await desk.send(
            ledger, upsert("u1", "image", "i", at=1), upsert("u2", "image", "j", at=2), delete("d1", "image", "i", at=3)
        )
        await desk.send(ledger, upsert("v1", "verification", "v", at=4, state="performed", type="message", duration=1))
        await put(ledger, meter(), start=INSTANT_MIN)
        await desk.send(ledger, work("late", 3))
        await ledger.delete_account("gone", actor="bob")


async def said(desk: Desk) -> dict[str, Any]:
    """Ask a ledger for everything that can be asked."""
    async with desk.open() as ledger:
        tables = [
            (await ledger.usage([query(meter=name, group_by=("account",))]))[0]
            for name in sorted(ledger.catalog.meters)
        ]
        page = await ledger.events(EventQuery(None))
        return {
            "catalog": ledger.catalog,
            "usage": [(table.as_of, list(table.rows), table.total) for table in tables],
            "events": [(row.sequence, row.recorded, row.raw, row.postings) for row in page.rows],
            "holds": [list(await ledger.holds(HoldQuery(name))) for name in sorted(ledger.catalog.accounts)],
            "crossings": [list(await ledger.crossings(id)) for id in sorted(ledger.catalog.limits)],
            "resources": [await everything_of(ledger, name) for name in sorted(ledger.catalog.accounts)],
            "records": list(
                (await ledger.records(RecordQuery("acme", "verifications", INSTANT_MIN, INSTANT_MAX))).records
            ),
            "uses": dict(ledger.key_uses),
            "audit": [replace(record, place=(0, 0)) for record in (await ledger.audit(AuditQuery(200))).records],
        }


def place_of(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str | Path:
    """Name a place of a kind where there is no ledger."""
    if kind == "folder":
        return tmp_path / "copy"
    return str(request.getfixturevalue("postgres_split" if kind == NODES else "postgres"))


@pytest.mark.parametrize("kind", [*PLACES, NODES])
def test_a_copy_and_a_copy_of_it_have_everything(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Sequences and times too; what comes from a folder is the same again when it has been in a database."""
    desk = Desk(tmp_path / "ledger")
    asyncio.run(lived(desk))
    before = asyncio.run(said(desk))
    place = place_of(kind, tmp_path, request)
    made = copied(desk.url, place)
    assert (made.faults, made.events) == ([], len(before["events"]))
    assert asyncio.run(said(Desk(place, desk.clock))) == before
    assert copied(place, tmp_path / "back").faults == []
    assert asyncio.run(said(Desk(tmp_path / "back", desk.clock))) == before


def test_a_ledger_that_is_spread_over_nodes_is_copied(tmp_path: Path, postgres_split: str) -> None:
    """What commits of single accounts made of batches is all there, in the order it has; Citus takes what is asked."""
    desk = Desk(postgres_split, is_split=True)
    asyncio.run(lived(desk))
    before = asyncio.run(said(desk))
    made = copied(desk.url, tmp_path / "copy")
    assert (made.faults, made.events) == ([], len(before["events"]))
    assert asyncio.run(said(Desk(tmp_path / "copy", desk.clock))) == before
    assert asyncio.run(said(desk)) == before


def test_identities_go_along_for_ever(tmp_path: Path, postgres: str) -> None:
    """What is sent again after the copy is a duplicate, and what was changed is a conflict."""
    desk = Desk(tmp_path / "ledger")
    asyncio.run(lived(desk))
    assert copied(desk.url, postgres).faults == []

    async def again() -> list[str]:
        there = Desk(postgres, desk.clock)
        async with there.open() as ledger:
            return await there.send(ledger, work("w9"), work("w9", 2), work("new"))

    assert asyncio.run(again()) == ["duplicate", "conflict id_reused", "accepted"]


def test_what_was_counted_stays_what_it_was(tmp_path: Path, postgres: str) -> None:
    """Events keep the amounts of the meter and the rates of their day, and new ones get those of today."""
    desk = Desk(tmp_path / "ledger")

    async def counted_twice() -> None:
        async with desk.open() as ledger:
            await put(ledger, meter())
            await desk.send(ledger, work("before", 5))
            await put(ledger, meter(quantity=None))
            await desk.send(ledger, work("after", 5))

    asyncio.run(counted_twice())
    assert copied(desk.url, postgres).faults == []

    async def total() -> int:
        async with Desk(postgres, desk.clock).open() as ledger:
            await desk.send(ledger, work("today", 5))
            (table,) = await ledger.usage([query(meter="work")])
            return table.total.sum

    assert asyncio.run(total()) == 5 + 1 + 1


def test_gaps_between_sequences_are_closed(tmp_path: Path, postgres: str) -> None:
    """A transaction that was given up leaves a gap in a database; a copy counts on without it, recounts too."""
    desk = Desk(postgres)

    async def with_gaps() -> list[str]:
        async with desk.open() as ledger:
            for number in range(5):
                await desk.send(ledger, work(f"a{number}"), work(f"b{number}", account="globex"), work(f"c{number}"))
                with psycopg.connect(postgres, autocommit=True) as db:
                    db.execute("SELECT give_sequences(%s)", (number + 1,))
            await put(ledger, meter(), start=INSTANT_MIN)
            return await listed(ledger)

    before = asyncio.run(with_gaps())
    assert copied(postgres, tmp_path / "copy").faults == []

    async def sequences() -> tuple[list[int], list[str]]:
        async with Desk(tmp_path / "copy", desk.clock).open() as ledger:
            page = await ledger.events(EventQuery(None))
            return [row.sequence for row in page.rows], await listed(ledger)

    assert asyncio.run(sequences()) == (list(range(15, 0, -1)), before)


def test_sets_that_are_equal_are_compared_as_equal() -> None:
    """The order in which a set was filled may be that in which it is gone through, and says nothing."""
    one, other = frozenset((0, 8)), frozenset((8, 0))
    assert [*one] != [*other]
    assert comparing._packed({"a": one}) == comparing._packed({"a": other})


# Refusals


def test_a_place_where_something_is_stays_as_it_is(tmp_path: Path, postgres: str) -> None:
    """A folder with anything in it, a ledger in a folder, and a ledger in a database."""
    desk = Desk(tmp_path / "ledger")
    asyncio.run(lived(desk))
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter").touch()
    asyncio.run(said(Desk(tmp_path / "other")))
    asyncio.run(said(Desk(postgres)))
    for place in (tmp_path / "papers", tmp_path / "other", postgres):
        with pytest.raises(LedgerError, match=r"not empty|already"):
            copied(desk.url, place)
    assert asyncio.run(said(Desk(postgres)))["events"] == []


@asynchronous
async def test_a_ledger_that_is_in_use_is_not_copied(tmp_path: Path, postgres: str) -> None:
    """A folder is locked by who has it open; a database is asked who has been at it."""
    async with Desk(tmp_path / "ledger").open():
        with pytest.raises(LedgerError, match="in use by process"):
            await asyncio.to_thread(copied, tmp_path / "ledger", tmp_path / "copy")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(copy_source, "ACTIVE_S", 15)
        async with Desk(postgres).open() as ledger:
            await ledger.current()
            with pytest.raises(LedgerError, match="is in use"):
                await asyncio.to_thread(copied, postgres, tmp_path / "copy")


def test_a_ledger_that_changes_is_waited_for_and_not_copied(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody in the midst of a commit has a lock that a copy needs for itself alone."""
    monkeypatch.setattr(copy_source, "ALONE_S_MAX", 0.1)
    asyncio.run(lived(Desk(postgres)))
    with psycopg.connect(postgres) as db:
        db.execute("SELECT pg_advisory_xact_lock_shared(x'746c6c7902'::bigint)")
        with pytest.raises(LedgerError, match="in use, by a server or another copy"):
            copied(postgres, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_ledger_of_a_newer_format_is_not_copied(tmp_path: Path, postgres: str) -> None:
    """Neither from a folder nor from a database."""
    asyncio.run(said(Desk(tmp_path / "ledger")))
    asyncio.run(said(Desk(postgres)))
    db = file.connect(tmp_path / "ledger", writes=True)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE ledger SET value = '99' WHERE name = 'format'")
    for origin in (tmp_path / "ledger", postgres):
        with pytest.raises(LedgerError, match="format 99"):
            copied(origin, tmp_path / "copy")


def test_there_has_to_be_a_ledger_to_copy(tmp_path: Path, postgres: str) -> None:
    """A folder or a database without one is more likely a slip of the pen."""
    for origin in (tmp_path / "nothing", postgres):
        with pytest.raises(LedgerError, match="no ledger"):
            copied(origin, tmp_path / "copy")
    assert not (tmp_path / "nothing").exists()


# What is cut short


class Stopped(Exception):
    """A copy that was cut short."""


def stopping(after: int) -> Tell:
    """Stop a copy after so many calls."""
    calls = iter(range(after))

    def tell(what: str, done: int, all: int) -> None:
        if next(calls, None) is None:
            raise Stopped

    return tell


@pytest.mark.parametrize("kind", [*PLACES, NODES])
def test_a_copy_that_was_cut_short_stays_closed_and_goes_on(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Cut short again and again, each time a little later, up to the last comparison."""
    desk = Desk(tmp_path / "ledger")
    asyncio.run(lived(desk))
    before = asyncio.run(said(desk))
    place = place_of(kind, tmp_path, request)
    cuts = 0
    while True:
        try:
            copied(desk.url, place, stopping(7 + 9 * cuts))
            break
        except Stopped:
            cuts += 1
            with pytest.raises(LedgerError, match="not complete"):
                asyncio.run(said(Desk(place)))
            with pytest.raises(LedgerError, match="not complete"):
                copied(place, tmp_path / "third")
    assert cuts > 5
    assert asyncio.run(said(Desk(place, desk.clock))) == before


@pytest.mark.parametrize("kind", PLACES)
def test_a_copy_goes_on_from_the_ledger_that_it_was_begun_from(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """From another one it does not, even where that has more in it."""
    asyncio.run(lived(Desk(tmp_path / "ledger")))
    asyncio.run(said(Desk(tmp_path / "other", StillClock(7))))
    asyncio.run(lived(Desk(tmp_path / "other")))
    place = place_of(kind, tmp_path, request)
    with pytest.raises(Stopped):
        copied(tmp_path / "ledger", place, stopping(15))
    with pytest.raises(LedgerError, match=r"unfinished copy of .*ledger, not of"):
        copied(tmp_path / "other", place)
    assert copied(tmp_path / "ledger", place).faults == []


def test_a_server_that_starts_as_a_copy_begins_changes_nothing_in_it(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked before the copy began, and looks again before it writes the meters that are there from the start."""
    asyncio.run(lived(Desk(tmp_path / "ledger")))
    with pytest.raises(Stopped):
        copied(tmp_path / "ledger", postgres, stopping(0))
    refuse, looks = copy_state.refuse, iter(range(1))

    def late(db: Any, name: str) -> None:
        if next(looks, None) is None:
            refuse(db, name)

    monkeypatch.setattr(copy_state, "refuse", late)
    with pytest.raises(LedgerError, match="not complete"):
        asyncio.run(said(Desk(postgres)))
    monkeypatch.undo()
    monkeypatch.setattr(copy_source, "ACTIVE_S", 0)
    assert copied(tmp_path / "ledger", postgres).faults == []


@pytest.mark.parametrize("lost", ["origin", "place"])
def test_a_copy_goes_on_when_a_connection_was_lost(lost: str, tmp_path: Path, postgres: str) -> None:
    """The database closes every connection in the midst of it; the same command again carries it to the end."""
    desk = Desk(postgres if lost == "origin" else tmp_path / "ledger")
    place = tmp_path / "copy" if lost == "origin" else postgres
    asyncio.run(lived(desk))
    before = asyncio.run(said(desk))
    calls = iter(range(9))

    def tell(what: str, done: int, all: int) -> None:
        if next(calls, None) is None:
            with psycopg.connect(postgres, autocommit=True) as db:
                db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tallystick copy'"
                )

    with pytest.raises(LedgerError, match="Run the same command again"):
        copied(desk.url, place, tell)
    assert copied(desk.url, place).faults == []
    assert asyncio.run(said(Desk(place, desk.clock))) == before


def dying(after: int, *, is_committed: bool) -> Any:
    """Make transactions of which one, the last, is cut short: as its COMMIT is due, or as it was done."""
    begun, true = iter(range(1, after)), locks.transaction

    @contextlib.contextmanager
    def transaction(db: Db) -> Iterator[None]:
        is_last = next(begun, None) is None
        with true(db):
            yield
            if is_last and not is_committed:
                raise Stopped
        if is_last:
            raise Stopped

    return transaction


def test_a_copy_over_nodes_may_be_cut_short_at_any_commit(
    tmp_path: Path, postgres_split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its many transactions is there once or not yet, also where it goes on in steps of another size."""
    desk = Desk(tmp_path / "ledger")
    asyncio.run(lived(desk))
    before = asyncio.run(said(desk))
    cuts = 0
    while cuts == 0 or run(postgres_split, "SELECT 1 FROM ledger WHERE name = 'copying'"):
        with monkeypatch.context() as patched:
            patched.setattr(copying, "GROUP_STEPS", 1 + cuts * 5 % 7)
            patched.setattr(locks, "transaction", dying(2 + cuts % 3 + cuts // 8, is_committed=cuts % 2 == 0))
            with contextlib.suppress(Stopped):
                assert copied(desk.url, postgres_split).faults == []
            cuts += 1
    assert cuts > 10
    assert asyncio.run(said(Desk(postgres_split, desk.clock))) == before


OF_ACCOUNTS = ("entry", "frame", "posting", "identity", "series", "hold", "crossing", "resource", "space", "record")


def test_over_nodes_no_transaction_of_a_copy_is_about_two_accounts(tmp_path: Path, postgres_split: str) -> None:
    """The database itself says which of its transactions wrote a row."""
    asyncio.run(lived(Desk(tmp_path / "ledger")))
    assert copied(tmp_path / "ledger", postgres_split).faults == []
    rows = " UNION ALL ".join(f"SELECT xmin::text AS wrote, account FROM {table}" for table in OF_ACCOUNTS)
    wrote = run(postgres_split, f"SELECT count(DISTINCT account) FROM ({rows}) w GROUP BY wrote")
    assert len(wrote) > 10
    assert {*wrote} == {(1,)}
    assert run(postgres_split, "SELECT count(*) FROM replayed WHERE epoch = 0") == [(0,)]


@pytest.mark.parametrize("kind", ["database", NODES])
def test_identities_with_one_fingerprint_are_copied_as_different_events(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each goes on to a fingerprint that is free, in and across transactions, and is known there ever after."""
    true = identities.fingerprints
    monkeypatch.setattr(
        identities, "fingerprints", lambda secret, salt, *names: true(secret, salt, *names) % 3 + np.uint64(10 * salt)
    )
    desk, place = Desk(tmp_path / "ledger"), place_of(kind, tmp_path, request)
    sent = [work(str(number), account=("acme", "globex")[number % 2]) for number in range(12)]

    async def send(at: Desk) -> list[str]:
        async with at.open() as ledger:
            await put(ledger, meter())
            return [*(await at.send(ledger, *sent[:7])), *(await at.send(ledger, *sent[7:]))]

    assert asyncio.run(send(desk)) == ["accepted"] * 12
    assert copied(desk.url, place).faults == []
    assert asyncio.run(send(Desk(place, desk.clock))) == ["duplicate"] * 12


# What is not the same


LOST = {
    "a hold": ("DELETE FROM hold WHERE id = 'open'", "holds"),
    "a resource": ("DELETE FROM resource WHERE id = 'j'", "resources"),
    "a crossed threshold": ("DELETE FROM crossing", "crossed thresholds"),
    "a record": ("DELETE FROM record", "records"),
    "the use of a key": ("DELETE FROM key_use", "times of use"),
}


@pytest.mark.parametrize("what", [*LOST])
@pytest.mark.parametrize("kind", PLACES)
def test_what_is_lost_on_the_way_is_found(
    kind: str, what: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is not complete then, and stays closed."""
    asyncio.run(lived(Desk(tmp_path / "ledger")))
    statement, named = LOST[what]
    place = place_of(kind, tmp_path, request)
    target: type[Target] = SqliteTarget if kind == "folder" else PostgresTarget
    finish = target.finish

    def losing(self: Any, key_uses: dict[str, int]) -> None:
        finish(self, key_uses)
        if isinstance(place, Path):
            self._do(lambda db: db.execute(statement))
        else:
            self._db.execute(statement)

    monkeypatch.setattr(target, "finish", losing)
    faults = copied(tmp_path / "ledger", place).faults
    assert any(named in fault.detail and "not the same" in fault.detail for fault in faults), faults
    with pytest.raises(LedgerError, match="not complete"):
        asyncio.run(said(Desk(place)))


def test_a_source_that_is_damaged_is_not_copied(tmp_path: Path) -> None:
    """Bytes that are not what was written go no further."""
    asyncio.run(lived(Desk(tmp_path / "ledger")))
    db = file.connect(tmp_path / "ledger", writes=True)
    other = "SELECT columns FROM log WHERE columns IS NOT NULL ORDER BY entry DESC"
    db.execute(f"UPDATE log SET columns = ({other}) WHERE kind = 1")
    db.close()
    with pytest.raises(LedgerError, match="cannot be read"):
        copied(tmp_path / "ledger", tmp_path / "copy")
