"""Live resources: what an event says of one, and what all that was said of it comes to, in whatever order it came.

A resource is what its latest upsert says, latest by (time, source, id). A deletion at T ends what has a time of T or
earlier: the resource of its kind and id, or all that is in a space or dataset. Both are folds over a set of changes, so
the order of arrival plays no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tallystick import windows
from tallystick.envelope import DELETED, UPSERTED, label_text, pointer_to, refusal
from tallystick.errors import Code
from tallystick.model import Change, Counts, Event, Meter, Rounding, Verdict
from tallystick.quantity import out_of_range, quantity_of, scaled

CONTAINERS = ("space", "dataset")
STATES = {
    "voiceprint": ("notComputable", "computable", "computed"),
    "verification": ("performing", "performed", "performedWithoutScore", "error"),
}
STATE_ABSENT = {"audio": "available", "voiceprint": "computable", "verification": "performing"}
WITHOUT_FILE = ("awaitingFile", "avaitingFile")
"""Both spellings are the vendor's."""
TYPES = ("identity", "authenticity", "message")
TEXTS = ("status", "state", "url", "parent", "type", "actor", "model")
URL_LENGTH_MAX = 8192
DURATION = Meter("duration", 1, frozenset(), "$.data.duration", "s", 6, (), rounding=Rounding("0.000001", "half_up"))
"""How the duration of a resource is read: as that of a meter of seconds."""


# What an event says


def change_of(event: Event, *, text_length_max: int = 256) -> Change | Verdict | None:
    """Return what an event says of a resource, why it must be refused, or None if it is about none."""
    if event.type not in (UPSERTED, DELETED):
        return None
    names = _names(event, text_length_max)
    if isinstance(names, Verdict):
        return names
    kind, space, id = names
    state = _state(event, kind, text_length_max) if event.type == UPSERTED else None
    if isinstance(state, Verdict):
        return state
    return Change(kind, space, id, event.time, event.source, event.id, state)


def _names(event: Event, text_length_max: int) -> tuple[str, str, str] | Verdict:
    """Return the kind, the space and the id of a resource; a space or dataset is named by either of the latter."""
    kind = _name(event, "kind", text_length_max)
    if isinstance(kind, Verdict):
        return kind
    space = event.space or ""
    if kind in CONTAINERS and event.data.get("id") is None and space:
        return kind, space, space
    id = _name(event, "id", text_length_max)
    if isinstance(id, Verdict):
        return id
    if kind in CONTAINERS and space not in ("", id):
        detail = f"The `id` of a {kind} is its space: send one of both, or the same twice."
        return refusal(Code.FIELD_VALUE, "/data/id", detail)
    return kind, id if kind in CONTAINERS else space, id


def _name(event: Event, name: str, text_length_max: int) -> str | Verdict:
    value = event.data.get(name)
    if value is None:
        return refusal(Code.FIELD_MISSING, f"/data/{name}", f"`{name}` is required in the data of {event.type}.")
    if not isinstance(value, str):
        return refusal(Code.FIELD_TYPE, f"/data/{name}", f"`{name}` must be a string.")
    if not value:
        detail = f"`{name}` must be a string of 1 to {text_length_max} characters."
        return refusal(Code.FIELD_LENGTH, f"/data/{name}", detail)
    return label_text(value, f"/data/{name}", text_length_max)


def _state(event: Event, kind: str, text_length_max: int) -> Mapping[str, Any] | Verdict:
    """Return the whole state that an upsert gives, with its duration in microseconds."""
    state: dict[str, Any] = {}
    for name in TEXTS:
        value = event.data.get(name)
        if value is not None:
            text = _text(value, name, URL_LENGTH_MAX if name == "url" else text_length_max)
            if isinstance(text, Verdict):
                return text
            state[name] = text
    refused = _value(kind, state) or _attributes(event, state)
    if refused is not None:
        return refused
    duration = _duration(event, kind, state)
    if isinstance(duration, Verdict):
        return duration
    return state if duration is None else {**state, "duration": duration}


