"""Commits split by account, as they are over Citus: what is kept, what is told, and what a retry makes of it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tallystick.catalog import builtin
from tallystick.errors import Code, Problem
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.postgres import splitting
from tallystick.ledger.postgres.committing import Committer
from tallystick.ledger.postgres.lanes import Lane
from tallystick.ledger.postgres.ledger import PostgresLedger
from tallystick.ledger.postgres.locks import Db
from tallystick.model import Account, Batch, Status, Verdict
from tests.ledger.build import Desk, asynchronous, audio, batch_of, total, usage
from tests.ledger.conformance import CONFLICT
from tests.ledger.define import meter, put, upsert, work
from tests.postgres import end_connections, run

DUPLICATE = Verdict(Status.DUPLICATE)
NAMES = tuple(f"org-{n:02}" for n in range(12))


@pytest.fixture
def desk(postgres_split: str) -> Desk:
    """A clock, and a database with nothing in it whose commits are split."""
    return Desk(postgres_split, is_split=True)


def batch_over(names: Sequence[str], turn: str = "0") -> list[dict[str, Any]]:
    """Write down three events of each account, in turns."""
    return [audio(f"{turn} {n}", n + 1, account=name, language=f"l{n}") for n in range(3) for name in names]


async def count_by_account(ledger: PostgresLedger) -> dict[str | None, int]:
    return {row.labels[0]: row.total.count for row in (await usage(ledger, group_by=("account",))).rows}


# A batch taken apart


def test_a_batch_is_its_parts_put_together() -> None:
    """Every event, posting and change is in the part of its account, in order, and nowhere else."""
    events = [
        audio("1", 1, account="b", language="en"),
        {**audio("2", account="a"), "type": "model.request", "data": {"model": "m", "input": 5, "output": 6}},
        audio("3", status="failed", account="b"),
        upsert("4", "image", account="c", url="u", status="success"),
        audio("5", 2, account="a", language="cs"),
        audio("6", 3, account="b", language="en"),
    ]
    catalog = replace(builtin(), accounts={"a": Account("a", 1)})
    batch = batch_of(events, catalog=catalog, now=0)
    parts = [*splitting.parts(batch)]
    assert [part.rows.tolist() for part in parts] == [[1, 4], [0, 2, 5], [3]]
    for part in parts:
        rows = part.rows.tolist()
        assert [*part.batch.raw] == [batch.raw[row] for row in rows]
        assert {*part.batch.account} == {batch.account[rows[0]]}
        assert sorted(postings(part.batch, rows)) == sorted(each for each in postings(batch) if each[0] in rows)
        assert {rows[at]: change for at, change in part.batch.changes.items()} == {
            row: change for row, change in batch.changes.items() if row in rows
        }
        assert [part.batch.is_metered(at) for at in range(len(rows))] == [batch.is_metered(row) for row in rows]
    assert splitting.missing(batch, catalog) == ["b", "c"]


def postings(batch: Batch, rows: Sequence[int] | None = None) -> list[tuple[int, str, int]]:
    """Return (event, meter, amount) of each posting, with the events numbered by `rows`."""
    columns = (batch.posting_event.tolist(), batch.posting_set.tolist(), batch.posting_amount.tolist())
    return [
        (event if rows is None else rows[event], batch.label_sets[at].meter, amount)
        for event, at, amount in zip(*columns, strict=True)
    ]


@pytest.mark.parametrize(
    ("outcomes", "raised"),
    [
        pytest.param({"a": {}, "b": CatalogStale()}, Code.UNAVAILABLE, id="stale when a part is kept"),
        pytest.param({"a": {0: DUPLICATE}, "b": CatalogStale()}, CatalogStale, id="stale when nothing new is kept"),
        pytest.param({"a": CatalogStale(), "b": CatalogStale()}, CatalogStale, id="stale"),
        pytest.param({"a": {}, "b": Problem(Code.DISK_FULL, "Full.")}, Code.DISK_FULL, id="a full disk"),
        pytest.param({"a": Problem(Code.UNPROVEN, "Bad."), "b": {}}, Code.UNPROVEN, id="the first one"),
    ],
)
@asynchronous
async def test_a_batch_fails_as_its_parts_do(outcomes: dict[str, Any], raised: Code | type[Exception]) -> None:
    """Stale, to be prepared again, is only what kept nothing; else the caller hears that a part was kept."""

    async def keep(part: Batch) -> dict[int, Verdict]:
        outcome = outcomes[part.account[0]]
        if isinstance(outcome, Exception):
            raise outcome
        return dict(outcome)

    batch = batch_of([audio("1", account="a"), audio("1", account="b")], catalog=builtin(), now=0)
    with pytest.raises((Problem, CatalogStale)) as failure:
        await splitting.keep_each(batch, keep)
    if isinstance(raised, Code):
        assert isinstance(failure.value, Problem)
        assert failure.value.code is raised
        assert ("were kept" in failure.value.detail) == (outcomes["a"] == {})
    else:
        assert isinstance(failure.value, raised)


# What a batch over several accounts is in the database


@asynchronous
async def test_each_account_of_a_batch_has_a_transaction_of_its_own(desk: Desk) -> None:
    """No two accounts share the number of a transaction; verdicts come by the batch's own indexes."""
    async with desk.open() as ledger:
        assert isinstance(ledger, PostgresLedger)
        assert set(await desk.send(ledger, *batch_over(NAMES))) == {"accepted"}
        mixed = [*batch_over(NAMES[:2]), audio("0 0", 9, account=NAMES[1]), audio("new", account=NAMES[3])]
        assert await desk.send(ledger, *mixed) == ["duplicate"] * 6 + [CONFLICT, "accepted"]
        rows = run(str(desk.url), "SELECT count(*), count(DISTINCT number), count(DISTINCT account) FROM entry")
        assert rows == [(len(NAMES) + 1, len(NAMES) + 1, len(NAMES))]
        # All that were missing came with one change.
        assert run(str(desk.url), "SELECT count(*) FROM catalog_entry WHERE entry > 1") == [(1,)]
        assert (await ledger.verify()).faults == ()


