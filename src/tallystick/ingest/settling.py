"""The one event that settles a hold, on the same way as every other: a request's body in, the ledger's answer out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tallystick.errors import Code, Problem
from tallystick.holding import Answer, Outcome
from tallystick.ingest.accept import preparer
from tallystick.ingest.decode import Items, decode
from tallystick.ledger.base import CatalogStale, Ledger
from tallystick.model import Caller, Verdict
from tallystick.precedence import precedence
from tallystick.settings import Settings


class Settling(msgspec.Struct, frozen=True):
    """What became of it: the ledger's answer, whether a meter counts the event, and the event as it was sent."""

    answer: Answer
    is_metered: bool
    raw: bytes


async def settle(
    body: bytes,
    *,
    account: str,
    id: str,
    content_type: str | None,
    headers: Mapping[str, str],
    caller: Caller,
    ledger: Ledger,
    settings: Settings,
    now: int,
) -> Settling:
    """Record the event in a body and free the hold of an account; an event that names no account is that one's.

    Raises Problem for a body that cannot be taken apart or is not one event, and when nothing could be made durable.
    """
    items = decode(body, content_type, headers, batch_events_max=settings.batch_events_max)
    if len(items.raws) != 1:
        raise Problem(Code.BODY_UNDECODABLE, "A hold is settled with exactly one event.")
    # Whoever may settle the hold speaks for its account, and for no other.
    speaker = Caller(caller.key_id, account, caller.scopes)
    if items.bad:
        return Settling(await _refused(ledger, account, id, items.bad[0]), False, items.raws[0])
    with precedence.small():
        answer, is_metered = await _settle(items, account, id, speaker, ledger, settings, now)
    return Settling(answer, is_metered, items.raws[0])


async def _settle(
    items: Items, account: str, id: str, speaker: Caller, ledger: Ledger, settings: Settings, now: int
) -> tuple[Answer, bool]:
    """Prepare the event and hand it to the ledger, again if the meters changed meanwhile."""
    while True:
        prepared = preparer(settings).prepare(
            items.raws, plain=items.plain, caller=speaker, catalog=ledger.catalog, now=now
        )
        if prepared.refused:
            return await _refused(ledger, account, id, prepared.refused[0]), False
        try:
            return await ledger.settle(account, id, prepared.batch), prepared.batch.is_metered(0)
        except CatalogStale:
            continue


async def _refused(ledger: Ledger, account: str, id: str, verdict: Verdict) -> Answer:
    """Answer for an event that never gets as far as the ledger; the hold is as it was, if there is one."""
    hold = await ledger.hold(account, id)
    return Answer(Outcome.UNKNOWN if hold is None else Outcome.EVENT_REFUSED, ledger.now, hold, verdict=verdict)
