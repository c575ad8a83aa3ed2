"""A database that no server uses, as the steps of a copy."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import numpy as np
import psycopg

from tallystick import rollup
from tallystick.errors import LedgerDamaged, LedgerError
from tallystick.ledger.base import Proof
from tallystick.ledger.packed import rollups, segment
from tallystick.ledger.packed.hold_entries import KeptHold, read_hold
from tallystick.ledger.packed.meter_entries import ReplayDone
from tallystick.ledger.packed.rollups import Grain
from tallystick.ledger.packed.segment import Columns, Damaged, unpack_columns, unpack_frame
from tallystick.ledger.packed.steps import Admitted, Changed, Committed, Recounted, Step, posted, rows_of
from tallystick.ledger.postgres import copy_state, locks, resource_tables, server, verify
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.copy_order import AdmissionEntry, CatalogEntry, Order, Together
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import CORRECTED, EntryHeader, RecountHeader, read_recount
from tallystick.ledger.postgres.reading import unfolded
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.rollup import Cells, Ints
from tallystick.windows import INSTANT_MAX, INSTANT_MIN

APPLICATION = "tallystick copy"
LIVING_TOGETHER = 2_000
RECOUNT_EVENTS = 50_000
"""Events whose recounted postings go in one step."""
RECOUNTS_HELD = 64
ACTIVE_S = 15
"""A connection of a server that serves is never idle for so long."""
ALONE_S_MAX = 5.0
"""How long to wait for what a copy that was killed left behind."""


def connected(url: str) -> Db:
    """Open a connection that does not look like a server's."""
    db = server.opened(url)
    db.execute(f"SET application_name = '{APPLICATION}'")
    return db


@contextmanager
def open_source(url: str, *, is_copy: bool = False) -> Iterator[PostgresSource]:
    """Open a database that no server uses, and keep it to ourselves; `is_copy`: one that is not complete."""
    db, beside = connected(url), connected(url)
    try:
        _check(db, url, is_copy=is_copy)
        with db.transaction():
            _alone(db, url)
            yield PostgresSource(url, db, beside)
    except psycopg.Error as error:
        raise LedgerError(
            f"The database {server.named(url)} did not answer ({error}). Run the same command again: it goes on."
        ) from error
    except UNREADABLE as error:
        raise LedgerDamaged(f"The database {server.named(url)} cannot be read: {error}. Run verify on it.") from error
    finally:
        db.close()
        beside.close()


UNREADABLE = verify.UNREADABLE[1:]