@asynchronous
async def test_accounts_that_are_not_made_are_refused_and_the_others_kept(desk: Desk) -> None:
    """Each event has its own verdict, whatever becomes of those of other accounts."""
    async with desk.open() as ledger:
        await ledger.put_account(Account("acme", 0), actor="test")
        events = [audio("1", account="nobody"), audio("1"), audio("2", account="none")]
        said = await desk.send(ledger, *events, create_accounts=False)
        assert said == ["rejected account_unknown", "accepted", "rejected account_unknown"]
        assert (await total(ledger)).count == 1


# What happens midway


def losing(monkeypatch: pytest.MonkeyPatch, loses: Callable[[int], bool], *, committed: bool) -> Counter[str]:
    """Have connections of lanes be lost at some of their COMMITs, before or after the server's; counts both."""
    counts: Counter[str] = Counter()

    class Losing:
        def __init__(self, db: Db) -> None:
            self._db = db

        def __getattr__(self, name: str) -> Any:
            return getattr(self._db, name)

        def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:
            if statement == "COMMIT":
                counts["commits"] += 1
                if loses(counts["commits"]):
                    counts["lost"] += 1
                    if committed:
                        self._db.execute("COMMIT")
                    self._db.close()
                    raise psycopg.OperationalError("the connection is lost")
            return self._db.execute(statement, *arguments, **options)

    true: Callable[[Lane], Db] = Lane._connection
    monkeypatch.setattr(Lane, "_connection", lambda lane: Losing(true(lane)))
    return counts


@pytest.mark.parametrize("committed", [True, False])
@asynchronous
async def test_a_batch_over_accounts_is_kept_though_connections_are_lost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """What became of each part is found out, and what was not kept is done again: every event is accepted, once."""
    async with desk.open() as ledger:
        assert isinstance(ledger, PostgresLedger)
        await desk.send(ledger, audio("first", account=NAMES[0]))
        counts = losing(monkeypatch, lambda commit: commit % 5 == 3, committed=committed)
        assert set(await desk.send(ledger, *batch_over(NAMES))) == {"accepted"}
        assert counts["lost"] >= 2
        assert await count_by_account(ledger) == {name: 3 + (name == NAMES[0]) for name in NAMES}
        assert (await ledger.verify()).faults == ()


