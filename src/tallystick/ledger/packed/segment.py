"""A commit's events as bytes: frames of raw events, columns of postings, a header, and the link that chains them.

The layout, byte by byte (integers little-endian):

* frame, before zstd: n as u32, n lengths as u32, n account numbers as u32, then the events as sent, end to end.
* columns of fewer than PLACED_POSTINGS_MIN postings, before zstd: events as u32, postings as u32; per event its time
  (zigzag of the difference to the one before, byte planes of 8) and a byte, 1 = it had a time, and a byte, its number
  of postings; per posting its series (byte planes of 8) and its amount (byte planes of 8).
* columns of that many postings or more, from format 5 on: 4 bytes of 255; the length of the head as u32; the head,
  MessagePack of `tallystick.ledger.packed.places.Head`; a bit per event, 1 = it had a time; a bit per event but the
  first, 1 = it is earlier than the latest before it; the highest byte plane of each column that has any; then all lower
  planes, column by column, the lowest of each first. Bits begin with the highest of a byte. Before, also these are as
  above: which of both it is, the first 4 bytes tell.
* header: MessagePack of `Header`. Digests are SHA-256 of what stands before zstd, so that recompressing keeps them.
* link = SHA-256(link before, header).
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from tallystick.ledger.packed import places
from tallystick.precedence import precedence
from tallystick.raws import sizes_of
from tallystick.rollup import Ints

FRAME_PACKED_BYTES, FRAME_SPREAD = 2_000, 45
"""What a frame should have at most once packed, and how much less most have: two of them, with what rows need, fill a
page of 4 KiB.
"""
FRAME_BYTES_MIN, FRAME_BYTES, FRAME_BYTES_MAX = 2 * 1024, 12 * 1024, 16 * 1024
"""Bytes of events in a frame: at least (but for the last one), as long as nothing tells more, at most."""
TRIALS = 2
"""Times that the first frame of a commit is packed to learn how well its events pack: the smaller, the worse."""
FRAMES_TOGETHER = 16
"""Frames that are packed or unpacked in one call.

Of more, the bytes would not stay near the processor; for each alone, letting go of the interpreter and getting it back
would cost more than the work. How large the next ones should be, those that were packed tell.
"""
PLACED_POSTINGS_MIN = 256
"""Postings from which on columns are packed by place: with fewer, the processor's time per event would be felt."""
GENESIS = bytes(32)
Found = TypeVar("Found", covariant=True)


_word = struct.Struct("<I")
_local = threading.local()
"""A decompressor per thread: making one costs as much as using it, and one is not for several threads."""


class Damaged(Exception):
    """Bytes that do not decode to what was written."""


class Decoder(Protocol[Found]):
    """What makes a value of bytes; raises MsgspecError where it cannot."""

    def decode(self, packed: Any, /) -> Found:
        """Return the value."""


def decoded(decoder: Decoder[Found], packed: bytes | str, what: str) -> Found:
    """Read what was written; raises Damaged, which says `what` it should have been, when it is none."""
    try:
        return decoder.decode(packed)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{what}: {error}") from error


class NewSeries(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A series met for the first time: its number and what it stands for."""

    number: int
    account: int
    meter: str
    meter_version: int
    labels: tuple[tuple[str, str], ...]


class Owners(msgspec.Struct, frozen=True, array_like=True):
    """How a segment's header begins: its place, its times, and the accounts that are in it, ascending."""

    entry: int
    first: int
    count: int
    recorded: int
    catalog_version: int
    time_min: int
    time_max: int
    accounts: tuple[int, ...]


class Digests(Owners, frozen=True, array_like=True):
    """How it goes on: `frames` are (first sequence, digest). Series, of which there may be many, are not read so."""

    frames: tuple[tuple[int, bytes], ...]
    columns: bytes


class Header(Digests, frozen=True, array_like=True):
    """What the chain covers of a segment."""

    series: tuple[NewSeries, ...]


class Frame(msgspec.Struct, frozen=True):
    """Events packed for the disk: how many, the digest of what was packed, and the compressed bytes."""

    count: int
    digest: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class FrameEvents:
    """The events of an unpacked frame."""

    raws: Sequence[bytes]
    accounts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Columns:
    """The times of a segment's events and their postings; posting j belongs to event `posting_event[j]`."""

    time: Ints
    timed: NDArray[np.bool_]
    posting_event: Ints
    posting_series: Ints
    posting_amount: Ints


def link(before: bytes, header: bytes) -> bytes:
    """Return the link of an entry: what ties its header to everything before it."""
    return hashlib.sha256(before + header).digest()


def pack_frames(
    raws: Sequence[bytes], accounts: NDArray[np.uint32], packed_bytes: int = FRAME_PACKED_BYTES
) -> list[Frame]:
    """Pack events, in order, into frames of hardly more than so many bytes once packed, each and one event at least."""
    lengths = np.fromiter(sizes_of(raws), np.uint32, len(raws))
    bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)))
    compressor = packer()

    def payload(a: int, b: int) -> bytes:
        return b"".join((struct.pack("<I", b - a), lengths[a:b].tobytes(), accounts[a:b].tobytes(), *raws[a:b]))

    cuts = _cuts(bounds, 0, FRAME_BYTES)
    for _ in range(TRIALS if len(cuts) > 2 else 0):
        tried = len(compressor.compress(payload(*cuts[:2])))
        cuts = _cuts(bounds, 0, _fitting(bounds, cuts[:2], [tried], packed_bytes - FRAME_SPREAD))
    frames: list[Frame] = []
    while True:
        precedence.give_way()
        payloads = [payload(a, b) for a, b in pairwise(cuts)]
        bodies = _compress_all(compressor, payloads)
        frames += [
            Frame(b - a, hashlib.sha256(payload).digest(), body)
            for (a, b), payload, body in zip(pairwise(cuts), payloads, bodies, strict=True)
        ]
        if cuts[-1] == len(raws):
            return frames
        cuts = _cuts(bounds, cuts[-1], _fitting(bounds, cuts, [*map(len, bodies)], packed_bytes))


