"""What is known of the events of jobs before and after their identities are claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tallystick.ledger.base import CatalogStale
from tallystick.ledger.postgres import identities
from tallystick.ledger.postgres.identities import Claims
from tallystick.ledger.sqlite.job import Job
from tallystick.model import Catalog, Verdict
from tallystick.rollup import Ints


def resolve(job: Job, catalog: Catalog, secret: int) -> None:
    """Find the accounts and the fingerprints of a job's events; what has no account is refused."""
    batch = job.batch
    job.fingerprint = identities.fingerprints(secret, 0, batch.account, batch.source, batch.id)
    alive = job.resolve(catalog.accounts)
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