async def empty(ledger: PostgresLedger) -> None:
    """Wait until nothing waits any more: a lane tells its callers before it gives their room back."""
    async with asyncio.timeout(5):
        while ledger.vitals().queued_bytes:
            await asyncio.sleep(0.01)


@asynchronous
async def test_what_was_kept_of_a_batch_that_failed_midway_is_a_duplicate_afterwards(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request fails and says that a part was kept; sent again, the rest is accepted, and each event counts once."""
    true = Committer.write
    kept = 0

    def failing(self: Committer, *arguments: Any) -> Any:
        nonlocal kept
        kept += 1
        if kept > 5:
            raise psycopg.OperationalError("the node is away")
        return true(self, *arguments)

    async with desk.open() as ledger:
        assert isinstance(ledger, PostgresLedger)
        with monkeypatch.context() as patched:
            patched.setattr(Committer, "write", failing)
            with pytest.raises(Problem, match="were kept") as failure:
                await desk.send(ledger, *batch_over(NAMES))
        assert failure.value.code is Code.UNAVAILABLE
        assert failure.value.retry_after_s is not None
        await empty(ledger)
        before = await count_by_account(ledger)
        assert set(before.values()) == {3}
        assert 1 <= len(before) <= 5
        events = batch_over(NAMES)
        due = ["duplicate" if event["account"] in before else "accepted" for event in events]
        assert await desk.send(ledger, *events) == due
        assert await count_by_account(ledger) == dict.fromkeys(NAMES, 3)
        assert (await ledger.verify()).faults == ()


@asynchronous
async def test_every_connection_ended_midway_loses_nothing_and_counts_nothing_twice(desk: Desk) -> None:
    """The server ends all connections while batches over accounts are kept: what was acknowledged is there once."""
    async with desk.open() as ledger:
        assert isinstance(ledger, PostgresLedger)
        await desk.send(ledger, *batch_over(NAMES, "first"))

        async def send(turn: int) -> None:
            while True:
                try:
                    said = await desk.send(ledger, *batch_over(NAMES, str(turn)))
                except Problem as problem:
                    assert problem.retry_after_s is not None
                else:
                    assert set(said) <= {"accepted", "duplicate"}
                    return

        sending = [asyncio.ensure_future(send(turn)) for turn in range(6)]
        while not all(task.done() for task in sending):
            await asyncio.to_thread(end_connections, str(desk.url))
            await asyncio.sleep(0.2)
        await asyncio.gather(*sending)
        assert await count_by_account(ledger) == dict.fromkeys(NAMES, 21)
        assert (await ledger.verify()).faults == ()


@asynchronous
async def test_a_meter_that_changes_midway_has_the_batch_sent_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept was counted by the earlier definition, and the caller hears that it was kept."""
    true = Committer.write
    async with desk.open() as ledger, desk.open() as other:
        await put(ledger, meter())
        await other.current()
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slowly(self: Committer, db: Db, jobs: Any, *arguments: Any) -> Any:
            if jobs and jobs[0].batch.account[0] == "b":
                loop.call_soon_threadsafe(begun.set)
                changed.wait(30)
            return true(self, db, jobs, *arguments)

        changed = threading.Event()
        for name in ("a", "b"):
            await desk.send(ledger, work("first", account=name))
        monkeypatch.setattr(Committer, "write", slowly)
        sending = asyncio.ensure_future(desk.send(ledger, work("1", account="a"), work("1", account="b")))
        await begun.wait()
        while (await total(other, meter="work")).count < 3:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(Committer, "write", true)
        # The lane stands before its locks, inside a transaction that has seen nothing yet.
        await put(other, meter(labels={}))
        changed.set()
        with pytest.raises(Problem, match="were kept"):
            await sending
        await ledger.current()
        assert await desk.send(ledger, work("1", account="a"), work("1", account="b")) == ["duplicate", "accepted"]
        assert (await ledger.verify()).faults == ()
