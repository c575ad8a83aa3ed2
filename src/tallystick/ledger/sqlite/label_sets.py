"""The bounds on label sets and distinct values per meter, account and UTC month: counted only where in reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tallystick import windows
from tallystick.ledger import verdicts
from tallystick.ledger.sqlite.job import Job, Strand
from tallystick.ledger.sqlite.series import without_value
from tallystick.ledger.sqlite.tail import Tail
from tallystick.model import Labels, Verdict

Use = tuple[Strand, int, Labels]
"""A label set that an event uses: its strand, the UTC month, and the set itself."""


@dataclass(slots=True)
class Used:
    """What is used in one month: label sets, and these together with the distinct values."""

    sets: set[Labels] = field(default_factory=set)
    series: set[Labels] = field(default_factory=set)

    def add(self, labels: Labels) -> None:
        self.sets.add(without_value(labels))
        self.series.add(labels)


class LabelSetBound:
    """Keeps label sets, and distinct values, per (account, meter, UTC month) under bounds; for the writer thread."""

    def __init__(
        self, label_sets_max: int, unique_values_max: int, load: Callable[[int, str], Mapping[int, set[Labels]]]
    ) -> None:
        self._sets_max = label_sets_max
        self._values_max = unique_values_max
        self._load = load
        self._used: dict[Strand, dict[int, Used]] = {}

    def forget(self) -> None:
        self._used.clear()

    def tight(self, tail: Tail, jobs: Sequence[Job]) -> set[Strand]:
        """Return the strands that may pass a bound in some month if all label sets of the jobs were taken.

        What was counted of the others is forgotten: nobody counts what is used of them from here on.
        """
        index, accounts = tail.series, tail.catalog.accounts
        unknown = sum(len(job.number(index, accounts).unknown) for job in jobs)
        if index.widest + unknown <= self._sets_max and index.values + unknown <= self._values_max:
            self._used.clear()
            return set()
        more: Counter[Strand] = Counter()
        for job in jobs:
            more.update(job.strands(accounts))
        tight = {strand for strand, count in more.items() if self._is_near(tail, strand, count)}
        if self._used:
            for strand in more.keys() - tight:
                self._used.pop(strand, None)
        return tight

    def _is_near(self, tail: Tail, strand: Strand, more: int) -> bool:
        known = tail.series.strands.get(strand)
        width, values = (known.width, known.values) if known is not None else (0, 0)
        return width + more > self._sets_max or values + more > self._values_max

    def refuses(self, uses: Sequence[Use]) -> Verdict | None:
        """Count the label sets that one event uses, each in its month; the verdict on one too many, and none counts."""
        for strand, month, labels in uses:
            used = self._month(strand, month)
            if without_value(labels) not in used.sets and len(used.sets) >= self._sets_max:
                return verdicts.label_sets_exceeded(strand[1])
            is_value = labels != without_value(labels)
            if is_value and labels not in used.series and len(used.series) >= self._values_max:
                return verdicts.unique_values_exceeded(strand[1])
        for strand, month, labels in uses:
            self._month(strand, month).add(labels)
        return None

    def _month(self, strand: Strand, month: int) -> Used:
        if strand not in self._used:
            loaded = self._load(*strand)
            self._used[strand] = {}
            for each, label_sets in loaded.items():
                used = self._used[strand][each] = Used()
                for labels in label_sets:
                    used.add(labels)
        return self._used[strand].setdefault(month, Used())


def uses_of(job: Job, tail: Tail, strands: set[Strand]) -> Mapping[int, Sequence[Use]]:
    """Return which label sets of some strands each row of a job uses, in which month."""
    uses: dict[int, list[Use]] = {}
    if not strands:
        return uses
    months = windows.month(job.batch.time[job.rows])
    for row, at in zip(job.posting_event.tolist(), job.posting_set.tolist(), strict=True):
        label_set = job.batch.label_sets[at]
        strand = (tail.catalog.accounts[label_set.account].number, label_set.meter)
        if strand in strands:
            uses.setdefault(row, []).append((strand, int(months[row]), label_set.labels))
    return uses
