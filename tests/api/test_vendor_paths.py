"""Vendors' paths: what answers where, in whose shape things go wrong, and who needs no key."""

from __future__ import annotations

import json
import re

import pytest

from tallystick.dialects import vblaze
from tallystick.model import AccountKind, Scope
from tests.api.client import World, audio, run


async def begun(world: World) -> None:
    """Two accounts with an hour of a model each, and keys with one scope."""
    await world.account("acme")
    await world.account("globex")
    await world.ingest(
        *(audio(name, name, "3600", model=model) for name, model in (("acme", "a/b"), ("globex", "secret")))
    )
    await world.key("writer", "acme", Scope.INGEST)


def test_a_filter_takes_the_rest_of_the_path_decoded_once() -> None:
    """A slash and %2F are alike, %252F is a percent sign; without a value behind it the slash says nothing."""

    async def scenario(world: World) -> None:
        await begun(world)
        await world.ingest(audio("more", "acme", "7200", model="a%2Fb"), audio("slash", "acme", "10800", model="/"))

        async def models(path: str) -> list[str]:
            answer = await world.ask("GET", path, key="acme")
            assert answer.status == 200
            return [*answer.json][:-1]

        assert await models("/usage/a/b") == await models("/usage/a%2Fb") == ["a/b"]
        assert await models("/usage/a%252Fb") == ["a%2Fb"]
        assert await models("/usage//") == await models("/usage/%2F") == ["/"]
        assert await models("/usage/") == await models("/usage") == ["/", "a%2Fb", "a/b"]
        assert await models("/usage/a/") == await models("/usage/a/b/c") == []

    run(scenario)


@pytest.mark.parametrize("path", ["/usages", "/usage2", "/usagefoo/bar", "/Usage", "/v1/usagetags", "/v1/orgsx/y"])
def test_what_only_looks_like_a_vendors_path_is_a_native_404(path: str) -> None:
    """vblaze has its eight names, hiya its four, and nothing else begins like one."""

    async def scenario(world: World) -> None:
        answer = await world.ask("GET", path)
        assert (answer.status, answer.json["code"]) == (404, "not_found")

    run(scenario)


def test_vblazes_errors_have_one_member() -> None:
    """Every way to fail, with its status and `error`."""

    async def scenario(world: World) -> None:
        await begun(world)
        for report in vblaze.REPORTS:
            for method, path, key, status in (
                ("POST", f"/{report}", "acme", 405),
                ("DELETE", f"/{report}/a/b", "acme", 405),
                ("GET", f"/{report}/%ff", "acme", 404),
                ("GET", f"/{report}", None, 401),
                ("GET", f"/{report}/x", "nobody's", 401),
                ("GET", f"/{report}", "writer", 403),
                ("GET", f"/{report}?account=globex", "acme", 403),
                ("GET", f"/{report}?account=nobody", "acme", 403),
                ("GET", f"/{report}", "operator", 400),
                ("GET", f"/{report}?account=acme&account=globex", "operator", 400),
                ("GET", f"/{report}?since=x", "acme", 400),
                ("GET", f"/{report}?a=%ff", "acme", 400),
            ):
                answer = await world.ask(method, path, key=key)
                assert (answer.status, [*answer.json]) == (status, ["error"]), (method, path)
                assert ("www-authenticate" in answer.headers) == (status == 401)
                assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)

    run(scenario)


def test_phonexias_errors_have_one_member() -> None:
    """Every way to fail, with its status and `detail`."""

    async def scenario(world: World) -> None:
        await begun(world)
        for method, path, key, status in (
            ("POST", "/api/billing/capacities", "acme", 405),
            ("DELETE", "/api/billing/consumptions", "acme", 405),
            ("GET", "/api/billing", "acme", 404),
            ("GET", "/api/billing/capacities/", "acme", 404),
            ("GET", "/api/billing/capacities/x", "acme", 404),
            ("GET", "/api/billing/%ff", "acme", 404),
            ("GET", "/api", "acme", 404),
            ("GET", "/api/billing/capacities", None, 401),
            ("GET", "/api/billing/capacities", "nobody's", 401),
            ("GET", "/api/billing/consumptions", "writer", 403),
            ("GET", "/api/billing/consumptions?account=globex", "acme", 403),
            ("GET", "/api/billing/consumptions?account=nobody", "acme", 403),
            ("GET", "/api/billing/consumptions?account=nobody", "operator", 403),
            ("GET", "/api/billing/capacities", "operator", 400),
            ("GET", "/api/billing/capacities?account=", "operator", 400),
            ("GET", "/api/billing/capacities?account=acme&account=acme", "operator", 400),
            ("GET", "/api/billing/capacities?a=%ff", "acme", 400),
        ):
            answer = await world.ask(method, path, key=key)
            assert (answer.status, [*answer.json]) == (status, ["detail"]), (method, path)
            assert ("www-authenticate" in answer.headers) == (status == 401)
            assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)

    run(scenario)


