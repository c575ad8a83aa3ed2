"""The bounds on label sets and distinct values per meter, account and UTC month: counted only where in reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tallystick import windows
from tallystick.ledger import verdicts
from tallystick.ledger.packed.series import SeriesIndex, without_value
from tallystick.ledger.packed.series import Strand as Series
from tallystick.ledger.sqlite.job import Job, Strand
from tallystick.ledger.vitals import near
from tallystick.model import Account, Catalog, Labels, Verdict

Use = tuple[Strand, int, Labels]
"""A label set that an event uses: its strand, the UTC month, and the set itself."""

NO_SERIES = Series()
MONTH_BITS = 20
"""The number of a month, of any year up to 9999, fits into these."""


class Sight(Protocol):
    """What a commit is judged by."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def series(self) -> SeriesIndex: ...


@dataclass(frozen=True, slots=True)
class Reach:
    """The strands that may pass a bound in some month, and the others that may come near it."""

    tight: set[Strand] = field(default_factory=set)
    near: set[Strand] = field(default_factory=set)


class Used:
    """What is used in one month: label sets, and these together with the distinct values.

    They are one and the same until there is a value.
    """

    def __init__(self) -> None:
        self.sets: set[Labels] = set()
        self.series = self.sets

    def add(self, labels: Labels) -> None:
        without = without_value(labels)
        if labels is not without and self.series is self.sets:
            self.series = set(self.sets)
        self.sets.add(without)
        self.series.add(labels)


class LabelSetBound:
    """Keeps label sets, and distinct values, per (account, meter, UTC month) under bounds; for the writer thread.

    `warned` are the strands and months that were seen near a bound, replaced by another value when there is one more.
    """

    def __init__(
        self, label_sets_max: int, unique_values_max: int, load: Callable[[int, str], Mapping[int, set[Labels]]]
    ) -> None:
        self.warned: frozenset[tuple[Strand, int]] = frozenset()
        self._sets_max = label_sets_max
        self._values_max = unique_values_max
        self._near_sets, self._near_values = near(label_sets_max), near(unique_values_max)
        self._look_from = min(self._near_sets, self._near_values)
        self._load = load
        self._used: dict[Strand, dict[int, Used]] = {}

    def distrust(self) -> None:
        """Forget what is used: others may have used more since."""
        self._used.clear()

    def forget(self) -> None:
        """Forget what a transaction may have counted that came to nothing."""
        self._used.clear()
        self.warned = frozenset()

    def reach(self, tail: Sight, jobs: Sequence[Job]) -> Reach:
        """Say which strands may pass a bound, or come near it, if all label sets of the jobs were taken.

        What was counted of the others is forgotten: nobody counts what is used of them from here on.
        """
        index, accounts = tail.series, tail.catalog.accounts
        new = [strand for job in jobs for strand in _unknown(job, index, accounts)]
        if not self._is_near(index.widest + len(new), index.values + len(new)):
            self._used.clear()
            return Reach()
        unknown = Counter(new)
        owners = {owner for job in jobs for owner in np.unique(job.account).tolist()}
        reach = Reach()
        for strand in product(owners, tail.catalog.meters):
            known, more = index.strands.get(strand, NO_SERIES), unknown.get(strand, 0)
            if len(known.numbers) + more < self._look_from:
                continue
            width, values = known.width + more, known.values + more
            if width > self._sets_max or values > self._values_max:
                reach.tight.add(strand)
            elif self._is_near(width, values):
                reach.near.add(strand)
        for strand in [each for each in self._used if each[0] in owners]:
            if strand not in reach.near and strand not in reach.tight:
                del self._used[strand]
        return reach

    def _is_near(self, sets: int, values: int) -> bool:
        return sets >= self._near_sets or values >= self._near_values

    def refuses(self, uses: Sequence[Use]) -> Verdict | None:
        """Count the label sets that one event uses, each in its month; the verdict on one too many, and none counts."""
        for strand, month, labels in uses:
            used = self._in_month(strand, month)
            if without_value(labels) not in used.sets and len(used.sets) >= self._sets_max:
                return verdicts.label_sets_exceeded(strand[1])
            is_value = labels != without_value(labels)
            if is_value and labels not in used.series and len(used.series) >= self._values_max:
                return verdicts.unique_values_exceeded(strand[1])
        self.note(uses)
        return None

    def note(self, uses: Iterable[Use]) -> None:
        """Count label sets that are used without asking whether they may be."""
        for strand, month, labels in uses:
            used = self._in_month(strand, month)
            used.add(labels)
            values = len(used.series) if labels != without_value(labels) else 0
            if self._is_near(len(used.sets), values) and (strand, month) not in self.warned:
                self.warned |= {(strand, month)}

    def _in_month(self, strand: Strand, month: int) -> Used:
        if strand not in self._used:
            loaded = self._load(*strand)
            self._used[strand] = {}
            for each, label_sets in loaded.items():
                used = self._used[strand][each] = Used()
                for labels in label_sets:
                    used.add(labels)
        return self._used[strand].setdefault(month, Used())


def _unknown(job: Job, index: SeriesIndex, accounts: Mapping[str, Account]) -> Iterator[Strand]:
    """Yield the strand of each label set of a job that has no number yet."""
    for at in job.number(index, accounts).unknown:
        label_set = job.batch.label_sets[at]
        yield accounts[label_set.account].number, label_set.meter


def _places(job: Job, accounts: Mapping[str, Account], strands: set[Strand]) -> Mapping[int, Strand]:
    """Return which of a job's label sets in use belong to some strands, by their places: few of many."""
    owners = {owner for owner, _ in strands}
    numbers = {name: accounts[name].number for name in set(job.batch.account) if name in accounts}
    names = {name: number for name, number in numbers.items() if number in owners}
    sets = job.batch.label_sets
    owned = [at for at in job.used_sets().tolist() if sets[at].account in names]
    found = {at: (names[sets[at].account], sets[at].meter) for at in owned}
    return {at: strand for at, strand in found.items() if strand in strands}


def _of_places(job: Job, places: Mapping[int, Strand]) -> NDArray[np.bool_]:
    """Return which postings of a job are of the label sets at some places, as a mask."""
    table = np.zeros(len(job.batch.label_sets), np.bool_)
    table[list(places)] = True
    return table[job.posting_set]


def uses_of(job: Job, tail: Sight, strands: set[Strand]) -> Mapping[int, Sequence[Use]]:
    """Return which label sets of some strands each row of a job uses, in which month."""
    uses: dict[int, list[Use]] = {}
    if not strands:
        return uses
    places = _places(job, tail.catalog.accounts, strands)
    chosen = _of_places(job, places)
    rows = job.posting_event[chosen]
    months = windows.month(job.batch.time[job.rows[rows]])
    for row, at, month in zip(rows.tolist(), job.posting_set[chosen].tolist(), months.tolist(), strict=True):
        uses.setdefault(row, []).append((places[at], month, job.batch.label_sets[at].labels))
    return uses


def used_by(job: Job, tail: Sight, strands: set[Strand]) -> Iterator[Use]:
    """Yield the label sets of some strands that a job uses, each once for a month."""
    places = _places(job, tail.catalog.accounts, strands)
    chosen = _of_places(job, places)
    months = windows.month(job.batch.time[job.rows[job.posting_event[chosen]]])
    for pair in np.unique((job.posting_set[chosen] << MONTH_BITS) | months).tolist():
        at = pair >> MONTH_BITS
        yield places[at], pair & ((1 << MONTH_BITS) - 1), job.batch.label_sets[at].labels
