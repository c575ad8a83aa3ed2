"""What POST /v1/events takes and answers, as /openapi.json says it."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from tallystick.api import errors
from tallystick.api.description import INSTANT_SCHEMA, JSON, Errors
from tallystick.api.errors import ProblemDocument
from tallystick.ingest.headers import BATCH, LINES, STRUCTURED
from tallystick.model import Status
from tallystick.settings import SPECS

TEXT_LENGTH_MAX = SPECS["text_length_max"].default
# What UNSAFE in envelope.py refuses, as JSON schema's dialect of patterns has it.
SAFE = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u202a-\\u202e\\u2066-\\u2069]*$"
NAME = {"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH_MAX, "pattern": SAFE}
NULLABLE = {"type": ["string", "null"]}
"""Whatever is null counts as absent."""

PROPERTIES = {
    "id": {**NAME, "description": "With account and source, the event's identity for ever."},
    "source": {**NAME, "description": "Who sends it."},
    "type": {**NAME, "description": "What happened, such as audio.processed; meters say which types they count."},
    "time": {
        **INSTANT_SCHEMA,
        **NULLABLE,
        "description": "When the work was done; absent is now. At most some minutes ahead.",
    },
    "account": {**NULLABLE, "description": "Whose usage it is; a key of an account needs none."},
    "subject": {**NAME, **NULLABLE, "description": "Without account, this says it up to its first slash."},
    "space": {
        **NAME,
        "type": ["string", "number", "boolean", "null"],
        "minLength": 0,
        "description": "A named part of the account.",
    },
    "data": {"description": "What was done; what is required in it depends on the type."},
}
PLAIN_EVENT: dict[str, Any] = {
    "type": "object",
    "title": "Event",
    "description": "A CloudEvent 1.0; in plain JSON specversion may be left out.",
    "properties": PROPERTIES,
    "required": ["id", "source", "type"],
}
EVENT = {
    **PLAIN_EVENT,
    "properties": {"specversion": {"const": "1.0"}, **PROPERTIES},
    "required": ["specversion", "id", "source", "type"],
}


def _events_of(event: dict[str, Any]) -> dict[str, Any]:
    # One bad element never sinks the others, so nothing is asked of an element here.
    return {"type": "array", "items": {"anyOf": [event, {}]}}


LINES_SCHEMA = {"type": "string", "pattern": "[^ \\t\\r\\n]", "description": "One event, in plain JSON, per line."}

BODY: dict[str, Any] = {
    JSON: {"anyOf": [PLAIN_EVENT, _events_of(PLAIN_EVENT)]},
    STRUCTURED: EVENT,
    BATCH: _events_of(EVENT),
    **dict.fromkeys(sorted(LINES), LINES_SCHEMA),
}

EXAMPLE: dict[str, Any] = {
    "id": "job-1",
    "source": "asr-1",
    "type": "audio.processed",
    "account": "acme",
    "time": "2026-03-03T10:00:00Z",
    "data": {"duration": 930.5, "type": "transcription", "language": "en", "operating_point": "enhanced"},
}
WHOLE_EXAMPLE = {"specversion": "1.0", **EXAMPLE}
EXAMPLES = {
    JSON: EXAMPLE,
    STRUCTURED: WHOLE_EXAMPLE,
    BATCH: [WHOLE_EXAMPLE],
}


class ReceiptDocument(TypedDict):
    """What became of one event; `index` is its place in the request."""

    index: int
    id: str | None
    status: Status
    metered: bool
    code: NotRequired[str]
    pointer: NotRequired[str]
    detail: NotRequired[str]


class Receipts(TypedDict):
    """What became of a request's events: how many of each verdict, and the receipts that were asked for."""

    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    receipts: list[ReceiptDocument]


class EventProblem(ProblemDocument):
    """A problem; where it is about the one event of a request, with its counts and its receipt."""

    accepted: NotRequired[int]
    duplicate: NotRequired[int]
    conflict: NotRequired[int]
    rejected: NotRequired[int]
    receipts: NotRequired[list[ReceiptDocument]]


ERRORS = Errors(errors.STATUS, EventProblem, errors.PROBLEM_MEDIA_TYPE)
