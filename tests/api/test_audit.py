"""The audit over HTTP, and listings page by page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tallystick.model import AccountKind, Scope
from tests.api.client import HOUR, Answer, World, audio, run


async def followed(world: World, target: str, name: str, key: str = "operator") -> list[list[Any]]:
    """Follow a listing's links from its first page to its last; return the rows of each page."""
    pages = []
    while True:
        answer = await world.ask("GET", target, key=key)
        assert answer.status == 200, answer.body
        pages.append(answer.json[name])
        if answer.json["next"] is None:
            assert "link" not in answer.headers
            return pages
        link, relation = answer.headers["link"].split("; ")
        assert relation == 'rel="next"'
        target = link.removeprefix("<").removesuffix(">")


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_audit_says_who_changed_what_and_what_it_was_before(tmp_path: Path, on_disk: bool) -> None:
    """The newest change comes first, each with both sides as the API shows them, and no token or digest anywhere."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/accounts/acme", {"kind": "org"})
        world.now += HOUR
        await world.ask("PUT", "/v1/accounts/acme", {"kind": "org", "members": ["ada"]})
        made = (await world.ask("POST", "/v1/keys", {"account": "acme", "scopes": ["admin"]})).json
        rotated = (await world.ask("POST", f"/v1/keys/{made['id']}/rotate", key=made["key"])).json
        await world.ask("DELETE", f"/v1/keys/{made['id']}", key=rotated["key"])
        await world.ingest(audio("1", "globex"))
        answer = await world.ask("GET", "/v1/audit")
        acme = {"account": "acme", "kind": "org", "timezone": "UTC", "members": []}
        key = {
            "id": made["id"],
            "account": "acme",
            "scopes": ["admin"],
            "created_at": "2026-11-01T13:00:00Z",
            "expires_at": None,
        }
        ending = {**key, "expires_at": "2026-11-02T13:00:00Z"}
        setting = "operator-key-setting"
        assert [
            (each["actor"], each["action"], each["target"], each["account"], each["before"], each["after"])
            for each in answer.json["audit"]
        ] == [
            ("event", "account.put", "globex", "globex", None, {**acme, "account": "globex"}),
            (rotated["id"], "key.delete", made["id"], "acme", ending, None),
            (made["id"], "key.rotate", made["id"], "acme", key, {**key, "id": rotated["id"]}),
            (made["id"], "key.put", made["id"], "acme", key, ending),
            (setting, "key.put", made["id"], "acme", None, key),
            (setting, "account.put", "acme", "acme", acme, {**acme, "members": ["ada"]}),
            (setting, "account.put", "acme", "acme", None, acme),
        ]
        assert answer.json["audit"][-1]["time"] == "2026-11-01T12:00:00Z"
        assert answer.json["audit"][-1]["sequence"] == 2
        for secret in (made["key"], rotated["key"], *world.app.catalog.keys):
            assert secret.encode() not in answer.body

    run(scenario, folder=tmp_path if on_disk else None)


def test_an_account_sees_its_own_changes_only(tmp_path: Path) -> None:
    """A foreign account's are neither in its list nor to be had by name, and neither are an organisation's members'."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        await world.account("globex")
        await world.key("op", None)
        await world.ask("PUT", "/v1/accounts/acme", {"kind": "org"}, key="op")
        for name in ("acme", "ada", "globex"):
            for target in ("/v1/audit", f"/v1/audit?account={name}"):
                seen = (await world.ask("GET", target, key=name)).json["audit"]
                assert {each["account"] for each in seen} == {name}
                assert {each["target"] for each in seen} == {name, f"key-{name}"}
        changed = (await world.ask("GET", "/v1/audit", key="acme")).json["audit"][0]
        assert (changed["actor"], changed["before"]["members"]) == ("key-op", ["ada"])
        assert (await world.ask("GET", "/v1/audit?account=acme", key="ada")).status == 403

    run(scenario, folder=tmp_path)