def _text(value: Any, name: str, length_max: int) -> str | Verdict:
    if not isinstance(value, str):
        return refusal(Code.FIELD_TYPE, f"/data/{name}", f"`{name}` of a resource must be a string.")
    return label_text(value, f"/data/{name}", length_max)


def _value(kind: str, state: Mapping[str, Any]) -> Verdict | None:
    for name, allowed in (("state", STATES.get(kind)), ("type", TYPES if kind == "verification" else None)):
        if allowed is not None and state.get(name, allowed[0]) not in allowed:
            return refusal(
                Code.FIELD_VALUE, pointer_to("data", name), f"`{name}` of a {kind} is one of {', '.join(allowed)}."
            )
    return None


def _attributes(event: Event, state: dict[str, Any]) -> Verdict | None:
    attributes = event.data.get("attributes")
    if attributes is None:
        return None
    if not isinstance(attributes, dict):
        return refusal(Code.FIELD_TYPE, "/data/attributes", "`attributes` must be a JSON object.")
    state["attributes"] = attributes
    return None


def _duration(event: Event, kind: str, state: Mapping[str, Any]) -> int | Verdict | None:
    value = event.data.get("duration")
    if value is None:
        if not _needs_duration(kind, state):
            return None
        detail = f"`duration` is required: this {kind} is {state.get('state', STATE_ABSENT[kind])}."
        return refusal(Code.QUANTITY_MISSING, "/data/duration", detail)
    quantity = quantity_of(value, "/data/duration", is_duration=True)
    if isinstance(quantity, Verdict):
        return quantity
    return out_of_range(quantity, "/data/duration") or scaled(quantity, DURATION, "/data/duration")


def _needs_duration(kind: str, state: Mapping[str, Any]) -> bool:
    """Say whether a resource has come so far that reports show its duration."""
    now = state.get("state", STATE_ABSENT.get(kind))
    match kind:
        case "audio":
            return now not in WITHOUT_FILE
        case "voiceprint":
            return bool(now == "computed")
        case "verification":
            return now in ("performed", "performedWithoutScore")
        case _:
            return False


# What it comes to


@dataclass(frozen=True, slots=True)
class Resource:
    """All that was said of one resource, as far as it can still matter.

    `latest` is the (time, source, event id) of the upsert that counts, None before there was one; `ends` are the times
    of deletions that end it, ascending.
    """

    kind: str
    space: str
    id: str
    latest: tuple[int, str, str] | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    ends: tuple[int, ...] = ()

    @property
    def newest(self) -> int:
        """The latest instant at which anything is known of it."""
        return max([*self.ends[-1:], *([self.latest[0]] if self.latest else [])])

    def after(self, change: Change) -> Resource:
        """Return the resource with one more change known."""
        if change.state is None:
            if self.latest is not None and change.time < self.latest[0]:
                return self
            return replace(self, ends=tuple(sorted({*self.ends, change.time})))
        at = (change.time, change.source, change.event)
        if self.latest is not None and at <= self.latest:
            return self
        return replace(self, latest=at, state=change.state, ends=tuple(end for end in self.ends if end >= change.time))

    def is_live(self, closes: tuple[int, ...]) -> bool:
        """Say whether it exists now, in a space that was closed at these times (ascending)."""
        return self.latest is not None and not self.ends and (not closes or self.latest[0] > closes[-1])

    def was_live(self, closes: tuple[int, ...]) -> bool:
        """Say whether it existed when its space was closed for the last time."""
        if self.latest is None or not closes or self.latest[0] > closes[-1]:
            return False
        reopened = len(closes) < 2 or self.latest[0] > closes[-2]
        return reopened and (not self.ends or self.ends[0] > closes[-1])

    @property
    def counts(self) -> Counts:
        """What it adds to the counters of its space while it exists; what did not succeed adds nothing."""
        if self.state.get("status", "success") != "success":
            return {}
        duration = self.state.get("duration", 0)
        return dict.fromkeys(_counters(self.kind, self.state), (1, duration))


