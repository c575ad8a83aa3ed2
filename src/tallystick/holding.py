"""What a hold takes of limits, and the one decision that admits it: all of it or nothing, over every limit that counts.

Pure: the ledger runs it inside its transaction, with balances that are true then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from tallystick import limits
from tallystick.limits import Balance, Standing, counts
from tallystick.model import Batch, Hold, HoldLine, HoldMode, Limit, Property, Settlement, Verdict


class Outcome(StrEnum):
    """What became of a call about a hold."""

    CREATED = "created"
    DONE = "done"
    DUPLICATE = "duplicate"  # the same was asked for before
    ID_REUSED = "id_reused"  # the id is that of another hold, or it was settled with another event
    REFUSED = "refused"  # it does not fit
    UNKNOWN = "unknown"  # there is no such hold, or no such account
    ENDED = "ended"  # it was settled or released, or has expired
    EVENT_REFUSED = "event_refused"  # the event was not recorded; the hold is as it was
    BUSY = "busy"  # another call about it is being decided; safe to repeat


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What a hold takes, or would take, of a limit; `fits` says whether it can.

    `amount` is at the limit's scale, None where the hold does not tell. `balance` is that after it was taken, or as it
    is where nothing was: true of the instant `at`, which is in `period`.
    """

    limit: Limit
    amount: int | None
    fits: bool
    balance: Balance
    at: int
    period: tuple[int, int]

    @property
    def standing(self) -> Standing:
        """How the limit stands then; worked out by whoever wants to know, and not while others wait for a decision."""
        return limits.standing(self.limit, self.balance, self.at, self.period)


Claimed = tuple[Limit, Balance, tuple[int, int]]
"""A limit that counts for a hold, its balance, and its present period."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A ledger's answer to a call about a hold, at the instant `now` of its decision.

    `claims` are the limits that count for it, by id; a settlement asks for none. `verdict` is that on the event of a
    settlement, None = accepted.
    """

    outcome: Outcome
    now: int
    hold: Hold | None = None
    claims: tuple[Claim, ...] = ()
    verdict: Verdict | None = None

    @property
    def violated(self) -> tuple[Claim, ...]:
        """The limits under which it does not fit."""
        return tuple(claim for claim in self.claims if not claim.fits)


def line_of(limit: Limit, hold: Hold) -> HoldLine | None:
    """Return what a hold sets aside of the meter of a limit, where the limit counts it."""
    meter = limit.meter
    for line in hold.lines:
        if line.meter == meter and counts(limit, meter, line.labels):
            return line
    return None


def concerned(hold: Hold, of_account: Iterable[Limit]) -> list[Limit]:
    """Return those limits of its account that count for a hold, in the order in which they come."""
    return [limit for limit in of_account if line_of(limit, hold) is not None]


def held_of(limit: Limit, hold: Hold) -> int:
    """Return how much of a limit an open hold takes, at the limit's scale."""
    return amount_of(limit, hold, hold.quantity) or 0


def amount_of(limit: Limit, hold: Hold, quantity: int) -> int | None:
    """Return how much of a limit a hold would take if it held `quantity`; None where nobody can tell."""
    line = line_of(limit, hold)
    if line is None:
        return 0
    asked = _asked_of(limit, line)
    if asked is None or quantity == hold.asked or not _goes_along(limit, line):
        return asked
    return _ceiling(asked * quantity, hold.asked)


def admit(hold: Hold, balances: Sequence[Claimed], now: int) -> Answer:
    """Say whether a hold fits under every limit that counts for it, each with its balance and its present period.

    Best effort holds as much as fits, and is refused where that is nothing.
    """
    quantity = hold.asked
    if hold.mode is HoldMode.BEST_EFFORT:
        quantity = min([quantity, *(_most(limit, hold, balance, now) for limit, balance, _ in balances)])
    return grown(hold, max(1, quantity), balances, now)


def grown(hold: Hold, quantity: int, balances: Sequence[Claimed], now: int, was: Hold | None = None) -> Answer:
    """Say whether a hold can hold `quantity`, all or nothing; balances are without what it holds already, as `was`."""
    taken, done = [], True
    for limit, balance, _ in balances:
        amount = amount_of(limit, hold, quantity)
        # Work of which nobody knows how much it is needs something to be left.
        fit = limits.fits(limit, balance, 1 if amount is None else amount, now)
        taken.append((amount, fit))
        done = done and fit
    claims = []
    for (limit, balance, period), (amount, fit) in zip(balances, taken, strict=True):
        more = (amount or 0) if done else 0 if was is None else held_of(limit, was)
        claims.append(Claim(limit, amount, fit, Balance(balance.used, balance.held + more), now, period))
    if not done:
        return Answer(Outcome.REFUSED, now, was, tuple(claims))
    made = hold if hold.quantity == quantity else replace(hold, quantity=quantity)
    return Answer(Outcome.CREATED, now, made, tuple(claims))


def as_it_is(hold: Hold, balances: Sequence[Claimed], now: int) -> tuple[Claim, ...]:
    """Say how the limits of a hold stand, and what it takes of them while it is open."""
    return tuple(
        Claim(limit, amount_of(limit, hold, hold.quantity), True, balance, now, period)
        for limit, balance, period in balances
    )


def amounts_of(batch: Batch) -> dict[str, int]:
    """Return what the one event of a batch adds, by meter."""
    amounts: dict[str, int] = {}
    for at, amount in zip(batch.posting_set.tolist(), batch.posting_amount.tolist(), strict=True):
        meter = batch.label_sets[at].meter
        amounts[meter] = amounts.get(meter, 0) + amount
    return amounts


def settled(hold: Hold, source: str, event: str, amounts: Mapping[str, int], now: int) -> Hold:
    """Return a hold that an event ended; `amounts` are what the event adds, by meter."""
    expired = now >= hold.deadline
    return replace(hold, settlement=Settlement(now, source, event, expired, _is_exceeded(hold, amounts)))


def _is_exceeded(hold: Hold, amounts: Mapping[str, int]) -> bool:
    return any(
        amounts.get(line.meter, 0) > _ceiling(line.quantity * hold.quantity, hold.asked)
        for line in hold.lines
        if line.quantity is not None
    )


def _most(limit: Limit, hold: Hold, balance: Balance, now: int) -> int:
    """Return the largest quantity of a hold that fits under one limit, at most what was asked for."""
    line = line_of(limit, hold)
    asked = None if line is None else _asked_of(limit, line)
    if line is None or not asked or not _goes_along(limit, line) or limits.is_unlimited(limit):
        return hold.asked
    left = max(0, limits.capacity_at(limit, now) - balance.used - balance.held)
    return min(hold.asked, left * hold.asked // asked)


def _asked_of(limit: Limit, line: HoldLine) -> int | None:
    if limit.property is Property.COUNT:
        return line.count
    if line.quantity is None or limit.scale == line.scale:
        return line.quantity
    if limit.scale >= line.scale:
        return line.quantity * int(10 ** (limit.scale - line.scale))
    return _ceiling(line.quantity, int(10 ** (line.scale - limit.scale)))


def _goes_along(limit: Limit, line: HoldLine) -> bool:
    """Say whether what a line takes of a limit grows with the quantity of the hold."""
    return limit.property is Property.QUANTITY or line.is_counted


def _ceiling(a: int, b: int) -> int:
    return -(-a // b)
