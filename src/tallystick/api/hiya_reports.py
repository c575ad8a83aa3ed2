"""hiya's statistics, records and resources: who may read what is settled here, the rest is the dialect's."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tallystick.api import auth, documents, reading, sessions
from tallystick.api.description import INSTANT_SCHEMA, NAME_SCHEMA, Errors, Parameter, describe
from tallystick.api.http import Call
from tallystick.dialects import hiya
from tallystick.dialects.hiya import records, references, resources, statistics
from tallystick.errors import Code
from tallystick.model import AccountKind, LiveResource, ResourceQuery
from tallystick.query import Reply, Request

ERRORS = Errors(hiya.STATUS, hiya.Refusal)
OWNER = Parameter("owner", "The user or the organisation whose space it is.")
SPACE = Parameter("space", "The space.")
ORGANISATION = Parameter("organisation", "The organisation.")
KIND = Parameter("kind", "What the records are of.", {"enum": list(records.METERS)})
PAGES = (
    Parameter("page", "Which page, from 1; past the last one it is empty.", {"type": "integer", "minimum": 1}),
    Parameter("page-size", "Items of a page; absent = 20.", {"type": "integer", "minimum": 1, "maximum": 50}),
)
BETWEEN = (
    Parameter("sort", "The order, which is ascending.", {"enum": list(records.INSTANTS.values())}),
    Parameter("after", "The first instant.", INSTANT_SCHEMA),
    Parameter("before", "The last instant, which is in too.", INSTANT_SCHEMA),
)


class Credentials(msgspec.Struct):
    """The body of POST /auth/credentials: a key's id, and the key."""

    handle: str
    password: str


class Session(msgspec.Struct):
    """What stands for the key for an hour."""

    token: str


@describe(
    body=Credentials,
    example={"handle": "key-k4Rw9LhTq2Jd", "password": "the key"},
    replies={200: Session},
    codes=(Code.KEY_INVALID, Code.SCOPE_MISSING),
    errors=ERRORS,
)
async def log_in(call: Call) -> Reply:
    """Open a session of a key, as hiya's scripts do: its token reads reports for an hour.

    It ends with its key, and when the process ends. /v1/auth/credentials is the same.
    """
    sent = await documents.read(call, Credentials)
    await call.app.ledger.current()
    return documents.reply(Session(sessions.open_session(call, sent.handle, sent.password)))


@describe(path=(OWNER, SPACE), replies={200: statistics.Statistics}, codes=(Code.UNPROVEN,), errors=ERRORS)
async def space_statistics(call: Call) -> Reply:
    """Count what is in a space now, as hiya does."""
    request = _of_owner(call)
    return statistics.render(await call.app.ledger.live(statistics.parse(request)))


@describe(
    path=(
        OWNER,
        SPACE,
        Parameter("type", "identity, authenticity or message."),
        Parameter("verification", "The verification."),
    ),
    replies={200: resources.Verification},
    codes=(Code.UNPROVEN,),
    errors=ERRORS,
)
async def verification(call: Call) -> Reply:
    """Show a verification that exists, with its audio."""
    request = _of_owner(call)
    found = await call.app.ledger.resources(resources.parse(request, "verification"))
    audio = await _existing(call, resources.audio_query(request, found))
    return resources.render_verification(request, found, audio)


@describe(
    path=(OWNER, SPACE, Parameter("audio", "The audio.")),
    replies={200: resources.Audio},
    codes=(Code.UNPROVEN,),
    errors=ERRORS,
)
async def audio(call: Call) -> Reply:
    """Show an audio that exists, with its duration."""
    request = _of_owner(call)
    return resources.render_audio(await call.app.ledger.resources(resources.parse(request, "audio")))


@describe(
    path=(ORGANISATION,),
    query=(*PAGES, Parameter("sort", "The order, which is ascending.", {"enum": ["handle"]})),
    replies={200: list[references.SpaceReference]},
    codes=(Code.UNPROVEN,),
    errors=ERRORS,
)
async def organisation_spaces(call: Call) -> Reply:
    """List the spaces of an organisation, in pages."""
    account = _organisation(call)
    request = reading.request_of(call, (account,))
    plan = resources.parse_spaces(request, account)
    wanted, total = resources.names_on(plan, await call.app.ledger.live(plan.query))
    return resources.render_spaces(request, plan, await _existing(call, wanted), total)


@describe(
    path=(ORGANISATION, KIND),
    query=(*PAGES, *BETWEEN),
    replies={200: list[records.UsageRecord]},
    codes=(Code.UNPROVEN,),
    errors=ERRORS,
)
async def organisation_records(call: Call) -> Reply:
    """List what an organisation verified or computed, in pages, whatever was deleted since."""
    return await _records(call, _organisation(call))


@describe(
    path=(KIND,),
    query=(*PAGES, *BETWEEN, Parameter("account", "Whose records; for the operator's keys.", NAME_SCHEMA)),
    replies={200: list[records.UsageRecord]},
    codes=(Code.UNPROVEN,),
    errors=ERRORS,
)
async def user_records(call: Call) -> Reply:
    """List what the key's user verified or computed, in pages, whatever was deleted since."""
    return await _records(call, _user(call))


async def _records(call: Call, account: str) -> Reply:
    request = reading.request_of(call, (account,))
    plan = records.parse(request, account)
    page = await call.app.ledger.records(plan.query)
    return records.render(request, plan, page, await _existing(call, records.references(plan, page)))


async def _existing(call: Call, wanted: ResourceQuery) -> Sequence[LiveResource]:
    """Return those of the resources that exist, in order."""
    return await call.app.ledger.resources(wanted) if wanted.names else ()


def _of_owner(call: Call) -> Request:
    """Make the request about a space whose owner the key reads."""
    owner = call.path["owner"]
    if not auth.may_read(call.caller, owner, call.app.catalog):
        raise hiya.not_found()
    return reading.request_of(call, (owner,))


def _organisation(call: Call) -> str:
    return _readable(call, call.path["organisation"], AccountKind.ORG)


def _user(call: Call) -> str:
    """Return the key's own account, where that is a user's; the operator's keys name one."""
    named = reading.named_in(call)
    # One that is named is not there, rather than forbidden, where the key does not read it.
    name = named[0] if len(named) == 1 and named[0] else reading.one_account(call)
    return _readable(call, name, AccountKind.USER)


def _readable(call: Call, name: str, kind: AccountKind) -> str:
    account = call.app.catalog.accounts.get(name)
    if account is None or account.kind is not kind or not auth.may_read(call.caller, name, call.app.catalog):
        raise hiya.not_found()
    return name
