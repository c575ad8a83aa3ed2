"""Which events are kept: sorted runs of (64-bit keyed fingerprint, sequence), newest in memory, older in the file.

A fingerprint is no proof: a hit names a kept event to compare with, so a collision costs time and never a count.
Of a stored run, only the upper halves of its fingerprints stay in memory (2 bytes per event) while they fit the bound;
its chunks are read when an upper half matches.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import apsw
import msgspec
import numpy as np
import xxhash
from msgspec.structs import replace
from numpy.typing import NDArray

from tallystick.ledger.packed.heads import Fingerprints, Heads
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite.file import row, rows
from tallystick.precedence import precedence
from tallystick.rollup import Ints

CHUNK = 4096
CHUNK_BITS = 24
CHUNKS_TOGETHER, CHUNKS_SCANNED = 32, 8
"""Chunks that are read at a stretch where some are looked for: 1.5 MiB; and of each run that is merged with others."""
FLUSH_ENTRIES = 1 << 17
"""Entries in memory at which they become a stored run; a restart reads at most about as many events again."""
MERGE_AT_ONCE = 4_000
"""Entries of a run in memory at which it is left alone: merging it would hold up the commit that does it."""
FEW = 4
"""Identities that are looked up one by one: numpy lets go of the interpreter at every call, and others take it."""
FAN_IN = 4
PART = 1 << 17
"""Entries merged at once."""
MERGE_ENTRIES_MAX = 1 << 30
"""A merged run's sequences are kept as u32 offsets from its first."""


def fingerprints(secret: int, accounts: Sequence[str], sources: Sequence[str], ids: Sequence[str]) -> Fingerprints:
    """Return the keyed fingerprint of each identity; NUL cannot be in the parts, so it keeps them apart."""
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter(
        [digest(f"{a}\0{s}\0{i}".encode(), secret) for a, s, i in zip(accounts, sources, ids, strict=True)],
        np.uint64,
        len(ids),
    )


class Hits(msgspec.Struct, frozen=True, eq=False):
    """Kept events whose fingerprint equals that of a row asked for; a row may be here more than once."""

    row: Ints
    sequence: Ints

    @staticmethod
    def join(parts: Sequence[Hits]) -> Hits:
        if not parts:
            return Hits(np.empty(0, np.int64), np.empty(0, np.int64))
        return Hits(np.concatenate([p.row for p in parts]), np.concatenate([p.sequence for p in parts]))


class MemoryRun(msgspec.Struct, frozen=True, eq=False):
    """Identities of events first..last, sorted by fingerprint."""

    fingerprint: Fingerprints
    sequence: Ints
    last: int

    def __len__(self) -> int:
        return len(self.fingerprint)

    def probe(self, wanted: Fingerprints) -> Hits:
        rows = _present(self.fingerprint, wanted)
        if len(rows) == 0:
            return Hits.join(())
        left, right = (np.searchsorted(self.fingerprint, wanted[rows], side=side) for side in _SIDES)
        return _spread(rows, left, right, self.sequence)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class StoredRun:
    """A run in the file. `heads` are the upper halves of all fingerprints, or None where they did not fit."""

    number: int
    first: int
    last: int
    entries: int
    chunk_first: Fingerprints
    heads: Heads | None

    def __len__(self) -> int:
        return self.entries

    @property
    def chunks(self) -> int:
        return len(self.chunk_first)

    def probe(self, wanted: Fingerprints, db: apsw.Connection) -> Hits:
        """Look up `wanted` (ascending); reads only chunks that may hold one."""
        likely = np.flatnonzero(wanted >= self.chunk_first[0]) if self.heads is None else self.heads.present(wanted)
        if len(likely) == 0:
            return Hits.join(())
        # Equal fingerprints may reach over a chunk's end: the chunk before the one that fits is looked into as well.
        last = np.searchsorted(self.chunk_first, wanted[likely], side="right") - 1
        first = np.maximum(np.searchsorted(self.chunk_first, wanted[likely], side="left") - 1, 0)
        spread = np.repeat(likely, last - first + 1)
        chunk = np.concatenate([np.arange(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True)])
        order = np.argsort(chunk, kind="stable")
        spread, chunk = spread[order], chunk[order]
        found = []
        for some, run in self.read(db, np.unique(chunk)):
            a, b = np.searchsorted(chunk, [some[0], some[-1] + 1])
            asked = np.unique(spread[a:b])
            hits = run.probe(wanted[asked])
            found.append(Hits(asked[hits.row], hits.sequence))
        return Hits.join(found)

    def read(
        self, db: apsw.Connection, chunks: Ints, together: int = CHUNKS_TOGETHER
    ) -> Iterator[tuple[Ints, MemoryRun]]:
        """Yield the chunks wanted (ascending), so many of them as one run."""
        statement = "SELECT body FROM identity_chunk WHERE id IN carray(?) ORDER BY id"
        for start in range(0, len(chunks), together):
            some = chunks[start : start + together]
            ids = (np.int64(self.number) << CHUNK_BITS) | some
            precedence.give_way()
            bodies = [body for (body,) in rows(db, statement, (apsw.carray(ids),))]
            if len(bodies) != len(some):
                raise Damaged(f"identity run {self.number}: chunks are missing")
            yield some, unpack_chunks(bodies, self)


