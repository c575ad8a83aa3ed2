"""Accounts: who owns usage, and who belongs to whom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from tallystick import windows
from tallystick.api import auth, documents, pages
from tallystick.api.description import NAME_SCHEMA, Parameter, describe
from tallystick.api.http import Call
from tallystick.errors import Code, Problem
from tallystick.model import Account, AccountKind, Deletion
from tallystick.query import Reply

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,49}", re.ASCII)
MEMBERS_MAX = 10_000
IN_USE = {
    Deletion.HAS_EVENTS: "The account has events, and usage is kept for ever: it cannot be deleted. Revoke its keys.",
    Deletion.HAS_KEYS: "The account has keys. Revoke each with DELETE /v1/keys/{id} first.",
    Deletion.HAS_LIMITS: "The account has limits. Delete each with DELETE /v1/limits/{id} first.",
}


class AccountDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /v1/accounts/{account}: the whole new definition."""

    kind: AccountKind
    timezone: Annotated[str, Meta(extra_json_schema={"description": "An IANA zone."})] = "UTC"
    members: list[Annotated[str, Meta(extra_json_schema=NAME_SCHEMA)]] = []
    account: Annotated[str | None, Meta(extra_json_schema={"description": "As in the path, or left out."})] = None


class AccountShown(TypedDict):
    """An account; organisations have members."""

    account: str
    kind: AccountKind
    timezone: str
    members: NotRequired[Sequence[str]]


class AccountsShown(TypedDict):
    """Accounts by name."""

    accounts: list[AccountShown]
    next: str | None


@describe(query=pages.PARAMETERS, replies={200: AccountsShown})
async def index(call: Call) -> Reply:
    """List the accounts that the key reads, by name, page by page."""
    limit, after = pages.asked(call, str)
    catalog = call.app.catalog
    names = auth.readable(call.caller, catalog)
    chosen = sorted(name for name in (catalog.accounts if names is None else names) if name in catalog.accounts)
    page, following = pages.cut([name for name in chosen if after is None or name > after], limit)
    return pages.reply(call, "accounts", [shown(catalog.accounts[name]) for name in page], following)


@describe(replies={200: AccountShown})
async def get(call: Call) -> Reply:
    """Show one account."""
    return documents.reply(shown(_readable(call)))


@describe(
    path=(Parameter("account", "The account's name.", NAME_SCHEMA),),
    body=AccountDocument,
    example={"kind": "org", "timezone": "Europe/Prague", "members": ["ada"]},
    replies={200: AccountShown, 201: AccountShown},
)
async def put(call: Call) -> Reply:
    """Create an account or replace its definition."""
    name, before = call.path["account"], call.app.catalog.accounts.get(call.path["account"])
    if call.caller.account not in (None, name):
        raise _not_found()
    wanted = _checked(name, await documents.read(call, AccountDocument))
    if call.caller.account is not None and (before is None or before.kind is not wanted.kind):
        raise Problem(Code.SCOPE_MISSING, "Only the operator creates an account or changes its kind.")
    kept = await call.app.ledger.put_account(wanted, actor=call.caller.key_id)
    return documents.reply(shown(kept), 201 if before is None else 200)


@describe(replies={204: None}, codes=(Code.IN_USE,))
async def delete(call: Call) -> Reply:
    """Delete an account that never had an event and has no keys and limits."""
    name = call.path["account"]
    if call.caller.account not in (None, name):
        raise _not_found()
    auth.require_operator(call.caller)
    became = await call.app.ledger.delete_account(name, actor=call.caller.key_id)
    if became is Deletion.UNKNOWN:
        raise _not_found()
    if became in IN_USE:
        raise Problem(Code.IN_USE, IN_USE[became])
    return Reply(204, b"", "")


def _readable(call: Call) -> Account:
    account = call.app.catalog.accounts.get(call.path["account"])
    if account is None or not auth.may_read(call.caller, account.name, call.app.catalog):
        raise _not_found()
    return account


def _not_found() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such account.")


def _checked(name: str, document: AccountDocument) -> Account:
    if not NAME.fullmatch(name):
        raise documents.refuse(Code.FIELD_VALUE, "", _rule("The account's name"))
    documents.require_name("account", document.account, name)
    if not windows.is_zone(document.timezone):
        raise documents.refuse(Code.FIELD_VALUE, "/timezone", "timezone must be an IANA zone, such as Europe/Prague.")
    if document.members and document.kind is not AccountKind.ORG:
        raise documents.refuse(Code.FIELD_VALUE, "/members", "Only an organisation (kind org) has members.")
    if len(document.members) > MEMBERS_MAX:
        raise documents.refuse(Code.FIELD_LENGTH, "/members", f"At most {MEMBERS_MAX} members.")
    for place, member in enumerate(document.members):
        if not NAME.fullmatch(member):
            raise documents.refuse(Code.FIELD_VALUE, f"/members/{place}", _rule("A member's name"))
    members = tuple(dict.fromkeys(document.members))
    return Account(name, 0, document.kind, document.timezone, members)


def _rule(what: str) -> str:
    return f"{what} must be 1 to 50 of a-z, 0-9 and -, and not begin with -."


def shown(account: Account) -> AccountShown:
    """Return an account as the API shows it."""
    shown: AccountShown = {"account": account.name, "kind": account.kind, "timezone": account.timezone}
    if account.kind is AccountKind.ORG:
        shown["members"] = account.members
    return shown
