"""Rollups as they are kept: per account, meter, grain and period a few runs of cells, merged as they are added to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import apsw
import msgspec
import numpy as np

from tallystick import rollup
from tallystick.ledger.packed.rollups import Grain, coarse, pack, period, unpack
from tallystick.ledger.packed.series import SeriesIndex
from tallystick.ledger.sqlite.file import rows
from tallystick.rollup import Cells

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
    gone: list[int] = []
    come: list[tuple[Place, int, bytes]] = []
    places = dict(partition(cells, index))
    for place, runs in _neighbours(db, places):
        merged = places[place]
        for number, size, body in runs:
            # Runs grow geometrically: a small one is rewritten often, a large one hardly ever.
            if size > 2 * len(merged) or size > RUN_CELLS_MAX:
                break
            gone.append(number)
            merged = rollup.merge([unpack(body), merged])
        come.append((place, len(merged), pack(merged)))
    return Change(accounts, gone, come)


def partition(cells: Cells, index: SeriesIndex) -> Iterator[tuple[Place, Cells]]:
    """Split quarter-hour cells, at every grain, by the place they are kept at."""
    meters = sorted(set(index.meters))
    ranks = {meter: rank for rank, meter in enumerate(meters)}
    account_of = np.array(index.accounts, np.int64)
    meter_of = np.array([ranks[meter] for meter in index.meters], np.int64)
    for grain in Grain:
        grained = coarse(cells, grain)
        keys = (account_of[grained.series], meter_of[grained.series], period(grained.bucket, grain))
        order = np.lexsort(keys[::-1])
        ordered = [key[order] for key in keys]
        grained = grained.take(order)
        change = np.flatnonzero(np.logical_or.reduce([np.diff(key) != 0 for key in ordered])) + 1
        for a, b in pairwise([0, *change.tolist(), len(grained)]):
            if a < b:
                account, meter, at = (int(key[a]) for key in ordered)
                yield Place(account, meters[meter], grain, at), grained.take(slice(a, b))


def _neighbours(
    db: apsw.Connection, places: dict[Place, Cells]
) -> Iterator[tuple[Place, list[tuple[int, int, bytes]]]]:
    """Yield each place with the runs already kept there, smallest first."""
    kept: dict[Place, list[tuple[int, int, bytes]]] = {place: [] for place in places}
    wanted = _json([(place.account, place.meter, place.grain, place.period) for place in places])
    for account, meter, grain, at, number, size, body in rows(
        db,
        """SELECT r.account, r.meter, r.grain, r.period, r.id, r.cells, r.body FROM json_each(?) w JOIN rollup r
        ON r.meter = w.value ->> 1 AND r.account = w.value ->> 0 AND r.grain = w.value ->> 2
            AND r.period = w.value ->> 3
        ORDER BY r.cells""",
        (wanted,),
    ):
        kept[Place(account, meter, grain, at)].append((number, size, body))
    yield from kept.items()
