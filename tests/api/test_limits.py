"""Limits and grants over HTTP, on either ledger: defined by the operator, read by whoever has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tallystick.model import AccountKind, Outcome, Scope
from tests.api.client import HOUR, NOON, World, audio, place, run
from tests.ledger.build import LEDGERS

LIMIT: dict[str, Any] = {"account": "acme", "meter": "audio", "period": "month", "amount": "100"}
GRANT: dict[str, Any] = {
    "id": "more",
    "amount": "20.5",
    "kind": "extension",
    "from": "2026-11-01T00:00:00Z",
    "until": "2026-11-15T00:00:00Z",
}


@pytest.fixture(params=LEDGERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str | None:
    """Where the ledger is kept: in memory, in a folder or in PostgreSQL."""
    return place(request.param, request, tmp_path)


async def made(world: World, id: str = "hours", **changed: Any) -> Any:
    """Put a limit as the operator, and return what is shown of it."""
    answer = await world.ask("PUT", f"/v1/limits/{id}", {**LIMIT, **changed})
    assert answer.status in (200, 201), answer.body
    return answer.json


COMPUTED = ("capacity", "used", "held", "remaining", "overage", "resets_at", "valid_until", "is_extended")


async def shown(world: World, id: str = "hours") -> Any:
    return (await world.ask("GET", f"/v1/limits/{id}")).json


def test_a_limit_is_made_shown_changed_and_deleted(folder: Path | str | None) -> None:
    """PUT answers 201 and then 200 with the whole definition and how it stands; after DELETE it is 404."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.ingest(audio("1", seconds="60.25"))
        first = await world.ask("PUT", "/v1/limits/hours", LIMIT)
        assert first.status == 201
        assert first.json == (await world.ask("GET", "/v1/limits/hours")).json
        assert first.json == {
            "id": "hours",
            "account": "acme",
            "meter": "audio",
            "property": "quantity",
            "where": {},
            "period": "month",
            "timezone": "UTC",
            "anchor": None,
            "amount": "100",
            "policy": "reject",
            "status": 429,
            "thresholds": [],
            "unheld": "record",
            "capacity": "100",
            "used": "60.25",
            "held": "0",
            "remaining": "39.75",
            "overage": "0",
            "resets_at": "2026-12-01T00:00:00Z",
            "valid_until": "2026-12-01T00:00:00Z",
            "is_extended": False,
        }
        full = {
            "property": "count",
            "where": {"language": "en", "type": ""},
            "period": "week",
            "timezone": "Europe/Prague",
            "anchor": 7,
            "amount": "3",
            "policy": "postpone",
            "status": 402,
            "thresholds": [50, 80, 1000],
        }
        other = await world.ask("PUT", "/v1/limits/jobs", {**LIMIT, **full})
        assert other.status == 201
        assert {name: other.json[name] for name in full} == full
        again = await world.ask("PUT", "/v1/limits/hours", {**LIMIT, "amount": "50.000001"})
        assert (again.status, again.json["remaining"], again.json["overage"]) == (200, "0", "10.249999")
        assert (await world.ask("DELETE", "/v1/limits/hours")).status == 204
        for method in ("GET", "DELETE"):
            gone = await world.ask(method, "/v1/limits/hours")
            assert (gone.status, gone.json["code"]) == (404, "not_found")

    run(scenario, folder=folder)


