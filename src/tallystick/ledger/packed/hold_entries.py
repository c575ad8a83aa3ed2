"""Entries of the log about holds and crossed thresholds, and what of them is kept in rows: arrays, like the others.

`owner` is the number of the account. What exists now is a fold of the changes; that a hold has expired follows from its
deadline and is no change.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import msgspec
from msgspec.structs import astuple

from tallystick.ledger.packed.segment import decoded
from tallystick.model import Crossing, Hold, HoldLine, HoldMode, Labels, Settlement

Named = tuple[int, str]
"""A hold by the number of its account and its id."""


class HoldMade(msgspec.Struct, frozen=True, tag="hold_made", array_like=True, gc=False):
    """Capacity was set aside."""

    owner: int
    id: str
    meter: str
    labels: Labels
    scale: int
    asked: int
    quantity: int
    count: int
    ttl: int
    mode: HoldMode
    created: int
    deadline: int
    lines: tuple[HoldLine, ...]


class HoldRenewed(msgspec.Struct, frozen=True, tag="hold_renewed", array_like=True, gc=False):
    """A hold got another deadline, and perhaps another quantity."""

    owner: int
    id: str
    deadline: int
    quantity: int


class HoldReleased(msgspec.Struct, frozen=True, tag="hold_released", array_like=True, gc=False):
    """A hold holds nothing any more."""

    owner: int
    id: str
    at: int


class HoldSettled(msgspec.Struct, frozen=True, tag="hold_settled", array_like=True, gc=False):
    """An event that is in the log ended a hold."""

    owner: int
    id: str
    at: int
    source: str
    event: str
    expired: bool
    exceeded: bool


class Crossed(msgspec.Struct, frozen=True, tag="crossed", array_like=True, gc=False):
    """Use reached a threshold of a limit, for the first time in a period."""

    owner: int
    limit: str
    threshold: int
    start: int
    at: int
    used: int
    capacity: int
    scale: int


AS_MADE = len(HoldMade.__struct_fields__)
"""So many fields a hold begins with that its making tells, in this order, but for whose it is."""

HoldChange = HoldMade | HoldRenewed | HoldReleased | HoldSettled
Admitting = HoldChange | Crossed


class AdmissionHeader(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the chain covers of an entry about admission: all of it."""

    entry: int
    recorded: int
    changes: tuple[Admitting, ...]


class KeptHold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A hold as its row has it: as if it had been made with its present deadline and quantity, and how it ended."""

    made: HoldMade
    released: int | None = None
    settlement: Settlement | None = None


def made(owner: int, hold: Hold) -> HoldMade:
    """Return the change that makes a hold."""
    return HoldMade(owner, *astuple(hold)[1:AS_MADE])


def settled(owner: int, hold: Hold, settlement: Settlement) -> HoldSettled:
    """Return the change that settles a hold."""
    return HoldSettled(owner, hold.id, *astuple(settlement))


def crossed(owner: int, crossing: Crossing) -> Crossed:
    """Return the change that notes a crossed threshold."""
    return Crossed(
        owner,
        crossing.limit,
        crossing.threshold,
        crossing.start,
        crossing.at,
        crossing.used,
        crossing.capacity,
        crossing.scale,
    )


def crossing_of(change: Crossed) -> Crossing:
    """Return what a change notes."""
    return Crossing(
        change.limit,
        change.threshold,
        change.start,
        change.at,
        change.used,
        change.capacity,
        change.scale,
    )


def kept(owner: int, hold: Hold) -> KeptHold:
    """Return a hold as its row is to have it."""
    return KeptHold(made(owner, hold), hold.released, hold.settlement)


def hold_of(row: KeptHold, account: str) -> Hold:
    """Return the hold of a row."""
    return Hold(account, *(*astuple(row.made)[1:], row.released, row.settlement))


def named(change: HoldChange) -> Named:
    """Return which hold a change is about."""
    return change.owner, change.id


def fold(rows: MutableMapping[Named, KeptHold], change: HoldChange) -> None:
    """Change the rows as an entry of the log says; KeyError where it is about a hold that was never made."""
    name = named(change)
    match change:
        case HoldMade():
            rows[name] = KeptHold(change)
        case HoldRenewed():
            origin = msgspec.structs.replace(rows[name].made, deadline=change.deadline, quantity=change.quantity)
            rows[name] = msgspec.structs.replace(rows[name], made=origin)
        case HoldReleased():
            rows[name] = msgspec.structs.replace(rows[name], released=change.at)
        case HoldSettled():
            settlement = Settlement(change.at, change.source, change.event, change.expired, change.exceeded)
            rows[name] = msgspec.structs.replace(rows[name], settlement=settlement)


_hold = msgspec.json.Decoder(KeptHold)
_crossed = msgspec.json.Decoder(Crossed)


def read_hold(body: str) -> KeptHold:
    """Read a hold as it is kept; raises Damaged when it is none."""
    return decoded(_hold, body, "a hold cannot be read")


def read_crossed(body: str) -> Crossed:
    """Read a crossed threshold as it is kept; raises Damaged when it is none."""
    return decoded(_crossed, body, "a crossed threshold cannot be read")
