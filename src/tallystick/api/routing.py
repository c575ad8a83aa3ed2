"""Which handler answers at a path, and whose the path is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from tallystick.api.http import Call
from tallystick.dialect import Dialect
from tallystick.model import Scope
from tallystick.query import Reply

Handler = Callable[[Call], Awaitable[Reply]]
Methods = Mapping[str, "Route"]
HEAD = 2
"""So many parts at the beginning of a path say which routes to look at."""


@dataclass(frozen=True, slots=True)
class Route:
    """One call: `{name}` in the path is any one part of it, `{name...}` at its end all that is left.

    Without a scope it needs no key, unless any key will do (`any_scope`). `anonymous` is one that the setting
    `anonymous_account` opens to whoever has none.
    `scheme` is the word before the key in the Authorization header.
    """

    method: str
    path: str
    handler: Handler
    scope: Scope | None = None
    anonymous: bool = False
    scheme: str = "Bearer"
    any_scope: bool = False

    @property
    def is_keyed(self) -> bool:
        """Whether it needs a key."""
        return self.any_scope or self.scope is not None


class Routing:
    """The routes of a process and the dialects that own paths, ready to be looked up."""

    def __init__(self, routes: Iterable[Route], dialects: Iterable[Dialect]) -> None:
        self.routes = tuple(routes)
        self.patterns: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in self.routes:
            self.patterns.setdefault(parts_of(route.path), {})[route.method] = route
        # The longest first: one dialect's path may lie below another's.
        owned = [(parts_of(path), dialect) for dialect in dialects for path in dialect.paths]
        self._owned = sorted(owned, key=lambda each: -len(each[0]))
        # Most paths begin with two parts that some route has: only what may begin so is gone through then.
        heads = {
            pattern[:HEAD] for pattern in self.patterns if not any(part.startswith("{") for part in pattern[:HEAD])
        }
        self._near = {head: [each for each in self.patterns if _may_begin(each, head)] for head in heads}
        self._near_owned = {head: [each for each in self._owned if _may_begin(each[0], head)] for head in heads}

    def match(self, segments: tuple[str, ...]) -> tuple[Methods | None, Mapping[str, str]]:
        """Find what answers at a path, and what the path says where the route has a name in braces."""
        if segments in self.patterns and not any(part.startswith("{") for part in segments):
            return self.patterns[segments], {}
        for pattern in self._near.get(segments[:HEAD], self.patterns):
            found = bound(pattern, segments)
            if found is not None:
                return self.patterns[pattern], found
        return None, {}

    def dialect_of(self, path: str) -> Dialect | None:
        """Return the dialect whose a path is, as it was sent, readable or not; None where errors are native."""
        segments = parts_of(path)
        if "%" in path:
            segments = tuple(unquote(part, errors="replace") for part in segments)
        for own, dialect in self._near_owned.get(segments[:HEAD], self._owned):
            if bound(own, segments[: len(own)]) is not None:
                return dialect
        return None


def _may_begin(pattern: tuple[str, ...], head: tuple[str, ...]) -> bool:
    """Say whether a path that begins with these parts may fit a pattern."""
    return all(part.startswith("{") or part == sent for part, sent in zip(pattern, head, strict=False))


def parts_of(path: str) -> tuple[str, ...]:
    """Split a route's path."""
    return tuple(path.split("/")[1:])


def bound(pattern: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    """Return what the segments of a path say where a pattern has names in braces; None where they do not fit."""
    if pattern[-1].endswith("...}") and len(segments) >= len(pattern):
        whole = len(pattern) - 1
        # Each part was decoded once, and so is what they make together.
        rest = {pattern[-1][1:-4]: "/".join(segments[whole:])}
        before = bound(pattern[:whole], segments[:whole])
        return None if before is None else {**before, **rest}
    if len(pattern) != len(segments):
        return None
    found = {}
    for part, sent in zip(pattern, segments, strict=True):
        if part.startswith("{") and sent:
            found[part[1:-1]] = sent
        elif part != sent:
            return None
    return found
