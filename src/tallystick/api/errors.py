"""Codes become HTTP here: the only table from a code to a status, and problems as RFC 9457 writes them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TypedDict

import msgspec

from tallystick.errors import Code, Problem
from tallystick.query import Reply

STATUS = {
    Code.NOT_JSON: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.NOT_OBJECT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.FIELD_MISSING: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.FIELD_TYPE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.FIELD_LENGTH: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.FIELD_VALUE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.TIME_FORMAT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.TIME_FUTURE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.QUANTITY_MISSING: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.QUANTITY_TYPE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.QUANTITY_NEGATIVE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.QUANTITY_PRECISION: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.QUANTITY_RANGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.RATE_MISSING: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.LABEL_RESERVED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.LABEL_SETS_EXCEEDED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.TEXT_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.ACCOUNT_FORBIDDEN: HTTPStatus.FORBIDDEN,
    Code.ACCOUNT_UNKNOWN: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.ID_REUSED: HTTPStatus.CONFLICT,
    Code.EVENT_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.OVER_LIMIT: HTTPStatus.TOO_MANY_REQUESTS,
    Code.BODY_UNDECODABLE: HTTPStatus.BAD_REQUEST,
    Code.HEADER_INVALID: HTTPStatus.BAD_REQUEST,
    Code.BATCH_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.MEDIA_TYPE_UNKNOWN: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Code.PARAMETER_INVALID: HTTPStatus.BAD_REQUEST,
    Code.ROWS_EXCEEDED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.KEY_MISSING: HTTPStatus.UNAUTHORIZED,
    Code.KEY_INVALID: HTTPStatus.UNAUTHORIZED,
    Code.SCOPE_MISSING: HTTPStatus.FORBIDDEN,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    Code.HTTP_VERSION: HTTPStatus.UPGRADE_REQUIRED,
    Code.IN_USE: HTTPStatus.CONFLICT,
    Code.HOLD_ENDED: HTTPStatus.CONFLICT,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.READ_ONLY: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNPROVEN: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DISK_FULL: HTTPStatus.INSUFFICIENT_STORAGE,
    Code.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}

CHALLENGE = "WWW-Authenticate"
PROBLEM_MEDIA_TYPE = "application/problem+json"


class FlawDocument(TypedDict):
    """One thing that is wrong, and where: a JSON pointer into the body, or a parameter's name."""

    pointer: str
    detail: str


class ProblemDocument(TypedDict):
    """A problem as RFC 9457 writes it, with our code for programs and the id that finds the request in the log."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: Code
    errors: list[FlawDocument]
    request_id: str


def status_of(problem: Problem) -> int:
    """Return the HTTP status of a problem."""
    return problem.http_status or STATUS[problem.code].value


def members(problem: Problem, path: str, request_id: str) -> ProblemDocument:
    """Return the members of a problem document, in the order in which people read them."""
    return {
        "type": f"urn:tallystick:problem:{problem.code}",
        "title": problem.code.replace("_", " ").capitalize(),
        "status": status_of(problem),
        "detail": problem.detail,
        "instance": path,
        "code": problem.code,
        "errors": [{"pointer": flaw.pointer, "detail": flaw.detail} for flaw in problem.flaws],
        "request_id": request_id,
    }


def render(problem: Problem, path: str, request_id: str) -> Reply:
    """Write a problem the way the native API does."""
    body = msgspec.json.encode(members(problem, path, request_id))
    return Reply(status_of(problem), body, PROBLEM_MEDIA_TYPE)


def headers_of(problem: Problem, status: int) -> dict[str, str]:
    """Return the headers that go with a problem, told with this status, in whatever shape its body is written."""
    headers = {name: value for name, value in problem.headers.items() if name != CHALLENGE}
    if status == HTTPStatus.UNAUTHORIZED:
        headers[CHALLENGE] = problem.headers.get(CHALLENGE, 'Bearer realm="tallystick"')
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    return headers
