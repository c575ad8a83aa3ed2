"""Who goes first when threads want the interpreter: a single event or a hold before bulk.

One interpreter runs one thread at a time, whichever wakes first. Beside bulk that is being read, packed and merged, a
small request would have to win that race at each of its steps; so bulk stops between its pieces while one is under way.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter
from types import TracebackType

GIVE_WAY_S = 0.02
"""How long a piece of bulk waits at most; a small request takes about as long."""
TURN = 0.25
"""How long a thread of bulk then works without waiting, as a share of what it waited: small requests that never cease
slow it to a fifth, and do not stop it.
"""
LONG_TURN_S, SHORT_TURN_S = 0.001, 0.0001
"""How long a thread keeps the interpreter while another wants it: usually, and where a small request would wait."""


class _Thread(threading.local):
    """Whether the thread works on bulk, and until when it does so without waiting."""

    is_bulk = False
    turn_ends = 0.0


class _Count:
    """How many of a kind are at work; `changed` is called when the first begins and when the last ends."""

    def __init__(self, changing: threading.Lock, changed: Callable[[], None]) -> None:
        self._changing = changing
        self._changed = changed
        self.count = 0

    def __enter__(self) -> None:
        with self._changing:
            self.count += 1
            if self.count == 1:
                self._changed()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changing:
            self.count -= 1
            if not self.count:
                self._changed()


class Precedence:
    """Small requests under way, and bulk that waits for them; one for the process, because the interpreter is one.

    Turns with the interpreter are short only while small requests are under way beside what computes for long: handing
    it over takes about as long as a short turn, but a small request would wait for a long one at each of its steps.
    """

    def __init__(self) -> None:
        # One lock for both: how long turns are depends on both.
        changing = threading.Lock()
        self._small = _Count(changing, self._small_changed)
        self._computing = _Count(changing, self._set_turns)
        self._clear = threading.Event()
        self._clear.set()
        self._thread = _Thread()
        self._governs = False

    def govern(self) -> None:
        """Set how long turns are from now on, in a process of its own."""
        self._governs = True
        self._set_turns()

    def small(self) -> AbstractContextManager[None]:
        """Say, with what this returns, that a small request is under way; for any thread, also across the steps of a
        coroutine.
        """
        return self._small

    def computing(self) -> AbstractContextManager[None]:
        """Say likewise that something computes for long."""
        return self._computing

    def _small_changed(self) -> None:
        if self._small.count:
            self._clear.clear()
        else:
            self._clear.set()
        self._set_turns()

    def _set_turns(self) -> None:
        if self._governs:
            sys.setswitchinterval(SHORT_TURN_S if self._small.count and self._computing.count else LONG_TURN_S)

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
