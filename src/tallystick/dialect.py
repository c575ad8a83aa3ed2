"""What a vendor's dialect declares of itself: where it answers, what each report asks, how it says what is wrong.

Routes, OpenAPI and the shape of errors follow from it; `tallystick.dialects` lists those that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, Protocol, TypeVar

from tallystick.errors import Code, Problem
from tallystick.query import Answers, Questions, Reply, Request

Kind = Any
"""A type that msgspec makes a schema of (a Struct, a TypedDict, an Enum, `int`), or a JSON schema as a mapping."""

STATUSES: Mapping[Code, HTTPStatus] = {
    Code.PARAMETER_INVALID: HTTPStatus.BAD_REQUEST,
    Code.KEY_MISSING: HTTPStatus.UNAUTHORIZED,
    Code.KEY_INVALID: HTTPStatus.UNAUTHORIZED,
    Code.SCOPE_MISSING: HTTPStatus.FORBIDDEN,
    Code.ACCOUNT_FORBIDDEN: HTTPStatus.FORBIDDEN,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNPROVEN: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The status of what a report can meet, as most vendors have it; anything else is 500."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter, or one part of the path; `more` is for whatever else OpenAPI says of it."""

    name: str
    description: str
    kind: Kind = str
    required: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


class Plan(Protocol):
    """What was asked, as far as a dialect has to remember it until the answers are there."""

    @property
    def questions(self) -> Questions:
        """What to ask the ledger, all of it together."""


P = TypeVar("P", bound=Plan)


@dataclass(frozen=True, slots=True)
class Report(Generic[P]):
    """One call: a path, as routes have it, and two pure functions.

    `parse` raises Problem for what it cannot read. `organisation` is the part of the path that names whose usage it
    is; without one it is the key's own, or that of the query's `account`. `settings` are those that the request is to
    bring with it. `summary` is one sentence, `reply` the kind of the document, `query` and `parts` its parameters.
    """

    path: str
    summary: str
    parse: Callable[[Request], P]
    render: Callable[[Request, P, Answers], Reply]
    reply: Kind
    query: Sequence[Parameter] = ()
    parts: Sequence[Parameter] = ()
    organisation: str | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """One vendor's API.

    `paths` are those that it and whatever lies below them are the dialect's own: errors there have its shape, which
    `problem` writes, with the statuses of `statuses` (500 where a code has none) and a document of the kind `refusal`.
    `scheme` is the word before the key in the Authorization header. `anonymous` reports are open to whoever has no
    key where the setting `anonymous_account` says so. `request_id_header` names the request id once more.
    """

    name: str
    paths: tuple[str, ...]
    problem: Callable[[Problem], Reply]
    statuses: Mapping[Code, HTTPStatus]
    refusal: Kind
    reports: tuple[Report[Any], ...] = ()
    scheme: str = "Bearer"
    anonymous: bool = False
    request_id_header: str | None = None
