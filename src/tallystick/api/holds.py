"""Holds over HTTP: capacity is asked for before the work, and given back by what was done."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from tallystick import admission
from tallystick.api import auth, documents, errors, event_description, events, hold_documents, http, pages, receipts
from tallystick.api.description import NAME_SCHEMA, Parameter, describe
from tallystick.api.hold_documents import HoldDocument, RenewalDocument
from tallystick.api.http import Call
from tallystick.envelope import names_of
from tallystick.errors import Code, Problem
from tallystick.holding import Answer, Outcome
from tallystick.ingest import settling
from tallystick.ledger.base import CatalogStale
from tallystick.model import HoldQuery, HoldState, Status
from tallystick.query import Reply, invalid, value_of

HOLD = Parameter("id", "The hold's id.", event_description.NAME)
ACCOUNT = Parameter("account", "Whose hold it is, where several accounts have one of this id.", NAME_SCHEMA)
EXAMPLE = {"id": "job-1", "account": "acme", "meter": "audio", "labels": {"operation": "transcribe"}, "quantity": "60"}
REFUSED = {errors.PROBLEM_MEDIA_TYPE: hold_documents.RefusalDocument}
QUANTITY_CODES = (
    Code.QUANTITY_TYPE,
    Code.QUANTITY_NEGATIVE,
    Code.QUANTITY_PRECISION,
    Code.QUANTITY_RANGE,
    Code.RATE_MISSING,
    Code.TEXT_INVALID,
)
ENDED = {
    HoldState.SETTLED: "The hold was settled.",
    HoldState.RELEASED: "The hold was released.",
    HoldState.EXPIRED: "The hold has expired. Ask for another one.",
}


@describe(
    body=HoldDocument,
    example=EXAMPLE,
    replies={
        200: hold_documents.HoldAdmitted,
        201: hold_documents.HoldAdmitted,
        402: REFUSED,
        429: REFUSED,
    },
    codes=(Code.ACCOUNT_FORBIDDEN, Code.ID_REUSED, Code.TEXT_INVALID, *QUANTITY_CODES),
)
async def post(call: Call) -> Reply:
    """Set capacity aside, under every limit that counts or under none; the same again is the same hold.

    A hold takes of every limit on every meter that work of this kind feeds. In mode check_only nothing is set aside,
    and the answer is what it would be.
    """
    app = call.app
    document = await documents.read(call, HoldDocument)
    account = document.account if document.account is not None else call.caller.account
    if account is None:
        detail = "account is required: say whose capacity is to be held."
        raise documents.refuse(Code.FIELD_MISSING, "/account", detail)
    if account not in app.catalog.accounts or call.caller.account not in (None, account):
        raise _forbidden()
    while True:
        catalog = app.catalog
        asked = hold_documents.asked_of(document, account, catalog, app.settings)
        hold = admission.hold_of(asked, catalog, app.ledger.now, text_length_max=app.settings.text_length_max)
        try:
            answer = await app.ledger.reserve(hold, catalog_version=catalog.version)
            break
        except CatalogStale:
            continue
    if answer.outcome is Outcome.UNKNOWN:
        raise _forbidden()
    if answer.outcome is Outcome.ID_REUSED:
        detail = "There is a hold of this id that asks for something else. Give the new one an id of its own."
        raise documents.refuse(Code.ID_REUSED, "/id", detail)
    if answer.outcome is Outcome.CREATED:
        return _admitted(call, answer, 201, Location=f"/v1/holds/{quote(hold.id, safe='')}")
    return _admitted(call, answer, 200)


@describe(
    query=(
        ACCOUNT,
        Parameter("state", "Only holds in this state.", {"enum": ["open", "settled", "released", "expired"]}),
        *pages.PARAMETERS,
    ),
    replies={200: hold_documents.HoldsShown},
    codes=(Code.ACCOUNT_FORBIDDEN,),
)
async def index(call: Call) -> Reply:
    """List the holds of an account by id, page by page; an operator's key names the account."""
    rows_max, after = pages.asked(call, str)
    account = value_of(call.query, "account") or call.caller.account
    if account is None:
        raise invalid("account", "Name the account whose holds are to be listed.")
    auth.readable_named(call.caller, (account,), call.app.catalog)
    found = await call.app.ledger.holds(HoldQuery(account, _state(call), after, rows_max + 1))
    page, last = pages.cut(found, rows_max)
    now = call.app.ledger.now
    lines = [hold_documents.shown(hold, now) for hold in page]
    return pages.reply(call, "holds", lines, None if last is None else last.id)


