"""Who goes first when threads want the interpreter: a single event or a hold before bulk.

One interpreter runs one thread at a time, whichever wakes first. Beside bulk that is being read, packed and merged, a
small request would have to win that race at each of its steps; so bulk stops between its pieces while one is under way.
"""

from __future__ import annotations

import threading
from time import perf_counter
from types import TracebackType

GIVE_WAY_S = 0.02
"""How long a piece of bulk waits at most; a small request takes about as long."""
TURN = 0.25
"""How long a thread of bulk then works without waiting, as a share of what it waited: small requests that never cease
slow it to a fifth, and do not stop it.
"""


class _Thread(threading.local):
    """Whether the thread works on bulk, and until when it does so without waiting."""

    is_bulk = False
    turn_ends = 0.0


class Precedence:
    """Small requests under way, and bulk that waits for them; one for the process, because the interpreter is one."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._under_way = 0
        self._clear = threading.Event()
        self._clear.set()
        self._thread = _Thread()

    def small(self) -> Precedence:
        """Say, with what this returns, that a small request is under way; for any thread, also across the steps of a
        coroutine.
        """
        return self

    def __enter__(self) -> None:
        with self._changing:
            self._under_way += 1
            if self._under_way == 1:
                self._clear.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changing:
            self._under_way -= 1
            if not self._under_way:
                self._clear.set()

    @property
    def is_claimed(self) -> bool:
        """Say whether a small request is under way."""
        return not self._clear.is_set()

    def join_bulk(self) -> None:
        """Say that the calling thread works on bulk from now on."""
        self._thread.is_bulk = True

    def give_way(self) -> None:
        """In a thread of bulk, wait while small requests are under way, GIVE_WAY_S at most; in others do nothing.

        Called wherever much is done, about once per millisecond of the processor's time, and never while holding a lock
        that small requests need.
        """
        if self._clear.is_set() or not self._thread.is_bulk or (began := perf_counter()) < self._thread.turn_ends:
            return
        self._clear.wait(GIVE_WAY_S)
        ended = perf_counter()
        self._thread.turn_ends = ended + TURN * (ended - began)


precedence = Precedence()
