"""GET /v1/key and GET /v1/usage/meters: what a client has to know of itself before it asks for anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tallystick.model import AccountKind, Scope
from tests.api.client import HOUR, World, run

Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture(params=["memory", "sqlite"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    """Play a scenario over either ledger."""
    return lambda scenario: run(scenario, folder=tmp_path / "data" if request.param == "sqlite" else None)


def test_a_key_is_told_what_it_is(play: Callable[[Scenario], None]) -> None:
    """Account, scopes and end, whatever the scopes; the operator's key reads all, an account's its own."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.account("globex")
        operator = (await world.ask("GET", "/v1/key")).json
        assert (operator["account"], operator["accounts"], operator["expires_at"]) == (None, None, None)
        assert operator["scopes"] == ["admin", "ingest", "limits", "report"]
        for scope in Scope:
            await world.key("narrow", "acme", scope, expires=world.now + HOUR)
            said = await world.ask("GET", "/v1/key", key="narrow")
            assert said.json == {
                "id": "key-narrow",
                "account": "acme",
                "scopes": [scope],
                "expires_at": "2026-11-01T13:00:00Z",
                "accounts": [{"account": "acme", "kind": "org", "timezone": "UTC"}],
            }
            assert said.headers["cache-control"] == "no-store"
            await world.ledger.delete_key("key-narrow", actor="test")
            assert (await world.ask("GET", "/v1/key", key="narrow")).status == 401
        assert (await world.ask("GET", "/v1/key", key=None)).status == 401

    play(scenario)


def test_a_user_is_told_the_organisations_that_it_reads(play: Callable[[Scenario], None]) -> None:
    """Its own account and those of which it is a member, and no other."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=("ada",))
        await world.account("globex")
        said = (await world.ask("GET", "/v1/key", key="ada")).json
        assert [each["account"] for each in said["accounts"]] == ["acme", "ada"]

    play(scenario)


def test_the_meters_that_can_be_asked_of_are_listed(play: Callable[[Scenario], None]) -> None:
    """By name, in pages, with the scope report alone; each with what a report may group and filter by."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("reader", "acme", Scope.REPORT)
        first = (await world.ask("GET", "/v1/usage/meters?limit=1", key="reader")).json
        (audio,) = first["meters"]
        assert (audio["meter"], audio["unit"], audio["aggregation"]) == ("audio", "s", "sum")
        assert {"language", "space"} < set(audio["labels"])
        names = [audio["meter"]]
        while first["next"] is not None:
            first = (await world.ask("GET", f"/v1/usage/meters?limit=3&cursor={first['next']}", key="reader")).json
            names += [each["meter"] for each in first["meters"]]
        assert names == sorted(world.app.catalog.meters)

    play(scenario)
