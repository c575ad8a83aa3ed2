"""The last receipts of events that were not accepted, for whoever sent them: in memory, within bounds.

A receipt belongs to the account of the key that sent the event, never to one that the event names: whoever is refused
learns nothing of others by it, and nobody else learns of it. Of the event only what names it is kept.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge
from operator import attrgetter

from tallystick.envelope import UNSAFE, Names
from tallystick.model import Account, Verdict

LETTERS_MAX = 512
"""What is kept of a text: the id of an event that is refused may be as long as a request."""
ENTRY_BYTES = 400
"""About what a receipt takes besides its texts."""

Owner = int | None
"""The number of an account, which is never given to another of the same name; None is the operator."""


@dataclass(frozen=True, slots=True)
class Given:
    """A receipt that was given. `place` ascends with every one; `account` is the sender's, None the operator."""

    place: int
    received: int
    account: str | None
    names: Names
    verdict: Verdict

    @property
    def bytes(self) -> int:
        """About how much memory it takes."""
        names, verdict = self.names, self.verdict
        texts = (names.id or "", names.source or "", names.type or "", verdict.pointer, verdict.detail)
        return ENTRY_BYTES + sum(map(sys.getsizeof, texts))


@dataclass(slots=True)
class LastReceipts:
    """Keeps the last `each_max` receipts of every sender, and of all together about `bytes_max` bytes.

    Where that is too much, the oldest go of the sender who was given none for longest: a flood pushes out no more
    than its own bound. `place` is that of the last one; a process that begins with the time meets no place of the one
    before it.
    """

    each_max: int
    bytes_max: int
    place: int = 0
    bytes: int = 0
    _of: OrderedDict[Owner, deque[Given]] = field(default_factory=OrderedDict)

    def note(self, sender: Account | None, received: int, events: Sequence[tuple[Names, Verdict]]) -> None:
        """Keep the receipts that a sender was given, None the operator; of many only the last."""
        kept_events = events[max(len(events) - self.each_max, 0) :]
        if not kept_events:
            return
        owner, account = (None, None) if sender is None else (sender.number, sender.name)
        kept = self._of.setdefault(owner, deque())
        self._of.move_to_end(owner)
        for names, verdict in kept_events:
            self.place += 1
            kept.append(Given(self.place, received, account, _clean_names(names), _clean_verdict(verdict)))
            self.bytes += kept[-1].bytes
        for _ in range(len(kept) - self.each_max):
            self.bytes -= kept.popleft().bytes
        self._shrink()

    def newest(self, owners: Collection[Owner] | None, behind: int | None = None) -> Iterator[Given]:
        """Yield the receipts of these senders (None = of all), newest first, from behind the place of one of them."""
        chosen = self._of.values() if owners is None else (self._of.get(owner, ()) for owner in owners)
        found = merge(*map(reversed, chosen), key=attrgetter("place"), reverse=True)
        return (given for given in found if behind is None or given.place < behind)

    def _shrink(self) -> None:
        while self.bytes > self.bytes_max:
            owner, kept = next(iter(self._of.items()))
            self.bytes -= kept.popleft().bytes
            if not kept:
                del self._of[owner]


def _clean_names(names: Names) -> Names:
    return Names(_clean(names.id), _clean(names.source), _clean(names.type))


def _clean_verdict(verdict: Verdict) -> Verdict:
    if _is_clean(verdict.pointer) and _is_clean(verdict.detail):
        return verdict
    return replace(verdict, pointer=_clean(verdict.pointer) or "", detail=_clean(verdict.detail) or "")


def _clean(text: str | None) -> str | None:
    """Cut a text that nobody has checked to what is shown of it, without what would change how others look."""
    return text if text is None or _is_clean(text) else UNSAFE.sub("\ufffd", text[:LETTERS_MAX])


def _is_clean(text: str) -> bool:
    return len(text) <= LETTERS_MAX and text.isascii() and text.isprintable()
