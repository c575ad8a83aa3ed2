"""A data folder in the making: steps written behind the log, several of them in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import apsw
import msgspec
import numpy as np
from msgspec import structs

from tallystick.errors import LedgerDamaged, LedgerError, Problem
from tallystick.ledger.packed import hold_entries, segment
from tallystick.ledger.packed.hold_entries import AdmissionHeader, Crossed, HoldMade, hold_of
from tallystick.ledger.packed.living import Living
from tallystick.ledger.packed.meter_entries import CorrectionHeader
from tallystick.ledger.packed.segment import Header, NewSeries
from tallystick.ledger.packed.steps import Admitted, Changed, Committed, Content, Posted, Recounted, Unfinished
from tallystick.ledger.sqlite import (
    changes,
    copy_state,
    definitions,
    file,
    hold_tables,
    identity,
    keeper,
    key_use,
    resource_tables,
    series_table,
)
from tallystick.ledger.sqlite.file import ADMISSION, CORRECTED, EVENTS, row
from tallystick.ledger.sqlite.hold_tables import Mark
from tallystick.ledger.sqlite.identity import MemoryRun
from tallystick.ledger.sqlite.keeper import Keeper
from tallystick.ledger.sqlite.key_use import KeyUses
from tallystick.ledger.sqlite.tail import UNREADABLE, Tail, load, quarter_cells, source_and_id
from tallystick.ledger.sqlite.writer import Lane, Task, Work, Writer
from tallystick.model import LabelSet
from tallystick.rollup import Cells, Ints
from tallystick.settings import Settings

OURS = frozenset({file.LOCK_NAME, *(f"{file.FILE_NAME}{end}" for end in ("", "-wal", "-shm"))})


@contextmanager
def open_target(folder: Path, settings: Settings, origin: str) -> Iterator[SqliteTarget]:
    """Begin a copy in a folder that is not there or empty, or go on with the one in it; raises LedgerError if neither.

    From the first moment on the folder says that it is not complete.
    """
    if folder.is_dir() and {path.name for path in folder.iterdir()} - OURS:
        raise LedgerError(f"{folder} is not empty. Name a new folder; what is there stays.")
    file.check_sqlite(file.sqlite_version())
    lock = file.Lock(folder)
    try:
        target = _opened(folder, settings, origin)
        try:
            yield target
        finally:
            target.stop()
    finally:
        lock.release()


def _opened(folder: Path, settings: Settings, origin: str) -> SqliteTarget:
    try:
        return SqliteTarget(folder, settings, _begun(folder, origin))
    except UNREADABLE as error:
        raise LedgerDamaged(f"{folder} cannot be used: {error}. Empty it and begin anew.") from error


def _begun(folder: Path, origin: str) -> Unfinished:
    """Make the file, or find how far the copy in it is."""
    db = file.connect(folder, writes=True)
    try:
        file.prepare(db, folder)
        keeper.drop_orphans(db)
        if (done := copy_state.read(db)) is not None:
            return done
        if row(db, "SELECT count(*) FROM log")[0]:
            raise LedgerError(f"There is a ledger in {folder} already. Name a new folder; what is there stays.")
        copy_state.write(db, begun := Unfinished(origin))
        return begun
    finally:
        db.close()


class SqliteTarget:
    """The folder's writer and its keeper, and nobody who asks."""

    def __init__(self, folder: Path, settings: Settings, done: Unfinished) -> None:
        self.name = str(folder)
        self.done = done
        self._identity_bytes_max = settings.identity_bytes_max
        connect = partial(file.connect, folder)
        db = connect()
        self._secret = file.secret(db)
        self._tail = self._load(db)
        db.close()
        self._writer = Writer(
            folder,
            connect=partial(connect, writes=True),
            combine=_as_they_are,
            recover=self._recover,
            tidy=self._tidy,
            group_bytes_max=1,
            queue_bytes_max=settings.queue_bytes_max,
            disk_free_bytes_min=settings.disk_free_bytes_min,
        )
        self._keeper = Keeper(
            connect=connect,
            writer=self._writer,
            tail=lambda: self._tail,
            uses=KeyUses({}),
            identity_bytes_max=settings.identity_bytes_max,
            verify_bytes_per_s=0,
        )
        self._writer.start()
        self._keeper.start()

    def take(self, contents: Sequence[Content], done: Unfinished) -> None:
        group = _Group(self._tail, self._secret, contents)

        def write(db: apsw.Connection) -> None:
            group.write(db)
            copy_state.write(db, done)

        self._do(write, group.publish)
        self.done = done

    def finish(self, key_uses: Mapping[str, int]) -> None:
        if key_uses:
            self._do(partial(key_use.store, key_uses))

    def complete(self) -> None:
        self._do(copy_state.clear)

    def stop(self) -> None:
        """Let go of the file."""
        self._keeper.stop()
        self._writer.close()
        self._keeper.join()

    def _do(self, change: Callable[[apsw.Connection], None], then: Callable[[], None] = lambda: None) -> None:
        task = Task(change, then)
        self._writer.submit([task], Lane.URGENT)
        try:
            task.wait()
        except Problem as problem:
            raise LedgerError(f"{self.name} cannot be written: {problem.detail}") from problem

    def _load(self, db: apsw.Connection) -> Tail:
        return load(db, definitions.base(db), self._identity_bytes_max)

    def _recover(self, db: apsw.Connection) -> None:
        self._tail = self._load(db)

    def _tidy(self) -> None:
        self._tail.published = self._tail.published.tidied()