def test_use_is_seen_as_soon_as_it_is_acknowledged_and_ends_with_the_period(folder: Path | str | None) -> None:
    """Whatever was acknowledged before the question is in the answer; a new period begins at nothing."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        assert (await made(world, period="day", timezone="Europe/Prague"))["used"] == "0"
        for n in range(3):
            await world.ingest(audio(str(n), seconds="0.1"))
            assert (await shown(world))["used"] == f"0.{n + 1}"
        world.now = NOON + 11 * HOUR - 1
        assert (await shown(world))["used"] == "0.3"
        world.now += 1
        turned = await shown(world)
        assert (turned["used"], turned["resets_at"]) == ("0", "2026-11-02T23:00:00Z")

    run(scenario, folder=folder)


def test_grants_add_to_the_capacity_for_as_long_as_they_are_valid(folder: Path | str | None) -> None:
    """The first POST answers 201, the same again 200 and another of its id 409; what ends takes its capacity along."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await made(world, amount=None)
        assert (await shown(world))["capacity"] == "0"
        first = await world.ask("POST", "/v1/limits/hours/grants", GRANT)
        assert (first.status, first.json) == (201, GRANT)
        assert first.headers["location"] == "/v1/limits/hours/grants/more"
        assert (await world.ask("GET", first.headers["location"])).json == GRANT
        same = {**GRANT, "amount": "20.500", "from": "2026-11-01T01:00:00+01:00"}
        again = await world.ask("POST", "/v1/limits/hours/grants", same)
        assert (again.status, again.json) == (200, GRANT)
        other = await world.ask("POST", "/v1/limits/hours/grants", {**GRANT, "until": None})
        assert (other.status, other.json["code"], other.json["errors"][0]["pointer"]) == (409, "id_reused", "/id")
        base = {**GRANT, "id": "base", "kind": "base", "amount": "9", "until": None}
        assert (await world.ask("POST", "/v1/limits/hours/grants", base)).json == base
        now = await shown(world)
        assert (now["capacity"], now["valid_until"], now["is_extended"]) == ("29.5", GRANT["until"], True)
        assert now["resets_at"] == "2026-12-01T00:00:00Z"
        world.now = NOON + 14 * 24 * HOUR
        later = await shown(world)
        assert (later["capacity"], later["valid_until"], later["is_extended"]) == ("9", "2026-12-01T00:00:00Z", False)
        assert (await world.ask("DELETE", "/v1/limits/hours/grants/base")).status == 204
        for method in ("GET", "DELETE"):
            assert (await world.ask(method, "/v1/limits/hours/grants/base")).status == 404
        assert (await shown(world))["capacity"] == "0"
        assert (await world.ask("POST", "/v1/limits/days/grants", GRANT)).status == 404
        assert (await world.ask("GET", "/v1/limits/days/grants")).status == 404

    run(scenario, folder=folder)


def test_a_limit_for_ever_has_no_end() -> None:
    """Its members that say when are null."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        ever = await made(world, period="total")
        assert (ever["resets_at"], ever["valid_until"]) == (None, None)

    run(scenario)


@pytest.mark.parametrize(
    ("changed", "code", "pointers"),
    [
        ({"meter": "video"}, "field_value", ["/meter"]),
        ({"where": {"colour": "red", "a/b~c": ""}}, "field_value", ["/where/colour", "/where/a~1b~0c"]),
        ({"where": {"language": "x" * 257}}, "field_length", ["/where/language"]),
        ({"where": {"language": 1}}, "field_type", ["/where"]),
        ({"where": {"language": "a\n"}}, "text_invalid", ["/where/language"]),
        ({"where": {"tags": "DX"}}, "field_value", ["/where/tags"]),
        ({"amount": "0.0000001"}, "quantity_precision", ["/amount"]),
        ({"amount": "-1"}, "quantity_negative", ["/amount"]),
        ({"amount": "1e3"}, "quantity_type", ["/amount"]),
        ({"amount": ""}, "quantity_type", ["/amount"]),
        ({"amount": "１"}, "quantity_type", ["/amount"]),
        ({"amount": "1."}, "quantity_type", ["/amount"]),
        ({"amount": "9223372036854.775808"}, "quantity_range", ["/amount"]),
        ({"amount": 100}, "field_type", ["/amount"]),
        ({"property": "count", "amount": "1.5"}, "quantity_precision", ["/amount"]),
        ({"property": "size"}, "field_value", ["/property"]),
        ({"period": "decade"}, "field_value", ["/period"]),
        ({"timezone": "Mars/Base"}, "field_value", ["/timezone"]),
        ({"anchor": 0}, "field_value", ["/anchor"]),
        ({"anchor": 32}, "field_value", ["/anchor"]),
        ({"period": "week", "anchor": 8}, "field_value", ["/anchor"]),
        ({"period": "day", "anchor": 1}, "field_value", ["/anchor"]),
        ({"anchor": "Monday"}, "field_type", ["/anchor"]),
        ({"status": 200}, "field_value", ["/status"]),
        ({"policy": "ignore"}, "field_value", ["/policy"]),
        ({"thresholds": [0, 50, 50, 40, 1001]}, "field_value", [f"/thresholds/{place}" for place in (0, 2, 3, 4)]),
        ({"thresholds": [50.5]}, "field_type", ["/thresholds/0"]),
        ({"colour": "red"}, "field_value", ["/colour"]),
        ({"id": "minutes"}, "field_value", ["/id"]),
        (
            {"period": "decade", "policy": "ignore", "amount": 100, "colour": "red", "thresholds": [50, "x"]},
            "field_value",
            ["/period", "/amount", "/policy", "/thresholds/1", "/colour"],
        ),
        (
            {"where": {"x": ""}, "amount": "-1", "timezone": "x", "anchor": 99, "status": 1, "thresholds": [0]},
            "field_value",
            ["/where/x", "/amount", "/timezone", "/anchor", "/status", "/thresholds/0"],
        ),
    ],
)
def test_a_flawed_limit_is_refused_with_every_pointer(changed: dict[str, Any], code: str, pointers: list[str]) -> None:
    """Nothing is made, and the problem names all that is wrong, each where it is."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        answer = await world.ask("PUT", "/v1/limits/hours", {**LIMIT, **changed})
        assert (answer.status, answer.json["code"]) == (422, code)
        assert [flaw["pointer"] for flaw in answer.json["errors"]] == pointers
        assert not world.app.catalog.limits

    run(scenario)


