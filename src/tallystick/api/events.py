"""POST /v1/events: the body within its bounds, then ingest, then the receipts and the status that sums them up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

import msgspec

from tallystick.api import errors, event_description, http, receipts
from tallystick.api.description import Parameter, describe
from tallystick.envelope import pointer_to
from tallystick.errors import Code, Flaw, Problem
from tallystick.ingest.accept import Intake, accept
from tallystick.ingest.headers import CLOUDEVENTS
from tallystick.model import Receipt, Status, Verdict
from tallystick.query import Reply, invalid

RECEIPT_CODES = (*tuple(Code)[: tuple(Code).index(Code.OVER_LIMIT) + 1], Code.HEADER_INVALID)

RECEIPTS_AT_ONCE = 1000
"""About a millisecond of writing; then others get their turn."""


class ReceiptLine(msgspec.Struct, omit_defaults=True):
    """A receipt as it is written; what says nothing is left out."""

    index: int
    id: str | None
    status: Status
    metered: bool
    code: Code | None = None
    pointer: str | None = None
    detail: str | None = None


@describe(
    query=(
        Parameter("receipts", "All receipts; absent, only those of refused events.", {"enum": ["all"]}),
        Parameter(
            "dry_run",
            "true: check the events and keep none. What only the ledger knows (duplicates, conflicts, unknown "
            "accounts, too many label sets) is not looked at.",
            {"enum": ["true"]},
        ),
    ),
    body=event_description.BODY,
    example=event_description.EXAMPLES,
    replies={
        200: event_description.Receipts,
        207: event_description.Receipts,
        402: {errors.PROBLEM_MEDIA_TYPE: event_description.EventProblem},
    },
    codes=RECEIPT_CODES,
    errors=event_description.ERRORS,
)
async def post(call: http.Call) -> Reply:
    """Take events in and say of each what became of it.

    200 when every event was accepted or is a duplicate, 207 with receipts when some of several were refused; a
    single event that is refused is a problem. Binary CloudEvents, with ce- headers, are taken with any content type.
    Bodies may be compressed with gzip or zstd.
    """
    settings = call.app.settings
    refuse_repeated(call)
    show_all = _is_asked(call, "receipts", "all", "then only those of refused events are listed")
    dry_run = _is_asked(call, "dry_run", "true", "then the events are kept")
    async with http.body_of(call, settings.batch_bytes_max) as body:
        received = call.app.clock()
        intake = await accept(
            body,
            content_type=call.headers.get("content-type"),
            headers=call.headers,
            caller=call.caller,
            ledger=call.app.ledger,
            settings=settings,
            now=received,
            dry_run=dry_run,
        )
    if not dry_run:
        for (status, code), events in intake.tally().items():
            call.app.counts.judged(status, code, events)
        if intake.verdicts:
            receipts.note(call, received, intake.last_not_accepted(call.app.settings.receipts_max))
    return await _reply(call, intake, show_all)


def _is_asked(call: http.Call, name: str, word: str, otherwise: str) -> bool:
    """Say whether a parameter is there; it is one word or absent."""
    asked = {value for found, value in call.query if found == name}
    if asked - {word}:
        raise invalid(name, f"{name} must be {word}, or absent: {otherwise}.")
    return bool(asked)


def refuse_repeated(call: http.Call) -> None:
    """Refuse an attribute of binary mode that came twice: nobody can tell which one was meant."""
    if call.headers.get("content-type", "").lower().lstrip().startswith(CLOUDEVENTS):
        return
    if not any(name.startswith("ce-") for name in call.headers):
        return
    names = [str(name, "latin-1").lower() for name, _ in call.scope["headers"]]
    twice = next((name for name in names if name.startswith("ce-") and names.count(name) > 1), None)
    if twice is not None:
        detail = f"Send the header {twice} once."
        raise Problem(Code.HEADER_INVALID, detail, (Flaw(pointer_to(twice[3:]), detail),))


async def _reply(call: http.Call, intake: Intake, show_all: bool) -> Reply:
    receipts = intake.receipts(show_all)
    counts = _counted(intake)
    refused = counts[Status.CONFLICT] + counts[Status.REJECTED]
    members = msgspec.json.encode(counts)[:-1] + b',"receipts":' + await _written(receipts) + b"}"
    if refused and intake.single:
        return _refusal(call, _first_refused(receipts), members)
    return Reply((HTTPStatus.MULTI_STATUS if refused else HTTPStatus.OK).value, members)


def _counted(intake: Intake) -> dict[Status, int]:
    """Count events by verdict."""
    counts = dict.fromkeys(Status, 0)
    for (status, _), events in intake.tally().items():
        counts[status] += events
    return counts


def _first_refused(receipts: Sequence[Receipt]) -> Verdict:
    return next(receipt.verdict for receipt in receipts if receipt.verdict.code is not None)


def _refusal(call: http.Call, verdict: Verdict, members: bytes) -> Reply:
    """Answer for the one event of a request: a problem that has the counts and the receipt as further members."""
    assert verdict.code is not None
    flaws = (Flaw(verdict.pointer, verdict.detail),)
    problem = Problem(verdict.code, verdict.detail, flaws, http_status=verdict.http_status)
    reply = errors.render(problem, call.instance, call.request_id)
    return Reply(reply.status, reply.body[:-1] + b"," + members[1:], reply.media_type)


async def _written(receipts: Sequence[Receipt]) -> bytes:
    parts = []
    for start in range(0, len(receipts), RECEIPTS_AT_ONCE):
        lines = [_line(receipt) for receipt in receipts[start : start + RECEIPTS_AT_ONCE]]
        parts.append(msgspec.json.encode(lines)[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(parts) + b"]"


def _line(receipt: Receipt) -> ReceiptLine:
    verdict = receipt.verdict
    if verdict.code is None:
        return ReceiptLine(receipt.index, receipt.id, verdict.status, verdict.metered)
    return ReceiptLine(
        receipt.index, receipt.id, verdict.status, verdict.metered, verdict.code, verdict.pointer, verdict.detail
    )
