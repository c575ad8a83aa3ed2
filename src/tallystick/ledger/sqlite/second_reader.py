"""Kept events read by two threads, where they are many: reading and decompressing let go of the interpreter."""

from __future__ import annotations

import threading
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
        self._own = threading.local()
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
        """End the thread, and its connection with it."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    def _read(self, sequences: Ints) -> dict[int, Kept]:
        if not hasattr(self._own, "db"):
            self._own.db = self._connect()
        return kept_events(self._own.db, sequences)

    def _disconnect(self) -> None:
        if hasattr(self._own, "db"):
            self._own.db.close()