def _as_they_are(works: Sequence[Work]) -> Sequence[Work]:
    return works


@dataclass(slots=True)
class _Group:
    """Some steps in one transaction, and what they mean for memory once that is durable."""

    tail: Tail
    secret: int
    contents: Sequence[Content]
    _sequence: int = 0
    _recorded: int = 0
    _runs: list[MemoryRun] = field(default_factory=list)
    _cells: list[Cells] = field(default_factory=list)

    def write(self, db: apsw.Connection) -> None:
        self._sequence, self._recorded = self.tail.published.sequence, self.tail.published.recorded
        for content in self.contents:
            match content:
                case Changed():
                    changes.logged(db, self.tail, content.changes, content.actor, content.recorded)
                case Admitted():
                    self._admitted(db, content)
                case Committed():
                    self._committed(db, content)
                case Recounted():
                    self._recounted(db, content)
                case Living():
                    resource_tables.store(db, content)
        hold_tables.move(db, Mark.at(self.tail.entry))

    def publish(self) -> None:
        published = self.tail.published
        self.tail.book.written(Mark.at(self.tail.entry))
        identities, overlay = published.identities, published.overlay
        for run in self._runs:
            identities = identities.add(run)
        for cells in self._cells:
            overlay = overlay.add(cells)
        self.tail.published = structs.replace(
            published,
            sequence=self._sequence,
            recorded=self._recorded,
            identities=identities,
            overlay=overlay,
            catalog=self.tail.catalog,
            entry=self.tail.entry,
        )

    def _admitted(self, db: apsw.Connection, content: Admitted) -> None:
        header = AdmissionHeader(self.tail.entry + 1, content.recorded, tuple(content.changes))
        packed = msgspec.msgpack.encode(header)
        self._append(db, ADMISSION, (None, len(header.changes), content.recorded, None, None, packed, None))
        of_holds = [each for each in content.changes if not isinstance(each, Crossed)]
        if of_holds:
            known = [hold_entries.named(each) for each in of_holds if not isinstance(each, HoldMade)]
            kept = hold_tables.find(db, known)
            for change in of_holds:
                hold_entries.fold(kept, change)
            # Holds are written without the names of their accounts.
            hold_tables.store(db, hold_tables.pack({name: hold_of(each, "") for name, each in kept.items()}))
        crossings = [each for each in content.changes if isinstance(each, Crossed)]
        if crossings:
            hold_tables.note(db, crossings)

    def _committed(self, db: apsw.Connection, content: Committed) -> None:
        first, count = self._sequence + 1, len(content.raws)
        frames = segment.pack_frames(content.raws, content.accounts.astype(np.uint32))
        firsts = (first + np.cumsum([0, *(frame.count for frame in frames[:-1])])).tolist()
        numbers, made = self._numbers(db, content.posted)
        columns = content.posted.numbered(numbers)
        digest, body = segment.pack_columns(columns)
        time = columns.time
        header = Header(
            entry=self.tail.entry + 1,
            first=first,
            count=count,
            recorded=content.recorded,
            catalog_version=content.catalog_version,
            time_min=int(time.min()),
            time_max=int(time.max()),
            accounts=tuple(np.unique(content.accounts).tolist()),
            frames=tuple((at, frame.digest) for at, frame in zip(firsts, frames, strict=True)),
            columns=digest,
            series=tuple(made),
        )
        packed = msgspec.msgpack.encode(header)
        self._append(db, EVENTS, (first, count, content.recorded, header.time_min, header.time_max, packed, body))
        for at, frame in zip(firsts, frames, strict=True):
            db.execute("INSERT INTO frame VALUES (?, ?)", (at, frame.body))
        self._identify(content, first)
        self._cells.append(quarter_cells(columns))
        self._sequence, self._recorded = first + count - 1, content.recorded

    def _identify(self, content: Committed, first: int) -> None:
        names = self._names()
        sources, ids = source_and_id(content.raws)
        prints = identity.fingerprints(self.secret, [names[a] for a in content.accounts.tolist()], sources, ids)
        self._runs.append(identity.sorted_run(prints, np.arange(first, first + len(ids))))

    def _recounted(self, db: apsw.Connection, content: Recounted) -> None:
        numbers, made = self._numbers(db, content.posted)
        columns = content.posted.numbered(numbers)
        digest, body = segment.pack_columns(columns)
        time, count = columns.time, len(columns.time)
        header = CorrectionHeader(
            entry=self.tail.entry + 1,
            recorded=content.recorded,
            replay=content.replay,
            epoch=content.epoch,
            first=content.first,
            through=content.through,
            sequences=np.diff(content.sequences, prepend=np.int64(0)).astype("<i8").tobytes(),
            time_min=int(time.min()) if count else 0,
            time_max=int(time.max()) if count else 0,
            accounts=tuple(np.unique(content.accounts).tolist()),
            columns=digest,
            series=tuple(made),
        )
        packed = msgspec.msgpack.encode(header)
        said = (content.first, count, content.recorded, header.time_min, header.time_max, packed, body)
        self._append(db, CORRECTED, said)
        self._cells.append(quarter_cells(columns))

    def _numbers(self, db: apsw.Connection, posted: Posted) -> tuple[Ints, list[NewSeries]]:
        """Return the numbers of series, and those that were given just now and are written."""
        names = self._names()
        sets = [LabelSet(names[account], meter, version, labels) for account, meter, version, labels in posted.sets]
        numbers, made = self.tail.series.numbers(sets, self.tail.catalog.accounts)
        if made:
            series_table.store(db, made)
        return numbers, made

    def _names(self) -> dict[int, str]:
        return {account.number: account.name for account in self.tail.catalog.accounts.values()}

    def _append(self, db: apsw.Connection, kind: int, said: tuple[int | bytes | None, ...]) -> None:
        """Write an entry: first, count, recorded, time_min, time_max, header, columns."""
        tail, header = self.tail, said[-2]
        assert isinstance(header, bytes)
        chained = segment.link(tail.link, header)
        db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (tail.entry + 1, kind, *said, chained))
        tail.entry, tail.link = tail.entry + 1, chained
