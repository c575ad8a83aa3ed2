"""Jobs of one event each, made one: columns cost as much for one event as for a hundred."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from tallystick.ledger.sqlite.job import Job
from tallystick.model import Batch, LabelSet


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
    # One object stands for a label set that comes again and again: it is compared, and looked up, once.
    places: dict[int, int] = {}
    label_sets: list[LabelSet] = []
    table: list[int] = []
    firsts: list[int] = []
    for batch in batches:
        firsts.append(len(table))
        for label_set in batch.label_sets:
            place = places.setdefault(id(label_set), len(label_sets))
            if place == len(label_sets):
                label_sets.append(label_set)
            table.append(place)
    postings = [len(batch.posting_event) for batch in batches]
    sets = np.concatenate([batch.posting_set for batch in batches]) + np.repeat(firsts, postings)
    return Batch(
        batches[0].catalog_version,
        batches[0].received,
        [batch.raw[0] for batch in batches],
        [batch.account[0] for batch in batches],
        [batch.source[0] for batch in batches],
        [batch.id[0] for batch in batches],
        np.concatenate([batch.time for batch in batches]),
        np.concatenate([batch.timed for batch in batches]),
        np.repeat(np.arange(len(batches)), postings),
        np.array(table, np.int64)[sets],
        np.concatenate([batch.posting_amount for batch in batches]),
        label_sets,
        {at: batch.changes[0] for at, batch in enumerate(batches) if batch.changes},
        {at: batch.once[0] for at, batch in enumerate(batches) if batch.once},
        {at: batch.doomed[0] for at, batch in enumerate(batches) if batch.doomed},
    )
