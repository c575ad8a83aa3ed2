"""Sessions: for an hour a signed token stands for a key, with the scope `report` only.

A session is no entry of the log and is kept nowhere: its token says which key it is of and until when, under a
signature that this process alone can make. It ends with its hour, with its key and with the process.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

from tallystick.api import auth
from tallystick.api.http import Call
from tallystick.errors import Problem
from tallystick.model import Caller, Key, Scope
from tallystick.windows import HOUR

PREFIX = "tly_session_"
LENGTH = HOUR

_SESSION = re.compile(PREFIX + r"(key-[0-9A-Za-z]+|operator-key-setting)_([0-9]{1,19})_([0-9a-f]{64})", re.ASCII)


def open_session(call: Call, key_id: str, token: str) -> str:
    """Return the token of a new session of a key, given its id and its text.

    Raises KEY_INVALID, worded alike whatever is wrong, and SCOPE_MISSING for a key that reads no reports itself.
    """
    try:
        caller = auth.caller_of(token, call.app.catalog, call.app.settings.operator_key, call.now)
    except Problem:
        caller = None
    if caller is None or caller.key_id != key_id:
        raise auth.invalid_key("The handle is no key's id, or the password is not that key.")
    auth.require(caller, Scope.REPORT)
    call.app.ledger.note_key_use(caller.key_id, call.now)
    until = str(call.now + LENGTH)
    return f"{PREFIX}{key_id}_{until}_{_signature(call, key_id, until, auth.digest_of(token))}"


def authenticate(call: Call, scheme: str = "Bearer") -> Caller:
    """Say whose key, or session of a key, the request shows, or raise KEY_MISSING or KEY_INVALID."""
    token = auth.token_of(call.headers, scheme)
    if not token.startswith(PREFIX):
        return auth.caller_of(token, call.app.catalog, call.app.settings.operator_key, call.now)
    said = _SESSION.fullmatch(token)
    key = None if said is None else _key(call, said[1])
    if said is None or key is None or not _is_signed(call, key, said[2], said[3]):
        raise auth.invalid_key("The session is unknown or over, or its key is; log in again.")
    return Caller(key.id, key.account, key.scopes & {Scope.REPORT})


def _is_signed(call: Call, key: Key, until: str, signature: str) -> bool:
    signed = hmac.compare_digest(_signature(call, key.id, until, key.digest), signature)
    return signed and call.now < int(until) and key.is_valid(call.now)


def _key(call: Call, key_id: str) -> Key | None:
    operator_key = call.app.settings.operator_key
    if key_id == auth.SETTING_KEY_ID and operator_key is not None:
        return Key(key_id, auth.digest_of(operator_key), None, frozenset(Scope), 0)
    return call.app.catalog.key(key_id)


def _signature(call: Call, key_id: str, until: str, digest: str) -> str:
    return hmac.new(call.app.session_secret, f"{key_id} {until} {digest}".encode("ascii"), sha256).hexdigest()
