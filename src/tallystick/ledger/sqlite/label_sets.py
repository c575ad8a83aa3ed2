"""The bound on label sets per meter, account and UTC month: counted only where it is in reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tallystick import windows
from tallystick.ledger.sqlite.job import Job, Strand
from tallystick.ledger.sqlite.tail import Tail
from tallystick.model import Labels

Use = tuple[Strand, int, Labels]
"""A label set that an event uses: its strand, the UTC month, and the set itself."""


class LabelSetBound:
    """Keeps label sets per (account, meter, UTC month) under a bound; for the writer thread."""

    def __init__(self, label_sets_max: int, load: Callable[[int, str], dict[int, set[Labels]]]) -> None:
        self._max = label_sets_max
        self._load = load
        self._used: dict[Strand, dict[int, set[Labels]]] = {}

    def forget(self) -> None:
        self._used.clear()

    def tight(self, tail: Tail, jobs: Sequence[Job]) -> set[Strand]:
        """Return the strands that may pass the bound in some month if all label sets of the jobs were taken.

        What was counted of the others is forgotten: nobody counts what is used of them from here on.
        """
        strands, accounts = tail.series.strands, tail.catalog.accounts
        unknown = sum(len(job.number(tail.series, accounts).unknown) for job in jobs)
        if tail.series.widest + unknown <= self._max:
            self._used.clear()
            return set()
        more: Counter[Strand] = Counter()
        for job in jobs:
            more.update(job.strands(accounts))
        known = {strand: len(strands[strand].numbers) if strand in strands else 0 for strand in more}
        tight = {strand for strand, count in more.items() if known[strand] + count > self._max}
        if self._used:
            for strand in more.keys() - tight:
                self._used.pop(strand, None)
        return tight

    def admits(self, uses: Sequence[Use]) -> Strand | None:
        """Count the label sets that one event uses, each in its month; the strand of one too many, and none counts."""
        for strand, month, labels in uses:
            if strand not in self._used:
                self._used[strand] = self._load(*strand)
            used = self._used[strand].setdefault(month, set())
            if labels not in used and len(used) >= self._max:
                return strand
        for strand, month, labels in uses:
            self._used[strand][month].add(labels)
        return None


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
