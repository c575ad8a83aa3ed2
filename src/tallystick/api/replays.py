"""Meters that are being counted from kept events: how far they are, waiting for them, and nothing told of them yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tallystick.api.http import Call
from tallystick.errors import Code, Problem
from tallystick.model import Meter, Replay

POLL_S = 0.02
RETRY_S = 5

Wanted = Callable[[Replay], bool]


def of_meter(name: str) -> Wanted:
    """Mean the replay that a meter of this name is counted in."""
    return lambda replay: any(meter.name == name for meter in replay.meters)


def of_table(table: str) -> Wanted:
    """Mean the replay with which a rate table comes into force."""
    return lambda replay: replay.rates is not None and replay.rates[0] == table


def progress(call: Call, wanted: Wanted) -> dict[str, int] | None:
    """Say how far a replay is, as the API shows it; None if there is none."""
    for name, replay in call.app.catalog.replays.items():
        if wanted(replay):
            done, events = call.app.ledger.replayed(name) or (0, 0)
            return {"done": done, "of": events}
    return None


def meter_in(call: Call, name: str) -> Meter | None:
    """Return a meter that is being counted, as it will be in force."""
    meters = (meter for replay in call.app.catalog.replays.values() for meter in replay.meters)
    return next((meter for meter in meters if meter.name == name), None)


async def wait(call: Call, wanted: Wanted) -> dict[str, int] | None:
    """Wait a while for a replay; None once it is in force, else how far it is."""
    try:
        async with asyncio.timeout(call.app.settings.replay_wait_s):
            while progress(call, wanted) is not None:
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        pass
    return progress(call, wanted)


def refuse_partial(call: Call, name: str | None) -> None:
    """Raise UNAVAILABLE for a meter that is not in force but is being counted: its numbers are not whole yet."""
    if name is None or name in call.app.catalog.meters or meter_in(call, name) is None:
        return
    far = progress(call, of_meter(name)) or {}
    detail = (
        f"The meter {name} is being counted from kept events, {far.get('done', 0)} of {far.get('of', 0)} so far. "
        "Ask again when it is done: there are no partial numbers."
    )
    raise Problem(Code.UNAVAILABLE, detail, retry_after_s=RETRY_S)
