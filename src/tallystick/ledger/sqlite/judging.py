"""What an event is beside those that are kept: new, a duplicate or a conflict; a fingerprint alone decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import apsw
import numpy as np
from numpy.typing import NDArray

from tallystick.envelope import event_of, read, same_content
from tallystick.ledger import verdicts
from tallystick.ledger.packed.segment import Damaged, unpack_frames
from tallystick.ledger.packed.series import Forecast, SeriesIndex
from tallystick.ledger.sqlite import identity
from tallystick.ledger.sqlite.file import rows
from tallystick.ledger.sqlite.identity import Hits, sorted_run
from tallystick.ledger.sqlite.job import Job, run_of
from tallystick.ledger.sqlite.tail import Published
from tallystick.model import Verdict
from tallystick.precedence import precedence
from tallystick.rollup import Ints

FRAMES_READ_TOGETHER = 128
HITS_TOGETHER = 256
"""Events that are compared with kept ones before small requests are let past."""
FEW = 16
"""So few events are packed with those of others, as one, by the writer: one by one would cost more than the work."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An event to compare with: whose it is and the bytes that were sent."""

    account: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept under the fingerprints of a job's events: `row` counts its events, `kept` is by sequence."""

    hits: Hits
    kept: Mapping[int, Kept]


KeptOf = Callable[[Ints], Mapping[int, Kept]]

NOTHING_KNOWN = Known(Hits.join(()), {})


def look_up(
    jobs: Sequence[Job], published: Published, secret: int, db: apsw.Connection, kept_of: KeptOf
) -> list[Known]:
    """Ask for all identities of some jobs at once: what is kept lies far apart, and is read once for all of them.

    After it the writer need only look at commits newer than `published`. `kept_of` reads kept events by sequence.
    """
    fingerprint(jobs, published, secret)
    together = run_of(jobs)
    found = published.identities.probe(together.fingerprint, db)
    asked, sequence = together.sequence[found.row], found.sequence
    kept = kept_of(sequence) if len(sequence) else {}
    known, first = [], 0
    for job in jobs:
        own = (asked >= first) & (asked < first + len(job.batch))
        known.append(Known(Hits(asked[own] - first, sequence[own]), kept))
        first += len(job.batch)
    return known


def fingerprint(jobs: Sequence[Job], published: Published, secret: int) -> None:
    """Note the fingerprints of jobs, which are about to be looked for among what is `published`."""
    for job in jobs:
        precedence.give_way()
        batch = job.batch
        job.fingerprint = identity.fingerprints(secret, batch.account, batch.source, batch.id)
        job.run = sorted_run(job.fingerprint, np.arange(len(batch)))
        job.screened_through = published.sequence


def screen(
    job: Job,
    known: Known,
    published: Published,
    index: SeriesIndex,
    forecast: Forecast,
) -> None:
    """Judge what is known, so that the writer need only look at newer commits; pack the rest."""
    batch, accounts = job.batch, published.catalog.accounts
    job.accounts_deleted = published.catalog.accounts_deleted
    precedence.give_way()
    alive = job.resolve(accounts)
    if len(known.hits.row):
        _judge_hits(job, known.hits, known.kept, alive)
    if not alive.all():
        job.keep(alive)
    precedence.give_way()
    # What is doomed stays in its place until all that comes before it is known, so there is nothing to pack yet. What
    # was joined is screened in the loop, which has better things to do.
    if len(job.rows) > FEW and not batch.doomed and not job.parts:
        job.prepare(index, accounts, forecast)


def _judge_hits(job: Job, hits: Hits, kept: Mapping[int, Kept], alive: NDArray[np.bool_]) -> None:
    """Note the verdicts on rows that are alive and kept already; those are alive no more."""
    batch, indexes, accounts = job.batch, job.rows.tolist(), job.account.tolist()
    metered = batch.all_metered if len(hits.row) > FEW else None
    for at, (row, sequence) in enumerate(zip(hits.row.tolist(), hits.sequence.tolist(), strict=True)):
        if at % HITS_TOGETHER == 0:
            precedence.give_way()
        if sequence not in kept:
            raise Damaged(f"event {sequence} is not in its frame")
        if not alive[row]:
            continue
        one, index = kept[sequence], indexes[row]
        # Nearly all that comes again is what was sent, to the byte.
        if metered is not None and one.account == accounts[row] and one.raw == batch.raw[index]:
            verdict: Verdict | None = verdicts.duplicate(metered=index in metered)
        else:
            verdict = judge(job, row, one)
        if verdict is not None:
            job.verdicts[index] = verdict
            alive[row] = False


def judge(job: Job, row: int, kept: Kept) -> Verdict | None:
    """Say what the event at `row` is beside a kept one: a duplicate, a conflict, or (None) another identity."""
    index = int(job.rows[row])
    if kept.account != int(job.account[row]):
        return None
    batch = job.batch
    sent = batch.raw[index]
    if kept.raw == sent:
        return verdicts.duplicate(metered=batch.is_metered(index))
    before, now = read(kept.raw), read(sent)
    if (before["source"], before["id"]) != (now["source"], now["id"]):
        return None
    account, received = batch.account[index], batch.received
    if same_content(event_of(before, account, received), event_of(now, account, received)):
        return verdicts.duplicate(metered=batch.is_metered(index))
    return verdicts.CONFLICT


def kept_events(db: apsw.Connection, sequences: Ints) -> dict[int, Kept]:
    """Read kept events by sequence, frame by frame."""
    kept: dict[int, Kept] = {}
    wanted = np.unique(sequences)
    statement = "SELECT DISTINCT (SELECT max(first) FROM frame WHERE first <= s.value) AS f FROM carray(?) s ORDER BY f"
    for start in range(0, len(wanted), FRAMES_READ_TOGETHER):
        precedence.give_way()
        some = np.ascontiguousarray(wanted[start : start + FRAMES_READ_TOGETHER])
        firsts = np.array([first for (first,) in rows(db, statement, (apsw.carray(some),))], np.int64)
        frames = "SELECT body FROM frame WHERE first IN carray(?) ORDER BY first"
        starts = np.append(np.searchsorted(some, firsts), len(some)).tolist()
        bodies = [body for (body,) in rows(db, frames, (apsw.carray(firsts),))]
        wanted_here = [some[a:b].tolist() for a, b in pairwise(starts)]
        places = [[at - first for at in here] for here, first in zip(wanted_here, firsts.tolist(), strict=True)]
        for here, events in zip(wanted_here, unpack_frames(bodies, places), strict=True):
            kept.update(zip(here, map(Kept, events.accounts, events.raws), strict=True))
    return kept


def settle(jobs: Sequence[Job], published: Published, db: apsw.Connection) -> None:
    """Judge what the commits since the screening have made known."""
    behind = [job for job in jobs if len(job.rows) and job.screened_through < published.sequence]
    if len(behind) > 1:
        prints = np.sort(np.concatenate([job.fingerprint for job in behind]))
        since = min(job.screened_through for job in behind)
        if not len(published.identities.probe_after(prints, since, db).row):
            return
    for job in behind:
        _settle(job, published, db)


def _settle(job: Job, published: Published, db: apsw.Connection) -> None:
    run = job.run or sorted_run(job.fingerprint, np.arange(len(job.rows)))
    found = published.identities.probe_after(run.fingerprint, job.screened_through, db)
    if len(found.row):
        alive = np.ones(len(job.rows), np.bool_)
        hits = Hits(run.sequence[found.row], found.sequence)
        _judge_hits(job, hits, kept_events(db, found.sequence), alive)
        if not alive.all():
            job.keep(alive)