def test_visiis_path_is_its_own_among_hiyas() -> None:
    """/orgs/{organisation}/usage and what lies below it; everything else below /orgs, and all below /v1, is hiya's."""

    async def scenario(world: World) -> None:
        await begun(world)
        for method, path, status in (
            ("POST", "/orgs/acme/usage", 405),
            ("PUT", "/orgs/nobody/usage", 405),
            ("GET", "/orgs/acme/usage/", 404),
            ("GET", "/orgs/acme/usage/more", 404),
            ("GET", "/orgs/%ff/usage", 404),
            ("GET", "/orgs/acme/usage?year=1", 400),
            ("GET", "/orgs/acme/usage?a=%ff", 400),
        ):
            answer = await world.ask(method, path, key="acme", scheme="token")
            assert (answer.status, [*answer.json], answer.json["status"]) == (status, ["status", "message"], "error")
            assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)
        for path in ("/orgs/acme", "/orgs/acme/usages", "/orgs//usage", "/v1/orgs/acme/usage"):
            answer = await world.ask("GET", path, key="acme")
            assert (answer.status, answer.json["error"]["code"]) == (404, 404), path

    run(scenario)


def test_hiyas_errors_have_its_shape_below_both_prefixes() -> None:
    """Unknown paths, other methods, keys and scopes."""

    async def scenario(world: World) -> None:
        await begun(world)
        for prefix in ("", "/v1"):
            for method, path, key, status in (
                ("GET", "/orgs/acme", "acme", 404),
                ("GET", "/orgs/acme/anything/else/there/is", "acme", 404),
                ("GET", "/spaces", "acme", 404),
                ("GET", "/spaces/acme//stats", "acme", 404),
                ("GET", "/user", "acme", 404),
                ("GET", "/user/%ff", "acme", 404),
                ("GET", "/auth", "acme", 404),
                ("GET", "/auth/credentials", "acme", 405),
                ("POST", "/orgs/acme/spaces", "acme", 405),
                ("GET", "/orgs/acme/spaces", None, 401),
                ("GET", "/orgs/acme/spaces", "nobody's", 401),
                ("GET", "/orgs/acme/spaces", "writer", 403),
                ("GET", "/user/records/verification", "operator", 400),
            ):
                answer = await world.ask(method, prefix + path, key=key)
                assert (answer.status, answer.json["error"]["code"]) == (status, status), (method, path)
                assert answer.json["error"]["id"] == answer.headers["x-request-id"]
                assert ("www-authenticate" in answer.headers) == (status == 401)
            allowed = [
                (await world.ask(method, prefix + path)).headers["allow"]
                for method, path in (("GET", "/auth/credentials"), ("PUT", "/orgs/acme/spaces"))
            ]
            assert allowed == ["POST", "GET, HEAD"]

    run(scenario)


def test_head_answers_as_get_without_the_body() -> None:
    """In each dialect, with the length of what GET would send and the headers of a page."""

    async def scenario(world: World) -> None:
        await begun(world)
        data = {"kind": "audio", "id": "a", "duration": 1}
        await world.ingest({**audio("1"), "type": "resource.upserted", "space": "room", "data": data})
        for path, scheme in (
            ("/usage", "Bearer"),
            ("/usagefull/a/b", "Bearer"),
            ("/v2/usage", "Bearer"),
            ("/v2/usage?since=x", "Bearer"),
            ("/spaces/acme/room/stats", "Bearer"),
            ("/v1/orgs/acme/spaces", "Bearer"),
            ("/orgs/acme/none", "Bearer"),
            ("/api/billing/capacities", "Bearer"),
            ("/api/billing/consumptions", "Bearer"),
            ("/api/billing/none", "Bearer"),
            ("/orgs/acme/usage", "token"),
            ("/orgs/globex/usage", "token"),
        ):
            get, head = [await world.ask(method, path, key="acme", scheme=scheme) for method in ("GET", "HEAD")]
            assert (head.status, head.body, head.headers["content-length"]) == (get.status, b"", str(len(get.body)))
            assert set(head.headers) == set(get.headers)

    run(scenario)


def test_a_path_may_be_percent_encoded_in_every_dialect() -> None:
    """A letter written as its percent code is that letter, in the vendor's own words and in names alike."""

    async def scenario(world: World) -> None:
        await begun(world)
        data = {"kind": "audio", "id": "a", "duration": 1}
        await world.ingest({**audio("1"), "type": "resource.upserted", "space": "room", "data": data})
        for plain, encoded in (
            ("/usage/a/b", "/us%61ge/%61%2Fb"),
            ("/v2/usage", "/%76%32/us%61ge"),
            ("/api/billing/consumptions", "/%61pi/bi%6Cling/consumption%73"),
            ("/orgs/acme/usage", "/orgs/%61cme/us%61ge"),
            ("/spaces/acme/room/stats", "/spaces/acm%65/r%6Fom/stat%73"),
            ("/v1/orgs/acme/spaces", "/v%31/orgs/acm%65/spaces"),
            ("/usage/%ff", "/usa%67e/%ff"),
            ("/api/none", "/%61pi/none"),
        ):
            scheme = "token" if plain == "/orgs/acme/usage" else "Bearer"
            one, other = [await world.ask("GET", path, key="acme", scheme=scheme) for path in (plain, encoded)]
            assert (one.status, one.body) == (other.status, other.body), plain
            assert one.status == (404 if plain in ("/usage/%ff", "/api/none") else 200)

    run(scenario)


