"""What is used and held of limits in their present period: counters that are kept, so that a decision is quick.

A counter is filled when it is first needed, from rollups, from what is not folded yet and from the events of quarters
that an edge of its period cuts, and kept up with every commit from then on. It is no more than a memory of what the log
says, and `verify` counts them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from tallystick import limits, rollup
from tallystick.holding import held_of
from tallystick.limits import Balance
from tallystick.model import Batch, Catalog, Hold, LabelSet, Limit, Total, UsageQuery, UsageTable
from tallystick.rollup import Ints
from tallystick.windows import INSTANT_MAX

FEW = 64
"""So few postings of a limit are counted one by one: columns cost something for each that they have."""

Definition = tuple[Any, ...]
EPOCH = 2
"""The place of the meter's epoch in a definition."""
Count = Callable[[UsageQuery], UsageTable]
"""Answers a query inside the present transaction; what this adds must not be in the answer yet."""


class Posted(Protocol):
    """The events of a batch that are about to be kept, and their postings."""

    @property
    def batch(self) -> Batch: ...
    @property
    def rows(self) -> Ints: ...
    @property
    def posting_event(self) -> Ints: ...
    @property
    def posting_set(self) -> Ints: ...
    @property
    def posting_amount(self) -> Ints: ...
    def used_sets(self) -> Ints: ...


@dataclass(slots=True, eq=False)
class Counter:
    """One limit in one period; `has_later` says that something was counted behind the period's end."""

    limit: Limit
    definition: Definition
    start: int
    end: int
    used: int
    held: int
    has_later: bool

    @property
    def balance(self) -> Balance:
        return Balance(self.used, self.held)

    @property
    def period(self) -> tuple[int, int]:
        return self.start, self.end

    def add(self, times: Sequence[int], amounts: Sequence[int]) -> None:
        """Count postings that the limit counts."""
        inside = [amount for time, amount in zip(times, amounts, strict=True) if self.start <= time < self.end]
        self.used += limits.used_of(self.limit, Total(len(inside), sum(inside)))
        self.has_later = self.has_later or max(times) >= self.end

    def add_many(self, times: Ints, amounts: Ints) -> None:
        """Count any number of postings."""
        inside = (times >= self.start) & (times < self.end)
        if inside.any():
            place = np.zeros(int(inside.sum()), np.int64)
            (total,) = rollup.of_postings(place, amounts[inside], times[inside]).totals()
            self.used += limits.used_of(self.limit, total)
        self.has_later = self.has_later or bool((times >= self.end).any())