def _counters(kind: str, state: Mapping[str, Any]) -> tuple[str, ...]:
    now = state.get("state", STATE_ABSENT.get(kind))
    match kind:
        case "audio":
            return () if now in WITHOUT_FILE else ("audio",)
        case "voiceprint":
            return ("voiceprint", "voiceprint.computed") if now == "computed" else ("voiceprint",)
        case "verification":
            performed = now in ("performed", "performedWithoutScore") and "type" in state
            return (f"verification.{state['type']}",) if performed else ()
        case "identity" | "image":
            return (kind,)
        case _:
            return ()


def containers_of(closes: Sequence[int], made_in: Mapping[str, Mapping[int, int]]) -> frozenset[str]:
    """Return what there is now of a name, from when it was deleted and what made it."""
    if not closes:
        return frozenset(made_in)
    return frozenset(container for container, made in made_in.items() if max(made.values()) > closes[-1])


@dataclass(frozen=True, slots=True)
class Space:
    """A named part of an account, with counters of what is in it now and of what was in it when it was last closed.

    `closes` are the last two instants at which it was deleted, ascending; `closed_in` has the last one of each UTC
    month, and `made_in` the last upsert in each month that made the space or dataset of this name. `newest` is the
    latest instant at which anything is known of its contents.
    """

    closes: tuple[int, ...] = ()
    closed_in: Mapping[int, int] = field(default_factory=dict)
    made_in: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    newest: int | None = None
    live: Counts = field(default_factory=dict)
    closed: Counts = field(default_factory=dict)

    @property
    def containers(self) -> frozenset[str]:
        """What there is of this name now."""
        return containers_of(self.closes, self.made_in)

    def after(self, before: Resource, now: Resource) -> Space:
        """Return the space with one of its resources changed."""
        live, closed = dict(self.live), dict(self.closed)
        for resource, sign in ((before, -1), (now, 1)):
            if resource.is_live(self.closes):
                add(live, resource.counts, sign)
            if resource.was_live(self.closes):
                add(closed, resource.counts, sign)
        newest = now.newest if self.newest is None else max(self.newest, now.newest)
        return replace(self, live=live, closed=closed, newest=newest)

    def making(self, kind: str, time: int) -> Space:
        """Return the space after an upsert of a resource of this kind in it: it makes what was missing."""
        container = kind if kind in CONTAINERS else "dataset" if kind == "image" else "space"
        made = _latest_of_month(self.made_in.get(container, {}), time)
        return replace(self, made_in={**self.made_in, container: made})

    def needs(self, time: int) -> int | None:
        """Say of which resources a deletion at `time` has to know: newer than the instant; None = of none.

        What is known up to then went with the space, or was gone before.
        """
        if self.closes and time <= self.closes[-1]:
            changes_nothing = time in self.closes or (len(self.closes) == 2 and time < self.closes[0])
            return None if changes_nothing else INSTANT_ANY
        return time if self.newest is not None and self.newest > time else None

    def closing(self, time: int, newer: Iterable[Resource]) -> Space:
        """Return the space after it was deleted at `time`, given the resources that `needs` asks for."""
        closes = tuple(sorted({*self.closes, time})[-2:])
        after = replace(self, closes=closes, closed_in=_latest_of_month(self.closed_in, time))
        if closes == self.closes:
            return after
        live: dict[str, tuple[int, int]] = {}
        closed: dict[str, tuple[int, int]] = {} if time != closes[-1] else dict(self.live)
        for resource in newer:
            if time == closes[-1] and resource.is_live(self.closes):
                add(closed, resource.counts, -1)
            if resource.is_live(closes):
                add(live, resource.counts, 1)
            if resource.was_live(closes):
                add(closed, resource.counts, 1)
        return replace(after, live=live, closed=closed)


INSTANT_ANY = -(2**63)
"""Before every instant."""


def _latest_of_month(latest: Mapping[int, int], time: int) -> Mapping[int, int]:
    month = windows.month_of(time)
    return {**latest, month: max(time, latest.get(month, time))}


def add(counts: dict[str, tuple[int, int]], more: Counts, sign: int) -> None:
    """Add counters to others, or take them away; what comes to nothing goes."""
    for name, (count, duration) in more.items():
        before = counts.get(name, (0, 0))
        counts[name] = (before[0] + sign * count, before[1] + sign * duration)
        if counts[name] == (0, 0):
            del counts[name]
