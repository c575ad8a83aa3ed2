"""What is peculiar to the ledger in PostgreSQL: several processes, lost connections, fingerprints that are alike."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from tallystick.errors import LedgerError
from tallystick.ledger.base import Ledger
from tallystick.ledger.open import open_ledger
from tallystick.ledger.postgres import catalog_log, folding, identities, locks, recounting, verify
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.committing import Committer
from tallystick.ledger.postgres.lanes import Lane
from tallystick.ledger.postgres.ledger import PostgresLedger
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.verify import CatalogReplay
from tallystick.model import Account, AuditQuery, EventQuery, Key, Limit, Property, Scope, Total
from tallystick.windows import Period
from tests.ledger.build import Desk, asynchronous, audio, listed, query, raw_of, text_of, total, usage
from tests.ledger.conformance import CONFLICT, EXCEEDED
from tests.ledger.conformance_metering import seen_in_one_moment
from tests.ledger.define import meter, put, work
from tests.postgres import end_connections, run


@pytest.fixture
def desk(postgres_ledger: str) -> Desk:
    """A clock, and a ledger with nothing in it."""
    return Desk(postgres_ledger)


async def fold(ledger: PostgresLedger) -> None:
    """Fold everything now."""

    def folded(db: Db) -> None:
        for account in folding.lagging(db, 1):
            assert folding.fold(db, ledger._cache, account)

    await ledger._read(folded)


# Fingerprints


@pytest.mark.parametrize("values", [1, 3])
@asynchronous
async def test_identities_with_one_fingerprint_are_different_events(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    """A fingerprint decides nothing: each identity counts once, whatever it is alike with, in and across batches."""
    true = identities.fingerprints

    def alike(
        secret: int, salt: int, accounts: Sequence[str], sources: Sequence[str], ids: Sequence[str]
    ) -> NDArray[np.uint64]:
        return true(secret, salt, accounts, sources, ids) % np.uint64(values) + np.uint64(1000 * salt)

    monkeypatch.setattr(identities, "fingerprints", alike)
    async with desk.open() as ledger:
        sent = [audio(str(n), n) for n in range(8)]
        assert await desk.send(ledger, *sent[:3], sent[1], audio("0", 7)) == ["accepted"] * 3 + ["duplicate", CONFLICT]
        said = await desk.send(ledger, *sent, audio("8"), sent[2])
        assert said == ["duplicate"] * 3 + ["accepted"] * 6 + ["duplicate"]
        assert (await total(ledger)).count == 9
        for n in range(8):
            kept = await ledger.event("acme", "test", str(n))
            assert kept is not None
            assert kept.raw == raw_of(sent[n])
        assert await ledger.event("acme", "test", "9") is None
        assert (await ledger.verify()).faults == ()


@asynchronous
async def test_what_a_refused_event_claimed_another_may_take(desk: Desk) -> None:
    """Of two events of one identity the first is refused, the second kept, and found under it from then on."""
    async with desk.open(label_sets_max=1) as ledger:
        await desk.send(ledger, audio("0", language="a"))
        said = await desk.send(
            ledger, audio("1", 2, language="b"), audio("1", 3, language="a"), audio("2", language="b")
        )
        assert said == [EXCEEDED, "accepted", EXCEEDED]
        assert await desk.send(ledger, audio("1", 3, language="a"), audio("2", language="a")) == [
            "duplicate",
            "accepted",
        ]
        assert (await total(ledger)).count == 3
        assert (await ledger.verify()).faults == ()


@asynchronous
async def test_an_event_is_found_behind_a_refused_one_that_was_in_its_way(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was led past an identity that was given back is met again all the same, and so is that one."""
    true = identities.fingerprints
    monkeypatch.setattr(identities, "fingerprints", lambda secret, salt, *names: true(0, 0, *names) * 0 + salt)
    async with desk.open(label_sets_max=1) as ledger:
        said = await desk.send(ledger, audio("0", language="a"), audio("1", language="b"), audio("2", language="a"))
        assert said == ["accepted", EXCEEDED, "accepted"]
        said = await desk.send(ledger, audio("2", language="a"), audio("1", language="a"), audio("1", language="a"))
        assert said == ["duplicate", "accepted", "duplicate"]
        assert (await ledger.verify()).faults == ()


# Several processes


