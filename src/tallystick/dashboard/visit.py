"""A browser's request and what is sent back, without anything of HTTP that the pages do not need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tallystick.dashboard.client import Asgi

ROOT = "/dashboard"
"""Whatever the dashboard answers is below here, but for `/`, which leads here."""

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a browser.

    `query` and `form` keep order and repetition, decoded once. `ask` answers requests to the API of this process.
    `sessions` outlive the visit. `origin` is how the browser reaches this process, such as `http://127.0.0.1:8787`.
    `now` is in microseconds since 1970 in UTC.
    """

    method: str
    path: str
    parts: Mapping[str, str]
    query: Pairs
    form: Pairs
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    origin: str
    now: int
    request_id: str
    session_s: int
    ask: Asgi
    sessions: dict[str, Any]

    @property
    def is_secure(self) -> bool:
        """Whether the browser came over TLS, as far as that can be told."""
        return self.origin.startswith("https:")

    @property
    def is_part(self) -> bool:
        """Whether a page that is there asks, to renew a part of itself."""
        return self.headers.get("hx-request") == "true"

    def value(self, name: str) -> str:
        """Return the last value of a query parameter, "" where there is none."""
        return last(self.query, name)

    def field(self, name: str) -> str:
        """Return the last value of a field of the form, "" where there is none."""
        return last(self.form, name)

    def fields(self, name: str) -> list[str]:
        """Return every value of a field of the form."""
        return [value for key, value in self.form if key == name]


@dataclass(frozen=True, slots=True)
class Sent:
    """What goes back to the browser.

    With `whole` the body is the beginning of a page that takes a while; the rest is that of the page which `whole`
    makes, from its title on. A browser fetches meanwhile what the page needs beside itself.
    """

    status: int
    body: bytes
    media_type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    whole: Whole | None = None


Whole = Callable[[], Awaitable[Sent]]
"""Makes a page."""


def last(pairs: Pairs, name: str) -> str:
    """Return the last value of a name, "" where there is none."""
    return next((value for key, value in reversed(pairs) if key == name), "")


def url(path: str, pairs: Pairs = ()) -> str:
    """Write the address of a page: a path below the dashboard's own, and parameters."""
    text = urlencode(pairs, safe="[]:,")
    return f"{ROOT}{path}" + (f"?{text}" if text else "")


def redirect(location: str, **headers: str) -> Sent:
    """Send the browser to another page of ours, which it asks for with GET."""
    return Sent(303, b"", headers={"Location": location, **headers})
