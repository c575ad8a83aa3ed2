"""POST /v1/verify: the ledger replayed and compared, while it goes on serving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TypedDict

import msgspec

from tallystick.api import auth, documents, http
from tallystick.api.description import JSON, describe
from tallystick.api.http import Call
from tallystick.errors import Code
from tallystick.ledger.base import Proof
from tallystick.query import Reply, preferred

NDJSON = "application/x-ndjson"
TOLD_S = 0.5
"""How often whoever waits is told how far it is."""


class FaultDocument(TypedDict):
    """One thing that verify found wrong."""

    where: str
    detail: str


class ProofDocument(TypedDict):
    """What verify looked at and what it found; `head` is the last link of the chain, worth writing down."""

    events: int
    postings: int
    entries: int
    head: str
    faults: list[FaultDocument]


class Far(TypedDict):
    """How many events are replayed, of how many."""

    done: int
    of: int


@describe(replies={200: {JSON: ProofDocument, NDJSON: {}}}, codes=(Code.HTTP_VERSION,))
async def post(call: Call) -> Reply:
    """Verify the whole ledger; faults are the answer, not an error.

    As application/x-ndjson it is told meanwhile, line by line, how far it is; the last line is the proof.
    """
    auth.require_operator(call.caller)
    if preferred(call.headers.get("accept", ""), (JSON, NDJSON)) == JSON:
        return documents.reply(document_of(await call.app.ledger.verify()))
    http.refuse_unframed(call)
    far: Far = {"done": 0, "of": 0}

    def note(done: int, all: int) -> None:
        far["done"], far["of"] = done, all

    proving = asyncio.create_task(call.app.ledger.verify(note))
    await asyncio.wait({proving}, timeout=TOLD_S)
    if proving.done():
        # What cannot even be begun is refused in the usual way.
        proving.result()
    return Reply(200, b"", NDJSON, {}, _told(proving, far))


async def _told(proving: asyncio.Task[Proof], far: Far) -> AsyncGenerator[bytes, None]:
    try:
        yield _line(far)
        while not proving.done():
            await asyncio.wait({proving}, timeout=TOLD_S)
            yield _line(far)
        yield _line(document_of(proving.result()))
    finally:
        proving.cancel()


def _line(document: ProofDocument | Far) -> bytes:
    return msgspec.json.encode(document) + b"\n"


def document_of(proof: Proof) -> ProofDocument:
    """Return a proof as the API and the command line write it."""
    return {
        "events": proof.events,
        "postings": proof.postings,
        "entries": proof.entries,
        "head": proof.head,
        "faults": [{"where": fault.where, "detail": fault.detail} for fault in proof.faults],
    }