@asynchronous
async def test_processes_share_accounts_keys_and_meters(desk: Desk) -> None:
    """What changed at one process is in force for the next request at another."""
    async with desk.open() as one, desk.open() as other:
        await one.put_account(Account("acme", 0), actor="test")
        await one.put_key(Key("k", "aa" * 32, "acme", frozenset({Scope.REPORT}), 1), actor="test")
        assert (await other.current()).key("k") is not None
        await other.delete_key("k", actor="test")
        assert (await one.current()).key("k") is None
        assert one.catalog == other.catalog


@asynchronous
async def test_one_event_at_two_processes_is_kept_once(desk: Desk) -> None:
    """Whoever comes second is told that it is a duplicate, or a conflict, however close they are."""
    async with desk.open() as one, desk.open() as other:
        await desk.send(one, audio("first"))
        await other.current()
        said: Counter[str] = Counter()
        for turn in range(12):
            events = [audio(f"{turn} {n}", n) for n in range(40)]
            both = await asyncio.gather(desk.send(one, *events), desk.send(other, *events[::-1]))
            for verdicts in both:
                said.update(verdicts)
        assert said == {"accepted": 480, "duplicate": 480}
        assert (await total(one)) == (await total(other)) == Total(481, 60_000_000 + 12 * 780_000_000, 0, 60_000_000)
        assert (await one.verify()).faults == ()


@asynchronous
async def test_many_accounts_at_two_processes_never_stand_in_each_others_way(desk: Desk) -> None:
    """Batches over the same accounts, in any order and with new label sets, all go through."""
    async with desk.open() as one, desk.open() as other:
        names = [f"org-{n}" for n in range(8)]
        await desk.send(one, *(audio("first", account=name) for name in names))
        await other.current()

        def batch(who: str, turn: int, order: int) -> list[dict[str, Any]]:
            return [
                audio(f"{who} {turn} {n}", 1, account=name, language=f"l{turn}{who if turn % 2 else ''}")
                for n, name in enumerate(names[::order])
            ]

        for turn in range(10):
            both = await asyncio.gather(desk.send(one, *batch("a", turn, 1)), desk.send(other, *batch("b", turn, -1)))
            assert set(both[0]) | set(both[1]) == {"accepted"}
        assert await usage(one, group_by=("account", "language")) == await usage(
            other, group_by=("account", "language")
        )
        assert (await total(one)).count == 8 + 160
        assert (await other.verify()).faults == ()


@asynchronous
async def test_the_bound_on_label_sets_holds_for_all_processes_together(desk: Desk) -> None:
    """Two processes that add label sets at once stay under the bound of a month."""
    async with desk.open(label_sets_max=10) as one, desk.open(label_sets_max=10) as other:
        await desk.send(one, audio("first", language="x"))
        await other.current()
        said: Counter[str] = Counter()
        for turn in range(8):
            both = await asyncio.gather(
                desk.send(one, *(audio(f"a{turn}{n}", language=f"a{turn}{n}") for n in range(2))),
                desk.send(other, *(audio(f"b{turn}{n}", language=f"b{turn}{n}") for n in range(2))),
            )
            for verdicts in both:
                said.update(verdicts)
        assert said == {"accepted": 9, EXCEEDED: 23}
        assert len((await usage(one, group_by=("language",))).rows) == 10


@asynchronous
async def test_a_listing_over_accounts_leaves_nothing_out_while_others_commit(desk: Desk) -> None:
    """Page by page, newest or oldest first, whatever was acknowledged before the first page is there once."""
    async with desk.open() as one, desk.open() as other:
        await desk.send(one, *(audio(f"seed {n}", account=f"org-{n % 3}") for n in range(30)))
        await other.current()

        async def write(ledger: Any, who: str) -> None:
            for turn in range(15):
                await desk.send(ledger, *(audio(f"{who} {turn} {n}", account=f"org-{n}") for n in range(3)))

        writing = [asyncio.create_task(write(one, "a")), asyncio.create_task(write(other, "b"))]
        while not all(task.done() for task in writing):
            before = (await one.as_of([])).sequence
            for oldest_first in (False, True):
                ids = await listed(other, oldest_first=oldest_first, limit=7)
                assert len(ids) == len(set(ids))
                assert len(ids) >= before
        assert len(await listed(one)) == 120


# Lost connections


