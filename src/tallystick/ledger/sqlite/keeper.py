"""What is done behind the log: folding rollups, storing and merging identity runs, moving the WAL into the file.

Everything here is worked out beside the writer, on a connection of its own, and handed to it in small slices. Whatever
is cut short is done again after a restart, from the log.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import apsw
import numpy as np
import structlog
from msgspec.structs import replace

from tallystick import rollup
from tallystick.errors import Problem
from tallystick.ledger.packed.heads import Heads
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite import hold_tables, identity, key_use, reading, rollups
from tallystick.ledger.sqlite.file import row, rows
from tallystick.ledger.sqlite.hold_tables import Mark, Packed
from tallystick.ledger.sqlite.identity import CHUNK, CHUNK_BITS, Identities, MemoryRun, StoredRun
from tallystick.ledger.sqlite.key_use import KeyUses
from tallystick.ledger.sqlite.reading import Folded
from tallystick.ledger.sqlite.scrub import Scrub
from tallystick.ledger.sqlite.tail import Overlay, Tail
from tallystick.ledger.sqlite.writer import Lane, Task, Writer, unavailable
from tallystick.precedence import precedence
from tallystick.rollup import Ints

log = structlog.get_logger(__name__)

GATHER_PARTS = 8
"""Sums of commits, of like size, that are summed up in memory before anything is folded: most of them are the same few
cells. Each cell is so summed up a few times only.
"""
FOLD_CELLS = 100_000
FOLD_EVENTS = 500_000
FOLD_IDLE_S = 5.0
FOLD_HOLDS = 4_096
"""Changes of holds whose rows are written together: holds that come and go meanwhile are written once. A start reads
them from the log in some 50 ms, and memory has some 3 MB of them.
"""
FOLD_ENTRIES = 8_192
"""Entries of the log after which it is noted that rows of holds are up to date: a start looks through those behind."""
SLICE_HOLDS, SLICES_MAX = 128, 8
"""Rows of holds in a short commit, or more where that would be too many commits: each has its turn only after some that
are urgent and bring holds as well, and what waits must not grow with time.
"""
SLICE_CELLS = 4_000
SLICE_CHUNKS = 16
PAGE_BYTES = 4096
WAL_PASSIVE_BYTES = 8 * 1024 * 1024
WAL_RESTART_BYTES = 32 * 1024 * 1024
WAL_ROUNDS = 3
LOOK_EVERY_S = 0.1
USES_EVERY_LOOKS = 600
"""About a minute: how much a crash may forget of when keys were used."""
DOOMED_LOOKS = 100
"""Some ten seconds, longer than anything that is looked up takes."""
BUSY_MS = 5000


@dataclass(frozen=True, slots=True)
class Doomed:
    """A stored run that was merged into another: `met` is what whoever met the old index still has of it.

    When there are `looks` it goes all the same: who has it then does not read it any more.
    """

    number: int
    met: weakref.ref[StoredRun]
    looks: int

    def is_left_by(self, looks: int) -> bool:
        """Say whether nobody can be reading it any more."""
        return self.met() is None or self.looks <= looks


class Keeper(threading.Thread):
    """One thread, which looks what is due again and again. `tail` is the ledger's, replaced when the writer recovers.

    `wal_bytes` is how much of the WAL was not in the file yet when it was looked at last.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], apsw.Connection],
        writer: Writer,
        tail: Callable[[], Tail],
        uses: KeyUses,
        identity_bytes_max: int,
        verify_bytes_per_s: int,
    ) -> None:
        super().__init__(name="tallystick-keeper", daemon=True)
        self._uses = uses
        self._connect = connect
        self._writer = writer
        self._tail = tail
        self._identity_bytes_max = identity_bytes_max
        self._verify_bytes = int(verify_bytes_per_s * LOOK_EVERY_S)
        self.scrub = Scrub()
        self._closing = threading.Event()
        self._idle_s = 0.0
        self._seen = 0
        self._looks = 0
        self._doomed: list[Doomed] = []
        self._folding_holds = threading.Lock()
        self.wal_bytes = 0

    def stop(self) -> None:
        """Begin nothing more; what waits for the writer ends when the writer does."""
        self._closing.set()

    def run(self) -> None:
        precedence.join_bulk()
        db: apsw.Connection | None = None
        while not self._closing.wait(LOOK_EVERY_S):
            try:
                db = db or self._connect()
            except (apsw.Error, OSError) as problem:
                log.warning("keeping_postponed", error=str(problem))
                continue
            with precedence.computing():
                self.look(db)
        if db is not None:
            db.close()

    def look(self, db: apsw.Connection) -> None:
        """Do what is due."""
        published = self._tail().published
        self._idle_s = self._idle_s + LOOK_EVERY_S if published.sequence == self._seen else 0.0
        self._seen = published.sequence
        # Each by itself, so that damage met by one does not keep the others from being done.
        done = False
        for is_due, duty in self._duties():
            if is_due():
                self._try(duty, db)
                done = True
        if done:
            give_back()
        self._fold_due_holds()
        self._try(self._drop_doomed, db)
        if self._looks % USES_EVERY_LOOKS == 0:
            self._try(self.store_key_uses)
        self._try(self.checkpoint, db)
        if self._verify_bytes:
            self._try(self.scrub.step, db, self._verify_bytes)

    def _duties(self) -> Sequence[tuple[Callable[[], bool], Callable[[apsw.Connection], None]]]:
        """Return the work that grows with the log, and what says whether it is due once that before it is done."""
        return (
            (self._gather_is_due, self.gather),
            (self._fold_is_due, self.fold),
            (self._store_is_due, self.store_identities),
            (lambda: bool(self._tail().published.identities.mergeable()), self.merge_identities),
        )

    def _try(self, duty: Callable[..., None], *arguments: object) -> None:
        if self._closing.is_set():
            return
        try:
            duty(*arguments)
        except (Problem, Damaged, apsw.Error, OSError) as problem:
            # Nothing is lost: the log has it all, and the next look, or the next start, tries again.
            if not self._closing.is_set():
                log.warning("keeping_postponed", duty=duty.__name__, error=str(problem))
        except Exception:
            # What a damaged row turns into can be anything; without this thread memory would only grow.
            log.exception("keeping_failed", duty=duty.__name__)

    def _gather_is_due(self) -> bool:
        return len(self._tail().published.overlay.alike) >= GATHER_PARTS

    def _fold_is_due(self) -> bool:
        published = self._tail().published
        overlay = published.overlay
        events = published.sequence - overlay.frozen_events
        return (
            bool(overlay.frozen)
            or overlay.active_cells >= FOLD_CELLS
            or events >= FOLD_EVENTS
            or (overlay.active_cells > 0 and self._idle_s >= FOLD_IDLE_S)
        )

    def _store_is_due(self) -> bool:
        identities = self._tail().published.identities
        return identities.memory_entries >= identity.FLUSH_ENTRIES or identities.frozen > 0

    def _holds_are_due(self) -> bool:
        tail = self._tail()
        unwritten, entry = tail.book.unwritten, tail.published.entry
        is_behind = unwritten.changes >= FOLD_HOLDS or entry - unwritten.mark.further >= FOLD_ENTRIES
        return is_behind or not unwritten.mark.is_at_rest

    def _fold_due_holds(self) -> None:
        if not self._folding_holds.locked() and self._holds_are_due():
            self._try(self.fold_holds)

    def gather(self, db: apsw.Connection) -> None:
        """Sum up in memory what many commits added to few cells."""
        tail = self._tail()
        parts = tail.published.overlay.alike
        whole = rollup.merge(parts)
        self._do(tail, then=lambda: _change_overlay(tail, lambda overlay: overlay.gathered(parts, whole)))

    def fold(self, db: apsw.Connection) -> None:
        """Write what is not folded yet into the rollups, some accounts at a time."""
        tail = self._tail()
        if not tail.published.overlay.frozen:
            self._do(tail, then=lambda: _freeze(tail))
        self._sum_up(tail)
        overlay = tail.published.overlay
        done = reading.folded(db)
        frozen = overlay.frozen[0] if overlay.frozen else rollup.nothing()
        account_of = np.array(tail.series.accounts, np.int64)[frozen.series]
        for accounts in _slices(account_of, done, overlay.frozen_through):
            cells = frozen.take(np.isin(account_of, accounts))
            change = rollups.fold(db, cells, tail.series, accounts)
            self._do(tail, partial(change.write, through=overlay.frozen_through))
            give_back()
            if self._gather_is_due():
                self.gather(db)
        self._do(tail, partial(_all_folded, overlay.frozen_through), lambda: _change_overlay(tail, Overlay.melt))

    def _sum_up(self, tail: Tail) -> None:
        """Put the sum of the frozen parts in their place: together they take as much memory again."""
        parts = tail.published.overlay.frozen
        if len(parts) > 1:
            whole = rollup.merge(parts)
            self._do(tail, then=lambda: _change_overlay(tail, lambda overlay: replace(overlay, frozen=(whole,))))

    def fold_holds(self, lane: Lane = Lane.BACKGROUND) -> None:
        """Write the rows of holds that are not what the log says, in order and some at a time."""
        with self._folding_holds:
            tail = self._tail()
            book = tail.book
            if book.unwritten.mark.is_at_rest:
                self._do(tail, then=lambda: book.freeze(tail.published.entry), lane=lane)
            size = max(SLICE_HOLDS, -(-sum(map(len, book.unwritten.frozen.values())) // SLICES_MAX))
            for holds, mark in book.unwritten.slices(size):
                change = partial(_write_holds, hold_tables.pack(holds), mark)
                self._do(tail, change, partial(book.written, mark), lane)

    def finish(self) -> None:
        """Write what waits of holds, behind all that was handed to the writer: the next start has little to read."""
        try:
            self.fold_holds(Lane.URGENT)
            tail = self._tail()
            if tail.book.unwritten.mark.through < tail.published.entry:
                # That was the rest of what was begun before.
                self.fold_holds(Lane.URGENT)
        except Problem as problem:
            log.warning("keeping_postponed", duty="fold_holds", error=str(problem))

    def store_identities(self, db: apsw.Connection) -> None:
        """Write the identities in memory to the file, as one run."""
        tail = self._tail()
        if not tail.published.identities.frozen:
            self._do(tail, then=lambda: _change_identities(tail, Identities.freeze))
        identities = tail.published.identities
        run = identity.merge_runs(identities.memory[: identities.frozen])
        first = int(run.sequence.min())
        self._store(tail, db, [run], len(run), first, run.last, lambda i, stored: i.stored_frozen(stored), ())

    def merge_identities(self, db: apsw.Connection) -> None:
        """Merge neighbouring stored runs into one, while there are any; the old ones serve until it is complete."""
        tail = self._tail()
        while (group := tail.published.identities.mergeable()) and not self._closing.is_set():
            self._merge(tail, db, group)

    def _merge(self, tail: Tail, db: apsw.Connection, group: Sequence[StoredRun]) -> None:
        parts = identity.merged_parts(group, db)
        first, last, entries = group[0].first, group[-1].last, sum(map(len, group))
        self._store(tail, db, parts, entries, first, last, lambda i, stored: i.merged(group, stored), group)
        self._doomed += [Doomed(run.number, weakref.ref(run), self._looks + DOOMED_LOOKS) for run in group]

    def _store(
        self,
        tail: Tail,
        db: apsw.Connection,
        parts: Iterable[MemoryRun],
        entries: int,
        first: int,
        last: int,
        swap: Callable[[Identities, StoredRun], Identities],
        gone: Sequence[StoredRun],
    ) -> None:
        number = next_run(db)
        chunks: list[bytes] = []
        heads = self._room(tail, entries, gone)
        firsts, found = [], 0
        for part in parts:
            # A copy, which keeps one of every CHUNK and not all.
            firsts.append(part.fingerprint[::CHUNK].copy())
            found += len(part)
            if heads is not None:
                heads.add(part.fingerprint)
            for chunk in identity.pack_chunks(part, first):
                precedence.give_way()
                chunks.append(chunk)
                if len(chunks) % SLICE_CHUNKS == 0:
                    self._do(tail, partial(_insert_chunks, number, len(chunks) - SLICE_CHUNKS, chunks[-SLICE_CHUNKS:]))
                    chunks[-SLICE_CHUNKS:] = [b""] * SLICE_CHUNKS
        rest = len(chunks) % SLICE_CHUNKS
        if rest:
            self._do(tail, partial(_insert_chunks, number, len(chunks) - rest, chunks[-rest:]))
        if found != entries:
            raise Damaged(f"events {first} to {last}: {found} identities instead of {entries}")
        stored = StoredRun(number, first, last, entries, np.concatenate(firsts), heads)
        self._do(
            tail,
            partial(_insert_run, stored, [run.number for run in gone]),
            lambda: _change_identities(tail, lambda identities: swap(identities, stored)),
        )

    def _room(self, tail: Tail, entries: int, gone: Sequence[StoredRun]) -> Heads | None:
        """Make room for the upper halves of a run that is stored in place of others, where it fits."""
        stored = [run for run in tail.published.identities.stored if run not in gone and run.heads is not None]
        held = sum(Heads.bytes_of(len(run)) for run in stored)
        return Heads(entries) if held + Heads.bytes_of(entries) <= self._identity_bytes_max else None

    def _drop_doomed(self, db: apsw.Connection) -> None:
        """Delete the chunks of merged runs, when no one who met the old index can still be reading them."""
        tail = self._tail()
        self._looks += 1
        for run in [run for run in self._doomed if run.is_left_by(self._looks)]:
            self._doomed.remove(run)
            drop_run(lambda change: self._do(tail, change), run.number)

    def store_key_uses(self) -> None:
        """Write which keys were used since the last time."""
        tail = self._tail()
        if uses := self._uses.due(key.id for key in tail.published.catalog.keys.values()):
            self._do(tail, partial(key_use.store, uses), lambda: self._uses.mark_stored(uses))

    def checkpoint(self, db: apsw.Connection) -> None:
        """Move the WAL into the file, some at a time, and have it written from its beginning again when it is long.

        A WAL that was moved whole is begun anew by the next commit. One that is added to all the time never is, so it
        has to be moved once while nobody writes, and then little of it should be left to move.
        """
        length, self.wal_bytes = _wal(db)
        if self.wal_bytes >= WAL_PASSIVE_BYTES:
            length = self._move_wal(db)
        if self.wal_bytes and length >= WAL_RESTART_BYTES:
            # While one round moves what there is, more is written: each leaves the next, and the last, less to do.
            for _ in range(WAL_ROUNDS):
                self._move_wal(db)
        if self.wal_bytes and length >= WAL_RESTART_BYTES:
            # It waits with the write lock in its hands; a reader in its way must not stop the writer.
            db.set_busy_timeout(0)
            db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            db.set_busy_timeout(BUSY_MS)

    def _move_wal(self, db: apsw.Connection) -> int:
        """Move what there is of the WAL beside the writer; returns how long the WAL is, in bytes."""
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        length, self.wal_bytes = _wal(db)
        return length

    def _do(
        self,
        tail: Tail,
        change: Callable[[apsw.Connection], None] = lambda db: None,
        then: Callable[[], None] = lambda: None,
        lane: Lane = Lane.BACKGROUND,
    ) -> None:
        """Have the writer make a change, and wait until it is durable.

        What was worked out from a tail holds only for it: once the writer has read the file again, it is dropped.
        """
        # What this is a slice of may take minutes, and what waits of holds is in memory.
        self._fold_due_holds()

        def guarded_change(db: apsw.Connection) -> None:
            if self._tail() is tail:
                change(db)

        def guarded_then() -> None:
            if self._tail() is tail:
                then()

        precedence.give_way()
        task = Task(guarded_change, guarded_then)
        self._writer.submit([task], lane)
        task.wait()
        if self._tail() is not tail:
            raise unavailable("The ledger was read again from its file.")


def _wal(db: apsw.Connection) -> tuple[int, int]:
    """Return how long the WAL is, from its beginning, and how much of it is not in the file yet, in bytes."""
    _, frames, moved = row(db, "PRAGMA wal_checkpoint(NOOP)")
    return frames * PAGE_BYTES, (frames - moved) * PAGE_BYTES


def give_back() -> None:
    """Return memory that is free to the system: the C library would keep what merging large columns leaves behind."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _slices(account_of: Ints, done: Folded, through: int) -> Iterator[list[int]]:
    """Yield the accounts that are still to be folded, as many at a time as make a short commit."""
    accounts, counts = np.unique(account_of, return_counts=True)
    some, cells = [], 0
    for account, count in zip(accounts.tolist(), counts.tolist(), strict=True):
        if done.further.get(account, done.base) < through:
            some.append(account)
            cells += count
        if cells >= SLICE_CELLS:
            yield some
            some, cells = [], 0
    if some:
        yield some


def _all_folded(through: int, db: apsw.Connection) -> None:
    db.execute("DELETE FROM folded WHERE account <> 0; UPDATE folded SET through = ?", (through,))


def _write_holds(packed: Packed, mark: Mark, db: apsw.Connection) -> None:
    hold_tables.store(db, packed)
    hold_tables.move(db, mark)


def _freeze(tail: Tail) -> None:
    published = tail.published
    tail.published = replace(published, overlay=published.overlay.freeze(published.entry, published.sequence))


def _change_overlay(tail: Tail, change: Callable[[Overlay], Overlay]) -> None:
    tail.published = replace(tail.published, overlay=change(tail.published.overlay))


def _change_identities(tail: Tail, change: Callable[[Identities], Identities]) -> None:
    tail.published = replace(tail.published, identities=change(tail.published.identities))


def _insert_chunks(number: int, first: int, chunks: Sequence[bytes], db: apsw.Connection) -> None:
    """Write consecutive chunks of a run as one statement; all but the last are of one length."""
    length = len(chunks[0])
    db.execute(
        "INSERT INTO identity_chunk SELECT ?1 + value, substr(?2, 1 + value * ?3, ?3) FROM carray(?4)",
        ((number << CHUNK_BITS) + first, b"".join(chunks), length, apsw.carray(np.arange(len(chunks)))),
    )


def _insert_run(run: StoredRun, gone: Sequence[int], db: apsw.Connection) -> None:
    if gone:
        db.execute("DELETE FROM identity_run WHERE run IN carray(?)", (apsw.carray(np.array(gone, np.int64)),))
    db.execute("INSERT INTO identity_run VALUES (?, ?, ?, ?)", (run.number, run.first, run.last, run.entries))


def next_run(db: apsw.Connection) -> int:
    """Return a run number that no chunk has."""
    (last,) = row(db, "SELECT max(id) FROM identity_chunk")
    return 1 if last is None else (last >> CHUNK_BITS) + 1


def drop_run(do: Callable[[Callable[[apsw.Connection], None]], None], number: int) -> None:
    """Delete a run's chunks in slices."""
    low, more = number << CHUNK_BITS, True

    def some(db: apsw.Connection) -> None:
        nonlocal more
        ids = "SELECT id FROM identity_chunk WHERE id >= ? AND id < ? LIMIT ?"
        bounds = (low, low + (1 << CHUNK_BITS), 8 * SLICE_CHUNKS)
        db.execute(f"DELETE FROM identity_chunk WHERE id IN ({ids})", bounds)
        more = db.changes() > 0

    while more:
        do(some)


def drop_orphans(db: apsw.Connection) -> None:
    """Delete, at the start, the chunks of runs that were being written or deleted when the process ended."""
    kept = {run for (run,) in rows(db, "SELECT run FROM identity_run")}
    at = 0
    while (found := row(db, "SELECT min(id) FROM identity_chunk WHERE id >= ?", (at,))[0]) is not None:
        number = found >> CHUNK_BITS
        if number not in kept:
            drop_run(lambda change: change(db), number)
        at = (number + 1) << CHUNK_BITS
