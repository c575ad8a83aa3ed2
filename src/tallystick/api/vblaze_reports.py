"""vblaze's reports: whose usage is settled here, the rest is the dialect's."""

from __future__ import annotations

from typing import Any

from tallystick import query
from tallystick.api import reading
from tallystick.api.description import NAME_SCHEMA, Errors, Parameter, describe
from tallystick.api.http import Call
from tallystick.dialects import vblaze
from tallystick.errors import Code
from tallystick.query import Reply

DAY_SCHEMA = {"type": "string", "format": "date", "pattern": "^[1-9][0-9]{3}-"}
CELL_SCHEMA = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 2,
    "maxItems": 2,
    "description": "Hours, then streams.",
}
CELLS_SCHEMA = {"type": "object", "required": ["total"], "additionalProperties": CELL_SCHEMA}
QUERY = (
    Parameter("since", "The first UTC day, as YYYY-MM-DD; absent = from the beginning.", DAY_SCHEMA),
    Parameter("until", "The last UTC day; absent = up to now.", DAY_SCHEMA),
    Parameter("account", "Whose usage; the operator's keys must say, others read their own.", NAME_SCHEMA),
)
PATH = (Parameter("filter", "One value, compared exactly: only what has it is counted. A slash may stand in it."),)
CODES = (Code.ACCOUNT_FORBIDDEN, Code.UNPROVEN)
ERRORS = Errors(vblaze.STATUS, vblaze.Refusal)


@describe(query=QUERY, path=PATH, replies={200: CELLS_SCHEMA}, codes=CODES, errors=ERRORS)
async def cells(call: Call) -> Reply:
    """Report hours and streams by model, tags or billing, and their total, as vblaze does."""
    return await _report(call)


@describe(query=QUERY, path=PATH, replies={200: dict[str, Any]}, codes=CODES, errors=ERRORS)
async def full(call: Call) -> Reply:
    """Report hours and streams by billing, in it by model, and in it by tags, as vblaze does."""
    return await _report(call)


@describe(query=QUERY, path=PATH, replies={200: dict[str, Any]}, codes=CODES, errors=ERRORS)
async def raw(call: Call) -> Reply:
    """Report hours and streams in one flat list, by licence where there are several, as vblaze does."""
    return await _report(call)


@describe(query=QUERY, path=PATH, replies={200: list[str]}, codes=CODES, errors=ERRORS)
async def keys(call: Call) -> Reply:
    """List the keys by which usage is told apart, as vblaze does; nothing behind the path changes the list."""
    return await _report(call)


HANDLERS = {"usagefull": full, "usageraw": raw, "usagelicense": raw, "usagekeys": keys}
"""By report; `cells` makes the others."""


async def _report(call: Call) -> Reply:
    request = reading.request_of(call, (reading.one_account(call),))
    plan = vblaze.parse(request, call.route.split("/")[1])
    tables = await query.run(call.app.ledger, plan.queries)
    return vblaze.render(request, plan, tables)