@pytest.mark.parametrize("committed", [True, False])
@asynchronous
async def test_what_became_of_a_commit_is_found_out_when_the_connection_is_lost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """The event is accepted, and counted once, whether the connection ended before the server's COMMIT or after it."""
    lost = 0

    class Losing:
        """A connection that is gone once, at COMMIT."""

        def __init__(self, db: Db) -> None:
            self._db = db

        def __getattr__(self, name: str) -> Any:
            return getattr(self._db, name)

        def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal lost
            if statement == "COMMIT" and lost == 0:
                lost = 1
                if committed:
                    self._db.execute("COMMIT")
                self._db.close()
                raise psycopg.OperationalError("the connection is lost")
            return self._db.execute(statement, *arguments, **options)

    true: Callable[[Lane], Db] = Lane._connection
    monkeypatch.setattr(Lane, "_connection", lambda lane: Losing(true(lane)))
    async with desk.open() as ledger:
        await ledger.put_account(Account("acme", 0), actor="test")
        assert await desk.send(ledger, audio("1")) == ["accepted"]
        assert lost == 1
        assert await desk.send(ledger, audio("1"), audio("2")) == ["duplicate", "accepted"]
        assert (await total(ledger)).count == 2
        assert (await ledger.verify()).faults == ()


@pytest.mark.parametrize("committed", [True, False])
@asynchronous
async def test_what_became_of_a_change_is_found_out_when_the_connection_is_lost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """A key is deleted once, and the caller hears that it was, wherever the connection ended."""
    lost: list[str] = []

    def losing(name: str, true: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if lost == ["armed"]:
                lost.append(name)
                raise psycopg.OperationalError("the connection is lost")
            return true(*arguments)

        return call

    # One comes before the transaction ends, the other when it has.
    place: tuple[Any, str] = (CatalogLog, "take") if committed else (catalog_log, "logged")
    async with desk.open() as ledger:
        await ledger.put_key(Key("k", "aa" * 32, None, frozenset({Scope.REPORT}), 1), actor="test")
        monkeypatch.setattr(*place, losing(place[1], getattr(*place)))
        lost.append("armed")
        assert await ledger.delete_key("k", actor="test")
        assert lost == ["armed", place[1]]
        assert [record.action for record in (await ledger.audit(AuditQuery(10))).records] == ["key.delete", "key.put"]


@asynchronous
async def test_a_server_that_ends_every_connection_loses_nothing(desk: Desk) -> None:
    """Reads and commits go on over new connections."""
    async with desk.open() as ledger:
        await desk.send(ledger, audio("1"))
        for turn in range(3):
            end_connections(str(desk.url))
            assert (await total(ledger)).count == 1 + turn
            assert await desk.send(ledger, audio(f"after {turn}")) == ["accepted"]
            assert (await ledger.current()).accounts.keys() == {"acme"}


@asynchronous
async def test_a_process_that_stands_still_in_a_commit_holds_nobody_up_for_long(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends what it had begun; whoever goes on later begins it anew, and each event counts once."""
    monkeypatch.setattr(locks, "IDLE_S_MAX", 1)
    stands, goes_on = threading.Event(), threading.Event()
    true = Committer._append

    def standing(self: Committer, *arguments: Any) -> Any:
        kept = true(self, *arguments)
        if not stands.is_set():
            stands.set()
            assert goes_on.wait(60)
        return kept

    async with desk.open() as one, desk.open() as other:
        await desk.send(one, audio("0"))
        monkeypatch.setattr(Committer, "_append", standing)
        stopped = asyncio.ensure_future(desk.send(one, audio("1"), audio("2")))
        await asyncio.to_thread(stands.wait)
        assert await desk.send(other, audio("2"), audio("3")) == ["accepted", "accepted"]
        goes_on.set()
        assert await stopped == ["accepted", "duplicate"]
        assert (await total(one)).count == 4
        assert list((await other.verify()).faults) == []


@asynchronous
async def test_a_process_has_few_connections(desk: Desk) -> None:
    """As many as the page on running on PostgreSQL says, however much is asked at once."""
    async with desk.open() as ledger:
        works = [desk.send(ledger, audio(f"{n}")) for n in range(50)]
        reads = [total(ledger) for _ in range(50)]
        keys = [
            ledger.put_key(Key(f"k{n}", f"{n:064x}", None, frozenset({Scope.REPORT}), 1), actor="test")
            for n in range(20)
        ]
        await asyncio.gather(*works, *reads, *keys)
        await ledger.verify()
        ((count,),) = run(str(desk.url), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tallystick'")
        assert 6 <= count <= 12


# Replays


@asynchronous
async def test_a_replay_of_many_slices_is_seen_when_it_is_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then the earlier definition counts and answers, in reports and in listings."""
    monkeypatch.setattr(recounting, "SLICE_EVENTS", 20)
    await seen_in_one_moment(desk)


# Runs


@asynchronous
async def test_folding_changes_no_answer(desk: Desk) -> None:
    """Usage is the same before, between and after folds, at every grain, and so says the proof."""
    async with desk.open() as ledger:
        assert isinstance(ledger, PostgresLedger)
        asked = [
            query(group_by=("account", "language")),
            query("2024-02-10T10:07:00Z", "2024-03-05T00:15:00Z", "2024-05-01T00:00:00Z", group_by=("language",)),
        ]
        for turn in range(6):
            sent = [
                audio(
                    f"{turn} {n}",
                    n + 1,
                    account=f"org-{n % 2}",
                    at=text_of(desk.clock() - n * 3 * 10**11),
                    language="ab"[n % 2],
                )
                for n in range(30)
            ]
            assert set(await desk.send(ledger, *sent)) == {"accepted"}
            before = await ledger.usage(asked)
            if turn != 2:
                await fold(ledger)
            assert await ledger.usage(asked) == before
        assert run(str(desk.url), "SELECT count(*) FROM run") != [(0,)]
        assert run(str(desk.url), "SELECT sum(h.entries - f.position) FROM head h JOIN folded f USING (account)") == [
            (0,)
        ]
        assert (await ledger.verify()).faults == ()


# The proof


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        pytest.param("UPDATE head SET events = events + 1", "head", id="a head"),
        pytest.param("UPDATE entry SET recorded = recorded + 1", "columns", id="an entry"),
        pytest.param("UPDATE entry SET header = header || '\\x00'", "link", id="a header"),
        pytest.param(
            "UPDATE frame SET body = (SELECT body FROM frame f WHERE f.number <> frame.number LIMIT 1)",
            "frame",
            id="a frame",
        ),
        pytest.param("DELETE FROM identity WHERE place = 1", "identity", id="an identity"),
        pytest.param('UPDATE series SET labels = \'[["language","xx"]]\' WHERE number = 1', "series", id="a series"),
        pytest.param("UPDATE catalog_entry SET recorded = recorded + 1 WHERE entry = 2", "columns", id="the catalog"),
        pytest.param("DELETE FROM run WHERE grain = 2", "sum of its postings", id="a run"),
        pytest.param("UPDATE resource SET newest = 1, state = '{}'", "resource", id="a resource"),
    ],
)
@asynchronous
async def test_the_proof_finds_what_was_changed(desk: Desk, statement: str, says: str) -> None:
    """Whatever is not as the log says is a fault."""
    async with desk.open() as ledger:
        assert isinstance(ledger, PostgresLedger)
        await desk.send(ledger, audio("1", language="a"), audio("2", language="b"))
        image = {
            **audio("3"),
            "type": "resource.upserted",
            "data": {"kind": "image", "id": "i", "space": "s", "url": "u"},
        }
        await desk.send(ledger, audio("4", language="a"), image)
        await fold(ledger)
        assert (await ledger.verify()).faults == ()
        run(str(desk.url), statement)
        faults = (await ledger.verify()).faults
        assert any(says in f"{fault.where} {fault.detail}" for fault in faults), faults


