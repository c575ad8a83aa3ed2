"""What is decided about holds inside one transaction, and what that changes; a ledger sees to it that it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from msgspec.structs import replace

from tallystick import holding, limits
from tallystick.holding import Answer, Claimed, Outcome, concerned, held_of
from tallystick.ledger.packed import hold_entries
from tallystick.ledger.packed.counters import Counter, Counters, Posted
from tallystick.ledger.packed.hold_entries import Admitting, Named
from tallystick.limits import Balance
from tallystick.model import Batch, Catalog, Hold, HoldMode, HoldState, Limit, Status, Verdict


class Reserve(msgspec.Struct, frozen=True):
    """A hold that is asked for, worked out with the catalog of this version."""

    hold: Hold
    catalog_version: int


class Renew(msgspec.Struct, frozen=True):
    """A hold that is to last longer, and perhaps to hold another quantity."""

    ttl: int | None
    quantity: int | None


class Release(msgspec.Struct, frozen=True):
    """A hold that is not needed any more."""


Call = Reserve | Renew | Release


class Books(Protocol):
    """What a ledger knows inside its transaction. `owner` is the number of an account."""

    def find(self, owner: int, id: str) -> Hold | None:
        """Return a hold, as it was before the transaction."""

    def put(self, owner: int, hold: Hold, *, is_open: bool) -> None:
        """Take in a hold as it is now."""

    def counter(self, owner: int, limit: Limit) -> Counter:
        """Return the counter of a limit."""

    def limits_of(self, account: str) -> Sequence[Limit]:
        """Return the limits of an account, by id."""

    def watched(self) -> Mapping[str, Sequence[Limit]]:
        """Return the limits that have thresholds or refuse events, by account: each commit has to look at them."""

    def crossed(self, owner: int, limit: str) -> frozenset[tuple[int, int]]:
        """Return which thresholds of a limit were noted, with the beginning of their period."""

    def note_crossed(self, limit: str, noted: frozenset[tuple[int, int]]) -> None:
        """Take in which thresholds of a limit are noted now."""


@dataclass(slots=True)
class Deciding:
    """The decisions of one transaction, at the instant `now`; `changes` is what has to go into the log."""

    books: Books
    counters: Counters
    catalog: Catalog
    now: int
    changes: list[Admitting] = field(default_factory=list)
    changed: dict[Named, Hold] = field(default_factory=dict)
    _settling: dict[Named, tuple[str, str]] = field(default_factory=dict)
    _counters: dict[str, Counter] = field(default_factory=dict)

    def decide(self, account: str, id: str, call: Call) -> Answer | None:
        """Answer one call; None = the catalog that it went by is not in force any more."""
        match call:
            case Reserve(hold=hold, catalog_version=version):
                return self._reserve(hold) if version == self.catalog.version else None
            case Renew(ttl=ttl, quantity=quantity):
                return self._renew(account, id, ttl, quantity)
            case Release():
                return self._release(account, id)

    def _reserve(self, hold: Hold) -> Answer:
        owner = self.owner(hold.account)
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
            self.changes.append(hold_entries.made(owner, answer.hold))
            self._put(owner, None, answer.hold)
        return answer

    def _renew(self, account: str, id: str, ttl: int | None, quantity: int | None) -> Answer:
        owner = self.owner(account)
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
        self.changes.append(hold_entries.HoldRenewed(owner, id, later.deadline, later.quantity))
        self._put(owner, hold, later)
        return self._told(Outcome.DONE, owner, later)

    def _release(self, account: str, id: str) -> Answer:
        owner = self.owner(account)
        hold = self._find(owner, id)
        if hold is None:
            return Answer(Outcome.UNKNOWN, self.now)
        state = hold.state_at(self.now)
        if state is not HoldState.OPEN:
            return self._told(Outcome.ENDED if state is HoldState.SETTLED else Outcome.DUPLICATE, owner, hold)
        freed = replace(hold, released=self.now)
        self.changes.append(hold_entries.HoldReleased(owner, id, self.now))
        self._put(owner, hold, freed)
        return self._told(Outcome.DONE, owner, freed)

    # Settlements

    def refuse(self, settles: tuple[str, str], batch: Batch) -> Answer | None:
        """Say why the event of a settlement must not be recorded; None = it may be, and `settle` comes afterwards."""
        account, id = settles
        owner = self.owner(account)
        hold = self._find(owner, id)
        if hold is None:
            return Answer(Outcome.UNKNOWN, self.now)
        if hold.released is not None:
            return Answer(Outcome.ENDED, self.now, hold)
        named = (batch.source[0], batch.id[0])
        if hold.settlement is not None and named != (hold.settlement.source, hold.settlement.event):
            return Answer(Outcome.ID_REUSED, self.now, hold)
        if named != self._settling.setdefault((owner, id), named):
            return Answer(Outcome.BUSY, self.now, hold)
        return None

    def settle(self, settles: tuple[str, str], batch: Batch, verdict: Verdict | None) -> Answer:
        """End the hold of a settlement whose event was judged, unless that was refused."""
        account, id = settles
        owner = self.owner(account)
        hold = self._find(owner, id)
        assert hold is not None, "one that is not there was refused"
        if verdict is not None and verdict.status is not Status.DUPLICATE:
            return Answer(Outcome.EVENT_REFUSED, self.now, hold, verdict=verdict)
        if hold.settlement is not None:
            return Answer(Outcome.DUPLICATE, self.now, hold, verdict=verdict)
        done = holding.settled(hold, batch.source[0], batch.id[0], holding.amounts_of(batch), self.now)
        assert done.settlement is not None
        self.changes.append(hold_entries.settled(owner, done, done.settlement))
        self._put(owner, hold, done)
        return Answer(Outcome.DONE, self.now, done, verdict=verdict)

    # Events

    def watch(self, accounts: Iterable[str]) -> Mapping[str, Sequence[Counter]]:
        """Return the counters of limits that have thresholds or refuse events, by account."""
        watched = self.books.watched()
        names = sorted(name for name in set(accounts) if name in watched and self.owner(name))
        return {name: [self.books.counter(self.owner(name), limit) for limit in watched[name]] for name in names}

    def count(self, jobs: Sequence[Posted], owners: Sequence[int], watched: Mapping[str, Sequence[Counter]]) -> None:
        """Count what is about to be kept, and note the thresholds that it reaches; `owners` are whose it is."""
        if self.counters.is_without(owners):
            return
        for job in jobs:
            self.counters.add(job, self.catalog)
        for name, some in watched.items():
            owner = self.owner(name)
            for counter in some if owner in owners else ():
                if counter.limit.thresholds:
                    self._note(owner, counter)

    def _note(self, owner: int, counter: Counter) -> None:
        limit = counter.limit
        standing = limits.standing(limit, counter.balance, self.now, counter.period)
        noted = self.books.crossed(owner, limit.id)
        for threshold in limits.reached(limit, standing):
            if (threshold, standing.start) not in noted:
                crossing = limits.crossing(limit, threshold, standing, self.now)
                self.changes.append(hold_entries.crossed(owner, crossing))
                noted = noted | {(threshold, standing.start)}
                self.books.note_crossed(limit.id, noted)

    # Balances

    def owner(self, account: str) -> int:
        """Return the number of an account; 0 where there is none."""
        known = self.catalog.accounts.get(account)
        return 0 if known is None else known.number

    def _balances(self, owner: int, hold: Hold, without: Hold | None = None) -> list[Claimed]:
        found = []
        for limit in concerned(hold, self.books.limits_of(hold.account)):
            counter = self._counter(owner, limit)
            own = 0 if without is None else held_of(limit, without)
            found.append((limit, Balance(counter.used, counter.held - own), counter.period))
        return found

    def _counter(self, owner: int, limit: Limit) -> Counter:
        # Neither the instant nor what is defined changes within a transaction.
        counter = self._counters.get(limit.id)
        if counter is None:
            counter = self._counters[limit.id] = self.books.counter(owner, limit)
        return counter

    def _told(self, outcome: Outcome, owner: int, hold: Hold) -> Answer:
        return Answer(outcome, self.now, hold, holding.as_it_is(hold, self._balances(owner, hold), self.now))

    def _find(self, owner: int, id: str) -> Hold | None:
        return self.changed.get((owner, id)) or self.books.find(owner, id)

    def _put(self, owner: int, before: Hold | None, after: Hold) -> None:
        """Take a change of a hold in; one that has expired held nothing before."""
        was = before if before is not None and before.state_at(self.now) is HoldState.OPEN else None
        now = after if after.state_at(self.now) is HoldState.OPEN else None
        self.counters.hold(owner, was, now)
        self.books.put(owner, after, is_open=now is not None)
        self.changed[owner, after.id] = after
