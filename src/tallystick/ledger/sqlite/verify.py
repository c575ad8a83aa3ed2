"""The proof: the log is replayed from nothing, and everything kept is compared with what the replay gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import apsw
import msgspec
import numpy as np

from tallystick import rollup
from tallystick.envelope import Unreadable, event_of, read
from tallystick.errors import LedgerError
from tallystick.ledger.base import Fault, Proof
from tallystick.ledger.sqlite import file, identity, reading, resource_tables, rollups, segment
from tallystick.ledger.sqlite.definitions import base
from tallystick.ledger.sqlite.entries import CatalogHeader, apply
from tallystick.ledger.sqlite.file import CATALOG, CORRECTED, EVENTS, row, rows
from tallystick.ledger.sqlite.judging import kept_events
from tallystick.ledger.sqlite.living import Living
from tallystick.ledger.sqlite.meter_entries import CorrectionHeader
from tallystick.ledger.sqlite.replaying import TEXT_LENGTH_ANY, counted, kept_rows, sift
from tallystick.ledger.sqlite.rollups import Grain
from tallystick.ledger.sqlite.segment import GENESIS, Columns, Damaged, FrameEvents, Header
from tallystick.ledger.sqlite.series import SeriesIndex
from tallystick.ledger.sqlite.series import load as load_series
from tallystick.ledger.sqlite.tail import Published, quarter_cells, source_and_id
from tallystick.metering import meter
from tallystick.model import Catalog, Event, Posting, Verdict
from tallystick.resources import Resource, change_of
from tallystick.rollup import Cells, Ints

FAULTS_MAX = 1000
TABLES = (
    "meta",
    "log",
    "frame",
    "series",
    "identity_run",
    "identity_chunk",
    "rollup",
    "folded",
    "key_use",
    "resource",
    "space",
    "counted_once",
    "record",
)
CATCH_UPS = 3
"""Rounds in which what came meanwhile is replayed, before the last of it is in one read transaction."""
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Replay:
    """What the log says so far, and what did not agree with it."""

    catalog: Catalog
    link: bytes = GENESIS
    entries: int = 0
    events: int = 0
    postings: int = 0
    frames: int = 0
    series: SeriesIndex = field(default_factory=SeriesIndex)
    through: dict[tuple[str, int], int] = field(default_factory=dict)
    cells: list[Cells] = field(default_factory=list)
    living: Living = field(init=False)
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.living = Living(self._newer)

    def _newer(self, account: int, space: str, than: int) -> Iterator[Resource]:
        for name, resource in self.living.resources.items():
            if (name.account, name.space) == (account, space) and resource.newest > than:
                yield resource

    def fault(self, where: str, detail: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault(where, detail))

    def fold(self, cells: Cells) -> None:
        while self.cells and len(self.cells[-1]) < 2 * len(cells):
            cells = rollup.merge([self.cells.pop(), cells])
        self.cells.append(cells)


def verify(db: apsw.Connection, published: Callable[[], Published], progress: Progress) -> Proof:
    """Replay and compare, in short read transactions: the log only grows, so what was read stays as it is.

    Rollups and the identity index are compared at the end with the log as far as it was replayed.
    """
    state = published()
    replay = Replay(Catalog(0, {}))
    try:
        _check_pages(db, replay)
        replay.catalog = base(db)
        secret = file.secret(db)
        for logged in _log(db, replay.entries, state.entry):
            # Asked anew each time: chunks of runs that were merged since are deleted after a while.
            _replay_entry(db, replay, published(), secret, logged)
            progress(replay.events, state.sequence)
        if replay.events < state.sequence:
            replay.fault("log", f"holds {replay.events} events, of {state.sequence} that were acknowledged")
        for _ in range(CATCH_UPS):
            for logged in _log(db, replay.entries, published().entry):
                _replay_entry(db, replay, published(), secret, logged)
        _check_living(db, replay, secret)
        _check_series(db, replay)
        _check_rollups(db, replay, published)
        _check_counts(db, replay, published)
    except (
        apsw.Error,
        Damaged,
        msgspec.MsgspecError,
        LedgerError,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
    ) as error:
        replay.fault("file", f"cannot be read any further: {type(error).__name__}: {error}")
    return Proof(replay.events, replay.postings, replay.entries, replay.link.hex(), tuple(replay.faults))


def _check_pages(db: apsw.Connection, replay: Replay) -> None:
    # Table by table, so that no read transaction grows old; with their indexes, through which reports find things.
    for table in TABLES:
        for (line,) in rows(db, f"PRAGMA integrity_check({table})"):
            if line != "ok":
                replay.fault("file", line)


def _log(db: apsw.Connection, after: int, through: int) -> Iterator[tuple[Any, ...]]:
    """Yield the entries of a range, a few at a time, so that no read transaction grows old."""
    at = after
    statement = """SELECT entry, kind, first, count, recorded, time_min, time_max, header, columns, link FROM log
        WHERE entry > ? AND entry <= ? ORDER BY entry LIMIT 16"""
    while some := list(rows(db, statement, (at, through))):
        yield from some
        at = some[-1][0]


def _replay_entry(
    db: apsw.Connection, replay: Replay, state: Published | None, secret: int, logged: Sequence[Any]
) -> None:
    entry, kind, _, count, recorded, _, _, header, _, link = logged
    where = f"log entry {entry}"
    replay.entries += 1
    if entry != replay.entries:
        replay.fault(where, f"follows entry {replay.entries - 1}")
        replay.entries = int(entry)
    replay.link = segment.link(replay.link, header)
    if replay.link != link:
        replay.fault(where, "its link does not follow from its header and the link before")
        replay.link = link
    if kind == EVENTS:
        _replay_segment(db, replay, state, secret, where, logged)
    elif kind == CATALOG:
        change = msgspec.msgpack.decode(header, type=CatalogHeader)
        if (change.entry, change.recorded, len(change.changes)) != (entry, recorded, count):
            replay.fault(where, "its columns are not what its header says")
        replay.catalog = apply(replay.catalog, change.changes)
    elif kind == CORRECTED:
        _replay_correction(db, replay, where, logged)
    else:
        replay.fault(where, f"is of kind {kind}, which this version does not write")


def _replay_segment(
    db: apsw.Connection, replay: Replay, state: Published | None, secret: int, where: str, logged: Sequence[Any]
) -> None:
    _, _, first, count, recorded, time_min, time_max, packed, body, _ = logged
    header = msgspec.msgpack.decode(packed, type=Header)
    said = (header.entry, header.first, header.count, header.recorded, header.time_min, header.time_max)
    if said != (logged[0], first, count, recorded, time_min, time_max):
        replay.fault(where, "its columns are not what its header says")
    if header.first != replay.events + 1:
        replay.fault(where, f"begins at event {header.first}, after event {replay.events}")
    for new in header.series:
        replay.series.add(new)
    columns = segment.unpack_columns(body)
    if segment.columns_digest(body) != header.columns:
        replay.fault(where, "its postings are not what was written")
    events = _frames(db, replay, header, where)
    replay.events, replay.postings = header.first + header.count - 1, replay.postings + len(columns.posting_event)
    if len(events.raws) != header.count or len(columns.time) != header.count:
        replay.fault(where, f"holds {len(events.raws)} events and {len(columns.time)} times, not {header.count}")
        return
    _check_events(replay, header, columns, events, where)
    if state is not None:
        _check_identities(db, replay, state, secret, header, events, where)
    replay.fold(quarter_cells(columns))


def _frames(db: apsw.Connection, replay: Replay, header: Header, where: str) -> FrameEvents:
    raws: list[bytes] = []
    accounts: list[int] = []
    digests = dict(header.frames)
    bounds = (header.first, header.first + header.count)
    for first, body in db.execute(
        "SELECT first, body FROM frame WHERE first >= ? AND first < ? ORDER BY first", bounds
    ):
        if segment.frame_digest(body) != digests.pop(first, None):
            replay.fault(where, f"the frame of event {first} is not what was written")
        events = segment.unpack_frame(body)
        raws += events.raws
        accounts += events.accounts
        replay.frames += 1
    for first in digests:
        replay.fault(where, f"the frame of event {first} is missing")
    return FrameEvents(raws, accounts)


def _check_events(replay: Replay, header: Header, columns: Columns, events: FrameEvents, where: str) -> None:
    """Read every event anew and compare its time and its postings with what was kept."""
    names = {account.number: account.name for account in replay.catalog.accounts.values()}
    starts = np.searchsorted(columns.posting_event, np.arange(header.count + 1)).tolist()
    series, amounts = columns.posting_series.tolist(), columns.posting_amount.tolist()
    for at, (raw, account, time) in enumerate(zip(events.raws, events.accounts, columns.time.tolist(), strict=True)):
        try:
            event = event_of(read(raw), names[account], time)
        except (Unreadable, KeyError, ValueError) as error:
            replay.fault(where, f"event {header.first + at} cannot be read: {error}")
            continue
        if event.time != time or event.timed != bool(columns.timed[at]):
            replay.fault(where, f"event {header.first + at} is kept under another time than its own")
        kept = [(series[i], amounts[i]) for i in range(starts[at], starts[at + 1])]
        said = meter(event, replay.catalog, text_length_max=TEXT_LENGTH_ANY)
        if not isinstance(said, Verdict):
            said = _live(replay, account, event, said)
        if isinstance(said, Verdict) or not _same_postings(replay.series, account, kept, said):
            replay.fault(where, f"event {header.first + at} has other postings than its meters give")


def _live(replay: Replay, account: int, event: Event, said: Sequence[Posting]) -> tuple[Posting, ...]:
    """Change the resource that an event is about, and drop what was counted of it before."""
    change = change_of(event, text_length_max=TEXT_LENGTH_ANY)
    if change is None or isinstance(change, Verdict):
        return tuple(said)
    once = {posting.meter: posting.once for posting in said if posting.once is not None}
    again = replay.living.again(account, change, once, replay.catalog)
    replay.living.take(account, change)
    rest = {name: value for name, value in once.items() if name not in again}
    replay.living.count(account, change, rest, replay.catalog)
    return tuple(posting for posting in said if posting.meter not in again)


def _replay_correction(db: apsw.Connection, replay: Replay, where: str, logged: Sequence[Any]) -> None:
    """Count again what a replay counted, from the events that it was for, and compare."""
    header = msgspec.msgpack.decode(logged[7], type=CorrectionHeader)
    if (header.entry, header.first, header.recorded) != (logged[0], logged[2], logged[4]):
        replay.fault(where, "its columns are not what its header says")
    for new in header.series:
        replay.series.add(new)
    if segment.columns_digest(logged[8]) != header.columns:
        replay.fault(where, "its postings are not what was written")
    key = (header.replay, header.epoch)
    if header.first != replay.through.get(key, 0) + 1 or header.through > replay.events:
        replay.fault(where, f"counts the events from {header.first} to {header.through}, which is not what was due")
    replay.through[key] = header.through
    columns, due = segment.unpack_columns(logged[8]), replay.catalog.replays[header.replay]
    catalog = replace(replay.catalog, meters={each.name: each for each in due.meters})
    names = {account.number: account.name for account in catalog.accounts.values()}
    kept = kept_rows(db, header.first, header.through)
    found = sift([one for some in kept for one in counted(some, due, catalog, names)], replay.living, catalog)
    said = [(each.sequence, each.time) for each in found]
    if said != list(zip(header.events().tolist(), columns.time.tolist(), strict=True)):
        replay.fault(where, "counts other events than those that its meters count")
        return
    starts = np.searchsorted(columns.posting_event, np.arange(len(found) + 1)).tolist()
    series, amounts = columns.posting_series.tolist(), columns.posting_amount.tolist()
    for at, each in enumerate(found):
        postings = [(series[i], amounts[i]) for i in range(starts[at], starts[at + 1])]
        if not _same_postings(replay.series, each.account, postings, each.postings):
            replay.fault(where, f"event {each.sequence} has other postings than its meters give")
    replay.postings += len(columns.posting_event)
    replay.fold(quarter_cells(columns))


def _check_living(db: apsw.Connection, replay: Replay, secret: int) -> None:
    """Compare resources, spaces and what was counted once with the log as far as it goes at this moment."""
    with db:
        (last,) = row(db, "SELECT coalesce(max(entry), 0) FROM log")
        for logged in _log(db, replay.entries, last):
            _replay_entry(db, replay, None, secret, logged)
        kept = resource_tables.everything(db)
    for what, have, due in (
        ("resource", kept.resources, replay.living.resources),
        ("space", kept.spaces, replay.living.spaces),
        ("counted once", kept.once, replay.living.once),
        ("record", kept.records, replay.living.records),
    ):
        for key in [*have, *(key for key in due if key not in have)]:
            if have.get(key) != due.get(key):
                replay.fault("resources", f"{what} {', '.join(map(str, key))} is not what the log says")


def _same_postings(index: SeriesIndex, account: int, kept: Sequence[tuple[int, int]], said: Sequence[Posting]) -> bool:
    found = sorted((*index.describe(number), amount) for number, amount in kept)
    due = sorted((account, p.meter, p.meter_version, p.labels, p.amount) for p in said)
    return found == due


def _check_identities(
    db: apsw.Connection,
    replay: Replay,
    state: Published,
    secret: int,
    header: Header,
    events: FrameEvents,
    where: str,
) -> None:
    names = {account.number: account.name for account in replay.catalog.accounts.values()}
    sources, ids = source_and_id(events.raws)
    prints = identity.fingerprints(secret, [names[a] for a in events.accounts], sources, ids)
    order = np.argsort(prints, kind="stable")
    hits = state.identities.probe(prints[order], db)
    own = hits.sequence == header.first + order[hits.row]
    for at in np.setdiff1d(np.arange(header.count), order[hits.row[own]]).tolist():
        replay.fault(where, f"event {header.first + at} is not in the identity index")
    earlier = np.flatnonzero(hits.sequence < header.first + order[hits.row])
    others = kept_events(db, hits.sequence[earlier])
    for hit in earlier.tolist():
        at, sequence = int(order[hits.row[hit]]), int(hits.sequence[hit])
        other = others[sequence]
        if (other.account, *_named(other.raw)) == (events.accounts[at], sources[at], ids[at]):
            replay.fault(where, f"event {header.first + at} has the identity of event {sequence}: it counts twice")


def _named(raw: bytes) -> tuple[str, str]:
    sources, ids = source_and_id([raw])
    return sources[0], ids[0]


def _check_series(db: apsw.Connection, replay: Replay) -> None:
    kept = load_series(db)
    for number in range(1, len(replay.series) + 1):
        if number > len(kept) or kept.describe(number) != replay.series.describe(number):
            replay.fault("series", f"series {number} is not what the log says")


def _check_rollups(db: apsw.Connection, replay: Replay, published: Callable[[], Published]) -> None:
    """Compare every cell of every grain, after adding what is not folded into the file yet."""
    while True:
        state = published()
        with db:
            done = reading.folded(db)
            if done.last > state.entry:
                continue
            found = list(rows(db, "SELECT account, meter, grain, period, cells, body FROM rollup"))
        break
    later = _later(db, replay, state.entry)
    due = rollup.merge([*replay.cells, *later]) if replay.cells or later else rollup.nothing()
    kept: dict[Grain, list[Cells]] = {grain: [] for grain in Grain}
    for account, name, grain, period, size, body in found:
        cells = rollups.unpack(body)
        if not _is_in_place(replay.series, cells, Grain(grain), account, name, period) or size != len(cells):
            replay.fault("rollups", f"cells of account {account}, meter {name!r} are kept in the wrong place")
        kept[Grain(grain)].append(cells)
    account_of = np.array(replay.series.accounts, np.int64)
    lacking = [
        cells.take(done.lacking(border)(account_of[cells.series])) for cells, border in state.overlay.parts(state.entry)
    ]
    for grain in Grain:
        parts = [*kept[grain], *(rollups.coarse(cells, grain) for cells in lacking)]
        have = rollup.merge(parts) if parts else rollup.nothing()
        _compare_cells(replay, grain, have, rollups.coarse(due, grain))


def _later(db: apsw.Connection, replay: Replay, through: int) -> list[Cells]:
    """Return the cells of entries that came while the log was replayed, and learn their series.

    The next run proves their events.
    """
    later = []
    statement = """SELECT kind, header, columns FROM log WHERE entry > ? AND entry <= ? AND columns IS NOT NULL
        ORDER BY entry"""
    for kind, header, body in rows(db, statement, (replay.entries, through)):
        series = (
            msgspec.msgpack.decode(header, type=Header).series
            if kind == EVENTS
            else msgspec.msgpack.decode(header, type=CorrectionHeader).series
        )
        for new in series:
            replay.series.add(new)
        later.append(quarter_cells(segment.unpack_columns(body)))
    return later


def _is_in_place(index: SeriesIndex, cells: Cells, grain: Grain, account: int, meter: str, period: int) -> bool:
    if not bool((rollups.period(cells.bucket, grain) == period).all()):
        return False
    return all(
        number < len(index.accounts) and (index.accounts[number], index.meters[number]) == (account, meter)
        for number in np.unique(cells.series).tolist()
    )


def _compare_cells(replay: Replay, grain: Grain, have: Cells, due: Cells) -> None:
    if len(have) == len(due) and all(bool((a == b).all()) for a, b in zip(have.columns, due.columns, strict=True)):
        return
    both, at, of = np.intersect1d(have.key, due.key, return_indices=True)
    wrong: Ints = np.setxor1d(have.key, due.key)
    for a, b in zip(have.columns[1:], due.columns[1:], strict=True):
        wrong = np.union1d(wrong, both[a[at] != b[of]])
    for cell in wrong[:20].tolist():
        number, bucket = cell >> rollup.BUCKET_BITS, cell & ((1 << rollup.BUCKET_BITS) - 1)
        replay.fault("rollups", f"series {number}, {grain.name.lower()} {bucket}: not the sum of its postings")


def _check_counts(db: apsw.Connection, replay: Replay, published: Callable[[], Published]) -> None:
    """Nothing may be kept beside what the log accounts for."""
    state = published()
    entries = sum(map(len, state.identities.memory)) + sum(map(len, state.identities.stored))
    if entries != state.sequence:
        replay.fault("identity index", f"holds {entries} entries for {state.sequence} events")
    frames = row(db, "SELECT count(*) FROM frame WHERE first <= ?", (replay.events,))[0]
    if frames != replay.frames:
        replay.fault("frames", f"{frames} are kept and the log accounts for {replay.frames}")
