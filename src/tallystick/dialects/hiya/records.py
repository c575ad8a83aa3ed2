"""Usage records: every verification performed and voiceprint computed, whatever was deleted since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict, cast
from uuid import UUID, uuid5

from tallystick import windows
from tallystick.dialects.hiya.references import (
    Owner,
    Page,
    Reference,
    SpaceReference,
    check_sort,
    listed,
    owner_of,
    page_of,
    query_of_all,
    reference,
    space_reference,
    text_of,
)
from tallystick.dialects.hiya.refusals import not_found
from tallystick.model import LiveResource, Record, RecordPage, RecordQuery, ResourceQuery
from tallystick.query import Reply, Request, invalid
from tallystick.windows import SECOND

NAMESPACE = UUID("451d3921-07e9-559c-a4c6-e25074775974")
"""In which records have their ids: the UUIDv5 of `urn:tallystick:record` in the namespace of URLs. Never changes."""

METERS = {"verification": "verifications", "voiceprint": "voiceprints"}
INSTANTS = {"verification": "performedAt", "voiceprint": "computedAt"}
"""By the kind of record: the meter that counted it, and the member that says when."""

Name = tuple[str, str, str]


class Referred(Reference):
    """A verification, with its type, or a voiceprint."""

    type: NotRequired[str | None]


class UsageRecord(TypedDict):
    """A verification that was performed or a voiceprint that was computed; references to what is gone are null."""

    id: str
    handle: str
    actor: Reference | None
    type: NotRequired[str | None]
    model: str | None
    verification: NotRequired[Referred | None]
    voiceprint: NotRequired[Referred | None]
    space: SpaceReference | None
    owner: Owner
    performedAt: NotRequired[str]
    computedAt: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked: the kind of record, the page, and the question to the ledger."""

    kind: str
    page: Page
    query: RecordQuery


def parse(request: Request, account: str) -> Plan:
    """Read the page, the order and both instants, which are in; a Problem where one is none, or the kind is."""
    kind = request.path["kind"]
    if kind not in METERS:
        raise not_found()
    check_sort(request, INSTANTS[kind])
    after, before = _instant(request, "after"), _instant(request, "before")
    if after is not None and before is not None and after > before:
        raise invalid("after", "after must not be later than before.")
    page = page_of(request)
    start = windows.INSTANT_MIN if after is None else after
    end = windows.INSTANT_MAX if before is None else before + 1
    return Plan(kind, page, RecordQuery(account, METERS[kind], start, end, page.offset, page.size))


def references(plan: Plan, page: RecordPage) -> ResourceQuery:
    """Ask what there still is of what the records are about: each resource once, and each space."""
    things = dict.fromkeys((record.space, record.kind, record.id) for record in page.records)
    spaces = dict.fromkeys((record.space, "space", record.space) for record in page.records if record.space)
    return query_of_all(plan.query.account, [*things, *spaces])


def render(request: Request, plan: Plan, page: RecordPage, found: Sequence[LiveResource]) -> Reply:
    """Write one page of records."""
    live = {(resource.space, resource.kind, resource.id): resource for resource in found}
    owner = owner_of(request, plan.query.account)
    return listed([_shown(plan.kind, record, live, owner) for record in page.records], plan.page, page.total)


def _shown(kind: str, record: Record, live: Mapping[Name, LiveResource], owner: Owner) -> UsageRecord:
    id = record_id(owner["handle"], record.source, record.event)
    actor = text_of(record.state, "actor")
    thing = live.get((record.space, record.kind, record.id))
    space = live.get((record.space, "space", record.space))
    has_type = kind == "verification"
    # Which members a record has goes by its kind.
    shown = {
        "id": str(id),
        "handle": f"record-{id.hex[:12]}",
        "actor": None if actor is None else {"handle": actor, "alias": None},
        **({"type": text_of(record.state, "type")} if has_type else {}),
        "model": text_of(record.state, "model"),
        kind: None if thing is None else _reference(thing, has_type=has_type),
        "space": None if space is None else space_reference(space, owner),
        "owner": owner,
        INSTANTS[kind]: _instant_text(record.time),
    }
    return cast(UsageRecord, shown)


def _reference(thing: LiveResource, *, has_type: bool) -> Referred:
    handle = reference(thing)
    referred: Referred = {"handle": handle["handle"], "alias": handle["alias"]}
    if has_type:
        referred["type"] = text_of(thing.state, "type")
    return referred


def record_id(account: str, source: str, event: str) -> UUID:
    """Return the id of the record of an event: made of its identity, so that it never changes."""
    # No part of an identity has a line break in it.
    return uuid5(NAMESPACE, f"{account}\n{source}\n{event}")


def _instant(request: Request, parameter: str) -> int | None:
    text = request.value(parameter)
    if text is None:
        return None
    try:
        return windows.parse_instant(text)
    except ValueError:
        raise invalid(parameter, f"{parameter} must be an instant such as 2026-01-01T00:00:00Z.") from None


def _instant_text(instant: int) -> str:
    """Write an instant with six digits of fraction, always."""
    whole, fraction = divmod(instant, SECOND)
    return f"{windows.format_instant(whole * SECOND).removesuffix('Z')}.{fraction:06}Z"
