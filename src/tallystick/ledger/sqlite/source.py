"""The cells that rollups keep, as the questions of one report read them: unpacked once, and shared."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock

import apsw

from tallystick import rollup
from tallystick.ledger.packed import rollups
from tallystick.ledger.packed.answering import within
from tallystick.ledger.packed.planning import Plan
from tallystick.ledger.packed.rollups import Grain
from tallystick.ledger.sqlite.file import rows
from tallystick.model import UsageQuery
from tallystick.rollup import Cells, Ints

Unpack = Callable[[bytes], Cells]
Asked = tuple[str, bytes, bytes]
"""A meter, account numbers and edges: what questions have in common that read the same cells."""

TOGETHER_CELLS = 20_000
"""So many cells of several runs are placed and summed in one step."""
SHARED_CELLS_MAX = 200_000
"""So many cells of a question are held for others of the same report."""


def asked_again(questions: Iterable[tuple[UsageQuery, Ints]]) -> frozenset[Asked]:
    """Return what several of the questions have in common."""
    times = Counter(_asked(query, accounts) for query, accounts in questions)
    return frozenset(asked for asked, count in times.items() if count > 1)


def _asked(query: UsageQuery, accounts: Ints) -> Asked:
    return query.meter, accounts.tobytes(), query.edges.tobytes()


@dataclass(slots=True)
class Source:
    """Reads rollups within one read transaction; what is in `shared` is held until the report is done."""

    db: apsw.Connection
    unpack: Unpack
    shared: frozenset[Asked] = frozenset()
    _held: dict[Asked, list[tuple[Cells, Ints]]] = field(default_factory=dict)

    def cells(self, query: UsageQuery, accounts: Ints, plan: Plan) -> Iterator[tuple[Cells, Ints]]:
        """Yield the cells of accounts within a query's buckets, and the bucket of each, run by run."""
        asked = _asked(query, accounts) if self.shared else None
        if asked not in self.shared:
            yield from self._read(query.meter, accounts, plan)
        elif asked in self._held:
            yield from self._held[asked]
        else:
            held: list[tuple[Cells, Ints]] | None = []
            count = 0
            for cells, buckets in self._read(query.meter, accounts, plan):
                count += len(cells)
                if held is not None:
                    held.append((cells, buckets))
                    held = held if count <= SHARED_CELLS_MAX else None
                yield cells, buckets
            if held is not None:
                self._held[asked] = held

    def _read(self, meter: str, accounts: Ints, plan: Plan) -> Iterator[tuple[Cells, Ints]]:
        for grain, ranges, periods in plan.rollups:
            for cells in self._together(meter, accounts, grain, periods):
                yield within(cells, ranges)

    def _together(self, meter: str, accounts: Ints, grain: Grain, periods: Ints) -> Iterator[Cells]:
        """Yield the cells of runs; many runs of few cells cost more one by one than the cells do."""
        statement = """SELECT body FROM rollup WHERE meter = ? AND account IN carray(?) AND grain = ?
            AND period IN carray(?)"""
        bounds = (meter, apsw.carray(accounts), int(grain), apsw.carray(periods))
        some: list[Cells] = []
        count = 0
        for (body,) in rows(self.db, statement, bounds):
            some.append(self.unpack(body))
            count += len(some[-1])
            if count >= TOGETHER_CELLS:
                yield rollup.joined(some)
                some, count = [], 0
        if some:
            yield rollup.joined(some)


class Unpacked:
    """Cells of the runs that were read lately, for any thread, bounded in bytes.

    They are found by the very bytes of a run, so that one can never be taken for another.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._cells: OrderedDict[bytes, Cells] = OrderedDict()
        self._lock = Lock()

    def unpack(self, body: bytes) -> Cells:
        """Return what `rollups.unpack` returns; nobody may change it."""
        with self._lock:
            if (found := self._cells.get(body)) is not None:
                self._cells.move_to_end(body)
                return found
        cells = rollups.unpack(body)
        for column in cells.columns:
            column.setflags(write=False)
        self._remember(body, cells)
        return cells

    def _remember(self, body: bytes, cells: Cells) -> None:
        size = _size(body, cells)
        if size > self._bytes_max:
            return
        with self._lock:
            if body in self._cells:
                return
            self._cells[body] = cells
            self._bytes += size
            while self._bytes > self._bytes_max:
                self._bytes -= _size(*self._cells.popitem(last=False))


def _size(body: bytes, cells: Cells) -> int:
    return len(body) + sum(column.nbytes for column in cells.columns)