@describe(
    path=(HOLD,),
    query=(ACCOUNT,),
    replies={200: hold_documents.HoldShown},
    codes=(Code.ACCOUNT_FORBIDDEN,),
)
async def get(call: Call) -> Reply:
    """Show one hold."""
    account = await _account(call, changes=False)
    hold = await call.app.ledger.hold(account, call.path["id"])
    if hold is None:
        raise _not_found()
    return documents.reply(hold_documents.shown(hold, call.app.ledger.now))


@describe(
    path=(HOLD,),
    query=(ACCOUNT,),
    body=RenewalDocument,
    example={"ttl": "PT10M"},
    body_required=False,
    replies={200: hold_documents.HoldAdmitted, 402: REFUSED, 429: REFUSED},
    codes=(Code.ACCOUNT_FORBIDDEN, Code.HOLD_ENDED, *QUANTITY_CODES),
)
async def renew(call: Call) -> Reply:
    """Let an open hold last longer from now on, and hold more, if that fits, or less.

    Without a body it lasts as long again as it was made to.
    """
    app = call.app
    account, id = await _account(call, changes=True), call.path["id"]
    document = await documents.read(call, RenewalDocument, absent=RenewalDocument())
    ttl, quantity = hold_documents.ttl_of(document.ttl, app.settings), None
    if document.quantity != hold_documents.ABSENT:
        hold = await app.ledger.hold(account, id)
        if hold is None:
            raise _not_found()
        meter = app.catalog.meters.get(hold.meter)
        asked = hold_documents.quantity_of(document.quantity, meter)
        quantity = None if asked is None else admission.quantity_at(hold, meter, asked)
    return _admitted(call, await app.ledger.renew(account, id, ttl=ttl, quantity=quantity), 200)


@describe(
    path=(HOLD,),
    query=(ACCOUNT,),
    replies={200: hold_documents.HoldAdmitted},
    codes=(Code.ACCOUNT_FORBIDDEN, Code.HOLD_ENDED),
)
async def release(call: Call) -> Reply:
    """Give back what is held; safe to repeat."""
    account = await _account(call, changes=True)
    return _admitted(call, await call.app.ledger.release(account, call.path["id"]), 200)


