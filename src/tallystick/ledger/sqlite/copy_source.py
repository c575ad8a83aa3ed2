"""A data folder that nobody has open, as the steps of a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgspec
import numpy as np

from tallystick import rollup
from tallystick.errors import LedgerDamaged, LedgerError
from tallystick.ledger.base import Proof
from tallystick.ledger.packed import hold_entries, rollups, segment
from tallystick.ledger.packed.entries import CatalogHeader, Change
from tallystick.ledger.packed.hold_entries import AdmissionHeader, KeptHold, read_hold
from tallystick.ledger.packed.meter_entries import CorrectionHeader, MeterPut
from tallystick.ledger.packed.rollups import Grain
from tallystick.ledger.packed.segment import GENESIS, Columns, Damaged, Header, unpack_columns, unpack_frame
from tallystick.ledger.packed.steps import Admitted, Changed, Committed, Content, Recounted, Step, posted
from tallystick.ledger.sqlite import copy_state, definitions, file, reading, resource_tables, verify
from tallystick.ledger.sqlite.file import ADMISSION, CATALOG, CORRECTED, EVENTS, row, rows
from tallystick.ledger.sqlite.tail import UNREADABLE, load
from tallystick.rollup import Cells, Ints
from tallystick.settings import Settings

LIVING_TOGETHER = 2_000
"""Resources, spaces or the like in one step."""


@contextmanager
def open_source(folder: Path, settings: Settings, *, is_copy: bool = False) -> Iterator[SqliteSource]:
    """Open a data folder for nobody else, at the present format; `is_copy`: one that is not complete, and only that."""
    if not (folder / file.FILE_NAME).is_file():
        raise LedgerError(f"There is no ledger in {folder}.")
    lock = file.Lock(folder)
    try:
        with _prepared(folder, is_copy=is_copy) as db:
            yield SqliteSource(folder, db, settings)
    except UNREADABLE as error:
        raise LedgerDamaged(f"{folder} cannot be read: {error}. Run verify on it.") from error
    finally:
        lock.release()


@contextmanager
def _prepared(folder: Path, *, is_copy: bool) -> Iterator[apsw.Connection]:
    writing = file.connect(folder, writes=True)
    try:
        file.prepare(writing, folder)
        if not is_copy:
            copy_state.refuse(writing, str(folder))
    finally:
        writing.close()
    db = file.connect(folder)
    try:
        yield db
    finally:
        db.close()


class SqliteSource:
    """A folder as it is when it is opened; nothing in it is changed."""

    def __init__(self, folder: Path, db: apsw.Connection, settings: Settings) -> None:
        self.name = str(folder)
        self._db = db
        self._tail = load(db, definitions.base(db), settings.identity_bytes_max)
        self.catalog = self._tail.catalog
        self.series = self._tail.series
        self.events = self._tail.published.sequence
        self._unfinished = {
            (name, each.epoch) for name, replay in self.catalog.replays.items() for each in replay.meters
        }

    def steps(self) -> Iterator[Step]:
        yield from self._before_log()
        statement = "SELECT entry, kind, count, header, link FROM log WHERE entry > ? ORDER BY entry LIMIT 100"
        entry, link = 0, GENESIS
        while some := list(rows(self._db, statement, (entry,))):
            for at, kind, count, header, chained in some:
                if at != entry + 1 or segment.link(link, header) != chained:
                    raise Damaged(f"log entry {at} is not what was written")
                entry, link = at, chained
                if read := self._reader(at, kind, header):
                    yield Step(link, count if kind == EVENTS else 0, read)
        yield from self._living()

    def _before_log(self) -> Iterator[Step]:
        """Yield the meters of a log that begins without any, as a change like others."""
        meters = definitions.base(self._db).meters
        if meters:
            recorded = next(rows(self._db, "SELECT recorded FROM log WHERE entry = 1"), (0,))[0]
            changes: list[Change] = [MeterPut(1, each) for each in meters.values()]
            change = Changed(recorded, definitions.OWN_ACTOR, changes)
            yield Step(GENESIS, 0, lambda: change)

    def _reader(self, entry: int, kind: int, header: bytes) -> Callable[[], Content] | None:
        """Return what reads an entry; None for what a replay counted that is not over, which will begin anew."""
        if kind == EVENTS:
            return partial(self._committed, entry, header)
        if kind == CATALOG:
            return partial(_changed, header)
        if kind == ADMISSION:
            return partial(_admitted, header)
        if kind != CORRECTED:
            raise LedgerError(f"Log entry {entry} of {self.name} is of kind {kind}, which this version does not know.")
        said = msgspec.msgpack.decode(header, type=CorrectionHeader)
        is_over = (said.replay, said.epoch) not in self._unfinished
        return partial(self._recounted, entry, said) if is_over else None

    def _committed(self, entry: int, packed: bytes) -> Committed:
        header = msgspec.msgpack.decode(packed, type=Header)
        raws: list[bytes] = []
        accounts: list[int] = []
        digests = dict(header.frames)
        bounds = (header.first, header.first + header.count)
        statement = "SELECT first, body FROM frame WHERE first >= ? AND first < ? ORDER BY first"
        for first, body in rows(self._db, statement, bounds):
            if segment.frame_digest(body) != digests.pop(first, None):
                raise Damaged(f"the frame of event {first} is not what was written")
            events = unpack_frame(body)
            raws += events.raws
            accounts += events.accounts
        columns = self._columns(entry, header.columns)
        if not len(raws) == len(columns.time) == header.count:
            raise Damaged(f"log entry {entry} does not have its {header.count} events")
        return Committed(
            header.recorded,
            header.catalog_version,
            raws,
            np.array(accounts, np.int64),
            posted(columns, self.series.describe),
        )

    def _recounted(self, entry: int, said: CorrectionHeader) -> Recounted:
        columns, sequences = self._columns(entry, said.columns), said.events()
        found = posted(columns, self.series.describe)
        return Recounted(
            said.recorded,
            0,
            said.replay,
            said.epoch,
            said.first,
            said.through,
            sequences,
            owners(found.columns, [each[0] for each in found.sets]),
            found,
        )

    def _columns(self, entry: int, digest: bytes) -> Columns:
        (body,) = row(self._db, "SELECT columns FROM log WHERE entry = ?", (entry,))
        if segment.columns_digest(body) != digest:
            raise Damaged(f"the postings of log entry {entry} are not what was written")
        return unpack_columns(body)

    def _living(self) -> Iterator[Step]:
        epochs = {epoch for _, epoch in self._unfinished}
        for table in resource_tables.TABLES:
            after: Sequence[Any] | None = None
            while (found := resource_tables.page(self._db, table, after, LIVING_TOGETHER)) is not None:
                living, after = found
                for key in [key for key in living.once if key.epoch in epochs]:
                    del living.once[key]
                mark = msgspec.json.encode((table.name, after))
                yield Step.of_living(mark, living)

    def days(self, account: int) -> Cells:
        statement = "SELECT body FROM rollup WHERE account = ? AND grain = ?"
        parts = [rollups.unpack(body) for (body,) in rows(self._db, statement, (account, int(Grain.DAY)))]
        state, done = self._tail.published, reading.folded(self._db)
        account_of = np.array(self.series.accounts, np.int64)
        for cells, border in state.overlay.parts(state.entry):
            if done.through(account) < border:
                own = cells.take(account_of[cells.series] == account)
                parts.append(rollups.coarse(own, Grain.DAY))
        return rollup.merge(parts) if parts else rollup.nothing()

    def holds(self, account: int) -> Iterator[KeptHold]:
        unwritten = self._tail.book.unwritten.of(account)
        yield from (hold_entries.kept(account, hold) for hold in unwritten.values())
        for id, body in rows(self._db, "SELECT id, body FROM hold WHERE account = ?", (account,)):
            if id not in unwritten:
                yield read_hold(body)

    def crossings(self, account: int) -> Iterator[str]:
        mine = [limit.id for limit in self.catalog.limits.values() if self._number(limit.account) == account]
        statement = "SELECT body FROM crossing WHERE limit_id = ? ORDER BY id"
        for limit in sorted(mine):
            for (body,) in rows(self._db, statement, (limit,)):
                yield body

    def _number(self, name: str) -> int:
        return self.catalog.accounts[name].number if name in self.catalog.accounts else 0

    def key_uses(self) -> dict[str, int]:
        return dict(rows(self._db, "SELECT id, at FROM key_use"))

    def verify(self, progress: Callable[[int, int], None]) -> Proof:
        return verify.verify(self._db, lambda: self._tail, progress)


def _changed(packed: bytes) -> Changed:
    header = msgspec.msgpack.decode(packed, type=CatalogHeader)
    return Changed(header.recorded, header.actor, header.changes)


def _admitted(packed: bytes) -> Admitted:
    header = msgspec.msgpack.decode(packed, type=AdmissionHeader)
    return Admitted(header.recorded, header.changes)


def owners(columns: Columns, of: Sequence[int]) -> Ints:
    """Return the accounts of events that all have postings, `of` being those of the sets."""
    found = np.empty(len(columns.time), np.int64)
    found[columns.posting_event] = np.array(of, np.int64)[columns.posting_series]
    return found
