"""The events that a transaction keeps, account by account: packed before anything is locked, placed at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from tallystick.ledger.packed import segment
from tallystick.ledger.packed.segment import Columns, Frame, NewSeries
from tallystick.ledger.postgres import log
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import EVENTS, EntryHeader, Head, Row
from tallystick.ledger.sqlite.job import Job
from tallystick.rollup import Ints

FRAME_PACKED_BYTES = 1_950
"""Rows of more than 2,032 bytes have what is large in them moved elsewhere (TOAST), at a price for each."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one account gets. `offsets` are its events' places among all that the transaction keeps."""

    account: int
    offsets: Ints
    places: Ints
    time_min: int
    time_max: int
    frames: Sequence[Frame]
    columns: bytes
    digest: bytes

    def placed(
        self, head: Head, number: int, first: int, recorded: int, catalog_version: int, made: tuple[NewSeries, ...]
    ) -> Row:
        """Return its entry behind a head; `first` is the sequence of the transaction's first event."""
        count = len(self.offsets)
        begins, ends = first + int(self.offsets[0]), first + int(self.offsets[-1])
        is_whole = ends - begins == count - 1
        as_they_are = int(self.places[-1]) == count - 1
        starts = np.cumsum([0, *(frame.count for frame in self.frames[:-1])]).tolist()
        header = EntryHeader(
            account=self.account,
            position=head.entries + 1,
            number=number,
            count=count,
            recorded=recorded,
            catalog_version=catalog_version,
            time_min=self.time_min,
            time_max=self.time_max,
            first=begins,
            sequences=b"" if is_whole else _steps(self.offsets),
            places=b"" if as_they_are else self.places.astype("<i4").tobytes(),
            frames=tuple((start, frame.digest) for start, frame in zip(starts, self.frames, strict=True)),
            columns=self.digest,
            series=made,
        )
        packed = msgspec.msgpack.encode(header)
        return Row(
            account=self.account,
            position=header.position,
            kind=EVENTS,
            first=begins,
            last=ends,
            count=count,
            time_min=self.time_min,
            time_max=self.time_max,
            header=packed,
            link=log.chained(head, packed),
            events=count,
            series=max((new.number for new in made), default=0),
        )


def _steps(ascending: Ints) -> bytes:
    """Return numbers as differences to the one before, of the first one to itself."""
    steps = np.zeros(len(ascending), "<i8")
    np.subtract(ascending[1:], ascending[:-1], out=steps[1:])
    return steps.tobytes()


def pack(jobs: Sequence[Job], places: Ints) -> list[Part]:
    """Pack the events that are left of jobs, whose series all have numbers; `places` are theirs in their identities."""
    account = np.concatenate([job.account for job in jobs])
    order = np.argsort(account, kind="stable")
    moved = np.empty(len(order), np.int64)
    moved[order] = np.arange(len(order))
    raws = [raw for job in jobs for raw in job.raws]
    time, timed = (np.concatenate([column[job.rows] for job, column in _of(jobs, name)])[order] for name in _TIMES)
    event, series, amount = _postings(jobs, moved)
    account, places = account[order], places[order]
    cuts = np.flatnonzero(np.diff(account, prepend=np.uint32(0), append=np.uint32(0)))
    posted = np.searchsorted(event, cuts).tolist()
    parts = []
    for at, (a, b) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)):
        some = slice(posted[at], posted[at + 1])
        digest, columns = segment.pack_columns(
            Columns(time[a:b], timed[a:b], event[some] - a, series[some], amount[some])
        )
        parts.append(
            Part(
                int(account[a]),
                order[a:b],
                places[a:b],
                int(time[a:b].min()),
                int(time[a:b].max()),
                segment.pack_frames([raws[place] for place in order[a:b].tolist()], account[a:b], FRAME_PACKED_BYTES),
                columns,
                digest,
            )
        )
    return parts


_TIMES = ("time", "timed")


def _of(jobs: Sequence[Job], name: str) -> list[tuple[Job, NDArray[np.int64]]]:
    return [(job, getattr(job.batch, name)) for job in jobs]


def _postings(jobs: Sequence[Job], moved: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the postings of jobs, in the order of events that `moved` tells."""
    offsets = np.cumsum([0, *(len(job.rows) for job in jobs)])
    event = moved[np.concatenate([job.posting_event + offset for job, offset in zip(jobs, offsets, strict=False)])]
    tables = [job.numbering.table for job in jobs if job.numbering is not None]
    series = np.concatenate([table[job.posting_set] for job, table in zip(jobs, tables, strict=True)])
    amount = np.concatenate([job.posting_amount for job in jobs])
    order = np.argsort(event, kind="stable")
    return event[order], series[order], amount[order]


def store(db: Db, parts: Sequence[Part], number: int) -> None:
    """Write the frames and postings of parts; nobody finds them before their entries are there."""
    accounts: list[int] = []
    places: list[int] = []
    bodies: list[bytes] = []
    for part in parts:
        at = 0
        for frame in part.frames:
            accounts.append(part.account)
            places.append(at)
            bodies.append(frame.body)
            at += frame.count
    db.execute(
        """INSERT INTO frame SELECT account, %s, place, body
        FROM unnest(%s::bigint[], %s::bigint[], %b::bytea[]) w (account, place, body)""",
        (number, np.array(accounts, np.int64), np.array(places, np.int64), bodies),
    )
    db.execute(
        """INSERT INTO posting SELECT account, %s, body FROM unnest(%s::bigint[], %b::bytea[]) w (account, body)""",
        (number, np.array([part.account for part in parts], np.int64), [part.columns for part in parts]),
    )
