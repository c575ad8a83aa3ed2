"""The series of a ledger in its file: those that are new with one entry of the log are one row.

Up to format 6 each was a row of its own, with its labels as JSON, which took the writer half as long as all else that
is done for a new series. What was written so stays, and all of it comes before the rows of parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apsw
import msgspec

from tallystick.ledger.packed import segment
from tallystick.ledger.packed.segment import NewSeries
from tallystick.ledger.packed.series import LabelReader, SeriesIndex
from tallystick.ledger.sqlite.file import rows


class _Kept(msgspec.Struct, array_like=True, gc=False):
    """A series as it is kept: its labels are read if no other has the same."""

    number: int
    account: int
    meter: str
    meter_version: int
    labels: msgspec.Raw


_part = msgspec.msgpack.Decoder(list[_Kept])


def load(db: apsw.Connection) -> SeriesIndex:
    """Read all series from the file; raises Damaged, MsgspecError or ValueError where they are not one."""
    index, labels_of = SeriesIndex(), LabelReader()
    for number, account, meter, version, labels in rows(
        db, "SELECT number, account, meter, meter_version, labels FROM series ORDER BY number"
    ):
        index.add(NewSeries(number, account, meter, version, labels_of.read(labels)))
    for kept in _parts(db):
        labels = labels_of.read_packed(bytes(kept.labels))
        index.add(NewSeries(kept.number, kept.account, kept.meter, kept.meter_version, labels))
    return index


def _parts(db: apsw.Connection) -> Iterator[_Kept]:
    for (body,) in rows(db, "SELECT body FROM series_part ORDER BY first"):
        yield from segment.decoded(_part, segment.unpack(body), "series")


def store(db: apsw.Connection, made: Sequence[NewSeries]) -> None:
    """Write new series, some at least, in the order of their numbers."""
    body = segment.packer().compress(msgspec.msgpack.encode(made))
    db.execute("INSERT INTO series_part VALUES (?, ?)", (made[0].number, body))
