"""The reports of dialects: whose usage is settled here, the questions are asked, and the rest is the dialect's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from tallystick import query
from tallystick.api import auth, reading
from tallystick.api.description import NAME_SCHEMA, Errors, describe
from tallystick.api.http import Call
from tallystick.api.routing import Handler, Route, parts_of
from tallystick.dialect import Dialect, Parameter, Report
from tallystick.errors import Code, Problem
from tallystick.model import AccountKind, Scope
from tallystick.query import Answers, Reply

ROWS_INLINE_MAX = 1000
"""Up to here a report is written on the loop; what is larger is left to a thread."""

ACCOUNT = Parameter("account", "Whose usage; the operator's keys must say, others read their own.", NAME_SCHEMA)


def routes_of(dialects: Iterable[Dialect]) -> Iterator[Route]:
    """Yield a route for each report."""
    for dialect in dialects:
        for report in dialect.reports:
            handler = handler_of(dialect, report)
            yield Route("GET", report.path, handler, Scope.REPORT, dialect.anonymous, dialect.scheme)


def handler_of(dialect: Dialect, report: Report[Any]) -> Handler:
    """Make the handler of a report, with its description for /openapi.json."""

    async def answer(call: Call) -> Reply:
        return await _answer(call, report)

    *_, name = (part for part in parts_of(report.path) if not part.startswith("{"))
    answer.__name__ = f"{dialect.name}_{name}"
    answer.__doc__ = report.summary
    is_named = report.organisation is not None
    note = describe(
        query=(*report.query, *(() if is_named else (ACCOUNT,))),
        path=report.parts,
        replies={200: report.reply},
        codes=(Code.UNPROVEN,) if is_named else (Code.ACCOUNT_FORBIDDEN, Code.UNPROVEN),
        errors=Errors(dialect.statuses, dialect.refusal),
    )
    return note(answer)


async def _answer(call: Call, report: Report[Any]) -> Reply:
    request = reading.request_of(call, (_account(call, report),), report.settings)
    plan = report.parse(request)
    answers = await query.answers(call.app.ledger, request.catalog, plan.questions)
    if _size(answers) > ROWS_INLINE_MAX:
        return await asyncio.to_thread(report.render, request, plan, answers)
    return report.render(request, plan, answers)


def _account(call: Call, report: Report[Any]) -> str:
    if report.organisation is None:
        return reading.one_account(call)
    name = call.path[report.organisation]
    account = call.app.catalog.accounts.get(name)
    is_organisation = account is not None and account.kind is AccountKind.ORG
    if not is_organisation or not auth.may_read(call.caller, name, call.app.catalog):
        raise Problem(Code.NOT_FOUND, "There is no such organisation, or this key does not read it.")
    return name


def _size(answers: Answers) -> int:
    return sum(len(table.rows) for table in answers.usage) + sum(map(len, answers.live))
