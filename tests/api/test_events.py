"""POST /v1/events: statuses, receipts, and bodies that are too large, cut short or in another language."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tallystick.model import Scope
from tests.api.client import Message, World, audio, run

COUNTS = ("accepted", "duplicate", "conflict", "rejected")


def counts(document: dict[str, Any]) -> list[int]:
    """The four numbers of a reply."""
    return [document[name] for name in COUNTS]


def test_what_is_accepted_or_there_already_is_200() -> None:
    """A repeated batch changes nothing and is no error."""

    async def scenario(world: World) -> None:
        first = await world.ingest(audio("a"), audio("b"))
        assert (first.status, first.json) == (
            200,
            {"accepted": 2, "duplicate": 0, "conflict": 0, "rejected": 0, "receipts": []},
        )
        second = await world.ingest(audio("b"), audio("c"))
        assert (second.status, counts(second.json)) == (200, [1, 1, 0, 0])

    run(scenario)


def test_an_empty_list_is_200_with_zeros() -> None:
    """There was nothing to refuse."""

    async def scenario(world: World) -> None:
        answer = await world.ingest()
        assert (answer.status, counts(answer.json), answer.json["receipts"]) == (200, [0, 0, 0, 0], [])

    run(scenario)


def test_a_batch_with_any_refusal_is_207_with_receipts_of_what_was_refused() -> None:
    """The good events of the batch are kept; with receipts=all every event has its receipt."""

    async def scenario(world: World) -> None:
        await world.ingest(audio("a"))
        events = [audio("a"), audio("a", seconds="61"), audio("b"), audio("c", seconds="-1")]
        answer = await world.ingest(*events)
        assert (answer.status, counts(answer.json)) == (207, [1, 1, 1, 1])
        assert [(line["index"], line["id"], line["status"], line["code"]) for line in answer.json["receipts"]] == [
            (1, "a", "conflict", "id_reused"),
            (3, "c", "rejected", "quantity_negative"),
        ]
        assert answer.json["receipts"][1]["pointer"] == "/data/duration"
        everything = await world.ingest(*events, query="?receipts=all")
        assert [line["status"] for line in everything.json["receipts"]] == [
            "duplicate",
            "conflict",
            "duplicate",
            "rejected",
        ]
        assert set(everything.json["receipts"][0]) == {"index", "id", "status", "metered"}

    run(scenario)


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        (audio("taken", seconds="61"), 409, "id_reused"),
        (audio("x", account="globex"), 403, "account_forbidden"),
        (audio("x", seconds="-1"), 422, "quantity_negative"),
        (audio("x", note="n" * 300_000), 413, "event_too_large"),
        ({"id": "x"}, 422, "field_missing"),
        (None, 422, "not_object"),
    ],
)
def test_one_refused_event_is_a_problem_with_its_receipt(event: Any, status: int, code: str) -> None:
    """The one document is a problem and has the counts and the receipt as well."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.ingest(audio("taken"))
        answer = await world.ask("POST", "/v1/events", json.dumps(event).encode(), key="acme")
        document = answer.json
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
        assert (document["status"], document["code"], document["instance"]) == (status, code, "/v1/events")
        assert sum(counts(document)) == 1
        assert document["receipts"][0]["code"] == code
        assert document["errors"][0]["pointer"] == document["receipts"][0]["pointer"]

    run(scenario)


@pytest.mark.parametrize("body", [b"", b" ", b"{", b"[1,", b"\xff", b"hello"])
def test_a_body_that_is_no_json_is_400(body: bytes) -> None:
    """Nothing in it can be judged."""

    async def scenario(world: World) -> None:
        answer = await world.ask("POST", "/v1/events", body, headers={"content-type": "application/json"})
        assert (answer.status, answer.json["code"]) == (400, "body_undecodable")

    run(scenario)


def test_a_bad_line_of_ndjson_costs_only_itself() -> None:
    """The other lines are kept."""

    async def scenario(world: World) -> None:
        lines = [json.dumps(audio("a")), "{", "", json.dumps(audio("b"))]
        headers = {"content-type": "application/x-ndjson"}
        answer = await world.ask("POST", "/v1/events", "\n".join(lines).encode(), headers=headers)
        assert (answer.status, counts(answer.json)) == (207, [2, 0, 0, 1])
        assert [line["code"] for line in answer.json["receipts"]] == ["not_json"]

    run(scenario)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=latin1"},
        {"content-encoding": "br"},
        {"content-encoding": "gzip, gzip"},
    ],
)
def test_an_unknown_type_or_encoding_is_415(headers: dict[str, str]) -> None:
    """The body is not guessed at."""

    async def scenario(world: World) -> None:
        answer = await world.ask("POST", "/v1/events", [audio("a")], headers=headers)
        assert (answer.status, answer.json["code"]) == (415, "media_type_unknown")

    run(scenario)


def test_too_many_events_are_413() -> None:
    """The bound is a setting; nothing of the batch is kept."""

    async def scenario(world: World) -> None:
        answer = await world.ingest(audio("a"), audio("b"), audio("c"))
        assert (answer.status, answer.json["code"]) == (413, "batch_too_large")
        assert (await world.ingest(audio("a"), audio("b"))).json["accepted"] == 2

    run(scenario, batch_events_max=2)


