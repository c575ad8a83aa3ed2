"""Postings folded into runs behind the logs: any process, one account at a time, in one small transaction each.

A run is per account, meter, grain and period. What an answer says does not depend on how far this has come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import structlog

from tallystick import rollup
from tallystick.errors import Problem
from tallystick.ledger.packed import rollups
from tallystick.ledger.packed.rollups import Grain
from tallystick.ledger.packed.segment import Damaged, unpack_columns
from tallystick.ledger.postgres import locks
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.pool import Pool
from tallystick.ledger.postgres.reading import POSTED
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.ledger.sqlite.tail import quarter_cells
from tallystick.rollup import Cells

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
MANY_ENTRIES = 128
"""So many that are not folded yet are folded at the next look; fewer only once their account is quiet."""
QUIET_LOOKS = 5
ACCOUNTS_PER_LOOK = 100
ENTRIES_AT_ONCE = 1_000
RUN_CELLS_MAX = 1 << 18
"""A run this large is left alone, so that adding to a period never rewrites more than this."""

Place = tuple[str, int, int]
"""Where cells of an account are kept: meter, grain, period."""


class Folder(threading.Thread):
    """Folds what is due, of any account, beside the work; every process has one, and they pass each other by.

    `also` is done at every look, and told how many there were.
    """

    def __init__(self, pool: Pool, cache: SeriesCache, also: Callable[[Db, int], None]) -> None:
        super().__init__(name="tallystick-folder", daemon=True)
        self._also = also
        self._pool = pool
        self._cache = cache
        self._closing = threading.Event()
        self._seen: dict[int, int] = {}
        self._looks = 0

    def stop(self) -> None:
        """Begin nothing more."""
        self._closing.set()

    def run(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            try:
                self.look()
            except (Problem, Damaged) as problem:
                log.warning("folding_postponed", error=str(problem))
            except Exception:
                log.exception("folding_failed")

    def look(self) -> None:
        """Fold the accounts that have much to fold, and now and then those that are quiet."""
        self._looks += 1
        self._pool.run(lambda db: self._also(db, self._looks))
        for account in self._pool.run(lambda db: lagging(db, MANY_ENTRIES)):
            self._fold(account)
        if self._looks % QUIET_LOOKS == 0:
            now = self._pool.run(lambda db: lagging(db, 1))
            for account, entries in now.items():
                if self._seen.get(account) == entries:
                    self._fold(account)
            self._seen = now

    def _fold(self, account: int) -> None:
        if not self._closing.is_set():
            self._pool.run(lambda db: fold(db, self._cache, account))


def lagging(db: Db, entries: int) -> dict[int, int]:
    """Return accounts with at least so many entries to fold, the most first, and how many they have in all."""
    statement = """SELECT account, h.entries FROM head h JOIN folded f USING (account)
        WHERE h.entries - f.position >= %s ORDER BY h.entries - f.position DESC LIMIT %s"""
    return dict(db.execute(statement, (entries, ACCOUNTS_PER_LOOK)).fetchall())


def fold(db: Db, cache: SeriesCache, account: int) -> bool:
    """Fold what an account has to fold; false if another process is at it."""
    with locks.transaction(db):
        found = db.execute(
            "SELECT position FROM folded WHERE account = %s FOR UPDATE SKIP LOCKED", (account,)
        ).fetchall()
        if not found:
            return False
        (position,) = found[0]
        ((through, series),) = db.execute("SELECT entries, series FROM head WHERE account = %s", (account,)).fetchall()
        cache.refresh(db, {account: series})
        statement = f"""SELECT e.position, p.body FROM entry e JOIN posting p USING (account, number)
            WHERE e.account = %s AND e.position > %s AND e.position <= %s AND e.{POSTED}
            ORDER BY e.position LIMIT {ENTRIES_AT_ONCE}"""
        entries = db.execute(statement, (account, position, through), binary=True).fetchall()
        if len(entries) == ENTRIES_AT_ONCE:
            through = entries[-1][0]
        cells = [quarter_cells(unpack_columns(body)) for _, body in entries]
        if any(map(len, cells)):
            _write(db, account, through, dict(partition(rollup.merge(cells), cache)))
        db.execute("UPDATE folded SET position = %s WHERE account = %s", (through, account))
    return True


def _write(db: Db, account: int, number: int, places: dict[Place, Cells]) -> None:
    """Merge cells with the runs that are small beside them, which makes runs grow geometrically."""
    gone = _outgrown(db, account, places)
    for place, some in _bodies(db, account, gone).items():
        places[place] = rollup.merge([*some, places[place]])
    if gone:
        db.execute(
            """DELETE FROM run USING unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[])
                w (meter, grain, period, number)
            WHERE run.account = %s AND run.meter = w.meter AND run.grain = w.grain AND run.period = w.period
                AND run.number = w.number""",
            (*_columns(gone), account),
        )
    come = [(*place, number, len(cells)) for place, cells in places.items()]
    db.execute(
        """INSERT INTO run (account, meter, grain, period, number, cells, body)
        SELECT %s, meter, grain, period, number, cells, body
        FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %b::bytea[])
            w (meter, grain, period, number, cells, body)""",
        (account, *_columns(come), [rollups.pack(cells) for cells in places.values()]),
    )


def _outgrown(db: Db, account: int, places: dict[Place, Cells]) -> list[tuple[str, int, int, int]]:
    """Return the runs that are to be merged with new cells of their places."""
    statement = """SELECT r.meter, r.grain, r.period, r.number, r.cells
        FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) w (meter, grain, period)
        JOIN run r ON r.account = %s AND r.meter = w.meter AND r.grain = w.grain AND r.period = w.period
        ORDER BY r.cells"""
    sizes = {place: len(cells) for place, cells in places.items()}
    whole: set[Place] = set()
    gone = []
    for meter, grain, period, number, size in db.execute(statement, (*_columns([*places]), account)).fetchall():
        place = (meter, grain, period)
        if size > 2 * sizes[place] or size > RUN_CELLS_MAX:
            whole.add(place)
        if place not in whole:
            sizes[place] += size
            gone.append((*place, number))
    return gone


def _bodies(db: Db, account: int, runs: Sequence[tuple[str, int, int, int]]) -> dict[Place, list[Cells]]:
    if not runs:
        return {}
    statement = """SELECT r.meter, r.grain, r.period, r.body
        FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[]) w (meter, grain, period, number)
        JOIN run r ON r.account = %s AND r.meter = w.meter AND r.grain = w.grain AND r.period = w.period
            AND r.number = w.number"""
    found: dict[Place, list[Cells]] = {}
    for meter, grain, period, body in db.execute(statement, (*_columns(runs), account), binary=True).fetchall():
        found.setdefault((meter, grain, period), []).append(rollups.unpack(body))
    return found


def _columns(rows: Sequence[tuple[str | int, ...]]) -> list[object]:
    first, *rest = zip(*rows, strict=True)
    return [list(first), *(np.array(column, np.int64) for column in rest)]


def partition(cells: Cells, cache: SeriesCache) -> Iterator[tuple[Place, Cells]]:
    """Split an account's quarter-hour cells, at every grain, by the place they are kept at."""
    numbers = np.unique(cells.series)
    named = [cache.describe(number)[1] for number in numbers.tolist()]
    meters = sorted(set(named))
    rank = np.array([meters.index(meter) for meter in named], np.int64)
    for grain in Grain:
        grained = rollups.coarse(cells, grain)
        meter_of = rank[np.searchsorted(numbers, grained.series)]
        periods = rollups.period(grained.bucket, grain)
        order = np.lexsort((periods, meter_of))
        ordered = (meter_of[order], periods[order])
        grained = grained.take(order)
        change = np.flatnonzero((np.diff(ordered[0]) != 0) | (np.diff(ordered[1]) != 0)) + 1
        for a, b in pairwise([0, *change.tolist(), len(grained)]):
            yield (meters[int(ordered[0][a])], int(grain), int(ordered[1][a])), grained.take(slice(a, b))
