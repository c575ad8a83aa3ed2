"""Rows of holds are written behind the log: whoever asks, and whenever that is cut short, nothing of it shows."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from tallystick.admission import Asked, hold_of
from tallystick.errors import LedgerDamaged, LedgerError, Problem
from tallystick.holding import Answer, Outcome
from tallystick.ledger import copying
from tallystick.ledger.base import Fault
from tallystick.ledger.open import open_ledger
from tallystick.ledger.packed.hold_entries import kept
from tallystick.ledger.sqlite import file, hold_tables, keeper
from tallystick.ledger.sqlite.hold_tables import Mark
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.ledger.sqlite.tail import Tail
from tallystick.ledger.sqlite.writer import Lane, Task
from tallystick.model import Account, Deletion, Hold, HoldMode, HoldQuery, HoldState
from tests.ledger.build import Desk, asynchronous
from tests.ledger.define import meter, put, work
from tests.ledger.older import make_older
from tests.ledger.test_model import Housekeeping

SEEDS = max(2, int(os.environ.get("TALLYSTICK_TEST_SCRIPTS", "8")) // 4)
STEPS = 120
ACCOUNTS = ("acme", "globex")
IDS = ("a", "b", "c", "\u00e9", "\uffee", "\U0001f600", "h-10", "h-9")
"""In the order of their bytes, none of them is where it would be by length or by the halves of surrogates."""
MINUTE = 60_000_000


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few holds make many slices."""
    monkeypatch.setattr(keeper, "SLICE_HOLDS", 2)
    monkeypatch.setattr(keeper, "SLICES_MAX", 100)


