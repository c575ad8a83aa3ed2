"""Which events are new: an insertion decides, and what was there is compared; a fingerprint alone decides nothing.

Two identities of an account may have one fingerprint. The one that came later is kept under another one, salted, and
found by the same way: whoever meets a stranger under a fingerprint goes on to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.postgres import kept, shards
from tallystick.ledger.postgres.kept import Found
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.pool import Again
from tallystick.ledger.sqlite import identity
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.judging import Kept, judge
from tallystick.ledger.sqlite.tail import source_and_id
from tallystick.model import Verdict
from tallystick.rollup import Ints

SALTS_MAX = 64
NOBODY = 0
"""The number of no entry: what was claimed and given back, and has to stay because others were led past it."""


def fingerprints(
    secret: int, salt: int, accounts: Sequence[str], sources: Sequence[str], ids: Sequence[str]
) -> NDArray[np.uint64]:
    """Return the fingerprints of identities, at one salt."""
    return identity.fingerprints(secret + salt, accounts, sources, ids)


@dataclass(slots=True)
class Claims:
    """The identities that a transaction claims for the events of its jobs, as rows over all of them."""

    jobs: Sequence[Job]
    number: int
    account: Ints
    fingerprint: Ints
    place: Ints
    claimed: list[Ints] = field(default_factory=list)

    @staticmethod
    def of(jobs: Sequence[Job], number: int) -> Claims:
        """Begin with the events of jobs, of which none is judged yet."""
        nothing = np.zeros(0, np.int64)
        account = np.concatenate([nothing, *(job.account.astype(np.int64) for job in jobs)])
        fingerprint = np.concatenate([nothing, *(job.fingerprint.view(np.int64) for job in jobs)])
        return Claims(jobs, number, account, fingerprint, _places(account))

    def at(self, row: int) -> tuple[Job, int]:
        """Return the job that a row is of, and which of its events."""
        for job in self.jobs:
            if row < len(job.rows):
                return job, row
            row -= len(job.rows)
        raise IndexError(row)

    def named(self, row: int) -> tuple[str, str, str]:
        """Return the identity of a row: account, source, id."""
        job, at = self.at(row)
        batch, index = job.batch, int(job.rows[at])
        return batch.account[index], batch.source[index], batch.id[index]


def _places(account: Ints) -> Ints:
    """Count the rows of each account."""
    order = np.argsort(account, kind="stable")
    ordered = account[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    within = np.arange(len(account)) - np.repeat(starts, np.diff(starts, append=len(account)))
    places = np.empty(len(account), np.int64)
    places[order] = within
    return places


def claim(db: Db, claims: Claims, secret: int) -> dict[int, Verdict]:
    """Claim the identities of all rows; returns the verdict on those that are kept already."""
    verdicts: dict[int, Verdict] = {}
    pending = np.arange(len(claims.account))
    for salt in range(SALTS_MAX):
        pending = np.array(_round(db, claims, pending, verdicts), np.int64)
        if len(pending) == 0:
            return verdicts
        names = [claims.named(row) for row in pending.tolist()]
        salted = fingerprints(secret, salt + 1, *(list(column) for column in zip(*names, strict=True)))
        claims.fingerprint[pending] = salted.view(np.int64)
    raise Damaged("more identities have one fingerprint than can be")


def _round(db: Db, claims: Claims, pending: Ints, verdicts: dict[int, Verdict]) -> list[int]:
    """Claim rows under their present fingerprints; returns those that found a stranger there."""
    order = pending[np.argsort(claims.fingerprint[pending], kind="stable")]
    order = order[np.argsort(claims.account[order], kind="stable")]
    same = (np.diff(claims.fingerprint[order]) == 0) & (np.diff(claims.account[order]) == 0)
    is_first = np.concatenate(([True], ~same))
    firsts, strangers = order[is_first], set[int]()
    if not is_first.all():
        owner = firsts[np.cumsum(is_first) - 1]
        pairs = zip(order[~is_first].tolist(), owner[~is_first].tolist(), strict=True)
        strangers = {row for row, first in pairs if claims.named(row) != claims.named(first)}
    if claims.claimed:
        own = {_key(claims, row) for rows in claims.claimed for row in rows.tolist()}
        taken = [row for row in order.tolist() if _key(claims, row) in own]
        strangers.update(taken)
        firsts = firsts[~np.isin(firsts, taken)]
    hits = _insert(db, claims, firsts)
    if hits:
        found = kept.find(db, [place for place in hits.values() if place[1] != NOBODY])
        for row in order.tolist():
            place = hits.get(_key(claims, row))
            if place is not None:
                verdict = None if place[1] == NOBODY else _judged(claims, row, found[place])
                if verdict is None:
                    strangers.add(row)
                else:
                    strangers.discard(row)
                    verdicts[row] = verdict
        firsts = np.array([row for row in firsts.tolist() if _key(claims, row) not in hits], np.int64)
    claims.claimed.append(firsts)
    return sorted(strangers)


def _key(claims: Claims, row: int) -> tuple[int, int]:
    return int(claims.account[row]), int(claims.fingerprint[row])


def _judged(claims: Claims, row: int, found: Found) -> Verdict | None:
    job, at = claims.at(row)
    return judge(job, at, Kept(found.header.account, found.raw))


def _insert(db: Db, claims: Claims, rows: Ints) -> dict[tuple[int, int], kept.Place]:
    """Insert identities, in order, so that two who do so never wait for each other; returns where others are kept."""
    account, fingerprint = claims.account[rows], claims.fingerprint[rows]
    cursor = db.execute(
        """INSERT INTO identity (account, fingerprint, number, place)
        SELECT account, fingerprint, %s, place FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])
            w (account, fingerprint, place)
        ON CONFLICT (account, fingerprint) DO NOTHING""",
        (claims.number, account, fingerprint, claims.place[rows]),
    )
    if cursor.rowcount == len(rows):
        return {}
    of_one, owner = shards.only("i.account", account)
    statement = f"""SELECT i.account, i.fingerprint, i.number, i.place
        FROM unnest(%s::bigint[], %s::bigint[]) w (account, fingerprint) JOIN identity i USING (account, fingerprint)
        WHERE i.number <> %s{of_one}"""
    found = db.execute(statement, (account, fingerprint, claims.number, *owner)).fetchall()
    if len(found) != len(rows) - cursor.rowcount:
        raise Again("an identity was there and is not")
    return {(a, print): (a, number, place) for a, print, number, place in found}


def give_back(db: Db, claims: Claims, is_kept: NDArray[np.bool_]) -> None:
    """Let go of the identities of events that are refused after all, or name the event that took one instead."""
    if is_kept.all():
        return
    claimed = np.concatenate(claims.claimed)
    refused = claimed[~is_kept[claimed]].tolist()
    if not refused:
        return
    takers = {_key(claims, row): row for row in np.flatnonzero(is_kept).tolist()}
    free, moved = [], []
    for row in refused:
        key = _key(claims, row)
        if key in takers:
            moved.append((*key, int(claims.place[takers[key]])))
        else:
            free.append(key)
    of_one, owner = shards.only("identity.account", claims.account)
    named = f"WHERE identity.account = w.account AND identity.fingerprint = w.fingerprint{of_one}"
    if moved:
        db.execute(
            f"""UPDATE identity SET place = w.place
            FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) w (account, fingerprint, place) {named}""",
            (*_columns(moved), *owner),
        )
    if free and any(len(rows) for rows in claims.claimed[1:]):
        db.execute(
            f"""UPDATE identity SET number = {NOBODY}, place = 0
            FROM unnest(%s::bigint[], %s::bigint[]) w (account, fingerprint) {named}""",
            (*_columns(free), *owner),
        )
    elif free:
        db.execute(
            f"""DELETE FROM identity USING unnest(%s::bigint[], %s::bigint[]) w (account, fingerprint) {named}""",
            (*_columns(free), *owner),
        )


def _columns(rows: Sequence[tuple[int, ...]]) -> list[Ints]:
    return [np.array(column, np.int64) for column in zip(*rows, strict=True)]


def find(db: Db, secret: int, account: int, name: str, source: str, id: str) -> Found | None:
    """Return the kept event of an identity."""
    for salt in range(SALTS_MAX):
        (print,) = fingerprints(secret, salt, [name], [source], [id]).view(np.int64).tolist()
        statement = "SELECT account, number, place FROM identity WHERE account = %s AND fingerprint = %s"
        places = db.execute(statement, (account, print)).fetchall()
        if not places:
            return None
        if places[0][1] == NOBODY:
            continue
        ((_, found),) = kept.find(db, [(a, number, place) for a, number, place in places]).items()
        if source_and_id([found.raw]) == ([source], [id]):
            return found
    return None