def test_an_account_does_not_see_who_had_its_name_before(tmp_path: Path) -> None:
    """The operator sees both; the new owner's key sees the new one only, with whatever cursor."""

    async def scenario(world: World) -> None:
        await world.account("acme", members=["old-friend"])
        await world.ask("DELETE", "/v1/keys/key-acme")
        await world.ask("DELETE", "/v1/accounts/acme")
        assert len((await world.ask("GET", "/v1/audit?account=acme")).json["audit"]) == 4
        await world.account("acme")
        assert len((await world.ask("GET", "/v1/audit?account=acme")).json["audit"]) == 6
        for cursor in ("", "&cursor=" + base64.urlsafe_b64encode(b"[999,0]").decode().rstrip("=")):
            answer = await world.ask("GET", f"/v1/audit?account=acme{cursor}", key="acme")
            assert len(answer.json["audit"]) == 2
            assert b"old-friend" not in answer.body

    run(scenario, folder=tmp_path)


def test_the_operator_may_ask_about_an_account_that_was_and_not_about_one_that_never_was() -> None:
    """A name with a history is answered; one without is refused as in any other query."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/accounts/acme", {"kind": "org"})
        await world.ask("DELETE", "/v1/accounts/acme")
        assert [each["action"] for each in (await world.ask("GET", "/v1/audit?account=acme")).json["audit"]] == [
            "account.delete",
            "account.put",
        ]
        never = await world.ask("GET", "/v1/audit?account=nobody")
        assert (never.status, never.json["code"]) == (403, "account_forbidden")

    run(scenario)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_listing_is_followed_from_page_to_page(tmp_path: Path, on_disk: bool) -> None:
    """Each row comes once, in order, on pages of the size asked for; the query's other parameters stay."""

    async def scenario(world: World) -> None:
        for n in range(5):
            world.now += HOUR
            await world.account(f"org{n}")
            await world.key(f"more{n}", f"org{n}", Scope.REPORT)
        accounts = await followed(world, "/v1/accounts?limit=2", "accounts")
        assert [[row["account"] for row in page] for page in accounts] == [["org0", "org1"], ["org2", "org3"], ["org4"]]
        keys = await followed(world, "/v1/keys?limit=3", "keys")
        assert [len(page) for page in keys] == [3, 3, 3, 1]
        assert [row["id"] for page in keys for row in page] == [
            f"key-{name}{n}" for n in range(5) for name in ("more", "org")
        ]
        changes = await followed(world, "/v1/audit?limit=2&account=org3", "audit")
        assert [[row["target"] for row in page] for page in changes] == [["key-more3", "key-org3"], ["org3"]]
        own = await followed(world, "/v1/audit?limit=1", "audit", key="org2")
        assert [[row["target"] for row in page] for page in own] == [["key-more2"], ["key-org2"], ["org2"]]

    run(scenario, folder=tmp_path if on_disk else None)


def test_a_listing_has_no_more_rows_than_the_setting_allows() -> None:
    """Without a limit a page is as long as it may be, and the rest is on the next ones."""

    async def scenario(world: World) -> None:
        for n in range(4):
            await world.account(f"org{n}")
        for target, name, sizes in (
            ("/v1/accounts", "accounts", [3, 1]),
            ("/v1/keys", "keys", [3, 1]),
            ("/v1/audit", "audit", [3, 3, 2]),
        ):
            assert [len(page) for page in await followed(world, target, name)] == sizes

    run(scenario, page_rows_max=3)


def cursor_of(text: bytes) -> str:
    """Write a cursor as ours are written."""
    return "cursor=" + base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize("listing", ["accounts", "keys", "audit"])
@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1001", "limit"),
        ("limit=9999999999999999999", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=1.0", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=%C3%A9", "cursor"),
        (cursor_of(b"{}"), "cursor"),
        (cursor_of(b"[1]"), "cursor"),
        (cursor_of(b"[1,null]"), "cursor"),
        (cursor_of(b"[-1,0]"), "cursor"),
        (cursor_of(b"[9223372036854775808,0]"), "cursor"),
        (cursor_of(b"\xff"), "cursor"),
    ],
)
def test_a_flawed_limit_or_cursor_is_refused_by_name(listing: str, query: str, parameter: str) -> None:
    """The problem is 400 and names the parameter, whatever was sent for it."""

    async def scenario(world: World) -> None:
        answer: Answer = await world.ask("GET", f"/v1/{listing}?{query}")
        assert (answer.status, answer.json["code"]) == (400, "parameter_invalid")
        assert [flaw["pointer"] for flaw in answer.json["errors"]] == [parameter]

    run(scenario)
