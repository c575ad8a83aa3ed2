"""The series of a ledger as rows of its file."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from tallystick.ledger.packed.segment import NewSeries
from tallystick.ledger.packed.series import LabelReader, SeriesIndex


def load(db: apsw.Connection) -> SeriesIndex:
    """Read all series from the file."""
    index, labels_of = SeriesIndex(), LabelReader()
    for number, account, meter, version, labels in db.execute(
        "SELECT number, account, meter, meter_version, labels FROM series ORDER BY number"
    ):
        index.add(NewSeries(number, account, meter, version, labels_of.read(labels)))
    return index


def store(db: apsw.Connection, made: Sequence[NewSeries]) -> None:
    """Write new series, as one statement."""
    rows = [(s.number, s.account, s.meter, s.meter_version, msgspec.json.encode(s.labels).decode()) for s in made]
    db.execute(
        "INSERT INTO series SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?)",
        (msgspec.json.encode(rows).decode(),),
    )
