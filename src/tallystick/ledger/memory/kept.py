"""The list's entries, and what they are to each other: retries, chained, counted once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from tallystick.ledger import verdicts
from tallystick.ledger.memory.counting import NotCounted, posting_of
from tallystick.ledger.memory.documents import Document, alike, content, facts_of, read
from tallystick.ledger.memory.living import change_of
from tallystick.model import VALUE, Catalog, Labels, Meter, Posting, Verdict

Claims = dict[tuple[str, int, str, str, str, str], str]
"""What a meter with `once_per` last counted of a resource, by the meter's name and epoch and the resource."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An event in the list: what was sent, what it added to the meters of its day, and the link to those before."""

    sequence: int
    recorded: int
    received: int
    account: str
    source: str
    id: str
    time: int
    raw: bytes
    postings: tuple[Posting, ...]
    catalog: Catalog
    link: str


@dataclass(frozen=True, slots=True)
class Recount:
    """Meters that counted the events kept before them, as many as `events`, and what each of those added."""

    events: int
    start: int
    catalog: Catalog
    postings: tuple[tuple[int, Posting], ...] = ()


def judge(document: Document, account: str, kept: Kept, catalog: Catalog) -> Verdict:
    """Tell a retry from a reused id: compare an event with the kept one of its identity.

    Whether it is metered is a matter of the meters in force: those of its first sending may be gone.
    """
    if not alike(content(document, account), content(read(kept.raw), kept.account)):
        return verdicts.CONFLICT
    is_change = change_of(document, account, kept.time) is not None
    return verdicts.duplicate(metered=is_change or any(True for _ in additions(kept, catalog, {}, again=True)))


def additions(kept: Kept, catalog: Catalog, claims: Claims, *, again: bool = False) -> Iterator[Posting]:
    """Work out what an event adds to each meter that counts it, less what `once_per` leaves out.

    Of an event that is counted `again` a meter may be unable to take what it says: then it adds nothing to that.
    """
    document = read(kept.raw)
    facts = facts_of(document, kept.account)
    for meter in catalog.meters.values():
        with suppress(*([NotCounted] if again else [])):
            posting = posting_of(document, facts, kept.time, meter, catalog)
            if posting is not None and (posting.once is None or claims.get(claim_of(kept, meter)) != posting.once):
                yield posting


def remember(claims: Claims, kept: Kept, catalog: Catalog, postings: Iterable[Posting]) -> None:
    for posting in postings:
        if posting.once is not None:
            claims[claim_of(kept, catalog.meters[posting.meter])] = posting.once


def claim_of(kept: Kept, meter: Meter) -> tuple[str, int, str, str, str, str]:
    change = change_of(read(kept.raw), kept.account, kept.time)
    assert change is not None, "only resources are counted once"
    return meter.name, meter.epoch, kept.account, change.kind, change.space, change.id


def without_value(labels: Labels) -> Labels:
    return tuple((name, value) for name, value in labels if name != VALUE)


def link_of(before: str, kept: Kept) -> str:
    """Tie an event to everything kept before it."""
    head = f"{before}|{kept.sequence}|{kept.recorded}|{kept.received}|{kept.account}|".encode()
    return hashlib.sha256(head + kept.raw).hexdigest()
