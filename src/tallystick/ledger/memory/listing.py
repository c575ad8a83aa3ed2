"""Kept events one by one, each with what it fed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from tallystick.ledger.memory.answers import Counted
from tallystick.ledger.memory.documents import read, space_of
from tallystick.ledger.memory.kept import Kept
from tallystick.model import AsOf, EventPage, EventQuery, EventRow, Posting


def page(query: EventQuery, events: Sequence[Kept], counted: Counted, as_of: AsOf) -> EventPage:
    """Return the events that a listing asks for, and the question that goes on behind them.

    `counted` is all that meters in force have counted, of events when they came or again.
    """
    fed: defaultdict[int, list[Posting]] = defaultdict(list)
    for kept, posting in counted:
        fed[kept.sequence].append(replace(posting, once=None))
    through = len(events) if query.through is None else min(query.through, len(events))
    found = [event_row(kept, fed[kept.sequence]) for kept in events[query.after : through] if is_wanted(kept, query)]
    rows = found if query.oldest_first else found[::-1]
    following = None
    if len(rows) > query.limit:
        last = rows[query.limit - 1].sequence
        after, through = (last, through) if query.oldest_first else (query.after, last - 1)
        following = replace(query, after=after, through=through)
    return EventPage(rows[: query.limit], as_of, following)


def is_wanted(kept: Kept, query: EventQuery) -> bool:
    """Say whether an event has everything that a listing asks for."""
    document = read(kept.raw)
    return (
        (query.accounts is None or kept.account in query.accounts)
        and (query.start is None or kept.time >= query.start)
        and (query.end is None or kept.time < query.end)
        and query.space in (None, space_of(document, kept.account))
        and query.subject in (None, document.get("subject"))
        and query.type in (None, document["type"])
        and query.id in (None, document["id"])
    )


def event_row(kept: Kept, fed: Sequence[Posting]) -> EventRow:
    """Show an event with what it fed; one about a resource feeds that."""
    document = read(kept.raw)
    metered = bool(kept.postings) or document["type"] in ("resource.upserted", "resource.deleted")
    space = space_of(document, kept.account)
    postings = tuple(sorted(fed, key=lambda posting: (posting.meter, posting.labels)))
    return EventRow(kept.sequence, kept.recorded, kept.account, space, kept.time, kept.raw, metered, postings)