@dataclass
class Scene:
    """An embedded ledger whose keeper does what it is told, and a dict of what it was told of holds."""

    folder: Path
    ledger: SqliteLedger
    desk: Desk
    behind: Housekeeping
    holds: dict[tuple[str, str], Hold] = field(default_factory=dict)
    events: int = 0

    @classmethod
    async def begun(cls, folder: Path) -> Scene:
        scene = await cls.opened(Desk(folder / "0"))
        for name in ACCOUNTS:
            await scene.ledger.put_account(Account(name, 0), actor="test")
        await put(scene.ledger, meter())
        return scene

    @classmethod
    async def opened(cls, desk: Desk) -> Scene:
        ledger = await open_ledger(desk.url, desk.settings, desk.clock)
        assert isinstance(ledger, SqliteLedger)
        return cls(Path(desk.url), ledger, desk, Housekeeping(ledger))

    async def reserve(self, account: str, id: str, quantity: int = 1, ttl: int = MINUTE) -> Answer:
        catalog = self.ledger.catalog
        asked = Asked(account, id, "work", {}, Decimal(quantity), 1, ttl, HoldMode.NORMAL)
        hold = hold_of(asked, catalog, self.ledger.now, text_length_max=256)
        due = (Outcome.DUPLICATE, Outcome.ID_REUSED) if (account, id) in self.holds else (Outcome.CREATED,)
        return self.heard(await self.ledger.reserve(hold, catalog_version=catalog.version), *due)

    async def renew(self, account: str, id: str, quantity: int | None = None) -> Answer:
        due = {None: Outcome.UNKNOWN, HoldState.OPEN: Outcome.DONE}.get(self.state(account, id), Outcome.ENDED)
        return self.heard(await self.ledger.renew(account, id, ttl=2 * MINUTE, quantity=quantity), due)

    async def release(self, account: str, id: str) -> Answer:
        known = {None: Outcome.UNKNOWN, HoldState.OPEN: Outcome.DONE, HoldState.SETTLED: Outcome.ENDED}
        due = known.get(self.state(account, id), Outcome.DUPLICATE)
        return self.heard(await self.ledger.release(account, id), due)

    async def settle(self, account: str, id: str) -> Answer:
        batch = self.desk.batch(self.ledger, work(f"settles-{id}", account=account))
        known = {None: Outcome.UNKNOWN, HoldState.RELEASED: Outcome.ENDED, HoldState.SETTLED: Outcome.DUPLICATE}
        due = known.get(self.state(account, id), Outcome.DONE)
        return self.heard(await self.ledger.settle(account, id, batch), due)

    async def use(self) -> None:
        self.events += 1
        await self.desk.send(self.ledger, work(f"event-{self.folder}-{self.events}"))

    def state(self, account: str, id: str) -> HoldState | None:
        """Return how a hold must stand; None = it was never made."""
        hold = self.holds.get((account, id))
        return None if hold is None else hold.state_at(self.ledger.now)

    def heard(self, answer: Answer, *due: Outcome) -> Answer:
        """Compare an answer with what is known, and remember what became of a hold."""
        assert answer.outcome in due
        if answer.outcome in (Outcome.CREATED, Outcome.DONE) and answer.hold is not None:
            self.holds[answer.hold.account, answer.hold.id] = answer.hold
        return answer

    # What happens to a ledger

    async def restart(self) -> None:
        """Close the ledger and open it again."""
        await self.close()
        await self._go_on(self.folder)
        assert self.mark == Mark.at(self.ledger._tail.entry), "what was closed left something to read"
        assert not self.ledger._tail.book.unwritten.everything()

    async def crash(self) -> None:
        """Go on with a copy of the files as they are in the middle of things; the old ledger is let go of."""
        copy = self.folder.with_name(str(int(self.folder.name) + 1))
        copy.mkdir()
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copy(self.folder / name, copy / name)
        await self.close()
        await self._go_on(copy)

    async def fail(self) -> None:
        """Have a transaction fail, so that the writer reads everything from the file again."""
        before = self.ledger._tail
        task = Task(_failing)
        self.ledger._writer.submit([task], Lane.URGENT)
        with pytest.raises(Problem):
            await asyncio.to_thread(task.wait)
        while self.ledger._tail is before:
            await asyncio.sleep(0.001)

    async def _go_on(self, folder: Path) -> None:
        scene = await Scene.opened(Desk(folder, self.desk.clock))
        self.folder, self.ledger, self.desk, self.behind = scene.folder, scene.ledger, scene.desk, scene.behind

    async def close(self) -> None:
        self.behind.close()
        await self.ledger.close()

    # What is told of it

    @property
    def mark(self) -> Mark:
        return hold_tables.mark(self.behind._db)

    async def check(self, rng: random.Random | None = None) -> None:
        """Whoever asks is told what the dict says."""
        rng = rng or random.Random(0)
        for account in ACCOUNTS:
            for id in IDS:
                assert await self.ledger.hold(account, id) == self.holds.get((account, id))
            own = [self.holds[account, id] for id in sorted(IDS, key=str.encode) if (account, id) in self.holds]
            assert await self.ledger.holds(HoldQuery(account)) == own
            after, limit, state = rng.choice(IDS), rng.randint(1, 4), rng.choice(list(HoldState))
            some = [hold for hold in own if hold.id.encode() > after.encode()]
            assert await self.ledger.holds(HoldQuery(account, after=after, limit=limit)) == some[:limit]
            some = [hold for hold in own if hold.state_at(self.ledger.now) is state]
            assert await self.ledger.holds(HoldQuery(account, state, limit=limit)) == some[:limit]
        for id in IDS:
            assert await self.ledger.hold_accounts(id) == [name for name in ACCOUNTS if (name, id) in self.holds]

    async def faults(self) -> tuple[Fault, ...]:
        return tuple((await self.ledger.verify()).faults)


def _failing(db: apsw.Connection) -> None:
    raise apsw.IOError("as if the disk had failed")


Step = Callable[[Scene, random.Random], Coroutine[Any, Any, Any]]
STEPS_OF: tuple[tuple[int, Step], ...] = (
    (8, lambda scene, rng: scene.reserve(rng.choice(ACCOUNTS), rng.choice(IDS), rng.randint(1, 2))),
    (3, lambda scene, rng: scene.renew(rng.choice(ACCOUNTS), rng.choice(IDS), rng.choice((None, 1, 3)))),
    (2, lambda scene, rng: scene.release(rng.choice(ACCOUNTS), rng.choice(IDS))),
    (4, lambda scene, rng: scene.settle(rng.choice(ACCOUNTS), rng.choice(IDS))),
    (2, lambda scene, rng: scene.use()),
    (1, lambda scene, rng: scene.crash()),
    (1, lambda scene, rng: scene.restart()),
    (1, lambda scene, rng: scene.fail()),
)


