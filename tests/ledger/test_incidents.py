"""What went wrong once in the embedded ledger, each as the sequence of steps that did it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from tallystick.errors import LedgerDamaged, Problem
from tallystick.ledger.open import open_ledger
from tallystick.ledger.sqlite import (
    directory,
    file,
    identity,
    keeper,
    proving,
    reading,
    replaying,
    series_table,
    verify,
)
from tallystick.ledger.sqlite.identity import CHUNK_BITS
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.ledger.sqlite.writer import Lane, Task
from tallystick.model import Account, EventQuery
from tallystick.windows import INSTANT_MIN
from tests.ledger.build import Desk, asynchronous, audio, spoken, total, usage
from tests.ledger.conformance_metering import seen_in_one_moment
from tests.ledger.define import meter, put, work


def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store identities after a handful of events, and look at what is due all the time."""
    monkeypatch.setattr(identity, "FLUSH_ENTRIES", 8)
    monkeypatch.setattr(keeper, "LOOK_EVERY_S", 0.01)


async def until(true: Any, seconds: float = 10) -> None:
    """Wait until something holds."""
    for _ in range(int(seconds / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


@asynchronous
async def test_a_job_that_waited_while_identities_were_stored(tmp_path: Path) -> None:
    """A retry that is screened before its first copy is kept, and written after that was stored, is a duplicate."""
    with pytest.MonkeyPatch.context() as patch:
        hurried(patch)
        desk = Desk(tmp_path)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            await desk.send(ledger, audio("first"))
            held: list[tuple[Any, Lane]] = []
            submit = ledger._writer.submit

            def hold_bulk(works: Any, lane: Lane) -> None:
                # As if the bulk lane were long: this job is screened, and its turn comes later.
                is_job = any(isinstance(work, Job) for work in works)
                held.append((works, lane)) if lane is Lane.BULK and is_job else submit(works, lane)

            ledger._writer.submit = hold_bulk  # type: ignore[method-assign]  # to set the timing
            late = asyncio.ensure_future(ledger.commit(desk.batch(ledger, audio("twice")), bulk=True))
            await until(lambda: held)
            await desk.send(ledger, audio("twice"))
            await desk.send(ledger, *(audio(f"more{i}") for i in range(20)))
            await until(lambda: any(run.last > 2 for run in ledger._tail.published.identities.stored))
            ledger._writer.submit = submit  # type: ignore[method-assign]  # to set the timing
            submit(*held[0])
            assert spoken((await late).get(0)) == "duplicate"
            assert (await total(ledger)).count == 22


@asynchronous
async def test_a_cancelled_change_to_the_catalog(tmp_path: Path) -> None:
    """A client that goes away while its change waits does not end the process."""
    ended: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", ended.append)
        desk = Desk(tmp_path)
        ledger = await embedded(desk)
        gate = threading.Event()
        ledger._writer.submit([Held(gate)], Lane.URGENT)
        change = asyncio.ensure_future(ledger.put_account(Account("acme", 0), actor="me"))
        await asyncio.sleep(0.05)
        change.cancel()  # the client went away
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.sleep(2)
        assert ended == [], "the process ended itself"
        await ledger.close()


class Held:
    """Work that keeps the writer busy until it is let go."""

    bytes = 0

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate

    def write(self, db: apsw.Connection) -> None:
        self.gate.wait(10)

    def publish(self) -> None:
        pass

    def fail(self, problem: Any) -> None:
        pass


async def embedded(desk: Desk) -> SqliteLedger:
    """Open the embedded ledger of a desk."""
    ledger = await open_ledger(desk.url, desk.settings, desk.clock)
    assert isinstance(ledger, SqliteLedger)
    return ledger


@pytest.mark.parametrize("memory", [True, False])
def test_a_refused_event_claims_no_identity_in_its_group(tmp_path: Path, memory: bool) -> None:
    """What follows a refused event in its batch is judged as if that had not been sent."""

    async def run() -> None:
        desk = Desk("memory:" if memory else tmp_path)
        async with desk.open(label_sets_max=1) as ledger:
            await desk.send(ledger, audio("a", model="one"))
            said = await desk.send(ledger, audio("b", model="two"), audio("b", model="two"), audio("b", model="one"))
            assert said == ["rejected label_sets_exceeded", "rejected label_sets_exceeded", "accepted"]

    asyncio.run(run())


@pytest.mark.parametrize("memory", [True, False])
def test_the_bound_counts_what_came_while_it_was_out_of_reach(tmp_path: Path, memory: bool) -> None:
    """Label sets used in a month in which nobody had to count are counted once it matters."""

    async def run() -> None:
        desk = Desk("memory:" if memory else tmp_path)
        async with desk.open(label_sets_max=3) as ledger:
            at = "2024-03-05T00:00:00Z"
            await desk.send(ledger, *(audio(x, model=x, at=at) for x in "ab"))
            assert await desk.send(ledger, *(audio(x, model=x, at=at) for x in "cd")) == [
                "accepted",
                "rejected label_sets_exceeded",
            ]
            at = "2024-04-05T00:00:00Z"
            await desk.send(ledger, *(audio(f"2{x}", model=x, at=at) for x in "abc"))
            assert await desk.send(ledger, audio("2d", model="d", at=at)) == ["rejected label_sets_exceeded"]

    asyncio.run(run())


@asynchronous
async def test_merged_runs_go_when_nobody_has_them_any_more(tmp_path: Path) -> None:
    """At once where nobody met the old index; whoever did finds in it what it says, for as long as that takes."""
    with pytest.MonkeyPatch.context() as patch:
        hurried(patch)
        patch.setattr(identity, "FAN_IN", 2)
        patch.setattr(keeper, "DOOMED_LOOKS", 10**9)
        desk = Desk(tmp_path)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            db = ledger._connect_reader()

            def numbers() -> tuple[set[int], set[int]]:
                """Return the runs of the index, and those that have chunks in the file."""
                chunks = {id >> CHUNK_BITS for (id,) in file.rows(db, "SELECT id FROM identity_chunk")}
                return {run.number for run in ledger._tail.published.identities.stored}, chunks

            async def sent(name: str) -> None:
                """Send as many events as are stored together, and wait until they are."""
                last = ledger._tail.published.sequence + 10
                await desk.send(ledger, *(audio(f"{name}-{i}") for i in range(10)))
                await until(lambda: any(run.last == last for run in ledger._tail.published.identities.stored))

            await sent("first")
            old = ledger._tail.published.identities
            (first,) = old.stored
            (part,) = identity.merged_parts([first], db)
            number = first.number
            del first
            for name in ("second", "third"):
                await sent(name)
            await until(lambda: number not in numbers()[0])
            await until(lambda: numbers()[1] - numbers()[0] == {number})
            assert len(old.probe(part.fingerprint, db).row) == 10
            del old
            await until(lambda: numbers()[0] == numbers()[1])
            db.close()


@asynchronous
async def test_a_flipped_bit_in_a_stored_identity(tmp_path: Path) -> None:
    """An index that would hide kept events is not opened: their repeats would count again."""
    with pytest.MonkeyPatch.context() as patch:
        hurried(patch)
        desk = Desk(tmp_path)
        events = [audio(f"e{i}") for i in range(20)]
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            await desk.send(ledger, *events)
            await until(lambda: ledger._tail.published.identities.stored)
        db = apsw.Connection(str(tmp_path / "ledger.db"))
        id, body = file.row(db, "SELECT id, body FROM identity_chunk")
        rotten = bytearray(body)
        rotten[8 * 5 + 5] ^= 1
        db.execute("UPDATE identity_chunk SET body = ? WHERE id = ?", (bytes(rotten), id))
        db.close()
        with pytest.raises(LedgerDamaged, match="identity run"):
            async with desk.open():
                pass


@asynchronous
async def test_verify_notices_a_flipped_bit_in_an_index(tmp_path: Path) -> None:
    """Reports find rollups through an index; one that lost them is a fault."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "FOLD_CELLS", 1)
        patch.setattr(keeper, "LOOK_EVERY_S", 0.01)
        desk = Desk(tmp_path)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            await desk.send(ledger, *(audio(f"e{i}", at="2024-03-05T00:00:00Z") for i in range(4)))
            await until(lambda: not ledger._tail.published.overlay.active and not ledger._tail.published.overlay.frozen)
        db = apsw.Connection(str(tmp_path / "ledger.db"))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (page,) = file.row(db, "SELECT rootpage FROM sqlite_schema WHERE name = 'rollup_at'")
        size = int(db.pragma("page_size"))
        db.close()
        image = bytearray((tmp_path / "ledger.db").read_bytes())
        start = (page - 1) * size
        at = image.index(b"audio", start)
        assert at < start + size
        while at < start + size and at >= 0:
            image[at + 4] ^= 1  # "audin"
            at = image.find(b"audio", at)
        (tmp_path / "ledger.db").write_bytes(image)
        async with desk.open() as ledger:
            sum_now = await total(ledger)
            faults = (await ledger.verify()).faults
            assert faults or sum_now.count == 4, (sum_now, faults)
            assert sum_now.count == 4 or faults


@asynchronous
async def test_verify_beside_new_label_sets(tmp_path: Path) -> None:
    """Label sets that are met while verify runs are no faults."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        await desk.send(ledger, audio("a", model="one"))
        loop = asyncio.get_running_loop()
        once: list[int] = []

        def progress(done: int, of: int) -> None:
            if not once:
                once.append(1)
                send = desk.send(ledger, audio("b", model="one"), audio("c", model="two"))
                asyncio.run_coroutine_threadsafe(send, loop).result(10)

        assert (await ledger.verify(progress)).faults == ()


@asynchronous
async def test_verify_beside_a_commit_at_its_end(tmp_path: Path) -> None:
    """A commit between two of verify's last looks is no fault."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        await desk.send(ledger, audio("a"))
        one = ledger._tail.published
        await desk.send(ledger, audio("b"))
        two = ledger._tail.published
        states = iter([one, two, two, two])
        replay = proving.Replay(ledger.catalog, events=1, frames=1)
        db = ledger._connect_reader()
        verify._check_counts(db, replay, lambda: next(states))
        db.close()
        assert replay.faults == []


@asynchronous
async def test_bulk_and_background_beside_single_events(tmp_path: Path) -> None:
    """Single events that never cease let bulk and background work have their turn."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        await desk.send(ledger, audio("a"))
        write = ledger._writer._write

        def slow(db: apsw.Connection, works: list[Any]) -> bool:
            time.sleep(0.02)  # a disk on which making a commit durable takes so long
            return write(db, works)

        ledger._writer._write = slow  # type: ignore[method-assign]  # to set the timing
        going, sent = True, 0

        async def client(n: int) -> None:
            nonlocal sent
            while going:
                sent += 1
                await desk.send(ledger, audio(f"c{n}-{sent}"))

        clients = [asyncio.ensure_future(client(n)) for n in range(60)]
        await asyncio.sleep(0.3)
        bulk = asyncio.ensure_future(ledger.commit(desk.batch(ledger, audio("bulk")), bulk=True))
        task = Task(lambda db: None)
        ledger._writer.submit([task], Lane.BACKGROUND)
        await asyncio.wait([bulk], timeout=5)
        served = (bulk.done(), await asyncio.to_thread(task.done.wait, 5))
        here, going = sent, False
        await asyncio.gather(*clients)
        await bulk
        assert served == (True, True), f"{served} after 5 s in which {here} single events passed"


@asynchronous
async def test_a_report_across_a_recovery(tmp_path: Path) -> None:
    """A report takes its series and its state from one reading of the file."""
    with pytest.MonkeyPatch.context() as patch:
        desk = Desk(tmp_path)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            await desk.send(ledger, audio("a", model="one"))
            came, go = threading.Event(), threading.Event()
            ask = reading.usage

            def slow(*args: Any) -> Any:
                # As if the thread lost the processor here, the series index being in its hands already.
                came.set()
                go.wait(10)
                return ask(*args)

            patch.setattr(reading, "usage", slow)
            asked = asyncio.ensure_future(usage(ledger, group_by=("model",)))
            await until(came.is_set)
            store, fails = series_table.store, [True]

            def failing(*args: Any) -> None:
                if fails.pop() if fails else False:
                    raise apsw.IOError("the disk failed")
                store(*args)

            patch.setattr(series_table, "store", failing)
            with pytest.raises(Problem):
                await desk.send(ledger, audio("x", model="never kept"))
            await until(lambda: len(ledger._tail.series) == 1)
            assert await desk.send(ledger, audio("y", model="kept")) == ["accepted"]
            go.set()
            assert [row.labels for row in (await asked).rows] == [("kept",), ("one",)]


@asynchronous
async def test_a_damaged_rollup_does_not_end_the_process(tmp_path: Path) -> None:
    """Damage met by a commit refuses that commit."""
    ended: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "FOLD_CELLS", 1)
        patch.setattr(keeper, "LOOK_EVERY_S", 0.01)
        patch.setattr(os, "_exit", ended.append)
        desk = Desk(tmp_path)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            await desk.send(ledger, audio("a", model="one"))
            await until(lambda: not ledger._tail.published.overlay.active and not ledger._tail.published.overlay.frozen)
        db = apsw.Connection(str(tmp_path / "ledger.db"))
        db.execute("UPDATE rollup SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE grain = 3")
        db.close()
        async with desk.open(label_sets_max=1) as ledger:
            sent = asyncio.ensure_future(desk.send(ledger, audio("b", model="two")))
            await asyncio.wait([sent], timeout=3)
            assert ended == [], "the process ended itself"


@asynchronous
async def test_a_merge_begun_before_a_recovery(tmp_path: Path) -> None:
    """Runs are known by their number, also after the file was read again."""
    with pytest.MonkeyPatch.context() as patch:
        hurried(patch)
        patch.setattr(identity, "FAN_IN", 99)
        desk = Desk(tmp_path)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            for run in range(2):
                await desk.send(ledger, *(audio(f"{run}-{i}") for i in range(20)))
                await until(lambda run=run: len(ledger._tail.published.identities.stored) == run + 1)
            old = ledger._tail.published.identities
            db = ledger._connect_reader()
            new = ledger._load(db).published.identities
            db.close()
            new.merged(old.stored, old.stored[0])  # what the writer thread would do: it must not raise


@asynchronous
async def test_one_damaged_rollup_stops_the_keeping_of_all(tmp_path: Path) -> None:
    """Damage in a rollup does not keep identities from being stored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "FOLD_CELLS", 1)
        hurried(patch)
        desk = Desk(tmp_path)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            await desk.send(ledger, audio("a"))
            await until(lambda: not ledger._tail.published.overlay.active and not ledger._tail.published.overlay.frozen)
        db = apsw.Connection(str(tmp_path / "ledger.db"))
        db.execute("UPDATE rollup SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE grain = 3")
        db.close()
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            await desk.send(ledger, audio("b"))
            await desk.send(ledger, *(audio(f"o{i}", account="other") for i in range(20)))
            await asyncio.sleep(1.5)
            assert ledger._tail.published.identities.stored, "identities in memory are not stored any more"


@asynchronous
async def test_a_long_wal_is_begun_anew_once(tmp_path: Path) -> None:
    """Its file stays as long as it was, which is no reason to take the write lock at every look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "WAL_PASSIVE_BYTES", 40_000)
        patch.setattr(keeper, "WAL_RESTART_BYTES", 160_000)
        patch.setattr(keeper, "LOOK_EVERY_S", 3600)
        desk = Desk(tmp_path)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            db = ledger._connect_reader()
            asked: list[str] = []

            def note(_: Any, statement: str, __: Any) -> bool:
                asked.append(statement)
                return True

            db.exec_trace = note
            for n in range(60):
                await desk.send(ledger, *(audio(f"{n}-{i}") for i in range(4)))
                if n >= 40:
                    ledger._keeper.checkpoint(db)
            restarts = sum("RESTART" in statement for statement in asked)
            assert (tmp_path / "ledger.db-wal").stat().st_size >= 160_000
            assert ledger.vitals().wal_bytes < 40_000
            # Everything is moved before the next commit comes, which begins the WAL anew by itself.
            assert restarts <= 1, asked
            db.close()


@asynchronous
async def test_a_listing_that_a_replay_overtakes_shows_what_counted_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meter that came into force meanwhile has counted nothing of what the listing's transaction reads."""
    walked, overtaken = threading.Event(), threading.Event()
    go = directory._Walk.go

    def slowly(self: directory._Walk) -> None:
        go(self)
        walked.set()
        assert overtaken.wait(10)

    async with Desk(tmp_path).open() as ledger:
        await put(ledger, meter(scale=0))
        await Desk(tmp_path).send(ledger, work("1"))
        with monkeypatch.context() as patched:
            patched.setattr(directory._Walk, "go", slowly)
            listing = asyncio.create_task(ledger.events(EventQuery(None)))
            await asyncio.to_thread(walked.wait, 10)
            await put(ledger, meter(scale=1), INSTANT_MIN)
            overtaken.set()
            (shown,) = (await listing).rows
        assert [posting.amount for posting in shown.postings] == [1]


@asynchronous
async def test_a_replay_of_many_slices_is_seen_when_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slices that were there already were added to what the earlier definition had counted."""
    monkeypatch.setattr(replaying, "SLICE_EVENTS", 20)
    await seen_in_one_moment(Desk(tmp_path / "ledger"))
