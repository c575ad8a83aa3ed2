"""An account's log replayed for a proof: what each entry says follows from what came before it, or is a fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tallystick import rollup
from tallystick.ledger.packed import rollups, segment
from tallystick.ledger.packed.hold_entries import hold_of
from tallystick.ledger.packed.rollups import Grain
from tallystick.ledger.packed.segment import FrameEvents
from tallystick.ledger.postgres import hold_tables, identities, kept, log, reading, recounting, resource_tables
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import ADMISSION, CORRECTED, EVENTS, EntryHeader, read_header, read_recount
from tallystick.ledger.postgres.reading import View, unfolded
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.ledger.sqlite.proving import AdmissionRow, Replay, check_events, check_recount, replay_admission
from tallystick.ledger.sqlite.replaying import counted, sift
from tallystick.ledger.sqlite.tail import quarter_cells, source_and_id
from tallystick.model import Account, AsOf, Catalog
from tallystick.model import Replay as Counting
from tallystick.windows import INSTANT_MAX, INSTANT_MIN

FAULTY_CELLS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Catalogs:
    """The catalog at each of its versions, every replay there ever was, by its name and epoch, and deleted limits."""

    by_version: Mapping[int, Catalog]
    replays: Mapping[tuple[str, int], Counting]
    deleted_limits: Set[str] = frozenset()

    @property
    def latest(self) -> Catalog:
        """The catalog in force."""
        return self.by_version[max(self.by_version)]


@dataclass(slots=True)
class AccountProof:
    """One account's log, compared with all that is kept of the account."""

    db: Db
    secret: int
    catalogs: Catalogs
    account: Account
    replay: Replay
    last: int = 0
    series: SeriesCache = field(default_factory=SeriesCache)

    @property
    def of(self) -> str:
        return f"account {self.account.number}"

    def entry(self, row: Sequence[Any]) -> None:
        """Replay one entry, given as its row."""
        position, kind, header, link = row[1], row[2], row[-2], row[-1]
        where = f"entry {position} of {self.of}"
        replay = self.replay
        replay.entries += 1
        if position != replay.entries:
            replay.fault(where, f"follows entry {replay.entries - 1}")
            replay.entries = int(position)
        replay.link = segment.link(replay.link, header)
        if replay.link != link:
            replay.fault(where, "its link does not follow from its header and the link before")
            replay.link = link
        if kind == EVENTS:
            self._events(where, row)
        elif kind == CORRECTED:
            self._recount(where, row)
        elif kind == ADMISSION:
            replay_admission(replay, where, AdmissionRow(position, row[5], row[6], header))
        else:
            replay.fault(where, f"is of kind {kind}, which this version does not write")

    def _events(self, where: str, row: Sequence[Any]) -> None:
        number, position, _, first, last, count, recorded, time_min, time_max, packed, _ = row
        header, replay = read_header(packed), self.replay
        sequences = header.sequence().tolist()
        said = (header.account, header.number, header.position, header.count, header.recorded, header.first)
        due = (self.account.number, number, position, count, recorded, first)
        if said != due or (sequences[-1], header.time_min, header.time_max) != (last, time_min, time_max):
            replay.fault(where, "its columns are not what its header says")
        if sequences[0] <= self.last:
            replay.fault(where, f"begins at event {sequences[0]}, after event {self.last}")
        self.last = sequences[-1]
        self._learn(header.series)
        body = self._postings(number)
        columns = segment.unpack_columns(body)
        if segment.columns_digest(body) != header.columns:
            replay.fault(where, "its postings are not what was written")
        events = self._frames(header, where)
        replay.events, replay.postings = replay.events + header.count, replay.postings + len(columns.posting_event)
        if not len(events.raws) == len(columns.time) == len(sequences) == header.count:
            replay.fault(where, f"holds {len(events.raws)} events and {len(columns.time)} times, not {header.count}")
            return
        replay.catalog = self._catalog(header.catalog_version)
        check_events(replay, sequences, columns, events, where)
        self._identities(header, events, sequences, where)
        replay.fold(quarter_cells(columns))

    def _learn(self, made: Sequence[segment.NewSeries]) -> None:
        for new in made:
            self.series.add(new)

    def _catalog(self, version: int) -> Catalog:
        """Return the catalog of a version; whoever has events is in every catalog since."""
        return replace(self.catalogs.by_version[version], accounts={self.account.name: self.account})

    def _postings(self, number: int) -> bytes:
        statement = "SELECT body FROM posting WHERE account = %s AND number = %s"
        ((body,),) = self.db.execute(statement, (self.account.number, number)).fetchall()
        return bytes(body)

    def _frames(self, header: EntryHeader, where: str) -> FrameEvents:
        raws: list[bytes] = []
        accounts: list[int] = []
        digests = dict(header.frames)
        statement = "SELECT place, body FROM frame WHERE account = %s AND number = %s ORDER BY place"
        for place, body in self.db.execute(statement, (header.account, header.number)).fetchall():
            if segment.frame_digest(body) != digests.pop(place, None):
                self.replay.fault(where, f"its frame {place} is not what was written")
            events = segment.unpack_frame(body)
            raws += events.raws
            accounts += events.accounts
        for place in digests:
            self.replay.fault(where, f"its frame {place} is missing")
        if set(accounts) != {header.account}:
            self.replay.fault(where, "holds events of another account")
        return FrameEvents(raws, accounts)

    def _identities(self, header: EntryHeader, events: FrameEvents, sequences: Sequence[int], where: str) -> None:
        """Every event is the one that its identity names."""
        places = np.frombuffer(header.places, "<i4").tolist() if header.places else list(range(header.count))
        sources, ids = source_and_id(events.raws)
        left = list(range(header.count))
        for salt in range(identities.SALTS_MAX):
            names = ([self.account.name] * len(left), [sources[at] for at in left], [ids[at] for at in left])
            prints = identities.fingerprints(self.secret, salt, *names).view(np.int64)
            statement = """SELECT i.fingerprint, i.number, i.place FROM unnest(%s::bigint[]) w (fingerprint)
                JOIN identity i ON i.account = %s AND i.fingerprint = w.fingerprint"""
            found = {
                one: (number, place) for one, number, place in self.db.execute(statement, (prints, header.account))
            }
            at_print = dict(zip(left, prints.tolist(), strict=True))
            own = {at for at, one in at_print.items() if found.get(one) == (header.number, places[at])}
            others = {at: found[one] for at, one in at_print.items() if one in found and at not in own}
            for at in sorted(set(left) - own - set(others)):
                self.replay.fault(where, f"event {sequences[at]} is not in the identity index")
            named = self._named(others)
            for at in sorted(others):
                if named.get(at) == (sources[at], ids[at]):
                    self.replay.fault(where, f"event {sequences[at]} has the identity of another: it counts twice")
            left = [at for at in sorted(others) if named.get(at) != (sources[at], ids[at])]
            if not left:
                return

    def _named(self, others: Mapping[int, tuple[int, int]]) -> Mapping[int, tuple[str, str]]:
        """Return the sources and ids of events by their places, where there are events."""
        places = {at: (self.account.number, *place) for at, place in others.items() if place[0] != identities.NOBODY}
        found = kept.find(self.db, places.values())
        named = {}
        for at, place in places.items():
            (source,), (id,) = source_and_id([found[place].raw])
            named[at] = (source, id)
        return named

    def _recount(self, where: str, row: Sequence[Any]) -> None:
        """Count again what a replay counted, from the events that it was for, and compare."""
        number, position, _, first, last, _, recorded, time_min, time_max, packed, _ = row
        header, replay = read_recount(packed), self.replay
        said = (header.account, header.number, header.position, header.after + 1, header.through, header.recorded)
        if said != (self.account.number, number, position, first, last, recorded):
            replay.fault(where, "its columns are not what its header says")
        if (header.time_min, header.time_max) != (time_min, time_max):
            replay.fault(where, "its times are not what its header says")
        self._learn(header.series)
        body = self._postings(number)
        if segment.columns_digest(body) != header.columns:
            replay.fault(where, "its postings are not what was written")
        key = (header.replay, header.epoch)
        if header.after != replay.through.get(key, 0) or header.through > self.last:
            replay.fault(where, f"counts the events from {header.after + 1} to {header.through}, which was not due")
        replay.through[key] = header.through
        columns, due = segment.unpack_columns(body), self.catalogs.replays[key]
        catalog = self._catalog(header.catalog_version)
        meters = replace(catalog, meters={each.name: each for each in due.meters})
        some = recounting.kept_rows(self.db, header.account, header.after, header.through)
        again = [one for rows in some for one in counted(rows, due, catalog, {header.account: self.account.name})]
        found = sift(again, replay.living, meters)
        check_recount(replay, self.series, header.events(), columns, found, where)

    def end(self) -> None:
        """Compare what is kept beside the log with what the log says."""
        self._head()
        self._series()
        self._rollups()
        self._living()
        self._holds()
        number, replay = self.account.number, self.replay
        statement = f"SELECT count(*) FROM identity WHERE account = %s AND number <> {identities.NOBODY}"
        (count,) = self.db.execute(statement, (number,)).fetchall()[0]
        if count != replay.events:
            replay.fault(self.of, f"has {count} identities for {replay.events} events")

    def _head(self) -> None:
        head = log.heads(self.db, [self.account.number]).get(self.account.number)
        replay = self.replay
        said = None if head is None else (head.entries, head.events, head.sequence, head.link)
        if said != (replay.entries, replay.events, self.last, replay.link):
            replay.fault(self.of, "its log does not end where its head says")

    def _series(self) -> None:
        kept_ones = SeriesCache()
        kept_ones.refresh(self.db, {self.account.number: 2**62})
        due = {number: self.series.describe(number) for number in self.series.numbers_of(self.account.number)}
        have = {number: kept_ones.describe(number) for number in kept_ones.numbers_of(self.account.number)}
        for number in sorted({*due, *have}):
            if due.get(number) != have.get(number):
                self.replay.fault("series", f"series {number} is not what the log says")

    def _rollups(self) -> None:
        """Compare every cell of every grain, after adding what is not folded yet."""
        parts: dict[Grain, list[rollup.Cells]] = {grain: [] for grain in Grain}
        statement = "SELECT meter, grain, period, cells, body FROM run WHERE account = %s"
        for meter, grain, period, size, body in self.db.execute(statement, (self.account.number,)).fetchall():
            cells = rollups.unpack(body)
            meters = {self.series.describe(number)[1] for number in np.unique(cells.series).tolist()}
            is_there = bool((rollups.period(cells.bucket, Grain(grain)) == period).all())
            if not is_there or meters - {meter} or size != len(cells):
                self.replay.fault("rollups", f"cells of {self.of}, meter {meter!r} are kept in the wrong place")
            parts[Grain(grain)].append(cells)
        later = [*unfolded(self.db, np.array([self.account.number], np.int64), INSTANT_MIN, INSTANT_MAX + 1)]
        due = rollup.merge(self.replay.cells) if self.replay.cells else rollup.nothing()
        for grain in Grain:
            some = [*parts[grain], *(rollups.coarse(cells, grain) for cells in later)]
            have = rollup.merge(some) if some else rollup.nothing()
            self._compare(grain, have, rollups.coarse(due, grain))

    def _compare(self, grain: Grain, have: rollup.Cells, due: rollup.Cells) -> None:
        mine, log_s = (
            dict(zip(c.key.tolist(), zip(*(x.tolist() for x in c.columns[1:]), strict=True), strict=True))
            for c in (have, due)
        )
        wrong = sorted(key for key in {*mine, *log_s} if mine.get(key) != log_s.get(key))
        for cell in wrong[:FAULTY_CELLS_SHOWN]:
            number, bucket = cell >> rollup.BUCKET_BITS, cell & ((1 << rollup.BUCKET_BITS) - 1)
            detail = f"series {number}, {grain.name.lower()} {bucket}: not the sum of its postings"
            self.replay.fault("rollups", detail)

    def _living(self) -> None:
        have, due = resource_tables.everything(self.db, self.account.number), self.replay.living
        for what, found, said in (
            ("resource", have.resources, due.resources),
            ("space", have.spaces, due.spaces),
            ("counted once", have.once, due.once),
            ("record", have.records, due.records),
        ):
            for key in [*found, *(key for key in said if key not in found)]:
                if found.get(key) != said.get(key):
                    self.replay.fault("resources", f"{what} {', '.join(map(str, key))} is not what the log says")

    def _holds(self) -> None:
        """Compare holds, crossed thresholds, and the counters of limits, which are counted again."""
        have, crossed = hold_tables.everything(self.db, self.account.number)
        for owner, id in [*have, *(name for name in self.replay.holds if name not in have)]:
            if have.get((owner, id)) != self.replay.holds.get((owner, id)):
                self.replay.fault("holds", f"hold {id!r} of account {owner} is not what the log says")
        # Those of a limit that was deleted went with it, and which came before the log of the account does not tell.
        gone = self.catalogs.deleted_limits
        due = [each for each in self.replay.crossed if each.limit not in gone]
        if [each for each in crossed if each.limit not in gone] != due or not {*crossed} <= {*self.replay.crossed}:
            self.replay.fault("holds", "the crossed thresholds are not what the log says")
        self._counters()

    def _counters(self) -> None:
        catalog = self.catalogs.latest
        counters = hold_tables.load(self.db, [self.account.number], catalog).counters
        now = View(catalog, self.series, AsOf(0, 0))
        holds = {
            id: hold_of(kept, self.account.name) for id, kept in hold_tables.counted_by_id(self.db, self.account.number)
        }
        wrong = counters.faults(
            counters.names, catalog, lambda query: reading.counted(self.db, now, query), {self.account.number: holds}
        )
        for id in wrong:
            self.replay.fault("limits", f"the counter of limit {id!r} is not what the log says")
