"""Keys: how they are made, how a request shows one, and what its owner may read."""

from __future__ import annotations

import hmac
import re
import secrets
import zlib
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256

from tallystick.errors import Code, Flaw, Problem
from tallystick.model import AccountKind, Caller, Catalog, Scope

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH = 32  # 190 bits
CHECKSUM_LENGTH = 6
SETTING_KEY_ID = "operator-key-setting"
ANONYMOUS_KEY_ID = "anonymous"
EVERY_SCOPE = frozenset(Scope)

_OURS = re.compile(r"tly_(op|acct)_[0-9A-Za-z]{38}", re.ASCII)
_SHOWN = re.compile(r"([!-~]+) +([!-~]{1,512}) *", re.ASCII)
_TOKEN = re.compile(r"[!-~]{1,512}", re.ASCII)


def make_token(account: str | None) -> str:
    """Make a new key: its kind, 190 random bits and a checksum that tells a mistyped key from an unknown one."""
    kind = "op" if account is None else "acct"
    body = f"tly_{kind}_" + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return body + checksum(body)


def checksum(body: str) -> str:
    """Return the CRC-32 of a key without its checksum, as six base 62 digits."""
    rest, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(CHECKSUM_LENGTH):
        rest, digit = divmod(rest, 62)
        digits = ALPHABET[digit] + digits
    return digits


def digest_of(token: str) -> str:
    """Return what is kept of a key."""
    return sha256(token.encode("ascii")).hexdigest()


@lru_cache(maxsize=1)
def _operator_digest(operator_key: str) -> str:
    return digest_of(operator_key)


def make_key_id() -> str:
    """Make the public name of a key."""
    return "key-" + "".join(secrets.choice(ALPHABET) for _ in range(12))


def authenticate(headers: Mapping[str, str], catalog: Catalog, operator_key: str | None, now: int) -> Caller:
    """Say whose key the request shows, or raise KEY_MISSING or KEY_INVALID."""
    return caller_of(token_of(headers), catalog, operator_key, now)


def token_of(headers: Mapping[str, str], scheme: str = "Bearer") -> str:
    """Return what the request shows as a key behind the word `scheme`, or raise KEY_MISSING or KEY_INVALID."""
    if "authorization" not in headers:
        raise Problem(Code.KEY_MISSING, f"Send a key: Authorization: {scheme} KEY.")
    shown = _SHOWN.fullmatch(headers["authorization"])
    if shown is None or shown[1].lower() != scheme.lower():
        raise invalid_key(f"The Authorization header must be: {scheme} KEY.")
    return shown[2]


def caller_of(token: str, catalog: Catalog, operator_key: str | None, now: int) -> Caller:
    """Say whose key this is, or raise KEY_INVALID."""
    if not _TOKEN.fullmatch(token):
        raise invalid_key("A key has visible ASCII characters only.")
    digest = digest_of(token)
    if operator_key is not None and hmac.compare_digest(digest, _operator_digest(operator_key)):
        return Caller(SETTING_KEY_ID, None, EVERY_SCOPE)
    if _OURS.fullmatch(token) and not hmac.compare_digest(checksum(token[:-CHECKSUM_LENGTH]), token[-CHECKSUM_LENGTH:]):
        raise invalid_key("The key is mistyped or cut short: its checksum is wrong.")
    # Finding it by digest tells a stopwatch nothing: nobody can choose a token by the digest that it will have.
    key = catalog.keys.get(digest)
    if key is None or not hmac.compare_digest(key.digest, digest) or not key.is_valid(now):
        raise invalid_key("The key is unknown, revoked or expired.")
    return Caller(key.id, key.account, key.scopes)


def anonymous(account: str) -> Caller:
    """Return who asks where no key is needed: it reads this account, and no organisation of which that is a member."""
    return Caller(ANONYMOUS_KEY_ID, account, frozenset({Scope.REPORT}))


def invalid_key(detail: str) -> Problem:
    """Say why what was shown opens nothing."""
    challenge = 'Bearer realm="tallystick", error="invalid_token"'
    return Problem(Code.KEY_INVALID, detail, headers={"WWW-Authenticate": challenge})


def require(caller: Caller, scope: Scope) -> None:
    """Raise SCOPE_MISSING unless the key has this scope."""
    if scope not in caller.scopes:
        raise Problem(Code.SCOPE_MISSING, f"This needs a key with the scope {scope}.")


def require_operator(caller: Caller) -> None:
    """Raise SCOPE_MISSING unless the key is the operator's."""
    if caller.account is not None:
        raise Problem(Code.SCOPE_MISSING, "This needs a key of the operator.")


def may_read(caller: Caller, account: str, catalog: Catalog) -> bool:
    """Say whether a key reads an account: every one, its own, or an organisation that its user is a member of."""
    known = catalog.accounts.get(account)
    if caller.account is None:
        return known is not None
    return account == caller.account or (known is not None and known.name in organisations_of(caller, catalog))


def organisations_of(caller: Caller, catalog: Catalog) -> tuple[str, ...]:
    """Return the organisations which the user whose key this is belongs to, in order of name."""
    own = catalog.accounts.get(caller.account or "")
    if caller.key_id == ANONYMOUS_KEY_ID or own is None or own.kind is not AccountKind.USER:
        return ()
    orgs = (other for other in catalog.accounts.values() if other.kind is AccountKind.ORG)
    return tuple(sorted(org.name for org in orgs if own.name in org.members))


def readable(caller: Caller, catalog: Catalog) -> tuple[str, ...] | None:
    """Return every account that a key reads; None = all there are."""
    if caller.account is None:
        return None
    return tuple(sorted({caller.account, *organisations_of(caller, catalog)}))


def readable_named(caller: Caller, names: tuple[str, ...], catalog: Catalog) -> tuple[str, ...]:
    """Return the accounts that a query names, or raise: one that is foreign and one that is not there look the same."""
    for name in names:
        if not may_read(caller, name, catalog):
            raise foreign_account()
    return tuple(dict.fromkeys(names))


def foreign_account() -> Problem:
    """Say that a query names an account which the key does not read, whether or not there is one."""
    detail = "This key does not read that account, or there is none of this name."
    return Problem(Code.ACCOUNT_FORBIDDEN, detail, (Flaw("account", detail),))
