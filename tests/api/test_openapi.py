"""/openapi.json says what the calls do, and /llms.txt names only calls that there are."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema

from tallystick import asgi
from tallystick.api import openapi
from tallystick.api.description import DESCRIPTIONS, describe
from tallystick.api.guide import GUIDE
from tallystick.api.http import Call
from tallystick.api.routing import Route
from tallystick.errors import Code
from tallystick.ingest import headers
from tallystick.query import Reply
from tests.api.client import OPERATOR, World, audio, run

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = openapi.document(asgi.ROUTES)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield every operation with its method and path."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def references(part: Any) -> Iterator[str]:
    """Yield every name of a schema that a part of the document refers to."""
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].removeprefix("#/components/schemas/")
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def test_every_route_is_described_and_nothing_else() -> None:
    """Each route is one operation with a summary, a scope or none, its path's names, and names that are its own."""
    assert {(method, path) for method, path, _ in operations()} == {
        (r.method, openapi.template(r.path)) for r in asgi.ROUTES
    }
    keyed = {(route.method, openapi.template(route.path)): route.is_keyed for route in asgi.ROUTES}
    for method, path, operation in operations():
        assert operation["summary"].endswith(".")
        assert ("security" in operation) == keyed[method, path]
        named = [p["name"] for p in operation.get("parameters", []) if p["in"] == "path"]
        assert named == re.findall(r"\{(\w+)\}", path)
        assert all(parameter["description"].endswith(".") for parameter in operation.get("parameters", []))
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)


def test_a_route_without_a_description_is_an_error() -> None:
    """Whoever adds a route is told what is missing, and where to put it."""

    async def undescribed(call: Call) -> Reply:
        raise NotImplementedError

    with pytest.raises(LookupError, match=r"GET /new: put @describe above .*undescribed"):
        openapi.document([Route("GET", "/new", undescribed)])


