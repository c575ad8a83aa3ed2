"""Every route the process answers, and the way of a request from its first byte to its reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import cache
from time import perf_counter

from structlog.stdlib import BoundLogger

from tallystick.api import (
    accounts,
    audit,
    auth,
    backups,
    documents,
    errors,
    events,
    grants,
    guide,
    health,
    hiya_reports,
    holds,
    http,
    keys,
    limits,
    listing,
    meters,
    metrics,
    openapi,
    proofs,
    rates,
    receipts,
    reports,
    resources,
    sessions,
    usage,
)
from tallystick.api.description import describe
from tallystick.api.ids import ids_of
from tallystick.api.routing import Route, Routing
from tallystick.app import App
from tallystick.dialect import Dialect
from tallystick.dialects import DIALECTS
from tallystick.errors import Code, Problem
from tallystick.model import Caller, Scope
from tallystick.query import Reply
from tallystick.telemetry import LOG, described

Asgi = Callable[[http.Scope, http.Receive, http.Send], Awaitable[None]]


@describe(replies={200: {"type": "object"}})
async def openapi_document(call: http.Call) -> Reply:
    """Describe every call, as OpenAPI 3.1."""
    return _openapi_document()


@cache
def _openapi_document() -> Reply:
    return documents.reply(openapi.document(ROUTES))


HIYA_ROUTES = (
    Route("POST", "/auth/credentials", hiya_reports.log_in),
    Route("GET", "/spaces/{owner}/{space}/stats", hiya_reports.space_statistics, Scope.REPORT),
    Route("GET", "/spaces/{owner}/{space}/audios/{audio}", hiya_reports.audio, Scope.REPORT),
    Route(
        "GET", "/spaces/{owner}/{space}/verifications/{type}/{verification}", hiya_reports.verification, Scope.REPORT
    ),
    Route("GET", "/user/records/{kind}", hiya_reports.user_records, Scope.REPORT),
    Route("GET", "/orgs/{organisation}/records/{kind}", hiya_reports.organisation_records, Scope.REPORT),
    Route("GET", "/orgs/{organisation}/spaces", hiya_reports.organisation_spaces, Scope.REPORT),
)
"""All of them answer below /v1 too, which is the vendor's own prefix."""

ROUTES = (
    Route("GET", "/livez", health.live),
    Route("GET", "/readyz", health.ready),
    Route("GET", "/metrics", metrics.get),
    Route("GET", "/openapi.json", openapi_document),
    Route("GET", "/llms.txt", guide.get),
    Route("POST", "/v1/events", events.post, Scope.INGEST),
    Route("GET", "/v1/events", listing.index, Scope.REPORT),
    Route("GET", "/v1/receipts", receipts.index, Scope.REPORT),
    Route("GET", "/v1/export", listing.export, Scope.REPORT),
    Route("GET", "/v1/usage", usage.native_report, Scope.REPORT),
    Route("GET", "/v1/usage/meters", usage.meters, Scope.REPORT),
    Route("GET", "/v1/accounts", accounts.index, Scope.ADMIN),
    Route("GET", "/v1/accounts/{account}", accounts.get, Scope.ADMIN),
    Route("PUT", "/v1/accounts/{account}", accounts.put, Scope.ADMIN),
    Route("DELETE", "/v1/accounts/{account}", accounts.delete, Scope.ADMIN),
    Route("GET", "/v1/accounts/{account}/resources", resources.index, Scope.REPORT),
    Route("GET", "/v1/meters", meters.index, Scope.ADMIN),
    Route("GET", "/v1/meters/{name}", meters.get, Scope.ADMIN),
    Route("PUT", "/v1/meters/{name}", meters.put, Scope.ADMIN),
    Route("DELETE", "/v1/meters/{name}", meters.delete, Scope.ADMIN),
    Route("GET", "/v1/rates", rates.index, Scope.ADMIN),
    Route("GET", "/v1/rates/{table}", rates.get, Scope.ADMIN),
    Route("PUT", "/v1/rates/{table}", rates.put, Scope.ADMIN),
    Route("GET", "/v1/key", keys.own, any_scope=True),
    Route("GET", "/v1/keys", keys.index, Scope.ADMIN),
    Route("POST", "/v1/keys", keys.post, Scope.ADMIN),
    Route("GET", "/v1/keys/{id}", keys.get, Scope.ADMIN),
    Route("DELETE", "/v1/keys/{id}", keys.delete, Scope.ADMIN),
    Route("POST", "/v1/keys/{id}/rotate", keys.rotate, Scope.ADMIN),
    Route("GET", "/v1/limits", limits.index, Scope.LIMITS),
    Route("GET", "/v1/limits/{id}", limits.get, Scope.LIMITS),
    Route("PUT", "/v1/limits/{id}", limits.put, Scope.ADMIN),
    Route("DELETE", "/v1/limits/{id}", limits.delete, Scope.ADMIN),
    Route("GET", "/v1/limits/{id}/grants", grants.index, Scope.LIMITS),
    Route("POST", "/v1/limits/{id}/grants", grants.post, Scope.ADMIN),
    Route("GET", "/v1/limits/{id}/grants/{grant}", grants.get, Scope.LIMITS),
    Route("DELETE", "/v1/limits/{id}/grants/{grant}", grants.delete, Scope.ADMIN),
    Route("GET", "/v1/limits/{id}/thresholds", limits.thresholds, Scope.LIMITS),
    Route("GET", "/v1/holds", holds.index, Scope.LIMITS),
    Route("POST", "/v1/holds", holds.post, Scope.LIMITS),
    Route("GET", "/v1/holds/{id}", holds.get, Scope.LIMITS),
    Route("POST", "/v1/holds/{id}/renew", holds.renew, Scope.LIMITS),
    Route("POST", "/v1/holds/{id}/settle", holds.settle, Scope.INGEST),
    Route("POST", "/v1/holds/{id}/release", holds.release, Scope.LIMITS),
    Route("GET", "/v1/audit", audit.index, Scope.ADMIN),
    Route("POST", "/v1/verify", proofs.post, Scope.ADMIN),
    Route("POST", "/v1/backup", backups.post, Scope.ADMIN),
    *reports.routes_of(DIALECTS),
    *HIYA_ROUTES,
    *(replace(route, path=f"/v1{route.path}") for route in HIYA_ROUTES),
)