def _fitting(bounds: Ints, cuts: Sequence[int], packed: Sequence[int], fill: int) -> int:
    """Return how many bytes of events a frame should have to take so many once packed, as the frames between cuts tell.

    Of several the one that packed worst but one tells: two frames that hardly do not fit a page leave half of it empty.
    """
    sizes = np.diff(bounds[list(cuts)])
    *_, ratio = np.sort(sizes / packed)[:2].tolist()
    # A frame ends with the last event that fits: half an event too early, on average.
    half = int(sizes.sum()) // (2 * (cuts[-1] - cuts[0]))
    return min(max(int(fill * ratio) + half, FRAME_BYTES_MIN), FRAME_BYTES_MAX)


def _cuts(bounds: Ints, start: int, bytes_max: int) -> list[int]:
    """Return where to cut events with these bounds, from one of them on: at most so many bytes together, or one event.

    No more than FRAMES_TOGETHER frames.
    """
    cuts = [start]
    while cuts[-1] < len(bounds) - 1 and len(cuts) <= FRAMES_TOGETHER:
        end = int(np.searchsorted(bounds, bounds[cuts[-1]] + bytes_max, side="right")) - 1
        cuts.append(max(end, cuts[-1] + 1))
    return cuts


def unpack_frame(body: bytes) -> FrameEvents:
    """Unpack a frame; raises Damaged when its bytes are not a frame's."""
    return unpack_events(body, None)


def unpack_events(body: bytes, places: Sequence[int] | None) -> FrameEvents:
    """Unpack the events at some places of a frame (ascending; None = all); raises Damaged if it cannot."""
    return _events_of(unpack(body), places)


def unpack_frames(bodies: Sequence[bytes], places: Sequence[Sequence[int]]) -> Iterator[FrameEvents]:
    """Unpack the events at some places of each of some frames; raises Damaged as `unpack_events` does."""
    for start in range(0, len(bodies), FRAMES_TOGETHER):
        precedence.give_way()
        some = slice(start, start + FRAMES_TOGETHER)
        yield from map(_events_of, _decompress_all(bodies[some]), places[some])


def _events_of(payload: bytes, places: Sequence[int] | None) -> FrameEvents:
    n, ends = _frame_ends(payload)
    if places is None:
        accounts = struct.unpack_from(f"<{n}I", payload, 4 + 4 * n)
        return FrameEvents([payload[a:b] for a, b in pairwise(ends)], accounts)
    if places and places[-1] >= n:
        raise Damaged(f"frame holds {n} events, too few")
    # Most often it is one of many: what is said of the others is not looked at.
    raws = [payload[ends[at] : ends[at + 1]] for at in places]
    return FrameEvents(raws, [_word.unpack_from(payload, 4 + 4 * (n + at))[0] for at in places])


def _frame_ends(payload: bytes) -> tuple[int, Sequence[int]]:
    """Return how many events an unpacked frame holds, and where in it the first begins and each ends."""
    try:
        (n,) = _word.unpack_from(payload)
        lengths = struct.unpack_from(f"<{n}I", payload, 4)
    except struct.error as error:
        raise Damaged(f"frame too short: {error}") from error
    ends = list(accumulate(lengths, initial=4 + 8 * n))
    if n == 0 or ends[-1] != len(payload):
        raise Damaged("frame lengths do not add up")
    return n, ends


def frame_digest(body: bytes) -> bytes:
    """Return the digest of a frame's content, as the header has it."""
    return hashlib.sha256(unpack(body)).digest()


def pack_columns(columns: Columns) -> tuple[bytes, bytes]:
    """Pack columns; returns (digest, compressed bytes)."""
    if len(columns.posting_event) >= PLACED_POSTINGS_MIN:
        parts = places.pack(
            columns.time, columns.timed, columns.posting_event, columns.posting_series, columns.posting_amount
        )
        return hashlib.sha256(b"".join(parts)).digest(), _compress(parts)
    payload = _few(columns)
    return hashlib.sha256(payload).digest(), _compress((payload,))