def _check(db: Db, url: str, *, is_copy: bool) -> None:
    form = server.format_of(db)
    if not form:
        raise LedgerError(f"There is no ledger in the database {server.named(url)}.")
    server.migrate(db, url, 0)
    if not is_copy:
        copy_state.refuse(db, f"The database {server.named(url)}")
    statement = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s
        AND state_change > clock_timestamp() - make_interval(secs => %s)"""
    ((active,),) = db.execute(statement, (server.APPLICATION, ACTIVE_S)).fetchall()
    if active:
        raise LedgerError(
            f"The database {server.named(url)} is in use: {active} connections of servers were active in the last "
            f"{ACTIVE_S} seconds. Stop every tallystick that uses it, then copy."
        )


def _alone(db: Db, url: str) -> None:
    """Keep others from changing anything, until the end of the transaction: commits and changes wait for it."""
    db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    tries_until = time.monotonic() + ALONE_S_MAX
    while not locks.try_to_hold(db, locks.CATALOG):
        if time.monotonic() > tries_until:
            raise LedgerError(f"The database {server.named(url)} is in use, by a server or another copy. Stop it.")
        time.sleep(0.1)


class PostgresSource:
    """A database as it is for as long as nobody else may change it; nothing in it is changed."""

    def __init__(self, url: str, db: Db, beside: Db) -> None:
        self.name = f"the database {server.named(url)}"
        self._db = db
        self._beside = beside
        self.catalog = CatalogLog().refresh(db).catalog
        self._secret = server.secret(db)
        self.series = SeriesCache()
        heads = db.execute("SELECT account, series, events FROM head ORDER BY account").fetchall()
        self.series.refresh(db, {account: number for account, number, _ in heads if number})
        self.events = sum(events for _, _, events in heads)
        self._unfinished = frozenset(each.epoch for replay in self.catalog.replays.values() for each in replay.meters)

    def steps(self) -> Iterator[Step]:
        ranks = _Ranks()
        for entry in Order(self._db).entries():
            match entry:
                case CatalogEntry():
                    yield from self._recounts(entry, ranks)
                    said = entry.header
                    change = Changed(said.recorded, said.actor, said.changes)
                    yield Step(entry.link, 0, partial(_changed, change))
                case AdmissionEntry():
                    yield Step(entry.link, 0, partial(_admitted, entry))
                case Together():
                    ranks.add(entry.first, entry.count)
                    yield Step(b"".join(entry.links), entry.count, partial(self._committed, entry))
        yield from self._living()

    def _committed(self, entry: Together) -> Committed:
        """Put the events of a transaction, kept account by account, in the order of their sequences again."""
        sequences = np.concatenate([header.sequence() for header in entry.headers])
        order = np.argsort(sequences, kind="stable")
        raws = [raw for header in entry.headers for raw in self._raws(header)]
        accounts = np.repeat([header.account for header in entry.headers], [header.count for header in entry.headers])
        columns = joined([self._columns(each.account, each.number, each.columns) for each in entry.headers], order)
        first = entry.headers[0]
        return Committed(
            first.recorded,
            first.catalog_version,
            [raws[at] for at in order.tolist()],
            accounts[order].astype(np.int64),
            posted(columns, self.series.describe),
        )

    def _raws(self, header: EntryHeader) -> Sequence[bytes]:
        raws: list[bytes] = []
        digests = dict(header.frames)
        statement = "SELECT place, body FROM frame WHERE account = %s AND number = %s ORDER BY place"
        for place, body in self._db.execute(statement, (header.account, header.number), binary=True).fetchall():
            if segment.frame_digest(body) != digests.pop(place, None):
                raise Damaged(f"a frame of account {header.account} is not what was written")
            raws += unpack_frame(body).raws
        if len(raws) != header.count:
            raise Damaged(f"entry {header.position} of account {header.account} does not have its events")
        return raws

    def _columns(self, account: int, number: int, digest: bytes) -> Columns:
        statement = "SELECT body FROM posting WHERE account = %s AND number = %s"
        ((body,),) = self._db.execute(statement, (account, number), binary=True).fetchall()
        if segment.columns_digest(body) != digest:
            raise Damaged(f"postings of account {account} are not what was written")
        return unpack_columns(body)

    def _recounts(self, entry: CatalogEntry, ranks: _Ranks) -> Iterator[Step]:
        """Yield what replays counted that are over now: of all accounts together, in the order of the events."""
        for change in entry.header.changes:
            if isinstance(change, ReplayDone):
                epoch = change.replay.meters[0].epoch
                found = self._recounted(change.name, epoch)
                held = _Held(self._columns)
                for first in range(1, ranks.count + 1, RECOUNT_EVENTS):
                    through = min(first + RECOUNT_EVENTS - 1, ranks.count)
                    read = partial(self._recount, found, held, ranks, change.name, epoch, first, through)
                    yield Step(f"{change.name} {epoch} {first}".encode(), 0, read)

    def _recounted(self, replay: str, epoch: int) -> list[RecountHeader]:
        statement = f"SELECT header FROM entry WHERE kind = {CORRECTED} ORDER BY account, position"
        headers = (read_recount(packed) for (packed,) in self._db.execute(statement))
        return [header for header in headers if (header.replay, header.epoch) == (replay, epoch)]

    def _recount(
        self,
        headers: Sequence[RecountHeader],
        held: _Held,
        ranks: _Ranks,
        replay: str,
        epoch: int,
        first: int,
        through: int,
    ) -> Recounted:
        parts, sequences, accounts = [], [], []
        recorded = version = 0
        for header in headers:
            recorded, version = max(recorded, header.recorded), max(version, header.catalog_version)
            all_of_it = ranks.of(header.events())
            rows = np.flatnonzero((all_of_it >= first) & (all_of_it <= through))
            if len(rows):
                parts.append(rows_of(held.columns(header), rows))
                sequences.append(all_of_it[rows])
                accounts.append(np.full(len(rows), header.account, np.int64))
        nothing = np.zeros(0, np.int64)
        together, owners = np.concatenate([nothing, *sequences]), np.concatenate([nothing, *accounts])
        order = np.argsort(together, kind="stable")
        said = posted(joined(parts, order), self.series.describe)
        return Recounted(recorded, version, replay, epoch, first, through, together[order], owners[order], said)

    def _living(self) -> Iterator[Step]:
        for table in resource_tables.TABLES:
            after: Sequence[Any] | None = None
            while (found := resource_tables.page(self._db, table, after, LIVING_TOGETHER)) is not None:
                living, after = found
                for key in [key for key in living.once if key.epoch in self._unfinished]:
                    del living.once[key]
                yield Step.of_living(msgspec.json.encode((table.name, list(map(str, after)))), living)

    def days(self, account: int) -> Cells:
        statement = f"SELECT body FROM run WHERE account = %s AND grain = {int(Grain.DAY)}"
        parts = [rollups.unpack(body) for (body,) in self._db.execute(statement, (account,), binary=True).fetchall()]
        later = unfolded(self._db, np.array([account], np.int64), INSTANT_MIN, INSTANT_MAX + 1)
        parts += [rollups.coarse(cells, Grain.DAY) for cells in later]
        return rollup.merge(parts) if parts else rollup.nothing()

    def holds(self, account: int) -> Iterator[KeptHold]:
        for (body,) in self._db.execute("SELECT body FROM hold WHERE account = %s", (account,)).fetchall():
            yield read_hold(body)

    def crossings(self, account: int) -> Iterator[str]:
        statement = "SELECT body FROM crossing WHERE account = %s ORDER BY limit_id, position, place"
        for (body,) in self._db.execute(statement, (account,)).fetchall():
            yield body

    def key_uses(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT key, at FROM key_use").fetchall())

    def verify(self, progress: Callable[[int, int], None]) -> Proof:
        return verify.verify(self._beside, self._secret, progress)


def _changed(change: Changed) -> Changed:
    return change


def _admitted(entry: AdmissionEntry) -> Admitted:
    return Admitted(entry.header.recorded, entry.header.changes)


@dataclass(slots=True)
class _Ranks:
    """What place each event has among all that are kept: sequences leave gaps where a transaction was given up."""

    count: int = 0
    _starts: list[int] = field(default_factory=lambda: [0])
    _lacking: list[int] = field(default_factory=lambda: [0])

    def add(self, first: int, count: int) -> None:
        """Take in the events of the next transaction."""
        lacking = first - 1 - self.count
        if lacking != self._lacking[-1]:
            self._starts.append(first)
            self._lacking.append(lacking)
        self.count += count

    def of(self, sequences: Ints) -> Ints:
        """Return the places of events."""
        at = np.searchsorted(np.array(self._starts, np.int64), sequences, side="right") - 1
        return sequences - np.array(self._lacking, np.int64)[at]


@dataclass(slots=True)
class _Held:
    """The columns that were read last."""

    read: Callable[[int, int, bytes], Columns]
    _columns: OrderedDict[tuple[int, int], Columns] = field(default_factory=OrderedDict)

    def columns(self, header: RecountHeader) -> Columns:
        """Return the columns of an entry."""
        key = (header.account, header.number)
        if key not in self._columns:
            self._columns[key] = self.read(header.account, header.number, header.columns)
        self._columns.move_to_end(key)
        if len(self._columns) > RECOUNTS_HELD:
            self._columns.popitem(last=False)
        return self._columns[key]


def joined(parts: Sequence[Columns], order: Ints) -> Columns:
    """Return the events of all parts in this order of them."""
    nothing = np.zeros(0, np.int64)
    time = np.concatenate([nothing, *(each.time for each in parts)])
    timed = np.concatenate([np.zeros(0, np.bool_), *(each.timed for each in parts)])
    starts = np.cumsum([0, *(len(each.time) for each in parts)])
    event = np.concatenate([nothing, *(each.posting_event + at for each, at in zip(parts, starts, strict=False))])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    moved = place[event]
    by_event = np.argsort(moved, kind="stable")
    series, amount = (
        np.concatenate([nothing, *(getattr(each, name) for each in parts)])[by_event]
        for name in ("posting_series", "posting_amount")
    )
    return Columns(time[order], timed[order], moved[by_event], series, amount)
