"""Is a recorded history of holds linearizable? The search of Wing and Gong, with Lowe's memory of what was seen.

A history is linearizable if its calls can be put in one order, each at some instant between its invocation and its
return, in which a limit that knows nothing of concurrency would have answered the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STEPS_MAX = 500_000


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it was made and answered (on one counter), what was asked, and what was told."""

    begun: int
    ended: int
    verb: str  # reserve, settle, release
    hold: str
    amount: int
    told: tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as it would be alone: its capacity, what is used, what is held, and what ended how."""

    capacity: int
    used: int = 0
    held: frozenset[tuple[str, int]] = frozenset()
    ended: frozenset[tuple[str, str]] = frozenset()

    @property
    def remaining(self) -> int:
        return max(0, self.capacity - self.used - sum(amount for _, amount in self.held))

    def after(self, call: Call) -> tuple[Limit, tuple[str, int | None]]:
        """Return the limit after a call, and what the call is told."""
        holds, ended = dict(self.held), dict(self.ended)
        if call.verb == "reserve":
            return self._reserved(call, holds, ended)
        if call.hold in ended:
            is_same = ended[call.hold] == f"{call.verb} {call.amount}" or call.verb == ended[call.hold] == "release"
            return self, ("duplicate" if is_same else "other", None)
        if call.hold not in holds:
            return self, ("unknown", None)
        freed = frozenset(self.held - {(call.hold, holds[call.hold])})
        how = "release" if call.verb == "release" else f"settle {call.amount}"
        used = self.used + (call.amount if call.verb == "settle" else 0)
        return Limit(self.capacity, used, freed, self.ended | {(call.hold, how)}), ("done", None)

    def _reserved(
        self, call: Call, holds: dict[str, int], ended: dict[str, str]
    ) -> tuple[Limit, tuple[str, int | None]]:
        if call.hold in holds or call.hold in ended:
            return self, ("duplicate", None)
        if call.amount > self.remaining:
            return self, ("refused", self.remaining)
        after = Limit(self.capacity, self.used, self.held | {(call.hold, call.amount)}, self.ended)
        return after, ("created", after.remaining)


class TooHard(Exception):
    """The search was given up; say less in one history."""


def is_linearizable(history: Sequence[Call], start: Limit) -> bool:
    """Say whether there is such an order."""
    seen: set[tuple[frozenset[int], Limit]] = set()
    stack: list[tuple[frozenset[int], Limit]] = [(frozenset(range(len(history))), start)]
    for _ in range(STEPS_MAX):
        if not stack:
            return False
        left, state = stack.pop()
        if not left:
            return True
        if (left, state) in seen:
            continue
        seen.add((left, state))
        for at in _first(history, left):
            after, told = state.after(history[at])
            if told == history[at].told:
                stack.append((left - {at}, after))
    raise TooHard(f"{len(history)} calls")


def _first(history: Sequence[Call], left: Iterable[int]) -> list[int]:
    """Return the calls of which none that is left had been answered before they were made."""
    earliest = min(history[at].ended for at in left)
    return [at for at in left if history[at].begun <= earliest]
