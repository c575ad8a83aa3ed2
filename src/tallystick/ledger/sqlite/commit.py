"""From a batch to a segment: known identities are judged, the rest is packed beside the writer and written by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from tallystick import windows
from tallystick.envelope import event_of, read, same_content
from tallystick.errors import Problem
from tallystick.ledger import verdicts
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.sqlite import identity, segment, series
from tallystick.ledger.sqlite.file import EVENTS, rows
from tallystick.ledger.sqlite.identity import Fingerprints, Hits, MemoryRun, sorted_run
from tallystick.ledger.sqlite.segment import Columns, Damaged, Frame, Header, unpack_events
from tallystick.ledger.sqlite.series import SeriesIndex
from tallystick.ledger.sqlite.tail import Published, Tail, quarter_cells
from tallystick.model import Batch, Labels, LabelSet, Verdict
from tallystick.rollup import Cells, Ints

FRAMES_READ_TOGETHER = 128


@dataclass(frozen=True, slots=True)
class Packed:
    """What a segment takes of its events, worked out before its place in the log is known.

    `run` has the fingerprints, ascending, and the events' places among themselves; `index` is where the series'
    numbers are from, and what holds only for it.
    """

    frames: Sequence[Frame]
    columns: bytes
    columns_digest: bytes
    time_min: int
    time_max: int
    accounts: tuple[int, ...]
    run: MemoryRun
    repeated: frozenset[int]
    cells: Cells
    index: SeriesIndex


@dataclass(slots=True, eq=False)
class Job:
    """One batch on its way. `rows` are the indexes of its events that are still to be kept, all columns follow it."""

    batch: Batch
    create_accounts: bool
    future: asyncio.Future[Mapping[int, Verdict]]
    bytes: int
    rows: Ints = field(init=False)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    fingerprint: Fingerprints = field(init=False)
    screened_through: int = 0
    account: NDArray[np.uint32] = field(init=False)
    posting_event: Ints = field(init=False)
    posting_set: Ints = field(init=False)
    posting_amount: Ints = field(init=False)
    frames: Sequence[Frame] = ()
    packed: Packed | None = None

    def __post_init__(self) -> None:
        batch = self.batch
        self.rows = np.arange(len(batch))
        self.posting_event, self.posting_set = batch.posting_event, batch.posting_set
        self.posting_amount = batch.posting_amount

    def keep(self, alive: NDArray[np.bool_]) -> None:
        """Go on with the rows that are alive (a mask over `rows`); the others have their verdict."""
        kept_posting = alive[self.posting_event]
        self.posting_event = (np.cumsum(alive) - 1)[self.posting_event[kept_posting]]
        self.posting_set = self.posting_set[kept_posting]
        self.posting_amount = self.posting_amount[kept_posting]
        self.rows, self.fingerprint, self.account = self.rows[alive], self.fingerprint[alive], self.account[alive]
        self.frames, self.packed = (), None

    def pack_frames(self) -> None:
        """Compress the events that are left; zstd and SHA-256 let go of the interpreter meanwhile."""
        raw = self.batch.raw
        raws = raw if len(self.rows) == len(raw) else [raw[i] for i in self.rows.tolist()]
        self.frames = segment.pack_frames(raws, self.account)

    def pack(self, index: SeriesIndex) -> None:
        """Pack what is left, all of it if every series has its number: the writer then has little more to do."""
        self.pack_frames()
        used = self.used_sets()
        numbers = index.known([self.batch.label_sets[at] for at in used])
        if numbers is not None:
            table = np.zeros(len(self.batch.label_sets), np.int64)
            table[used] = numbers
            self.packed = pack([self], {self: table}, index)

    def used_sets(self) -> list[int]:
        """Return which of the batch's label sets are still in use, ascending."""
        return [int(at) for at in np.unique(self.posting_set)]

    def is_metered(self, index: int) -> bool:
        at = int(np.searchsorted(self.batch.posting_event, index))
        return at < len(self.batch.posting_event) and int(self.batch.posting_event[at]) == index

    def write(self, db: apsw.Connection) -> None:
        raise TypeError("jobs are written together, as a Group")

    def publish(self) -> None:
        raise TypeError("jobs are published together, as a Group")

    def fail(self, problem: Problem | CatalogStale) -> None:
        tell(self.future.get_loop(), _set_exception, self.future, problem)


