"""What exists, by definition: all that was ever said of every resource, looked through anew for each answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from tallystick.ledger.memory.counting import number, rounded
from tallystick.ledger.memory.documents import Document, data_of, month_of, space_of
from tallystick.model import Change, Counts, LiveQuery, LiveResource, LiveSpace, ResourceQuery, Rounding

UPSERTED, DELETED = "resource.upserted", "resource.deleted"
CONTAINERS = ("space", "dataset")
TEXTS = ("status", "state", "url", "parent", "type", "actor", "model")
MICROSECONDS = Rounding("0.000001", "half_up")

Name = tuple[str, str, str]
"""The space, kind and id of a resource; a space or dataset is in itself."""


def change_of(document: Document, account: str, time: int) -> Change | None:
    """Return what an event says of a resource; None if it is about none."""
    if document["type"] not in (UPSERTED, DELETED):
        return None
    data, space = data_of(document), space_of(document, account) or ""
    kind, id = data["kind"], data.get("id", space)
    state = state_of(data) if document["type"] == UPSERTED else None
    return Change(kind, id if kind in CONTAINERS else space, id, time, document["source"], document["id"], state)


def state_of(data: Document) -> Mapping[str, Any]:
    state = {name: data[name] for name in (*TEXTS, "attributes") if name in data}
    if "duration" not in data:
        return state
    exact: Fraction = rounded(number(data["duration"], True), MICROSECONDS) * 10**6
    return {**state, "duration": exact.numerator}


def name_of(change: Change) -> Name:
    return change.space, change.kind, change.id


def live_spaces(changes: Sequence[Change], query: LiveQuery) -> list[LiveSpace]:
    """Return the spaces that were ever made or deleted; what is in none is told only while there is any."""
    names = sorted({change.space for change in changes if change.state is not None or change.kind in CONTAINERS})
    spaces = [live_space(changes, name) for name in names if query.space in (None, name)]
    return [space for space in spaces if space.space or space.live]


def live_space(changes: Sequence[Change], space: str) -> LiveSpace:
    """Return what there is of one space, and what there was when it was deleted for the last time."""
    deletions = deletions_of(changes)
    closes, made = closes_of(deletions, space), made_of(changes, space)
    states = [latest for latest in latest_of(changes) if latest.space == space]
    return LiveSpace(
        space,
        frozenset(container for container, times in made.items() if is_open(max(times), closes)),
        latest_of_month(closes),
        {container: latest_of_month(times) for container, times in made.items()},
        counts_of([latest for latest in states if exists(deletions, latest)]),
        counts_of([latest for latest in states if closes and was_there(deletions, latest, closes)]),
    )


def latest_of_month(times: Sequence[int]) -> dict[int, int]:
    """Return the last of the instants in each month that has one, by its number in windows.month_of."""
    return {year * 12 + month - 1: time for time in sorted(times) for year, month in [month_of(time)]}


def live_resources(changes: Sequence[Change], query: ResourceQuery) -> list[LiveResource]:
    """Return the resources that exist, in order, spaces and datasets among them."""
    found = sorted([*contents(changes), *containers(changes)], key=lambda resource: place_of(resource))
    wanted = [
        resource
        for resource in found
        if query.space in (None, resource.space)
        and query.kind in (None, resource.kind)
        and query.id in (None, resource.id)
        and (query.after is None or place_of(resource) > query.after)
        and (query.names is None or place_of(resource) in query.names)
    ]
    return wanted[: query.limit]


def place_of(resource: LiveResource) -> Name:
    return resource.space, resource.kind, resource.id


def contents(changes: Sequence[Change]) -> Iterator[LiveResource]:
    deletions = deletions_of(changes)
    for latest in latest_of(changes):
        if latest.kind not in CONTAINERS and latest.state is not None and exists(deletions, latest):
            yield LiveResource(*name_of(latest), latest.time, latest.state)


def containers(changes: Sequence[Change]) -> Iterator[LiveResource]:
    """Return the spaces and datasets: as they were upserted, or without a state where only their contents were."""
    own = {name_of(latest): latest for latest in latest_of(changes)}
    deletions = deletions_of(changes)
    for space in {change.space for change in changes}:
        closes = closes_of(deletions, space)
        for container, times in made_of(changes, space).items():
            said = own.get((space, container, space))
            if said is not None and said.state is not None and is_open(said.time, closes):
                yield LiveResource(space, container, space, said.time, said.state)
            elif is_open(max(times), closes):
                yield LiveResource(space, container, space, max(times), {})


def latest_of(changes: Sequence[Change]) -> list[Change]:
    """Return the upsert of each resource that counts: the latest by time, source and event."""
    latest: dict[Name, Change] = {}
    for change in sorted(changes, key=lambda change: (change.time, change.source, change.event)):
        if change.state is not None:
            latest[name_of(change)] = change
    return list(latest.values())


def deletions_of(changes: Sequence[Change]) -> list[Change]:
    return [change for change in changes if change.state is None]


def closes_of(deletions: Sequence[Change], space: str) -> list[int]:
    """Return when a space, or dataset, was deleted."""
    return sorted({change.time for change in deletions if change.kind in CONTAINERS and change.id == space})


def made_of(changes: Sequence[Change], space: str) -> dict[str, list[int]]:
    """Return when something was upserted that makes the space or the dataset of this name: itself or contents."""
    made: dict[str, list[int]] = {}
    for change in changes:
        if change.space == space != "" and change.state is not None:
            container = change.kind if change.kind in CONTAINERS else "dataset" if change.kind == "image" else "space"
            made.setdefault(container, []).append(change.time)
    return made


def is_open(time: int, closes: Sequence[int]) -> bool:
    """Say whether what was made at an instant is still there after all the times its space was deleted."""
    return all(close < time for close in closes)


def ends_of(deletions: Sequence[Change], latest: Change) -> list[int]:
    """Return when the resource was deleted itself, at the time of its latest upsert or later."""
    name = name_of(latest)
    return [change.time for change in deletions if name_of(change) == name and change.time >= latest.time]


def exists(deletions: Sequence[Change], latest: Change) -> bool:
    """Say whether a resource was deleted neither by itself nor with its space."""
    return not ends_of(deletions, latest) and is_open(latest.time, closes_of(deletions, latest.space))


def was_there(deletions: Sequence[Change], latest: Change, closes: Sequence[int]) -> bool:
    """Say whether a resource ended when its space was deleted for the last time."""
    *before, last = closes
    gone = any(end <= last for end in ends_of(deletions, latest))
    return latest.time <= last and is_open(latest.time, before) and not gone


def counts_of(states: Sequence[Change]) -> Counts:
    """Count resources, and add up their durations, under every name that reports have for them."""
    counts: dict[str, tuple[int, int]] = {}
    for latest in states:
        for name in counters(latest.kind, latest.state or {}):
            count, duration = counts.get(name, (0, 0))
            counts[name] = (count + 1, duration + (latest.state or {}).get("duration", 0))
    return counts


def counters(kind: str, state: Mapping[str, Any]) -> list[str]:
    """Return the names under which a resource counts; one that did not succeed counts under none."""
    if state.get("status", "success") != "success":
        return []
    now = state.get("state")
    if kind == "audio":
        return [] if now in ("awaitingFile", "avaitingFile") else ["audio"]
    if kind == "voiceprint":
        return ["voiceprint", "voiceprint.computed"] if now == "computed" else ["voiceprint"]
    if kind == "verification" and now in ("performed", "performedWithoutScore") and "type" in state:
        return [f"verification.{state['type']}"]
    return [kind] if kind in ("identity", "image") else []
