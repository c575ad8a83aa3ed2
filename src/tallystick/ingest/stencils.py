"""Events known again by their bytes: what is left of one without what varies is its stencil.

A worker's events differ in id, source, time and quantities, and in nothing else. Where those texts stood there are
marks, so stencil and texts together are the event as sent: two events of one stencil differ in these texts alone,
wherever else the same texts may have stood, and so have one shape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Raw

S = TypeVar("S")

BYTES_MAX = 16 * 1024 * 1024
"""How much of stencils is remembered for one kind of caller; past it they are learned anew."""
PIECES_SKIPPED_MAX = 64
MARKS = tuple(bytes([mark]) for mark in range(1, 32) if chr(mark) not in "\t\n\r")
"""Bytes that no JSON text has outside of its white space."""
ID, SOURCE, TIME, *NUMBERS = MARKS


class Stencils(Generic[S]):
    """Shapes by stencil; for a while after most of a piece was not known its events are taken for unique ones.

    For any thread.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, S] = {}
        self._bytes = 0
        self._skip = self._skipped = 0
        self._learning = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def pays(self) -> bool:
        """Say whether to look at the next piece, which is counted."""
        if self._skipped >= self._skip:
            return True
        self._skipped += 1
        return False

    def look_up(self, stencils: Sequence[bytes]) -> list[S | None]:
        """Return what is known of each of a piece's stencils."""
        found = list(map(self._known.get, stencils))
        unknown = found.count(None)
        self._skip = min(2 * self._skip + 1, PIECES_SKIPPED_MAX) if 2 * unknown > len(found) and self._known else 0
        self._skipped = 0
        return found

    def learn(self, stencil: bytes, shape: S) -> None:
        with self._learning:
            if self._bytes >= BYTES_MAX:
                self._known.clear()
                self._bytes = 0
            self._known[stencil] = shape
            self._bytes += len(stencil)


def stencils_of(
    raws: Sequence[bytes], events: Sequence[Any], quantity_of: Iterable[Callable[[Any], Raw]]
) -> list[bytes]:
    """Return the stencil of each event; `events` have their `id`, `source`, `time` and the quantities in `data`."""
    colon = b'": ' if b'": ' in raws[0] else b'":'
    stencils = []
    for raw, event in zip(raws, events, strict=True):
        cut = raw.replace(f'"{event.id}"'.encode(), ID, 1).replace(f'"{event.source}"'.encode(), SOURCE, 1)
        stencils.append(cut.replace(event.time.encode(), TIME, 1) if event.time else cut)
    numbers = (list(map(bytes, map(quantity, [event.data for event in events]))) for quantity in quantity_of)
    for mark, texts in zip(NUMBERS, numbers, strict=False):
        if any(texts):
            stencils = [s.replace(colon + t, mark, 1) if t else s for s, t in zip(stencils, texts, strict=True)]
    return stencils