@pytest.mark.parametrize("seed", range(SEEDS))
@asynchronous
async def test_holds_are_what_was_told_whatever_is_written_when(tmp_path: Path, seed: int) -> None:
    """Calls, rows written in part, crashes, failures and restarts in any order: lists, look-ups and proof agree."""
    rng = random.Random(seed)
    scene = await Scene.begun(tmp_path)
    for number in range(STEPS):
        scene.desk.clock.advance(rng.choice((0, 0, 5, 30)))
        (step,) = rng.choices([step for _, step in STEPS_OF], [weight for weight, _ in STEPS_OF])
        await step(scene, rng)
        if rng.random() < 0.4:
            await asyncio.to_thread(scene.behind.fold_holds, rng.choice((1, 2, 3, 4, 1000)))
        await scene.check(rng)
        if number % 4 == 0:
            assert await scene.faults() == ()
    assert await scene.faults() == ()
    await scene.close()


async def busy(folder: Path) -> Scene:
    """Return a ledger with rows of holds, some of which have changed since then, and new ones."""
    scene = await Scene.begun(folder)
    for id in IDS[:4]:
        await scene.reserve("acme", id)
        await scene.reserve("globex", id)
    await asyncio.to_thread(scene.behind.fold_holds, 1000)
    for id in IDS[2:7]:
        await scene.reserve("acme", id)
        await scene.settle("acme", id)
    await scene.release("globex", "a")
    await scene.renew("globex", "b", 2)
    return scene


ENDS: dict[str, Callable[[Scene], Coroutine[Any, Any, None]]] = {
    "crash": Scene.crash,
    "failure": Scene.fail,
    "restart": Scene.restart,
}


@pytest.mark.parametrize("end", ENDS)
@asynchronous
async def test_what_is_cut_short_after_any_slice_is_gone_on_with(tmp_path: Path, end: str) -> None:
    """Each slice leaves a file that tells what the log says, with what comes after it read from the log."""
    left: list[int] = []
    for slices in range(1, 7):
        scene = await busy(tmp_path / str(slices))
        await asyncio.to_thread(scene.behind.fold_holds, slices)
        assert await scene.faults() == ()
        await scene.settle("globex", "b")
        await scene.renew("globex", "c", 3)
        left.append(len(scene.ledger._tail.book.unwritten.frozen))
        assert await scene.faults() == ()
        await ENDS[end](scene)
        await scene.check()
        assert await scene.faults() == ()
        for _ in range(2):
            await asyncio.to_thread(scene.behind.fold_holds, 1000)
        assert scene.mark == Mark.at(scene.ledger._tail.entry)
        assert not scene.ledger._tail.book.unwritten.everything()
        await scene.check()
        assert await scene.faults() == ()
        await scene.close()
    assert left[0] and not left[-1], "none was cut short, or all were"


