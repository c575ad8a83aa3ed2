"""One batch on its way into the log: what is left of it, its verdicts, and what the screening worked out for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from tallystick.errors import Problem
from tallystick.holding import Answer
from tallystick.ledger import verdicts
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.packed import few, segment
from tallystick.ledger.packed.few import FEW
from tallystick.ledger.packed.heads import Fingerprints
from tallystick.ledger.packed.segment import Columns, Frame
from tallystick.ledger.packed.series import Forecast, SeriesIndex, key_of
from tallystick.ledger.sqlite.identity import MemoryRun, sorted_run
from tallystick.ledger.sqlite.tail import quarter_cells
from tallystick.model import Account, Batch, Verdict
from tallystick.precedence import precedence
from tallystick.rollup import Cells, Ints

ONLY = np.zeros(1, np.int64)
"""The rows of a batch of one event; columns are replaced, and never changed."""

Raws = Sequence[bytes]

Strand = tuple[int, str]
"""An account's number and a meter: what label sets are counted by."""


class Postings(msgspec.Struct, frozen=True, eq=False):
    """A segment's columns, packed, and what they add to the rollups; they hold if the numbers in them do."""

    columns: bytes
    digest: bytes
    cells: Cells


class Packed(msgspec.Struct, frozen=True, eq=False):
    """What a segment takes of its events, worked out before its place in the log is known.

    `run` has the fingerprints, ascending, and the events' places among themselves. `account_events` are the numbers of
    events of `accounts`.
    """

    frames: Sequence[Frame]
    time_min: int
    time_max: int
    accounts: tuple[int, ...]
    account_events: tuple[int, ...]
    run: MemoryRun


@dataclass(slots=True)
class Numbering:
    """The series of a job's label sets in `index`.

    Those of `unknown` had no number when it was screened: what `table` says of them is to be expected at best.
    """

    index: SeriesIndex
    table: Ints
    unknown: Sequence[int]


