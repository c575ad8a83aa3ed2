"""Rate tables over HTTP: defined and shown."""

from __future__ import annotations

from typing import Any

from tallystick.api import auth, documents, pages, replays
from tallystick.api.definition_description import NAME, RATES, RATES_EXAMPLE, RatesShown, TablesShown
from tallystick.api.description import Parameter, describe
from tallystick.api.http import Call
from tallystick.definitions import rates, reading
from tallystick.errors import Code, Problem
from tallystick.query import Reply, invalid, value_of

IN_PATH = (Parameter("table", "The rate table's name.", NAME),)


@describe(query=pages.PARAMETERS, replies={200: TablesShown})
async def index(call: Call) -> Reply:
    """List the rate tables by name, page by page."""
    limit, after = pages.asked(call, str)
    names = sorted(name for name in call.app.catalog.rates if after is None or name > after)
    page, following = pages.cut(names, limit)
    return pages.reply(call, "tables", [_shown(call, name) for name in page], following)


@describe(path=IN_PATH, replies={200: RatesShown}, codes=(Code.NOT_FOUND,))
async def get(call: Call) -> Reply:
    """Show one rate table."""
    return documents.reply(_shown(call, call.path["table"]))


@describe(
    path=IN_PATH,
    query=(
        Parameter("recount", "true = count kept events again where rates of them change.", {"enum": ["true", "false"]}),
    ),
    body=RATES,
    example=RATES_EXAMPLE,
    replies={200: RatesShown, 201: RatesShown, 202: RatesShown},
    codes=(Code.IN_USE, Code.TEXT_INVALID),
)
async def put(call: Call) -> Reply:
    """Define a rate table or replace it; `recount=true` lets it change what is counted already."""
    auth.require_operator(call.caller)
    table, before = call.path["table"], call.app.catalog.rates.get(call.path["table"])
    if not reading.NAME.fullmatch(table):
        raise documents.refuse(Code.FIELD_VALUE, "/table", f"A rate table's name must be {reading.NAME_RULE}.")
    recount = _recount(call)
    document = await documents.read_object(call)
    for shown in ("table", "replay"):
        document.pop(shown, None)
    wanted = rates.read(document)
    await call.app.ledger.put_rates(table, wanted, actor=call.caller.key_id, recount=recount)
    if await replays.wait(call, replays.of_table(table)) is not None:
        return documents.reply(_shown(call, table), 202)
    return documents.reply(_shown(call, table), 201 if before is None else 200)


def _recount(call: Call) -> bool:
    said = value_of(call.query, "recount")
    if said not in (None, "true", "false"):
        raise invalid("recount", "recount must be true or false.")
    return said == "true"


def _shown(call: Call, table: str) -> dict[str, Any]:
    """Return the rates that are in force, and how far others are with which kept events are being counted."""
    if table not in call.app.catalog.rates:
        raise Problem(Code.NOT_FOUND, "There is no such rate table.")
    shown = {"table": table, **rates.written(call.app.catalog.rates[table])}
    replay = replays.progress(call, replays.of_table(table))
    return shown if replay is None else {**shown, "replay": replay}
