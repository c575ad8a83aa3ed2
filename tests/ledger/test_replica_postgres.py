"""Processes on a hot standby: what they answer is the primary's, as of what is replayed; what writes is refused."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tallystick.admission import Asked, hold_of
from tallystick.errors import Code, LedgerError, Problem
from tallystick.ledger.open import migrate_ledger
from tallystick.ledger.postgres import pool, replica
from tallystick.ledger.postgres.committing import Committer
from tallystick.ledger.postgres.ledger import PostgresLedger
from tallystick.model import (
    Account,
    AuditQuery,
    EventQuery,
    Grant,
    GrantKind,
    HoldMode,
    HoldQuery,
    Key,
    Limit,
    LiveQuery,
    Property,
    ResourceQuery,
    Scope,
)
from tallystick.settings import Settings
from tallystick.windows import Period
from tests.api import traffic
from tests.api.client import HOUR, OPERATOR, World
from tests.cli.test_root import tallystick_command
from tests.dashboard.person import Person, csrf_in
from tests.ledger.build import Desk, asynchronous, audio, listed, total
from tests.ledger.define import meter, put, rates, work
from tests.postgres import run, split
from tests.server import serving
from tests.standby import Primary, Standby, named, primary

EVENTS, QUESTIONS = 400, 120
LOOKED_S_MAX = 20


@pytest.fixture(scope="module")
def server() -> Iterator[Primary]:
    """A primary for the tests of this file."""
    with primary() as found:
        yield found


@pytest.fixture(scope="module")
def standby(server: Primary) -> Iterator[Standby]:
    """A standby that no test promotes."""
    with server.standby() as found:
        yield found


@pytest.fixture
def desks(server: Primary, standby: Standby) -> tuple[Desk, Desk]:
    """A desk on an empty database, and one on its replica, with one clock."""
    database = server.database()
    one = Desk(named(server.url, database))
    standby.caught_up()
    return one, Desk(named(standby.url, database), one.clock)


async def eventually(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(LOOKED_S_MAX):
        while not true():
            await asyncio.sleep(0.02)


# What is read


@asynchronous
async def test_replies_of_a_replica_are_those_of_the_primary(server: Primary, standby: Standby) -> None:
    """Native usage and the reports of five vendors, limits, holds, events, the audit: the same to the byte."""
    database = server.database()
    settings = Settings(operator_key=OPERATOR, label_sets_max=100_000)
    written = World(settings, folder=named(server.url, database))
    try:
        for name in traffic.ACCOUNTS:
            await written.account(name)
        limit = {"account": "org-00", "meter": "audio", "property": "quantity", "period": "month", "amount": "9000000"}
        assert (await written.ask("PUT", "/v1/limits/most", {**limit, "timezone": "UTC"})).status == 201
        hold = {"id": "h", "account": "org-00", "meter": "audio", "labels": {}, "quantity": "7", "ttl": "PT1H"}
        assert (await written.ask("POST", "/v1/holds", hold)).status == 201
        await written.ingest(*islice(traffic.events(3, EVENTS), EVENTS))
        standby.caught_up()
        read = World(settings, folder=named(standby.url, database), keys=written.keys)
        try:
            targets = [(target, key, "token" if kind == "visii" else "Bearer") for kind, target, key in asked()]
            for target, key, scheme in targets:
                both = [
                    await world.ask("GET", target, key=key, scheme=scheme, headers=IDS) for world in (written, read)
                ]
                assert both[0] == both[1], target
            person = Person(read)
            await person.sign_in()
            for page in ("usage", "limits", "events", "vendors", "administration/accounts", "administration/audit"):
                assert (await person.get(f"/dashboard/{page}")).status == 200, page
            form = await person.get("/dashboard/administration/accounts")
            made = await person.post(
                "/dashboard/administration/accounts",
                csrf=csrf_in(form),
                do="put",
                account="new",
                kind="org",
                timezone="UTC",
                members="",
            )
            assert "only reads a replica" in made.body.decode()
        finally:
            await read.app.close()
    finally:
        await written.app.close()


IDS = {"X-Request-Id": "one-and-the-same", "X-Correlation-Id": "one-and-the-same"}


def asked() -> Iterator[traffic.Question]:
    """Yield questions about usage, and what else there is to read."""
    yield from traffic.questions(3, QUESTIONS)
    for target in (
        "/v1/events?limit=500",
        "/v1/events?account=org-01",
        "/v1/export?format=csv&from=2026-10-01T00:00:00Z&to=2026-12-01T00:00:00Z",
        "/v1/limits",
        "/v1/limits/most",
        "/v1/limits/most/thresholds",
        "/v1/holds?account=org-00",
        "/v1/holds/h",
        "/v1/accounts/org-00/resources",
        "/v1/accounts",
        "/v1/meters",
        "/v1/rates",
        "/v1/audit",
    ):
        yield "native", target, "operator"


@asynchronous
async def test_a_replica_that_stands_still_answers_as_of_then(desks: tuple[Desk, Desk], standby: Standby) -> None:
    """While nothing is replayed, as_of and numbers stand still together, and the lag grows; then all of it is there."""
    on_primary, on_standby = desks
    async with on_primary.open() as written:
        await on_primary.send(written, audio("1", 10))
        standby.caught_up()
        async with on_standby.open() as read:
            before = await read.as_of([])
            assert before == await written.as_of([])
            await eventually(lambda: lag(read) == 0)
            standby.pause()
            try:
                on_primary.clock.advance(60)
                await on_primary.send(written, audio("2", 20), audio("3", 30))
                await eventually(lambda: (lag(read) or 0) > 0.1)
                assert await read.as_of([]) == before
                found = await total(read)
                assert (found.count, found.sum) == (1, 10_000_000)
                assert await listed(read) == ["1"]
                assert (await read.verify()).faults == ()
            finally:
                standby.resume()
            standby.caught_up()
            assert await read.as_of([]) == await written.as_of([])
            assert await total(read) == await total(written)
            await eventually(lambda: lag(read) == 0)


def lag(ledger: Any) -> float | None:
    """Return how far a reader says that it is behind."""
    found = ledger.vitals().replica
    assert found is not None
    lag_s: float | None = found.lag_s
    return lag_s


@asynchronous
async def test_a_hold_that_was_renewed_is_not_over_before_that_is_replayed(
    desks: tuple[Desk, Desk], standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that is behind goes by the moment up to which it has replayed, not by a clock that is ahead of it."""
    on_primary, on_standby = desks
    async with on_primary.open() as written:
        await put(written, meter())
        await written.put_account(Account("acme", 0), actor="test")
        standby.caught_up()
        async with on_standby.open() as read:
            assert isinstance(read, PostgresLedger)
            assert read._watch is not None
            now = on_primary.clock()
            monkeypatch.setattr(read._watch, "behind", None)
            assert read.now == now
            monkeypatch.setattr(read._watch, "behind", now - HOUR)
            assert read.now == now - HOUR


