"""An account's log: the header of an entry, how it is chained, and the account's head, which is the end of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from tallystick.ledger.packed import segment
from tallystick.ledger.packed.segment import Damaged, NewSeries, decoded
from tallystick.ledger.postgres import shards
from tallystick.ledger.postgres.locks import Db
from tallystick.rollup import Ints

EVENTS, CORRECTED, ADMISSION = 1, 4, 5
"""Kinds of entries, numbered as in the embedded ledger."""


class EntryHeader(msgspec.Struct, frozen=True, array_like=True):
    """What the chain covers of an entry of events.

    `position` counts the account's entries from 1; `number` is that of its transaction. The sequences of its events are
    `first` and on where `sequences` is empty, else they are there as int64, each as the difference to the one before.
    `places` are what identities name events by: empty where that is 0 and on, else int32. `frames` are (the first one's
    place among the kept events, digest).
    """

    account: int
    position: int
    number: int
    count: int
    recorded: int
    catalog_version: int
    time_min: int
    time_max: int
    first: int
    sequences: bytes
    places: bytes
    frames: tuple[tuple[int, bytes], ...]
    columns: bytes
    series: tuple[NewSeries, ...]

    def sequence(self) -> Ints:
        """Return the sequences of its events."""
        if not self.sequences:
            return np.arange(self.first, self.first + self.count)
        return self.first + np.cumsum(np.frombuffer(self.sequences, "<i8").astype(np.int64))

    def at(self, places: Ints) -> Ints:
        """Return which of its events identities name by these places."""
        if not self.places:
            return places
        kept = np.frombuffer(self.places, "<i4").astype(np.int64)
        at = np.searchsorted(kept, places)
        if bool((at >= len(kept)).any()) or bool((kept[at] != places).any()):
            raise Damaged(f"entry {self.position} of account {self.account} lacks an event that an identity names")
        return at


class RecountHeader(msgspec.Struct, frozen=True, array_like=True):
    """What the chain covers of postings that a replay gave: of an account's events after `after` to `through`.

    `sequences` are those of the events in the entry's columns, each as the difference to the one before, as int64.
    """

    account: int
    position: int
    number: int
    recorded: int
    catalog_version: int
    replay: str
    epoch: int
    after: int
    through: int
    sequences: bytes
    time_min: int
    time_max: int
    columns: bytes
    series: tuple[NewSeries, ...]

    def events(self) -> Ints:
        """Return the sequences of the events in the columns."""
        return np.cumsum(np.frombuffer(self.sequences, "<i8").astype(np.int64))


_recount = msgspec.msgpack.Decoder(RecountHeader)
_header = msgspec.msgpack.Decoder(EntryHeader)


def read_header(packed: bytes) -> EntryHeader:
    """Return the header of an entry of events; raises Damaged when it is none."""
    return decoded(_header, packed, "the header of an entry")


def read_recount(packed: bytes) -> RecountHeader:
    """Return the header of an entry of a replay's postings; raises Damaged when it is none."""
    return decoded(_recount, packed, "the header of an entry")


@dataclass(frozen=True, slots=True)
class Head:
    """The end of an account's log."""

    account: int
    entries: int
    events: int
    sequence: int
    recorded: int
    series: int
    clock: int
    link: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as it is kept, with what it makes of its account's head."""

    account: int
    position: int
    kind: int
    first: int
    last: int
    count: int
    time_min: int
    time_max: int
    header: bytes
    link: bytes
    events: int
    series: int


def heads(db: Db, accounts: Sequence[int], *, lock: bool = False) -> Mapping[int, Head]:
    """Return the heads of accounts, locked in their order until the end of the transaction where that is asked for."""
    if not accounts:
        return {}
    which, named = shards.among(sorted(accounts))
    statement = f"""SELECT account, entries, events, sequence, recorded, series, clock, link FROM head
        WHERE account {which} ORDER BY account"""
    found = db.execute(statement + (" FOR UPDATE" if lock else ""), (named,))
    return {row[0]: Head(*row) for row in found}


def append(db: Db, number: int, recorded: int, rows: Sequence[Row]) -> None:
    """Write entries, one of an account at most, and move the heads; both locked before."""
    columns = [
        np.array([getattr(row, name) for row in rows], np.int64)
        for name in (
            "account",
            "position",
            "kind",
            "first",
            "last",
            "count",
            "time_min",
            "time_max",
            "events",
            "series",
        )
    ]
    account, position, kind, first, last, count, time_min, time_max, events, series = columns
    links = [row.link for row in rows]
    of_one, owner = shards.only("head.account", account)
    db.execute(
        """INSERT INTO entry (account, number, position, kind, first, last, count, recorded, time_min, time_max, header,
            link)
        SELECT account, %s, position, kind, first, last, count, %s, time_min, time_max, header, link
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::bigint[], %b::bytea[], %b::bytea[])
            w (account, position, kind, first, last, count, time_min, time_max, header, link)""",
        (
            number,
            recorded,
            account,
            position,
            kind,
            first,
            last,
            count,
            time_min,
            time_max,
            [row.header for row in rows],
            links,
        ),
    )
    db.execute(
        f"""UPDATE head SET entries = w.position, events = head.events + w.events, link = w.link,
            recorded = CASE WHEN w.events > 0 THEN %s ELSE head.recorded END,
            sequence = greatest(head.sequence, w.last), series = greatest(head.series, w.series)
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %b::bytea[])
            w (account, position, events, last, series, link)
        WHERE head.account = w.account{of_one}""",
        (recorded, account, position, events, last, series, links, *owner),
    )


def chained(head: Head, header: bytes) -> bytes:
    """Return the link of the entry behind a head."""
    return segment.link(head.link, header)


def append_admission(db: Db, number: int, recorded: int, rows: Sequence[tuple[int, int, int, bytes, bytes]]) -> None:
    """Write entries about holds, (account, position, changes, header, link), and move the heads; both locked before."""
    accounts, positions, counts = (np.array([row[at] for row in rows], np.int64) for at in range(3))
    headers, links = [row[3] for row in rows], [row[4] for row in rows]
    of_one, owner = shards.only("head.account", accounts)
    db.execute(
        """INSERT INTO entry (account, number, position, kind, first, last, count, recorded, time_min, time_max, header,
            link)
        SELECT account, %s, position, %s, 0, 0, count, %s, 0, 0, header, link
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %b::bytea[], %b::bytea[])
            w (account, position, count, header, link)""",
        (number, ADMISSION, recorded, accounts, positions, counts, headers, links),
    )
    db.execute(
        f"""UPDATE head SET entries = w.position, link = w.link
        FROM unnest(%s::bigint[], %s::bigint[], %b::bytea[]) w (account, position, link)
        WHERE head.account = w.account{of_one}""",
        (accounts, positions, links, *owner),
    )


def move_clocks(db: Db, accounts: Sequence[int], now: int) -> None:
    """Note that holds of accounts were looked at as of an instant: nobody goes by an earlier one from now on."""
    which, named = shards.among(accounts)
    db.execute(f"UPDATE head SET clock = greatest(clock, %s) WHERE account {which}", (now, named))


def latest_clock(db: Db, accounts: Sequence[int] | None = None) -> int:
    """Return the latest clock that any commit of some accounts (None = all) has seen."""
    statement = "SELECT coalesce(max(greatest(clock, recorded)), 0) FROM head"
    if accounts is None:
        ((found,),) = db.execute(statement).fetchall()
    else:
        which, named = shards.among(accounts)
        ((found,),) = db.execute(f"{statement} WHERE account {which}", (named,)).fetchall()
    return int(found)
