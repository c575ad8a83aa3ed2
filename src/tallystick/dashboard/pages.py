"""Every page there is, and the way of a visit from its cookie to what is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from tallystick.dashboard import administration, assets, events, limits, rendering, session, signing, usage, vendors
from tallystick.dashboard.client import FORBIDDEN, UNAUTHORIZED, Api, Refused
from tallystick.dashboard.session import Reader
from tallystick.dashboard.visit import ROOT, Sent, Visit, Whole, redirect, url

Open = Callable[[Visit], Awaitable[Sent | None]]
Closed = Callable[[Visit, Api, Reader], Awaitable[Sent | None]]
"""Shows a page; None where there is no such thing."""


@dataclass(frozen=True, slots=True)
class Page:
    """One address: `{name}` is a part of it, `{name...}` all that is left. `show` needs a session, `open` none."""

    method: str
    path: str
    show: Closed | None = None
    open: Open | None = None


async def _home(visit: Visit) -> Sent:
    return redirect(url("/usage"))


PAGES = (
    Page("GET", "/", open=_home),
    Page("GET", ROOT, open=_home),
    Page("GET", f"{ROOT}/sign-in", open=signing.form),
    Page("POST", f"{ROOT}/sign-in", open=signing.sign_in),
    Page("POST", f"{ROOT}/sign-out", open=signing.sign_out),
    Page("GET", f"{ROOT}/static/{{file...}}", open=assets.get),
    Page("GET", f"{ROOT}/usage", usage.show),
    Page("GET", f"{ROOT}/usage/choices", usage.choices),
    Page("GET", f"{ROOT}/usage.csv", usage.sheet),
    Page("GET", f"{ROOT}/usage.json", usage.document),
    Page("GET", f"{ROOT}/limits", limits.show),
    Page("GET", f"{ROOT}/events", events.show),
    Page("GET", f"{ROOT}/events/one", events.story),
    Page("GET", f"{ROOT}/vendors", vendors.show),
    Page("GET", f"{ROOT}/administration", administration.first),
    Page("GET", f"{ROOT}/administration/{{noun}}", administration.show),
    Page("POST", f"{ROOT}/administration/{{noun}}", administration.change),
    Page("GET", f"{ROOT}/{{rest...}}"),
)
TITLES: dict[int, str] = {HTTPStatus.NOT_FOUND: "Nothing is here", HTTPStatus.FORBIDDEN: "This key does not open that"}
BY_ADDRESS = {(page.method, page.path): page for page in PAGES}


async def answer(visit: Visit, path: str) -> Sent:
    """Answer a visit to the page that is declared with this path; whatever goes wrong is a page too."""
    page = BY_ADDRESS[visit.method, path]
    try:
        sent = await page.open(visit) if page.open is not None else await _shown(visit, page)
    except Refused as refused:
        sent = refusal(visit, refused)
    if sent is None:
        sent = problem(visit, HTTPStatus.NOT_FOUND, "There is no such page.")
    return replace(sent, headers={**rendering.HEADERS, **sent.headers})


async def _shown(visit: Visit, page: Page) -> Sent | None:
    """Show a page to whoever is signed in; others are asked to, and come back to it."""
    found = session.of(visit)
    if found is None:
        return signing.asked(visit)
    api = Api(visit.ask, found.key, visit.request_id)
    try:
        reader = await session.reader_of(found, api)
        if visit.method != "GET" and not session.is_meant(visit, found.csrf):
            return problem(
                visit,
                HTTPStatus.FORBIDDEN,
                "This form was not sent from a page of yours. Go back and load it again.",
                reader,
            )
        if page.show is None:
            return problem(visit, HTTPStatus.NOT_FOUND, "There is no such page.", reader)
        return await _tried(visit, reader, partial(page.show, visit, api, reader))
    except Refused as refused:
        if refused.status != UNAUTHORIZED:
            raise
        return signing.ended(visit)


async def _tried(visit: Visit, reader: Reader, show: Callable[[], Awaitable[Sent | None]]) -> Sent:
    """Show a page, or why it is refused; raises Refused for a key that is none any more.

    Where the head went ahead, it is too late for that and for another status: the rest of the page says what is wrong.
    """
    try:
        sent = await show()
    except Refused as refused:
        if refused.status == UNAUTHORIZED:
            raise
        return refusal(visit, refused, reader)
    if sent is None:
        detail = "There is no such thing, or this key does not read it."
        return problem(visit, HTTPStatus.NOT_FOUND, detail, reader)
    return sent if sent.whole is None else replace(sent, whole=partial(_rest, visit, reader, sent.whole))


async def _rest(visit: Visit, reader: Reader, whole: Whole) -> Sent:
    try:
        return await whole()
    except Refused as refused:
        return refusal(visit, refused, reader)


def refusal(visit: Visit, refused: Refused, reader: Reader | None = None) -> Sent:
    """Say what the API said."""
    detail = refused.detail
    if refused.status == FORBIDDEN and refused.code == "scope_missing":
        detail = f"{detail} Sign in with another key to see this page."
    return problem(visit, refused.status, detail, reader)


def stray(status: int, detail: str, request_id: str) -> Sent:
    """Write an error that was met outside any page as one."""
    sent = _problem(status, detail, "", request_id, None)
    return replace(sent, headers={**rendering.HEADERS, **sent.headers})


def problem(visit: Visit, status: int, detail: str, reader: Reader | None = None) -> Sent:
    """Write an error as a page."""
    return _problem(status, detail, visit.path, visit.request_id, reader)


def _problem(status: int, detail: str, path: str, request_id: str, reader: Reader | None) -> Sent:
    fallback = "Something is in the way" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "This cannot be shown now"
    values = {"status_code": status, "title": TITLES.get(status, fallback), "detail": detail}
    return rendering.rendered("problem.html", path, request_id, reader, status=status, **values)
