"""Accounts deleted, keys rotated, expired and revoked: over HTTP, on either ledger, in force on the next request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tallystick.api.auth import digest_of
from tallystick.model import AccountKind, Scope
from tests.api.client import HOUR, NOON, World, audio, place, run
from tests.ledger.build import LEDGERS

USAGE = "/v1/usage?meter=audio&window=total"
MINUTE = HOUR // 60


@pytest.fixture(params=LEDGERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str | None:
    """Where the ledger is kept: in memory, in a folder or in PostgreSQL."""
    return place(request.param, request, tmp_path)


def test_an_account_without_events_and_keys_is_deleted(folder: Path | str | None) -> None:
    """DELETE answers 204, after that the account is 404, and a second DELETE too."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/accounts/acme", {"kind": "org"})
        gone = await world.ask("DELETE", "/v1/accounts/acme")
        assert (gone.status, gone.body) == (204, b"")
        for method in ("GET", "DELETE"):
            assert (await world.ask(method, "/v1/accounts/acme")).status == 404
        assert (await world.ask("PUT", "/v1/accounts/acme", {"kind": "user"})).status == 201

    run(scenario, folder=folder)


def test_an_account_that_is_used_is_not_deleted(folder: Path | str | None) -> None:
    """Keys are in the way until they are revoked, events for ever; the refusal says which, and nothing changes."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        keyed = await world.ask("DELETE", "/v1/accounts/acme")
        assert (keyed.status, keyed.json["code"]) == (409, "in_use")
        assert "/v1/keys/{id}" in keyed.json["detail"]
        await world.ingest(audio("1"), key="acme")
        await world.ask("DELETE", "/v1/keys/key-acme")
        used = await world.ask("DELETE", "/v1/accounts/acme")
        assert (used.status, used.json["code"]) == (409, "in_use")
        assert "events" in used.json["detail"]
        assert (await world.ask("GET", f"{USAGE}&account=acme")).json["total"]["count"] == 1

    run(scenario, folder=folder)


def test_only_the_operator_deletes_an_account() -> None:
    """Its own key is refused for what it is, and a member's as if there were no such account."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        own = await world.ask("DELETE", "/v1/accounts/acme", key="acme")
        assert (own.status, own.json["code"]) == (403, "scope_missing")
        assert (await world.ask("DELETE", "/v1/accounts/acme", key="ada")).status == 404
        assert "acme" in world.app.catalog.accounts

    run(scenario)


def test_events_of_a_deleted_account_are_as_those_of_one_that_never_was(folder: Path | str | None) -> None:
    """The operator's bring it back with a new number; where events create no accounts they are refused."""

    async def scenario(world: World) -> None:
        for name in ("acme", "globex"):
            await world.ask("PUT", f"/v1/accounts/{name}", {"kind": "org"})
        numbers = {name: account.number for name, account in world.app.catalog.accounts.items()}
        await world.ask("DELETE", "/v1/accounts/globex")
        assert (await world.ingest(audio("1", "globex"))).json["accepted"] == 1
        assert world.app.catalog.accounts["globex"].number not in numbers.values()

    run(scenario, folder=folder)


def test_members_may_be_named_before_they_are_there_and_stay_named_after() -> None:
    """A name opens the organisation to whichever user has it, which says nothing about who has it now."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        body = {"kind": "org", "members": ["ada"]}
        early = await world.ask("PUT", "/v1/accounts/acme", body, key="acme")
        await world.account("ada", AccountKind.USER)
        late = await world.ask("PUT", "/v1/accounts/acme", body, key="acme")
        assert (early.status, early.body) == (late.status, late.body)
        assert (await world.ask("GET", f"{USAGE}&account=acme", key="ada")).status == 200
        await world.ask("DELETE", "/v1/keys/key-ada")
        await world.ask("DELETE", "/v1/accounts/ada")
        assert (await world.ask("GET", "/v1/accounts/acme")).json["members"] == ["ada"]

    run(scenario)


def test_who_is_no_member_any_more_reads_nothing_on_the_next_request(folder: Path | str | None) -> None:
    """A key with the scope report reads the organisation while its user is a member, and not a request longer."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.key("reader", "ada", Scope.REPORT)
        await world.account("acme", members=["ada"])
        await world.ingest(audio("1"))
        mine, named = USAGE, f"{USAGE}&account=acme"
        assert (await world.ask("GET", named, key="reader")).json["total"]["count"] == 1
        assert (await world.ask("GET", mine, key="reader")).json["total"]["count"] == 1
        await world.ask("PUT", "/v1/accounts/acme", {"kind": "org"}, key="acme")
        assert (await world.ask("GET", named, key="reader")).status == 403
        assert (await world.ask("GET", mine, key="reader")).json["total"]["count"] == 0

    run(scenario, folder=folder)


