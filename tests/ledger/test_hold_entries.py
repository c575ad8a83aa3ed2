"""What the log and a row say of a hold is all of it, each thing in its place."""

from __future__ import annotations

import msgspec

from tallystick.ledger.packed.hold_entries import AS_MADE, HoldMade, KeptHold, hold_of, kept, read_hold
from tallystick.model import Hold, HoldLine, HoldMode, Settlement

LABELS = (("operation", "transcribe"),)
HOLD = Hold(
    account="acme",
    id="job-1",
    meter="audio",
    labels=LABELS,
    scale=6,
    asked=7,
    quantity=5,
    count=2,
    ttl=60,
    mode=HoldMode.BEST_EFFORT,
    created=100,
    deadline=160,
    lines=(HoldLine("audio", 6, LABELS, 7, 2), HoldLine("credits", 0, (), None, 3, True)),
    released=150,
    settlement=Settlement(140, "worker", "event-1", expired=True, exceeded=True),
)


def test_the_making_of_a_hold_tells_its_fields_in_their_order() -> None:
    """They are copied by their places."""
    assert Hold.__struct_fields__[1:AS_MADE] == HoldMade.__struct_fields__[1:]
    assert Hold.__struct_fields__[AS_MADE:] == KeptHold.__struct_fields__[1:] == ("released", "settlement")


def test_a_hold_comes_back_from_its_row() -> None:
    """Whatever became of it."""
    for hold in (HOLD, msgspec.structs.replace(HOLD, released=None), msgspec.structs.replace(HOLD, settlement=None)):
        body = msgspec.json.encode(kept(3, hold)).decode()
        assert hold_of(read_hold(body), "acme") == hold
        assert (read_hold(body).made.owner, read_hold(body).made.id) == (3, "job-1")
