"""Live resources over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tallystick.model import AccountKind, Scope
from tests.api.client import World, run


def about(id: str, kind: str, resource: str, *, space: str | None = "lab", at: str = "10:00", **data: Any) -> Any:
    """Report that a resource is as `data` says."""
    event = {"id": id, "source": "test", "type": "resource.upserted", "account": "acme"}
    named = {"data": {"kind": kind, "id": resource, **data}, "time": f"2026-11-01T{at}:00Z"}
    return {**event, **named, **({} if space is None else {"space": space})}


def test_a_resource_is_shown_with_all_that_was_said_of_it() -> None:
    """Texts as sent, the duration in exact seconds, attributes with their numbers to the digit; the rest left out."""

    async def scenario(world: World) -> None:
        said = {"status": "success", "state": "available", "type": "wav", "model": "m", "parent": "p", "url": "u"}
        event = about("1", "audio", "a", duration="PT1M0.5S", actor="ada", attributes={"n": 1}, **said)
        body = json.dumps([event]).replace('{"n": 1}', '{"n": 0.1, "big": 12345678901234567890.5}')
        assert (await world.ask("POST", "/v1/events", body.encode())).json["accepted"] == 1
        shown = await world.ask("GET", "/v1/accounts/acme/resources?kind=audio")
        (line,) = shown.json["resources"]
        assert {name: value for name, value in line.items() if name != "attributes"} == {
            "space": "lab",
            "kind": "audio",
            "id": "a",
            "time": "2026-11-01T10:00:00Z",
            "actor": "ada",
            "duration": "60.5",
            **said,
        }
        assert b'"attributes":{"n":0.1,"big":12345678901234567890.5}' in shown.body

    run(scenario)


def test_resources_are_filtered_and_come_in_pages() -> None:
    """By space, kind and id; a space without a name is that of what is in none; every page goes on behind the last."""

    async def scenario(world: World) -> None:
        await world.ingest(
            about("1", "identity", "ada"),
            about("2", "identity", "bob"),
            about("3", "image", "ada", space="shop", url="u"),
            about("4", "identity", "ada", space=None),
        )
        everything = await names(world, "")
        assert everything == [
            (None, "identity", "ada"),
            ("lab", "identity", "ada"),
            ("lab", "identity", "bob"),
            ("lab", "space", "lab"),
            ("shop", "dataset", "shop"),
            ("shop", "image", "ada"),
        ]
        assert await names(world, "?space=lab&kind=identity") == everything[1:3]
        assert await names(world, "?id=ada") == [everything[0], everything[1], everything[5]]
        assert await names(world, "?space=") == everything[:1]
        assert await names(world, "?space=none") == []
        assert await names(world, "?limit=4&kind=identity") == everything[:3]
        assert await names(world, "?limit=2") == everything

    run(scenario)


async def names(world: World, query: str) -> list[tuple[str | None, str, str]]:
    """Follow the pages of a listing and name what is on them."""
    found: list[tuple[str | None, str, str]] = []
    target: str | None = f"/v1/accounts/acme/resources{query}"
    while target:
        page = await world.ask("GET", target)
        assert page.status == 200
        found += [(line.get("space"), line["kind"], line["id"]) for line in page.json["resources"]]
        target = page.headers["link"].split(">")[0][1:] if page.json["next"] else None
    return found


def test_what_was_deleted_is_not_shown() -> None:
    """Neither a resource nor what was in a space that is gone."""

    async def scenario(world: World) -> None:
        await world.ingest(about("1", "identity", "ada"), about("2", "identity", "bob", at="11:00"))
        gone = {**about("3", "identity", "bob", at="11:30"), "type": "resource.deleted"}
        await world.ingest(gone)
        assert await names(world, "?kind=identity") == [("lab", "identity", "ada")]
        await world.ingest({**about("4", "space", "lab", space=None, at="11:45"), "type": "resource.deleted"})
        assert await names(world, "") == []

    run(scenario)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("?limit=0", "limit"),
        ("?limit=x", "limit"),
        ("?cursor=x", "cursor"),
        ("?cursor=WzFd", "cursor"),
        ("?kind=", "kind"),
        ("?kind=a&kind=b", "kind"),
        ("?space=a&space=b", "space"),
        ("?id=a&id=b", "id"),
    ],
)
def test_a_question_that_cannot_be_read_names_its_parameter(query: str, parameter: str) -> None:
    """400 with the parameter as pointer."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        refused = await world.ask("GET", f"/v1/accounts/acme/resources{query}")
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (400, parameter)

    run(scenario)


def test_only_who_reads_an_account_sees_its_resources() -> None:
    """Its own key, a member's and the operator's, with the scope report; a foreign account is as unknown as none."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        await world.account("globex")
        await world.key("clerk", "acme", Scope.ADMIN, Scope.INGEST)
        target = "/v1/accounts/acme/resources"
        statuses = {key: (await world.ask("GET", target, key=key)).status for key in ("operator", "acme", "ada")}
        assert set(statuses.values()) == {200}
        foreign = await world.ask("GET", target, key="globex")
        unknown = await world.ask("GET", "/v1/accounts/nobody/resources")
        assert (foreign.status, unknown.status) == (404, 404)
        assert foreign.json["detail"] == unknown.json["detail"]
        assert (await world.ask("GET", target, key="clerk")).status == 403

    run(scenario)