def test_a_revoked_key_opens_nothing_on_the_next_request(folder: Path | str | None) -> None:
    """The request after the answer to DELETE is 401."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        made = (await world.ask("POST", "/v1/keys", {"account": "acme", "scopes": ["report"]})).json
        assert (await world.ask("GET", USAGE, key=made["key"])).status == 200
        assert (await world.ask("DELETE", f"/v1/keys/{made['id']}", key="acme")).status == 204
        assert (await world.ask("GET", USAGE, key=made["key"])).status == 401

    run(scenario, folder=folder)


def test_a_key_expires_at_its_instant(folder: Path | str | None) -> None:
    """It opens everything until a microsecond before, and nothing from then on."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        body = {"account": "acme", "scopes": ["report"], "expires_at": "2026-11-01T13:00:00Z"}
        made = (await world.ask("POST", "/v1/keys", body)).json
        world.now = NOON + HOUR - 1
        assert (await world.ask("GET", USAGE, key=made["key"])).status == 200
        world.now = NOON + HOUR
        assert (await world.ask("GET", USAGE, key=made["key"])).status == 401

    run(scenario, folder=folder)


def test_a_rotated_key_is_valid_beside_its_successor_for_an_overlap(folder: Path | str | None) -> None:
    """Both open the same until the overlap ends, at its instant; the new key is shown this once."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        body = {"account": "acme", "scopes": ["report", "admin"], "expires_at": "2027-01-01T00:00:00Z"}
        old = (await world.ask("POST", "/v1/keys", body)).json
        made = await world.ask("POST", f"/v1/keys/{old['id']}/rotate", {"overlap": "PT1H30M"}, key=old["key"])
        new = made.json
        assert made.status == 201
        assert made.headers["cache-control"] == "no-store"
        assert made.headers["location"] == f"/v1/keys/{new['id']}"
        assert new == {
            "id": new["id"],
            "key": new["key"],
            "replaces": old["id"],
            "overlap_ends_at": "2026-11-01T13:30:00Z",
            "expires_at": "2027-01-01T00:00:00Z",
        }
        assert new["id"] != old["id"]
        shown = [(await world.ask("GET", f"/v1/keys/{id}")).json for id in (old["id"], new["id"])]
        assert [key["expires_at"] for key in shown] == ["2026-11-01T13:30:00Z", "2027-01-01T00:00:00Z"]
        assert [(key["account"], key["scopes"]) for key in shown] == [("acme", ["admin", "report"])] * 2
        for later, statuses in ((90 * MINUTE - 1, [200, 200]), (90 * MINUTE, [401, 200])):
            world.now = NOON + later
            assert [(await world.ask("GET", USAGE, key=key["key"])).status for key in (old, new)] == statuses

    run(scenario, folder=folder)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [(b"", 7200), ({}, 7200), ({"overlap": None}, 7200), ({"overlap": "PT0S"}, 0), ({"overlap": "P30D"}, 2_592_000)],
)
def test_the_overlap_is_a_setting_unless_the_request_says(body: Any, seconds: int) -> None:
    """No body, an empty one and null all mean the setting; none at all ends the old key at once."""

    async def scenario(world: World) -> None:
        old = await world.key("old", None)
        made = await world.ask("POST", "/v1/keys/key-old/rotate", body)
        assert made.status == 201
        assert world.app.catalog.keys[digest_of(old)].valid_until == NOON + seconds * 1_000_000
        assert (await world.ask("GET", "/v1/keys", key="old")).status == (200 if seconds else 401)

    run(scenario, key_overlap_s=7200)


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"overlap": "P1M"}, "time_format", "/overlap"),
        ({"overlap": "24h"}, "time_format", "/overlap"),
        ({"overlap": "-PT1H"}, "time_format", "/overlap"),
        ({"overlap": ""}, "time_format", "/overlap"),
        ({"overlap": "P30DT1S"}, "field_value", "/overlap"),
        ({"overlap": 86400}, "field_type", "/overlap"),
        ({"overlaps": "PT1H"}, "field_value", "/overlaps"),
    ],
)
def test_a_flawed_overlap_is_refused_with_a_pointer(body: Any, code: str, pointer: str) -> None:
    """Nothing is rotated, and the problem says what to send."""

    async def scenario(world: World) -> None:
        await world.key("old", None)
        before = world.app.catalog
        answer = await world.ask("POST", "/v1/keys/key-old/rotate", body)
        assert (answer.status, answer.json["code"], answer.json["errors"][0]["pointer"]) == (422, code, pointer)
        assert world.app.catalog == before

    run(scenario)


def test_a_key_that_is_not_valid_any_more_is_not_rotated(folder: Path | str | None) -> None:
    """Expired, at the end of its overlap, revoked or never there: all 404 alike, and no key is made."""

    async def scenario(world: World) -> None:
        await world.key("brief", None, expires=NOON + HOUR)
        await world.key("rotated", None)
        await world.key("gone", None)
        await world.ask("POST", "/v1/keys/key-rotated/rotate", {"overlap": "PT1H"})
        await world.ask("DELETE", "/v1/keys/key-gone")
        world.now = NOON + HOUR
        count = len(world.app.catalog.keys)
        answers = [
            await world.ask("POST", f"/v1/keys/key-{name}/rotate") for name in ("brief", "rotated", "gone", "never")
        ]
        assert {(answer.status, answer.json["detail"]) for answer in answers} == {(404, "There is no such key.")}
        assert len(world.app.catalog.keys) == count

    run(scenario, folder=folder)


def test_a_lost_answer_to_a_rotation_locks_nobody_out() -> None:
    """Asked again with the old key, it gives another successor that lives as long as the first would."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        for _ in range(2):
            made = await world.ask("POST", "/v1/keys/key-acme/rotate", {"overlap": "PT1H"}, key="acme")
            assert (made.json["expires_at"], made.json["overlap_ends_at"]) == (None, "2026-11-01T13:00:00Z")
        world.now = NOON + 1000 * HOUR
        assert (await world.ask("GET", USAGE, key=made.json["key"])).status == 200

    run(scenario)


