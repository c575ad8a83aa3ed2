"""What a ledger holds in memory beside its file: the end of the log, the catalog, and what is not folded yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apsw
import msgspec
import numpy as np
from msgspec.structs import replace

from tallystick import rollup, windows
from tallystick.ledger.packed import hold_entries
from tallystick.ledger.packed.entries import CatalogHeader, apply
from tallystick.ledger.packed.hold_entries import Named
from tallystick.ledger.packed.segment import (
    GENESIS,
    Columns,
    Damaged,
    FrameEvents,
    decoded,
    link,
    unpack_columns,
    unpack_frame,
)
from tallystick.ledger.packed.series import SeriesIndex
from tallystick.ledger.sqlite import hold_tables, identity, series_table, unwritten
from tallystick.ledger.sqlite.book import Book, held
from tallystick.ledger.sqlite.file import CATALOG_ENTRIES, EVENTS, row, rows, secret
from tallystick.ledger.sqlite.identity import Identities, newest_alike
from tallystick.model import Catalog, Hold, HoldState, Limit
from tallystick.rollup import Cells

LARGE_CELLS = 500
"""Cells of a part at which the writer leaves it alone: for so many numpy lets go of the interpreter at each step, and
others take it.
"""


TOGETHER, SMALL_CELLS = 8, 64
"""Parts that are merged in one go where they have few cells, as those of single events have."""


class Overlay(msgspec.Struct, frozen=True, eq=False):
    """Cells (series × quarter hour) of log entries that may not be in the file's rollups yet.

    `frozen` are those up to the entry `frozen_through`, being folded account by account; `active` came after. Cells
    never cross that border, so an account's rollups are met at one or the other end of `frozen`, and never inside it.
    `frozen_events` is the sequence of the last event up to there.
    """

    frozen: tuple[Cells, ...]
    frozen_through: int
    active: tuple[Cells, ...] = ()
    frozen_events: int = 0

    def parts(self, entry: int) -> list[tuple[Cells, int]]:
        """Return the cells with the border behind them, `entry` being the last one of the log in them.

        An account's rollups end before a part, or at its border or further: never inside it.
        """
        frozen = [(cells, self.frozen_through) for cells in self.frozen]
        return [*frozen, *((cells, entry) for cells in self.active)]

    @property
    def active_cells(self) -> int:
        return sum(map(len, self.active))

    def add(self, cells: Cells) -> Overlay:
        """Return the overlay with one more commit in it."""
        return replace(self, active=(*self.active, cells))

    def tidied(self) -> Overlay:
        """Return the same overlay with its newest parts merged where they are of like size: few are left to read.

        Merging two small ones takes as long as merging many, so they wait for others.
        """
        sizes = [len(cells) for cells in self.active]
        alike = newest_alike(sizes, LARGE_CELLS)
        if alike < 2 or (alike < TOGETHER and sum(sizes[-alike:]) < SMALL_CELLS):
            return self
        return replace(self, active=(*self.active[:-alike], rollup.merge(self.active[-alike:])))

    @property
    def settled(self) -> tuple[Cells, ...]:
        """Return the active parts, oldest first, that `tidied` leaves alone from now on."""
        last = max((at for at, cells in enumerate(self.active[:-1]) if len(cells) >= LARGE_CELLS), default=-1)
        return self.active[: last + 1]

    @property
    def alike(self) -> tuple[Cells, ...]:
        """Return the newest of the parts that are left alone, as many as are of like size."""
        settled = self.settled
        return settled[len(settled) - newest_alike(list(map(len, settled)), sys.maxsize) :]

    def gathered(self, parts: Sequence[Cells], whole: Cells) -> Overlay:
        """Return the same overlay with neighbouring parts replaced by their sum, unless they are not in it any more."""
        places = [at for at, cells in enumerate(self.active) if any(cells is part for part in parts)]
        if not places or len(places) < len(parts):
            return self
        return replace(self, active=(*self.active[: places[0]], whole, *self.active[places[-1] + 1 :]))

    def freeze(self, through: int, events: int) -> Overlay:
        return Overlay(self.active, through, (), events)

    def melt(self) -> Overlay:
        return replace(self, frozen=())


class Published(msgspec.Struct, frozen=True, eq=False):
    """What every answer is made from beside the file; replaced as a whole after each commit, never changed."""

    sequence: int
    recorded: int
    identities: Identities
    overlay: Overlay
    catalog: Catalog
    entry: int

    def tidied(self) -> Published:
        """Return the same with little left apart that can be merged."""
        identities, overlay = self.identities.tidied(), self.overlay.tidied()
        if identities is self.identities and overlay is self.overlay:
            return self
        return replace(self, identities=identities, overlay=overlay)


@dataclass(slots=True)
class Tail:
    """The end of the log as the writer thread knows it, also inside a transaction; only `published` is for others."""

    entry: int
    link: bytes
    catalog: Catalog
    series: SeriesIndex
    published: Published
    book: Book

    def unwritten_holds(self) -> tuple[int, dict[Named, Hold]]:
        """Return the holds that are not what their rows say, as of the entry that is returned with them."""
        with self.book.lock:
            return self.published.entry, self.book.unwritten.everything()

    def unwritten_of(self, owner: int) -> tuple[int, dict[str, Hold]]:
        """Return the same of one account, by id."""
        with self.book.lock:
            return self.published.entry, self.book.unwritten.of(owner)

    def moment(self, wanted: Sequence[Limit | None], now: int) -> tuple[Published, list[int]]:
        """Return what is published, and what was held of some limits at that very moment."""
        if not any(wanted):
            return self.published, [0] * len(wanted)
        with self.book.lock:
            published = self.published
            accounts = published.catalog.accounts
            names = {limit.account for limit in wanted if limit is not None and limit.account in accounts}
            holds = {name: self.book.shown_of(accounts[name].number) for name in names}
        return published, [0 if each is None else held(each, holds.get(each.account, ()), now) for each in wanted]


class _Identity(msgspec.Struct):
    source: str
    id: str


_identities = msgspec.json.Decoder(list[_Identity])


def source_and_id(raws: Sequence[bytes]) -> tuple[list[str], list[str]]:
    """Return the sources and ids of kept events."""
    found = decoded(_identities, b"[" + b",".join(raws) + b"]", "kept event")
    return [e.source for e in found], [e.id for e in found]


UNREADABLE = (apsw.Error, Damaged, msgspec.MsgspecError, ArithmeticError, LookupError, TypeError, ValueError)
"""What `load` may raise on a damaged file: a flipped bit can turn any value into any other."""


def load(db: apsw.Connection, catalog: Catalog, heads_bytes_max: int, clock: int = 0) -> Tail:
    """Read the end of the log and everything that is folded from it in memory.

    `catalog` is what it begins with, `clock` the latest that was seen by this process.
    """
    entry, last_link = _check_end(db)
    for (header,) in rows(db, f"SELECT header FROM log WHERE {CATALOG_ENTRIES} ORDER BY entry"):
        catalog = apply(catalog, msgspec.msgpack.decode(header, type=CatalogHeader).changes)
    last = f"SELECT first + count - 1, recorded FROM log WHERE kind = {EVENTS} ORDER BY first DESC LIMIT 1"
    sequence, recorded = next(rows(db, last), (0, 0))
    index = series_table.load(db)
    identities = _load_identities(db, catalog, sequence, heads_bytes_max)
    published = Published(sequence, recorded, identities, _load_overlay(db), catalog, entry)
    return Tail(entry, last_link, catalog, index, published, _load_book(db, catalog, clock, entry))


def _load_book(db: apsw.Connection, catalog: Catalog, clock: int, last_entry: int) -> Book:
    """Read the holds that are open by the latest clock that a commit has seen, those whose rows are not written, and
    what was noted of limits.
    """
    (last,) = next(rows(db, "SELECT recorded FROM log ORDER BY entry DESC LIMIT 1"), (0,))
    names = {account.number: account.name for account in catalog.accounts.values()}
    book = Book(max(clock, last), unwritten=unwritten.load(db, names, last_entry))
    written = hold_tables.ending_after(db, book.clock)
    holds = {name: hold_entries.hold_of(kept, names[name[0]]) for name, kept in written if name[0] in names}
    holds |= {name: hold for name, hold in book.unwritten.everything().items() if name[0] in names}
    book.begin({name: hold for name, hold in holds.items() if hold.state_at(book.clock) is HoldState.OPEN})
    for limit in catalog.limits:
        some = hold_tables.crossings(db, limit) if catalog.limits[limit].thresholds else ()
        book.crossed[limit] = frozenset((crossing.threshold, crossing.start) for crossing in some)
    return book


def _check_end(db: apsw.Connection) -> tuple[int, bytes]:
    ends = list(rows(db, "SELECT entry, header, link FROM log ORDER BY entry DESC LIMIT 2"))
    if not ends:
        return 0, GENESIS
    entry, header, last = ends[0]
    before = ends[1][2] if len(ends) == 2 else GENESIS
    if link(before, header) != last:
        raise Damaged(f"log entry {entry} is not what was written")
    return entry, last


def kept_frames(db: apsw.Connection, after: int) -> Iterator[tuple[int, FrameEvents]]:
    """Yield the frames of events after a sequence at which a frame ends: their first sequence and their events."""
    for first, body in rows(db, "SELECT first, body FROM frame WHERE first > ? ORDER BY first", (after,)):
        yield first, unpack_frame(body)


def _load_identities(db: apsw.Connection, catalog: Catalog, sequence: int, heads_bytes_max: int) -> Identities:
    stored = identity.load_runs(db, heads_bytes_max)
    names = {account.number: account.name for account in catalog.accounts.values()}
    through = max((run.last for run in stored), default=0)
    parts = []
    for _, events in kept_frames(db, through):
        sources, ids = source_and_id(events.raws)
        parts.append(identity.fingerprints(secret(db), [names[a] for a in events.accounts], sources, ids))
    if not parts:
        return Identities(stored=stored)
    together = np.concatenate(parts)
    if through + len(together) != sequence:
        raise Damaged(f"events {through + 1} to {sequence}: frames hold {len(together)} of them")
    run = identity.sorted_run(together, np.arange(through + 1, sequence + 1))
    return Identities(memory=(run,), stored=stored)


def _load_overlay(db: apsw.Connection) -> Overlay:
    """Fold again what the rollups lack; a fold that was cut short left some accounts further than the rest."""
    (base,) = row(db, "SELECT through FROM folded WHERE account = 0")
    further = row(db, "SELECT max(through) FROM folded WHERE account <> 0")[0] or base
    frozen: list[Cells] = []
    active: list[Cells] = []
    statement = "SELECT entry, columns FROM log WHERE columns IS NOT NULL AND entry > ? ORDER BY entry"
    for entry, body in rows(db, statement, (base,)):
        cells = quarter_cells(unpack_columns(body))
        if len(cells):
            (frozen if entry <= further else active).append(cells)
    last = f"SELECT coalesce(max(first + count - 1), 0) FROM log WHERE kind = {EVENTS} AND entry <= ?"
    return Overlay(_merged(frozen), further, _merged(active), row(db, last, (further,))[0])


def _merged(parts: Sequence[Cells]) -> tuple[Cells, ...]:
    return (rollup.merge(parts),) if parts else ()


def quarter_cells(columns: Columns) -> Cells:
    """Aggregate a segment's postings per series and quarter hour."""
    quarters = windows.quarter(columns.time)[columns.posting_event]
    time = columns.time[columns.posting_event]
    return rollup.of_postings(rollup.key(columns.posting_series, quarters), columns.posting_amount, time)