def test_a_description_is_a_declaration_above_the_handler() -> None:
    """Summary, path parameter, query, body, replies and problems all come from a few words."""

    class Wanted(msgspec.Struct):
        """What is wanted."""

        amount: str

    @describe(body=Wanted, replies={201: Wanted, 204: None}, codes=(Code.IN_USE,))
    async def post(call: Call) -> Reply:
        """Do it.

        And more.
        """
        raise NotImplementedError

    try:
        made = openapi.document([Route("POST", "/v1/things/{id}", post)])
    finally:
        del DESCRIPTIONS[post]
    operation = made["paths"]["/v1/things/{id}"]["post"]
    assert (operation["summary"], operation["description"]) == ("Do it.", "And more.\n\nNeeds no key.")
    assert operation["tags"] == ["things"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Wanted")
    assert "content" not in operation["responses"]["204"]
    assert operation["responses"]["409"]["description"] == "Conflict: `in_use`."
    assert set(operation["responses"]) == {"201", "204", "400", "404", "409", "413", "415", "422", "500", "507"}


def test_every_reference_leads_to_a_schema_and_every_schema_is_used() -> None:
    """No name dangles, and none is left over."""
    assert set(references(DOCUMENT)) == set(DOCUMENT["components"]["schemas"])


def test_events_may_be_sent_in_every_media_type_that_is_taken() -> None:
    """The document and the decoder know the same media types."""
    body = DOCUMENT["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    assert set(body) == {*headers.KNOWN, *headers.LINES}


def test_every_example_is_accepted_as_it_stands() -> None:
    """Whoever copies an example has sent an event."""

    async def scenario(world: World) -> None:
        body = DOCUMENT["paths"]["/v1/events"]["post"]["requestBody"]["content"]
        for place, (media_type, content) in enumerate(body.items()):
            if "example" in content:
                sent = json.loads(json.dumps(content["example"]).replace("job-1", f"job-{place}"))
                answer = await world.ask("POST", "/v1/events", sent, headers={"content-type": media_type})
                assert (answer.status, answer.json["accepted"]) == (200, 1)

    run(scenario)


def test_the_documents_are_served_to_everybody() -> None:
    """Neither needs a key; both are what they say they are."""

    async def scenario(world: World) -> None:
        api = await world.ask("GET", "/openapi.json", key=None)
        assert (api.status, api.headers["content-type"]) == (200, "application/json")
        assert api.json == json.loads(json.dumps(DOCUMENT))
        page = await world.ask("GET", "/llms.txt", key=None)
        assert (page.status, page.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert page.body.decode() == GUIDE

    run(scenario)


def test_every_call_in_the_guide_exists() -> None:
    """What a language model is told to call is a route, with parameters that the route has."""
    called = re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?]*)(?:\?([^`]*))?`", GUIDE)
    assert len(called) >= 10
    for method, path, query in called:
        operation = DOCUMENT["paths"][path][method.lower()]
        known = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert {pair.split("=")[0].split("[")[0] for pair in query.split("&") if query} <= known
    linked = re.findall(r"\]\((/[^)]*)\)", GUIDE)
    assert linked == ["/openapi.json"]
    assert set(linked) <= set(DOCUMENT["paths"])


def test_the_guides_example_is_accepted() -> None:
    """The event on the page can be sent as it stands."""

    async def scenario(world: World) -> None:
        (example,) = re.findall(r"Example body:\s+`([^`]+)`", GUIDE)
        assert (await world.ask("POST", "/v1/events", json.loads(example))).json["accepted"] == 1

    run(scenario)


def test_receipts_are_all_or_those_of_refused_events() -> None:
    """Another value is a mistake that is told, before anything is kept."""

    async def scenario(world: World) -> None:
        answer = await world.ingest(audio("1"), query="?receipts=some")
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (400, "receipts")
        assert (await world.ingest(audio("1"), query="?receipts=all")).json["accepted"] == 1

    run(scenario)


def tried(**phases: Any) -> Iterator[events.EngineEvent]:
    """Try every operation as schemathesis.toml says, in this process; the runs are always the same."""
    world = World()
    asyncio.run(begun(world))
    settings = tomllib.loads((ROOT / "schemathesis.toml").read_text(encoding="utf-8"))
    settings["phases"] = phases
    config = SchemathesisConfig.from_dict({**settings, "headers": {"Authorization": f"Bearer {OPERATOR}"}})
    schema = schemathesis.openapi.from_asgi("/openapi.json", asgi.create(world.app), config=config)
    yield from from_schema(schema).execute()


async def begun(world: World) -> None:
    """Keep some usage, so that reports have lines, an account that is not there by chance, and a limit of it."""
    await world.ingest(audio("1"), audio("2", account="globex", operating_point="enhanced"))
    limit = {"account": "acme", "meter": "audio", "period": "month", "amount": "60"}
    grant = {"id": "more", "amount": "30", "kind": "extension", "from": "2026-01-01T00:00:00Z", "until": None}
    assert (await world.ask("PUT", "/v1/limits/hours", limit)).status == 201
    assert (await world.ask("POST", "/v1/limits/hours/grants", grant)).status == 201


def failures_in(seen: Sequence[events.EngineEvent]) -> Iterator[Failure]:
    """Yield every failed check of a trial."""
    for event in seen:
        if isinstance(event, events.ScenarioFinished | events.FuzzScenarioFinished):
            for checks in event.recorder.checks.values():
                yield from (check.failure_info.failure for check in checks if check.failure_info is not None)


def test_a_reply_that_is_not_described_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial below would see a status that the document does not have, or another shape."""
    lying = json.loads(json.dumps(DOCUMENT))
    del lying["paths"]["/v1/accounts/{account}"]["put"]["responses"]["201"]
    lying["components"]["schemas"]["KeysShown"]["required"].append("canary")
    monkeypatch.setattr(openapi, "document", lambda routes: lying)
    asgi._openapi_document.cache_clear()
    try:
        failed = {
            failure.operation
            for failure in failures_in(list(tried(coverage={"enabled": False}, stateful={"enabled": False})))
        }
    finally:
        asgi._openapi_document.cache_clear()
    assert failed == {"PUT /v1/accounts/{account}", "GET /v1/keys"}


def test_schemathesis_finds_nothing() -> None:
    """Requests that follow the document and requests that do not are answered as it says, and none is a 5xx."""
    seen = list(tried())
    problems = [str(event) for event in seen if isinstance(event, events.NonFatalError | events.FatalError)]
    assert problems == []
    tested = {event.recorder.label for event in seen if isinstance(event, events.ScenarioFinished)}
    # The document itself is what the trial begins with.
    assert {f"{method} {path}" for method, path, _ in operations()} - tested <= {"GET /openapi.json"}
    assert [f"{failure.operation}: {failure.title}\n{failure.message}" for failure in failures_in(seen)] == []
