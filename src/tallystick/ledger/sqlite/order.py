"""What depends on the events before it in a group, or ever: decided event by event, in order, inside the transaction.

A refused event claims nothing: neither its identity nor its label sets, and no resource is what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tallystick.ledger.packed.living import Counted, Living, Named, named
from tallystick.ledger.sqlite.job import Job, Strand, repeated, run_of
from tallystick.ledger.sqlite.judging import Kept, judge
from tallystick.ledger.sqlite.label_sets import LabelSetBound, Sight, used_by, uses_of
from tallystick.ledger.sqlite.refusing import Refusing
from tallystick.model import Catalog, Verdict

Load = Callable[[Iterable[Named], Iterable[Counted]], Living]


def take_in_order(
    jobs: Sequence[Job], tail: Sight, bound: LabelSetBound, refusing: Refusing, load: Load
) -> Living | None:
    """Judge repeated identities, label sets too many and what is over a limit, change resources, and drop what was
    counted once before.

    `load` reads what is kept of resources. Returns what is to be written of resources.
    """
    twice = repeated(run_of(jobs).fingerprint) if jobs else frozenset[int]()
    reach = bound.reach(tail, jobs)
    living = _living(jobs, tail.catalog, load)
    if twice or reach.tight or refusing or living is not None or any(job.batch.doomed for job in jobs):
        _judge_in_order(jobs, tail, bound, twice, reach.tight, living, refusing)
    for job in jobs if reach.near else ():
        bound.note(used_by(job, tail, reach.near))
    return living


def _judge_in_order(
    jobs: Sequence[Job],
    tail: Sight,
    bound: LabelSetBound,
    twice: frozenset[int],
    tight: set[Strand],
    living: Living | None,
    refusing: Refusing,
) -> None:
    taken: dict[int, list[Kept]] = {}
    for job in jobs:
        alive = np.ones(len(job.rows), np.bool_)
        uses = uses_of(job, tail, tight)
        dropped: dict[int, frozenset[str]] = {}
        takes = refusing.takes_of(job)
        everything = twice or tight or takes
        for row in range(len(job.rows)) if everything else _remarkable(job):
            again = _again(job, row, living, tail.catalog)
            verdict = (_repeat(job, row, taken) if twice else None) or _doom(job, row)
            if verdict is None and row in uses:
                verdict = bound.refuses([use for use in uses[row] if use[0][1] not in again])
            if verdict is None and row in takes:
                verdict = refusing.refuses(takes[row], again)
            if verdict is not None:
                job.verdicts[int(job.rows[row])] = verdict
                alive[row] = False
                continue
            if int(job.fingerprint[row]) in twice:
                kept = Kept(int(job.account[row]), job.batch.raw[int(job.rows[row])])
                taken.setdefault(int(job.fingerprint[row]), []).append(kept)
            if living is not None:
                _take(job, row, living, again, tail.catalog)
                if again:
                    dropped[row] = again
        if dropped:
            job.drop(dropped)
        if not alive.all():
            job.keep(alive)


def left(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that have events left to keep."""
    return [job for job in jobs if len(job.rows)]


def _doom(job: Job, row: int) -> Verdict | None:
    doomed = job.batch.doomed.get(int(job.rows[row]))
    return None if doomed is None else doomed.verdict


def _remarkable(job: Job) -> Iterator[int]:
    """Yield the rows that cannot just be taken where no identity comes twice and no label set may be one too many."""
    if job.batch.changes or job.batch.doomed:
        for row, index in enumerate(job.rows.tolist()):
            if index in job.batch.changes or index in job.batch.doomed:
                yield row


def _stateful(job: Job) -> Iterator[int]:
    """Yield the rows whose events say something of a resource."""
    if job.batch.changes:
        for row, index in enumerate(job.rows.tolist()):
            if index in job.batch.changes:
                yield row


def _living(jobs: Sequence[Job], catalog: Catalog, load: Load) -> Living | None:
    """Read what is kept of the resources that the jobs change."""
    names: list[Named] = []
    once: list[Counted] = []
    for job in jobs:
        for row in _stateful(job):
            index = int(job.rows[row])
            name = named(int(job.account[row]), job.batch.changes[index])
            names.append(name)
            once += [Counted(meter, catalog.meters[meter].epoch, name) for meter in job.batch.once.get(index, ())]
    return load(names, once) if names else None


def _repeat(job: Job, row: int, taken: Mapping[int, Iterable[Kept]]) -> Verdict | None:
    others = taken.get(int(job.fingerprint[row]), ())
    return next((verdict for other in others if (verdict := judge(job, row, other)) is not None), None)


def _again(job: Job, row: int, living: Living | None, catalog: Catalog) -> frozenset[str]:
    """Return the meters that counted before what this event has of its resource."""
    index = int(job.rows[row])
    once = job.batch.once.get(index)
    if living is None or not once:
        return frozenset()
    return living.again(int(job.account[row]), job.batch.changes[index], once, catalog)


def _take(job: Job, row: int, living: Living, again: frozenset[str], catalog: Catalog) -> None:
    index, account = int(job.rows[row]), int(job.account[row])
    change = job.batch.changes.get(index)
    if change is None:
        return
    living.take(account, change)
    once = {meter: value for meter, value in job.batch.once.get(index, {}).items() if meter not in again}
    living.count(account, change, once, catalog)