def test_a_rotation_gives_no_more_than_the_key_that_asks_has() -> None:
    """Who administers keys gets no token with a scope of theirs that it lacks itself."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("clerk", "acme", Scope.ADMIN)
        before = world.app.catalog
        answer = await world.ask("POST", "/v1/keys/key-acme/rotate", key="clerk")
        assert (answer.status, answer.json["code"]) == (403, "scope_missing")
        assert world.app.catalog == before
        assert (await world.ask("POST", "/v1/keys/key-clerk/rotate", key="clerk")).status == 201

    run(scenario)


def test_a_key_shows_when_it_was_used_last(folder: Path | str | None) -> None:
    """Every request that it opens counts, also one that lacks a scope; refused and other keys' requests do not."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("reader", "acme", Scope.REPORT)

        async def used() -> Any:
            return (await world.ask("GET", "/v1/keys/key-reader")).json["last_used_at"]

        assert await used() is None
        world.now = NOON + MINUTE
        await world.ask("GET", USAGE, key="reader")
        assert await used() == "2026-11-01T12:01:00Z"
        world.now = NOON + 2 * MINUTE
        assert (await world.ask("GET", "/v1/keys", key="reader")).status == 403
        await world.ask("GET", "/v1/keys", key="acme")
        assert await used() == "2026-11-01T12:02:00Z"
        world.now = NOON + 3 * MINUTE
        listed = (await world.ask("GET", "/v1/keys", key="acme")).json["keys"]
        assert {key["id"]: key["last_used_at"] for key in listed} == {
            "key-acme": "2026-11-01T12:03:00Z",
            "key-reader": "2026-11-01T12:02:00Z",
        }

    run(scenario, folder=folder)


def test_a_key_that_has_expired_is_not_used() -> None:
    """Somebody who tries an old key does not make it look alive."""

    async def scenario(world: World) -> None:
        await world.key("brief", None, expires=NOON + HOUR)
        world.now = NOON + HOUR
        assert (await world.ask("GET", "/v1/keys", key="brief")).status == 401
        assert (await world.ask("GET", "/v1/keys/key-brief")).json["last_used_at"] is None

    run(scenario)
