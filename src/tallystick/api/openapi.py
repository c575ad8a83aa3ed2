"""The OpenAPI document, derived from the routes, from what stands beside their handlers and from the types they use."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

import tallystick
from tallystick.api.description import DESCRIPTIONS, Description, Kind, Parameter
from tallystick.errors import Code
from tallystick.model import Scope

VERSION = "3.1.0"
REF = "#/components/schemas/{name}"
SECURITY, BEARER = "key", "Bearer"
ABOUT = """Exact usage metering: events in, provable usage out.

Every GET also answers HEAD. Every reply has an X-Request-Id, which is yours if you sent a usable one. A path answers
other methods with 405 and Allow."""

CHANGING_NOTHING = frozenset({"/v1/verify", "/v1/backup"})
"""What is posted and writes nothing to the ledger."""

PATH_PARAMETERS = {
    "account": Parameter("account", "The account's name."),
    "id": Parameter("id", "What it is called."),
}
"""The parts of paths that mean the same wherever they stand; a description may say more."""


class Route(Protocol):
    """What a route is known by here."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def handler(self) -> Callable[..., Any]: ...
    @property
    def scope(self) -> Scope | None: ...
    @property
    def scheme(self) -> str: ...
    @property
    def is_keyed(self) -> bool: ...


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Make the document; raises LookupError for a route whose handler has no description."""
    described = [(route, _description(route)) for route in routes]
    schemas = _Schemas([kind for _, description in described for kind in _kinds(description)])
    paths: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for route, description in described:
        paths[template(route.path)][route.method.lower()] = _operation(route, description, schemas)
    for shared in [operations for operations in _by_id(paths).values() if len(operations) > 1]:
        for path, operation in shared:
            operation["operationId"] += "_" + re.sub(r"\W+", "_", path).strip("_")
    return {
        "openapi": VERSION,
        "info": {
            "title": "tallystick",
            "version": tallystick.__version__,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(paths),
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {_security(route): _scheme(route) for route, _ in described if route.is_keyed},
        },
    }


def template(path: str) -> str:
    """Write a route's path as OpenAPI does, which knows no part that takes all the rest."""
    return path.replace("...}", "}")


def _by_id(paths: Mapping[str, Mapping[str, Any]]) -> Mapping[str, list[tuple[str, dict[str, Any]]]]:
    """Return operations, with their paths, by their ids: a handler with several routes has several."""
    found: defaultdict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for path, methods in paths.items():
        for operation in methods.values():
            found[operation["operationId"]].append((path, operation))
    return found


def _description(route: Route) -> Description:
    found = DESCRIPTIONS.get(route.handler)
    if found is None:
        raise LookupError(f"{route.method} {route.path}: put @describe above {route.handler.__qualname__}")
    return found


def _kinds(description: Description) -> Iterable[Kind]:
    yield description.errors.kind
    for parameter in (*description.query, *description.path, *PATH_PARAMETERS.values()):
        yield parameter.kind
    for contents in (description.body, *description.replies.values()):
        yield from contents.values()