@dataclass(slots=True)
class Counters:
    """The counters of every limit that was asked about, by the number of its account; for one thread."""

    _of: dict[int, dict[str, Counter]] = field(default_factory=dict)
    _sets: dict[LabelSet, tuple[Counter, ...]] = field(default_factory=dict)

    def of(
        self, limit: Limit, owner: int, now: int, catalog: Catalog, count: Count, holds: Callable[[], Iterable[Hold]]
    ) -> Counter:
        """Return the counter of a limit at an instant; `holds` gives the open ones of its account."""
        counter = self._of.get(owner, {}).get(limit.id)
        if counter is not None and counter.start <= now < counter.end and _is_as_it_was(counter, limit, catalog):
            return counter
        definition = definition_of(limit, owner, catalog)
        if counter is None or counter.definition != definition or now < counter.start:
            counter = _filled(limit, definition, now, count, sum(held_of(limit, hold) for hold in holds()))
            self.put(owner, counter)
        elif now >= counter.end:
            _turn(counter, limit, now, count)
        counter.limit = limit
        return counter

    def put(self, owner: int, counter: Counter) -> None:
        """Take a counter in, in place of another one of its limit."""
        self._of.setdefault(owner, {})[counter.limit.id] = counter
        self._sets.clear()

    def all(self) -> Iterator[tuple[int, Counter]]:
        """Yield every counter with the number of its account."""
        return ((owner, counter) for owner, some in self._of.items() for counter in some.values())

    def hold(self, owner: int, before: Hold | None, after: Hold | None) -> None:
        """Count that an open hold took the place of another; None = there is none."""
        for counter in self._of.get(owner, {}).values():
            if after is not None:
                counter.held += held_of(counter.limit, after)
            if before is not None:
                counter.held -= held_of(counter.limit, before)

    def is_without(self, owners: Iterable[int]) -> bool:
        """Say whether no counter is about any of these accounts."""
        return not self._of or self._of.keys().isdisjoint(owners)

    def add(self, job: Posted, catalog: Catalog) -> None:
        """Count the postings of a batch that are about to be kept."""
        of_counter: dict[Counter, list[int]] = {}
        used = job.used_sets().tolist()
        for at in used:
            for counter in self._counting(job.batch.label_sets[at], catalog):
                of_counter.setdefault(counter, []).append(at)
        if not of_counter:
            return
        times = job.batch.time[job.rows]
        for counter, sets in of_counter.items():
            event, amount = job.posting_event, job.posting_amount
            if len(sets) < len(used):
                counted = np.isin(job.posting_set, np.array(sets, np.int64))
                event, amount = event[counted], amount[counted]
            if len(event) <= FEW:
                counter.add(times[event].tolist(), amount.tolist())
            else:
                counter.add_many(times[event], amount)

    @property
    def names(self) -> list[tuple[int, str]]:
        """The owners and ids of the limits that have a counter; for any thread."""
        return [(owner, id) for owner, counters in list(self._of.items()) for id in list(counters)]

    def faults(
        self,
        some: Iterable[tuple[int, str]],
        catalog: Catalog,
        count: Count,
        holds: Mapping[int, Mapping[str, Hold]],
    ) -> Iterator[str]:
        """Count some limits again, between transactions, and yield the ids of those whose counter says otherwise."""
        for owner, id in some:
            counter, limit = self._of.get(owner, {}).get(id), catalog.limits.get(id)
            if counter is None or limit is None or counter.definition != definition_of(limit, owner, catalog):
                continue
            held = sum(held_of(limit, hold) for hold in holds.get(owner, {}).values())
            due = _filled(limit, counter.definition, counter.start, count, held)
            if (counter.used, counter.held) != (due.used, due.held):
                yield id

    def _counting(self, label_set: LabelSet, catalog: Catalog) -> tuple[Counter, ...]:
        """Return the counters that count what has a label set."""
        found = self._sets.get(label_set)
        if found is None:
            owner = catalog.accounts[label_set.account].number
            some = self._of.get(owner, {}).values()
            found = tuple(each for each in some if limits.counts(each.limit, label_set.meter, label_set.labels))
            if len(self._sets) >= 65_536:
                self._sets.clear()
            self._sets[label_set] = found
        return found


def _turn(counter: Counter, limit: Limit, now: int, count: Count) -> None:
    """Begin a new period: with nothing, if nothing was ever counted behind the end of the one before."""
    if counter.has_later:
        fresh = _filled(limit, counter.definition, now, count, counter.held)
        counter.start, counter.end = fresh.period
        counter.used, counter.has_later = fresh.used, fresh.has_later
    else:
        counter.start, counter.end = limits.period_at(limit, now)
        counter.used = 0


def _filled(limit: Limit, definition: Definition, now: int, count: Count, held: int) -> Counter:
    asked = limits.usage_of(limit, now)
    start, end = asked.edges.tolist()
    edges = np.array([start, end, *([INSTANT_MAX] if end < INSTANT_MAX else [])], np.int64)
    table = count(replace(asked, edges=edges))
    used = sum(limits.used_of(limit, row.total) for row in table.rows if row.bucket == 0)
    return Counter(limit, definition, start, end, used, held, any(row.bucket for row in table.rows))


def _is_as_it_was(counter: Counter, limit: Limit, catalog: Catalog) -> bool:
    """Say whether nothing was defined anew since the counter was asked for last; both are replaced when it is."""
    return counter.limit is limit and counter.definition[EPOCH] == catalog.meters[limit.meter].epoch


def definition_of(limit: Limit, owner: int, catalog: Catalog) -> Definition:
    """Return all that says what a limit counts, and when; amounts and policies may change meanwhile."""
    meter = catalog.meters[limit.meter]
    return (
        owner,
        limit.meter,
        meter.epoch,
        limit.property,
        limit.scale,
        limit.period,
        limit.where,
        limit.timezone,
        limit.anchor,
    )
