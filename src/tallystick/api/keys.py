"""Keys: made, listed and revoked. A key gives no more than the key that made it has."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick import windows
from tallystick.api import auth, documents
from tallystick.api.http import Call
from tallystick.errors import Code, Problem
from tallystick.model import Key, Scope
from tallystick.query import Reply


class KeyDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/keys; an account of null makes a key of the operator."""

    account: str | None
    scopes: list[Scope]
    expires_at: str | None = None


async def post(call: Call) -> Reply:
    """Make a key and show it, this once."""
    document = await documents.read(call, KeyDocument)
    _refuse_more(call, document)
    token, id = auth.make_token(document.account), auth.make_key_id()
    expires = _expiry(document.expires_at, call.now)
    key = Key(id, auth.digest_of(token), document.account, frozenset(document.scopes), call.now, expires)
    await call.app.ledger.put_key(key, actor=call.caller.key_id)
    return documents.reply({"id": id, "key": token}, 201, **{"Location": f"/v1/keys/{id}", "Cache-Control": "no-store"})


async def index(call: Call) -> Reply:
    """List the keys that the caller administers, oldest first, without what opens doors."""
    keys = [key for key in call.app.catalog.keys.values() if _administers(call, key)]
    return documents.reply({"keys": [_shown(key) for key in sorted(keys, key=lambda key: (key.created, key.id))]})


async def delete(call: Call) -> Reply:
    """Revoke a key, from the next request on."""
    ours = (key for key in call.app.catalog.keys.values() if key.id == call.path["id"] and _administers(call, key))
    if next(ours, None) is None or not await call.app.ledger.delete_key(call.path["id"], actor=call.caller.key_id):
        raise Problem(Code.NOT_FOUND, "There is no such key.")
    return Reply(204, b"", "")


def _administers(call: Call, key: Key) -> bool:
    return call.caller.account in (None, key.account)


def _refuse_more(call: Call, document: KeyDocument) -> None:
    known = document.account is None or document.account in call.app.catalog.accounts
    if call.caller.account not in (None, document.account) or not known:
        detail = "This key makes no keys for that account."
        raise documents.refuse(Code.ACCOUNT_FORBIDDEN, "/account", detail)
    if not document.scopes:
        raise documents.refuse(Code.FIELD_VALUE, "/scopes", "scopes must name at least one scope.")
    for place, scope in enumerate(document.scopes):
        if scope not in call.caller.scopes:
            detail = f"The key that asks does not have the scope {scope} itself."
            raise documents.refuse(Code.SCOPE_MISSING, f"/scopes/{place}", detail)


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


def _shown(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "account": key.account,
        "scopes": sorted(key.scopes),
        "created_at": windows.format_instant(key.created),
        "expires_at": None if key.expires is None else windows.format_instant(key.expires),
    }
