"""Single resources, and lists of spaces: what a script looks up beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import msgspec

from tallystick.dialects.hiya.references import (
    Page,
    Reference,
    check_sort,
    duration_of,
    listed,
    owner_of,
    page_of,
    query_of,
    query_of_all,
    reference,
    space_reference,
    text_of,
)
from tallystick.dialects.hiya.refusals import not_found
from tallystick.model import LiveQuery, LiveResource, LiveSpace, ResourceQuery
from tallystick.query import Reply, Request

STATE_ABSENT = {"audio": "available", "verification": "performing"}


class Audio(Reference):
    """An audio; its duration is null until it has its file."""

    state: str
    duration: str | None


class Verification(TypedDict):
    """A verification; its audio is null where that is gone or was never named."""

    handle: str
    alias: str | None
    type: str
    state: str
    model: str | None
    audio: Reference | None
    duration: str | None


@dataclass(frozen=True, slots=True)
class SpacesPlan:
    """Which page of an organisation's spaces."""

    page: Page
    query: LiveQuery


def parse(request: Request, kind: str) -> ResourceQuery:
    """Ask for the audio or verification that the path names; who may read it is settled already."""
    return query_of(request.path["owner"], request.path["space"], kind, request.path[kind])


def audio_query(request: Request, found: Sequence[LiveResource]) -> ResourceQuery:
    """Ask for the audio of a verification, if it has one."""
    parent = text_of(found[0].state, "parent") if found else None
    names = [] if parent is None else [(request.path["space"], "audio", parent)]
    return query_of_all(request.path["owner"], names)


def render_verification(request: Request, found: Sequence[LiveResource], audio: Sequence[LiveResource]) -> Reply:
    """Write a verification; a Problem where there is none of this type."""
    if not found or text_of(found[0].state, "type") != request.path["type"]:
        raise not_found()
    state = found[0].state
    document: Verification = {
        **reference(found[0]),
        "type": state["type"],
        "state": state.get("state", STATE_ABSENT["verification"]),
        "model": text_of(state, "model"),
        "audio": reference(audio[0]) if audio else None,
        "duration": duration_of(state),
    }
    return Reply(200, msgspec.json.encode(document))


def render_audio(found: Sequence[LiveResource]) -> Reply:
    """Write an audio; a Problem where there is none."""
    if not found:
        raise not_found()
    state = found[0].state
    document: Audio = {
        **reference(found[0]),
        "state": state.get("state", STATE_ABSENT["audio"]),
        "duration": duration_of(state),
    }
    return Reply(200, msgspec.json.encode(document))


def parse_spaces(request: Request, account: str) -> SpacesPlan:
    """Read the page and the order."""
    check_sort(request, "handle")
    return SpacesPlan(page_of(request), LiveQuery(account))


def names_on(plan: SpacesPlan, spaces: Sequence[LiveSpace]) -> tuple[ResourceQuery, int]:
    """Ask for the spaces on a page; returned with how many there are in all."""
    names = [space.space for space in spaces if space.space and "space" in space.containers]
    page = names[plan.page.offset : plan.page.offset + plan.page.size]
    return query_of_all(plan.query.account, [(name, "space", name) for name in page]), len(names)


def render_spaces(request: Request, plan: SpacesPlan, found: Sequence[LiveResource], total: int) -> Reply:
    """Write one page of spaces."""
    owner = owner_of(request, plan.query.account)
    return listed([space_reference(space, owner) for space in found], plan.page, total)
