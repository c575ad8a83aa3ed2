"""Accounts and keys over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.api.auth import digest_of
from tallystick.model import AccountKind, Scope
from tests.api.client import World, run


def test_an_account_is_created_changed_and_shown() -> None:
    """The first PUT creates, the next replaces the whole definition."""

    async def scenario(world: World) -> None:
        body = {"kind": "org", "timezone": "Europe/Prague", "members": ["ada", "ada", "bob"]}
        made = await world.ask("PUT", "/v1/accounts/acme", body)
        shown = {"account": "acme", "kind": "org", "timezone": "Europe/Prague", "members": ["ada", "bob"]}
        assert (made.status, made.json) == (201, shown)
        assert (await world.ask("GET", "/v1/accounts/acme")).json == shown
        again = await world.ask("PUT", "/v1/accounts/acme", {"kind": "org"})
        assert (again.status, again.json) == (200, {"account": "acme", "kind": "org", "timezone": "UTC", "members": []})
        await world.ask("PUT", "/v1/accounts/ada", {"kind": "user"})
        listed = (await world.ask("GET", "/v1/accounts")).json["accounts"]
        assert [account["account"] for account in listed] == ["acme", "ada"]

    run(scenario)


def test_an_account_may_be_sent_back_as_it_was_shown() -> None:
    """Whoever reads it, changes a member and writes it, need not know which members a definition has."""

    async def scenario(world: World) -> None:
        made = await world.ask("PUT", "/v1/accounts/acme", {"kind": "org", "timezone": "Europe/Prague"})
        again = await world.ask("PUT", "/v1/accounts/acme", made.json)
        assert (again.status, again.json) == (200, made.json)

    run(scenario)


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("accounts/acme", {}, "kind is required: one of org, user."),
        ("accounts/acme", {"kind": "firm"}, "kind must be one of org, user."),
        (
            "accounts/acme",
            {"kind": "org", "a/b": 1},
            "There is no such member; there are kind, timezone, members, account.",
        ),
        ("accounts/acme", b"x", "The body must be one JSON object in UTF-8."),
        (
            "holds",
            {"id": "h", "meter": "audio", "mode": "firm"},
            "mode must be one of normal, best_effort, check_only.",
        ),
        (
            "keys",
            {"account": None, "scopes": ["report", "read"]},
            "scopes must be one of ingest, report, limits, admin.",
        ),
        (
            "meters/calls",
            b"x",
            "The body must be one JSON object in UTF-8: it is not JSON: Expecting value: line 1 column 1 (char 0).",
        ),
    ],
)
def test_a_refusal_says_what_to_send_instead(path: str, body: Any, detail: str) -> None:
    """Names and values that there are, in the words of the API."""

    async def scenario(world: World) -> None:
        answer = await world.ask("POST" if path in ("keys", "holds") else "PUT", f"/v1/{path}", body)
        assert answer.json["detail"] == detail

    run(scenario)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "pointer"),
    [
        ("acme", b"{", 400, "body_undecodable", None),
        ("acme", b"\xff", 400, "body_undecodable", None),
        ("acme", b"", 400, "body_undecodable", None),
        ("acme", [], 422, "field_type", ""),
        ("acme", {}, 422, "field_missing", "/kind"),
        ("acme", {"kind": "firm"}, 422, "field_value", "/kind"),
        ("acme", {"kind": 1}, 422, "field_type", "/kind"),
        ("acme", {"kind": "org", "timezone": "Mars/Base"}, 422, "field_value", "/timezone"),
        ("acme", {"kind": "org", "members": ["ada", 1]}, 422, "field_type", "/members/1"),
        ("acme", {"kind": "org", "members": ["ada", "Ada"]}, 422, "field_value", "/members/1"),
        ("acme", {"kind": "user", "members": ["ada"]}, 422, "field_value", "/members"),
        ("acme", {"kind": "org", "colour": 1}, 422, "field_value", "/colour"),
        ("acme", {"kind": "org", "account": "globex"}, 422, "field_value", "/account"),
        ("Acme", {"kind": "org"}, 422, "field_value", ""),
        ("-acme", {"kind": "org"}, 422, "field_value", ""),
        ("a" * 51, {"kind": "org"}, 422, "field_value", ""),
    ],
)
def test_a_flawed_account_is_refused_with_a_pointer(
    path: str, body: Any, status: int, code: str, pointer: str | None
) -> None:
    """Nothing is created, and the problem says which member is wrong."""

    async def scenario(world: World) -> None:
        answer = await world.ask("PUT", f"/v1/accounts/{path}", body)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert [flaw["pointer"] for flaw in answer.json["errors"]] == ([] if pointer is None else [pointer])
        assert not world.app.catalog.accounts

    run(scenario)


def test_an_accounts_own_key_changes_its_members_and_not_its_kind() -> None:
    """The kind decides what its keys read, so it is the operator's."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        members = {"kind": "org", "members": ["ada"]}
        assert (await world.ask("PUT", "/v1/accounts/acme", members, key="acme")).json["members"] == ["ada"]
        assert (await world.ask("PUT", "/v1/accounts/acme", {"kind": "user"}, key="acme")).status == 403
        assert world.app.catalog.accounts["acme"].kind is AccountKind.ORG

    run(scenario)


