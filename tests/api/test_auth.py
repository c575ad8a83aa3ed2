"""Keys: what they look like, what opens a route, and what a key may read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.api import auth
from tallystick.errors import Code, Problem
from tallystick.model import Account, AccountKind, Caller, Catalog, Scope
from tests.api.client import HOUR, NOON, OPERATOR, World, run

ALL = frozenset(Scope)


def test_a_key_says_its_kind_and_is_never_made_twice() -> None:
    """The prefix tells secret scanners and people what they found."""
    assert re.fullmatch(r"tly_op_[0-9A-Za-z]{38}", auth.make_token(None))
    assert re.fullmatch(r"tly_acct_[0-9A-Za-z]{38}", auth.make_token("acme"))
    assert len({auth.make_token(None) for _ in range(100)}) == 100


@given(st.integers(0, 37), st.sampled_from(auth.ALPHABET))
def test_a_mistyped_key_is_told_from_an_unknown_one(place: int, letter: str) -> None:
    """The checksum finds any single wrong character."""
    token = auth.make_token("acme")
    wrong = token[: 9 + place] + letter + token[10 + place :]
    detail = "unknown" if wrong == token else "mistyped"
    with pytest.raises(Problem, match=detail) as caught:
        auth.authenticate({"authorization": f"Bearer {wrong}"}, Catalog(1, {}), None, NOON)
    assert caught.value.code is Code.KEY_INVALID


@pytest.mark.parametrize("key", ["tly_op_" + "a" * 38, "tly_acct_" + "0" * 38, "!" * 32, "~" + "x" * 511])
def test_the_operators_key_may_be_any_text_that_the_setting_takes(key: str) -> None:
    """One that looks like ours needs no checksum of ours."""
    caller = auth.authenticate({"authorization": f"Bearer {key}"}, Catalog(1, {}), key, NOON)
    assert caller == Caller(auth.SETTING_KEY_ID, None, ALL)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "key_missing"),
        ("", "key_invalid"),
        ("Bearer", "key_invalid"),
        ("Bearer ", "key_invalid"),
        (f"Basic {OPERATOR}", "key_invalid"),
        (f"Bearer {OPERATOR} more", "key_invalid"),
        (f"Bearer {OPERATOR}x", "key_invalid"),
        (OPERATOR, "key_invalid"),
        ("Bearer \xe9" + "x" * 40, "key_invalid"),
    ],
)
def test_without_a_good_key_the_answer_is_401_with_a_challenge(header: str | None, code: str) -> None:
    """Whatever is wrong with the header, nothing else is answered."""

    async def scenario(world: World) -> None:
        headers = {} if header is None else {"authorization": header}
        answer = await world.ask("GET", "/v1/accounts", key=None, headers=headers)
        assert (answer.status, answer.json["code"]) == (401, code)
        assert answer.headers["www-authenticate"].startswith("Bearer ")

    run(scenario)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER  "])
def test_the_scheme_is_compared_without_case(scheme: str) -> None:
    """As RFC 9110 has it."""

    async def scenario(world: World) -> None:
        answer = await world.ask("GET", "/v1/accounts", key=None, headers={"authorization": f"{scheme} {OPERATOR}"})
        assert answer.status == 200

    run(scenario)


def test_a_revoked_and_an_expired_key_are_refused_on_the_next_request() -> None:
    """Both look like a key that never was."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("brief", "acme", Scope.ADMIN, expires=NOON + HOUR)
        await world.key("gone", "acme", Scope.ADMIN)
        for name in ("brief", "gone"):
            assert (await world.ask("GET", "/v1/accounts", key=name)).status == 200
        await world.ledger.delete_key("key-gone", actor="test")
        world.now += HOUR
        details = {(await world.ask("GET", "/v1/accounts", key=name)).json["detail"] for name in ("brief", "gone")}
        assert details == {"The key is unknown, revoked or expired."}

    run(scenario)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/events", Scope.INGEST),
        ("GET", "/v1/usage", Scope.REPORT),
        ("GET", "/v1/accounts", Scope.ADMIN),
        ("GET", "/v1/accounts/acme", Scope.ADMIN),
        ("PUT", "/v1/accounts/acme", Scope.ADMIN),
        ("DELETE", "/v1/accounts/acme", Scope.ADMIN),
        ("GET", "/v1/keys", Scope.ADMIN),
        ("GET", "/v1/keys/key-acme", Scope.ADMIN),
        ("POST", "/v1/keys/key-acme/rotate", Scope.ADMIN),
        ("GET", "/v1/audit", Scope.ADMIN),
        ("POST", "/v1/keys", Scope.ADMIN),
        ("DELETE", "/v1/keys/key-acme", Scope.ADMIN),
        ("POST", "/v1/verify", Scope.ADMIN),
    ],
)
def test_a_route_needs_its_scope(method: str, path: str, scope: Scope) -> None:
    """Every other scope together does not open it."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("others", "acme", *(ALL - {scope}))
        answer = await world.ask(method, path, key="others")
        assert (answer.status, answer.json["code"]) == (403, "scope_missing")

    run(scenario)


def test_a_users_key_reads_also_the_organisations_that_the_user_is_a_member_of() -> None:
    """An organisation's key reads itself only, though another lists it as a member."""
    accounts = {
        "ada": Account("ada", 1, AccountKind.USER),
        "acme": Account("acme", 2, members=("ada", "globex")),
        "globex": Account("globex", 3, members=("bob",)),
    }
    catalog = Catalog(1, {}, accounts)
    assert auth.readable(Caller("k", "ada", ALL), catalog) == ("acme", "ada")
    assert auth.readable(Caller("k", "globex", ALL), catalog) == ("globex",)
    assert auth.readable(Caller("k", None, ALL), catalog) is None
    assert auth.readable_named(Caller("k", "ada", ALL), ("acme", "acme"), catalog) == ("acme",)


def test_a_foreign_account_and_one_that_is_not_there_look_the_same() -> None:
    """In a query both are 403, on a path both are 404, byte for byte but for the path."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.account("globex")
        ids = {"x-request-id": "same"}
        queries = [
            await world.ask("GET", f"/v1/usage?account={name}", key="acme", headers=ids)
            for name in ("globex", "nobody")
        ]
        audits = [
            await world.ask("GET", f"/v1/audit?account={name}", key="acme", headers=ids)
            for name in ("globex", "nobody")
        ]
        for answers in (queries, audits):
            assert [(answer.status, answer.json["code"]) for answer in answers] == [(403, "account_forbidden")] * 2
            assert answers[0].body == answers[1].body
        for method, target, body in (
            ("GET", "/v1/accounts/{}", b""),
            ("PUT", "/v1/accounts/{}", {"kind": "org"}),
            ("DELETE", "/v1/accounts/{}", b""),
            ("GET", "/v1/keys/key-{}", b""),
            ("DELETE", "/v1/keys/key-{}", b""),
            ("POST", "/v1/keys/key-{}/rotate", b""),
        ):
            paths = [
                await world.ask(method, target.format(name), body, key="acme", headers=ids)
                for name in ("globex", "nobody")
            ]
            assert [answer.status for answer in paths] == [404, 404]
            assert paths[0].body.replace(b"globex", b"nobody") == paths[1].body

    run(scenario)
