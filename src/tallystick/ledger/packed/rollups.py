"""Cells of rollups as they are kept: how wide their buckets are, the period of each, and the bytes of a run of them."""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np
import zstandard

from tallystick import rollup, windows
from tallystick.ledger.packed.segment import Damaged, planes, unplanes, unzigzag, zigzag
from tallystick.rollup import Cells, Ints

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
    columns = [np.diff(cells.key, prepend=np.int64(0)), *map(zigzag, cells.columns[1:])]
    payload = b"".join((struct.pack("<I", len(cells)), *map(planes, columns)))
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(payload)


def unpack(body: bytes) -> Cells:
    """Unpack cells; raises Damaged when the bytes are not cells'."""
    try:
        payload = zstandard.ZstdDecompressor().decompress(body)
        (n,) = struct.unpack_from("<I", payload)
    except (zstandard.ZstdError, struct.error) as error:
        raise Damaged(f"rollup: {error}") from error
    if len(payload) != 4 + 8 * COLUMNS * n:
        raise Damaged("rollup has the wrong length")
    keys, *rest = (unplanes(payload, 4 + 8 * n * i, n) for i in range(COLUMNS))
    return Cells(np.cumsum(keys), *map(unzigzag, rest))