class Identities(msgspec.Struct, frozen=True, eq=False):
    """All runs at one moment. The first `frozen` of `memory` are being written to the file and stay as they are."""

    memory: tuple[MemoryRun, ...] = ()
    frozen: int = 0
    stored: tuple[StoredRun, ...] = ()

    @property
    def memory_entries(self) -> int:
        return sum(map(len, self.memory[self.frozen :]))

    def probe(self, wanted: Fingerprints, db: apsw.Connection) -> Hits:
        """Return what is kept under `wanted` (ascending)."""
        memory, stored = _likely(self.memory, self.stored, wanted)
        found = []
        for run in memory:
            precedence.give_way()
            found.append(run.probe(wanted))
        for kept in stored:
            precedence.give_way()
            found.append(kept.probe(wanted, db))
        return Hits.join(found)

    def may_have(self, wanted: Fingerprints) -> bool:
        """Say whether anything may be kept under some fingerprints, as far as memory can tell."""
        if len(wanted) <= FEW:
            return any(_likely(self.memory, self.stored, wanted))
        return any(_are_among(run.fingerprint, wanted).any() for run in self.memory) or any(
            run.heads is None or len(run.heads.present(wanted)) for run in self.stored
        )

    def probe_after(self, wanted: Fingerprints, sequence: int, db: apsw.Connection) -> Hits:
        """Return what was kept under `wanted` (ascending) after `sequence`: the commits since an earlier probe.

        They may have been stored meanwhile: a job can wait that long.
        """
        memory = tuple(run for run in self.memory if run.last > sequence)
        stored = tuple(run for run in self.stored if run.last > sequence)
        hits = Identities(memory, 0, stored).probe(wanted, db)
        newer = hits.sequence > sequence
        return Hits(hits.row[newer], hits.sequence[newer])

    def add(self, run: MemoryRun) -> Identities:
        """Return the index with one more commit in it."""
        return replace(self, memory=(*self.memory, run))

    def tidied(self) -> Identities:
        """Return the same index with its newest runs merged where they are of like size, so few are left to probe."""
        alike = newest_alike([len(run) for run in self.memory[self.frozen :]], MERGE_AT_ONCE)
        if alike < 2:
            return self
        return replace(self, memory=(*self.memory[:-alike], merge_runs(self.memory[-alike:])))

    def freeze(self) -> Identities:
        return replace(self, frozen=len(self.memory))

    def stored_frozen(self, run: StoredRun) -> Identities:
        return Identities(self.memory[self.frozen :], 0, (*self.stored, run))

    def merged(self, old: Sequence[StoredRun], new: StoredRun) -> Identities:
        gone = {run.number for run in old}
        at = next(place for place, run in enumerate(self.stored) if run.number in gone)
        kept = [run for run in self.stored if run.number not in gone]
        return replace(self, stored=(*kept[:at], new, *kept[at:]))

    def mergeable(self) -> Sequence[StoredRun]:
        """Return the newest neighbours of like size worth merging into one, oldest first, or nothing."""
        for end in range(len(self.stored), FAN_IN - 1, -1):
            group = self.stored[end - FAN_IN : end]
            entries = [len(run) for run in group]
            if max(entries) <= FAN_IN * min(entries) and sum(entries) <= MERGE_ENTRIES_MAX:
                return group
        return ()


