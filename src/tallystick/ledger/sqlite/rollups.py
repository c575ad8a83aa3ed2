"""Rollups as they are kept: per account, meter, grain and period a few runs of cells, merged as they are added to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import apsw
import msgspec
import numpy as np

from tallystick import rollup
from tallystick.ledger.packed.rollups import Grain, coarse, pack_runs, period, unpack_runs
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.packed.series import SeriesIndex
from tallystick.ledger.sqlite.file import rows
from tallystick.rollup import Cells, Ints

RUN_CELLS_MAX = 1 << 18
"""A run this large is left alone, so that adding to a period never rewrites more than this."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where cells are kept."""

    account: int
    meter: str
    grain: int
    period: int


@dataclass(frozen=True, slots=True)
class Change:
    """What folding some accounts changes in the file: runs that go, and runs that come."""

    accounts: Sequence[int]
    gone: Sequence[int]
    come: Sequence[tuple[Place, int, bytes]]

    def write(self, db: apsw.Connection, through: int) -> None:
        """Write it, with how far these accounts are folded now: three statements, whatever the size."""
        if self.gone:
            db.execute("DELETE FROM rollup WHERE id IN carray(?)", (apsw.carray(np.array(self.gone, np.int64)),))
        lengths = [len(body) for _, _, body in self.come]
        starts = np.cumsum([1, *lengths[:-1]]).tolist()
        places = [
            (place.account, place.meter, place.grain, place.period, cells, start, length)
            for (place, cells, _), start, length in zip(self.come, starts, lengths, strict=True)
        ]
        db.execute(
            """INSERT INTO rollup (account, meter, grain, period, cells, body)
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
                substr(?1, value ->> 5, value ->> 6) FROM json_each(?2)""",
            (b"".join(body for _, _, body in self.come), _json(places)),
        )
        db.execute(
            "INSERT OR REPLACE INTO folded SELECT value, ? FROM carray(?)",
            (through, apsw.carray(np.array(self.accounts, np.int64))),
        )


def _json(rows: object) -> str:
    return msgspec.json.encode(rows).decode()


def fold(db: apsw.Connection, cells: Cells, index: SeriesIndex, accounts: Sequence[int]) -> Change:
    """Work out what adding quarter-hour `cells`, all of `accounts`, changes in the file."""
    placed = {grain: partition(coarse(cells, grain), grain, index) for grain in Grain}
    sizes: dict[Place, int] = {}
    for places, starts, some in placed.values():
        sizes.update(zip(places, np.diff(starts, append=len(some)).tolist(), strict=True))
    gone = _outgrown(db, sizes)
    come: list[tuple[Place, int, bytes]] = []
    for grain, (places, starts, some) in placed.items():
        if grain in gone:
            # All places at once: a step of numpy costs as much for the few cells of one.
            places, starts, some = partition(rollup.merge([some, _read(db, gone[grain])]), grain, index)
        lengths = np.diff(starts, append=len(some)).tolist()
        come += zip(places, lengths, pack_runs(some, starts) if places else (), strict=True)
    return Change(accounts, [number for numbers in gone.values() for number in numbers], come)


def partition(cells: Cells, grain: Grain, index: SeriesIndex) -> tuple[list[Place], list[int], Cells]:
    """Put cells of a grain, keys ascending, in the order of the places they are kept at.

    Returns these places, where the cells of each begin, and the cells.
    """
    strands, strand_of = _strands(cells, index)
    periods = period(cells.bucket, grain)
    order = np.lexsort((periods, strand_of))
    strand_of, periods = strand_of[order], periods[order]
    is_first = np.ones(len(cells), np.bool_)
    is_first[1:] = (strand_of[1:] != strand_of[:-1]) | (periods[1:] != periods[:-1])
    starts = np.flatnonzero(is_first)
    owners = [strands[rank] for rank in strand_of[starts].tolist()]
    kept_at = zip(owners, periods[starts].tolist(), strict=True)
    places = [Place(account, meter, grain, at) for (account, meter), at in kept_at]
    return places, starts.tolist(), cells.take(order)


def _strands(cells: Cells, index: SeriesIndex) -> tuple[list[tuple[int, str]], Ints]:
    """Return the accounts and meters that cells are of, ascending, and the place of each cell's among them."""
    series = cells.series
    firsts = np.flatnonzero(np.diff(series, prepend=np.int64(-1)))
    numbers = series[firsts].tolist()
    if numbers and not 0 < numbers[0] <= numbers[-1] <= len(index):
        raise Damaged("rollup names a series that there is not")
    named = [(index.accounts[number], index.meters[number]) for number in numbers]
    strands = sorted(set(named))
    ranks = {strand: rank for rank, strand in enumerate(strands)}
    rank_of = np.array([ranks[strand] for strand in named], np.int64)
    return strands, np.repeat(rank_of, np.diff(firsts, append=len(series)))


def _outgrown(db: apsw.Connection, sizes: dict[Place, int]) -> dict[int, list[int]]:
    """Return the runs, by grain, that are to be merged with new cells of their places, of which there are so many.

    Runs grow geometrically: a small one is rewritten often, a large one hardly ever.
    """
    gone: dict[int, list[int]] = {}
    whole: set[Place] = set()
    wanted = _json([(place.account, place.meter, place.grain, place.period) for place in sizes])
    for account, meter, grain, at, number, size in rows(
        db,
        """SELECT r.account, r.meter, r.grain, r.period, r.id, r.cells FROM json_each(?) w JOIN rollup r
        ON r.meter = w.value ->> 1 AND r.account = w.value ->> 0 AND r.grain = w.value ->> 2
            AND r.period = w.value ->> 3
        ORDER BY r.cells""",
        (wanted,),
    ):
        place = Place(account, meter, grain, at)
        if size > 2 * sizes[place] or size > RUN_CELLS_MAX:
            whole.add(place)
        if place not in whole:
            sizes[place] += size
            gone.setdefault(grain, []).append(number)
    return gone


def _read(db: apsw.Connection, numbers: Sequence[int]) -> Cells:
    """Read runs, behind one another."""
    statement = "SELECT body FROM rollup WHERE id IN carray(?)"
    return unpack_runs([body for (body,) in rows(db, statement, (apsw.carray(np.array(numbers, np.int64)),))])