def test_a_member_reads_an_organisation_and_does_not_change_it() -> None:
    """Membership is for reading only."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        assert (await world.ask("GET", "/v1/accounts/acme", key="ada")).status == 200
        assert (await world.ask("PUT", "/v1/accounts/acme", {"kind": "org"}, key="ada")).status == 404
        listed = (await world.ask("GET", "/v1/accounts", key="ada")).json["accounts"]
        assert [account["account"] for account in listed] == ["acme", "ada"]

    run(scenario)


def test_a_key_is_shown_once_and_only_its_digest_is_kept() -> None:
    """The list has everything about a key but what opens doors."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        body = {"account": "acme", "scopes": ["report", "ingest"], "expires_at": "2026-12-01T01:00:00+01:00"}
        made = await world.ask("POST", "/v1/keys", body)
        assert (made.status, set(made.json), made.headers["cache-control"]) == (201, {"id", "key"}, "no-store")
        token, id = made.json["key"], made.json["id"]
        assert world.app.catalog.keys[digest_of(token)].id == id
        assert token not in repr(world.app.catalog)
        listed = await world.ask("GET", "/v1/keys")
        assert next(key for key in listed.json["keys"] if key["id"] == id) == {
            "id": id,
            "account": "acme",
            "scopes": ["ingest", "report"],
            "created_at": "2026-11-01T12:00:00Z",
            "expires_at": "2026-12-01T00:00:00Z",
            "last_used_at": None,
        }
        assert token.encode() not in listed.body
        assert digest_of(token).encode() not in listed.body
        assert (await world.ask("GET", "/v1/usage?meter=audio&window=total", key=token)).status == 200

    run(scenario)


def test_a_revoked_key_is_refused_at_once() -> None:
    """DELETE answers 204, the key 401, and a second DELETE 404."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        made = (await world.ask("POST", "/v1/keys", {"account": "acme", "scopes": ["admin"]})).json
        assert (await world.ask("GET", "/v1/keys", key=made["key"])).status == 200
        gone = await world.ask("DELETE", f"/v1/keys/{made['id']}")
        assert (gone.status, gone.body) == (204, b"")
        assert (await world.ask("GET", "/v1/keys", key=made["key"])).status == 401
        assert (await world.ask("DELETE", f"/v1/keys/{made['id']}")).status == 404

    run(scenario)


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"scopes": ["report"]}, 422, "field_missing", "/account"),
        ({"account": "acme"}, 422, "field_missing", "/scopes"),
        ({"account": "acme", "scopes": []}, 422, "field_value", "/scopes"),
        ({"account": "acme", "scopes": ["root"]}, 422, "field_value", "/scopes/0"),
        ({"account": "acme", "scopes": ["report", "limits"]}, 403, "scope_missing", "/scopes/1"),
        ({"account": "acme", "scopes": ["report"], "expires_at": "tomorrow"}, 422, "time_format", "/expires_at"),
        (
            {"account": "acme", "scopes": ["report"], "expires_at": "2026-11-01T12:00:00Z"},
            422,
            "field_value",
            "/expires_at",
        ),
        ({"account": "globex", "scopes": ["report"]}, 403, "account_forbidden", "/account"),
        ({"account": "nobody", "scopes": ["report"]}, 403, "account_forbidden", "/account"),
        ({"account": None, "scopes": ["report"]}, 403, "account_forbidden", "/account"),
    ],
)
def test_a_key_makes_no_more_than_it_has(body: Any, status: int, code: str, pointer: str) -> None:
    """Neither another account's key, nor an operator's, nor one with more scopes."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.account("globex")
        await world.key("clerk", "acme", Scope.ADMIN, Scope.REPORT)
        before = dict(world.app.catalog.keys)
        answer = await world.ask("POST", "/v1/keys", body, key="clerk")
        assert (answer.status, answer.json["code"], answer.json["errors"][0]["pointer"]) == (status, code, pointer)
        assert world.app.catalog.keys == before

    run(scenario)


def test_a_key_sees_and_revokes_only_keys_of_its_account() -> None:
    """A foreign key's id is as unknown as one that never was."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.account("globex")
        listed = (await world.ask("GET", "/v1/keys", key="acme")).json["keys"]
        assert [key["account"] for key in listed] == ["acme"]
        assert (await world.ask("DELETE", "/v1/keys/key-globex", key="acme")).status == 404
        assert len((await world.ask("GET", "/v1/keys")).json["keys"]) == 2

    run(scenario)


def test_a_document_is_bounded_and_must_be_json() -> None:
    """Administrative bodies have their own, smaller bound."""

    async def scenario(world: World) -> None:
        large = await world.ask("PUT", "/v1/accounts/acme", b" " * 300_000)
        assert (large.status, large.json["code"]) == (413, "batch_too_large")
        form = await world.ask("PUT", "/v1/accounts/acme", b"kind=org", headers={"content-type": "text/plain"})
        assert (form.status, form.json["code"]) == (415, "media_type_unknown")

    run(scenario)


def test_verify_is_the_operators() -> None:
    """A proof covers every account, so an account's key does not get it."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        assert (await world.ask("POST", "/v1/verify", key="acme")).status == 403
        proof = (await world.ask("POST", "/v1/verify")).json
        assert (proof["events"], proof["faults"]) == (0, [])

    run(scenario)
