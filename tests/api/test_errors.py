"""Problems: every code has a status, every reply that refuses has one shape, a crash tells nothing."""

from __future__ import annotations

import pytest

from tallystick import asgi
from tallystick.api import errors
from tallystick.api.http import Call
from tallystick.api.routing import Route
from tallystick.errors import Code, Flaw, Problem
from tallystick.model import Scope
from tallystick.query import Reply
from tests.api.client import World, run


def test_every_code_has_a_status() -> None:
    """A new code cannot reach a client as a bare 500."""
    assert set(errors.STATUS) == set(Code)


def test_a_problem_has_the_members_of_rfc_9457_and_ours() -> None:
    """The document says what, where and which request."""
    problem = Problem(Code.PARAMETER_INVALID, "Say when.", (Flaw("from", "from is required."),), retry_after_s=3)
    assert errors.members(problem, "/v1/usage", "r-1") == {
        "type": "urn:tallystick:problem:parameter_invalid",
        "title": "Parameter invalid",
        "status": 400,
        "detail": "Say when.",
        "instance": "/v1/usage",
        "code": "parameter_invalid",
        "errors": [{"pointer": "from", "detail": "from is required."}],
        "request_id": "r-1",
    }
    assert errors.headers_of(problem, 503) == {"Retry-After": "3"}


@pytest.mark.parametrize(
    "path", ["/nowhere", "", "/v1", "/v1/usage/", "//v1/usage", "/v1/./usage", "/v1%2Fusage", "/v1/%ff", "/V1/usage"]
)
def test_a_path_that_nothing_answers_is_a_404_problem(path: str) -> None:
    """Paths are compared part by part, exactly."""

    async def scenario(world: World) -> None:
        answer = await world.ask("GET", path)
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
        assert (answer.json["code"], answer.json["instance"]) == ("not_found", path)

    run(scenario)


def test_a_part_of_a_path_may_be_percent_encoded() -> None:
    """Each part is decoded once."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        assert (await world.ask("GET", "/%76%31/accounts/%61cme")).json["account"] == "acme"
        assert (await world.ask("GET", "/v1/accounts/%2561cme")).status == 404

    run(scenario)


def test_another_method_is_405_with_what_is_allowed() -> None:
    """Allow lists the methods of the path, HEAD where there is GET."""

    async def scenario(world: World) -> None:
        answer = await world.ask("PATCH", "/v1/accounts/acme")
        assert (answer.status, answer.headers["allow"], answer.json["code"]) == (
            405,
            "DELETE, GET, HEAD, PUT",
            "method_not_allowed",
        )
        assert (await world.ask("GET", "/v1/verify")).headers["allow"] == "POST"
        assert (await world.ask("PUT", "/v1/events")).headers["allow"] == "GET, HEAD, POST"

    run(scenario)


def test_head_answers_like_get_without_the_body() -> None:
    """The length is that of the body which GET would send."""

    async def scenario(world: World) -> None:
        get, head = await world.ask("GET", "/livez"), await world.ask("HEAD", "/livez")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(get.body)))
        assert (await world.ask("HEAD", "/nowhere")).body == b""

    run(scenario)


def test_below_v2_errors_have_the_vendors_shape() -> None:
    """Unknown path, other method, no key, bad key and a missing scope, as Speechmatics would say them."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("writer", "acme", Scope.INGEST)
        for method, path, key, status, error in (
            ("GET", "/v2/jobs", "acme", 404, "Not Found"),
            ("POST", "/v2/usage", "acme", 405, "Method Not Allowed"),
            ("GET", "/v2/usage", None, 401, "Permission Denied"),
            ("GET", "/v2/usage", "nobody's", 401, "Permission Denied"),
            ("GET", "/v2/usage", "writer", 403, "Forbidden"),
            ("GET", "/v2/usage?account=globex", "acme", 403, "Forbidden"),
            ("GET", "/v2/usage", "operator", 400, "Bad Request"),
        ):
            answer = await world.ask(method, path, key=key)
            assert (answer.status, answer.json["code"], answer.json["error"]) == (status, status, error)
            assert answer.headers["request-id"] == answer.headers["x-request-id"]
            assert ("www-authenticate" in answer.headers) == (status == 401)
        assert (await world.ask("DELETE", "/v2/usage")).headers["allow"] == "GET, HEAD"

    run(scenario)


def test_a_crash_is_a_500_problem_without_internals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the reply nor the log has the message of what was raised, which may quote a customer's data."""

    async def broken(call: Call) -> Reply:
        raise ZeroDivisionError("a canary with somebody's data")

    monkeypatch.setitem(asgi.everything().patterns, ("livez",), {"GET": Route("GET", "/livez", broken)})

    async def scenario(world: World) -> None:
        answer = await world.ask("GET", "/livez?secret=1", headers={"x-request-id": "find-me"})
        assert (answer.status, answer.json["code"], answer.json["request_id"]) == (500, "internal", "find-me")
        assert b"canary" not in answer.body
        assert b"ZeroDivision" not in answer.body

    run(scenario)
    logged = "".join(capsys.readouterr())
    assert "ZeroDivisionError" in logged
    assert "find-me" in logged
    assert "canary" not in logged
    assert "secret" not in logged


def test_every_reply_carries_both_ids() -> None:
    """What was sent is echoed if it is 1 to 128 visible ASCII characters, replaced if it is anything else."""

    async def scenario(world: World) -> None:
        sent = {"x-request-id": "~" * 128, "x-correlation-id": "c/1"}
        for path in ("/livez", "/nowhere", "/v1/usage", "/v2/usage"):
            answer = await world.ask("GET", path, headers=sent, key=None)
            assert (answer.headers["x-request-id"], answer.headers["x-correlation-id"]) == ("~" * 128, "c/1")
        for bad in ("", "a b", "a" * 129, "\xe9", "a\tb"):
            answer = await world.ask("GET", "/livez", headers={"x-request-id": bad, "x-correlation-id": bad})
            assert len(answer.headers["x-request-id"]) == 32
            assert answer.headers["x-correlation-id"] == answer.headers["x-request-id"]

    run(scenario)


def test_generated_ids_differ() -> None:
    """Two requests are told apart."""

    async def scenario(world: World) -> None:
        first, second = await world.ask("GET", "/livez"), await world.ask("GET", "/livez")
        assert first.headers["x-request-id"] != second.headers["x-request-id"]

    run(scenario)


def test_a_query_that_is_no_utf_8_or_too_long_is_refused() -> None:
    """Parameters are bounded and decoded strictly."""

    async def scenario(world: World) -> None:
        for query in ("meter=%ff", "&".join(["a=1"] * 1001)):
            answer = await world.ask("GET", f"/v1/usage?{query}")
            assert (answer.status, answer.json["code"]) == (400, "parameter_invalid")

    run(scenario)