@pytest.mark.parametrize("member", ["account", "meter", "period", "amount"])
def test_what_a_limit_is_of_has_to_be_said(member: str) -> None:
    """Nobody refuses all work by forgetting the amount."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        body = {name: value for name, value in LIMIT.items() if name != member}
        answer = await world.ask("PUT", "/v1/limits/hours", body)
        assert (answer.status, answer.json["code"]) == (422, "field_missing")
        assert answer.json["errors"][0]["pointer"] == f"/{member}"

    run(scenario)


@pytest.mark.parametrize("id", ["a b", "-a", ".", "x" * 65, "é", "a~"])
def test_an_id_is_short_and_plain(id: str) -> None:
    """It stands in addresses: letters, digits, dots, underlines and dashes."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        for good in ("A.b_c-9", "x" * 64):
            await made(world, good)
        path = "/v1/limits/" + "".join(f"%{byte:02x}" for byte in id.encode())
        answer = await world.ask("PUT", path, LIMIT)
        assert (answer.status, answer.json["code"]) == (422, "field_value")
        grant = await world.ask("POST", "/v1/limits/A.b_c-9/grants", {**GRANT, "id": id})
        assert (grant.status, grant.json["errors"][0]["pointer"]) == (422, "/id")

    run(scenario)


@pytest.mark.parametrize(
    ("changed", "code", "pointers"),
    [
        ({"amount": "0.0000001"}, "quantity_precision", ["/amount"]),
        ({"amount": None}, "field_type", ["/amount"]),
        ({"kind": "gift"}, "field_value", ["/kind"]),
        ({"until": GRANT["from"]}, "field_value", ["/until"]),
        ({"until": "2026-10-31T00:00:00Z"}, "field_value", ["/until"]),
        ({"from": "2026-11-01"}, "time_format", ["/from"]),
        ({"from": "yesterday", "until": "", "amount": "-2"}, "quantity_negative", ["/amount", "/from", "/until"]),
        ({"from": None}, "field_type", ["/from"]),
        ({"to": "2026-12-01T00:00:00Z"}, "field_value", ["/to"]),
    ],
)
def test_a_flawed_grant_is_refused_with_every_pointer(changed: dict[str, Any], code: str, pointers: list[str]) -> None:
    """Nothing is given, and the problem names all that is wrong, each where it is."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await made(world)
        answer = await world.ask("POST", "/v1/limits/hours/grants", {**GRANT, **changed})
        assert (answer.status, answer.json["code"]) == (422, code)
        assert [flaw["pointer"] for flaw in answer.json["errors"]] == pointers
        assert world.app.catalog.limits["hours"].grants == ()

    run(scenario)


def test_a_limit_keeps_its_account_meter_and_property() -> None:
    """Its grants are amounts of that; another thing to count is another limit."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.account("globex")
        await made(world)
        for changed in ({"account": "globex"}, {"meter": "tokens_in"}, {"property": "count"}):
            answer = await world.ask("PUT", "/v1/limits/hours", {**LIMIT, **changed})
            assert (answer.status, answer.json["code"]) == (409, "id_reused")
        assert world.app.catalog.limits["hours"].account == "acme"

    run(scenario)