def newest_alike(sizes: Sequence[int], large: int) -> int:
    """Say how many of the newest parts to merge into one: each is small beside those after it, and none is `large`.

    Nor are all together but the oldest of them, so that what is put off is never done all at once.
    """
    alike, size = 0, 0
    for part in reversed(sizes):
        if alike and (part >= min(2 * size, large) or size >= large):
            break
        alike, size = alike + 1, size + part
    return alike


def sorted_run(fingerprint: Fingerprints, sequence: Ints) -> MemoryRun:
    """Make a run of pairs in any order."""
    if len(fingerprint) == 1:
        return MemoryRun(fingerprint, sequence, int(sequence[0]))
    order = np.argsort(fingerprint, kind="stable")
    return MemoryRun(fingerprint[order], sequence[order], int(sequence.max()))


def merge_runs(runs: Sequence[MemoryRun]) -> MemoryRun:
    return sorted_run(np.concatenate([r.fingerprint for r in runs]), np.concatenate([r.sequence for r in runs]))


def pack_chunks(run: MemoryRun, first_sequence: int) -> Iterator[bytes]:
    """Yield a run's entries as chunks of CHUNK: fingerprints as u64, sequences less the run's first as u32, xxh3-64."""
    for start in range(0, len(run), CHUNK):
        some = slice(start, start + CHUNK)
        offsets = (run.sequence[some] - first_sequence).astype("<u4")
        body = run.fingerprint[some].astype("<u8").tobytes() + offsets.tobytes()
        yield body + xxhash.xxh3_64_digest(body)


def unpack_chunks(bodies: Sequence[bytes], run: StoredRun) -> MemoryRun:
    """Return chunks that follow one another in their run as one."""
    sizes = [_checked_entries(body, run.number) for body in bodies]
    fingerprint = np.concatenate([np.frombuffer(body, "<u8", n) for body, n in zip(bodies, sizes, strict=True)])
    offset = np.concatenate([np.frombuffer(body, "<u4", n, 8 * n) for body, n in zip(bodies, sizes, strict=True)])
    return MemoryRun(fingerprint, offset.astype(np.int64) + run.first, run.last)


def _checked_entries(body: bytes, run: int) -> int:
    entries, rest = divmod(len(body) - 8, 12)
    if rest or entries < 1:
        raise Damaged(f"identity run {run}: a chunk has the wrong length")
    if xxhash.xxh3_64_digest(memoryview(body)[:-8]) != body[-8:]:
        raise Damaged(f"identity run {run}: a chunk is not what was written")
    return entries


