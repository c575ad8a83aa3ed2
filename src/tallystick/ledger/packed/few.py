"""A segment of a few events, packed without columns: the very bytes and cells that segment.py and rollup.py would make.

Columns cost something for each that they have, and sorting them lets go of the interpreter, which others then take.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from tallystick import windows
from tallystick.ledger.packed.segment import FRAME_BYTES, Frame, packer
from tallystick.rollup import BUCKET_BITS, LOW_BITS, LOW_MASK, Cells, nothing

FEW = 64
"""So few events and postings are gone through one by one."""

Posting = tuple[int, int, int]
"""A posting's time, series and amount."""

_local = threading.local()
"""A compressor per thread: making one costs more than packing so little with it."""


def pack_frame(raws: Sequence[bytes], accounts: Sequence[int]) -> Frame | None:
    """Pack events as one frame; None where they are too many bytes for one."""
    lengths = list(map(len, raws))
    if len(raws) > 1 and sum(lengths) > FRAME_BYTES:
        return None
    payload = b"".join((struct.pack(f"<{1 + 2 * len(raws)}I", len(raws), *lengths, *accounts), *raws))
    return Frame(len(raws), *_packed(payload))


def pack_columns(
    times: Sequence[int], timed: Sequence[bool], counts: Sequence[int], postings: Sequence[Posting]
) -> tuple[bytes, bytes]:
    """Pack the columns of events that have so many postings each; returns (digest, compressed bytes)."""
    steps = [times[0], *(after - before for before, after in pairwise(times))]
    return _packed(
        b"".join(
            (
                struct.pack("<II", len(times), len(postings)),
                _planes(map(_zigzag, steps)),
                bytes(timed),
                bytes(counts),
                _planes(series for _, series, _ in postings),
                _planes(_zigzag(amount) for _, _, amount in postings),
            )
        )
    )


def quarter_cells(postings: Sequence[Posting]) -> Cells:
    """Aggregate postings per series and quarter hour."""
    found: dict[int, list[Posting]] = {}
    for posting in postings:
        time, series, _ = posting
        found.setdefault(series << BUCKET_BITS | windows.quarter(time), []).append(posting)
    if not found:
        return nothing()
    return Cells(*np.array([_cell(key, found[key]) for key in sorted(found)], np.int64).T.copy())


def _cell(key: int, postings: Sequence[Posting]) -> tuple[int, ...]:
    amounts = [amount for _, _, amount in postings]
    last = max(time for time, _, _ in postings)
    latest = [amount for time, _, amount in postings if time == last]
    total, greatest = sum(amounts), max(latest)
    at = 2 * last | (min(latest) != greatest)
    return key, len(amounts), total >> LOW_BITS, total & LOW_MASK, min(amounts), max(amounts), at, greatest


def _packed(payload: bytes) -> tuple[bytes, bytes]:
    if not hasattr(_local, "zstd"):
        _local.zstd = packer()
    return hashlib.sha256(payload).digest(), _local.zstd.compress(payload)


def _planes(values: Iterable[int]) -> bytes:
    numbers = tuple(values)
    together = struct.pack(f"<{len(numbers)}Q", *numbers)
    return b"".join([together[at::8] for at in range(8)])


def _zigzag(value: int) -> int:
    return (value << 1 ^ value >> 63) & (1 << 64) - 1