@pytest.mark.parametrize("at", range(5))
@asynchronous
async def test_a_slice_that_fails_in_its_transaction_is_written_again(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and mark go together: where one of them fails, neither is there."""
    scene = await busy(tmp_path)
    move, moved = hold_tables.move, 0

    def failing(db: apsw.Connection, mark: Mark) -> None:
        nonlocal moved
        moved += 1
        if moved == at:
            raise apsw.IOError("as if the disk had failed")
        move(db, mark)

    monkeypatch.setattr(hold_tables, "move", failing)
    for _ in range(3):
        try:
            await asyncio.to_thread(scene.behind.fold_holds, 1000)
        except Problem:
            await asyncio.sleep(0.05)
        await scene.check()
        assert await scene.faults() == ()
    assert moved >= at
    assert scene.mark == Mark.at(scene.ledger._tail.entry)
    await scene.close()


@asynchronous
async def test_holds_of_an_account_that_is_no_more_get_their_rows(tmp_path: Path) -> None:
    """Another account of its name has none of them; the proof goes by the log."""
    scene = await busy(tmp_path)
    await scene.ledger.put_account(Account("umbrella", 0), actor="test")
    await scene.reserve("umbrella", "a")
    assert await scene.ledger.delete_account("umbrella", actor="test") is Deletion.DELETED
    await scene.crash()
    assert await scene.faults() == ()
    await scene.ledger.put_account(Account("umbrella", 0), actor="test")
    assert await scene.ledger.hold("umbrella", "a") is None
    await scene.restart()
    assert await scene.faults() == ()
    assert list(scene.behind._db.execute("SELECT count(DISTINCT account) FROM hold")) == [(3,)]
    await scene.close()


@asynchronous
async def test_a_copy_has_what_was_not_written_when_the_process_was_killed(tmp_path: Path) -> None:
    """Its rows are up to date at once."""
    scene = await busy(tmp_path)
    await asyncio.to_thread(scene.behind.fold_holds, 3)
    await scene.renew("globex", "c", 3)
    killed, copy = tmp_path / "killed", tmp_path / "copy"
    killed.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(scene.folder / name, killed / name)
    await scene.close()
    await asyncio.to_thread(
        copying.copy, str(killed), str(copy), scene.desk.settings, lambda *_: None, scene.desk.clock
    )
    await scene._go_on(copy)
    assert scene.mark == Mark.at(scene.ledger._tail.entry)
    await scene.check()
    assert await scene.faults() == ()
    await scene.close()


# Readers beside the writer


@pytest.mark.parametrize("asked", ["list", "proof"])
@asynchronous
async def test_rows_written_between_a_look_at_memory_and_one_at_the_file_are_missed_by_nobody(
    tmp_path: Path, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holds that are made and written just then are there all, or none of them."""
    scene = await busy(tmp_path)
    loop = asyncio.get_running_loop()
    late = ("late-1", "late-2", "late-3")

    async def more() -> None:
        for id in late:
            await scene.reserve("acme", id)
        await asyncio.to_thread(scene.behind.fold_holds, 1000)
        await scene.reserve("acme", "later")

    def between(look: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*arguments: Any) -> Any:
            found = look(*arguments)
            if ("acme", "later") not in scene.holds:
                asyncio.run_coroutine_threadsafe(more(), loop).result()
            return found

        return looked

    for name in ("unwritten_of", "unwritten_holds"):
        monkeypatch.setattr(Tail, name, between(getattr(Tail, name)))
    if asked == "list":
        told = [hold.id for hold in await scene.ledger.holds(HoldQuery("acme"))]
        assert told == sorted(id for name, id in scene.holds if name == "acme")
    else:
        assert await scene.faults() == ()
        assert ("acme", "later") in scene.holds
    await scene.close()


@asynchronous
async def test_what_was_answered_is_listed_while_rows_are_written_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients hold and settle, rows follow at once, and no list lacks what was there when it was asked for."""
    for name, value in (("FOLD_HOLDS", 3), ("LOOK_EVERY_S", 0.001)):
        monkeypatch.setattr(keeper, name, value)
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        await ledger.put_account(Account("acme", 0), actor="test")
        await put(ledger, meter())
        known: dict[str, bool] = {}

        async def client(which: int) -> None:
            for turn in range(40):
                id = f"{turn % 7}-{which}-{turn}"
                asked = Asked("acme", id, "work", {}, Decimal(1), 1, MINUTE, HoldMode.NORMAL)
                hold = hold_of(asked, ledger.catalog, ledger.now, text_length_max=256)
                await ledger.reserve(hold, catalog_version=ledger.catalog.version)
                known[id] = False
                await ledger.settle("acme", id, desk.batch(ledger, work(id)))
                known[id] = True

        async def reader() -> int:
            lists = 0
            while len(known) < 4 * 40 or not all(known.values()):
                before = dict(known)
                told = await ledger.holds(HoldQuery("acme", limit=1000))
                ids = [hold.id for hold in told]
                assert ids == sorted({*ids})
                assert before.keys() <= {*ids}
                ended = {hold.id for hold in told if hold.settlement is not None}
                assert {id for id, is_ended in before.items() if is_ended} <= ended
                lists += 1
            return lists

        reading = asyncio.ensure_future(reader())
        await asyncio.gather(*(client(which) for which in range(4)))
        assert await reading > 5
        assert ledger._tail.book.unwritten.mark.through > 0, "no rows were written beside the work"
        assert not (await ledger.verify()).faults


# What a start reads


@asynchronous
async def test_the_mark_moves_on_where_no_hold_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start looks through few entries, however long ago the last hold was."""
    for name, value in (("FOLD_ENTRIES", 5), ("LOOK_EVERY_S", 0.01)):
        monkeypatch.setattr(keeper, name, value)
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        for number in range(20):
            await desk.send(ledger, work(f"e{number}"))
        db = ledger._connect_reader()
        while ledger._tail.entry >= hold_tables.mark(db).through + 5:
            await asyncio.sleep(0.01)
        db.close()


@asynchronous
async def test_a_call_writes_one_row_of_the_log_and_what_came_and_went_since_one_row_of_its_own(tmp_path: Path) -> None:
    """No row of a hold is written with a commit; one that was made and settled meanwhile is written once."""
    scene = await Scene.begun(tmp_path)

    async def written() -> int:
        found: list[int] = []
        task = Task(lambda db: found.append(db.total_changes()))
        scene.ledger._writer.submit([task], Lane.URGENT)
        await asyncio.to_thread(task.wait)
        return found[0]

    before = await written()
    for id in IDS:
        await scene.reserve("acme", id)
    assert await written() - before == len(IDS)
    for id in IDS:
        await scene.settle("acme", id)
    before = await written()
    await asyncio.to_thread(scene.behind.fold_holds, 1000)
    slices = len(IDS) // keeper.SLICE_HOLDS
    assert await written() - before == len(IDS) + slices
    assert list(scene.behind._db.execute("SELECT count(*) FROM hold")) == [(len(IDS),)]
    await scene.close()


@asynchronous
async def test_rows_of_holds_do_not_wait_for_a_long_fold_of_rollups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written between its slices, so that memory does not grow with it."""
    scene = await busy(tmp_path)
    await scene.use()
    monkeypatch.setattr(keeper, "FOLD_HOLDS", 5)
    # As if it were not stopped: one that is begins nothing by itself.
    scene.ledger._keeper._closing.clear()
    await asyncio.to_thread(scene.behind.fold, 1000)
    assert scene.mark == Mark.at(scene.ledger._tail.entry)
    assert await scene.faults() == ()
    await scene.close()


# What is found


ROW = "account = (SELECT min(account) FROM hold) AND id = 'a'"
OF_MARK = "FROM (SELECT max(entry) last FROM log) WHERE name = 'holds_through'"
DAMAGE = {
    "a mark before what was written": (
        "UPDATE meta SET value = '[0,0,0,\"\"]' WHERE name = 'holds_through'",
        "which is not what was written",
    ),
    "a mark behind what was written": (
        f"UPDATE meta SET value = json_array(last, last, 0, '') {OF_MARK}",
        "is not what the log says",
    ),
    "a mark behind the end of the log": (
        "UPDATE meta SET value = '[1000000,1000000,0,\"\"]' WHERE name = 'holds_through'",
        "which is not what was written",
    ),
    "a mark that says that more rows are further": (
        f"UPDATE meta SET value = json_array(value ->> 0, last, 9, 'z') {OF_MARK}",
        "is not what the log says",
    ),
    "no mark": ("DELETE FROM meta WHERE name = 'holds_through'", "cannot be read any further"),
    "a mark that is none": ("UPDATE meta SET value = '[' WHERE name = 'holds_through'", "cannot be read any further"),
    "a missing row": (f"DELETE FROM hold WHERE {ROW}", "is not what the log says"),
    "an extra row": (
        f"INSERT INTO hold SELECT account, 'x', ends, replace(body, '\"a\"', '\"x\"') FROM hold WHERE {ROW}",
        "hold 'x'",
    ),
    "a row of what is not written yet": (
        f"INSERT INTO hold SELECT account, 'h-10', ends, replace(body, '\"a\"', '\"h-10\"') FROM hold WHERE {ROW}",
        "hold 'h-10'",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
@asynchronous
async def test_rows_or_a_mark_that_are_not_what_was_written_are_a_fault(tmp_path: Path, what: str) -> None:
    """Whatever is changed of the rows or of how far they are is found, though memory has what comes behind them."""
    scene = await busy(tmp_path)
    assert await scene.faults() == ()
    statement, says = DAMAGE[what]
    db = apsw.Connection(str(scene.folder / file.FILE_NAME))
    db.execute(statement)
    assert db.total_changes()
    db.close()
    faults = [fault.detail for fault in await scene.faults()]
    assert any(says in fault for fault in faults), faults
    await scene.close()


@pytest.mark.parametrize("is_older", [True, False])
@asynchronous
async def test_a_row_as_it_was_or_will_be_at_another_time_is_a_fault(tmp_path: Path, is_older: bool) -> None:
    """Each row tells what the log says just as far as the mark says, although a start would read the rest."""
    scene = await busy(tmp_path)
    db = apsw.Connection(str(scene.folder / file.FILE_NAME))
    row = "SELECT ends, body FROM hold WHERE id = 'c' ORDER BY account LIMIT 1"
    (before,) = db.execute(row).fetchall()
    if is_older:
        await asyncio.to_thread(scene.behind.fold_holds, 1000)
        assert db.execute(row).fetchall() != [before]
        put_back = before
    else:
        owner, hold = scene.ledger.catalog.accounts["acme"].number, scene.holds["acme", "c"]
        put_back = (None, msgspec.json.encode(kept(owner, hold)).decode())
    assert await scene.faults() == ()
    where = "WHERE id = 'c' AND account = (SELECT min(account) FROM hold)"
    db.execute(f"UPDATE hold SET ends = ?, body = ? {where}", put_back)
    db.close()
    assert [fault.detail for fault in await scene.faults()] == ["hold 'c' of account 1 is not what the log says"]
    await scene.close()


@asynchronous
async def test_what_memory_has_of_holds_is_compared_with_the_log(tmp_path: Path) -> None:
    """One that is missing there, and one that is not as the log says, are faults."""
    scene = await busy(tmp_path)
    active = scene.ledger._tail.book.unwritten.active
    owner = scene.ledger.catalog.accounts["acme"].number
    was = active[owner]["c"]
    active[owner]["c"] = active[owner]["h-10"]
    assert any("in memory" in fault.detail for fault in await scene.faults())
    del active[owner]["c"]
    assert any("in memory" in fault.detail for fault in await scene.faults())
    active[owner]["c"] = was
    assert await scene.faults() == ()
    await scene.close()


LOST_MARKS = ("a mark behind the end of the log", "no mark", "a mark that is none")


@pytest.mark.parametrize("what", LOST_MARKS)
@asynchronous
async def test_no_list_is_given_by_a_mark_that_was_lost(tmp_path: Path, what: str) -> None:
    """It would lack holds, and nobody could tell."""
    scene = await busy(tmp_path)
    db = apsw.Connection(str(scene.folder / file.FILE_NAME))
    db.execute(DAMAGE[what][0])
    db.close()
    with pytest.raises(Problem, match="damaged"):
        await asyncio.wait_for(scene.ledger.holds(HoldQuery("acme")), 10)
    await scene.close()


@pytest.mark.parametrize("what", LOST_MARKS)
def test_a_mark_that_nothing_can_be_read_by_is_refused(tmp_path: Path, what: str) -> None:
    """A ledger that would forget holds is not opened."""

    async def closed() -> None:
        await (await busy(tmp_path)).close()

    asyncio.run(closed())
    db = apsw.Connection(str(tmp_path / "0" / file.FILE_NAME))
    db.execute(DAMAGE[what][0])
    db.close()
    with pytest.raises(LedgerDamaged, match="cannot be opened"):
        asyncio.run(Scene.opened(Desk(tmp_path / "0")))


# Files of before


@asynchronous
async def test_a_file_whose_rows_were_written_with_each_commit_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its rows are up to date; from then on it has the new format, which earlier versions refuse."""
    scene = await busy(tmp_path)
    await scene.close()
    make_older(scene.folder, 5)
    await scene._go_on(scene.folder)
    assert scene.mark == Mark.at(scene.ledger._tail.entry)
    await scene.check()
    assert await scene.faults() == ()
    await scene.settle("globex", "b")
    await scene.crash()
    await scene.check()
    assert await scene.faults() == ()
    await scene.close()
    since = file.FORMAT
    monkeypatch.setattr(file, "FORMAT", 5)
    said = rf"has format {since}; this version reads up to 5\. Install a newer tallystick"
    with pytest.raises(LedgerError, match=said):
        await Scene.opened(scene.desk)
