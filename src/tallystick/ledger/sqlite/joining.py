"""Jobs of one event each, made one: columns cost as much for one event as for a hundred."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import TypeVar

import numpy as np

from tallystick.ledger.sqlite.job import Job
from tallystick.model import Batch, LabelSet
from tallystick.rollup import Ints

T = TypeVar("T")


def runs_of(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Yield neighbours that may be joined; what has more than one event stays by itself."""
    for (_, _, has_one), some in groupby(jobs, key=_kind):
        if has_one:
            yield list(some)
        else:
            yield from ([job] for job in some)


def _kind(job: Job) -> tuple[int, bool, bool]:
    return job.batch.catalog_version, job.create_accounts, len(job.batch) == 1


def join(jobs: Sequence[Job]) -> Job:
    """Return one job with the event of each, in order; their callers are told by `share` what became of them."""
    if len(jobs) == 1:
        return jobs[0]
    first = jobs[0]
    batch = _joined([job.batch for job in jobs])
    return Job(batch, first.create_accounts, first.future, sum(job.bytes for job in jobs), parts=jobs)


def share(job: Job) -> None:
    """Give each job that was joined the verdict on its event."""
    for at, verdict in job.verdicts.items() if job.parts else ():
        job.parts[at].verdicts[0] = verdict


def _joined(batches: Sequence[Batch]) -> Batch:
    places: dict[int, int] = {}
    label_sets: list[LabelSet] = []
    # One object stands for a label set that comes again and again: it is compared, and looked up, once.
    for label_set in _all(batch.label_sets for batch in batches):
        if places.setdefault(id(label_set), len(label_sets)) == len(label_sets):
            label_sets.append(label_set)
    table = np.fromiter((places[id(each)] for each in _all(batch.label_sets for batch in batches)), np.int64)
    postings = _ints(len(batch.posting_event) for batch in batches)
    before = np.cumsum(_ints(len(batch.label_sets) for batch in batches)) - _ints(
        len(batch.label_sets) for batch in batches
    )
    sets = np.concatenate([batch.posting_set for batch in batches]) + np.repeat(before, postings)
    return Batch(
        batches[0].catalog_version,
        batches[0].received,
        _all(batch.raw for batch in batches),
        _all(batch.account for batch in batches),
        _all(batch.source for batch in batches),
        _all(batch.id for batch in batches),
        np.concatenate([batch.time for batch in batches]),
        np.concatenate([batch.timed for batch in batches]),
        np.repeat(np.arange(len(batches)), postings),
        table[sets] if len(sets) else sets,
        np.concatenate([batch.posting_amount for batch in batches]),
        label_sets,
        {at: batch.changes[0] for at, batch in enumerate(batches) if batch.changes},
        {at: batch.once[0] for at, batch in enumerate(batches) if batch.once},
        {at: batch.doomed[0] for at, batch in enumerate(batches) if batch.doomed},
    )


def _all(parts: Iterable[Sequence[T]]) -> list[T]:
    return list(chain.from_iterable(parts))


def _ints(numbers: Iterable[int]) -> Ints:
    return np.fromiter(numbers, np.int64)
