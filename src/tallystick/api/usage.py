"""The reports: who may read what is settled here, the rest is a dialect's."""

from __future__ import annotations

from tallystick import query
from tallystick.api import auth
from tallystick.api.http import Call
from tallystick.dialects import native, speechmatics
from tallystick.errors import Code, Flaw, Problem
from tallystick.query import Reply


async def native_report(call: Call) -> Reply:
    """GET /v1/usage: over every account that the key reads, or those that the query names."""
    named = _named(call)
    catalog = call.app.catalog
    chosen = auth.readable_named(call.caller, named, catalog) if named else auth.readable(call.caller, catalog)
    request = _request(call, chosen)
    question = native.parse(request)
    (table,) = await query.run(call.app.ledger, [question])
    return native.render(request, question, table, call.app.settings.usage_rows_max)


async def speechmatics_report(call: Call) -> Reply:
    """GET /v2/usage: of one account, the key's own where none is named."""
    request = _request(call, (_one_account(call),))
    plan = speechmatics.parse(request)
    tables = await query.run(call.app.ledger, plan.queries)
    return speechmatics.render(request, plan, tables)


def _one_account(call: Call) -> str:
    named = _named(call)
    if not named and call.caller.account is not None:
        return call.caller.account
    if len(named) != 1:
        detail = "Name one account: ?account=NAME."
        raise Problem(Code.PARAMETER_INVALID, detail, (Flaw("account", detail),))
    return auth.readable_named(call.caller, named, call.app.catalog)[0]


def _named(call: Call) -> tuple[str, ...]:
    return tuple(value for name, value in call.query if name == "account")


def _request(call: Call, accounts: tuple[str, ...] | None) -> query.Request:
    return query.Request(
        now=call.now,
        catalog=call.app.catalog,
        accounts=accounts,
        query=call.query,
        path=call.path,
        accept=call.headers.get("accept", ""),
    )
