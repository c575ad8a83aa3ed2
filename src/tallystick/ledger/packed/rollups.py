"""Cells of rollups as they are kept: how wide their buckets are, the period of each, and the bytes of a run of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import pairwise

import numpy as np
import zstandard
from numpy.typing import NDArray

from tallystick import rollup, windows
from tallystick.ledger.packed.segment import Damaged, packer, zigzag
from tallystick.rollup import INT_MAX, Cells, Ints

COLUMNS = 8


class Grain(IntEnum):
    """How wide a cell's bucket is, and what its period is: the UTC month, the UTC year, or everything."""

    QUARTER = 1
    DAY = 2
    MONTH = 3


def coarse(cells: Cells, grain: Grain) -> Cells:
    """Aggregate quarter-hour cells per UTC day or UTC month."""
    if grain is Grain.QUARTER:
        return cells
    starts = windows.quarter_start(cells.bucket)
    bucket = windows.day(starts) if grain is Grain.DAY else windows.month(starts)
    return rollup.rekey(cells, rollup.key(cells.series, bucket))


def period(bucket: Ints, grain: Grain) -> Ints:
    """Return the period that each bucket of a grain is kept under."""
    match grain:
        case Grain.QUARTER:
            return windows.month(windows.quarter_start(bucket))
        case Grain.DAY:
            return windows.month(windows.day_start(bucket)) // 12
        case Grain.MONTH:
            return np.zeros(len(bucket), np.int64)


def pack(cells: Cells) -> bytes:
    """Pack cells: their number as u32, then each column in byte planes, keys as differences; zstd with checksum."""
    return pack_runs(cells, [0])[0]


def pack_runs(cells: Cells, starts: Sequence[int]) -> list[bytes]:
    """Pack cells that lie behind one another as runs, each as `pack` does; `starts` says where each begins, from 0 on.

    Keys have to ascend within a run only; each has a cell at least, where there are several.
    """
    # Column by column: a run may have hundreds of thousands of cells, and all of them once more would be felt.
    planes = np.empty((COLUMNS, 8, len(cells)), np.uint8)
    for column, values in zip(planes, _differences(cells, starts), strict=True):
        column[:] = values.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8).T
    compressor = packer()
    ends = pairwise([*starts, len(cells)])
    return [compressor.compress(struct.pack("<I", b - a) + planes[:, :, a:b].tobytes()) for a, b in ends]


def _differences(cells: Cells, starts: Sequence[int]) -> Iterator[Ints]:
    """Yield the keys of each run as differences, the first from 0, then what else is packed of cells."""
    firsts = np.array(starts[1:], np.int64)
    keys = np.diff(cells.key, prepend=np.int64(0))
    keys[firsts] = cells.key[firsts]
    yield keys
    yield from map(zigzag, cells.columns[1:])


def unpack(body: bytes) -> Cells:
    """Unpack cells; raises Damaged when the bytes are not cells'."""
    return unpack_runs([body])


def unpack_runs(bodies: Sequence[bytes]) -> Cells:
    """Unpack one run or more behind one another; raises Damaged when the bytes of one are not cells'."""
    parts = list(map(_planes_of, bodies))
    sizes = [part.shape[2] for part in parts]
    planes = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
    values = planes.transpose(0, 2, 1).copy().view("<i8").reshape(COLUMNS, -1).astype(np.int64, copy=False)
    del parts, planes
    key = np.cumsum(values[0])
    if len(sizes) > 1:
        ends = np.concatenate(([0], key))[np.cumsum([0, *sizes[:-1]])]
        key -= np.repeat(ends, sizes)
    # In place, as `unzigzag` would: there may be hundreds of thousands of cells.
    rest = values[1:]
    sign = rest & 1
    rest >>= 1
    rest &= INT_MAX
    rest ^= np.negative(sign, out=sign)
    return Cells(key, *rest)


def _planes_of(body: bytes) -> NDArray[np.uint8]:
    """Return the byte planes of a run's columns: (column, byte, cell)."""
    try:
        payload = zstandard.ZstdDecompressor().decompress(body)
        (n,) = struct.unpack_from("<I", payload)
    except (zstandard.ZstdError, struct.error) as error:
        raise Damaged(f"rollup: {error}") from error
    if len(payload) != 4 + 8 * COLUMNS * n:
        raise Damaged("rollup has the wrong length")
    return np.frombuffer(payload, np.uint8, offset=4).reshape(COLUMNS, 8, n)