@dataclass(slots=True, eq=False)
class Job:
    """One batch on its way. `rows` are the indexes of its events that are still to be kept, all columns follow it.

    `settles` names the account and the id of the hold that its one event settles; `answer` is what became of that.
    `parts` are the jobs, of one event each, of which it was joined (joining.py): their callers wait, and nobody for it.
    """

    batch: Batch
    create_accounts: bool
    future: asyncio.Future[Any]
    bytes: int
    settles: tuple[str, str] | None = None
    parts: Sequence[Job] = ()
    rows: Ints = field(init=False)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    answer: Answer | None = None
    fingerprint: Fingerprints = field(init=False)
    screened_through: int = 0
    accounts_deleted: int = 0
    account: NDArray[np.uint32] = field(init=False)
    posting_event: Ints = field(init=False)
    posting_set: Ints = field(init=False)
    posting_amount: Ints = field(init=False)
    run: MemoryRun | None = None
    packed: Packed | None = None
    numbering: Numbering | None = None
    postings: Postings | None = None

    def __post_init__(self) -> None:
        batch = self.batch
        self.rows = ONLY if len(batch) == 1 else np.arange(len(batch))
        self.posting_event, self.posting_set = batch.posting_event, batch.posting_set
        self.posting_amount = batch.posting_amount

    def keep(self, alive: NDArray[np.bool_]) -> None:
        """Go on with the rows that are alive (a mask over `rows`); the others have their verdict."""
        kept_posting = alive[self.posting_event]
        self.posting_event = (np.cumsum(alive) - 1)[self.posting_event[kept_posting]]
        self.posting_set = self.posting_set[kept_posting]
        self.posting_amount = self.posting_amount[kept_posting]
        self.rows, self.fingerprint, self.account = self.rows[alive], self.fingerprint[alive], self.account[alive]
        self.run = self.packed = self.numbering = self.postings = None

    def missing(self, accounts: Mapping[str, Account]) -> list[str]:
        """Return the accounts of its events that do not exist, in the order in which they come."""
        return self.batch.missing(accounts)

    def resolve(self, accounts: Mapping[str, Account]) -> NDArray[np.bool_]:
        """Note the numbers of the accounts of all its events; returns which have one, the others have their verdict."""
        batch = self.batch
        numbers = {name: accounts[name].number if name in accounts else 0 for name in set(batch.account)}
        self.account = np.fromiter(map(numbers.__getitem__, batch.account), np.uint32, len(batch))
        alive: NDArray[np.bool_] = self.account != 0
        for row in np.flatnonzero(~alive).tolist() if 0 in numbers.values() else ():
            doomed = batch.doomed.get(row)
            self.verdicts[row] = doomed.verdict if doomed else verdicts.account_unknown(batch.account[row])
        return alive

    @property
    def raws(self) -> Raws:
        """The events that are still to be kept."""
        raw = self.batch.raw
        return raw if len(self.rows) == len(raw) else [raw[at] for at in self.rows.tolist()]

    def drop(self, meters: Mapping[int, frozenset[str]]) -> None:
        """Take the postings of some meters from some rows."""
        label_sets, kept = self.batch.label_sets, np.ones(len(self.posting_event), np.bool_)
        for row, names in meters.items():
            for at in range(*np.searchsorted(self.posting_event, [row, row + 1]).tolist()):
                kept[at] = label_sets[int(self.posting_set[at])].meter not in names
        self.posting_event, self.posting_set = self.posting_event[kept], self.posting_set[kept]
        self.posting_amount = self.posting_amount[kept]
        self.numbering = self.postings = None

    def prepare(self, index: SeriesIndex, accounts: Mapping[str, Account], forecast: Forecast) -> None:
        """Work out what is left to work out, with the numbers that new series will probably get: the writer has little
        to do if they do.
        """
        self.packed = pack([self])
        precedence.give_way()
        numbering = self.number(index, accounts)
        if numbering.unknown:
            keys = [key_of(self.batch.label_sets[at], accounts) for at in numbering.unknown]
            numbering.table[numbering.unknown] = forecast.numbers(index, keys, self.future.done)
        precedence.give_way()
        self.postings = pack_postings([self])

    def number(self, index: SeriesIndex, accounts: Mapping[str, Account]) -> Numbering:
        """Look up the series of the label sets that are in use; what is there and holds for `index` is returned."""
        if self.numbering is not None and self.numbering.index is index:
            return self.numbering
        used = self.used_sets()
        numbers = index.known([self.batch.label_sets[at] for at in used.tolist()], accounts)
        table = np.zeros(len(self.batch.label_sets), np.int64)
        table[used] = numbers
        self.postings = None
        self.numbering = Numbering(index, table, used[numbers == 0].tolist())
        return self.numbering

    def used_sets(self) -> Ints:
        """Return which of the batch's label sets are still in use, ascending."""
        if len(self.posting_set) <= FEW:
            return np.array(sorted(set(self.posting_set.tolist())), np.int64)
        return np.flatnonzero(np.bincount(self.posting_set))

    @property
    def callers(self) -> Sequence[Job]:
        """The jobs, of one caller each, that it stands for."""
        return self.parts or (self,)

    @property
    def held(self) -> frozenset[int]:
        """The places of events that settle holds."""
        return frozenset(at for at, caller in enumerate(self.callers) if caller.settles is not None)

    @property
    def result(self) -> object:
        """What its caller waits for."""
        return self.verdicts if self.settles is None else self.answer

    def write(self, db: apsw.Connection) -> None:
        raise TypeError("jobs are written together, as a Group")

    def publish(self) -> None:
        raise TypeError("jobs are published together, as a Group")

    def fail(self, problem: Problem | CatalogStale) -> None:
        for job in self.callers:
            tell(job.future.get_loop(), set_exception, job.future, problem)


