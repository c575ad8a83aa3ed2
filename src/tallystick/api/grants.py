"""Grants over HTTP: what gives a limit capacity, for a time or without end."""

from __future__ import annotations

from typing import TypedDict

from tallystick import windows
from tallystick.api import documents, limit_documents, limits, pages
from tallystick.api.description import Parameter, describe
from tallystick.api.http import Call
from tallystick.api.limit_documents import ID_SCHEMA, GrantDocument
from tallystick.errors import Code, Problem
from tallystick.model import Grant, GrantKind, Outcome
from tallystick.query import Reply, decimal_text

GrantShown = TypedDict("GrantShown", {"id": str, "amount": str, "kind": GrantKind, "from": str, "until": "str | None"})
"""A grant: what it gives, and from when until when (null = without end)."""


class GrantsShown(TypedDict):
    """Grants by the instant from which they are valid."""

    grants: list[GrantShown]
    next: str | None


LIMIT = Parameter("id", "The limit's id.", ID_SCHEMA)
GRANT = Parameter("grant", "The grant's id.", ID_SCHEMA)
EXAMPLE = {
    "id": "december",
    "amount": "3600",
    "kind": "extension",
    "from": "2026-12-01T00:00:00Z",
    "until": "2027-01-01T00:00:00Z",
}


@describe(path=(LIMIT,), query=pages.PARAMETERS, replies={200: GrantsShown})
async def index(call: Call) -> Reply:
    """List the grants of a limit by the instant from which they are valid, page by page."""
    rows_max, after = pages.asked(call, tuple[int, str])
    grants = {(grant.start, grant.id): grant for grant in limits.named_in(call).grants}
    page, following = pages.cut(sorted(at for at in grants if after is None or at > after), rows_max)
    return pages.reply(call, "grants", [shown(grants[at]) for at in page], following)


@describe(path=(LIMIT, GRANT), replies={200: GrantShown})
async def get(call: Call) -> Reply:
    """Show one grant."""
    grant = limits.named_in(call).grant(call.path["grant"])
    if grant is None:
        raise _not_found()
    return documents.reply(shown(grant))


@describe(
    path=(LIMIT,),
    body=GrantDocument,
    example=EXAMPLE,
    replies={200: GrantShown, 201: GrantShown},
    codes=(Code.ID_REUSED, *limits.QUANTITY_CODES),
)
async def post(call: Call) -> Reply:
    """Give a limit capacity; the same again changes nothing."""
    limits.refuse_changes(call)
    limit = limits.named_in(call)
    grant = limit_documents.grant_of(limit, await documents.read(call, GrantDocument))
    outcome = await call.app.ledger.put_grant(grant, actor=call.caller.key_id)
    if outcome is Outcome.LIMIT_UNKNOWN:
        raise limits.not_found()
    if outcome is Outcome.ID_REUSED:
        detail = "The limit has another grant of this id. Give the new one its own id, or delete the old one first."
        raise documents.refuse(Code.ID_REUSED, "/id", detail)
    if outcome is Outcome.DUPLICATE:
        return documents.reply(shown(grant))
    return documents.reply(shown(grant), 201, Location=f"/v1/limits/{limit.id}/grants/{grant.id}")


@describe(path=(LIMIT, GRANT), replies={204: None})
async def delete(call: Call) -> Reply:
    """Take a grant away; what was used stays used."""
    limits.refuse_changes(call)
    id, grant = limits.named_in(call).id, call.path["grant"]
    if not await call.app.ledger.delete_grant(id, grant, actor=call.caller.key_id):
        raise _not_found()
    return Reply(204, b"", "")


def _not_found() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such grant.")


def shown(grant: Grant) -> GrantShown:
    """Return a grant as the API shows it."""
    return {
        "id": grant.id,
        "amount": decimal_text(grant.amount, grant.scale),
        "kind": grant.kind,
        "from": windows.format_instant(grant.start),
        "until": None if grant.end is None else windows.format_instant(grant.end),
    }
