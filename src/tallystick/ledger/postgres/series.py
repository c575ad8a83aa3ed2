"""The series of the database as far as this process has met them: read per account, up to the number its head names."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from tallystick.ledger.packed.segment import NewSeries
from tallystick.ledger.packed.series import Key, LabelReader, SeriesIndex
from tallystick.ledger.postgres import shards
from tallystick.ledger.postgres.locks import Db
from tallystick.rollup import Ints

DIGEST_BYTES = 16


class SeriesCache(SeriesIndex):
    """An index of series whose numbers leave gaps; written by any thread, one at a time.

    The numbers of an account ascend in the order in which they become visible, so what is known of it is always a
    beginning of what there is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changing = threading.Lock()
        self._through: dict[int, int] = {}
        self._described: dict[int, Key] = {}

    def __len__(self) -> int:
        return len(self._described)

    def add(self, new: NewSeries) -> None:
        self.learn([new])

    def describe(self, number: int) -> Key:
        return self._described[number]

    def numbers_of(self, account: int) -> list[int]:
        """Return the numbers of an account's series that are known."""
        return [number for number, key in self._described.items() if key[0] == account]

    def learn(self, some: Iterable[NewSeries]) -> None:
        """Take series in, those of an account ascending; what is known already is passed by."""
        with self._changing:
            for new in some:
                if new.number > self._through.get(new.account, 0):
                    self._file(new)
                    self._described[new.number] = (new.account, new.meter, new.meter_version, new.labels)
                    self._through[new.account] = new.number

    def refresh(self, db: Db, lasts: Mapping[int, int]) -> None:
        """Read what is not known yet of accounts, given the number of the last series of each."""
        behind = {account: self._through.get(account, 0) for account in lasts}
        behind = {account: known for account, known in behind.items() if known < lasts[account]}
        if behind:
            of_one, owner = shards.only("s.account", [*behind])
            statement = f"""SELECT s.account, s.number, s.meter, s.meter_version, s.labels
                FROM unnest(%s::bigint[], %s::bigint[]) w (account, known)
                JOIN series s ON s.account = w.account AND s.number > w.known{of_one} ORDER BY s.account, s.number"""
            labels_of = LabelReader()
            self.learn(
                NewSeries(number, account, meter, version, labels_of.read(labels))
                for account, number, meter, version, labels in db.execute(
                    statement, ([*behind], [*behind.values()], *owner)
                )
            )


def numbered(db: Db, cache: SeriesCache, keys: Sequence[Key]) -> tuple[Ints, list[NewSeries]]:
    """Return the numbers of series, and those that were given just now and are written; the heads are locked."""
    known = [cache.find(key) for key in keys]
    unknown = list(dict.fromkeys(key for key, number in zip(keys, known, strict=True) if not number))
    if not unknown:
        return np.array(known, np.int64), []
    given = db.execute("SELECT nextval('series_number') FROM generate_series(1, %s)", (len(unknown),)).fetchall()
    made = [NewSeries(number, *key) for key, (number,) in zip(unknown, given, strict=True)]
    _store(db, made)
    numbers = {key: new.number for key, new in zip(unknown, made, strict=True)}
    return np.array([n or numbers[key] for key, n in zip(keys, known, strict=True)], np.int64), made


def _store(db: Db, made: Sequence[NewSeries]) -> None:
    """Write new series, as one statement; the heads of their accounts are locked."""
    labels = [msgspec.json.encode(new.labels).decode() for new in made]
    digests = [
        hashlib.blake2b(f"{new.meter}\0{new.meter_version}\0{text}".encode(), digest_size=DIGEST_BYTES).digest()
        for new, text in zip(made, labels, strict=True)
    ]
    db.execute(
        """INSERT INTO series (account, number, digest, meter, meter_version, labels)
        SELECT * FROM unnest(%s::bigint[], %s::bigint[], %b::bytea[], %s::text[], %s::bigint[], %s::text[])""",
        (
            np.array([new.account for new in made], np.int64),
            np.array([new.number for new in made], np.int64),
            digests,
            [new.meter for new in made],
            np.array([new.meter_version for new in made], np.int64),
            labels,
        ),
    )
