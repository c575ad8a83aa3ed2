"""Who is signed in: a cookie that names a session of this process, which knows the key and dies with it.

The cookie's value opens nothing but these pages, is kept only as a digest, and ends with the session's time, with
signing out, with the process, and with the key, whose word is asked for at every visit.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tallystick.dashboard.client import Api
from tallystick.dashboard.visit import ROOT, Visit
from tallystick.windows import SECOND

COOKIE = "tallystick_session"
FORM_COOKIE = "tallystick_form"
FORM_FIELD = "csrf"
SESSIONS_PER_KEY_MAX = 50
"""The oldest one of a key ends where it opens more."""


@dataclass(frozen=True, slots=True)
class Session:
    """One browser that is signed in; `csrf` is what its forms have to bring back."""

    key: str = field(repr=False)
    key_id: str
    csrf: str = field(repr=False)
    until: int


@dataclass(frozen=True, slots=True)
class Reader:
    """What the key of a session is, as GET /v1/key says it; `accounts` None = all there are."""

    key_id: str
    account: str | None
    scopes: frozenset[str]
    accounts: Sequence[Mapping[str, str]] | None
    csrf: str = field(repr=False)

    def has(self, scope: str) -> bool:
        """Say whether the key has a scope."""
        return scope in self.scopes


def of(visit: Visit) -> Session | None:
    """Return the session that the cookie names, while it lasts."""
    digest = _digest(visit.cookies.get(COOKIE, ""))
    found: Session | None = visit.sessions.get(digest)
    if found is not None and found.until <= visit.now:
        del visit.sessions[digest]
        return None
    return found


async def reader_of(session: Session, api: Api) -> Reader:
    """Ask what the key of a session is; raises Refused with 401 where it is no key any more."""
    shown = (await api.get("/v1/key")).document
    return Reader(session.key_id, shown["account"], frozenset(shown["scopes"]), shown["accounts"], session.csrf)


async def accounts_of(reader: Reader, api: Api) -> list[str]:
    """Return the accounts that a reader has to choose from."""
    if reader.accounts is not None:
        return [each["account"] for each in reader.accounts]
    if not reader.has("admin"):
        return []
    return [each["account"] for each in await api.listed("/v1/accounts", "accounts", rows_max=1000)]


def begin(visit: Visit, key: str, shown: Mapping[str, Any]) -> str:
    """Open a session of a key that the API knows and return the cookie for it."""
    mine = [digest for digest, each in visit.sessions.items() if each.key_id == shown["id"]]
    for digest in mine[: max(0, len(mine) - SESSIONS_PER_KEY_MAX + 1)]:
        del visit.sessions[digest]
    id = secrets.token_urlsafe(32)
    until = visit.now + visit.session_s * SECOND
    visit.sessions[_digest(id)] = Session(key, shown["id"], secrets.token_urlsafe(32), until)
    return cookie(visit, COOKIE, id)


def end(visit: Visit) -> str:
    """End the session that the cookie names and return the cookie that takes it back."""
    visit.sessions.pop(_digest(visit.cookies.get(COOKIE, "")), None)
    return cookie(visit, COOKIE, "", age_s=0)


def cookie(visit: Visit, name: str, value: str, *, path: str = ROOT, age_s: int | None = None) -> str:
    """Write a cookie that no script reads and no other site sends; without an age it ends with the browser."""
    age = "" if age_s is None else f"; Max-Age={age_s}"
    return f"{name}={value}; Path={path}{age}; HttpOnly; SameSite=Strict" + ("; Secure" if visit.is_secure else "")


def is_meant(visit: Visit, expected: str) -> bool:
    """Say whether a form was sent from a page of ours: it brings back what that page was given."""
    sent = visit.field(FORM_FIELD)
    return bool(expected) and hmac.compare_digest(sent.encode(), expected.encode())


def _digest(id: str) -> str:
    return sha256(id.encode()).hexdigest()
