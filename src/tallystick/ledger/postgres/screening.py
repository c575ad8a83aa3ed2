"""What is known of the events of jobs before and after their identities are claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tallystick.ledger import verdicts
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.postgres import identities
from tallystick.ledger.postgres.identities import Claims
from tallystick.ledger.sqlite.job import Job
from tallystick.model import Catalog, Verdict
from tallystick.rollup import Ints


def missing(job: Job, catalog: Catalog) -> list[str]:
    """Return the accounts of a job that do not exist, in the order in which they come."""
    batch, accounts = job.batch, catalog.accounts
    names = batch.account if not batch.doomed else [n for at, n in enumerate(batch.account) if at not in batch.doomed]
    return [name for name in dict.fromkeys(names) if name not in accounts]


def resolve(job: Job, catalog: Catalog, secret: int) -> None:
    """Find the accounts and the fingerprints of a job's events; what has no account is refused."""
    batch, accounts = job.batch, catalog.accounts
    job.fingerprint = identities.fingerprints(secret, 0, batch.account, batch.source, batch.id)
    numbers = {name: accounts[name].number if name in accounts else 0 for name in set(batch.account)}
    job.account = np.fromiter(map(numbers.__getitem__, batch.account), np.uint32, len(batch))
    alive = job.account != 0
    for row in np.flatnonzero(~alive).tolist():
        doomed = batch.doomed.get(row)
        job.verdicts[row] = doomed.verdict if doomed else verdicts.account_unknown(batch.account[row])
    if not alive.all():
        job.keep(alive)


def is_current(job: Job, catalog: Catalog) -> bool:
    if (job.batch.catalog_version, job.accounts_deleted) == (catalog.version, catalog.accounts_deleted):
        return True
    job.fail(CatalogStale())
    return False


def judge(claims: Claims, found: Mapping[int, Verdict]) -> None:
    """Give the events that are kept already their verdicts, and go on with the others."""
    first = 0
    for job in claims.jobs:
        count = len(job.rows)
        job.fingerprint = claims.fingerprint[first : first + count].view(np.uint64)
        alive = np.ones(count, np.bool_)
        for row in [row for row in found if first <= row < first + count] if found else ():
            job.verdicts[int(job.rows[row - first])] = found[row]
            alive[row - first] = False
        first += count
        if not alive.all():
            job.keep(alive)


def remaining(judged: Sequence[Job], rows_of: Sequence[Ints], claims: Claims) -> tuple[NDArray[np.bool_], Ints]:
    """Return which of all rows are left, and the places of those."""
    masks = [np.isin(rows, job.rows, assume_unique=True) for job, rows in zip(judged, rows_of, strict=True)]
    is_kept = np.concatenate(masks)
    return is_kept, claims.place[is_kept]