def test_a_limit_may_be_sent_back_as_it_was_shown() -> None:
    """With its id, and without what is worked out."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        made = (await world.ask("PUT", "/v1/limits/hours", LIMIT)).json
        kept = {name: value for name, value in made.items() if name not in COMPUTED}
        answer = await world.ask("PUT", "/v1/limits/hours", kept)
        assert (answer.status, answer.json) == (200, made)

    run(scenario)


def test_an_unknown_account_in_a_limit_is_forbidden() -> None:
    """It is named in the body, so the answer is 403 with the pointer."""

    async def scenario(world: World) -> None:
        answer = await world.ask("PUT", "/v1/limits/hours", LIMIT)
        assert (answer.status, answer.json["code"]) == (403, "account_forbidden")
        assert answer.json["errors"][0]["pointer"] == "/account"

    run(scenario)


def test_nobody_changes_a_limit_of_their_own() -> None:
    """An account's key with every scope is refused; a foreign limit and one that is not there look the same to it."""

    async def scenario(world: World) -> None:
        for name in ("acme", "globex"):
            await world.account(name)
        await made(world)
        await world.ask("POST", "/v1/limits/hours/grants", GRANT)
        for method, path, body in (
            ("PUT", "", {**LIMIT, "amount": "1000"}),
            ("DELETE", "", b""),
            ("POST", "/grants", {**GRANT, "id": "x"}),
            ("DELETE", "/grants/more", b""),
        ):
            own = await world.ask(method, f"/v1/limits/hours{path}", body, key="acme")
            assert (own.status, own.json["code"]) == (403, "scope_missing")
            answers = [await world.ask(method, f"/v1/limits/{id}{path}", body, key="globex") for id in ("hours", "no")]
            assert [(each.status, each.json["detail"]) for each in answers] == [(404, "There is no such limit.")] * 2
        kept = world.app.catalog.limits["hours"]
        assert (kept.amount, [grant.id for grant in kept.grants]) == (100_000_000, ["more"])

    run(scenario)


def test_limits_are_read_by_those_who_may() -> None:
    """With the scope limits, by the account, by members of the organisation and by the operator; not by others."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        await world.account("globex")
        await world.key("reporting", "acme", Scope.REPORT, Scope.ADMIN)
        await world.key("asking", "acme", Scope.LIMITS)
        await made(world)
        await world.ask("POST", "/v1/limits/hours/grants", GRANT)
        for path in ("/v1/limits/hours", "/v1/limits/hours/grants", "/v1/limits/hours/grants/more"):
            read = {key: (await world.ask("GET", path, key=key)).status for key in world.keys}
            expected = {"operator": 200, "acme": 200, "ada": 200, "asking": 200, "globex": 404, "reporting": 403}
            assert read == expected
        foreign = await world.ask("GET", "/v1/limits?account=acme", key="globex")
        assert (foreign.status, foreign.json["code"]) == (403, "account_forbidden")
        assert (await world.ask("GET", "/v1/limits?account=umbrella")).status == 403

    run(scenario)


def test_limits_are_listed_by_id_in_pages(folder: Path | str | None) -> None:
    """Those that the key reads, or of one account, each with how it stands, and each on one page."""

    async def scenario(world: World) -> None:
        for name in ("acme", "globex"):
            await world.account(name)
        await world.ingest(audio("1"), audio("2", "globex", seconds="7"))
        for id, account in {"d": "acme", "b": "globex", "a": "acme", "c": "acme"}.items():
            await made(world, id, account=account)

        async def followed(query: str, key: str) -> list[tuple[str, str]]:
            found, cursor = [], ""
            while True:
                page = (await world.ask("GET", f"/v1/limits?limit=2{query}{cursor}", key=key)).json
                found += [(each["id"], each["used"]) for each in page["limits"]]
                if page["next"] is None:
                    return found
                assert len(page["limits"]) == 2
                cursor = f"&cursor={page['next']}"

        acme = [("a", "60"), ("c", "60"), ("d", "60")]
        assert await followed("", "operator") == sorted([*acme, ("b", "7")])
        assert await followed("&account=acme", "operator") == acme
        assert await followed("", "acme") == acme
        assert await followed("", "globex") == [("b", "7")]

    run(scenario, folder=folder)


def test_grants_are_listed_from_the_earliest_on_in_pages() -> None:
    """By the instant from which they are valid, then by id."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await made(world)
        for id, start in {"c": "2026-11-01", "a": "2026-11-02", "b": "2026-11-01"}.items():
            body = {**GRANT, "id": id, "from": f"{start}T00:00:00Z"}
            assert (await world.ask("POST", "/v1/limits/hours/grants", body)).status == 201
        first = (await world.ask("GET", "/v1/limits/hours/grants?limit=2")).json
        rest = (await world.ask("GET", f"/v1/limits/hours/grants?limit=2&cursor={first['next']}")).json
        assert [grant["id"] for grant in first["grants"]] == ["b", "c"]
        assert ([grant["id"] for grant in rest["grants"]], rest["next"]) == (["a"], None)

    run(scenario)