def tell(loop: asyncio.AbstractEventLoop, say: Callable[..., None], *what: object) -> None:
    """Have a loop told, from another thread; one that was closed meanwhile has nobody left to hear it."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(say, *what)


def _set_exception(future: asyncio.Future[Any], problem: Exception) -> None:
    if not future.done():
        future.set_exception(problem)


def _set_results(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_result(job.verdicts)


@dataclass(frozen=True, slots=True)
class Kept:
    """An event to compare with: whose it is and the bytes that were sent."""

    account: int
    raw: bytes


def screen(job: Job, published: Published, index: SeriesIndex, secret: int, db: apsw.Connection) -> None:
    """Judge what is known before `published`, so that the writer need only look at newer commits; pack the rest."""
    batch, accounts = job.batch, published.catalog.accounts
    job.screened_through = published.sequence
    job.fingerprint = identity.fingerprints(secret, batch.account, batch.source, batch.id)
    numbers = {name: accounts[name].number if name in accounts else 0 for name in set(batch.account)}
    job.account = np.fromiter([numbers[name] for name in batch.account], np.uint32, len(batch))
    alive = job.account != 0
    for row in np.flatnonzero(~alive).tolist():
        job.verdicts[row] = verdicts.account_unknown(batch.account[row])
    order = np.argsort(job.fingerprint, kind="stable")
    found = published.identities.probe(job.fingerprint[order], db)
    if len(found.row):
        _judge_hits(job, Hits(order[found.row], found.sequence), kept_events(db, found.sequence), alive)
    if not alive.all():
        job.keep(alive)
    if len(job.rows):
        job.pack(index)


def _judge_hits(job: Job, hits: Hits, kept: Mapping[int, Kept], alive: NDArray[np.bool_]) -> None:
    for row, sequence in zip(hits.row.tolist(), hits.sequence.tolist(), strict=True):
        if sequence not in kept:
            raise Damaged(f"event {sequence} is not in its frame")
        if alive[row]:
            verdict = judge(job, row, kept[sequence])
            if verdict is not None:
                job.verdicts[int(job.rows[row])] = verdict
                alive[row] = False


def judge(job: Job, row: int, kept: Kept) -> Verdict | None:
    """Say what the event at `row` is beside a kept one: a duplicate, a conflict, or (None) another identity."""
    index = int(job.rows[row])
    if kept.account != int(job.account[row]):
        return None
    batch = job.batch
    sent = batch.raw[index]
    if kept.raw == sent:
        return verdicts.duplicate(metered=job.is_metered(index))
    before, now = read(kept.raw), read(sent)
    if (before["source"], before["id"]) != (now["source"], now["id"]):
        return None
    account, received = batch.account[index], batch.received
    if same_content(event_of(before, account, received), event_of(now, account, received)):
        return verdicts.duplicate(metered=job.is_metered(index))
    return verdicts.CONFLICT


def kept_events(db: apsw.Connection, sequences: Ints) -> dict[int, Kept]:
    """Read kept events by sequence, frame by frame."""
    kept: dict[int, Kept] = {}
    wanted = np.unique(sequences)
    statement = "SELECT DISTINCT (SELECT max(first) FROM frame WHERE first <= s.value) AS f FROM carray(?) s ORDER BY f"
    for start in range(0, len(wanted), FRAMES_READ_TOGETHER):
        some = np.ascontiguousarray(wanted[start : start + FRAMES_READ_TOGETHER])
        firsts = np.array([first for (first,) in rows(db, statement, (apsw.carray(some),))], np.int64)
        frames = "SELECT first, body FROM frame WHERE first IN carray(?) ORDER BY first"
        starts = np.append(np.searchsorted(some, firsts), len(some)).tolist()
        found = rows(db, frames, (apsw.carray(firsts),))
        for (first, body), a, b in zip(found, starts[:-1], starts[1:], strict=True):
            wanted_here = some[a:b].tolist()
            events = unpack_events(body, [sequence - first for sequence in wanted_here])
            kept.update(zip(wanted_here, map(Kept, events.accounts, events.raws), strict=True))
    return kept


Strand = tuple[int, str]


class LabelSetBound:
    """Keeps label sets per (account, meter, UTC month) under a bound; counts only where the bound is in reach."""

    def __init__(self, label_sets_max: int, load: Callable[[int, str], dict[int, set[Labels]]]) -> None:
        self._max = label_sets_max
        self._load = load
        self._used: dict[Strand, dict[int, set[Labels]]] = {}

    def forget(self) -> None:
        self._used.clear()

    def is_far(self, tail: Tail, more: int) -> bool:
        """Say whether no strand can pass the bound with `more` label sets."""
        if len(tail.series) + more > self._max:
            return False
        self._used.clear()
        return True

    def tight(self, tail: Tail, label_sets: Sequence[LabelSet]) -> set[Strand]:
        """Return the strands that may pass the bound in some month if all of `label_sets` were taken.

        What was counted of the others is forgotten: nobody counts what is used of them from here on.
        """
        accounts, strands = tail.catalog.accounts, tail.series.strands
        sizes = {(accounts[s.account].number, s.meter): 0 for s in label_sets}
        for label_set in tail.series.strange(label_sets, accounts):
            sizes[accounts[label_set.account].number, label_set.meter] += 1
        known = {strand: len(strands[strand].numbers) if strand in strands else 0 for strand in sizes}
        tight = {strand for strand, more in sizes.items() if known[strand] + more > self._max}
        for strand in sizes.keys() - tight:
            self._used.pop(strand, None)
        return tight

    def admits(self, uses: Sequence[tuple[Strand, int, Labels]]) -> Strand | None:
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


class Group:
    """The jobs of one transaction, written as one segment."""

    def __init__(self, jobs: Sequence[Job], tail: Tail, bound: LabelSetBound, now: int) -> None:
        self.jobs = jobs
        self.bytes = sum(job.bytes for job in jobs)
        self._tail = tail
        self._bound = bound
        self._now = now
        self._after: tuple[int, MemoryRun, Cells] | None = None

    def write(self, db: apsw.Connection) -> None:
        """Judge what the screening could not see, and write what is left: a constant number of statements."""
        tail, published = self._tail, self._tail.published
        current = [job for job in self.jobs if self._is_current(job)]
        for job in current:
            _settle(job, published, db)
        _take_in_order(current, tail, self._bound)
        live = [job for job in current if len(job.rows)]
        if not live:
            return
        packed, made = self._packed(live)
        first, count = published.sequence + 1, len(packed.run)
        firsts = (first + np.cumsum([0, *(frame.count for frame in packed.frames[:-1])])).tolist()
        header = Header(
            entry=tail.entry + 1,
            first=first,
            count=count,
            recorded=self._now,
            catalog_version=tail.catalog.version,
            time_min=packed.time_min,
            time_max=packed.time_max,
            accounts=packed.accounts,
            frames=tuple((at, frame.digest) for at, frame in zip(firsts, packed.frames, strict=True)),
            columns=packed.columns_digest,
            series=tuple(made),
        )
        self._insert(db, header, packed.columns, firsts, packed.frames)
        run = MemoryRun(packed.run.fingerprint, packed.run.sequence + first, first + count - 1)
        self._after = (first + count - 1, run, packed.cells)

    def _packed(self, live: Sequence[Job]) -> tuple[Packed, Sequence[segment.NewSeries]]:
        """Return what the screening packed, if it holds for what is written now, else pack it."""
        ready = live[0].packed
        if len(live) == 1 and ready is not None and ready.index is self._tail.series:
            return ready, ()
        series_of, made = self._series(live)
        for job in live:
            if not job.frames:
                job.pack_frames()
        return pack(live, series_of, self._tail.series), made

    def publish(self) -> None:
        if self._after is not None:
            sequence, run, cells = self._after
            before = self._tail.published
            self._tail.published = replace(
                before,
                sequence=sequence,
                recorded=self._now,
                identities=before.identities.add(run),
                overlay=before.overlay.add(cells) if len(cells) else before.overlay,
            )
        loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job in self.jobs:
            loops.setdefault(job.future.get_loop(), []).append(job)
        for loop, jobs in loops.items():
            tell(loop, _set_results, jobs)

    def fail(self, problem: Problem) -> None:
        for job in self.jobs:
            job.fail(problem)

    def _is_current(self, job: Job) -> bool:
        if job.batch.catalog_version == self._tail.catalog.version:
            return True
        job.fail(CatalogStale())
        return False

    def _series(self, jobs: Sequence[Job]) -> tuple[dict[Job, Ints], list[segment.NewSeries]]:
        series_of, made = {}, []
        for job in jobs:
            used = job.used_sets()
            label_sets = [job.batch.label_sets[i] for i in used]
            given, new = self._tail.series.numbers(label_sets, self._tail.catalog.accounts)
            series_of[job] = np.zeros(len(job.batch.label_sets), np.int64)
            series_of[job][used] = given
            made += new
        return series_of, made

    def _insert(
        self, db: apsw.Connection, header: Header, columns: bytes, firsts: Sequence[int], frames: Sequence[Frame]
    ) -> None:
        packed = msgspec.msgpack.encode(header)
        tail = self._tail
        chained = segment.link(tail.link, packed)
        db.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                header.entry,
                EVENTS,
                header.first,
                header.count,
                header.recorded,
                header.time_min,
                header.time_max,
                packed,
                columns,
                chained,
            ),
        )
        lengths = [len(frame.body) for frame in frames]
        starts = np.cumsum([1, *lengths[:-1]]).tolist()
        places = msgspec.json.encode(list(zip(firsts, starts, lengths, strict=True))).decode()
        db.execute(
            "INSERT INTO frame SELECT value ->> 0, substr(?1, value ->> 1, value ->> 2) FROM json_each(?2)",
            (b"".join(frame.body for frame in frames), places),
        )
        if header.series:
            series.store(db, header.series)
        tail.entry, tail.link = header.entry, chained


def _settle(job: Job, published: Published, db: apsw.Connection) -> None:
    """Judge what the commits since the screening have made known."""
    if not len(job.rows) or job.screened_through >= published.sequence:
        return
    run = job.packed.run if job.packed else sorted_run(job.fingerprint, np.arange(len(job.rows)))
    found = published.identities.probe_after(run.fingerprint, job.screened_through, db)
    if len(found.row):
        alive = np.ones(len(job.rows), np.bool_)
        hits = Hits(run.sequence[found.row], found.sequence)
        _judge_hits(job, hits, kept_events(db, found.sequence), alive)
        if not alive.all():
            job.keep(alive)


def _repeated(parts: Sequence[Fingerprints]) -> frozenset[int]:
    """Return the fingerprints that are there more than once."""
    together = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.uint64)
    return frozenset(together[1:][together[1:] == together[:-1]].tolist())


def _take_in_order(jobs: Sequence[Job], tail: Tail, bound: LabelSetBound) -> None:
    """Judge what depends on the events before it in the group: a repeated identity, one label set too many.

    A refused event claims neither its identity nor its label sets, so both are decided event by event.
    """
    if len(jobs) == 1 and jobs[0].packed is not None:
        repeated = jobs[0].packed.repeated
    else:
        repeated = _repeated([job.fingerprint for job in jobs])
    tight: set[Strand] = set()
    if not bound.is_far(tail, sum(len(job.batch.label_sets) for job in jobs)):
        tight = bound.tight(tail, [job.batch.label_sets[at] for job in jobs for at in job.used_sets()])
    if not repeated and not tight:
        return
    taken: dict[int, list[Kept]] = {}
    for job in jobs:
        alive = np.ones(len(job.rows), np.bool_)
        uses = _uses(job, tail, tight)
        for row, fingerprint in enumerate(job.fingerprint.tolist()):
            others = taken.get(fingerprint, ())
            verdict = next((v for other in others if (v := judge(job, row, other)) is not None), None)
            if verdict is None and row in uses:
                full = bound.admits(uses[row])
                verdict = verdicts.label_sets_exceeded(full[1]) if full is not None else None
            if verdict is not None:
                job.verdicts[int(job.rows[row])] = verdict
                alive[row] = False
            elif fingerprint in repeated:
                kept = Kept(int(job.account[row]), job.batch.raw[int(job.rows[row])])
                taken.setdefault(fingerprint, []).append(kept)
        if not alive.all():
            job.keep(alive)


def _uses(job: Job, tail: Tail, tight: set[Strand]) -> dict[int, list[tuple[Strand, int, Labels]]]:
    """Return which label sets of tight strands each row uses, in which month."""
    uses: dict[int, list[tuple[Strand, int, Labels]]] = {}
    if not tight:
        return uses
    months = windows.month(job.batch.time[job.rows])
    for row, at in zip(job.posting_event.tolist(), job.posting_set.tolist(), strict=True):
        label_set = job.batch.label_sets[at]
        strand = (tail.catalog.accounts[label_set.account].number, label_set.meter)
        if strand in tight:
            uses.setdefault(row, []).append((strand, int(months[row]), label_set.labels))
    return uses


def pack(jobs: Sequence[Job], series_of: Mapping[Job, Ints], index: SeriesIndex) -> Packed:
    """Pack jobs into what one segment takes."""
    columns = _columns(jobs, series_of)
    digest, body = segment.pack_columns(columns)
    fingerprint = np.concatenate([job.fingerprint for job in jobs])
    return Packed(
        [frame for job in jobs for frame in job.frames],
        body,
        digest,
        int(columns.time.min()),
        int(columns.time.max()),
        tuple(np.unique(np.concatenate([job.account for job in jobs])).tolist()),
        sorted_run(fingerprint, np.arange(len(fingerprint))),
        _repeated([fingerprint]),
        quarter_cells(columns),
        index,
    )


def _columns(jobs: Sequence[Job], series_of: Mapping[Job, Ints]) -> Columns:
    offsets = np.cumsum([0, *(len(job.rows) for job in jobs)])
    return Columns(
        np.concatenate([job.batch.time[job.rows] for job in jobs]),
        np.concatenate([job.batch.timed[job.rows] for job in jobs]),
        np.concatenate([job.posting_event + offset for job, offset in zip(jobs, offsets, strict=False)]),
        np.concatenate([series_of[job][job.posting_set] for job in jobs]),
        np.concatenate([job.posting_amount for job in jobs]),
    )