def test_ids_are_echoed_in_every_dialect() -> None:
    """Both headers, in replies of every kind."""

    async def scenario(world: World) -> None:
        await begun(world)
        sent = {"x-request-id": "r-1", "x-correlation-id": "c-1"}
        paths = (
            *("/usage", "/usage/%ff", "/orgs/acme/spaces", "/orgs/none/spaces", "/auth/credentials"),
            *("/v2/usage", "/v2/usage?since=x", "/api/billing/capacities", "/api/billing/none", "/orgs/acme/usage"),
        )
        for path in paths:
            for scheme in ("Bearer", "token"):
                answer = await world.ask("GET", path, key="acme", scheme=scheme, headers=sent)
                assert [answer.headers[name] for name in sent] == ["r-1", "c-1"], path
                odd = await world.ask("GET", path, key="acme", headers=dict.fromkeys(sent, "é" * 5))
                assert all(re.fullmatch(r"[!-~]{8,128}", odd.headers[name]) for name in sent), path

    run(scenario)


def test_the_operators_key_names_an_account_and_a_bound_one_may() -> None:
    """A user's key names an organisation that the user is a member of; without a name it reads its own."""

    async def scenario(world: World) -> None:
        await begun(world)
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        hour = {"a/b": [1, 1], "total": [1, 1]}
        for path, key, body in (
            ("/usage?account=acme", "operator", hour),
            ("/usage?account=acme", "acme", hour),
            ("/usage?account=acme", "ada", hour),
            ("/api/billing/consumptions?account=acme", "operator", {"items": []}),
            ("/api/billing/consumptions?account=acme", "ada", {"items": []}),
            ("/api/billing/capacities", "ada", {"items": []}),
            ("/usage", "ada", {"total": [0, 0]}),
        ):
            assert (await world.ask("GET", path, key=key)).json == body
        assert (await world.ask("GET", "/usage?account=nobody")).status == 403

    run(scenario)


def test_without_the_setting_everybody_needs_a_key() -> None:
    """Nothing is open unless somebody opened it."""

    async def scenario(world: World) -> None:
        await begun(world)
        assert (await world.ask("GET", "/usage", key=None)).status == 401

    run(scenario)


def test_an_anonymous_account_is_shown_to_whoever_has_no_key() -> None:
    """vblaze's and phonexia's reports of that account, and neither another account nor another dialect."""

    async def scenario(world: World) -> None:
        await begun(world)
        for path in ("/usage", "/usage/a%2Fb", "/usage?account=acme"):
            answer = await world.ask("GET", path, key=None)
            assert (answer.status, answer.json) == (200, {"a/b": [1, 1], "total": [1, 1]})
        await world.ingest(audio("technical", "acme", "5", technology="t"), audio("other", "globex", technology="t"))
        shown = await world.ask("GET", "/api/billing/consumptions", key=None)
        assert [item["consumptions"][0]["consumption"] for item in shown.json["items"]] == [5]
        assert (await world.ask("GET", "/api/billing/capacities", key=None)).json == {"items": []}
        for path, status in (
            ("/api/billing/consumptions?account=globex", 403),
            ("/orgs/acme/usage", 404),
            ("/usage?account=globex", 403),
            ("/usage?account=nobody", 403),
            ("/v1/usage?meter=audio", 401),
            ("/v2/usage", 401),
            ("/orgs/acme/spaces", 401),
        ):
            assert (await world.ask("GET", path, key=None)).status == status
        # A key that is shown has to be good, and counts.
        assert (await world.ask("GET", "/usage", key="nobody's")).status == 401
        assert (await world.ask("GET", "/usage", key="writer")).status == 403
        assert (await world.ask("GET", "/usage", key="globex")).json["secret"] == [1, 1]
        assert "anonymous" not in world.ledger.key_uses

    run(scenario, anonymous_account="acme")


def test_an_anonymous_account_opens_no_organisation_of_its_user() -> None:
    """Who has no key is no member of anything; an account that is not there has no usage."""

    async def scenario(world: World) -> None:
        await begun(world)
        empty = await world.ask("GET", "/usage", key=None)
        assert (empty.status, json.loads(empty.body)) == (200, {"total": [0, 0]})
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        assert (await world.ask("GET", "/usage?account=acme", key="ada")).status == 200
        assert (await world.ask("GET", "/usage?account=acme", key=None)).status == 403

    run(scenario, anonymous_account="ada")
