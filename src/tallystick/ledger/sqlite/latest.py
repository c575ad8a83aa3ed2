"""Which of several postings of one instant is the latest: told by source and id, which only their events have."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import msgspec
import numpy as np

from tallystick.ledger.packed.meter_entries import CorrectionHeader
from tallystick.ledger.packed.segment import unpack_columns
from tallystick.ledger.packed.series import Selection
from tallystick.ledger.sqlite.file import CORRECTED, EVENTS, rows
from tallystick.ledger.sqlite.judging import kept_events
from tallystick.ledger.sqlite.tail import Published, source_and_id
from tallystick.rollup import Cells, Ints


def latest(db: apsw.Connection, state: Published, cells: Cells, chosen: Selection) -> list[int]:
    """Return the latest amount of each cell; a cell's key is (bucket, group of `chosen`)."""
    width = max(1, len(chosen.groups))
    amounts: list[int] = cells.latest.tolist()
    for row in np.flatnonzero(cells.at & 1).tolist():
        group = int(cells.key[row]) % width
        amounts[row] = decided(db, state, int(cells.at[row]) >> 1, chosen.series[chosen.group == group])
    return amounts


def decided(db: apsw.Connection, state: Published, time: int, series: Ints) -> int:
    """Return the amount of the posting at an instant whose event is the last by (source, id), then by its account."""
    names = {account.number: account.name for account in state.catalog.accounts.values()}
    found = [each for part in _postings(db, state.entry, time, series) for each in part]
    kept = kept_events(db, np.array([sequence for sequence, _ in found], np.int64))
    named = {
        sequence: (*(part[0] for part in source_and_id([event.raw])), names[event.account])
        for sequence, event in kept.items()
    }
    return max((named[sequence], amount) for sequence, amount in found)[1]


def _postings(db: apsw.Connection, entry: int, time: int, series: Ints) -> Iterator[list[tuple[int, int]]]:
    statement = f"""
        SELECT first, NULL, columns FROM log
        WHERE kind = {EVENTS} AND time_min <= ?1 AND time_max >= ?1 AND entry <= ?2 UNION ALL
        SELECT first, header, columns FROM log
        WHERE kind = {CORRECTED} AND time_min <= ?1 AND time_max >= ?1 AND entry <= ?2"""
    for first, header, body in rows(db, statement, (time, entry)):
        columns = unpack_columns(body)
        at = columns.posting_event
        chosen = (columns.time[at] == time) & np.isin(columns.posting_series, series)
        events = at[chosen]
        if header is None:
            sequences = events + first
        else:
            sequences = msgspec.msgpack.decode(header, type=CorrectionHeader).events()[events]
        yield list(zip(sequences.tolist(), columns.posting_amount[chosen].tolist(), strict=True))
