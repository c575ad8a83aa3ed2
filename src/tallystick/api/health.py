"""Whether the process lives, and whether it takes requests."""

from __future__ import annotations

from typing import TypedDict

from tallystick.api.description import describe
from tallystick.api.http import Call
from tallystick.errors import Code, Problem
from tallystick.query import Reply


class Health(TypedDict):
    """What the process says of itself."""

    status: str


@describe(replies={200: Health})
async def live(call: Call) -> Reply:
    """Answer as long as the process can answer anything."""
    return Reply(200, b'{"status":"live"}')


@describe(replies={200: Health}, codes=(Code.UNAVAILABLE,))
async def ready(call: Call) -> Reply:
    """Answer 200 while requests are taken, 503 from the moment the process was told to end."""
    if call.app.draining:
        raise Problem(Code.UNAVAILABLE, "The process is ending.", retry_after_s=1)
    return Reply(200, b'{"status":"ready"}')
