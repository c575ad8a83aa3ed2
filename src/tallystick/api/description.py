"""What a call takes and answers, declared beside its handler; /openapi.json is made of it.

The first sentence of the handler's docstring is the call's summary, and its path, method and scope come from its
route, so none of them is said again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from tallystick.api import errors
from tallystick.dialect import Kind as Kind
from tallystick.dialect import Parameter as Parameter
from tallystick.errors import Code

JSON = "application/json"
NAME_SCHEMA = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,49}$"}
INSTANT_SCHEMA = {"type": "string", "format": "date-time"}


@dataclass(frozen=True, slots=True)
class Errors:
    """How a family of paths says what is wrong: its statuses, its document and its media type."""

    statuses: Mapping[Code, HTTPStatus]
    kind: Kind
    media_type: str = JSON

    def status(self, code: Code) -> HTTPStatus:
        """Return the status of a code; 500 where the family has none for it."""
        return self.statuses.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)


NATIVE = Errors(errors.STATUS, errors.ProblemDocument, errors.PROBLEM_MEDIA_TYPE)


@dataclass(frozen=True, slots=True)
class Description:
    """One call. Bodies, and examples of them, are by media type; `codes` are problems that not every such call has."""

    query: Sequence[Parameter] = ()
    path: Sequence[Parameter] = ()
    body: Mapping[str, Kind] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    body_required: bool = True
    replies: Mapping[int, Mapping[str, Kind]] = field(default_factory=dict)
    codes: Sequence[Code] = ()
    errors: Errors = NATIVE


DESCRIPTIONS: dict[Callable[..., Any], Description] = {}
"""By handler."""

Handler = TypeVar("Handler", bound=Callable[..., Any])

DOCUMENT_CODES = (Code.FIELD_MISSING, Code.FIELD_TYPE, Code.FIELD_VALUE, Code.FIELD_LENGTH, Code.TIME_FORMAT)


def describe(
    *,
    query: Sequence[Parameter] = (),
    path: Sequence[Parameter] = (),
    body: Kind | Mapping[str, Kind] = None,
    example: Any = None,
    body_required: bool = True,
    replies: Mapping[int, Kind | Mapping[str, Kind]],
    codes: Sequence[Code] = (),
    errors: Errors = NATIVE,
) -> Callable[[Handler], Handler]:
    """Describe the handler below. A kind alone is application/json, None is no content, a mapping is by media type.

    `example` is of the body, by media type where that is.
    """
    is_document = body is not None and not _is_by_media_type(body)
    description = Description(
        query=query,
        path=path,
        body=_by_media_type(body),
        examples={JSON: example} if is_document and example is not None else example or {},
        body_required=body_required,
        replies={status: _by_media_type(kind) for status, kind in replies.items()},
        codes=(*codes, *DOCUMENT_CODES) if is_document else codes,
        errors=errors,
    )

    def note(handler: Handler) -> Handler:
        DESCRIPTIONS[handler] = description
        return handler

    return note


def _by_media_type(kind: Any) -> Mapping[str, Kind]:
    if kind is None:
        return {}
    return kind if _is_by_media_type(kind) else {JSON: kind}


def _is_by_media_type(kind: Any) -> bool:
    return isinstance(kind, Mapping) and all("/" in name for name in kind)
