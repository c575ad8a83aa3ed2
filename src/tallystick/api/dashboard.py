"""The pages for people, as routes of this process: read the visit, have it answered, write the reply."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from http import HTTPStatus
from urllib.parse import parse_qsl

from tallystick.api import errors, http
from tallystick.api.http import Call
from tallystick.dashboard import pages
from tallystick.dashboard.client import Asgi
from tallystick.dashboard.visit import ROOT, Sent, Visit, Whole
from tallystick.dialect import Dialect
from tallystick.errors import Code, Flaw, Problem
from tallystick.query import Reply

FORM_BYTES_MAX = 64 * 1024
FORM_FIELDS_MAX = 1000
FORM = "application/x-www-form-urlencoded"
_HOST = re.compile(r"[0-9A-Za-z.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?", re.ASCII)


async def answer(call: Call, ask: Asgi) -> Reply:
    """Answer a browser; `ask` is this process' own API."""
    sent = await pages.answer(await _visit(call, ask), call.route)
    parts = None if sent.whole is None else _rest(sent.whole)
    return Reply(sent.status, sent.body, sent.media_type if sent.body else "", sent.headers, parts)


async def _rest(whole: Whole) -> AsyncGenerator[bytes, None]:
    """Yield a page from its title on: what is before it is the same on every page with charts, and was sent."""
    _, title, rest = (await whole()).body.partition(b"<title>")
    yield title + rest


async def _visit(call: Call, ask: Asgi) -> Visit:
    app = call.app
    return Visit(
        method="GET" if call.scope["method"] == "HEAD" else call.scope["method"],
        path=call.instance,
        parts=call.path,
        query=call.query,
        form=await _form(call) if call.scope["method"] == "POST" else (),
        headers=call.headers,
        cookies=_cookies(call.headers.get("cookie", "")),
        origin=_origin(call),
        now=call.now,
        request_id=call.request_id,
        session_s=app.settings.dashboard_session_s,
        ask=ask,
        sessions=app.page_sessions,
    )


async def _form(call: Call) -> tuple[tuple[str, str], ...]:
    if call.headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
        raise Problem(Code.MEDIA_TYPE_UNKNOWN, "Send a form.", headers={"Accept": FORM})
    async with http.body_of(call, FORM_BYTES_MAX) as body:
        try:
            text = body.decode("ascii")
            return tuple(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS_MAX))
        except ValueError:
            detail = f"A form must be percent-encoded UTF-8 with at most {FORM_FIELDS_MAX} fields."
            raise Problem(Code.BODY_UNDECODABLE, detail, (Flaw("", detail),)) from None


def _cookies(header: str) -> dict[str, str]:
    """Read the cookies; others of the same host may have any shape, and take none of ours along."""
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return {name: value for name, is_pair, value in pairs if is_pair}


def _origin(call: Call) -> str:
    """Return how the browser reaches us, as far as it says so itself; a proxy in front says whether over TLS."""
    host = call.headers.get("host", "")
    said = call.headers.get("x-forwarded-proto", call.scope.get("scheme", "http")).split(",")[0].strip().lower()
    return f"{'https' if said == 'https' else 'http'}://{host if _HOST.fullmatch(host) else '127.0.0.1'}"


def problem(problem: Problem) -> Reply:
    """Write what went wrong before a page was found, or in the middle of it, as a page."""
    sent: Sent = pages.stray(errors.status_of(problem), problem.detail, problem.request_id or "")
    return Reply(sent.status, sent.body, sent.media_type, sent.headers)


DIALECT = Dialect(
    name="dashboard",
    paths=(ROOT,),
    problem=problem,
    statuses={code: HTTPStatus(errors.STATUS[code]) for code in Code},
    refusal=str,
)
"""Makes pages of problems below the dashboard's path; it has no reports."""