def tell(loop: asyncio.AbstractEventLoop, say: Callable[..., None], *what: object) -> None:
    """Have a loop told, from another thread; one that was closed meanwhile has nobody left to hear it."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(say, *what)


def set_exception(future: asyncio.Future[Any], problem: Exception) -> None:
    if not future.done():
        future.set_exception(problem)


class Work(Protocol):
    """What somebody waits for."""

    @property
    def future(self) -> asyncio.Future[Any]: ...
    @property
    def result(self) -> object: ...


def set_results(works: Sequence[Work]) -> None:
    """Give each caller its verdicts, or its answer; in the loop of the callers."""
    for work in works:
        if not work.future.done():
            work.future.set_result(work.result)


def repeated(ascending: Fingerprints) -> frozenset[int]:
    """Return the fingerprints that are there more than once."""
    if len(ascending) == 1:
        return frozenset()
    return frozenset(ascending[1:][ascending[1:] == ascending[:-1]].tolist())


def run_of(jobs: Sequence[Job]) -> MemoryRun:
    """Return the fingerprints of jobs, ascending, and the places of their events among all of them."""
    if len(jobs) == 1 and jobs[0].run is not None:
        return jobs[0].run
    fingerprint = np.concatenate([job.fingerprint for job in jobs])
    return sorted_run(fingerprint, np.arange(len(fingerprint)))


def pack_few(jobs: Sequence[Job]) -> tuple[Packed, Postings] | None:
    """Do what `pack` and `pack_postings` do, one by one; None where events are many, packed already, or large."""
    rows, packed = sum(len(job.rows) for job in jobs), any(job.packed is not None for job in jobs)
    if packed or max(rows, sum(len(job.posting_set) for job in jobs)) > FEW:
        return None
    times, timed, counts, owners, postings = list[int](), list[bool](), list[int](), list[int](), list[few.Posting]()
    for job in jobs:
        assert job.numbering is not None, "its series have numbers"
        own, events = job.batch.time[job.rows].tolist(), job.posting_event.tolist()
        series, amounts = job.numbering.table[job.posting_set].tolist(), job.posting_amount.tolist()
        times += own
        timed += job.batch.timed[job.rows].tolist()
        fed = Counter(events)
        counts += [fed[event] for event in range(len(own))]
        owners += job.account.tolist()
        postings += zip([own[event] for event in events], series, amounts, strict=True)
    frame = few.pack_frame([raw for job in jobs for raw in job.raws], owners)
    if frame is None:
        return None
    of_account = Counter(owners)
    accounts = tuple(sorted(of_account))
    digest, body = few.pack_columns(times, timed, counts, postings)
    return (
        Packed((frame,), min(times), max(times), accounts, tuple(map(of_account.__getitem__, accounts)), run_of(jobs)),
        Postings(body, digest, few.quarter_cells(postings)),
    )


def pack(jobs: Sequence[Job]) -> Packed:
    """Pack the events of jobs; zstd and SHA-256 let go of the interpreter meanwhile."""
    time = np.concatenate([job.batch.time[job.rows] for job in jobs])
    distinct, counts = np.unique(np.concatenate([job.account for job in jobs]), return_counts=True)
    accounts, events = tuple(distinct.tolist()), tuple(counts.tolist())
    return Packed(_frames(jobs), int(time.min()), int(time.max()), accounts, events, run_of(jobs))


def _frames(jobs: Sequence[Job]) -> list[Frame]:
    """Return the frames that are packed already, and what lies between them packed together."""
    frames: list[Frame] = []
    for is_packed, some in groupby(jobs, key=lambda job: job.packed is not None):
        together = list(some)
        if is_packed:
            frames += [frame for job in together if job.packed is not None for frame in job.packed.frames]
        else:
            raws = [raw for job in together for raw in job.raws]
            frames += segment.pack_frames(raws, np.concatenate([job.account for job in together]))
    return frames


def pack_postings(jobs: Sequence[Job]) -> Postings:
    """Pack the columns of jobs whose series all have numbers."""
    columns = _columns(jobs)
    precedence.give_way()
    digest, body = segment.pack_columns(columns)
    precedence.give_way()
    return Postings(body, digest, quarter_cells(columns))


def _columns(jobs: Sequence[Job]) -> Columns:
    offsets = np.cumsum([0, *(len(job.rows) for job in jobs)])
    tables = [job.numbering.table for job in jobs if job.numbering is not None]
    return Columns(
        np.concatenate([job.batch.time[job.rows] for job in jobs]),
        np.concatenate([job.batch.timed[job.rows] for job in jobs]),
        np.concatenate([job.posting_event + offset for job, offset in zip(jobs, offsets, strict=False)]),
        np.concatenate([table[job.posting_set] for job, table in zip(jobs, tables, strict=True)]),
        np.concatenate([job.posting_amount for job in jobs]),
    )
