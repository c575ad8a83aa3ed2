"""The list's holds and crossed thresholds: every balance is summed up anew, from all that is used and held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from tallystick import holding, limits
from tallystick.clock import Clock
from tallystick.holding import Answer, Claimed, Outcome, concerned, held_of
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.memory.limiting import LimitLog
from tallystick.limits import Balance
from tallystick.model import (
    Batch,
    Catalog,
    Crossing,
    Hold,
    HoldMode,
    HoldQuery,
    HoldState,
    Limit,
    Posting,
    Property,
    Status,
    Verdict,
)

ENDED = {HoldState.SETTLED, HoldState.RELEASED, HoldState.EXPIRED}


class HoldLog(LimitLog):
    """Keeps holds by the number of their account and their id."""

    def __init__(self, clock: Clock, catalog: Catalog) -> None:
        super().__init__(clock, catalog)
        self._holds: dict[tuple[int, str], Hold] = {}
        self._crossed: dict[str, list[Crossing]] = {}
        self._last = 0

    def _used_of(self, limit: Limit, at: int) -> int:
        raise NotImplementedError

    def _keep_for(self, hold: Hold, batch: Batch) -> Verdict | None:
        raise NotImplementedError

    @property
    def now(self) -> int:
        return max(self._clock(), self._last)

    def _tick(self) -> int:
        """Return the instant of a change, which is never before that of an earlier one."""
        self._last = self.now
        return self._last

    # Calls

    async def reserve(self, hold: Hold, *, catalog_version: int) -> Answer:
        self._check_open()
        if catalog_version != self._catalog.version:
            raise CatalogStale
        if hold.account not in self._catalog.accounts:
            return Answer(Outcome.UNKNOWN, self.now)
        known = self._find(hold.account, hold.id)
        if known is not None and hold.mode is not HoldMode.CHECK_ONLY:
            return self._told(Outcome.DUPLICATE if known.is_same(hold) else Outcome.ID_REUSED, known)
        now = self._tick()
        asked = replace(hold, created=now, deadline=now + hold.ttl)
        answer = holding.admit(asked, self._balances(asked, now), now)
        if hold.mode is HoldMode.CHECK_ONLY:
            return replace(answer, outcome=Outcome.DONE) if answer.hold else answer
        if answer.hold is not None:
            self._put(answer.hold)
        return answer

    async def renew(self, account: str, id: str, *, ttl: int | None, quantity: int | None) -> Answer:
        self._check_open()
        hold = self._find(account, id)
        if hold is None:
            return Answer(Outcome.UNKNOWN, self.now)
        if hold.state_at(self.now) in ENDED:
            return self._told(Outcome.ENDED, hold)
        now = self._tick()
        later = replace(hold, deadline=now + (hold.ttl if ttl is None else ttl))
        if quantity is not None and quantity > hold.quantity:
            grown = holding.grown(later, quantity, self._balances(later, now, without=hold), now, hold)
            if grown.outcome is Outcome.REFUSED:
                return grown
        if quantity is not None:
            later = replace(later, quantity=quantity)
        self._put(later)
        return self._told(Outcome.DONE, later)

    async def release(self, account: str, id: str) -> Answer:
        self._check_open()
        hold = self._find(account, id)
        if hold is None:
            return Answer(Outcome.UNKNOWN, self.now)
        state = hold.state_at(self.now)
        if state is not HoldState.OPEN:
            return self._told(Outcome.ENDED if state is HoldState.SETTLED else Outcome.DUPLICATE, hold)
        freed = replace(hold, released=self._tick())
        self._put(freed)
        return self._told(Outcome.DONE, freed)

    async def settle(self, account: str, id: str, batch: Batch) -> Answer:
        self._check_open()
        hold = self._find(account, id)
        if hold is None:
            return Answer(Outcome.UNKNOWN, self.now)
        if hold.released is not None:
            return Answer(Outcome.ENDED, self.now, hold)
        named = (batch.source[0], batch.id[0])
        if hold.settlement is not None and named != (hold.settlement.source, hold.settlement.event):
            return Answer(Outcome.ID_REUSED, self.now, hold)
        verdict = self._keep_for(hold, batch)
        if verdict is not None and verdict.status is not Status.DUPLICATE:
            return Answer(Outcome.EVENT_REFUSED, self.now, hold, verdict=verdict)
        if hold.settlement is not None:
            return Answer(Outcome.DUPLICATE, self.now, hold, verdict=verdict)
        amounts = holding.amounts_of(batch)
        done = holding.settled(hold, *named, amounts, self._tick())
        self._put(done)
        return Answer(Outcome.DONE, self.now, done, verdict=verdict)

    async def hold(self, account: str, id: str) -> Hold | None:
        self._check_open()
        return self._find(account, id)

    async def hold_accounts(self, id: str) -> Sequence[str]:
        self._check_open()
        return sorted(name for name in self._catalog.accounts if self._find(name, id) is not None)

    async def holds(self, query: HoldQuery) -> Sequence[Hold]:
        self._check_open()
        number, now = self._number(query.account), self.now
        wanted = [
            hold
            for (owner, id), hold in sorted(self._holds.items())
            if owner == number
            and (query.after is None or id > query.after)
            and query.state in (None, hold.state_at(now))
        ]
        return wanted[: query.limit]

    async def crossings(self, limit: str) -> Sequence[Crossing]:
        self._check_open()
        return list(self._crossed.get(limit, ()))

    async def delete_limit(self, id: str, *, actor: str) -> bool:
        self._crossed.pop(id, None)
        return await super().delete_limit(id, actor=actor)

    # Balances

    def _held(self, limit: Limit, now: int) -> int:
        number = self._number(limit.account)
        open_ones = (
            hold for (owner, _), hold in self._holds.items() if owner == number and hold.state_at(now) is HoldState.OPEN
        )
        return sum(held_of(limit, hold) for hold in open_ones)

    def _balance(self, limit: Limit, now: int) -> Balance:
        return Balance(self._used_of(limit, now), self._held(limit, now))

    def _balances(self, hold: Hold, now: int, without: Hold | None = None) -> list[Claimed]:
        found = []
        for limit in concerned(hold, self._catalog.limits_of(hold.account)):
            balance = self._balance(limit, now)
            own = 0 if without is None else held_of(limit, without)
            found.append((limit, Balance(balance.used, balance.held - own), limits.period_at(limit, now)))
        return found

    def _told(self, outcome: Outcome, hold: Hold) -> Answer:
        """Answer with a hold and how its limits stand."""
        now = self.now
        return Answer(outcome, now, hold, holding.as_it_is(hold, self._balances(hold, now), now))

    def _over_limit(self, account: str, postings: Iterable[Posting], time: int, now: int) -> Limit | None:
        """Return the first limit that refuses an event of this time with these postings, None = it is taken."""
        for limit in self._catalog.limits_of(account):
            counted = [each for each in postings if limits.counts(limit, each.meter, each.labels)]
            start, end = limits.period_at(limit, now)
            if limits.refuses_unheld(limit) and counted and start <= time < end:
                is_count = limit.property is Property.COUNT
                amount = len(counted) if is_count else sum(each.amount for each in counted)
                if not limits.decide(limit, self._balance(limit, now), amount, now).fits:
                    return limit
        return None

    def _note_crossings(self, accounts: Iterable[str], now: int) -> None:
        """Note the thresholds that use has reached and that were not noted in this period yet."""
        for account in sorted(set(accounts)):
            for limit in (each for each in self._catalog.limits_of(account) if each.thresholds):
                standing = limits.standing(limit, Balance(self._used_of(limit, now)), now)
                noted = {(each.threshold, each.start) for each in self._crossed.get(limit.id, ())}
                for threshold in limits.reached(limit, standing):
                    if (threshold, standing.start) not in noted:
                        crossing = limits.crossing(limit, threshold, standing, now)
                        self._crossed.setdefault(limit.id, []).append(crossing)

    def _number(self, account: str) -> int:
        known = self._catalog.accounts.get(account)
        return 0 if known is None else known.number

    def _find(self, account: str, id: str) -> Hold | None:
        return self._holds.get((self._number(account), id))

    def _put(self, hold: Hold) -> None:
        self._entries += 1
        self._holds[self._number(hold.account), hold.id] = hold
