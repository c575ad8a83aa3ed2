"""The holds of a ledger that memory has: as the writer thread works with them, and as everybody else sees them."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tallystick.holding import held_of
from tallystick.ledger.packed.hold_entries import Named
from tallystick.ledger.sqlite.hold_tables import Mark
from tallystick.ledger.sqlite.unwritten import Unwritten
from tallystick.limits import refuses_unheld
from tallystick.model import Catalog, Hold, HoldState, Limit


@dataclass(slots=True)
class Book:
    """Open holds, by the number of their account and their id, and those whose rows are not written yet.

    `clock` is the latest that any commit has seen. `lock` keeps what is shown of holds in step with what is published
    of usage. `deadlines` is a heap, in which a hold may stand more than once. `crossed` are the thresholds that were
    noted of each limit, with the beginning of their period.
    """

    clock: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    open: dict[int, dict[str, Hold]] = field(default_factory=dict)
    deadlines: list[tuple[int, int, str]] = field(default_factory=list)
    crossed: dict[str, frozenset[tuple[int, int]]] = field(default_factory=dict)
    unwritten: Unwritten = field(default_factory=Unwritten)
    _shown: dict[int, dict[str, Hold]] = field(default_factory=dict)
    _limits: Mapping[str, Limit] = field(default_factory=dict)
    _by_account: dict[str, list[Limit]] = field(default_factory=dict)
    _watched: dict[str, list[Limit]] = field(default_factory=dict)

    def begin(self, holds: Mapping[Named, Hold]) -> None:
        """Take the holds in that were open when the log was read."""
        for (owner, id), hold in holds.items():
            self.put(owner, hold)
            self._shown.setdefault(owner, {})[id] = hold

    def put(self, owner: int, hold: Hold) -> None:
        """Hold what an open hold says."""
        self.open.setdefault(owner, {})[hold.id] = hold
        heapq.heappush(self.deadlines, (hold.deadline, owner, hold.id))

    def find(self, owner: int, id: str) -> Hold | None:
        """Return a hold that is open or not what its row says; for the writer."""
        of_owner = self.open.get(owner)
        return (of_owner and of_owner.get(id)) or self.unwritten.find(owner, id)

    def drop(self, owner: int, id: str) -> None:
        """Hold nothing any more of a hold that has ended."""
        self.open.get(owner, {}).pop(id, None)

    def overdue(self, now: int) -> list[tuple[int, Hold]]:
        """Drop the holds whose deadline has come, and return them with their owners."""
        found = []
        while self.deadlines and self.deadlines[0][0] <= now:
            deadline, owner, id = heapq.heappop(self.deadlines)
            hold = self.open.get(owner, {}).get(id)
            if hold is not None and hold.deadline == deadline:
                self.drop(owner, id)
                found.append((owner, hold))
        return found

    def show(self, holds: Mapping[Named, Hold | None]) -> None:
        """Let others see holds as they are now, None = open no longer; with `lock` in hand."""
        for (owner, id), hold in holds.items():
            if hold is not None:
                self._shown.setdefault(owner, {})[id] = hold
            else:
                self._shown.get(owner, {}).pop(id, None)

    def shown(self, owner: int, id: str) -> Hold | None:
        """Return a hold as others see it, if it is open or not what its row says."""
        with self.lock:
            return self._shown.get(owner, {}).get(id) or self.unwritten.find(owner, id)

    def shown_of(self, owner: int) -> Sequence[Hold]:
        """Return the open holds of an account as others see them; with `lock` in hand."""
        return list(self._shown.get(owner, {}).values())

    def freeze(self, through: int) -> None:
        """Begin to write rows, of all that changed up to an entry of the log."""
        with self.lock:
            self.unwritten.freeze(through)

    def written(self, mark: Mark) -> None:
        """Take in how far rows are now."""
        with self.lock:
            self.unwritten.written(mark)

    def limits_of(self, account: str, catalog: Catalog) -> Sequence[Limit]:
        """Return the limits of an account, by id."""
        self._look_at(catalog)
        return self._by_account.get(account, ())

    def watched(self, catalog: Catalog) -> Mapping[str, Sequence[Limit]]:
        """Return the limits that have thresholds or refuse events, by account: each commit has to look at them."""
        self._look_at(catalog)
        return self._watched

    def _look_at(self, catalog: Catalog) -> None:
        if catalog.limits is self._limits:
            return
        self._limits, self._by_account, self._watched = catalog.limits, {}, {}
        for limit in sorted(catalog.limits.values(), key=lambda limit: limit.id):
            self._by_account.setdefault(limit.account, []).append(limit)
            if limit.thresholds or refuses_unheld(limit):
                self._watched.setdefault(limit.account, []).append(limit)


def held(limit: Limit, holds: Collection[Hold], now: int) -> int:
    """Return how much of a limit holds of its account take, those that are open."""
    return sum(held_of(limit, hold) for hold in holds if hold.state_at(now) is HoldState.OPEN)