def test_a_body_of_exactly_the_bound_is_taken_and_one_byte_more_is_not() -> None:
    """The bound holds with and without an announced length."""

    async def scenario(world: World) -> None:
        body = json.dumps([audio("a")]).encode()
        bound = world.settings.batch_bytes_max
        fits, exceeds = body.ljust(bound), body.ljust(bound + 1)
        assert (await world.ask("POST", "/v1/events", fits)).json["accepted"] == 1
        for headers in ({}, {"transfer-encoding": "chunked", "content-length": ""}):
            answer = await world.ask("POST", "/v1/events", exceeds, headers=headers)
            assert (answer.status, answer.json["code"]) == (413, "batch_too_large")
        assert world.app.body_bytes == 0

    run(scenario, batch_bytes_max=4096)


def test_an_endless_body_is_cut_off_before_it_fills_memory() -> None:
    """Parts past the bound are dropped as they come, and no more than four times the bound is read at all."""

    async def scenario(world: World) -> None:
        parts = [{"type": "http.request", "body": b" " * 1024, "more_body": True} for _ in range(100)]
        answer = await world.ask("POST", "/v1/events", parts=parts, headers={"transfer-encoding": "chunked"})
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert len(parts) > 75

    run(scenario, batch_bytes_max=4096)


def test_a_body_in_parts_is_put_together() -> None:
    """A chunked body is read to its end, empty parts included."""

    async def scenario(world: World) -> None:
        body = json.dumps([audio("a")]).encode()
        pieces = [body[:7], b"", body[7:50], body[50:], b""]
        parts = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        parts[-1]["more_body"] = False
        answer = await world.ask("POST", "/v1/events", parts=parts, headers={"content-type": "application/json"})
        assert answer.json["accepted"] == 1

    run(scenario)


def test_a_body_that_ends_early_is_400_and_leaves_nothing() -> None:
    """Half a batch is no batch; a client that only closed its sending side sees why."""

    async def scenario(world: World) -> None:
        body = json.dumps([audio("a")]).encode()
        parts: list[Message] = [
            {"type": "http.request", "body": body[:-1], "more_body": True},
            {"type": "http.disconnect"},
        ]
        answer = await world.ask("POST", "/v1/events", parts=parts, headers={"content-type": "application/json"})
        assert (answer.status, answer.json["code"], answer.headers["connection"]) == (400, "body_undecodable", "close")
        assert not world.app.catalog.accounts
        assert (world.app.body_bytes, world.app.calls) == (0, 0)

    run(scenario)


def test_a_client_that_stops_sending_is_told_so() -> None:
    """A half-sent body holds memory for a bounded time only."""

    async def scenario(world: World) -> None:
        parts: list[Message] = [{"type": "http.request", "body": b"[", "more_body": True}, {"wait": True}]
        headers = {"content-type": "application/json", "content-length": "100"}
        answer = await world.ask("POST", "/v1/events", parts=parts, headers=headers)
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert "did not arrive" in answer.json["detail"]

    run(scenario, body_wait_s_max=1)


def test_bodies_together_are_bounded() -> None:
    """Past what may wait for a commit, a request is told to come again."""

    async def scenario(world: World) -> None:
        world.app.body_bytes = 4000
        answer = await world.ingest(audio("a"), audio("b"))
        assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
        world.app.body_bytes = 0
        assert (await world.ingest(audio("a"))).status == 200

    run(scenario, queue_bytes_max=4096)


def test_an_early_refusal_still_reads_what_the_client_sends() -> None:
    """A client that only listens once it has sent everything gets its 401, on a connection that stays usable."""

    async def scenario(world: World) -> None:
        parts = [{"type": "http.request", "body": b" " * 1000, "more_body": more} for more in (True, True, False)]
        answer = await world.ask("POST", "/v1/events", key=None, parts=parts, headers={"content-length": "3000"})
        assert (answer.status, parts) == (401, [])
        assert "connection" not in answer.headers

    run(scenario)


def test_a_client_that_waits_for_continue_is_refused_without_its_body() -> None:
    """It is not asked for what nobody will read."""

    async def scenario(world: World) -> None:
        headers = {"content-length": "3000", "expect": "100-continue"}
        answer = await world.ask("POST", "/v1/events", key=None, parts=[{"wait": True}], headers=headers)
        assert (answer.status, answer.headers["connection"]) == (401, "close")

    run(scenario)


def test_a_closed_ledger_is_503() -> None:
    """What cannot be made durable is not acknowledged."""

    async def scenario(world: World) -> None:
        await world.ledger.close()
        answer = await world.ingest(audio("a"))
        assert (answer.status, answer.json["code"]) == (503, "unavailable")

    run(scenario)


def test_while_draining_new_work_is_refused_and_health_still_answers() -> None:
    """Load balancers see 503 at /readyz, clients are told to try again elsewhere."""

    async def scenario(world: World) -> None:
        await world.key("writer", None, Scope.INGEST)
        world.app.draining = True
        for method, path, status in (("POST", "/v1/events", 503), ("GET", "/readyz", 503), ("GET", "/livez", 200)):
            assert (await world.ask(method, path)).status == status
        assert (await world.ingest(audio("a"))).headers["connection"] == "close"

    run(scenario)