def _few(columns: Columns) -> bytes:
    events, postings = len(columns.time), len(columns.posting_event)
    per_event = np.bincount(columns.posting_event, minlength=events).astype(np.uint8)
    return b"".join(
        (
            struct.pack("<II", events, postings),
            planes(zigzag(np.concatenate((columns.time[:1], columns.time[1:] - columns.time[:-1])))),
            columns.timed.astype(np.uint8).tobytes(),
            per_event.tobytes(),
            planes(columns.posting_series),
            planes(zigzag(columns.posting_amount)),
        )
    )


def unpack_columns(body: bytes) -> Columns:
    """Unpack columns; raises Damaged when the bytes are not columns'."""
    payload = unpack(body)
    if not payload.startswith(places.MARK):
        return _unpack_few(payload)
    try:
        return Columns(*places.unpack(payload))
    except (ValueError, struct.error, msgspec.MsgspecError, MemoryError) as error:
        raise Damaged(f"columns: {error}") from error


def _unpack_few(payload: bytes) -> Columns:
    try:
        events, postings = struct.unpack_from("<II", payload)
    except struct.error as error:
        raise Damaged(f"columns too short: {error}") from error
    if len(payload) != 8 + events * 10 + postings * 16:
        raise Damaged("columns have the wrong length")
    at = 8
    time = np.cumsum(unzigzag(unplanes(payload, at, events)))
    at += 8 * events
    timed = np.frombuffer(payload, np.uint8, events, at).astype(np.bool_)
    per_event = np.frombuffer(payload, np.uint8, events, at + events)
    at += 2 * events
    if int(per_event.sum(dtype=np.int64)) != postings:
        raise Damaged("postings per event do not add up")
    series = unplanes(payload, at, postings)
    amount = unzigzag(unplanes(payload, at + 8 * postings, postings))
    return Columns(time, timed, np.repeat(np.arange(events), per_event), series, amount)


def columns_digest(body: bytes) -> bytes:
    """Return the digest of packed columns, as the header has it."""
    return hashlib.sha256(unpack(body)).digest()


def packer() -> zstandard.ZstdCompressor:
    """Return what packs whatever is kept, for one thread: the same payload gives the same bytes."""
    return zstandard.ZstdCompressor(level=1, write_checksum=True)


def _compress(parts: Sequence[bytes]) -> bytes:
    """Compress parts of one payload, each by codes of its own: what is alike should stand in one part."""
    compressor = packer()
    if len(parts) == 1:
        return compressor.compress(parts[0])
    stream = compressor.compressobj(size=sum(map(len, parts)))
    packed = []
    for part in parts[:-1]:
        packed += [stream.compress(part), stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    return b"".join((*packed, stream.compress(parts[-1]), stream.flush()))


def _compress_all(compressor: zstandard.ZstdCompressor, payloads: Sequence[Any]) -> list[bytes]:
    if len(payloads) == 1:
        return [compressor.compress(payloads[0])]
    packed = compressor.multi_compress_to_buffer(list(payloads))
    return [packed[at].tobytes() for at in range(len(packed))]


def unpack(body: bytes) -> bytes:
    """Return what `packer` packed; raises Damaged when the bytes are not such."""
    if not hasattr(_local, "zstd"):
        _local.zstd = zstandard.ZstdDecompressor()
    try:
        return bytes(_local.zstd.decompress(body))
    except (zstandard.ZstdError, MemoryError) as error:
        raise Damaged(f"zstd: {error}") from error


def _decompress_all(bodies: Sequence[bytes]) -> list[bytes]:
    if len(bodies) == 1:
        return [unpack(bodies[0])]
    try:
        payloads: Any = zstandard.ZstdDecompressor().multi_decompress_to_buffer(list(bodies))
    except (zstandard.ZstdError, ValueError, MemoryError) as error:
        raise Damaged(f"zstd: {error}") from error
    return [payloads[at].tobytes() for at in range(len(payloads))]


def zigzag(values: Ints) -> Ints:
    return (values << 1) ^ (values >> 63)


def unzigzag(values: Ints) -> Ints:
    return ((values >> 1) & np.int64(2**63 - 1)) ^ -(values & 1)


def planes(values: Ints) -> bytes:
    """Return the bytes of int64s, all first bytes before all second ones: the high ones are mostly zero and pack."""
    return np.ascontiguousarray(values.astype("<i8").view(np.uint8).reshape(-1, 8).T).tobytes()


def unplanes(payload: bytes, at: int, count: int) -> Ints:
    planes = np.frombuffer(payload, np.uint8, 8 * count, at).reshape(8, count)
    return np.ascontiguousarray(planes.T).view("<i8").reshape(-1).astype(np.int64)
