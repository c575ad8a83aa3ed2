"""The embedded ledger behind the contract of ledger/base.py: threads and memory around one file."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import apsw
from msgspec import structs

from tallystick.clock import Clock
from tallystick.errors import Code, LedgerDamaged, Problem
from tallystick.holding import Answer
from tallystick.ledger.base import Fault, KeptEvent, Proof
from tallystick.ledger.packed import hold_entries
from tallystick.ledger.packed.counters import Counters
from tallystick.ledger.packed.deciding import Release, Renew, Reserve
from tallystick.ledger.packed.segment import Damaged, unpack_columns
from tallystick.ledger.packed.selecting import counts
from tallystick.ledger.sqlite import (
    audit,
    backup,
    changes,
    copy_state,
    definitions,
    directory,
    file,
    hold_reading,
    hold_tables,
    identity,
    keeper,
    key_use,
    limiting,
    reading,
    resource_tables,
    verify,
)
from tallystick.ledger.sqlite.admitting import HoldWork
from tallystick.ledger.sqlite.changes import CatalogWork, Decide
from tallystick.ledger.sqlite.commit import Group
from tallystick.ledger.sqlite.file import EVENTS
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.judging import kept_events
from tallystick.ledger.sqlite.keeper import Keeper
from tallystick.ledger.sqlite.label_sets import LabelSetBound
from tallystick.ledger.sqlite.ownership import Ownership
from tallystick.ledger.sqlite.replaying import Replayer
from tallystick.ledger.sqlite.screener import Screener
from tallystick.ledger.sqlite.scrub import EVERYONE
from tallystick.ledger.sqlite.source import Unpacked
from tallystick.ledger.sqlite.tail import UNREADABLE, Tail, load, source_and_id
from tallystick.ledger.sqlite.writer import Lane, Task, Work, Writer, unavailable
from tallystick.ledger.vitals import Vitals
from tallystick.model import (
    Account,
    AsOf,
    AuditPage,
    AuditQuery,
    Batch,
    Catalog,
    Crossing,
    Deletion,
    EventPage,
    EventQuery,
    Grant,
    Hold,
    HoldQuery,
    Key,
    Labels,
    Limit,
    LiveQuery,
    LiveResource,
    LiveSpace,
    Meter,
    Outcome,
    RateTable,
    RecordPage,
    RecordQuery,
    ResourceQuery,
    UsageQuery,
    UsageTable,
    Verdict,
)
from tallystick.precedence import precedence
from tallystick.settings import Settings

T = TypeVar("T")
READERS = 2
COUNTERS_AT_ONCE = 16
"""Counters that a proof counts again while the writer waits for it."""
GROUP_BYTES_PER_MS = 128 * 1024
"""About what one millisecond of a commit writes and makes durable: turns commit_ms_max into bytes."""


async def open_sqlite(folder: Path, settings: Settings, clock: Clock, *, vfs: str | None = None) -> SqliteLedger:
    """Open the data folder, making it if it is not there, and bring it to this format.

    Raises LedgerError for a folder in use by another process, a newer format, another program's file, a SQLite that
    is too old, and an end of the log that is not what was written. `vfs` names the apsw VFS to use (fault tests).
    """
    return await asyncio.to_thread(SqliteLedger, folder, settings, clock, vfs)


class SqliteLedger:
    """One folder, one process: a writer thread, two screeners before it, a keeper behind it, and two readers."""

    def __init__(self, folder: Path, settings: Settings, clock: Clock, vfs: str | None = None) -> None:
        file.check_sqlite(file.sqlite_version())
        self._lock = file.Lock(folder)
        try:
            self._open(folder, settings, clock, vfs)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, folder: Path, settings: Settings, clock: Clock, vfs: str | None) -> None:
        self._settings = settings
        self._clock = clock
        self._closed = False
        self._folder = folder
        self._copying = asyncio.Lock()
        self._connect_reader = partial(file.connect, folder, vfs=vfs)
        self._bound = LabelSetBound(settings.label_sets_max, settings.unique_values_max, self._used_label_sets)
        self._accepted: Counter[int] = Counter()
        self._handed_in: list[Job | HoldWork] = []
        self._counters = Counters()
        try:
            db = file.connect(folder, vfs=vfs, writes=True)
            file.prepare(db, folder)
            copy_state.refuse(db, str(folder))
            keeper.drop_orphans(db)
            self._secret = file.secret(db)
            self._tail = self._load(db)
            self._define_builtins(db)
            self._uses = key_use.load(db, (key.id for key in self._tail.catalog.keys.values()))
            db.close()
        except UNREADABLE as error:
            raise LedgerDamaged(
                f"{folder} cannot be opened: {error}. Nothing was changed. Run verify on a copy, restore a backup."
            ) from error
        self._writer = Writer(
            folder,
            connect=partial(file.connect, folder, vfs=vfs, writes=True),
            combine=self._combine,
            recover=self._recover,
            tidy=self._tidy,
            group_bytes_max=settings.commit_ms_max * GROUP_BYTES_PER_MS,
            queue_bytes_max=settings.queue_bytes_max,
            disk_free_bytes_min=settings.disk_free_bytes_min,
        )
        self._screeners = {
            lane: Screener(
                lane,
                connect=self._connect_reader,
                writer=self._writer,
                tail=self._now,
                secret=self._secret,
                clock=clock,
            )
            for lane in (Lane.URGENT, Lane.BULK)
        }
        self._keeper = Keeper(
            connect=self._connect_reader,
            writer=self._writer,
            tail=self._now,
            uses=self._uses,
            identity_bytes_max=settings.identity_bytes_max,
            verify_bytes_per_s=settings.verify_bytes_per_s,
        )
        self._replayer = Replayer(connect=self._connect_reader, writer=self._writer, tail=self._now, clock=clock)
        self._local = threading.local()
        self._unpacked = Unpacked(settings.rollup_bytes_max)
        self._readers = ThreadPoolExecutor(READERS, "tallystick-reader")
        for thread in (self._writer, *self._screeners.values(), self._keeper, self._replayer):
            thread.start()

    @property
    def catalog(self) -> Catalog:
        return self._tail.published.catalog

    async def current(self) -> Catalog:
        return self.catalog

    async def commit(self, batch: Batch, *, create_accounts: bool = False, bulk: bool = False) -> Mapping[int, Verdict]:
        self._check_open()
        if not len(batch):
            return {}
        size = batch.size
        self._writer.reserve(size)
        job = Job(batch, create_accounts, asyncio.get_running_loop().create_future(), size)
        if bulk:
            self._screeners[Lane.BULK].submit([job])
        else:
            self._hand_in(job)
        verdicts: Mapping[int, Verdict] = await job.future
        return verdicts

    async def usage(self, queries: Sequence[UsageQuery]) -> Sequence[UsageTable]:
        return await self._read(
            lambda db: reading.usage(
                db, self._now, self._keeper.scrub.damaged, queries, self.now, self._unpacked.unpack
            )
        )

    async def live(self, query: LiveQuery) -> Sequence[LiveSpace]:
        return await self._of_account(query.account, lambda db, number: resource_tables.live_spaces(db, number, query))

    async def resources(self, query: ResourceQuery) -> Sequence[LiveResource]:
        ask = resource_tables.live_resources
        return await self._of_account(query.account, lambda db, number: ask(db, number, query))

    async def records(self, query: RecordQuery) -> RecordPage:
        self._check_open()
        account, meter = self.catalog.accounts.get(query.account), self.catalog.meters.get(query.meter)
        if account is None or meter is None:
            return RecordPage((), 0)
        return await self._read(lambda db: resource_tables.records(db, account.number, meter.epoch, query))

    async def as_of(self, queries: Sequence[UsageQuery]) -> AsOf:
        return await self._read(lambda _: reading.as_of(self._tail, self._keeper.scrub.damaged, queries))

    async def events(self, query: EventQuery) -> EventPage:
        return await self._read(lambda db: directory.events(db, self._tail, self._keeper.scrub.damaged, query))

    async def event(self, account: str, source: str, id: str) -> KeptEvent | None:
        return await self._read(lambda db: self._event(db, account, source, id))

    async def put_account(self, account: Account, *, actor: str) -> Account:
        return await self._change(changes.put_account(account), actor)

    async def delete_account(self, name: str, *, actor: str) -> Deletion:
        self._check_open()
        account = self.catalog.accounts.get(name)
        if account is None:
            return Deletion.UNKNOWN
        ownership = Ownership(account.number)
        await self._read(ownership.look)
        return await self._change(changes.delete_account(account, ownership), actor, ownership.look)

    async def put_meter(self, meter: Meter, *, actor: str, start: int | None = None) -> None:
        await self._define(await self._change(definitions.put_meter(meter, start), actor))

    async def delete_meter(self, name: str, *, actor: str) -> bool:
        found = await self._change(definitions.delete_meter(name), actor)
        if isinstance(found, Problem):
            raise found
        return found

    async def put_rates(self, table: str, rates: RateTable, *, actor: str, recount: bool = False) -> None:
        change = definitions.RatesChange(table, rates, recount)

        def look(db: apsw.Connection) -> None:
            def has_counted(query: UsageQuery) -> bool:
                return reading.usage(db, self._now, frozenset(), [query])[0].total.count > 0

            change.look(has_counted, self._tail.catalog)

        await self._define(await self._change(change.decide, actor, look))

    async def _define(self, problem: Problem | None) -> None:
        if problem is not None:
            raise problem
        self._replayer.wake()

    def replayed(self, name: str) -> tuple[int, int] | None:
        published = self._tail.published
        replay = published.catalog.replays.get(name)
        if replay is None:
            return None
        return self._replayer.through.get((name, replay.meters[0].epoch), 0), published.sequence

    async def put_limit(self, limit: Limit, *, actor: str) -> Outcome:
        return await self._change(limiting.put_limit(limit), actor)

    async def delete_limit(self, id: str, *, actor: str) -> bool:
        return await self._change(limiting.delete_limit(id), actor)

    async def put_grant(self, grant: Grant, *, actor: str) -> Outcome:
        return await self._change(limiting.put_grant(grant), actor)

    async def delete_grant(self, limit: str, id: str, *, actor: str) -> bool:
        return await self._change(limiting.delete_grant(limit, id), actor)

    async def reserve(self, hold: Hold, *, catalog_version: int) -> Answer:
        return await self._call(hold.account, hold.id, Reserve(hold, catalog_version))

    async def renew(self, account: str, id: str, *, ttl: int | None, quantity: int | None) -> Answer:
        return await self._call(account, id, Renew(ttl, quantity))

    async def release(self, account: str, id: str) -> Answer:
        return await self._call(account, id, Release())

    async def _call(self, account: str, id: str, call: Reserve | Renew | Release) -> Answer:
        self._check_open()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        with precedence.small():
            self._hand_in(HoldWork(account, id, call, future))
            return await future

    async def settle(self, account: str, id: str, batch: Batch) -> Answer:
        self._check_open()
        size = batch.size
        self._writer.reserve(size)
        job = Job(batch, False, asyncio.get_running_loop().create_future(), size, settles=(account, id))
        self._hand_in(job)
        answer: Answer = await job.future
        return answer

    def _hand_in(self, work: Job | HoldWork) -> None:
        """Hand small work on at the end of the loop's turn, with all that came in it: one wake-up, and one group."""
        if not self._handed_in:
            asyncio.get_running_loop().call_soon(self._hand_on)
        self._handed_in.append(work)

    def _hand_on(self) -> None:
        works, self._handed_in = self._handed_in, []
        jobs = [work for work in works if isinstance(work, Job)]
        calls = [work for work in works if isinstance(work, HoldWork)]
        self._screeners[Lane.URGENT].submit(jobs, calls)

    async def hold(self, account: str, id: str) -> Hold | None:
        self._check_open()
        known = self.catalog.accounts.get(account)
        if known is None:
            return None
        # Memory first: what it does not have any more has a row by then.
        shown = self._tail.book.shown(known.number, id)
        return shown or await self._read(lambda db: self._hold(db, known, id))

    async def hold_accounts(self, id: str) -> Sequence[str]:
        owners = await self._read(lambda db: hold_reading.owners(db, self._tail, id))
        return sorted(account.name for account in self.catalog.accounts.values() if account.number in owners)

    async def holds(self, query: HoldQuery) -> Sequence[Hold]:
        now = self.now
        return await self._of_account(
            query.account, lambda db, owner: hold_reading.page(db, self._now, owner, query, now)
        )

    @property
    def now(self) -> int:
        return max(self._clock(), self._tail.book.clock)

    async def crossings(self, limit: str) -> Sequence[Crossing]:
        return await self._read(lambda db: hold_tables.crossings(db, limit))

    async def put_key(self, key: Key, *, actor: str) -> bool:
        return await self._change(changes.put_key(key), actor)

    async def rotate_key(self, id: str, successor: Key, *, ends: int, actor: str) -> Key | None:
        return await self._change(changes.rotate_key(id, successor, ends), actor)

    async def delete_key(self, id: str, *, actor: str) -> bool:
        return await self._change(changes.delete_key(id), actor)

    def note_key_use(self, id: str, at: int) -> None:
        self._uses.latest[id] = at

    @property
    def key_uses(self) -> Mapping[str, int]:
        return self._uses.latest

    async def audit(self, query: AuditQuery) -> AuditPage:
        return await self._read(lambda db: self._audit(db, query))

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Proof:
        self._check_open()
        return await asyncio.to_thread(self._verify, progress or (lambda done, total: None))

    async def backup(self) -> IO[bytes]:
        self._check_open()
        copy = partial(backup.copied, self._folder, self._connect_reader, self._settings.disk_free_bytes_min)
        if self._copying.locked():
            raise Problem(Code.UNAVAILABLE, "Another backup is being made; try again.", retry_after_s=10)
        async with self._copying:
            try:
                return await asyncio.to_thread(copy)
            except (apsw.Error, OSError) as error:
                raise unavailable(f"The backup could not be made: {error}.") from error

    def vitals(self) -> Vitals:
        published = self._tail.published
        names = {account.number: account.name for account in published.catalog.accounts.values()}
        # What is being written may come from an account that nobody else knows yet.
        warned = ((names.get(account), meter) for (account, meter), _ in self._bound.warned)
        return Vitals(
            sequence=published.sequence,
            committed=published.recorded if published.sequence else None,
            queued_bytes=self._writer.queued_bytes,
            wal_bytes=self._keeper.wal_bytes,
            commits=self._writer.commits,
            accepted={names[number]: events for number, events in dict(self._accepted).items()},
            label_set_warnings=Counter((name, meter) for name, meter in warned if name is not None),
            damaged_entries=len(self._keeper.scrub.entries),
        )

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._hand_on()
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        for screener in self._screeners.values():
            screener.close()
        self._keeper.stop()
        self._replayer.stop()
        if uses := self._uses.due(key.id for key in self.catalog.keys.values()):
            self._writer.submit([Task(partial(key_use.store, uses))], Lane.URGENT)
        self._keeper.finish()
        self._writer.close()
        self._keeper.join()
        self._replayer.join()
        self._readers.shutdown()
        self._lock.release()

    def _now(self) -> Tail:
        return self._tail

    def _check_open(self) -> None:
        if self._closed:
            raise unavailable("The ledger is closed.")

    def _load(self, db: apsw.Connection) -> Tail:
        clock = self._tail.book.clock if hasattr(self, "_tail") else 0
        return load(db, definitions.base(db), self._settings.identity_bytes_max, clock)

    def _define_builtins(self, db: apsw.Connection) -> None:
        """Bring the meters and rates that are there from the start into a log that lacks them."""
        lacking, tail = definitions.missing(self._tail.catalog), self._tail
        if lacking:
            with db:
                changes.logged(db, tail, lacking, definitions.OWN_ACTOR, self._clock())
            tail.published = structs.replace(tail.published, catalog=tail.catalog, entry=tail.entry)

    def _recover(self, db: apsw.Connection) -> None:
        self._bound.forget()
        self._counters = Counters()
        self._tail = self._load(db)

    def _tidy(self) -> None:
        tail = self._tail
        tail.published = tail.published.tidied()

    def _combine(self, works: Sequence[Work]) -> Sequence[Work]:
        """Make one group of the jobs; changes to the catalog go before it, background work behind."""
        jobs, calls, first, rest = list[Job](), list[HoldWork](), list[Work](), list[Work]()
        for work in works:
            match work:
                case Job():
                    jobs.append(work)
                case HoldWork():
                    calls.append(work)
                case CatalogWork():
                    first.append(work)
                case _:
                    rest.append(work)
        group = Group(jobs, calls, self._tail, self._counters, self._bound, self._accepted, self._clock())
        return [*first, *([group] if jobs or calls else []), *rest]

    async def _change(
        self, decide: Decide[T], actor: str, look: Callable[[apsw.Connection], None] = lambda db: None
    ) -> T:
        self._check_open()
        work = CatalogWork(self._now, decide, actor, self._clock(), look)
        self._writer.submit([work], Lane.URGENT)
        return await asyncio.shield(asyncio.wrap_future(work.future))

    async def _of_account(self, name: str, ask: Callable[[apsw.Connection, int], list[T]]) -> list[T]:
        """Ask about one account; nothing is known of one that does not exist."""
        self._check_open()
        account = self.catalog.accounts.get(name)
        return [] if account is None else await self._read(lambda db: ask(db, account.number))

    async def _read(self, ask: Callable[[apsw.Connection], T]) -> T:
        self._check_open()
        try:
            with precedence.computing():
                return await asyncio.get_running_loop().run_in_executor(self._readers, lambda: ask(self._reader()))
        except Damaged as damage:
            raise Problem(
                Code.UNPROVEN, f"The answer touches a part that is damaged ({damage}). Run verify.", retry_after_s=60
            ) from damage
        except (apsw.Error, OSError) as error:
            raise unavailable(f"The ledger could not be read: {error}.") from error

    def _reader(self) -> apsw.Connection:
        if not hasattr(self._local, "db"):
            self._local.db = self._connect_reader()
        db: apsw.Connection = self._local.db
        return db

    def _event(self, db: apsw.Connection, account: str, source: str, id: str) -> KeptEvent | None:
        published = self._tail.published
        if account not in published.catalog.accounts:
            return None
        wanted = identity.fingerprints(self._secret, [account], [source], [id])
        sequences = published.identities.probe(wanted, db).sequence
        for sequence, kept in kept_events(db, sequences).items():
            sources, ids = source_and_id([kept.raw])
            if (kept.account, sources[0], ids[0]) == (published.catalog.accounts[account].number, source, id):
                statement = f"""SELECT first, recorded, columns FROM log WHERE kind = {EVENTS} AND first <= ?
                    ORDER BY first DESC LIMIT 1"""
                first, recorded, columns = file.row(db, statement, (sequence,))
                time = int(unpack_columns(columns).time[sequence - first])
                return KeptEvent(sequence, recorded, account, time, kept.raw)
        return None

    def _hold(self, db: apsw.Connection, account: Account, id: str) -> Hold | None:
        name = (account.number, id)
        kept = hold_tables.find(db, [name]).get(name)
        return None if kept is None else hold_entries.hold_of(kept, account.name)

    def _audit(self, db: apsw.Connection, query: AuditQuery) -> AuditPage:
        if EVERYONE in self._keeper.scrub.damaged:
            raise Damaged("the log's headers are not what was written")
        return audit.page(db, query)

    def _used_label_sets(self, account: int, meter: str) -> dict[int, set[Labels]]:
        """Return the label sets used in each UTC month, from the rollups and what is not folded yet."""
        tail = self._tail
        used: dict[int, set[Labels]] = {}
        if (account, meter) not in tail.series.strands:
            return used
        in_force = tail.catalog.meters[meter]
        db = self._connect_reader()
        cells = reading.month_cells(db, tail.published, tail.series, account, meter)
        db.close()
        for number, month in zip(cells.series.tolist(), cells.bucket.tolist(), strict=True):
            _, _, version, labels = tail.series.describe(number)
            if counts(in_force, version):
                used.setdefault(month, set()).add(labels)
        return used

    def _verify(self, progress: Callable[[int, int], None]) -> Proof:
        db = self._connect_reader()
        try:
            proof = verify.verify(db, self._now, progress)
            faults = [
                Fault("limits", f"the counter of limit {id!r} is not what the log says")
                for some in batched(self._counters.names, COUNTERS_AT_ONCE)
                for id in self._miscounted(db, some)
            ]
        except UNREADABLE as error:
            faults = [Fault("limits", f"cannot be counted: {type(error).__name__}: {error}")]
        finally:
            db.close()
        return replace(proof, faults=(*proof.faults, *faults))

    def _miscounted(self, db: apsw.Connection, some: Sequence[tuple[int, str]]) -> list[str]:
        """Have the writer, between two transactions, count some limits again."""
        told: Future[list[str]] = Future()

        def count() -> None:
            tail = self._tail
            try:
                told.set_result(
                    list(self._counters.faults(some, tail.catalog, partial(reading.counted, db, tail), tail.book.open))
                )
            except UNREADABLE as error:
                told.set_exception(error)

        task = Task(lambda db: None, count)
        self._writer.submit([task], Lane.BACKGROUND)
        # While nothing can be written, counters decide nothing either.
        with suppress(Problem):
            task.wait()
            return told.result()
        return []


def batched(names: Sequence[tuple[int, str]], size: int) -> Iterator[Sequence[tuple[int, str]]]:
    """Yield names, so many at a time."""
    return (names[start : start + size] for start in range(0, len(names), size))
