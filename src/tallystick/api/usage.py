"""The reports: who may read what is settled here, the rest is a dialect's."""

from __future__ import annotations

import asyncio
import re

from tallystick import query
from tallystick.api import auth, reading
from tallystick.api.http import Call
from tallystick.dialects import native, speechmatics
from tallystick.errors import Code, Flaw, Problem
from tallystick.query import Reply

ROWS_INLINE_MAX = 1000
"""Up to here a report is written on the loop; what is larger is left to a thread."""

_TAG = re.compile(r'(?:W/)?("[!#-~\x80-\xff]*")')


async def native_report(call: Call) -> Reply:
    """GET /v1/usage: over every account that the key reads, or those that the query names."""
    ledger = call.app.ledger
    request = reading.request_of(call, reading.accounts_of(call))
    question = native.parse(request, call.app.settings.usage_rows_max)
    native.page_of(request, question)
    if (known := call.headers.get("if-none-match")) is not None:
        now = native.tag(request, question, (await ledger.as_of([question])).sequence)
        if matches(known, now):
            return Reply(304, b"", "", native.headers(now))
    (table,) = await query.run(ledger, [question])
    if len(table.rows) > ROWS_INLINE_MAX:
        return await asyncio.to_thread(native.render, request, question, table)
    return native.render(request, question, table)


def matches(known: str, tag: str) -> bool:
    """Say whether an If-None-Match header names a tag, by weak comparison (RFC 9110)."""
    return known.strip() == "*" or tag in _TAG.findall(known)


async def speechmatics_report(call: Call) -> Reply:
    """GET /v2/usage: of one account, the key's own where none is named."""
    request = reading.request_of(call, (_one_account(call),))
    plan = speechmatics.parse(request)
    tables = await query.run(call.app.ledger, plan.queries)
    return speechmatics.render(request, plan, tables)


def _one_account(call: Call) -> str:
    named = reading.named_in(call)
    if not named and call.caller.account is not None:
        return call.caller.account
    if len(named) != 1:
        detail = "Name one account: ?account=NAME."
        raise Problem(Code.PARAMETER_INVALID, detail, (Flaw("account", detail),))
    return auth.readable_named(call.caller, named, call.app.catalog)[0]
