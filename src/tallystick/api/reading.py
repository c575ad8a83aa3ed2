"""What every report begins with: whose usage it may read, and the request as dialects see it."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.api import auth
from tallystick.api.http import Call
from tallystick.query import Request, invalid


def accounts_of(call: Call) -> tuple[str, ...] | None:
    """Return the accounts that the query names, or all that the key reads (None = all there are)."""
    catalog, named = call.app.catalog, named_in(call)
    return auth.readable_named(call.caller, named, catalog) if named else auth.readable(call.caller, catalog)


def named_in(call: Call) -> tuple[str, ...]:
    """Return the accounts that the query names."""
    return tuple(value for name, value in call.query if name == "account")


def one_account(call: Call) -> str:
    """Return the account that the query names, or the key's own; the operator's keys have to name one."""
    named = named_in(call)
    if not named and call.caller.account is not None:
        return call.caller.account
    if len(named) != 1 or not named[0]:
        raise invalid("account", "Name one account: ?account=NAME.")
    return auth.readable_named(call.caller, named, call.app.catalog)[0]


def request_of(call: Call, accounts: tuple[str, ...] | None, settings: Sequence[str] = ()) -> Request:
    """Make what a dialect may know of a request, with these settings."""
    return Request(
        now=call.now,
        catalog=call.app.catalog,
        accounts=accounts,
        query=call.query,
        path=call.path,
        accept=call.headers.get("accept", ""),
        settings={name: getattr(call.app.settings, name) for name in settings},
    )
