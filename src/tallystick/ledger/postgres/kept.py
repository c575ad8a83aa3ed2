"""Kept events, found by the places that identities name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tallystick.ledger.packed.segment import Damaged, unpack_events
from tallystick.ledger.postgres import shards
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import EntryHeader, read_header

Place = tuple[int, int, int]
"""An account, the number of one of its entries, and the place by which an identity names an event of it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A kept event: the header of its entry, which event of that it is, and the bytes that were sent."""

    header: EntryHeader
    at: int
    raw: bytes


def find(db: Db, places: Iterable[Place]) -> Mapping[Place, Found]:
    """Read kept events, each frame once; raises Damaged where one is missing."""
    wanted: dict[tuple[int, int], list[int]] = {}
    for account, number, place in set(places):
        wanted.setdefault((account, number), []).append(place)
    if not wanted:
        return {}
    headers = _headers(db, wanted)
    events: dict[tuple[int, int], dict[int, int]] = {}
    for entry, some in wanted.items():
        if entry not in headers:
            raise Damaged(f"entry {entry[1]} of account {entry[0]} is missing")
        ascending = np.array(sorted(some), np.int64)
        events[entry] = dict(zip(headers[entry].at(ascending).tolist(), ascending.tolist(), strict=True))
    found: dict[Place, Found] = {}
    for entry, first, body in _frames(db, events):
        here = sorted(at for at in events[entry] if first <= at < first + _count(headers[entry], first))
        raws = unpack_events(body, [at - first for at in here]).raws
        for at, raw in zip(here, raws, strict=True):
            found[(*entry, events[entry][at])] = Found(headers[entry], at, raw)
    if len(found) != sum(map(len, events.values())):
        raise Damaged("kept events are not in their frames")
    return found


def _headers(db: Db, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], EntryHeader]:
    accounts, numbers = (np.array(column, np.int64) for column in zip(*wanted, strict=True))
    of_one, owner = shards.only("e.account", accounts)
    statement = f"""SELECT e.account, e.number, e.header FROM unnest(%s::bigint[], %s::bigint[]) w (account, number)
        JOIN entry e USING (account, number) WHERE true{of_one}"""
    return {
        (account, number): read_header(header)
        for account, number, header in db.execute(statement, (accounts, numbers, *owner), binary=True)
    }


def _frames(
    db: Db, events: Mapping[tuple[int, int], Mapping[int, int]]
) -> Iterable[tuple[tuple[int, int], int, bytes]]:
    flat = [(account, number, at) for (account, number), some in events.items() for at in some]
    columns = [np.array(column, np.int64) for column in zip(*flat, strict=True)]
    of_one, owner = shards.only("account", columns[0])
    statement = f"""SELECT DISTINCT ON (f.account, f.number, f.place) f.account, f.number, f.place, f.body
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) w (account, number, at)
        CROSS JOIN LATERAL (
            SELECT * FROM frame WHERE account = w.account AND number = w.number AND place <= w.at{of_one}
            ORDER BY place DESC LIMIT 1
        ) f"""
    for account, number, place, body in db.execute(statement, (*columns, *owner), binary=True):
        yield (account, number), place, body


def _count(header: EntryHeader, first: int) -> int:
    firsts = [place for place, _ in header.frames] + [header.count]
    return firsts[firsts.index(first) + 1] - first