API = Routing(ROUTES, DIALECTS)


async def page(call: http.Call) -> Reply:
    """Answer a browser with a page, which asks the API of this process for what it shows."""
    from tallystick.api import dashboard

    return await dashboard.answer(call, create(call.app, API))


@cache
def everything() -> Routing:
    """Return what answers programs, and people; a process that serves no pages never imports what makes them.

    Pages are no part of the API, and /openapi.json knows nothing of them.
    """
    from tallystick.api import dashboard
    from tallystick.dashboard.pages import PAGES

    pages = (Route(each.method, each.path, page) for each in PAGES)
    return Routing((*ROUTES, *pages), (*DIALECTS, dashboard.DIALECT))


PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""What is asked every few seconds, by machines: not worth a line unless somebody looks closely."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that are counted by name; anything may be sent as one."""


def create(app: App, routing: Routing | None = None) -> Asgi:
    """Return the ASGI application over an open app; without a routing the settings say what answers."""
    routing = routing or (everything() if app.settings.dashboard else API)
    # Bound once: every request writes a line.
    log = LOG.bind()

    async def application(scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
        if scope["type"] != "http":
            return
        app.calls += 1
        app.idle.clear()
        try:
            await answer(app, routing, log, scope, receive, send)
        finally:
            app.calls -= 1
            if app.calls == 0:
                app.idle.set()

    return application


async def answer(
    app: App, routing: Routing, log: BoundLogger, scope: http.Scope, receive: http.Receive, send: http.Send
) -> None:
    """Read one request, call what its route names, write the reply; every way to fail ends as a reply too."""
    started = perf_counter()
    headers = http.headers_of(scope)
    request_id, correlation_id = ids_of(headers)
    call = http.Call(app, scope, receive, headers, request_id, correlation_id, app.clock())
    segments = http.segments_of(scope["raw_path"]) or ()
    dialect = routing.dialect_of(call.instance)
    reply = await _handled(call, routing, segments, dialect)
    if not await http.discard_body(call):
        reply = _with(reply, {"Connection": "close"})
    try:
        await _send(call, reply, dialect, send)
    finally:
        _record(call, log, reply.status, perf_counter() - started)


def _record(call: http.Call, log: BoundLogger, status: int, seconds: float) -> None:
    """Count a request and write its line; both know its route, and neither what was sent."""
    method = call.scope["method"] if call.scope["method"] in METHODS else "other"
    call.app.counts.answered(method, call.route, status, seconds)
    say = log.debug if call.route in PROBES else log.info
    say(
        "request",
        method=method,
        route=call.route,
        status=status,
        ms=round(1000 * seconds, 3),
        request_id=call.request_id,
        **({} if call.key is None else {"key": call.key.key_id, "account": call.key.account}),
    )


async def _handled(call: http.Call, routing: Routing, segments: tuple[str, ...], dialect: Dialect | None) -> Reply:
    try:
        route = _route_of(call, routing, segments)
        if route.is_keyed:
            _refuse_while_draining(call)
            await call.app.ledger.current()
            call.key = _caller(call, route)
        if route.scope is not None:
            auth.require(call.caller, route.scope)
        return await route.handler(call)
    except Problem as problem:
        return _refusal(call, problem, dialect)
    except Exception as error:
        LOG.error("crash", route=call.route, request_id=call.request_id, **described(error))
        broken = Problem(Code.INTERNAL, "Something broke here; the request id finds it in the log.")
        return _refusal(call, broken, dialect)


def _caller(call: http.Call, route: Route) -> Caller:
    open_to = call.app.settings.anonymous_account if route.anonymous else None
    if open_to is not None and "authorization" not in call.headers:
        return auth.anonymous(open_to)
    caller = sessions.authenticate(call, route.scheme)
    call.app.ledger.note_key_use(caller.key_id, call.now)
    return caller


def _route_of(call: http.Call, routing: Routing, segments: tuple[str, ...]) -> Route:
    methods, call.path = routing.match(segments)
    method = call.scope["method"]
    if methods is None:
        raise Problem(Code.NOT_FOUND, "Nothing answers at this path.")
    call.route = next(iter(methods.values())).path
    route = methods.get("GET" if method == "HEAD" else method)
    if route is None:
        allowed = ", ".join(sorted([*methods, *(["HEAD"] if "GET" in methods else [])]))
        raise Problem(Code.METHOD_NOT_ALLOWED, f"This path answers {allowed}.", headers={"Allow": allowed})
    return route


def _refuse_while_draining(call: http.Call) -> None:
    if call.app.draining:
        headers = {"Connection": "close"}
        raise Problem(Code.UNAVAILABLE, "The process is ending; send it again.", retry_after_s=1, headers=headers)


def _refusal(call: http.Call, problem: Problem, dialect: Dialect | None) -> Reply:
    problem.request_id = call.request_id
    native = errors.render(problem, call.instance, call.request_id)
    reply = native if dialect is None else dialect.problem(problem)
    return _with(reply, errors.headers_of(problem, reply.status))


def _with(reply: Reply, headers: Mapping[str, str]) -> Reply:
    return replace(reply, headers={**reply.headers, **headers})


async def _send(call: http.Call, reply: Reply, dialect: Dialect | None, send: http.Send) -> None:
    headers = {
        **({} if reply.parts is not None or reply.status in (204, 304) else {"Content-Length": str(len(reply.body))}),
        "X-Request-Id": call.request_id,
        "X-Correlation-Id": call.correlation_id,
        **reply.headers,
    }
    if reply.media_type:
        headers["Content-Type"] = reply.media_type
    if dialect is not None and dialect.request_id_header is not None:
        headers[dialect.request_id_header] = call.request_id
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    is_head = call.scope["method"] == "HEAD"
    if reply.parts is not None:
        await _stream(call, reply.body, reply.parts, send, is_head=is_head)
    else:
        await send({"type": "http.response.body", "body": b"" if is_head else reply.body})


async def _stream(
    call: http.Call, body: bytes, parts: AsyncGenerator[bytes, None], send: http.Send, *, is_head: bool
) -> None:
    """Send parts as they are made, for as long as the client is there; HEAD gets none of them.

    What ends early is left without its end, so that the server cuts the connection: no client may take it for whole.
    """
    gone = asyncio.create_task(http.gone(call))
    try:
        if not is_head:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            async for part in parts:
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except Exception as error:
        LOG.error("reply cut short", path=call.instance, request_id=call.request_id, **described(error))
        raise
    finally:
        gone.cancel()
        await parts.aclose()
