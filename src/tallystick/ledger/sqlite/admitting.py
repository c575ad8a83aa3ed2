"""What one transaction does to holds: calls decided, events counted, and one entry of the log for it all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import apsw
import msgspec

from tallystick import holding, limits
from tallystick.errors import Problem
from tallystick.holding import Answer, Claimed, Outcome, concerned, held_of
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.packed import hold_entries, segment
from tallystick.ledger.packed.hold_entries import Admitting, Crossed, Named
from tallystick.ledger.sqlite import hold_tables
from tallystick.ledger.sqlite.counters import Counter, Counters
from tallystick.ledger.sqlite.file import ADMISSION
from tallystick.ledger.sqlite.job import Job, set_exception, tell
from tallystick.ledger.sqlite.tail import Tail
from tallystick.limits import Balance
from tallystick.model import Hold, HoldMode, HoldState, Limit, Status


@dataclass(frozen=True, slots=True)
class Reserve:
    """A hold that is asked for, worked out with the catalog of this version."""

    hold: Hold
    catalog_version: int


@dataclass(frozen=True, slots=True)
class Renew:
    """A hold that is to last longer, and perhaps to hold another quantity."""

    ttl: int | None
    quantity: int | None


@dataclass(frozen=True, slots=True)
class Release:
    """A hold that is not needed any more."""


@dataclass(slots=True, eq=False)
class HoldWork:
    """A call about the hold of an account, on its way through the writer; written with others, as a Group."""

    account: str
    id: str
    call: Reserve | Renew | Release
    future: asyncio.Future[Answer]
    bytes: int = 0
    answer: Answer | None = None

    @property
    def result(self) -> object:
        """What its caller waits for."""
        return self.answer

    def write(self, db: apsw.Connection) -> None:
        raise TypeError("calls about holds are written together, as a Group")

    def publish(self) -> None:
        raise TypeError("calls about holds are published together, as a Group")

    def fail(self, problem: Problem | CatalogStale) -> None:
        tell(self.future.get_loop(), set_exception, self.future, problem)


@dataclass(slots=True, eq=False)
class Turn:
    """One transaction's part in admission, at the instant `now`; for the writer thread.

    What it changes in memory is the writer's own until `publish`; when the transaction fails, all of that is read from
    the file again.
    """

    tail: Tail
    counters: Counters
    db: apsw.Connection
    now: int
    _known: dict[Named, Hold] = field(default_factory=dict)
    _changes: list[Admitting] = field(default_factory=list)
    _changed: dict[Named, Hold] = field(default_factory=dict)
    _over: dict[Named, None] = field(default_factory=dict)
    _settling: dict[Named, Job] = field(default_factory=dict)

    def begin(self, calls: Sequence[HoldWork], jobs: Sequence[Job]) -> None:
        """Let holds expire that are due, and read those from the file that are asked about and not open."""
        book = self.tail.book
        for owner, hold in book.overdue(self.now):
            self.counters.hold(owner, hold, None)
            self._over[owner, hold.id] = None
        names = [(work.account, work.id) for work in calls] + [job.settles for job in jobs if job.settles is not None]
        wanted = [(self._owner(account), id) for account, id in names]
        closed = [name for name in wanted if name[0] and name[1] not in book.open.get(name[0], {})]
        if closed:
            accounts = {account.number: account.name for account in self.tail.catalog.accounts.values()}
            for name, kept in hold_tables.find(self.db, closed).items():
                self._known[name] = hold_entries.hold_of(kept, accounts[name[0]])

    def decide(self, work: HoldWork) -> None:
        """Answer one call."""
        match work.call:
            case Reserve(hold=hold, catalog_version=version):
                if version != self.tail.catalog.version:
                    work.fail(CatalogStale())
                else:
                    work.answer = self._reserve(hold)
            case Renew(ttl=ttl, quantity=quantity):
                work.answer = self._renew(work.account, work.id, ttl, quantity)
            case Release():
                work.answer = self._release(work.account, work.id)

    def _reserve(self, hold: Hold) -> Answer:
        owner = self._owner(hold.account)
        if not owner:
            return Answer(Outcome.UNKNOWN, self.now)
        known = self._find(owner, hold.id)
        if known is not None and hold.mode is not HoldMode.CHECK_ONLY:
            return self._told(Outcome.DUPLICATE if known.is_same(hold) else Outcome.ID_REUSED, owner, known)
        asked = replace(hold, created=self.now, deadline=self.now + hold.ttl)
        answer = holding.admit(asked, self._balances(owner, asked), self.now)
        if hold.mode is HoldMode.CHECK_ONLY:
            return replace(answer, outcome=Outcome.DONE) if answer.hold else answer
        if answer.hold is not None:
            self._changes.append(hold_entries.made(owner, answer.hold))
            self._put(owner, None, answer.hold)
        return answer

    def _renew(self, account: str, id: str, ttl: int | None, quantity: int | None) -> Answer:
        owner = self._owner(account)
        hold = self._find(owner, id)
        if hold is None:
            return Answer(Outcome.UNKNOWN, self.now)
        if hold.state_at(self.now) is not HoldState.OPEN:
            return self._told(Outcome.ENDED, owner, hold)
        later = replace(hold, deadline=self.now + (hold.ttl if ttl is None else ttl))
        if quantity is not None and quantity > hold.quantity:
            grown = holding.grown(later, quantity, self._balances(owner, later, without=hold), self.now, hold)
            if grown.outcome is Outcome.REFUSED:
                return grown
        if quantity is not None:
            later = replace(later, quantity=quantity)
        self._changes.append(hold_entries.HoldRenewed(owner, id, later.deadline, later.quantity))
        self._put(owner, hold, later)
        return self._told(Outcome.DONE, owner, later)

    def _release(self, account: str, id: str) -> Answer:
        owner = self._owner(account)
        hold = self._find(owner, id)
        if hold is None:
            return Answer(Outcome.UNKNOWN, self.now)
        state = hold.state_at(self.now)
        if state is not HoldState.OPEN:
            return self._told(Outcome.ENDED if state is HoldState.SETTLED else Outcome.DUPLICATE, owner, hold)
        freed = replace(hold, released=self.now)
        self._changes.append(hold_entries.HoldReleased(owner, id, self.now))
        self._put(owner, hold, freed)
        return self._told(Outcome.DONE, owner, freed)

    # Settlements

    def refuse(self, job: Job) -> Answer | None:
        """Say why the event of a settlement must not be recorded; None = it may be, and `settle` comes afterwards."""
        assert job.settles is not None
        account, id = job.settles
        owner = self._owner(account)
        hold = self._find(owner, id)
        if hold is None:
            return Answer(Outcome.UNKNOWN, self.now)
        if hold.released is not None:
            return Answer(Outcome.ENDED, self.now, hold)
        named = (job.batch.source[0], job.batch.id[0])
        if hold.settlement is not None and named != (hold.settlement.source, hold.settlement.event):
            return Answer(Outcome.ID_REUSED, self.now, hold)
        other = self._settling.setdefault((owner, id), job)
        if named != (other.batch.source[0], other.batch.id[0]):
            return Answer(Outcome.BUSY, self.now, hold)
        return None

    def settle(self, job: Job) -> Answer:
        """End the hold of a settlement whose event was judged, unless that was refused."""
        assert job.settles is not None
        account, id = job.settles
        owner, verdict = self._owner(account), job.verdicts.get(0)
        hold = self._find(owner, id)
        assert hold is not None, "one that is not there was refused"
        if verdict is not None and verdict.status is not Status.DUPLICATE:
            return Answer(Outcome.EVENT_REFUSED, self.now, hold, verdict=verdict)
        if hold.settlement is not None:
            return Answer(Outcome.DUPLICATE, self.now, hold, verdict=verdict)
        amounts = holding.amounts_of(job.batch)
        done = holding.settled(hold, job.batch.source[0], job.batch.id[0], amounts, self.now)
        assert done.settlement is not None
        self._changes.append(hold_entries.settled(owner, done, done.settlement))
        self._put(owner, hold, done)
        return Answer(Outcome.DONE, self.now, done, verdict=verdict)

    # Events

    def watch(self, jobs: Iterable[Job]) -> Mapping[str, Sequence[Counter]]:
        """Return the counters of limits that have thresholds or refuse events, by the accounts of jobs."""
        watched = self.tail.book.watched(self.tail.catalog)
        if not watched:
            return {}
        accounts = {name for job in jobs for name in set(job.batch.account) if name in watched}
        return {
            name: [self._counter(self._owner(name), limit) for limit in watched[name]]
            for name in sorted(accounts)
            if self._owner(name)
        }

    def count(self, jobs: Sequence[Job], owners: Sequence[int], watched: Mapping[str, Sequence[Counter]]) -> None:
        """Count the postings of jobs, and note the thresholds that they reach; `owners` are whose they are."""
        if self.counters.is_without(owners):
            return
        for job in jobs:
            self.counters.add(job, self.tail.catalog)
        for name, counters in watched.items():
            owner = self._owner(name)
            for counter in counters if owner in owners else ():
                if counter.limit.thresholds:
                    self._note(owner, counter)

    def _note(self, owner: int, counter: Counter) -> None:
        limit = counter.limit
        standing = limits.standing(limit, counter.balance, self.now, counter.period)
        noted = self.tail.book.crossed.get(limit.id, frozenset())
        for threshold in limits.reached(limit, standing):
            if (threshold, standing.start) not in noted:
                crossing = limits.crossing(limit, threshold, standing, self.now)
                self._changes.append(hold_entries.crossed(owner, crossing))
                self.tail.book.crossed[limit.id] = noted = noted | {(threshold, standing.start)}

    # The end of it

    def write(self) -> None:
        """Write what changed: an entry of the log, a row per hold."""
        if not self._changes:
            return
        tail = self.tail
        header = msgspec.msgpack.encode(hold_entries.AdmissionHeader(tail.entry + 1, self.now, tuple(self._changes)))
        chained = segment.link(tail.link, header)
        self.db.execute(
            "INSERT INTO log (entry, kind, count, recorded, header, link) VALUES (?, ?, ?, ?, ?, ?)",
            (tail.entry + 1, ADMISSION, len(self._changes), self.now, header, chained),
        )
        tail.entry, tail.link = tail.entry + 1, chained
        if self._changed:
            hold_tables.store(self.db, self._changed)
        crossings = [change for change in self._changes if isinstance(change, Crossed)]
        if crossings:
            hold_tables.note(self.db, crossings)

    def show(self) -> None:
        """Let others see what changed; with the book's lock in hand."""
        seen: dict[Named, Hold | None] = {**self._over}
        for name, hold in self._changed.items():
            seen[name] = hold if hold.state_at(self.now) is HoldState.OPEN else None
        self.tail.book.show(seen)

    # Balances

    def _balances(self, owner: int, hold: Hold, without: Hold | None = None) -> list[Claimed]:
        found = []
        for limit in concerned(hold, self.tail.book.limits_of(hold.account, self.tail.catalog)):
            counter = self._counter(owner, limit)
            own = 0 if without is None else held_of(limit, without)
            found.append((limit, Balance(counter.used, counter.held - own), counter.period))
        return found

    def _told(self, outcome: Outcome, owner: int, hold: Hold) -> Answer:
        return Answer(outcome, self.now, hold, holding.as_it_is(hold, self._balances(owner, hold), self.now))

    def _counter(self, owner: int, limit: Limit) -> Counter:
        open_ones = self.tail.book.open.get(owner, {}).values()
        return self.counters.of(limit, owner, self.now, self.tail, self.db, open_ones)

    def _owner(self, account: str) -> int:
        known = self.tail.catalog.accounts.get(account)
        return 0 if known is None else known.number

    def _find(self, owner: int, id: str) -> Hold | None:
        name = (owner, id)
        changed = self._changed.get(name)
        return changed or self.tail.book.open.get(owner, {}).get(id) or self._known.get(name)

    def _put(self, owner: int, before: Hold | None, after: Hold) -> None:
        """Take a change of a hold in; one that has expired held nothing before."""
        was = before if before is not None and before.state_at(self.now) is HoldState.OPEN else None
        now = after if after.state_at(self.now) is HoldState.OPEN else None
        self.counters.hold(owner, was, now)
        if now is None:
            self.tail.book.drop(owner, after.id)
        else:
            self.tail.book.put(owner, after)
        self._changed[owner, after.id] = after
