"""The log replayed for a proof: what each entry says follows from what came before it, or is a fault."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import apsw
import msgspec
import numpy as np

from tallystick import rollup
from tallystick.envelope import Unreadable, event_of, read
from tallystick.ledger.base import Fault
from tallystick.ledger.packed import segment
from tallystick.ledger.packed.entries import CatalogHeader, apply
from tallystick.ledger.packed.hold_entries import (
    AdmissionHeader,
    Crossed,
    HoldChange,
    HoldMade,
    KeptHold,
    Named,
    fold,
    named,
)
from tallystick.ledger.packed.limit_entries import LimitDeleted
from tallystick.ledger.packed.living import Living
from tallystick.ledger.packed.meter_entries import CorrectionHeader
from tallystick.ledger.packed.segment import GENESIS, Columns, FrameEvents, Header
from tallystick.ledger.packed.series import SeriesIndex
from tallystick.ledger.sqlite import identity
from tallystick.ledger.sqlite.file import ADMISSION, CATALOG, CORRECTED, EVENTS
from tallystick.ledger.sqlite.judging import kept_events
from tallystick.ledger.sqlite.replaying import TEXT_LENGTH_ANY, Again, counted, kept_rows, sift
from tallystick.ledger.sqlite.tail import Published, quarter_cells, source_and_id
from tallystick.metering import meter
from tallystick.model import Catalog, Event, Posting, Verdict
from tallystick.resources import Resource, change_of
from tallystick.rollup import Cells, Ints

FAULTS_MAX = 1000


@dataclass(slots=True)
class Replay:
    """What the log says so far, and what did not agree with it.

    `before` tells how holds were before each change that an entry made which, when it was replayed, came after
    `remembers_after`.
    """

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
    holds: dict[Named, KeptHold] = field(default_factory=dict)
    crossed: list[Crossed] = field(default_factory=list)
    remembers_after: int = sys.maxsize
    before: list[tuple[int, Named, KeptHold | None]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.living = Living(self._newer)

    def _newer(self, account: int, space: str, than: int) -> Iterator[Resource]:
        for name, resource in self.living.resources.items():
            if (name.account, name.space) == (account, space) and resource.newest > than:
                yield resource

    def change_hold(self, entry: int, change: HoldChange) -> None:
        """Change a hold as an entry says; KeyError where it was never made."""
        name = named(change)
        if entry > self.remembers_after:
            self.before.append((entry, name, self.holds.get(name)))
        fold(self.holds, change)

    def holds_at(self, entry_of: Callable[[Named], int]) -> Callable[[Named], KeptHold | None]:
        """Return what gives holds as they were, each at an entry that `remembers_after` has not passed."""
        since = {name: kept for entry, name, kept in reversed(self.before) if entry > entry_of(name)}
        return lambda name: since[name] if name in since else self.holds.get(name)

    def fault(self, where: str, detail: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault(where, detail))

    def fold(self, cells: Cells) -> None:
        while self.cells and len(self.cells[-1]) < 2 * len(cells):
            cells = rollup.merge([self.cells.pop(), cells])
        self.cells.append(cells)


def replay_entry(
    db: apsw.Connection, replay: Replay, state: Published | None, secret: int, logged: Sequence[Any]
) -> None:
    """Replay one entry, given as its row of the log; without a `state`, identities are not looked up."""
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
        gone = {each.id for each in change.changes if isinstance(each, LimitDeleted)}
        if gone:
            replay.crossed = [each for each in replay.crossed if each.limit not in gone]
    elif kind == ADMISSION:
        replay_admission(replay, where, AdmissionRow(entry, count, recorded, header))
    elif kind == CORRECTED:
        _replay_correction(db, replay, where, logged)
    else:
        replay.fault(where, f"is of kind {kind}, which this version does not write")


@dataclass(frozen=True, slots=True)
class AdmissionRow:
    """An entry about holds, as its row has it."""

    entry: int
    count: int
    recorded: int
    header: bytes


def replay_admission(replay: Replay, where: str, row: AdmissionRow) -> None:
    """Replay what an entry says of holds and of crossed thresholds."""
    header = msgspec.msgpack.decode(row.header, type=AdmissionHeader)
    if (header.entry, header.recorded, len(header.changes)) != (row.entry, row.recorded, row.count):
        replay.fault(where, "its columns are not what its header says")
    for change in header.changes:
        if isinstance(change, Crossed):
            replay.crossed.append(change)
        elif not isinstance(change, HoldMade) and named(change) not in replay.holds:
            replay.fault(where, f"changes the hold {change.id!r}, which was never made")
        else:
            replay.change_hold(row.entry, change)


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
    check_events(replay, range(header.first, header.first + header.count), columns, events, where)
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


def check_events(replay: Replay, sequences: Sequence[int], columns: Columns, events: FrameEvents, where: str) -> None:
    """Read every event anew and compare its time and its postings with what was kept."""
    names = {account.number: account.name for account in replay.catalog.accounts.values()}
    starts = np.searchsorted(columns.posting_event, np.arange(len(sequences) + 1)).tolist()
    series, amounts = columns.posting_series.tolist(), columns.posting_amount.tolist()
    for at, (raw, account, time) in enumerate(zip(events.raws, events.accounts, columns.time.tolist(), strict=True)):
        try:
            event = event_of(read(raw), names[account], time)
        except (Unreadable, KeyError, ValueError) as error:
            replay.fault(where, f"event {sequences[at]} cannot be read: {error}")
            continue
        if event.time != time or event.timed != bool(columns.timed[at]):
            replay.fault(where, f"event {sequences[at]} is kept under another time than its own")
        kept = [(series[i], amounts[i]) for i in range(starts[at], starts[at + 1])]
        said = meter(event, replay.catalog, text_length_max=TEXT_LENGTH_ANY)
        if not isinstance(said, Verdict):
            said = _live(replay, account, event, said)
        if isinstance(said, Verdict) or not same_postings(replay.series, account, kept, said):
            replay.fault(where, f"event {sequences[at]} has other postings than its meters give")


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
    check_recount(replay, replay.series, header.events(), columns, found, where)


def check_recount(
    replay: Replay, index: SeriesIndex, sequences: Ints, columns: Columns, found: Sequence[Again], where: str
) -> None:
    """Compare the postings that a replay gave with those that `found` says are due, and count them."""
    said = [(each.sequence, each.time) for each in found]
    if said != list(zip(sequences.tolist(), columns.time.tolist(), strict=True)):
        replay.fault(where, "counts other events than those that its meters count")
        return
    starts = np.searchsorted(columns.posting_event, np.arange(len(found) + 1)).tolist()
    series, amounts = columns.posting_series.tolist(), columns.posting_amount.tolist()
    for at, each in enumerate(found):
        postings = [(series[i], amounts[i]) for i in range(starts[at], starts[at + 1])]
        if not same_postings(index, each.account, postings, each.postings):
            replay.fault(where, f"event {each.sequence} has other postings than its meters give")
    replay.postings += len(columns.posting_event)
    replay.fold(quarter_cells(columns))


def same_postings(index: SeriesIndex, account: int, kept: Sequence[tuple[int, int]], said: Sequence[Posting]) -> bool:
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
