"""A batch taken apart by account: the events of each are kept in a transaction of their own, on the account's node.

The contract allows that: an event is kept with all that belongs to it or not at all, and a batch is not a unit. What
was kept of one whose other parts could not be is a duplicate when all of it is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tallystick.errors import Code, Problem
from tallystick.ledger.base import CatalogStale
from tallystick.model import Batch, Catalog, Verdict
from tallystick.rollup import Ints

T = TypeVar("T")
Keep = Callable[[Batch], Awaitable[Mapping[int, Verdict]]]

TOGETHER = 8
"""So many parts of one batch may be under way at once."""
RETRY_AFTER_S = 1
PARTLY = "The events of some accounts were kept, those of others were not. Send it all again: what was kept is known."


@dataclass(frozen=True, slots=True)
class Part:
    """The events of one account, as a batch, and which of the whole batch's they are."""

    batch: Batch
    rows: Ints


def is_of_many(batch: Batch) -> bool:
    """Say whether a batch has events of several accounts."""
    first = batch.account[0]
    return any(name != first for name in batch.account)


def missing(batch: Batch, catalog: Catalog) -> list[str]:
    """Return the accounts of a batch's events that do not exist, in the order in which they come.

    Those of doomed events are left out, and all where the batch was prepared with another catalog.
    """
    if batch.catalog_version != catalog.version:
        return []
    return batch.missing(catalog.accounts)


def parts(batch: Batch) -> Iterator[Part]:
    """Yield the parts of a batch in the order of the accounts' names, its events in their order."""
    names = sorted(set(batch.account))
    rank = {name: at for at, name in enumerate(names)}
    owner = np.fromiter(map(rank.__getitem__, batch.account), np.int64, len(batch))
    order = np.argsort(owner, kind="stable")
    posted = np.argsort(owner[batch.posting_event], kind="stable")
    ends = np.arange(1, len(names))
    rows = np.split(order, np.searchsorted(owner[order], ends))
    postings = np.split(posted, np.searchsorted(owner[batch.posting_event[posted]], ends))
    place = np.empty(len(batch), np.int64)
    for some, of_some in zip(rows, postings, strict=True):
        place[some] = np.arange(len(some))
        yield Part(_taken(batch, some, of_some, place), some)


def _taken(batch: Batch, rows: Ints, postings: Ints, place: Ints) -> Batch:
    """Return some events of a batch with their postings; `place` says where each of them comes."""
    at = rows.tolist()
    return Batch(
        catalog_version=batch.catalog_version,
        received=batch.received,
        raw=[batch.raw[row] for row in at],
        account=[batch.account[row] for row in at],
        source=[batch.source[row] for row in at],
        id=[batch.id[row] for row in at],
        time=batch.time[rows],
        timed=batch.timed[rows],
        posting_event=place[batch.posting_event[postings]],
        posting_set=batch.posting_set[postings],
        posting_amount=batch.posting_amount[postings],
        label_sets=batch.label_sets,
        changes=_of(batch.changes, at),
        once=_of(batch.once, at),
        doomed=_of(batch.doomed, at),
    )


def _of(known: Mapping[int, T], rows: Sequence[int]) -> Mapping[int, T]:
    return {place: known[row] for place, row in enumerate(rows) if row in known} if known else {}


async def keep_each(batch: Batch, keep: Keep) -> Mapping[int, Verdict]:
    """Have every part of a batch kept, some at once, and return the verdicts by the batch's indexes.

    Once a part cannot be kept no further one is begun. Raises CatalogStale where nothing was kept, else a Problem that
    says so.
    """
    left = iter(await asyncio.to_thread(lambda: [*parts(batch)]))
    verdicts: dict[int, Verdict] = {}
    failures: list[Problem | CatalogStale] = []
    accepted = 0

    async def some() -> None:
        nonlocal accepted
        for part in left:
            if failures:
                return
            try:
                said = await keep(part.batch)
            except (Problem, CatalogStale) as failure:
                failures.append(failure)
                return
            accepted += len(part.batch) - len(said)
            verdicts.update((int(part.rows[at]), verdict) for at, verdict in said.items())

    await asyncio.gather(*(some() for _ in range(TOGETHER)))
    if failures:
        raise _failure(failures, accepted)
    return verdicts


def _failure(failures: Sequence[Problem | CatalogStale], accepted: int) -> Problem | CatalogStale:
    problem = next((failure for failure in failures if isinstance(failure, Problem)), None)
    if not accepted:
        return problem or failures[0]
    if problem is None:
        return Problem(Code.UNAVAILABLE, PARTLY, retry_after_s=RETRY_AFTER_S)
    return Problem(problem.code, f"{PARTLY} Of the others: {problem.detail}", retry_after_s=problem.retry_after_s)
