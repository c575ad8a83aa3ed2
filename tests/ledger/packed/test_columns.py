"""Columns: whatever is packed comes back, in both layouts; what is written down of them; damage."""

from __future__ import annotations

import random
import struct
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger.packed import places, segment
from tallystick.ledger.packed.segment import Columns, Damaged, columns_digest, pack_columns, unpack_columns
from tallystick.rollup import INT_MAX, INT_MIN

WORD = 2**64
DAY = 86_400_000_000
NOW = 1_748_736_000_000_000
Lists = tuple[list[int], list[bool], list[int], list[int], list[int]]


def lists_of(columns: Columns) -> Lists:
    """Return columns as plain lists, which compare."""
    return (
        columns.time.tolist(),
        columns.timed.tolist(),
        columns.posting_event.tolist(),
        columns.posting_series.tolist(),
        columns.posting_amount.tolist(),
    )


def columns_of(lists: Lists) -> Columns:
    time, timed, *postings = lists
    return Columns(
        np.array(time, np.int64), np.array(timed, np.bool_), *(np.array(each, np.int64) for each in postings)
    )


def usual(events: int, seed: int = 1, meters: int = 3) -> Columns:
    """Return what events of several meters give: numbers of series in a row, seconds, ones, and what is billed."""
    chance = random.Random(seed)
    times = [NOW + 1000 * at - (chance.randrange(DAY) if chance.random() < 0.05 else 0) for at in range(events)]
    sets, seconds = ([chance.randrange(n) for _ in range(events)] for n in (4000, 900_000))
    amounts = [(1000 * ms, 1, -(-ms // 15_000) * 15, ms, 7)[:meters] for ms in seconds]
    return columns_of(
        (
            times,
            [True] * events,
            [at for at in range(events) for _ in range(meters)],
            [meters * each + place for each in sets for place in range(meters)],
            [amount for each in amounts for amount in each],
        )
    )


@pytest.fixture(params=["as before", "by place"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have columns of any number of postings packed in one of the layouts, and see that they are."""
    monkeypatch.setattr(segment, "PLACED_POSTINGS_MIN", 1 if request.param == "by place" else INT_MAX)
    assert is_by_place(pack_columns(usual(1))[1]) is (request.param == "by place")


def payload_of(body: bytes) -> bytes:
    return bytes(zstandard.ZstdDecompressor().decompress(body))


def compressed(payload: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(payload)


def is_by_place(body: bytes) -> bool:
    return payload_of(body).startswith(places.MARK)


def told(payload: bytes) -> Lists:
    """Read columns by place as the page on the file says it, one number after the other."""
    (length,) = struct.unpack_from("<I", payload, 4)
    first, *packings, of_places = msgspec.msgpack.decode(payload[8 : 8 + length])
    for series, amount, _ in of_places:
        packings += [series, amount]
    events, at = packings[0][0], 8 + length
    bits = []
    for count in (events, events - 1):
        octets = payload[at : at + (count + 7) // 8]
        bits.append([bool(octets[i // 8] >> (7 - i % 8) & 1) for i in range(count)])
        at += len(octets)
    starts = [*accumulate((count for count, _, _, width in packings if width), initial=at)]
    at, columns = starts[-1], list[list[int]]()
    for count, low, step, width in packings:
        planes = []
        for _ in range(width - 1):
            planes.append(payload[at : at + count])
            at += count
        if width:
            start = starts.pop(0)
            planes.append(payload[start : start + count])
        above = [sum(plane[i] << 8 * k for k, plane in enumerate(planes)) for i in range(count)]
        columns.append([signed(low + step * n) for n in above])
    assert at == len(payload)
    per_event, later, earlier = (iter(column) for column in columns[:3])
    times, latest = [first], first
    for is_earlier in bits[1]:
        times.append(signed(latest + next(earlier if is_earlier else later)))
        latest = latest if is_earlier else times[-1]
    said = [
        (relative, iter(columns[3 + 2 * k]), iter(columns[4 + 2 * k])) for k, (_, _, relative) in enumerate(of_places)
    ]
    event, series, amounts = list[int](), list[int](), list[int]()
    for at, postings in enumerate(per_event):
        begin = len(series)
        for k in range(postings):
            relative, numbers, values = said[min(k, len(said) - 1)]
            series.append(signed(next(numbers) + (series[begin] if relative else 0)))
            amounts.append(next(values))
            event.append(at)
    return times, bits[0], event, series, amounts


def signed(n: int) -> int:
    return (n + 2**63) % WORD - 2**63


ints = st.one_of(st.integers(INT_MIN, INT_MAX), st.integers(-3, 300), st.just(7))


@st.composite
def some_columns(draw: st.DrawFn) -> Columns:
    """Columns with numbers of one sort each: anything at all, small ones, multiples, all equal, series in a row."""
    per_event = draw(
        st.one_of(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 40).map(lambda n: [n % 10] * n))
    )
    count = sum(per_event)

    def column(size: int) -> list[int]:
        low, step = draw(ints), draw(st.sampled_from((0, 1, 15, 1000, 10**9)))
        if draw(st.booleans()):
            return draw(st.lists(ints, min_size=size, max_size=size))
        return [signed(low + step * n) for n in draw(st.lists(st.integers(0, 70_000), min_size=size, max_size=size))]

    event = [at for at, postings in enumerate(per_event) for _ in range(postings)]
    timed = draw(st.lists(st.booleans(), min_size=len(per_event), max_size=len(per_event)))
    series = column(count)
    if draw(st.booleans()):
        series = [3000 + 7 * at + place for at, postings in enumerate(per_event) for place in range(postings)]
    return columns_of((column(len(per_event)), timed, event, series, column(count)))


def columns_equal(body: bytes, columns: Columns) -> bool:
    found = unpack_columns(body)
    types = [each.dtype for each in (found.time, found.timed, found.posting_event, found.posting_series)]
    assert types == [np.int64, np.bool_, np.int64, np.int64]
    return lists_of(found) == lists_of(columns)


@given(some_columns())
def test_columns_come_back_in_either_layout(columns: Columns) -> None:
    """Nothing is lost or changed, whatever the numbers are like; and what is packed by place is what the page says."""
    for least in (INT_MAX, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segment, "PLACED_POSTINGS_MIN", least)
            digest, body = pack_columns(columns)
        assert columns_equal(body, columns)
        assert digest == columns_digest(body)
        if least == 1 and len(columns.posting_event):
            assert told(payload_of(body)) == lists_of(columns)


def test_columns_as_they_were_written_first_stay_readable() -> None:
    """Two events, the second without a time of its own and earlier, with one posting and with two."""
    of_events = (0x50, 7, 1, 0, *bytes(12), 1, 0, 1, 2)
    series, amounts = (1, 2, 9, 0, 0, 1, *bytes(18)), (0x78, 5, 0, 0, 0, 2, *bytes(18))
    payload = struct.pack("<II", 2, 3) + bytes((*of_events, *series, *amounts))
    assert lists_of(unpack_columns(compressed(payload))) == (
        [168, 164],
        [True, False],
        [0, 1, 1],
        [1, 2, 265],
        [60, -3, 256],
    )


def test_columns_by_place_as_they_were_written_first_stay_readable() -> None:
    """Three events with two postings each, the third event before the second and without a time of its own."""
    head = [
        100,
        [3, 2, 0, 0],
        [1, 50, 0, 0],
        [1, -7, 0, 0],
        [[[3, 4, 3, 1], [3, 0, 1000, 2], False], [[3, 1, 0, 0], [3, 1, 0, 0], True]],
    ]
    packed = msgspec.msgpack.encode(head)
    payload = (
        places.MARK
        + struct.pack("<I", len(packed))
        + packed
        + bytes((0b11000000, 0b01000000, 0, 2, 1, 0, 1, 0, 9, 0, 5))
    )
    assert lists_of(unpack_columns(compressed(payload))) == (
        [100, 150, 143],
        [True, True, False],
        [0, 0, 1, 1, 2, 2],
        [4, 5, 10, 11, 7, 8],
        [9000, 1, 256_000, 1, 5000, 1],
    )


def test_the_number_of_postings_tells_the_layout() -> None:
    """Small commits are packed as they always were, which costs the processor less."""
    few, many = usual(segment.PLACED_POSTINGS_MIN - 1, meters=1), usual(segment.PLACED_POSTINGS_MIN, meters=1)
    assert [is_by_place(pack_columns(each)[1]) for each in (few, many)] == [False, True]


def test_an_event_may_feed_more_meters_than_a_byte_can_count() -> None:
    """All its postings come back, though the layout for few has one byte for their number."""
    columns = columns_of(([NOW], [True], [0] * 300, [*range(300)], [5] * 300))
    assert columns_equal(pack_columns(columns)[1], columns)


@pytest.mark.parametrize(("meters", "bytes_per_event"), [(1, 5), (3, 6.5)])
def test_postings_in_further_meters_take_little(meters: int, bytes_per_event: float) -> None:
    """They are mostly what the first one of their event says already, and so it is written."""
    columns = usual(2500, meters=meters)
    _, body = pack_columns(columns)
    assert len(body) / 2500 < bytes_per_event
    assert columns_equal(body, columns)
    assert told(payload_of(body)) == lists_of(columns)


# Damage


@pytest.mark.usefixtures("layout")
def test_a_flipped_bit_is_told() -> None:
    """Wherever it is in what was stored, it gives Damaged; or else it decides nothing."""
    columns = usual(20)
    body = pack_columns(columns)[1]
    told = 0
    for at in range(8 * len(body)):
        flipped = bytearray(body)
        flipped[at // 8] ^= 1 << at % 8
        try:
            assert columns_equal(bytes(flipped), columns)
        except Damaged:
            told += 1
    assert told > 0.9 * 8 * len(body)


@pytest.mark.usefixtures("layout")
def test_columns_that_end_too_early_or_too_late_are_told() -> None:
    """Neither a part of a payload nor one with something behind it is taken for columns."""
    payload = payload_of(pack_columns(usual(3))[1])
    for wrong in (*(payload[:end] for end in range(len(payload))), payload + b"\0"):
        with pytest.raises(Damaged):
            unpack_columns(compressed(wrong))


@pytest.mark.usefixtures("layout")
def test_bytes_that_are_otherwise_than_written_give_columns_or_damage() -> None:
    """Also where the checksum of the compression fits, nothing but Damaged is raised."""
    payload, chance = payload_of(pack_columns(usual(12))[1]), random.Random(3)
    told = 0
    for _ in range(3000):
        wrong = bytearray(payload)
        for _ in range(chance.randrange(1, 4)):
            wrong[chance.randrange(min(len(wrong), chance.choice((8, 80, 1000))))] = chance.choice(
                (0, 1, 127, 255, chance.randrange(256))
            )
        try:
            unpack_columns(compressed(bytes(wrong)))
        except Damaged:
            told += 1
    assert told > 500


HUGE = places.COUNT_MAX
ABSURD: tuple[Any, ...] = (
    [0, [HUGE, 1], [HUGE - 1], [0], [[[HUGE, 1], [HUGE, 1], False]]],
    [0, [1, HUGE], [0], [0], [[[HUGE, 1], [HUGE, 1], False]]],
    [0, [8, HUGE], [7], [0], [[[8 * HUGE % 2**32, 1], [8, 1], False]]],
    [0, [8, INT_MAX], [7], [0], [[[8, 1], [8, 1], False]]],
    [0, [8, -1], [7], [0], [[[8, 1], [8, 1], False]]],
    [0, [8, 1], [HUGE], [0], [[[8, 1], [8, 1], False]]],
    [0, [8, 1], [0], [7], [[[8, 1], [8, 1], False]]],
    [0, [8, 1], [1], [0], [[[8, 1], [8, 1], False]]],
    [0, [8, 1], [7], [0], [[[8, 1], [1, 1], False]]],
    [0, [8, 1], [7], [0], [[[HUGE, 1], [8, 1], False]]],
    [0, [8, 1], [7], [0], [[[8, 1], [HUGE, 1], False]]],
    [0, [8, 1], [7], [0], [[[1, 1], [1, 1], False]]],
    [0, [8, 2], [7], [0], [[[15, 1], [15, 1], False], [[1, 1], [1, 1], True]]],
    [0, [8, 0], [7], [0], [[[0, 1], [0, 1], False]]],
    [0, [8, 1], [7], [0], []],
    [0, [8, 1], [7], [0], [[[8, 1], [8, 1], False]] * 9],
    [0, [8, 1, 1, 9], [7], [0], [[[8, 1], [8, 1], False]]],
    [0, [0, 1], [0], [0], [[[0, 1], [0, 1], False]]],
    [0, [-1, 1], [0], [0], [[[0, 1], [0, 1], False]]],
    [2**63, [8, 1], [7], [0], [[[8, 1], [8, 1], False]]],
)


@pytest.mark.parametrize("head", ABSURD)
def test_a_head_that_says_what_cannot_be_is_told(head: Any) -> None:
    """Counts that nothing stands for make no columns, and no memory is taken for them."""
    packed = msgspec.msgpack.encode(head)
    payload = places.MARK + struct.pack("<I", len(packed)) + packed + b"\0\0"
    with pytest.raises(Damaged):
        unpack_columns(compressed(payload))


def test_a_head_like_those_that_says_what_is_is_read() -> None:
    """What the test above refuses differs from this."""
    packed = msgspec.msgpack.encode([0, [8, 1], [7], [0], [[[8, 1], [8, 1], False]]])
    found = unpack_columns(compressed(places.MARK + struct.pack("<I", len(packed)) + packed + b"\0\0"))
    assert lists_of(found) == ([0] * 8, [False] * 8, [*range(8)], [1] * 8, [1] * 8)


@pytest.mark.parametrize("counts", [(HUGE - 1, 0), (0, HUGE), (1, HUGE), (HUGE - 1, HUGE)])
def test_counts_that_nothing_stands_for_are_told(counts: tuple[int, int]) -> None:
    """The numbers of events and postings are checked against what there is before anything is made of them."""
    with pytest.raises(Damaged):
        unpack_columns(compressed(struct.pack("<II", *counts) + bytes(26)))
