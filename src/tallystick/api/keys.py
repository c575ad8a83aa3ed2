"""Keys: made, listed, rotated and revoked. A key gives no more than the key that made it has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from tallystick import windows
from tallystick.api import auth, documents, pages
from tallystick.api.description import describe
from tallystick.api.http import Call
from tallystick.errors import Code, Problem
from tallystick.model import Account, AccountKind, Key, Scope
from tallystick.query import Reply
from tallystick.settings import KEY_OVERLAP_S_MAX


class KeyDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/keys; an account of null makes a key of the operator."""

    account: str | None
    scopes: Annotated[list[Scope], Meta(extra_json_schema={"minItems": 1})]
    expires_at: Annotated[str | None, Meta(extra_json_schema={"format": "date-time"})] = None


class KeyMade(TypedDict):
    """A new key; its text is shown this once."""

    id: str
    key: str


class KeyShown(TypedDict):
    """A key without what opens doors; an account of null is the operator's."""

    id: str
    account: str | None
    scopes: list[Scope]
    created_at: str
    expires_at: str | None


class AccountRead(TypedDict):
    """An account that a key reads."""

    account: str
    kind: AccountKind
    timezone: str


class KeyOwn(TypedDict):
    """The key that asks, or the key of its session, and which accounts it reads (null = all there are)."""

    id: str
    account: str | None
    scopes: list[Scope]
    expires_at: str | None
    accounts: list[AccountRead] | None


class KeyListed(KeyShown):
    """A key with the instant of its last use, as far as that is known."""

    last_used_at: str | None


class KeyRotated(KeyMade):
    """The successor of a key, which is valid until `overlap_ends_at`."""

    replaces: str
    overlap_ends_at: str
    expires_at: str | None


class RotateDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/keys/{id}/rotate, which may be left out: how long the old key stays valid."""

    overlap: Annotated[str | None, Meta(extra_json_schema={"description": "An ISO 8601 duration."})] = None


class KeysShown(TypedDict):
    """Keys, oldest first."""

    keys: list[KeyListed]
    next: str | None


@describe(
    body=KeyDocument,
    example={"account": None, "scopes": ["ingest", "report"]},
    replies={201: KeyMade},
    codes=(Code.ACCOUNT_FORBIDDEN,),
)
async def post(call: Call) -> Reply:
    """Make a key and show it, this once."""
    document = await documents.read(call, KeyDocument)
    _refuse_account(call, document.account)
    _refuse_scopes(call, document.scopes)
    expires = _expiry(document.expires_at, call.now)
    token = auth.make_token(document.account)
    scopes = frozenset(document.scopes)
    key = Key(auth.make_key_id(), auth.digest_of(token), document.account, scopes, call.now, expires)
    if not await call.app.ledger.put_key(key, actor=call.caller.key_id):
        raise _foreign_account()
    return _made(key, token)


@describe(query=pages.PARAMETERS, replies={200: KeysShown})
async def index(call: Call) -> Reply:
    """List the keys that the caller administers, oldest first, page by page, without what opens doors."""
    limit, after = pages.asked(call, tuple[int, str])
    keys = {(key.created, key.id): key for key in call.app.catalog.keys.values() if _administers(call, key)}
    page, following = pages.cut(sorted(at for at in keys if after is None or at > after), limit)
    return pages.reply(call, "keys", [_listed(call, keys[at]) for at in page], following)


@describe(replies={200: KeyOwn})
async def own(call: Call) -> Reply:
    """Show the key that asks: its account, its scopes and the accounts that it reads."""
    caller, catalog = call.caller, call.app.catalog
    key, names = catalog.key(caller.key_id), auth.readable(caller, catalog)
    shown: KeyOwn = {
        "id": caller.key_id,
        "account": caller.account,
        "scopes": sorted(caller.scopes),
        "expires_at": None if key is None else _text(key.valid_until),
        "accounts": None if names is None else [_read(catalog.accounts[name]) for name in names],
    }
    return documents.reply(shown, 200, **{"Cache-Control": "no-store"})


def _read(account: Account) -> AccountRead:
    return {"account": account.name, "kind": account.kind, "timezone": account.timezone}


@describe(replies={200: KeyListed})
async def get(call: Call) -> Reply:
    """Show one key, without what opens doors."""
    return documents.reply(_listed(call, _administered(call)))


@describe(body=RotateDocument, body_required=False, example={"overlap": "PT24H"}, replies={201: KeyRotated})
async def rotate(call: Call) -> Reply:
    """Make a successor with the same account, scopes and expiry; the old key ends after an overlap."""
    document = await documents.read(call, RotateDocument, absent=RotateDocument())
    old = _administered(call)
    _refuse_scopes(call, sorted(old.scopes), at_pointer=False)
    ends = call.now + _overlap(document.overlap, call.app.settings.key_overlap_s)
    token = auth.make_token(old.account)
    new = Key(auth.make_key_id(), auth.digest_of(token), old.account, old.scopes, call.now)
    kept = await call.app.ledger.rotate_key(old.id, new, ends=ends, actor=call.caller.key_id)
    if kept is None:
        raise _not_found()
    until = ends if old.valid_until is None else min(ends, old.valid_until)
    return _made(kept, token, replaces=old.id, overlap_ends_at=_text(until), expires_at=_text(kept.expires))


@describe(replies={204: None})
async def delete(call: Call) -> Reply:
    """Revoke a key, from the next request on."""
    key = _administered(call)
    if not await call.app.ledger.delete_key(key.id, actor=call.caller.key_id):
        raise _not_found()
    return Reply(204, b"", "")


def _administers(call: Call, key: Key) -> bool:
    return call.caller.account in (None, key.account)


def _administered(call: Call) -> Key:
    """Return the key that the path names; a foreign one and one that is not there look the same."""
    keys = call.app.catalog.keys.values()
    found = next((key for key in keys if key.id == call.path["id"] and _administers(call, key)), None)
    if found is None:
        raise _not_found()
    return found


def _not_found() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such key.")


def _foreign_account() -> Problem:
    return documents.refuse(
        Code.ACCOUNT_FORBIDDEN, "/account", "This key makes no keys for that account, or there is none of this name."
    )


def _refuse_account(call: Call, account: str | None) -> None:
    known = account is None or account in call.app.catalog.accounts
    if call.caller.account not in (None, account) or not known:
        raise _foreign_account()


def _refuse_scopes(call: Call, scopes: Iterable[Scope], *, at_pointer: bool = True) -> None:
    """Refuse to give no scope, or one that the caller does not have; `scopes` are a document's, or another key's."""
    if not scopes:
        raise documents.refuse(Code.FIELD_VALUE, "/scopes", "scopes must name at least one scope.")
    for place, scope in enumerate(scopes):
        if scope not in call.caller.scopes:
            detail = f"The key that asks does not have the scope {scope} itself."
            raise documents.refuse(Code.SCOPE_MISSING, f"/scopes/{place}" if at_pointer else "", detail)


def _expiry(text: str | None, now: int) -> int | None:
    if text is None:
        return None
    try:
        expires = windows.parse_instant(text)
    except ValueError:
        detail = "expires_at must be an RFC 3339 instant with an offset or Z."
        raise documents.refuse(Code.TIME_FORMAT, "/expires_at", detail) from None
    if expires <= now:
        raise documents.refuse(Code.FIELD_VALUE, "/expires_at", "expires_at must be in the future.")
    return expires


def _overlap(text: str | None, default_s: int) -> int:
    """Return how long the old key stays valid, in microseconds."""
    if text is None:
        return default_s * windows.SECOND
    try:
        overlap = windows.parse_duration(text)
    except ValueError:
        detail = "overlap must be an ISO 8601 duration of weeks, days, hours, minutes and seconds, such as PT24H."
        raise documents.refuse(Code.TIME_FORMAT, "/overlap", detail) from None
    if overlap > KEY_OVERLAP_S_MAX * windows.SECOND:
        raise documents.refuse(Code.FIELD_VALUE, "/overlap", "overlap must be at most 30 days.")
    return overlap


def _made(key: Key, token: str, **more: Any) -> Reply:
    """Write a new key with its token: the only time that it is shown."""
    headers = {"Location": f"/v1/keys/{key.id}", "Cache-Control": "no-store"}
    return documents.reply({"id": key.id, "key": token, **more}, 201, **headers)


def shown(key: Key) -> KeyShown:
    """Return a key as the API shows it, again and again."""
    return {
        "id": key.id,
        "account": key.account,
        "scopes": sorted(key.scopes),
        "created_at": windows.format_instant(key.created),
        "expires_at": _text(key.valid_until),
    }


def _listed(call: Call, key: Key) -> KeyListed:
    return {**shown(key), "last_used_at": _text(call.app.ledger.key_uses.get(key.id))}


def _text(instant: int | None) -> str | None:
    return None if instant is None else windows.format_instant(instant)
