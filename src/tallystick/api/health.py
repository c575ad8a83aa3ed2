"""Whether the process lives, and whether it takes requests."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import msgspec

from tallystick.api.description import describe
from tallystick.api.http import Call
from tallystick.errors import Code, Problem
from tallystick.query import Reply


class Health(TypedDict):
    """What the process says of itself."""

    status: str


class Ready(Health):
    """What the process says of itself where it takes requests.

    The rest is there where it reads a replica and takes no writes: how many seconds that is behind, null where nobody
    knows, and whether the database takes writes by now, so that the process should be started again.
    """

    reads_only: NotRequired[bool]
    lag_s: NotRequired[float | None]
    is_promoted: NotRequired[bool]


@describe(replies={200: Health})
async def live(call: Call) -> Reply:
    """Answer as long as the process can answer anything."""
    return Reply(200, b'{"status":"live"}')


@describe(replies={200: Ready}, codes=(Code.UNAVAILABLE,))
async def ready(call: Call) -> Reply:
    """Answer 200 while requests are taken, 503 from the moment the process was told to end.

    A process that only reads a replica is ready too, and says so, and how far that is behind.
    """
    if call.app.draining:
        raise Problem(Code.UNAVAILABLE, "The process is ending.", retry_after_s=1)
    replica = call.app.ledger.vitals().replica
    if replica is None:
        return Reply(200, b'{"status":"ready"}')
    said: Ready = {
        "status": "ready",
        "reads_only": True,
        "lag_s": replica.lag_s,
        "is_promoted": replica.is_promoted,
    }
    return Reply(200, msgspec.json.encode(said))
