"""Which of several postings of one instant is the latest: told by source and id, which only their events have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from tallystick.ledger.packed.segment import unpack_columns, unpack_frame
from tallystick.ledger.packed.series import Selection
from tallystick.ledger.postgres import shards
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import CORRECTED, EVENTS, read_header, read_recount
from tallystick.ledger.sqlite.tail import source_and_id
from tallystick.model import Catalog
from tallystick.rollup import Cells, Ints

Event = tuple[int, int]
"""An account and the sequence of an event."""


def latest(db: Db, catalog: Catalog, cells: Cells, chosen: Selection) -> list[int]:
    """Return the latest amount of each cell; a cell's key is (bucket, group of `chosen`)."""
    width = max(1, len(chosen.groups))
    amounts: list[int] = cells.latest.tolist()
    for row in np.flatnonzero(cells.at & 1).tolist():
        series = chosen.series[chosen.group == int(cells.key[row]) % width]
        amounts[row] = _decided(db, catalog, int(cells.at[row]) >> 1, series, chosen.accounts)
    return amounts


def _decided(db: Db, catalog: Catalog, time: int, series: Ints, accounts: Ints) -> int:
    """Return the amount of the posting at an instant whose event is the last by (source, id), then by its account."""
    names = {account.number: account.name for account in catalog.accounts.values()}
    found = [*_postings(db, time, series, accounts)]
    identities = _identities(db, {event for event, _ in found})
    return max(((*identities[event], names[event[0]]), amount) for event, amount in found)[1]


def _postings(db: Db, time: int, series: Ints, accounts: Ints) -> Iterator[tuple[Event, int]]:
    which, named = shards.among(accounts)
    statement = f"""SELECT e.account, e.kind, e.header, p.body FROM entry e JOIN posting p USING (account, number)
        WHERE e.account {which} AND e.kind IN ({EVENTS}, {CORRECTED}) AND e.time_min <= %s AND e.time_max >= %s"""
    for account, kind, header, body in db.execute(statement, (named, time, time)).fetchall():
        columns = unpack_columns(body)
        at = columns.posting_event
        chosen = (columns.time[at] == time) & np.isin(columns.posting_series, series)
        is_correction = kind == CORRECTED
        said = read_recount(header).events() if is_correction else None
        sequences = read_header(header).sequence() if said is None else said
        for sequence, amount in zip(
            sequences[at[chosen]].tolist(), columns.posting_amount[chosen].tolist(), strict=True
        ):
            yield (account, sequence), amount


def _identities(db: Db, events: set[Event]) -> Mapping[Event, tuple[str, str]]:
    """Return the sources and ids of events."""
    accounts, sequences = (np.array(column, np.int64) for column in zip(*sorted(events), strict=True))
    of_one, owner = shards.only("e.account", accounts)
    statement = f"""SELECT DISTINCT e.account, e.number, e.header
        FROM unnest(%s::bigint[], %s::bigint[]) w (account, sequence)
        JOIN entry e ON e.account = w.account AND e.kind = {EVENTS} AND e.first <= w.sequence AND e.last >= w.sequence
        {of_one}"""
    found: dict[Event, tuple[str, str]] = {}
    for account, number, packed in db.execute(statement, (accounts, sequences, *owner)).fetchall():
        header = read_header(packed)
        frames = "SELECT body FROM frame WHERE account = %s AND number = %s ORDER BY place"
        raws = [raw for (body,) in db.execute(frames, (account, number)) for raw in unpack_frame(body).raws]
        sources, ids = source_and_id(raws)
        for sequence, source, id in zip(header.sequence().tolist(), sources, ids, strict=True):
            found[account, sequence] = (source, id)
    return found