@describe(
    path=(HOLD,),
    query=(ACCOUNT,),
    body={"application/json": event_description.PLAIN_EVENT, "application/cloudevents+json": event_description.EVENT},
    example={
        media_type: event_description.EXAMPLES[media_type]
        for media_type in ("application/json", "application/cloudevents+json")
    },
    replies={200: hold_documents.HoldSettled},
    codes=(*events.RECEIPT_CODES, Code.HOLD_ENDED),
    errors=event_description.ERRORS,
)
async def settle(call: Call) -> Reply:
    """Record the event of the work that was done, and give back the rest, as one.

    The event may say more or less than was held. Of a hold that has expired it is recorded all the same. The same
    event again is answered alike; another one is refused.
    """
    app = call.app
    account, id = await _account(call, changes=True), call.path["id"]
    events.refuse_repeated(call)
    async with http.body_of(call, app.settings.batch_bytes_max) as body:
        received = app.clock()
        settled = await settling.settle(
            body,
            account=account,
            id=id,
            content_type=call.headers.get("content-type"),
            headers=call.headers,
            caller=call.caller,
            ledger=app.ledger,
            settings=app.settings,
            now=received,
        )
    answer, verdict = settled.answer, settled.answer.verdict
    if answer.outcome is Outcome.UNKNOWN:
        raise _not_found()
    if answer.outcome is Outcome.ID_REUSED:
        detail = "This hold was settled with another event. Send this one to /v1/events if it is work of its own."
        raise documents.refuse(Code.ID_REUSED, "/id", detail)
    if answer.outcome is Outcome.BUSY:
        raise Problem(Code.UNAVAILABLE, "The hold is being settled with another event. Try again.", retry_after_s=1)
    if answer.outcome is Outcome.ENDED:
        raise _ended(answer)
    status, code = (Status.ACCEPTED, None) if verdict is None else (verdict.status, verdict.code)
    app.counts.judged(status, code, 1)
    if verdict is not None:
        receipts.note(call, received, [(names_of(settled.raw), verdict)])
    if answer.outcome is Outcome.EVENT_REFUSED:
        assert verdict is not None and verdict.code is not None, "what is refused has a code"
        raise documents.refuse(verdict.code, verdict.pointer, verdict.detail)
    assert answer.hold is not None and answer.hold.settlement is not None, "it was settled"
    receipt = {
        "index": 0,
        "id": answer.hold.settlement.event,
        "status": status,
        "metered": settled.is_metered if verdict is None else verdict.metered,
    }
    return documents.reply({**hold_documents.shown(answer.hold, answer.now), "receipt": receipt})


def _admitted(call: Call, answer: Answer, status: int, **headers: str) -> Reply:
    """Answer with a hold and its limits, or with why it is not so."""
    if answer.outcome is Outcome.UNKNOWN:
        raise _not_found()
    if answer.outcome is Outcome.ENDED:
        raise _ended(answer)
    if answer.outcome is Outcome.REFUSED:
        problem, members = hold_documents.refusal_of(answer)
        reply = errors.render(problem, call.instance, call.request_id)
        body = reply.body[:-1] + b"," + msgspec.json.encode(members)[1:]
        return Reply(reply.status, body, reply.media_type, errors.headers_of(problem, reply.status))
    assert answer.hold is not None, "there is one, or it was refused"
    shown: dict[str, Any] = {
        **hold_documents.shown(answer.hold, answer.now),
        "limits": [hold_documents.limit_of(claim) for claim in answer.claims],
    }
    return documents.reply(shown, status, **hold_documents.fields_of(answer.claims, answer.now), **headers)


async def _account(call: Call, *, changes: bool) -> str:
    """Return whose hold the path names: the account that is named, the key's own, or the only one that has it."""
    named, caller, catalog = value_of(call.query, "account"), call.caller, call.app.catalog
    if named is not None:
        if changes and caller.account not in (None, named):
            raise auth.foreign_account()
        return auth.readable_named(caller, (named,), catalog)[0]
    if caller.account is not None:
        return caller.account
    owners = await call.app.ledger.hold_accounts(call.path["id"])
    if not owners:
        raise _not_found()
    if len(owners) > 1:
        raise invalid("account", "Several accounts have a hold of this id: say whose is meant.")
    return owners[0]


def _state(call: Call) -> HoldState | None:
    text = value_of(call.query, "state")
    if text is None:
        return None
    if text not in {str(state) for state in ENDED} | {"open"}:
        raise invalid("state", "state must be open, settled, released or expired.")
    return HoldState(text)


def _ended(answer: Answer) -> Problem:
    assert answer.hold is not None, "what has ended was there"
    return Problem(Code.HOLD_ENDED, ENDED[answer.hold.state_at(answer.now)])


def _not_found() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such hold.")


def _forbidden() -> Problem:
    return documents.refuse(
        Code.ACCOUNT_FORBIDDEN, "/account", "This key holds nothing for that account, or there is none of this name."
    )
