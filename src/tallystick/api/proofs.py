"""POST /v1/verify: the ledger replayed and compared, while it goes on serving."""

from __future__ import annotations

from typing import TypedDict

from tallystick.api import auth, documents
from tallystick.api.description import describe
from tallystick.api.http import Call
from tallystick.ledger.base import Proof
from tallystick.query import Reply


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


@describe(replies={200: ProofDocument})
async def post(call: Call) -> Reply:
    """Verify the whole ledger; faults are the answer, not an error."""
    auth.require_operator(call.caller)
    return documents.reply(document_of(await call.app.ledger.verify()))


def document_of(proof: Proof) -> ProofDocument:
    """Return a proof as the API and the command line write it."""
    return {
        "events": proof.events,
        "postings": proof.postings,
        "entries": proof.entries,
        "head": proof.head,
        "faults": [{"where": fault.where, "detail": fault.detail} for fault in proof.faults],
    }
