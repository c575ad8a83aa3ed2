"""The contract, executable: a list of events from which every answer is worked out again. It is the oracle."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import IO

from tallystick import limits
from tallystick.clock import Clock
from tallystick.errors import Code, Problem
from tallystick.ledger import verdicts
from tallystick.ledger.base import CatalogStale, Fault, KeptEvent, Proof
from tallystick.ledger.memory import listing
from tallystick.ledger.memory.answers import answer
from tallystick.ledger.memory.documents import month_of, read, time_of
from tallystick.ledger.memory.holding import HoldLog
from tallystick.ledger.memory.kept import Claims, Kept, Recount, additions, judge, link_of, remember, without_value
from tallystick.ledger.memory.living import change_of, live_resources, live_spaces
from tallystick.ledger.vitals import Commits, Vitals, near
from tallystick.model import (
    Account,
    AsOf,
    Batch,
    Catalog,
    Change,
    Doomed,
    EventPage,
    EventQuery,
    Hold,
    Labels,
    Limit,
    LiveQuery,
    LiveResource,
    LiveSpace,
    Posting,
    Record,
    RecordPage,
    RecordQuery,
    Replay,
    ResourceQuery,
    UsageQuery,
    UsageTable,
    Verdict,
)
from tallystick.settings import Settings


class MemoryLedger(HoldLog):
    """Keeps the contract of `Ledger` in the most obvious way, for as long as the object lives; nothing is on disk.

    It reads every event from its bytes and shares no arithmetic with the other ledgers, so that it can be trusted to
    judge them. A replay is over when the call that asked for it returns.
    """

    def __init__(self, settings: Settings, clock: Clock, catalog: Catalog) -> None:
        super().__init__(clock, catalog)
        self._settings = settings
        self._events: list[Kept] = []
        self._recounts: list[Recount] = []
        self._places: dict[tuple[str, str, str], int] = {}
        self._claims: Claims = {}
        self._used: defaultdict[tuple[str, str, int, int, int], dict[Labels, set[Labels]]] = defaultdict(dict)
        self._commits = Commits()

    async def commit(self, batch: Batch, *, create_accounts: bool = False, bulk: bool = False) -> Mapping[int, Verdict]:
        self._check_open()
        if batch.catalog_version != self._catalog.version:
            raise CatalogStale(f"prepared with catalog {batch.catalog_version}, in force is {self._catalog.version}")
        return self._take_all(batch, create_accounts, is_held=False)

    def _take_all(self, batch: Batch, create_accounts: bool, is_held: bool) -> Mapping[int, Verdict]:
        started, recorded = perf_counter(), self._tick()
        taken = [
            self._take(account, raw, batch.received, recorded, create_accounts, batch.doomed.get(at), is_held)
            for at, (account, raw) in enumerate(zip(batch.account, batch.raw, strict=True))
        ]
        kept = [account for account, verdict in zip(batch.account, taken, strict=True) if verdict is None]
        self._note_crossings(kept, recorded)
        self._commits.add(perf_counter() - started, batch.size)
        return {index: verdict for index, verdict in enumerate(taken) if verdict is not None}

    def _keep_for(self, hold: Hold, batch: Batch) -> Verdict | None:
        if batch.catalog_version != self._catalog.version:
            raise CatalogStale
        return self._take_all(batch, False, is_held=True).get(0)

    def _used_of(self, limit: Limit, at: int) -> int:
        return limits.used_of(
            limit, answer(limits.usage_of(limit, at), self._catalog, self._counted(), AsOf(0, 0)).total
        )

    async def usage(self, queries: Sequence[UsageQuery]) -> Sequence[UsageTable]:
        self._check_open()
        return [self._answer(query) for query in queries]

    def _answer(self, query: UsageQuery) -> UsageTable:
        table, now = answer(query, self._catalog, self._counted(), self._as_of()), self.now
        if query.limit is None or not query.edges[0] <= now < query.edges[-1]:
            return table
        return replace(table, held=self._held(query.limit, now))

    async def as_of(self, queries: Sequence[UsageQuery]) -> AsOf:
        self._check_open()
        return self._as_of()

    async def events(self, query: EventQuery) -> EventPage:
        self._check_open()
        return listing.page(query, self._events, self._counted(), self._as_of())

    async def backup(self) -> IO[bytes]:
        raise Problem(Code.NOT_FOUND, "This ledger is in memory and ends with its process: there is nothing to copy.")

    def vitals(self) -> Vitals:
        bound, values = near(self._settings.label_sets_max), near(self._settings.unique_values_max)
        warnings = Counter(
            (account, meter)
            for (account, meter, *_), used in self._used.items()
            if len(used) >= bound
            or sum(labels != without for without, each in used.items() for labels in each) >= values
        )
        return Vitals(
            sequence=len(self._events),
            committed=self._events[-1].recorded if self._events else None,
            queued_bytes=0,
            wal_bytes=0,
            commits=self._commits,
            accepted=Counter(kept.account for kept in self._events),
            label_set_warnings=warnings,
            damaged_entries=0,
        )

    async def live(self, query: LiveQuery) -> Sequence[LiveSpace]:
        self._check_open()
        return live_spaces(self._said(query.account), query)

    async def resources(self, query: ResourceQuery) -> Sequence[LiveResource]:
        self._check_open()
        return live_resources(self._said(query.account), query)

    async def event(self, account: str, source: str, id: str) -> KeptEvent | None:
        self._check_open()
        place = self._places.get((account, source, id))
        if place is None:
            return None
        kept = self._events[place]
        return KeptEvent(kept.sequence, kept.recorded, kept.account, kept.time, kept.raw)

    async def records(self, query: RecordQuery) -> RecordPage:
        self._check_open()
        found = sorted(self._records(query), key=lambda record: (record.time, record.source, record.event))
        return RecordPage(found[query.offset : query.offset + query.limit], len(found))

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Proof:
        self._check_open()
        faults: list[Fault] = []
        claims: Claims = {}
        for done in range(len(self._events) + 1):
            faults.extend(self._faults_of_recounts(done, claims))
            if done < len(self._events):
                faults.extend(self._faults_of(done, claims))
                if progress is not None:
                    progress(done + 1, len(self._events))
        postings = sum(1 for _ in self._postings())
        return Proof(len(self._events), postings, self._entries, self._head, tuple(faults))

    @property
    def _head(self) -> str:
        return self._events[-1].link if self._events else ""

    # Events come in

    def _take(
        self,
        account: str,
        raw: bytes,
        received: int,
        recorded: int,
        create_account: bool,
        doomed: Doomed | None,
        is_held: bool,
    ) -> Verdict | None:
        document = read(raw)
        source, id = document["source"], document["id"]
        if (account, source, id) in self._places:
            return judge(document, account, self._events[self._places[account, source, id]], self._catalog)
        if doomed is not None:
            return doomed.verdict
        if account not in self._catalog.accounts and not create_account:
            return verdicts.account_unknown(account)
        time = time_of(document, received)
        kept = Kept(0, recorded, received, account, source, id, time, raw, (), self._catalog, "")
        postings = tuple(additions(kept, self._catalog, self._claims))
        exceeded = next(filter(None, (self._exceeded(kept, posting) for posting in postings)), None)
        if exceeded is not None:
            return exceeded
        over = None if is_held else self._over_limit(account, postings, time, recorded)
        if over is not None:
            return verdicts.over_limit(over)
        if account not in self._catalog.accounts:
            self._put_account(Account(account, 0), "event")
        remember(self._claims, kept, self._catalog, postings)
        self._use(kept, postings)
        self._keep(replace(kept, postings=postings))
        return None

    def _exceeded(self, kept: Kept, posting: Posting) -> Verdict | None:
        """Refuse the posting that needs one label set, or one distinct value, too many."""
        used = self._used[self._month(kept, posting)]
        without = without_value(posting.labels)
        if without not in used and len(used) >= self._settings.label_sets_max:
            return verdicts.label_sets_exceeded(posting.meter)
        is_new_value = posting.labels != without and posting.labels not in used.get(without, ())
        if is_new_value and sum(map(len, used.values())) >= self._settings.unique_values_max:
            return verdicts.unique_values_exceeded(posting.meter)
        return None

    def _use(self, kept: Kept, postings: Iterable[Posting]) -> None:
        for posting in postings:
            self._used[self._month(kept, posting)].setdefault(without_value(posting.labels), set()).add(posting.labels)

    def _month(self, kept: Kept, posting: Posting) -> tuple[str, str, int, int, int]:
        return kept.account, posting.meter, self._catalog.meters[posting.meter].epoch, *month_of(kept.time)

    def _keep(self, kept: Kept) -> None:
        numbered = replace(kept, sequence=len(self._events) + 1)
        self._places[kept.account, kept.source, kept.id] = len(self._events)
        self._entries += 1
        self._events.append(replace(numbered, link=link_of(self._head, numbered)))

    # Kept events are counted again

    def _begin_anew(self, replay: Replay) -> None:
        """Have meters that are in force now count what is kept already, in the order in which it was kept."""
        meters = {meter.name: meter for meter in replay.meters}
        recount = Recount(len(self._events), replay.start, replace(self._catalog, meters=meters))
        postings = tuple(self._recounted(recount, self._claims))
        self._recounts.append(replace(recount, postings=postings))
        for place, posting in postings:
            self._use(self._events[place], [posting])

    def _recounted(self, recount: Recount, claims: Claims) -> Iterator[tuple[int, Posting]]:
        for place, kept in enumerate(self._events[: recount.events]):
            if kept.time >= recount.start:
                postings = list(additions(kept, recount.catalog, claims, again=True))
                remember(claims, kept, recount.catalog, postings)
                yield from ((place, posting) for posting in postings)

    def _rated(self, table: str) -> Iterator[tuple[str, int]]:
        """Return the type and time of everything that meters with this rate table have counted."""
        for kept, posting in self._counted():
            rate = self._catalog.meters[posting.meter].rate
            if rate is not None and rate.table == table:
                yield dict(posting.labels).get(rate.label, ""), kept.time

    def _has_events(self, account: str) -> bool:
        return any(kept.account == account for kept in self._events)

    # Questions are answered

    def _postings(self) -> Iterator[tuple[Kept, Posting]]:
        """Return everything that was ever counted."""
        for kept in self._events:
            yield from ((kept, posting) for posting in kept.postings)
        for recount in self._recounts:
            yield from ((self._events[place], posting) for place, posting in recount.postings)

    def _counted(self) -> list[tuple[Kept, Posting]]:
        """Return what was counted by the meters that are there, since they last began anew."""
        return [(kept, posting) for kept, posting in self._postings() if self._is_in_force(posting)]

    def _is_in_force(self, posting: Posting) -> bool:
        meter = self._catalog.meters.get(posting.meter)
        return meter is not None and posting.meter_version >= meter.epoch

    def _records(self, query: RecordQuery) -> Iterator[Record]:
        for kept in self._events:
            if kept.account == query.account and query.start <= kept.time < query.end:
                change = change_of(read(kept.raw), kept.account, kept.time)
                if change is not None and any(map(partial(self._is_record, kept, query.meter), kept.postings)):
                    said = (change.space, change.kind, change.id, change.state or {})
                    yield Record(kept.time, kept.source, kept.id, *said)

    def _is_record(self, kept: Kept, meter: str, posting: Posting) -> bool:
        counted = kept.catalog.meters[posting.meter]
        return posting.meter == meter and counted.once_per == "state" and self._is_in_force(posting)

    def _said(self, account: str) -> list[Change]:
        """Return all that was ever said of an account's resources."""
        kept = [each for each in self._events if each.account == account]
        changes = (change_of(read(each.raw), account, each.time) for each in kept)
        return [change for change in changes if change is not None]

    def _as_of(self) -> AsOf:
        return AsOf(self._events[-1].sequence, self._events[-1].recorded) if self._events else AsOf(0, 0)

    # What is remembered is compared with what was sent

    def _faults_of(self, place: int, claims: Claims) -> Iterator[Fault]:
        kept = self._events[place]
        where = f"event {kept.sequence}"
        link = link_of(self._events[place - 1].link if place else "", kept)
        if kept.link != link:
            yield Fault(where, f"its link should be {link} and is {kept.link}")
        time = time_of(read(kept.raw), kept.received)
        if kept.time != time:
            yield Fault(where, f"its time should be {time} and is {kept.time}")
        postings = tuple(additions(kept, kept.catalog, claims))
        remember(claims, kept, kept.catalog, postings)
        if kept.postings != postings:
            yield Fault(where, f"its postings should be {postings} and are {kept.postings}")

    def _faults_of_recounts(self, events: int, claims: Claims) -> Iterator[Fault]:
        for recount in self._recounts:
            if recount.events == events:
                postings = tuple(self._recounted(recount, claims))
                if recount.postings != postings:
                    yield Fault(f"recount after event {events}", f"it should be {postings} and is {recount.postings}")
