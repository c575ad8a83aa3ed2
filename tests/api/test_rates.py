"""Rate tables over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.model import Scope
from tests.api.client import World, run

PRICES = {"rates": [{"type": "voice", "multiplier": "0.5"}, {"type": "fax", "multiplier": 2, "from": "2026-01-01"}]}
SHOWN = {
    "table": "prices",
    "rates": [
        {"type": "fax", "multiplier": "2", "from": "2026-01-01T00:00:00Z"},
        {"type": "voice", "multiplier": "0.5", "from": "1970-01-01T00:00:00Z"},
    ],
}
CALLS = {
    "events": ["call.ended"],
    "unit": "{credit}",
    "scale": 6,
    "labels": {"line": "$.data.line"},
    "rate": {"table": "prices", "label": "line"},
}


def call(id: str, line: str, at: str = "2026-11-01T11:00:00Z") -> dict[str, Any]:
    """Report a call."""
    event = {"id": id, "source": "test", "type": "call.ended", "account": "acme", "time": at}
    return {**event, "data": {"line": line}}


def vision(id: str, type: str) -> dict[str, Any]:
    """Report a vision request."""
    return {"id": id, "source": "test", "type": "vision.request", "account": "acme", "data": {"type": type}}


async def credits(world: World, meter: str = "calls") -> str:
    """Ask what was counted."""
    total = (await world.ask("GET", f"/v1/usage?meter={meter}&window=total")).json["total"]
    return str(total["quantity"])


def test_a_table_is_defined_used_and_shown() -> None:
    """The first PUT creates, the next replaces; a meter with it counts each event at its rate."""

    async def scenario(world: World) -> None:
        made = await world.ask("PUT", "/v1/rates/prices", PRICES)
        assert (made.status, made.json) == (201, SHOWN)
        assert (await world.ask("GET", "/v1/rates/prices")).json == SHOWN
        assert (await world.ask("PUT", "/v1/rates/prices", SHOWN)).status == 200
        assert (await world.ask("PUT", "/v1/meters/calls", CALLS)).status == 201
        sent = await world.ingest(call("1", "voice"), call("2", "fax"), call("3", "fax", "2025-12-31T23:59:59Z"))
        assert [(each["code"], each["pointer"]) for each in sent.json["receipts"]] == [("rate_missing", "/data/line")]
        assert await credits(world) == "2.5"

    run(scenario)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "pointer"),
    [
        ("prices", b"", 400, "body_undecodable", None),
        ("prices", [], 422, "field_type", ""),
        ("prices", {}, 422, "field_missing", "/rates"),
        ("prices", {"rates": [{"type": "a"}]}, 422, "field_missing", "/rates/0/multiplier"),
        ("prices", b'{"rates":[{"type":"a","multiplier":0.0000001}]}', 422, "field_value", "/rates/0/multiplier"),
        ("prices", {"rates": [{"type": "a", "multiplier": "1"}] * 2}, 422, "field_value", "/rates/1"),
        ("Prices", PRICES, 422, "field_value", "/table"),
        ("prices?recount=yes", PRICES, 400, "parameter_invalid", "recount"),
        ("prices?recount=", PRICES, 400, "parameter_invalid", "recount"),
    ],
)
def test_a_flawed_table_is_refused_with_a_pointer(
    path: str, body: Any, status: int, code: str, pointer: str | None
) -> None:
    """Nothing is defined, and the problem says what is wrong."""

    async def scenario(world: World) -> None:
        before = world.app.catalog
        answer = await world.ask("PUT", f"/v1/rates/{path}", body)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert [flaw["pointer"] for flaw in answer.json["errors"]] == ([] if pointer is None else [pointer])
        assert world.app.catalog == before

    run(scenario)


def test_a_number_is_read_to_the_digit() -> None:
    """A multiplier as a JSON number is never a binary fraction."""

    async def scenario(world: World) -> None:
        body = b'{"rates":[{"type":"a","multiplier":0.1},{"type":"b","multiplier":999999.999999}]}'
        made = await world.ask("PUT", "/v1/rates/prices", body)
        assert [rate["multiplier"] for rate in made.json["rates"]] == ["0.1", "999999.999999"]

    run(scenario)


def test_rates_of_what_is_counted_change_only_with_a_recount() -> None:
    """409 names the types and changes nothing; with recount=true the usage is that of the new rates."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/rates/prices", PRICES)
        await world.ask("PUT", "/v1/meters/calls", CALLS)
        await world.ingest(call("1", "voice"), call("2", "fax"))
        dearer = {"rates": [{"type": "voice", "multiplier": "1"}, PRICES["rates"][1]]}
        for query in ("", "?recount=false"):
            refused = await world.ask("PUT", f"/v1/rates/prices{query}", dearer)
            assert (refused.status, refused.json["code"]) == (409, "in_use")
            assert "voice" in refused.json["detail"]
            assert "fax" not in refused.json["detail"]
        assert await credits(world) == "2.5"
        done = await world.ask("PUT", "/v1/rates/prices?recount=true", dearer)
        assert (done.status, done.json["rates"][1]["multiplier"]) == (200, "1")
        assert await credits(world) == "3"

    run(scenario)


def test_the_built_in_table_can_be_replaced() -> None:
    """A new type may be added at any time, and what the vendor's page says may be said otherwise."""

    async def scenario(world: World) -> None:
        await world.ingest(vision("1", "lens"))
        lines = (await world.ask("GET", "/v1/rates/vision")).json["rates"]
        scan = {"type": "scan", "multiplier": "0.25"}
        assert (await world.ask("PUT", "/v1/rates/vision", {"rates": [*lines, scan]})).status == 200
        await world.ingest(vision("2", "scan"))
        assert await credits(world, "vision_credits") == "3.25"

    run(scenario)


def test_tables_are_listed_by_name_in_pages() -> None:
    """Each with its rates, the built-in one among them."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/rates/prices", PRICES)
        listed = (await world.ask("GET", "/v1/rates")).json
        assert [table["table"] for table in listed["tables"]] == ["prices", "vision"]
        assert listed["tables"][0] == SHOWN
        page = (await world.ask("GET", "/v1/rates?limit=1")).json
        following = (await world.ask("GET", f"/v1/rates?limit=1&cursor={page['next']}")).json
        assert ([table["table"] for table in following["tables"]], following["next"]) == (["vision"], None)

    run(scenario)


def test_the_operator_sets_rates_and_whoever_administers_reads_them() -> None:
    """An account's key with admin sees rates; only the operator's changes them; an unknown table is 404."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("reporter", None, Scope.REPORT)
        for key, statuses in {"acme": (200, 200, 403), "reporter": (403,) * 3}.items():
            answers = [
                await world.ask("GET", "/v1/rates", key=key),
                await world.ask("GET", "/v1/rates/vision", key=key),
                await world.ask("PUT", "/v1/rates/vision", {"rates": []}, key=key),
            ]
            assert tuple(answer.status for answer in answers) == statuses
        assert (await world.ask("GET", "/v1/rates/none")).status == 404

    run(scenario)
