"""Signing in with a key, and out."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace

from tallystick.dashboard import rendering, session
from tallystick.dashboard.client import UNAUTHORIZED, Api, Refused
from tallystick.dashboard.session import FORM_COOKIE
from tallystick.dashboard.visit import ROOT, Pairs, Sent, Visit, redirect, url

PATH = f"{ROOT}/sign-in"
FORM_TOKEN_LENGTH = 43
_TOKEN = re.compile(r"[!-~]{1,512}", re.ASCII)
_NEXT = re.compile(re.escape(ROOT) + r"/[a-z][!-~]*", re.ASCII)
"""Where one may be sent on to: a page of ours."""


async def form(visit: Visit) -> Sent:
    """Show the form."""
    rendering.prepare()
    return _form(visit, visit.value("next"), note="ended" if visit.value("ended") else "")


async def sign_in(visit: Visit) -> Sent:
    """Open a session of the key, if it is one."""
    target = visit.field("next")
    if not session.is_meant(visit, visit.cookies.get(FORM_COOKIE, "")):
        return _form(visit, target, error="The form was old, or cookies are off. Please sign in again.", status=403)
    key = visit.field("key").strip()
    if not _TOKEN.fullmatch(key):
        detail = "A key has visible ASCII characters only." if key else "Paste a key."
        return _form(visit, target, error=detail, status=422)
    try:
        shown = (await Api(visit.ask, key, visit.request_id).get("/v1/key")).document
    except Refused as refused:
        if refused.status != UNAUTHORIZED:
            raise
        return _form(visit, target, error=refused.detail, status=401)
    session.end(visit)
    return redirect(_safe(target), **{"Set-Cookie": session.begin(visit, key, shown)})


async def sign_out(visit: Visit) -> Sent:
    """End the session, if the form is of it."""
    found = session.of(visit)
    if found is not None and not session.is_meant(visit, found.csrf):
        return redirect(url("/usage"))
    return redirect(PATH, **{"Set-Cookie": session.end(visit)})


def asked(visit: Visit) -> Sent:
    """Send whoever is not signed in to the form, and from there back to where they wanted to go."""
    return _sent_off(visit, [("next", _here(visit))])


def ended(visit: Visit) -> Sent:
    """End a session whose key is no key any more."""
    sent = _sent_off(visit, [("next", _here(visit)), ("ended", "1")])
    return replace(sent, headers={**sent.headers, "Set-Cookie": session.end(visit)})


def _sent_off(visit: Visit, query: Pairs) -> Sent:
    """Lead to the form; a page that renews a part of itself says so in this part instead."""
    target = url("/sign-in", query)
    if not visit.is_part:
        return redirect(target)
    return rendering.page("signed-out.html", visit, None, title="You are signed out", target=target)


def _here(visit: Visit) -> str:
    return url(visit.path.removeprefix(ROOT), visit.query) if visit.method == "GET" else url("/usage")


def _safe(target: str) -> str:
    return target if _NEXT.fullmatch(target) else url("/usage")


def _form(visit: Visit, target: str, *, error: str = "", note: str = "", status: int = 200) -> Sent:
    # One that is there is kept: a form in another tab is to work, too.
    known = visit.cookies.get(FORM_COOKIE, "")
    token = known if len(known) == FORM_TOKEN_LENGTH else secrets.token_urlsafe(32)
    cookie = session.cookie(visit, FORM_COOKIE, token, path=PATH)
    return rendering.page(
        "sign-in.html",
        visit,
        None,
        status=status,
        headers={"Set-Cookie": cookie},
        csrf=token,
        target=_safe(target),
        error=error,
        note=note,
    )
