"""Kept events read by two threads, where they are many: reading and decompressing let go of the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import apsw
import numpy as np

from tallystick.ledger.sqlite.judging import Kept, kept_events
from tallystick.precedence import precedence
from tallystick.rollup import Ints

MANY = 1_000
"""Events from which on a second thread reads half of them."""


class SecondReader:
    """A thread with a connection of its own, which helps one other; it begins when it is needed for the first time."""

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._db: apsw.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "tallystick-second-reader", precedence.join_bulk)

    def kept_events(self, db: apsw.Connection, sequences: Ints) -> dict[int, Kept]:
        """Read kept events by sequence, half of many of them beside; raises what `judging.kept_events` raises."""
        if len(sequences) < MANY:
            return kept_events(db, sequences)
        wanted = np.unique(sequences)
        half = len(wanted) // 2
        others = self._thread.submit(self._read, wanted[half:])
        kept = kept_events(db, wanted[:half])
        kept.update(others.result())
        return kept

    def close(self) -> None:
        """End the thread and close its connection, if it was needed."""
        self._thread.shutdown()
        if self._db is not None:
            self._db.close()

    def _read(self, sequences: Ints) -> dict[int, Kept]:
        self._db = self._db or self._connect()
        return kept_events(self._db, sequences)