def merged_parts(runs: Sequence[StoredRun], db: apsw.Connection) -> Iterator[MemoryRun]:
    """Yield the union of stored runs in ascending parts of about PART entries: memory stays bounded.

    All parts but the last hold whole chunks.
    """
    total = sum(map(len, runs))
    parts = max(1, total // PART)
    bounds = [(p << 64) // parts for p in range(1, parts)]
    readers = [_Scan(run, db) for run in runs]
    rest: list[MemoryRun] = []
    for bound in [*bounds, None]:
        part = merge_runs([*rest, *(piece for scan in readers for piece in scan.below(bound))])
        whole = len(part) if bound is None else len(part) // CHUNK * CHUNK
        yield MemoryRun(part.fingerprint[:whole], part.sequence[:whole], part.last)
        rest = [MemoryRun(part.fingerprint[whole:], part.sequence[whole:], part.last)]


class _Scan:
    """Reads one stored run from its start to its end, up to one bound after the other."""

    def __init__(self, run: StoredRun, db: apsw.Connection) -> None:
        self._chunks = run.read(db, np.arange(run.chunks, dtype=np.int64), CHUNKS_SCANNED)
        self._rest: MemoryRun | None = None

    def below(self, bound: int | None) -> Iterable[MemoryRun]:
        """Yield what is left below `bound`; None = all of it."""
        while (piece := self._rest or next((run for _, run in self._chunks), None)) is not None:
            end = len(piece) if bound is None else int(np.searchsorted(piece.fingerprint, np.uint64(bound)))
            self._rest = None
            if end:
                yield MemoryRun(piece.fingerprint[:end], piece.sequence[:end], piece.last)
            if end < len(piece):
                self._rest = MemoryRun(piece.fingerprint[end:], piece.sequence[end:], piece.last)
                return


def load_runs(db: apsw.Connection, heads_bytes_max: int) -> tuple[StoredRun, ...]:
    """Read the stored runs' directory and, newest first while they fit, the upper halves of their fingerprints."""
    found = list(rows(db, "SELECT run, first, last, entries FROM identity_run ORDER BY first"))
    left = heads_bytes_max
    loaded = []
    for number, first, last, entries in reversed(found):
        left -= Heads.bytes_of(entries)
        loaded.append(load_run(db, number, first, last, entries, with_heads=left >= 0))
    return tuple(reversed(loaded))


def load_run(
    db: apsw.Connection, number: int, first: int, last: int, entries: int, *, with_heads: bool = True
) -> StoredRun:
    """Read one stored run's directory from its chunks, each of them checked: a wrong one would hide events."""
    low = number << CHUNK_BITS
    (last_id,) = row(db, "SELECT max(id) FROM identity_chunk WHERE id < ?", (low + (1 << CHUNK_BITS),))
    if last_id is None or last_id - low + 1 != -(-entries // CHUNK):
        raise Damaged(f"identity run {number}: chunks are missing")
    heads = Heads(entries) if with_heads else None
    firsts: list[bytes] = []
    left = entries
    statement = "SELECT body FROM identity_chunk WHERE id >= ? AND id < ? ORDER BY id"
    for (body,) in rows(db, statement, (low, low + (1 << CHUNK_BITS))):
        fingerprint = np.frombuffer(body, "<u8", _checked_entries(body, number))
        left -= len(fingerprint)
        firsts.append(body[:8])
        if heads is not None and left >= 0:
            heads.add(fingerprint)
    if left:
        raise Damaged(f"identity run {number}: chunks are missing")
    return StoredRun(number, first, last, entries, np.frombuffer(b"".join(firsts), "<u8"), heads)


def _likely(
    memory: Sequence[MemoryRun], stored: Sequence[StoredRun], wanted: Fingerprints
) -> tuple[Sequence[MemoryRun], Sequence[StoredRun]]:
    """Leave out the runs that have none of a few fingerprints; of many, each run is asked for all."""
    if len(wanted) > FEW:
        return memory, stored
    whole = wanted.tolist()
    return (
        [run for run in memory if _has_one(run.fingerprint, whole)],
        [run for run in stored if run.heads is None or run.heads.has_one(whole)],
    )


def _has_one(ascending: Fingerprints, wanted: Iterable[int]) -> bool:
    values = memoryview(ascending)  # type: ignore[arg-type]  # numpy's stubs do not say that it is a buffer
    for one in wanted:
        at = bisect_left(values, one)
        if at < len(values) and values[at] == one:
            return True
    return False


_SIDES: Sequence[Literal["left", "right"]] = ("left", "right")


def _present(ascending: Fingerprints, wanted: Fingerprints) -> Ints:
    """Return the rows of `wanted` that are among the values, which are not none."""
    return np.flatnonzero(_are_among(ascending, wanted))


def _are_among(ascending: Fingerprints, wanted: Fingerprints) -> NDArray[np.bool_]:
    # What is above all of them is compared with the last.
    among: NDArray[np.bool_] = ascending.take(ascending.searchsorted(wanted), mode="clip") == wanted
    return among


def _spread(rows: Ints, left: Ints, right: Ints, sequence: Ints) -> Hits:
    """Return each row with every sequence in its [left, right) range."""
    counts = right - left
    if len(counts) == 0 or int(counts.max()) == 1:
        return Hits(rows, sequence[left])
    at = np.repeat(left, counts) + np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return Hits(np.repeat(rows, counts), sequence[at])
