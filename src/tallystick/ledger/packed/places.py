"""Columns with many postings as bytes, by place: all first postings of events, then all second ones, and so on.

An event that feeds several meters has a posting in each, and those of one place are alike. What the integers of a
column have in common is said once, in the head: each is low + step × n, and n stands in as many byte planes as it
takes. The layout is in `tallystick.ledger.packed.segment`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from tallystick.rollup import INT_MAX, INT_MIN, Ints

MARK = b"\xff\xff\xff\xff"
"""What such columns begin with: where others have the number of events, and never so many."""
PLACES_MAX = 8
"""Places that have columns of their own; what an event has beyond is in those of the last one."""
COUNT_MAX = 2**32 - 1
WORDS = 2**64

Int = Annotated[int, Meta(ge=INT_MIN, le=INT_MAX)]
Where = tuple[Any, Any]
"""Indices of the postings of a place, and of the first posting of the event of each."""


class Packing(msgspec.Struct, frozen=True, array_like=True):
    """How a column is packed: `count` integers, each low + step × n in 64 bits, with n in `width` bytes."""

    count: Annotated[int, Meta(ge=0, le=COUNT_MAX)]
    low: Int = 0
    step: Annotated[int, Meta(ge=0)] = 0
    width: Annotated[int, Meta(ge=0, le=8)] = 0


class Place(msgspec.Struct, frozen=True, array_like=True):
    """The columns of a place; `is_relative` says that the event's first series is to be added to each series."""

    series: Packing
    amount: Packing
    is_relative: bool


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The first time, and the columns in their order: postings of each event, then times, then each place.

    Times but for the first are what they are after the latest before them: `later` those that are not before it,
    `earlier` the others.
    """

    time: Int
    postings: Packing
    later: Packing
    earlier: Packing
    places: Annotated[tuple[Place, ...], Meta(min_length=1, max_length=PLACES_MAX)]

    @property
    def columns(self) -> tuple[Packing, ...]:
        of_places = (column for place in self.places for column in (place.series, place.amount))
        return (self.postings, self.later, self.earlier, *of_places)


_HEAD = msgspec.msgpack.Decoder(Head)


def pack(time: Ints, timed: NDArray[np.bool_], event: Ints, series: Ints, amount: Ints) -> tuple[bytes, bytes]:
    """Pack times, whether they were sent, and the event (ascending), series and amount of each posting; one at least.

    Returns two parts of one payload: the second is what hardly packs any further.
    """
    before = np.maximum.accumulate(time)[:-1]
    is_earlier = time[1:] < before
    after = time[1:] - before
    postings = np.bincount(event, minlength=len(time))
    columns, relative = [postings, after[~is_earlier], after[is_earlier]], list[bool]()
    for own, first in _places(postings):
        numbers, difference = series[own], series[own] - series[first]
        relative.append(bool(relative) and bool(np.abs(difference).sum() < numbers.sum() // 2))
        columns += [difference if relative[-1] else numbers, amount[own]]
    packings, planes = zip(*map(_pack_column, columns), strict=True)
    of_events, later, earlier, *of_places = packings
    found = map(Place, of_places[::2], of_places[1::2], relative)
    head = msgspec.msgpack.encode(Head(int(time[0]), of_events, later, earlier, tuple(found)))
    bits = (np.packbits(timed).tobytes(), np.packbits(is_earlier).tobytes())
    highest, lower = (of[-1] for of in planes if of), (plane for of in planes for plane in of[:-1])
    return b"".join((MARK, struct.pack("<I", len(head)), head, *bits, *highest)), b"".join(lower)


def unpack(payload: bytes) -> tuple[Ints, NDArray[np.bool_], Ints, Ints, Ints]:
    """Return what was packed; raises ValueError, struct.error or MsgspecError where the bytes are nothing packed."""
    (length,) = struct.unpack_from("<I", payload, len(MARK))
    at = len(MARK) + 4
    head = _HEAD.decode(payload[at : at + length])
    timed, at = _unpack_bits(payload, at + length, head.postings.count)
    is_earlier, at = _unpack_bits(payload, at, head.postings.count - 1)
    postings, later, earlier, *of_places = _unpack_columns(head.columns, payload, at)
    time = _times(head.time, is_earlier, later, earlier)
    count = sum(place.series.count for place in head.places)
    most = int(postings.max())
    if postings.min() < 0 or most > count or int(postings.sum()) != count or len(head.places) != min(most, PLACES_MAX):
        raise ValueError("postings per event do not add up")
    series, amount = np.zeros(count, np.int64), np.zeros(count, np.int64)
    rows = zip(head.places, _places(postings), of_places[::2], of_places[1::2], strict=True)
    for place, (own, first), numbers, amounts in rows:
        if not len(numbers) == len(amounts) == len(series[own]):
            raise ValueError("postings of a place do not add up")
        series[own] = numbers + series[first] if place.is_relative else numbers
        amount[own] = amounts
    return time, timed, np.repeat(np.arange(len(time)), postings), series, amount


def _places(postings: Ints) -> list[Where]:
    """Return where the postings of each place are, by how many each event has."""
    most = int(postings.max())
    if most <= PLACES_MAX and most == postings.min():
        return [(slice(place, None, most), slice(0, None, most)) for place in range(most)]
    within = np.arange(int(postings.sum())) - np.repeat(np.cumsum(postings) - postings, postings)
    place_of = np.minimum(within, PLACES_MAX - 1)
    found = [np.flatnonzero(place_of == place) for place in range(min(most, PLACES_MAX))]
    return [(own, own - within[own]) for own in found]


def _pack_column(values: Ints) -> tuple[Packing, list[bytes]]:
    """Return how a column is packed, and its planes, the lowest first."""
    if not len(values):
        return Packing(0), []
    low, high = int(np.minimum.reduce(values)), int(np.maximum.reduce(values))
    if low == high:
        return Packing(len(values), low), []
    # Without a sign from here on: what is above the lowest may not fit into an int64.
    above = (values - low).view(np.uint64)
    step = int(np.gcd.reduce(above))
    if step > 1:
        above //= np.uint64(step)
    width = (((high - low) // step).bit_length() + 7) // 8
    octets = above.astype("<u8", copy=False).view(np.uint8)
    return Packing(len(values), low, step, width), [octets[plane::8].tobytes() for plane in range(width)]


def _unpack_columns(columns: Sequence[Packing], payload: bytes, at: int) -> Iterator[Ints]:
    """Yield the columns whose planes begin there: the highest of each that has any, then all lower ones."""
    highest, lower = at, at + sum(column.count for column in columns if column.width)
    if len(payload) != lower + sum(column.count * (column.width - 1) for column in columns if column.width):
        raise ValueError("columns have the wrong length")
    for column in columns:
        count, below = column.count, column.width - 1
        if not column.width:
            # Nothing is made of a count that no byte stands for: damaged bytes may say any.
            yield np.broadcast_to(np.int64(column.low), count)
            continue
        octets = np.zeros((count, 8), np.uint8)
        octets[:, below] = np.frombuffer(payload, np.uint8, count, highest)
        octets[:, :below] = np.frombuffer(payload, np.uint8, count * below, lower).reshape(below, count).T
        highest, lower = highest + count, lower + count * below
        above = octets.view("<u8").reshape(-1).astype(np.uint64, copy=False)
        yield (above * np.uint64(column.step) + np.uint64(column.low % WORDS)).view(np.int64)


def _unpack_bits(payload: bytes, at: int, count: int) -> tuple[NDArray[np.bool_], int]:
    """Return so many bits, and where they end."""
    end = at + (count + 7) // 8
    if count < 0 or end > len(payload):
        raise ValueError("columns are too short")
    return np.unpackbits(np.frombuffer(payload, np.uint8, end - at, at), count=count).view(np.bool_), end


def _times(first: int, is_earlier: NDArray[np.bool_], later: Ints, earlier: Ints) -> Ints:
    if len(earlier) != np.count_nonzero(is_earlier) or len(later) + len(earlier) != len(is_earlier):
        raise ValueError("times do not add up")
    after = np.empty(len(is_earlier), np.int64)
    after[is_earlier], after[~is_earlier] = earlier, later
    latest = np.cumsum(np.concatenate((np.array([first], np.int64), np.where(is_earlier, 0, after))))
    return np.concatenate((latest[:1], latest[:-1] + after))