def test_an_account_with_limits_is_in_use() -> None:
    """The refusal says how to go on."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/accounts/acme", {"kind": "org"})
        await made(world)
        answer = await world.ask("DELETE", "/v1/accounts/acme")
        assert (answer.status, answer.json["code"]) == (409, "in_use")
        assert "DELETE /v1/limits/{id}" in answer.json["detail"]
        await world.ask("DELETE", "/v1/limits/hours")
        assert (await world.ask("DELETE", "/v1/accounts/acme")).status == 204

    run(scenario)


def test_the_audit_shows_limits_and_grants_as_they_were_defined(folder: Path | str | None) -> None:
    """Amounts are decimals at the scale of their time; an account's own key sees its limits, others do not."""

    async def scenario(world: World) -> None:
        for name in ("acme", "globex"):
            await world.account(name)
        await made(world)
        await made(world, amount="7.5")
        await world.ask("POST", "/v1/limits/hours/grants", GRANT)
        await world.ask("DELETE", "/v1/limits/hours")
        records = (await world.ask("GET", "/v1/audit?limit=4", key="acme")).json["audit"]
        assert [(r["action"], r["target"], r["account"]) for r in records] == [
            ("limit.delete", "hours", "acme"),
            ("grant.put", "hours/more", "acme"),
            ("limit.put", "hours", "acme"),
            ("limit.put", "hours", "acme"),
        ]
        assert [(r["before"] or {}).get("amount") for r in records] == ["7.5", None, "100", None]
        assert (records[1]["after"], records[0]["after"]) == (GRANT, None)
        assert set(records[2]["after"]) == set(await made(world)) - {
            "capacity",
            "used",
            "held",
            "remaining",
            "overage",
            "resets_at",
            "valid_until",
            "is_extended",
        }
        others = (await world.ask("GET", "/v1/audit", key="globex")).json["audit"]
        assert not any(record["action"].startswith(("limit", "grant")) for record in others)

    run(scenario, folder=folder)


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [(Outcome.METER_UNFIT, 409, "in_use"), (Outcome.ACCOUNT_UNKNOWN, 403, "account_forbidden")],
)
def test_what_changed_while_a_limit_was_read_is_told(outcome: Outcome, status: int, code: str) -> None:
    """The ledger has the last word: of a meter that a replay is about to replace, of an account that is gone."""

    async def scenario(world: World) -> None:
        async def refuse(*args: Any, **kwargs: Any) -> Outcome:
            return outcome

        await world.account("acme")
        world.ledger.put_limit = refuse  # type: ignore[method-assign]  # to set the timing
        answer = await world.ask("PUT", "/v1/limits/hours", LIMIT)
        assert (answer.status, answer.json["code"]) == (status, code)

    run(scenario)


def test_a_limit_that_is_deleted_while_a_grant_is_read_is_not_there() -> None:
    """The ledger has the last word here too."""

    async def scenario(world: World) -> None:
        async def refuse(*args: Any, **kwargs: Any) -> Outcome:
            return Outcome.LIMIT_UNKNOWN

        await world.account("acme")
        await made(world)
        world.ledger.put_grant = refuse  # type: ignore[method-assign]  # to set the timing
        assert (await world.ask("POST", "/v1/limits/hours/grants", GRANT)).status == 404

    run(scenario)