Change = Callable[[Desk, Ledger], Coroutine[Any, Any, object]]


async def _meter_changes(desk: Desk, ledger: Ledger) -> None:
    await put(ledger, meter(where={"kind": {"red"}}))
    await desk.send(ledger, work("late", 5, account="b", kind="red"))


async def _meter_is_replayed(desk: Desk, ledger: Ledger) -> None:
    await put(ledger, meter("again"), start=0)
    await desk.send(ledger, work("late", 5, account="b"))


async def _limit_goes(desk: Desk, ledger: Ledger) -> None:
    await ledger.delete_limit("most", actor="test")


async def _limit_comes(desk: Desk, ledger: Ledger) -> None:
    limit = Limit("more", "b", "work", Property.QUANTITY, 0, Period.MONTH, 4, thresholds=(50,))
    await ledger.put_limit(limit, actor="test")
    await desk.send(ledger, work("late", 3, account="b"))


async def _limit_counts_something_else(desk: Desk, ledger: Ledger) -> None:
    limit = Limit("most", "b", "work", Property.QUANTITY, 0, Period.DAY, 9, (("kind", "red"),), thresholds=(50,))
    await ledger.put_limit(limit, actor="test")
    await desk.send(ledger, work("late", 5, account="b", kind="red"))


CHANGES = [_meter_changes, _meter_is_replayed, _limit_goes, _limit_comes, _limit_counts_something_else]


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_a_proof_is_made_is_no_fault(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """Meters and limits that change between the proofs of two accounts, and what is counted by them then, are right."""
    changed_in_a_proof(desk, change, 2, monkeypatch)


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_nodes_are_proved_is_looked_at_again(
    postgres_split: str, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """Where the catalog is read before the account's log, and no snapshot is of both, a change is no fault."""

    @contextmanager
    def snapshot(db: Db) -> Iterator[None]:
        with db.transaction():
            yield

    monkeypatch.setattr(verify, "snapshot", snapshot)
    changed_in_a_proof(Desk(postgres_split, is_split=True), change, 3, monkeypatch)


def changed_in_a_proof(desk: Desk, change: Change, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prove two accounts, with a change once the catalog was read so often: first, and for each account."""
    read: list[int] = []
    true = CatalogReplay.advance

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with desk.open() as ledger, desk.open() as other:
            await put(ledger, meter())
            for name in ("a", "b"):
                await ledger.put_account(Account(name, 0), actor="test")
            limit = Limit("most", "b", "work", Property.QUANTITY, 0, Period.MONTH, 9, thresholds=(50,))
            await ledger.put_limit(limit, actor="test")
            for name in ("a", "b"):
                await desk.send(ledger, work("1", 6, account=name))
            await other.current()

            def advance(self: CatalogReplay, db: Db) -> None:
                true(self, db)
                read.append(self.last)
                if len(read) == at:
                    asyncio.run_coroutine_threadsafe(change(desk, other), loop).result(60)

            monkeypatch.setattr(CatalogReplay, "advance", advance)
            assert [*(await ledger.verify()).faults] == []
            monkeypatch.setattr(CatalogReplay, "advance", true)
            assert [*(await ledger.verify()).faults] == []

    asyncio.run(scenario())
    assert len(read) >= 3


# What cannot be used


@pytest.mark.parametrize(
    ("setting", "says"),
    [("synchronous_commit = off", "synchronous_commit"), ("default_transaction_read_only = on", "read-only")],
)
@asynchronous
async def test_a_database_that_cannot_be_used_is_refused(postgres: str, setting: str, says: str) -> None:
    """What could lose an acknowledged event, or takes none and has none, is said when the ledger is opened."""
    desk = Desk(postgres)
    name = run(postgres, "SELECT current_database()")[0][0]
    run(postgres, f'ALTER DATABASE "{name}" SET {setting}')
    try:
        with pytest.raises(LedgerError, match=says):
            async with desk.open():
                pass
    finally:
        run(str(desk.url), f'SET transaction_read_only = off; ALTER DATABASE "{name}" RESET ALL')


@asynchronous
async def test_a_newer_format_is_refused(desk: Desk) -> None:
    """A database that a later version has changed is left alone."""
    async with desk.open():
        pass
    run(str(desk.url), "UPDATE ledger SET value = '99' WHERE name = 'format'")
    with pytest.raises(LedgerError, match="99"):
        async with desk.open():
            pass


@asynchronous
async def test_frames_stay_in_their_rows(desk: Desk) -> None:
    """What PostgreSQL takes out of a row that is too large costs a row and a look-up more."""
    some = [audio(random.Random(n).randbytes(16).hex(), n / 8, language=f"l{n % 50}", model="m") for n in range(4000)]
    async with desk.open() as ledger:
        assert set(await desk.send(ledger, *some)) == {"accepted"}
    ((table,),) = run(str(desk.url), "SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 'frame'")
    ((apart,),) = run(str(desk.url), f"SELECT count(DISTINCT chunk_id) FROM {table}")
    ((frames,),) = run(str(desk.url), "SELECT count(*) FROM frame")
    assert frames > 50
    assert apart < frames / 20


@asynchronous
async def test_processes_that_start_at_once_make_one_schema(postgres: str) -> None:
    """All of them open, and all see the same."""
    desk = Desk(postgres)
    ledgers = await asyncio.gather(*(open_ledger(desk.url, desk.settings, desk.clock) for _ in range(4)))
    try:
        await desk.send(ledgers[0], audio("1"))
        assert [(await ledger.as_of([])).sequence for ledger in ledgers] == [1] * 4
        assert len((await ledgers[3].events(EventQuery(None))).rows) == 1
    finally:
        for ledger in ledgers:
            await ledger.close()
