"""What reports read of rollups: unpacked once for a while, and once for questions of a report that share it."""

from __future__ import annotations

from collections.abc import Callable

import apsw
import numpy as np
import pytest

from tallystick import rollup, windows
from tallystick.ledger.packed import planning, rollups
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite.source import SHARED_CELLS_MAX, Source, Unpacked, asked_again
from tallystick.model import UsageQuery
from tallystick.rollup import Cells, Ints

JANUARY = 12 * 2024
FEBRUARY = JANUARY + 1
ACCOUNTS = np.array([1], np.int64)


def cells(count: int, month: int = JANUARY) -> Cells:
    """Make cells of so many series, each with one posting in a month."""
    series = np.arange(count, dtype=np.int64)
    ones = np.ones(count, np.int64)
    return Cells(rollup.key(series, ones * month), ones, 0 * ones, series, series, series, ones, series)


def same(a: Cells, b: Cells) -> bool:
    """Say whether two are equal in every column."""
    return all(np.array_equal(x, y) for x, y in zip(a.columns, b.columns, strict=True))


def test_what_was_unpacked_is_found_by_its_bytes() -> None:
    """The same run is unpacked once; another one, however alike, is not taken for it; and nobody can change either."""
    unpacked = Unpacked(1 << 20)
    first, other = rollups.pack(cells(10)), rollups.pack(cells(10, FEBRUARY))
    found = unpacked.unpack(first)
    assert same(found, cells(10))
    assert unpacked.unpack(bytes(bytearray(first))) is found
    assert same(unpacked.unpack(other), cells(10, FEBRUARY))
    with pytest.raises(ValueError, match="read-only"):
        found.count[0] = 7


def test_what_was_read_longest_ago_goes_first() -> None:
    """Runs are kept as long as they fit in together; one that does not fit at all is none of them."""
    bodies = [rollups.pack(cells(100 + number)) for number in range(3)]
    unpacked = Unpacked(2 * (8 * 8 * 102) + sum(map(len, bodies)))
    a, b = map(unpacked.unpack, bodies[:2])
    assert unpacked.unpack(bodies[0]) is a
    unpacked.unpack(bodies[2])
    assert unpacked.unpack(bodies[0]) is a
    assert unpacked.unpack(bodies[1]) is not b
    large = rollups.pack(cells(5_000))
    assert unpacked.unpack(large) is not unpacked.unpack(large)
    assert unpacked.unpack(bodies[1]) is unpacked.unpack(bodies[1])


def test_no_memory_for_it_is_fine_too() -> None:
    """Then every run is unpacked each time; one that is damaged is told from none."""
    unpacked, body = Unpacked(0), rollups.pack(cells(3))
    assert unpacked.unpack(body) is not unpacked.unpack(body)
    with pytest.raises(Damaged):
        Unpacked(1 << 20).unpack(body[:-1])


def of_month(month: int, **where: frozenset[str]) -> UsageQuery:
    """Ask about a whole month."""
    return UsageQuery("audio", None, windows.month_start(np.array([month, month + 1], np.int64)), (), where)


def kept(*runs: Cells) -> apsw.Connection:
    """Make a file that has these runs of an account's months."""
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE rollup (account, meter, grain, period, cells, body)")
    for run in runs:
        values = (1, "audio", int(rollups.Grain.MONTH), 0, len(run), rollups.pack(run))
        db.execute("INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?)", values)
    return db


def counting() -> tuple[list[int], Callable[[bytes], Cells]]:
    """Make a way to unpack that notes how many cells it gave each time."""
    given: list[int] = []

    def unpack(body: bytes) -> Cells:
        found = rollups.unpack(body)
        given.append(len(found))
        return found

    return given, unpack


def read(source: Source, query: UsageQuery) -> list[tuple[list[int], list[int]]]:
    """Read everything of a question, as keys and buckets."""
    parts: list[tuple[Cells, Ints]] = list(source.cells(query, ACCOUNTS, planning.plan(query.edges)))
    return [(some.key.tolist(), buckets.tolist()) for some, buckets in parts]


def test_questions_that_read_the_same_read_it_once() -> None:
    """Whatever they choose of it: the same meter, accounts and edges; and each gets what it would get alone."""
    queries = [of_month(JANUARY), of_month(FEBRUARY), of_month(JANUARY, model=frozenset("m"))]
    db = kept(cells(5), cells(7), cells(9, FEBRUARY))
    given, unpack = counting()
    source = Source(db, unpack, asked_again((query, ACCOUNTS) for query in queries))
    together = [read(source, query) for query in queries]
    assert given == [5, 7, 9] * 2
    assert together == [read(Source(db, rollups.unpack), query) for query in queries]


def test_more_than_may_be_held_is_read_again() -> None:
    """A report over a large ledger holds no more of it than one question would."""
    queries = [of_month(JANUARY), of_month(JANUARY, model=frozenset("m"))]
    db = kept(cells(SHARED_CELLS_MAX), cells(1))
    given, unpack = counting()
    source = Source(db, unpack, asked_again((query, ACCOUNTS) for query in queries))
    assert read(source, queries[0]) == read(source, queries[1])
    assert given == [SHARED_CELLS_MAX, 1] * 2
