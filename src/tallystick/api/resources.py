"""GET /v1/accounts/{account}/resources: what exists now."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick import windows
from tallystick.api import auth, pages
from tallystick.api.definition_description import ResourcesShown
from tallystick.api.description import Parameter, describe
from tallystick.api.http import Call
from tallystick.errors import Code, Problem
from tallystick.model import LiveResource, ResourceQuery
from tallystick.query import Reply, decimal_text, invalid, value_of

FILTER = {"type": "string", "minLength": 1}
MICROSECONDS = 6
TEXTS = ("status", "state", "type", "model", "actor", "parent", "url")

_encoder = msgspec.json.Encoder(decimal_format="number")


@describe(
    query=(
        Parameter("space", "Only what is in this space or dataset; empty = in none."),
        Parameter("kind", "Only this kind.", FILTER),
        Parameter("id", "Only this id.", FILTER),
        *pages.PARAMETERS,
    ),
    replies={200: ResourcesShown},
    codes=(Code.NOT_FOUND,),
)
async def index(call: Call) -> Reply:
    """List live resources by space, kind and id, page by page; `space=` with nothing means in no space."""
    account = call.path["account"]
    if account not in call.app.catalog.accounts or not auth.may_read(call.caller, account, call.app.catalog):
        raise Problem(Code.NOT_FOUND, "There is no such account.")
    limit, after = pages.asked(call, tuple[str, str, str])
    kind, id = value_of(call.query, "kind"), value_of(call.query, "id")
    found = await call.app.ledger.resources(ResourceQuery(account, _space(call), kind, id, after, limit + 1))
    page, last = pages.cut(found, limit)
    following = None if last is None else (last.space, last.kind, last.id)
    return pages.reply(call, "resources", [_line(resource) for resource in page], following)


def _space(call: Call) -> str | None:
    named = [value for name, value in call.query if name == "space"]
    if len(named) > 1:
        raise invalid("space", "Give space only once.")
    return named[0] if named else None


def _line(resource: LiveResource) -> dict[str, Any]:
    state = resource.state
    line: dict[str, Any] = {"space": resource.space or None, "kind": resource.kind, "id": resource.id}
    line["time"] = windows.format_instant(resource.time)
    line |= {name: state.get(name) for name in TEXTS}
    if "duration" in state:
        line["duration"] = decimal_text(state["duration"], MICROSECONDS)
    if "attributes" in state:
        line["attributes"] = msgspec.Raw(_encoder.encode(state["attributes"]))
    return {name: value for name, value in line.items() if value is not None}