class _Schemas:
    """JSON schemas of kinds; what is named in one place stands in `components`."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        types = list(dict.fromkeys(kind for kind in kinds if not isinstance(kind, Mapping)))
        schemas, self.components = msgspec.json.schema_components(types, ref_template=REF)
        self._of = dict(zip(types, schemas, strict=True))

    def of(self, kind: Kind) -> Mapping[str, Any]:
        """Return the schema of a kind."""
        return kind if isinstance(kind, Mapping) else self._of[kind]


def _operation(route: Route, description: Description, schemas: _Schemas) -> dict[str, Any]:
    summary, _, more = inspect.cleandoc(route.handler.__doc__ or "").partition("\n\n")
    module = route.handler.__module__.rpartition(".")[2]
    operation: dict[str, Any] = {
        "operationId": f"{module}_{route.handler.__name__}",
        "summary": " ".join(summary.split()),
        "description": _said(route, more),
        "tags": [re.sub(r"^/(v\d+/)?", "", route.path).split("/")[0]],
        "parameters": _parameters(route, description, schemas),
        "responses": _responses(route, description, schemas),
    }
    if description.body:
        content = {media_type: _content(media_type, description, schemas) for media_type in description.body}
        operation["requestBody"] = {"required": description.body_required, "content": content}
    if route.is_keyed:
        operation["security"] = [{_security(route): []}]
    return {name: value for name, value in operation.items() if value}


def _security(route: Route) -> str:
    return SECURITY if route.scheme == BEARER else f"{SECURITY}_{route.scheme}"


def _scheme(route: Route) -> dict[str, str]:
    """Say how a key is shown; OpenAPI knows a word of a vendor's own as nothing but a part of the header."""
    if route.scheme == BEARER:
        return {"type": "http", "scheme": "bearer", "description": "A key."}
    said = f"The word {route.scheme}, a space and a key."
    return {"type": "apiKey", "in": "header", "name": "Authorization", "description": said}


def _said(route: Route, more: str) -> str:
    needs = "Needs no key."
    if route.is_keyed:
        needs = (
            "Needs a key, of whatever scope." if route.scope is None else f"Needs a key with the scope `{route.scope}`."
        )
    return f"{more}\n\n{needs}" if more else needs


def _content(media_type: str, description: Description, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schemas.of(description.body[media_type])}
    if media_type in description.examples:
        content["example"] = description.examples[media_type]
    return content


def _parameters(route: Route, description: Description, schemas: _Schemas) -> list[dict[str, Any]]:
    known = {**PATH_PARAMETERS, **{parameter.name: parameter for parameter in description.path}}
    parts = [known[name] for name in re.findall(r"\{(\w+)\}", template(route.path))]
    path = [_parameter(part, "path", schemas) | {"required": True} for part in parts]
    return [*path, *(_parameter(parameter, "query", schemas) for parameter in description.query)]


def _parameter(parameter: Parameter, where: str, schemas: _Schemas) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": where,
        "required": parameter.required,
        "description": parameter.description,
        "schema": schemas.of(parameter.kind),
        **parameter.more,
    }


def _responses(route: Route, description: Description, schemas: _Schemas) -> dict[str, Any]:
    responses = {}
    for status, contents in description.replies.items():
        content = {media_type: {"schema": schemas.of(kind)} for media_type, kind in contents.items()}
        responses[str(status)] = {"description": HTTPStatus(status).phrase, **({"content": content} if content else {})}
    errors = description.errors
    refusals: defaultdict[HTTPStatus, list[Code]] = defaultdict(list)
    for code in dict.fromkeys(_codes(route, description)):
        refusals[errors.status(code)].append(code)
    for status, codes in sorted(refusals.items()):
        said = f"{status.phrase}: {', '.join(f'`{code}`' for code in codes)}."
        responses[str(status.value)] = {
            "description": said,
            "content": {errors.media_type: {"schema": schemas.of(errors.kind)}},
        }
    return responses


def _codes(route: Route, description: Description) -> Iterable[Code]:
    """Yield the problems of a call: those that its shape brings with it, and its own."""
    if route.is_keyed:
        yield from (Code.KEY_MISSING, Code.KEY_INVALID, Code.UNAVAILABLE)
    if route.scope is not None:
        yield Code.SCOPE_MISSING
        if route.method != "GET" and route.path not in CHANGING_NOTHING:
            yield Code.READ_ONLY
    if description.query:
        yield Code.PARAMETER_INVALID
    if description.body:
        yield from (Code.BODY_UNDECODABLE, Code.BATCH_TOO_LARGE, Code.MEDIA_TYPE_UNKNOWN, Code.DISK_FULL)
    if "{" in route.path:
        yield Code.NOT_FOUND
    yield from description.codes
    yield Code.INTERNAL