@asynchronous
async def test_a_listing_over_accounts_waits_for_what_is_under_way(
    desks: tuple[Desk, Desk], standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has a lower sequence than what is replayed is waited for, or the listing is refused: nothing is passed by."""
    monkeypatch.setattr(replica, "UNDER_WAY_S_MAX", 0.1)
    monkeypatch.setattr(pool, "TRIES_MAX", 2)
    on_primary, on_standby = desks
    stands, goes_on = threading.Event(), threading.Event()
    true = Committer._append

    def standing(self: Committer, *arguments: Any) -> Any:
        kept = true(self, *arguments)
        if not stands.is_set():
            stands.set()
            assert goes_on.wait(60)
        return kept

    async with on_primary.open() as one, on_primary.open() as other:
        await on_primary.send(one, audio("0", account="a"), audio("1", account="b"))
        await other.current()
        monkeypatch.setattr(Committer, "_append", standing)
        slow = asyncio.ensure_future(on_primary.send(one, audio("2", account="a")))
        await asyncio.to_thread(stands.wait)
        await on_primary.send(other, audio("3", account="b"))
        standby.caught_up()
        async with on_standby.open() as read:
            assert await listed(read, accounts=("b",)) == ["3", "1"]
            with pytest.raises(Problem) as refused:
                await listed(read)
            assert refused.value.code is Code.UNAVAILABLE
            goes_on.set()
            await slow
            standby.caught_up()
            assert await listed(read, oldest_first=True) == ["0", "1", "2", "3"]


@asynchronous
async def test_a_listing_over_accounts_leaves_nothing_out_while_the_primary_is_written(
    desks: tuple[Desk, Desk], standby: Standby
) -> None:
    """Whoever follows the events of all accounts at a replica, page by page, meets each of them once."""
    on_primary, on_standby = desks
    async with on_primary.open() as one, on_primary.open() as other:
        await on_primary.send(one, *(audio(f"seed {n}", account=f"org-{n}") for n in range(3)))
        await other.current()
        standby.caught_up()

        async def write(ledger: Any, who: str) -> None:
            for turn in range(12):
                await on_primary.send(ledger, *(audio(f"{who} {turn} {n}", account=f"org-{n}") for n in range(3)))

        async with on_standby.open() as read:
            writing = [asyncio.create_task(write(one, "a")), asyncio.create_task(write(other, "b"))]
            seen: list[str] = []
            after = 0
            while len(seen) < 75:
                is_over = all(task.done() for task in writing)
                standby.caught_up() if is_over else None
                page = await read.events(EventQuery(None, limit=7, oldest_first=True, after=after))
                seen += [json.loads(row.raw)["id"] for row in page.rows]
                after = page.rows[-1].sequence if page.rows else after
                assert not is_over or page.rows, "events are missing"
            assert len(set(seen)) == 75


# What is refused


@asynchronous
async def test_whatever_writes_is_refused_and_nothing_is_tried(desks: tuple[Desk, Desk], standby: Standby) -> None:
    """Events, holds and every change of the catalog are told where to go, and the replica is never asked to write."""
    on_primary, on_standby = desks
    async with on_primary.open() as written:
        await put(written, meter())
        await written.put_account(Account("acme", 0), actor="test")
        await on_primary.send(written, work("1", 1))
        await written.put_key(Key("k", "aa" * 32, "acme", frozenset(Scope), 1), actor="test")
        standby.caught_up()
        async with on_standby.open(primary_url="https://meter.example") as read:
            read.note_key_use("k", on_standby.clock())
            batch = on_standby.batch(read, work("2", 1))
            key = Key("l", "bb" * 32, "acme", frozenset(Scope), 1)
            for refused in writes(read, batch, key):
                with pytest.raises(Problem) as told:
                    await refused
                assert (told.value.code, told.value.retry_after_s) == (Code.READ_ONLY, 60)
                assert "https://meter.example" in told.value.detail
            assert isinstance(read, PostgresLedger)
            assert read._watch is not None
            looks = read._watch._looks
            await eventually(lambda: read._watch is not None and read._watch._looks >= looks + 2)
            assert [*await read.holds(HoldQuery("acme"))] == []
            assert [*await read.live(LiveQuery("acme"))] == []
            assert [*await read.resources(ResourceQuery("acme"))] == []
            assert (await read.audit(AuditQuery(10))).records
    log = (standby.home / "log").read_text()
    assert "read-only transaction" not in log
    assert "during recovery" not in log


def writes(read: Any, batch: Any, key: Key) -> Iterator[Awaitable[Any]]:
    """Yield every call of a ledger that writes."""
    limit = Limit("l", "acme", "work", Property.QUANTITY, 0, Period.MONTH, 9)
    asked = Asked("acme", "h", "work", {}, Decimal(1), 1, 60_000_000, HoldMode.CHECK_ONLY)
    hold = hold_of(asked, read.catalog, read.now, text_length_max=256)
    calls = {"actor": "test"}
    yield read.commit(batch)
    yield read.put_account(Account("other", 0), **calls)
    yield read.delete_account("acme", **calls)
    yield read.delete_account("nobody", **calls)
    yield read.put_key(key, **calls)
    yield read.rotate_key("k", key, ends=1, **calls)
    yield read.delete_key("k", **calls)
    yield read.put_meter(meter("other"), **calls)
    yield read.delete_meter("work", **calls)
    yield read.put_rates("t", rates(a=1), **calls)
    yield read.put_limit(limit, **calls)
    yield read.delete_limit("l", **calls)
    yield read.put_grant(Grant("l", "g", GrantKind.BASE, 1, 0, 0), **calls)
    yield read.delete_grant("l", "g", **calls)
    yield read.reserve(hold, catalog_version=1)
    yield read.renew("acme", "h", ttl=None, quantity=None)
    yield read.release("acme", "h")
    yield read.settle("acme", "h", batch)


@asynchronous
async def test_a_replica_without_a_ledger_that_can_be_read_is_refused(
    desks: tuple[Desk, Desk], standby: Standby
) -> None:
    """Before there are tables, where they are spread over nodes, and while a ledger is copied into the primary."""
    on_primary, on_standby = desks
    with pytest.raises(LedgerError, match="migrate on the primary first"):
        async with on_standby.open():
            pass
    migrate_ledger(str(on_primary.url))
    standby.caught_up()
    async with on_standby.open() as read:
        run(str(on_primary.url), """INSERT INTO ledger VALUES ('copying', '{"origin":"elsewhere"}')""")
        standby.caught_up()
        with pytest.raises(Problem, match="not complete"):
            await read.current()
    run(str(on_primary.url), "DELETE FROM ledger WHERE name = 'copying'")
    split(str(on_primary.url))
    standby.caught_up()
    with pytest.raises(LedgerError, match="spread over nodes"):
        async with on_standby.open():
            pass
    with pytest.raises(LedgerError, match="Name the primary"):
        migrate_ledger(str(on_standby.url))


# Roles


@asynchronous
async def test_a_primary_that_allows_no_writing_is_read_as_well(desks: tuple[Desk, Desk]) -> None:
    """Options of the URL are enough for a process that only reads, and is never behind."""
    on_primary, _ = desks
    async with on_primary.open() as written:
        await on_primary.send(written, audio("1"))
        url = f"{on_primary.url}&options=-c%20default_transaction_read_only%3Don"
        async with Desk(url, on_primary.clock).open() as read:
            assert await total(read) == await total(written)
            assert await listed(read) == ["1"]
            assert lag(read) == 0
            with pytest.raises(Problem, match="only reads"):
                await on_primary.send(read, audio("2"))


@asynchronous
async def test_a_replica_that_is_promoted_is_read_on_until_the_process_is_started_again(server: Primary) -> None:
    """It says so, and refuses as before; a process that is started then writes, and the reader sees what it wrote."""
    with server.standby() as own:
        database = server.database()
        on_primary = Desk(named(server.url, database))
        async with on_primary.open() as written:
            await on_primary.send(written, audio("1"))
        own.caught_up()
        on_standby = Desk(named(own.url, database), on_primary.clock)
        async with on_standby.open() as read:
            own.promote()
            await eventually(lambda: is_promoted(read))
            with pytest.raises(Problem, match="start this server again"):
                await on_standby.send(read, audio("2"))
            async with on_standby.open() as written:
                assert written.vitals().replica is None
                assert await on_standby.send(written, audio("1"), audio("2")) == ["duplicate", "accepted"]
                assert await listed(read) == ["2", "1"]
                assert (await written.verify()).faults == ()


def is_promoted(ledger: Any) -> bool:
    """Say whether a reader has seen that its database takes writes."""
    found = ledger.vitals().replica
    return found is not None and bool(found.is_promoted)


def test_a_server_on_a_replica_answers_reports_and_refuses_the_rest(
    server: Primary, standby: Standby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ready as a reader, tells its lag, and names the primary; commands read the replica too."""
    database = server.database()
    monkeypatch.chdir(tmp_path)
    asyncio.run(kept(Desk(named(server.url, database))))
    standby.caught_up()
    monkeypatch.setenv("TALLYSTICK_URL", named(standby.url, database))
    environ = {"TALLYSTICK_OPERATOR_KEY": OPERATOR, "TALLYSTICK_PRIMARY_URL": "https://meter.example"}
    with serving(None, "--url", named(standby.url, database), environ=environ) as reader:
        ready = reader.ask("GET", "/readyz", key=None).json
        assert (ready["status"], ready["reads_only"], ready["is_promoted"]) == ("ready", True, False)
        assert ready["lag_s"] >= 0
        assert b"tallystick_replica_lag_seconds" in reader.ask("GET", "/metrics", key=None).body
        refused = reader.ask("POST", "/v1/events", [audio("3")])
        assert (refused.status, refused.json["code"], refused.headers["retry-after"]) == (503, "read_only", "60")
        assert "https://meter.example" in refused.json["detail"]
        hold = {"id": "h", "account": "acme", "meter": "audio", "labels": {}, "quantity": "1", "mode": "check_only"}
        assert reader.ask("POST", "/v1/holds", hold).json["code"] == "read_only"
        assert reader.ask("POST", "/v1/events?dry_run=true", [audio("3")]).status == 200
        exported = reader.ask("GET", "/v1/export?format=ndjson").body
    for command in (
        ("usage", "--format", "json"),
        ("report", "vblaze", "usage", "--account", "acme"),
        ("verify", "--format", "json"),
    ):
        done = tallystick_command(*command)
        assert done.returncode == 0, done.stderr
    assert exported.count(b"\n") == 2


async def kept(desk: Desk) -> None:
    """Keep two events."""
    async with desk.open() as ledger:
        await desk.send(ledger, audio("1", 60), audio("2", 30.5))
