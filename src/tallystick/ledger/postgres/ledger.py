"""The distributed ledger behind the contract of ledger/base.py: threads and caches around one database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import IO, TypeVar

import psycopg

from tallystick.clock import Clock
from tallystick.errors import Code, Problem
from tallystick.holding import Answer
from tallystick.ledger.base import KeptEvent, Proof
from tallystick.ledger.packed import hold_entries
from tallystick.ledger.packed.deciding import Call, Release, Renew, Reserve
from tallystick.ledger.packed.segment import Damaged, unpack_columns
from tallystick.ledger.postgres import (
    audit,
    copy_state,
    hold_tables,
    identities,
    key_use,
    listing,
    log,
    migrating,
    reading,
    replica,
    resource_tables,
    server,
    splitting,
    verify,
)
from tallystick.ledger.postgres.catalog_log import CatalogLog, Look, Tried
from tallystick.ledger.postgres.key_use import KeyUses
from tallystick.ledger.postgres.lanes import Tally
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.pool import Again, Pool, unavailable
from tallystick.ledger.postgres.replica import Watch
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.ledger.postgres.writing import Writing
from tallystick.ledger.sqlite import changes, definitions, limiting
from tallystick.ledger.sqlite.admitting import HoldWork
from tallystick.ledger.sqlite.book import held
from tallystick.ledger.sqlite.changes import Decide
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.ownership import Ownership
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
READERS = 4
USES_EVERY_LOOKS = 60
"""About a minute: how much a crash may forget of when keys were used."""


async def open_postgres(url: str, settings: Settings, clock: Clock) -> PostgresLedger:
    """Open the ledger in a database, making its tables if they are not there.

    One that takes no writes, a replica mostly, is read: what would write is refused with READ_ONLY. Raises LedgerError
    for a database that cannot be reached or used, and for a newer format.
    """
    return await asyncio.to_thread(PostgresLedger, url, settings, clock)


class PostgresLedger:
    """One of any number of processes on one database. What it keeps in memory can be read again at any time."""

    def __init__(self, url: str, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._closed = False
        self._catalog = CatalogLog()
        self._cache = SeriesCache()
        self._tally = Tally()
        db = server.opened(url, may_be_read_only=True)
        try:
            is_read = server.is_read_only(db)
            self._enter(db, url) if is_read else self._prepare(db, url)
            self._secret = server.secret(db)
            self._is_distributed = migrating.is_distributed(db)
            self._uses = KeyUses(db)
            self._tally.note(reading.moment(db))
            self._tally.clock = log.latest_clock(db)
            self._readers = Pool(url, "reader", READERS)
            around = self._look_around
            self._watch = Watch(self._readers, db, self._catalog, settings.primary_url, around) if is_read else None
        finally:
            db.close()
        self._writer: Writing | None = None
        if self._watch is not None:
            self._watch.start()
        else:
            self._writer = Writing(
                url,
                settings,
                clock,
                self._secret,
                self._catalog,
                self._cache,
                self._tally,
                self._look_around,
                is_split=self._is_distributed,
            )
        self._asking = asyncio.Lock()
        self._next_answer: asyncio.Task[None] | None = None

    def _prepare(self, db: Db, url: str) -> None:
        """Make what is not there of a ledger that this process writes."""
        name = f"The database {server.named(url)}"
        server.migrate(db, url, self._clock())
        copy_state.refuse(db, name)
        # Once more with the catalog locked: a copy may have begun in between.
        self._catalog.define_builtins(db, self._clock(), lambda db, catalog: copy_state.refuse(db, name))
        key_use.forget_others(db, self._keys())

    def _enter(self, db: Db, url: str) -> None:
        """Look whether there is a ledger that can be read."""
        server.check_format(db, url)
        copy_state.refuse(db, f"The database {server.named(url)}")
        migrating.refuse_distributed_replica(db, url)
        self._catalog.refresh(db)

    def _keys(self) -> list[str]:
        return [key.id for key in self.catalog.keys.values()]

    def _look_around(self, db: Db, looks: int) -> None:
        """Learn now and then what other processes have done, and let them know when keys were used."""
        self._tally.note(reading.moment(db))
        if looks % USES_EVERY_LOOKS == 0:
            self._uses.store(db, self._keys()) if self._watch is None else self._uses.read(db)

    @property
    def _writing(self) -> Writing:
        """What writes; raises Problem where nothing does."""
        self._check_open()
        if self._watch is not None:
            raise self._watch.refusal()
        assert self._writer is not None, "a ledger that is not only read is written"
        return self._writer

    # The catalog

    @property
    def catalog(self) -> Catalog:
        return self._catalog.known.catalog

    async def current(self) -> Catalog:
        # All who come before the question is sent share it; who comes later waits for the next one.
        if self._next_answer is None:
            self._next_answer = asyncio.ensure_future(self._ask())
        await asyncio.shield(self._next_answer)
        return self.catalog

    async def _ask(self) -> None:
        async with self._asking:
            self._next_answer = None
            await self._read(self._catalog.refresh if self._watch is None else self._watch.refresh)

    async def put_account(self, account: Account, *, actor: str) -> Account:
        return await self._change(changes.put_account(account), actor)

    async def delete_account(self, name: str, *, actor: str) -> Deletion:
        self._check_written()
        account = (await self.current()).accounts.get(name)
        if account is None:
            return Deletion.UNKNOWN
        ownership = Ownership(account.number)

        def look(db: Db, catalog: Catalog) -> None:
            found = db.execute("SELECT 1 FROM head WHERE account = %s AND events > 0", (account.number,)).fetchall()
            ownership.has_events = bool(found)

        return await self._change(changes.delete_account(account, ownership), actor, look)

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
        return await self._read(lambda db: audit.page(db, query))

    # What is counted

    async def put_meter(self, meter: Meter, *, actor: str, start: int | None = None) -> None:
        self._define(await self._change(definitions.put_meter(meter, start), actor))

    async def delete_meter(self, name: str, *, actor: str) -> bool:
        found = await self._change(definitions.delete_meter(name), actor)
        if isinstance(found, Problem):
            raise found
        return found

    async def put_rates(self, table: str, rates: RateTable, *, actor: str, recount: bool = False) -> None:
        change = definitions.RatesChange(table, rates, recount)
        beside = self._writing.changers_beside

        def look(db: Db, catalog: Catalog) -> None:
            # In a snapshot of its own, of everything: nobody commits meanwhile.
            def has_counted(query: UsageQuery) -> bool:
                ask = [query]
                tables = beside.run(lambda db: reading.usage(db, self._catalog, self._cache, ask, 0, self._held))
                return tables[0].total.count > 0

            change.look(has_counted, catalog)

        self._define(await self._change(change.decide, actor, look))

    def _define(self, problem: Problem | None) -> None:
        if problem is not None:
            raise problem
        self._writing.recounter.wake()

    def replayed(self, name: str) -> tuple[int, int] | None:
        replay = self.catalog.replays.get(name)
        if replay is None:
            return None
        progress = self._writing.recounter.progress if self._watch is None else self._watch.progress
        return progress.get((name, replay.meters[0].epoch), (0, self._tally.sequence))

    # Limits and holds

    async def put_limit(self, limit: Limit, *, actor: str) -> Outcome:
        return await self._change(limiting.put_limit(limit), actor, partial(_forget, limit.id, crossings=False))

    async def delete_limit(self, id: str, *, actor: str) -> bool:
        return await self._change(limiting.delete_limit(id), actor, partial(_forget, id, crossings=True))

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

    async def _call(self, account: str, id: str, call: Call) -> Answer:
        lanes = self._writing.lanes
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        with precedence.small():
            lanes.submit("urgent", HoldWork(account, id, call, future))
            return await future

    async def settle(self, account: str, id: str, batch: Batch) -> Answer:
        writing = self._writing
        size = batch.size
        writing.room.take(size)
        job = Job(batch, False, asyncio.get_running_loop().create_future(), size, settles=(account, id))
        writing.lanes.submit("urgent", job)
        answer: Answer = await job.future
        return answer

    async def hold(self, account: str, id: str) -> Hold | None:
        def one(db: Db, owner: int) -> list[Hold]:
            kept = hold_tables.one(db, owner, id)
            return [] if kept is None else [hold_entries.hold_of(kept, account)]

        found = await self._of_account(account, one)
        return found[0] if found else None

    async def hold_accounts(self, id: str) -> Sequence[str]:
        owners = await self._read(lambda db: hold_tables.owners(db, id))
        return sorted(account.name for account in self.catalog.accounts.values() if account.number in owners)

    async def holds(self, query: HoldQuery) -> Sequence[Hold]:
        def some(db: Db, owner: int) -> list[Hold]:
            return hold_tables.page(db, owner, query, max(self.now, log.latest_clock(db, [owner])))

        return await self._of_account(query.account, some)

    @property
    def now(self) -> int:
        now = self._clock()
        if self._watch is not None and self._watch.behind is not None:
            # What was renewed since, and is not replayed, is not over yet.
            now = min(now, self._watch.behind)
        return max(now, self._tally.clock, self._tally.recorded)

    async def crossings(self, limit: str) -> Sequence[Crossing]:
        known = (await self.current()).limits.get(limit)
        if known is None:
            return ()
        return await self._of_account(known.account, lambda db, owner: hold_tables.crossings(db, owner, limit))

    def _held(self, db: Db, catalog: Catalog, some: Sequence[Limit | None]) -> Sequence[int]:
        """Say what is held of limits, in the present snapshot."""
        numbers = {each.account: catalog.accounts[each.account].number for each in some if each is not None}
        now = max(self.now, log.latest_clock(db, [*numbers.values()]))
        holds: dict[int, list[Hold]] = {}
        for owner, kept in hold_tables.open_at(db, [*numbers.values()], now):
            holds.setdefault(owner, []).append(hold_entries.hold_of(kept, ""))
        return [0 if each is None else held(each, holds.get(numbers[each.account], ()), now) for each in some]

    # Events and what they come to

    async def commit(self, batch: Batch, *, create_accounts: bool = False, bulk: bool = False) -> Mapping[int, Verdict]:
        writing = self._writing
        if not len(batch):
            return {}
        size = batch.size
        writing.room.take(size)
        if self._is_distributed and splitting.is_of_many(batch):
            return await self._keep_each(batch, size, create_accounts=create_accounts, bulk=bulk)
        return await self._keep(batch, size, create_accounts=create_accounts, bulk=bulk)

    async def _keep(self, batch: Batch, size: int, *, create_accounts: bool, bulk: bool) -> Mapping[int, Verdict]:
        """Keep a batch whose room was taken."""
        job = Job(batch, create_accounts, asyncio.get_running_loop().create_future(), size)
        self._writing.lanes.submit("bulk" if bulk else "urgent", job)
        verdicts: Mapping[int, Verdict] = await job.future
        return verdicts

    async def _keep_each(self, batch: Batch, size: int, *, create_accounts: bool, bulk: bool) -> Mapping[int, Verdict]:
        """Keep the events of each account apart; what is not begun gives its room back."""

        async def keep(part: Batch) -> Mapping[int, Verdict]:
            nonlocal size
            size -= (own := part.size)
            return await self._keep(part, own, create_accounts=create_accounts, bulk=bulk)

        try:
            # All that are missing at once: each part would change the catalog for its own.
            if create_accounts and (lacking := splitting.missing(batch, self.catalog)):
                await self._change(changes.create_accounts(lacking), "event")
            return await splitting.keep_each(batch, keep)
        finally:
            self._writing.room.give(size)

    async def usage(self, queries: Sequence[UsageQuery]) -> Sequence[UsageTable]:
        now = self.now
        return await self._ask_all(lambda db: reading.usage(db, self._catalog, self._cache, queries, now, self._held))

    async def as_of(self, queries: Sequence[UsageQuery]) -> AsOf:
        return await self._read(reading.moment)

    async def events(self, query: EventQuery) -> EventPage:
        settled = listing.last_settled if self._watch is None else replica.last_settled
        return await self._ask_all(lambda db: listing.events(db, self._catalog, self._cache, query, settled))

    async def event(self, account: str, source: str, id: str) -> KeptEvent | None:
        return await self._read(lambda db: self._event(db, account, source, id))

    async def live(self, query: LiveQuery) -> Sequence[LiveSpace]:
        return await self._of_account(query.account, lambda db, number: resource_tables.live_spaces(db, number, query))

    async def resources(self, query: ResourceQuery) -> Sequence[LiveResource]:
        ask = resource_tables.live_resources
        return await self._of_account(query.account, lambda db, number: ask(db, number, query))

    async def records(self, query: RecordQuery) -> RecordPage:
        def asked(db: Db) -> RecordPage:
            with reading.snapshot(db):
                return self._records(db, query)

        return await self._ask_all(asked)

    # The whole

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Proof:
        told = progress or (lambda done, total: None)
        return await self._read(lambda db: verify.verify(db, self._secret, told))

    async def backup(self) -> IO[bytes]:
        self._check_open()
        raise Problem(Code.NOT_FOUND, "This ledger is a PostgreSQL database: back it up with pg_dump, or as a cluster.")

    def vitals(self) -> Vitals:
        names = {account.number: account.name for account in self.catalog.accounts.values()}
        warned = self._writer.lanes.warned if self._writer else ()
        near = ((names.get(account), meter) for (account, meter), _ in warned)
        tally = self._tally
        return Vitals(
            sequence=tally.sequence,
            committed=tally.recorded if tally.sequence else None,
            queued_bytes=self._writer.room.bytes if self._writer else 0,
            wal_bytes=0,
            commits=tally.commits,
            accepted={names[number]: events for number, events in dict(tally.accepted).items() if number in names},
            label_set_warnings=Counter((name, meter) for name, meter in near if name is not None),
            damaged_entries=0,
            replica=None if self._watch is None else self._watch.standing,
        )

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch.join()
        if self._writer is not None:
            # When keys were used is no part of the log: what cannot be written is forgotten.
            with suppress(Problem):
                self._writer.changers.run(partial(self._uses.store, ids=self._keys()))
            self._writer.close()
        self._readers.close()

    def _check_written(self) -> None:
        """Raise Problem where nothing is written."""
        _ = self._writing

    def _check_open(self) -> None:
        if self._closed:
            raise unavailable("The ledger is closed.")

    async def _change(self, decide: Decide[T], actor: str, look: Look = lambda db, catalog: None) -> T:
        changers = self._writing.changers
        now = self._clock()
        tried: Tried[T] = Tried()
        work = changers.submit(lambda db: self._catalog.change(db, decide, actor, now, look, tried))
        return await asyncio.shield(asyncio.wrap_future(work))

    async def _of_account(self, name: str, ask: Callable[[Db, int], list[T]]) -> list[T]:
        """Ask about one account; nothing is known of one that does not exist."""

        def asked(db: Db) -> list[T]:
            with reading.snapshot(db):
                account = self._catalog.refresh(db).catalog.accounts.get(name)
                return [] if account is None else ask(db, account.number)

        return await self._ask_all(asked)

    def _event(self, db: Db, account: str, source: str, id: str) -> KeptEvent | None:
        known = self._catalog.refresh(db).catalog.accounts.get(account)
        found = known and identities.find(db, self._secret, known.number, account, source, id)
        if not known or not found:
            return None
        statement = "SELECT body FROM posting WHERE account = %s AND number = %s"
        ((body,),) = db.execute(statement, (known.number, found.header.number)).fetchall()
        time = int(unpack_columns(body).time[found.at])
        sequence = int(found.header.sequence()[found.at])
        return KeptEvent(sequence, found.header.recorded, account, time, found.raw)

    def _records(self, db: Db, query: RecordQuery) -> RecordPage:
        catalog = self._catalog.refresh(db).catalog
        account, meter = catalog.accounts.get(query.account), catalog.meters.get(query.meter)
        if account is None or meter is None:
            return RecordPage((), 0)
        return resource_tables.records(db, account.number, meter.epoch, query)

    async def _ask_all(self, ask: Callable[[Db], T]) -> T:
        """Ask the catalog and what it counts together, which one snapshot has unless they are on several nodes.

        There whoever changes the catalog is waited for, and what was asked while it changed is asked again.
        """
        if not self._is_distributed:
            return await self._read(ask)

        def asked(db: Db) -> T:
            before = self._catalog.settled(db)
            answer = ask(db)
            if self._catalog.last(db) != before:
                raise Again("the catalog changed meanwhile")
            return answer

        return await self._read(asked)

    async def _read(self, ask: Callable[[Db], T]) -> T:
        self._check_open()
        try:
            return await asyncio.wrap_future(self._readers.submit(ask))
        except Damaged as damage:
            raise Problem(
                Code.UNPROVEN, f"The answer touches a part that is damaged ({damage}). Run verify.", retry_after_s=60
            ) from damage
        except psycopg.Error as error:
            raise unavailable(f"The ledger could not be read: {error}.") from error


def _forget(id: str, db: Db, catalog: Catalog, *, crossings: bool) -> None:
    """Forget what is remembered of a limit that is about to change, if it is there."""
    limit = catalog.limits.get(id)
    if limit is not None:
        hold_tables.forget(db, catalog.accounts[limit.account].number, id, crossings=crossings)
