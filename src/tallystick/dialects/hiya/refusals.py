"""Problems in hiya's shape, and the one answer to whatever is not there or not the caller's."""

from __future__ import annotations

import re
from hashlib import sha256
from http import HTTPStatus
from typing import TypedDict

import msgspec

from tallystick.errors import Code, Problem
from tallystick.query import Reply

STATUS = {
    Code.PARAMETER_INVALID: HTTPStatus.BAD_REQUEST,
    Code.BODY_UNDECODABLE: HTTPStatus.BAD_REQUEST,
    Code.FIELD_MISSING: HTTPStatus.BAD_REQUEST,
    Code.FIELD_TYPE: HTTPStatus.BAD_REQUEST,
    Code.FIELD_VALUE: HTTPStatus.BAD_REQUEST,
    Code.FIELD_LENGTH: HTTPStatus.BAD_REQUEST,
    Code.TIME_FORMAT: HTTPStatus.BAD_REQUEST,
    Code.KEY_MISSING: HTTPStatus.UNAUTHORIZED,
    Code.KEY_INVALID: HTTPStatus.UNAUTHORIZED,
    Code.SCOPE_MISSING: HTTPStatus.FORBIDDEN,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    Code.BATCH_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.MEDIA_TYPE_UNKNOWN: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNPROVEN: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DISK_FULL: HTTPStatus.INSUFFICIENT_STORAGE,
}
"""The status of what a call can meet; anything else is 500."""

_HEX = re.compile(r"[0-9a-f]{8,64}")


class Message(TypedDict):
    """One thing that is wrong."""

    message: str


class Fault(TypedDict):
    """What went wrong; `id` is the request id, or its digest where that is not hexadecimal."""

    id: str
    code: int
    errors: list[Message]


class Refusal(TypedDict):
    """The vendor's shape of what went wrong."""

    error: Fault


def problem(problem: Problem) -> Reply:
    """Write a problem in the vendor's shape."""
    status = STATUS.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    messages = [flaw.detail for flaw in problem.flaws] or [problem.detail]
    document: Refusal = {
        "error": {
            "id": _id(problem.request_id),
            "code": status.value,
            "errors": [{"message": message} for message in messages],
        }
    }
    return Reply(status.value, msgspec.json.encode(document))


def not_found() -> Problem:
    """Say the same of what is not there and of what the key does not read."""
    return Problem(Code.NOT_FOUND, "There is no such resource, or this key does not read it.")


def _id(request_id: str) -> str:
    return request_id if _HEX.fullmatch(request_id) else sha256(request_id.encode()).hexdigest()[:32]
