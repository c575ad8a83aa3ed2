"""visii's usage: months and years, datasets and their deletion, limits, multipliers, and the one 404."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tallystick import windows
from tallystick.api.errors import STATUS
from tallystick.dialects import visii
from tallystick.errors import Code, Problem
from tallystick.model import AccountKind, Scope
from tests.api.client import Answer, World, run

AT = "2026-11-01T11:00:00Z"  # an hour before the clock of a World
RATES = {"assistant": 2, "explore": 1, "lens": 3, "similar": 0.5, "track": 0}


def request(id: str, type: str = "explore", dataset: str | None = "shop", at: str = AT, **data: Any) -> dict[str, Any]:
    """Write down a request to the Vision API."""
    whole = {"type": type, **({} if dataset is None else {"dataset": dataset}), **data}
    return {"id": id, "source": "s", "type": "vision.request", "account": "acme", "time": at, "data": whole}


def said(id: str, kind: str, resource: str, dataset: str | None = None, at: str = AT, **data: Any) -> dict[str, Any]:
    """Write down that a resource is there."""
    event = {"id": id, "source": "s", "type": "resource.upserted", "account": "acme", "time": at}
    return {**event, **({} if dataset is None else {"space": dataset}), "data": {"kind": kind, "id": resource, **data}}


def gone(id: str, kind: str, resource: str, dataset: str | None = None, at: str = AT) -> dict[str, Any]:
    """Write down that a resource was deleted."""
    return {**said(id, kind, resource, dataset, at), "type": "resource.deleted"}


async def keep(world: World, *events: dict[str, Any]) -> None:
    """Send events, all of which must be taken."""
    taken = await world.ingest(*events)
    assert taken.json["accepted"] == len(events), taken.json


async def limited(world: World, id: str, meter: str, period: str, amount: str | None, **more: Any) -> None:
    """Define a limit of acme's."""
    body = {"account": "acme", "meter": meter, "period": period, "amount": amount, **more}
    answer = await world.ask("PUT", f"/v1/limits/{id}", body)
    assert answer.status in (200, 201), answer.body


async def ask(world: World, path: str = "/orgs/acme/usage", key: str = "acme", scheme: str = "token") -> Answer:
    """Ask with a key known by name."""
    return await world.ask("GET", path, key=key, scheme=scheme, headers={"x-request-id": "r"})


async def usage(world: World, query: str = "", key: str = "acme") -> dict[str, Any]:
    """Ask for the report."""
    answer = await ask(world, f"/orgs/acme/usage{query}", key)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
    assert answer.json["status"] == "ok"
    found: dict[str, Any] = answer.json["usage"]
    return found


def line(type: str, requests: int, credits: float) -> dict[str, Any]:
    """Write down a line of a dataset's usage."""
    return {"credits": credits, "requests": requests, "type": type}


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_account_without_usage(tmp_path: Path, on_disk: bool) -> None:
    """Zeros, no dataset, everything unlimited, and all multipliers."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        world.now += 750_000
        assert await usage(world) == {
            "credits": {"limitType": "unlimited", "month": 11, "used": 0, "year": 2026},
            "datasets": {},
            "images": {"limitType": "unlimited", "processed": 0, "total": 0, "year": 2026},
            "lastUpdated": "2026-11-01T12:00:00Z",
            "requestCredits": RATES,
        }

    run(scenario, folder=tmp_path / "data" if on_disk else None)


@pytest.mark.parametrize(
    ("query", "year", "month"),
    [
        ("", 2026, 11),
        ("?month=3", 2026, 3),
        ("?year=2020", 2020, 11),
        ("?year=2020&month=02", 2020, 2),
        ("?year=1970&month=1", 1970, 1),
        ("?year=9999&month=12", 9999, 12),
        ("?year=2027&month=1", 2027, 1),
        ("?unknown=x&unknown=y&account=globex", 2026, 11),
    ],
)
def test_the_current_month_stands_for_what_is_absent(query: str, year: int, month: int) -> None:
    """Both absent, one absent, both given; the first and the last month there are, and one to come, with zeros."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "c", "vision_credits", "month", "10")
        await limited(world, "i", "images", "year", "20")
        document = await usage(world, query)
        wanted = {"limit": 10, "limitType": "fixed", "month": month, "remaining": 10, "used": 0, "year": year}
        assert document["credits"] == wanted
        assert document["images"]["year"] == year

    run(scenario)


@pytest.mark.parametrize(
    "query",
    [
        "month=0",
        "month=13",
        "month=-1",
        "month=1.0",
        "month=",
        "month=november",
        "month=1&month=1",
        "month=%D9%A1",
        "month=+1",
        "year=1969",
        "year=10000",
        "year=",
        "year=2026&year=2026",
        "year=2_026",
        "year=" + "9" * 50,
        "a=%ff",
    ],
)
def test_a_bad_month_or_year_is_refused_by_name(query: str) -> None:
    """400 in the vendor's shape."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        answer = await ask(world, f"/orgs/acme/usage?{query}")
        assert (answer.status, list(answer.json), answer.json["status"]) == (400, ["status", "message"], "error")
        assert query.split("=")[0] in answer.json["message"] or query.startswith("a=")
        # Who may not read the organisation is told nothing of that.
        assert (await ask(world, f"/orgs/acme/usage?{query}", key="nobody's")).status == 404

    run(scenario)


@pytest.mark.parametrize("on_disk", [False, True])
def test_requests_count_in_the_month_of_their_time(tmp_path: Path, on_disk: bool) -> None:
    """Half-open UTC months; only what succeeded counts, with zero results too; rows are ordered by type."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await keep(
            world,
            request("1", "lens", at="2026-09-30T23:59:59.999999Z"),
            request("2", "track", at="2026-10-01T00:00:00Z"),
            request("3", "similar", at="2026-10-31T23:59:59.999999Z"),
            request("4", "explore", at="2026-11-01T00:00:00Z"),
            request("5", "explore", at="2026-11-01T01:00:00+02:00", results=0),
            request("6", "explore", at="2026-10-15T00:00:00Z", status="failed"),
        )
        october = await usage(world, "?month=10")
        assert october["credits"]["used"] == 1.5
        assert october["datasets"] == {
            "shop": {"images": 0, "usage": [line("explore", 1, 1), line("similar", 1, 0.5), line("track", 1, 0)]}
        }
        assert (await usage(world))["datasets"]["shop"]["usage"] == [line("explore", 1, 1)]
        assert (await usage(world, "?month=9"))["credits"]["used"] == 3
        assert (await usage(world, "?month=8"))["datasets"] == {}

    run(scenario, folder=tmp_path / "data" if on_disk else None)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_request_keeps_the_multiplier_of_its_time(tmp_path: Path, on_disk: bool) -> None:
    """A rate that changes within the month changes what comes after; requestCredits are those of its end, or of now."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        rates = [
            {"type": "explore", "multiplier": "1", "from": "1970-01-01T00:00:00Z"},
            {"type": "explore", "multiplier": "0.25", "from": "2026-10-15T00:00:00Z"},
            {"type": "explore", "multiplier": "7", "from": "2026-12-01T00:00:00Z"},
            {"type": "late", "multiplier": "2", "from": "2026-11-01T00:00:00Z"},
        ]
        assert (await world.ask("PUT", "/v1/rates/vision", {"rates": rates})).status == 200
        await keep(
            world,
            request("1", at="2026-10-14T23:59:59.999999Z"),
            request("2", at="2026-10-15T00:00:00Z"),
            request("3", at="2026-10-31T00:00:00Z"),
        )
        october = await usage(world, "?month=10")
        assert october["datasets"]["shop"]["usage"] == [line("explore", 3, 1.5)]
        assert october["requestCredits"] == {"explore": 0.25}
        assert (await usage(world, "?month=9"))["requestCredits"] == {"explore": 1}
        assert (await usage(world))["requestCredits"] == {"explore": 0.25, "late": 2}
        assert (await usage(world, "?month=12"))["requestCredits"] == {"explore": 0.25, "late": 2}

    run(scenario, folder=tmp_path / "data" if on_disk else None)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_dataset_that_was_deleted(tmp_path: Path, on_disk: bool) -> None:
    """Listed in the months in which it had usage, with its images as they were, and left out of `used`."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        images = [said(f"i{n}", "image", f"i{n}", "old", at="2026-09-01T00:00:00Z", url=f"{n}") for n in range(3)]
        await keep(
            world,
            *images,
            said("d", "dataset", "shop"),
            gone("g0", "image", "i0", "old", at="2026-09-02T00:00:00Z"),
            request("1", "lens", "old", at="2026-09-03T00:00:00Z"),
            request("2", "lens", "old", at="2026-10-03T00:00:00Z"),
            request("3", "explore", "shop", at="2026-10-03T00:00:00Z"),
            gone("g1", "dataset", "old", at="2026-10-31T23:59:59.999999Z"),
        )
        old = {"images": 2, "usage": [line("lens", 1, 3)], "deleted": True}
        october = await usage(world, "?month=10")
        assert (october["credits"]["used"], october["datasets"]["old"]) == (1, old)
        assert october["datasets"]["shop"] == {"images": 0, "usage": [line("explore", 1, 1)]}
        # A month that was closed before the deletion stays as it was.
        september = await usage(world, "?month=9")
        assert (september["credits"]["used"], september["datasets"]["old"]) == (3, old)
        november = await usage(world)
        assert november["datasets"] == {"shop": {"images": 0, "usage": []}}
        assert [november["images"][name] for name in ("processed", "total")] == [3, 0]

    run(scenario, folder=tmp_path / "data" if on_disk else None)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3), (3, 4, 0, 2, 1)])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_dataset_made_again_counts_again(tmp_path: Path, on_disk: bool, order: tuple[int, ...]) -> None:
    """From the month on in which it was made again; what was closed before stays, in whatever order events arrive."""
    events = (
        said("made", "image", "a", "old", at="2026-09-01T00:00:00Z", url="1"),
        request("september", "lens", "old", at="2026-09-03T00:00:00Z"),
        gone("gone", "dataset", "old", at="2026-09-30T00:00:00Z"),
        said("again", "dataset", "old", at="2026-10-15T00:00:00Z"),
        request("october", "lens", "old", at="2026-10-01T00:00:00Z"),
    )

    async def scenario(world: World) -> None:
        await world.account("acme")
        for place in order:
            await keep(world, events[place])
        assert (await usage(world, "?month=9"))["credits"]["used"] == 0
        october = await usage(world, "?month=10")
        assert october["credits"]["used"] == 3
        assert october["datasets"] == {"old": {"images": 0, "usage": [line("lens", 1, 3)]}}

    run(scenario, folder=tmp_path / "data" if on_disk else None)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_dataset_known_from_requests_alone_may_be_deleted(tmp_path: Path, on_disk: bool) -> None:
    """Nobody has to say that a dataset is there before it is used, nor before it goes."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await keep(world, request("1"), request("2", dataset="other"))
        assert (await usage(world))["datasets"]["shop"] == {"images": 0, "usage": [line("explore", 1, 1)]}
        await keep(world, gone("g", "dataset", "shop"))
        after = await usage(world)
        assert after["datasets"]["shop"] == {"images": 0, "usage": [line("explore", 1, 1)], "deleted": True}
        assert after["credits"]["used"] == 1

    run(scenario, folder=tmp_path / "data" if on_disk else None)


def test_another_vendors_space_of_the_same_name_is_no_dataset() -> None:
    """Its deletion takes nothing out of `used`, and it is not listed."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await keep(world, said("a", "audio", "a", "shop", duration=1), said("b", "audio", "a", "room", duration=1))
        await keep(world, request("1"), gone("g", "space", "shop"))
        document = await usage(world)
        assert document["credits"]["used"] == 1
        assert document["datasets"] == {"shop": {"images": 0, "usage": [line("explore", 1, 1)]}}

    run(scenario)


def test_a_setting_counts_deleted_datasets() -> None:
    """Then `used` is what refusals know, and what remains follows it."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "c", "vision_credits", "month", "10")
        await keep(world, request("1", "lens"), gone("g", "dataset", "shop"))
        wanted = {"limit": 10, "limitType": "fixed", "month": 11, "remaining": 7, "used": 3, "year": 2026}
        assert (await usage(world))["credits"] == wanted

    run(scenario, deleted_datasets_counted=True)


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_image_counts_when_its_url_is_new(tmp_path: Path, on_disk: bool) -> None:
    """The same again does not, another id or dataset does; deletion leaves what was processed, and the year bounds."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        day = "2026-03-0{}T00:00:00Z".format
        await keep(
            world,
            said("0", "image", "z", "shop", at="2025-12-31T23:59:59.999999Z", url="u"),
            said("1", "image", "a", "shop", at="2026-01-01T00:00:00Z", url="u"),
            said("2", "image", "a", "shop", at=day(1), url="u"),
            said("3", "image", "a", "shop", at=day(2), url="u?2"),
            said("4", "image", "b", "shop", at=day(3), url="u"),
            said("5", "image", "a", "other", at=day(4), url="u"),
            said("6", "image", "c", "shop", at=day(5), url="x", status="failed"),
            gone("7", "image", "b", "shop", at=day(6)),
            gone("8", "dataset", "other", at=day(7)),
        )
        document = await usage(world)
        assert document["images"] == {"limitType": "unlimited", "processed": 4, "total": 2, "year": 2026}
        assert {name: dataset["images"] for name, dataset in document["datasets"].items()} == {"shop": 2}
        last = await usage(world, "?year=2025&month=12")
        assert last["images"] == {"limitType": "unlimited", "processed": 1, "total": 2, "year": 2025}

    run(scenario, folder=tmp_path / "data" if on_disk else None)


@pytest.mark.parametrize("on_disk", [False, True])
def test_limits_as_they_were_at_the_end_of_what_is_asked(tmp_path: Path, on_disk: bool) -> None:
    """Of a month or year that is over its last instant counts, of a running one now; remaining never is below 0."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "c", "vision_credits", "month", None)
        await limited(world, "i", "images", "year", "1")
        for id, amount, start, end in (
            ("a", "2.5", "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("b", "100", "2026-10-01T00:00:00Z", "2026-10-31T23:59:59Z"),
            ("c", "5", "2026-11-01T00:00:00Z", "2026-11-01T12:30:00Z"),
            ("d", "1", "2026-11-01T12:30:00Z", None),
        ):
            body = {"id": id, "amount": amount, "kind": "base", "from": start, "until": end}
            assert (await world.ask("POST", "/v1/limits/c/grants", body)).status == 201
        await keep(
            world,
            request("1", "lens", at="2026-10-02T00:00:00Z"),
            request("2", "explore"),
            said("3", "image", "a", "shop", url="1"),
            said("4", "image", "b", "shop", url="1"),
        )
        october = await usage(world, "?month=10")
        assert (october["credits"]["limit"], october["credits"]["remaining"]) == (2.5, 0)
        november = await usage(world)
        assert (november["credits"]["limit"], november["credits"]["remaining"]) == (5, 4)
        assert (november["images"]["limit"], november["images"]["remaining"]) == (1, 0)
        world.now = windows.parse_instant("2026-11-01T12:30:00Z")
        assert (await usage(world))["credits"]["limit"] == 1
        # Nothing gives capacity: that is a limit of nothing, and not none.
        september = await usage(world, "?month=9")
        assert (september["credits"]["limitType"], september["credits"]["limit"]) == ("fixed", 0)

    run(scenario, folder=tmp_path / "data" if on_disk else None)


def test_which_limits_are_read() -> None:
    """Only of the whole account, per UTC month and year of the calendar, that refuse; of several the lowest."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        others: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("vision_credits", "day", {}),
            ("vision_credits", "year", {}),
            ("vision_credits", "month", {"where": {"type": "lens"}}),
            ("vision_credits", "month", {"timezone": "Europe/Prague"}),
            ("vision_credits", "month", {"anchor": 15}),
            ("vision_credits", "month", {"property": "count"}),
            ("vision_credits", "month", {"policy": "allow"}),
            ("vision_requests", "month", {}),
            ("images", "month", {}),
            ("images", "year", {"policy": "allow"}),
        )
        for number, (meter, period, more) in enumerate(others):
            await limited(world, f"l{number}", meter, period, "1", **more)
        document = await usage(world)
        assert document["credits"]["limitType"] == document["images"]["limitType"] == "unlimited"
        assert "limit" not in document["credits"]
        assert "remaining" not in document["images"]
        await limited(world, "high", "vision_credits", "month", "100")
        await limited(world, "low", "vision_credits", "month", "50")
        await limited(world, "postponing", "images", "year", "7", policy="postpone")
        document = await usage(world)
        assert (document["credits"]["limit"], document["images"]["limit"]) == (50, 7)

    run(scenario)


def test_a_request_without_a_dataset_is_listed_under_no_name() -> None:
    """So that what is listed adds up to `used`; absent and empty are one."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await keep(world, request("1", dataset=None), request("2", dataset=""), request("3", "lens", "žluť/2 😀"))
        document = await usage(world)
        assert document["credits"]["used"] == 5
        assert document["datasets"] == {
            "": {"images": 0, "usage": [line("explore", 2, 2)]},
            "žluť/2 😀": {"images": 0, "usage": [line("lens", 1, 3)]},
        }

    run(scenario)


def test_credits_are_exact_however_large_or_small() -> None:
    """In the text itself: no exponent, no padding, no noise."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        rates = [
            {"type": type, "multiplier": multiplier, "from": "1970-01-01T00:00:00Z"}
            for type, multiplier in (("huge", "1000000"), ("tiny", "0.000001"))
        ]
        assert (await world.ask("PUT", "/v1/rates/vision", {"rates": rates})).status == 200
        await keep(world, request("1", "huge"), request("2", "tiny"), request("3", "tiny"))
        body = (await ask(world)).body
        assert b'"used":1000000.000002' in body
        assert b'"credits":0.000002,"requests":2,"type":"tiny"' in body
        assert b'"requestCredits":{"huge":1000000,"tiny":0.000001}' in body

    run(scenario)


def test_whatever_is_wrong_with_the_key_is_one_404() -> None:
    """No key, a wrong word, a wrong, foreign or scopeless key, no such organisation: the same, byte for byte."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        await world.account("globex")
        await world.key("writer", "acme", Scope.INGEST)
        await world.key("revoked", "acme")
        await world.ledger.delete_key("key-revoked", actor="test")
        good = await ask(world)
        assert good.status == 200
        for key, scheme in (("acme", "TOKEN"), ("ada", "token"), ("operator", "Token")):
            assert (await ask(world, key=key, scheme=scheme)).body == good.body
        answers = [
            await world.ask("GET", "/orgs/acme/usage", key=None, headers={"x-request-id": "r"}),
            await ask(world, key="acme", scheme="Bearer"),
            await ask(world, key="", scheme="token"),
            await ask(world, key="nobody's"),
            await ask(world, key="revoked"),
            await ask(world, key="writer"),
            await ask(world, key="globex"),
            await ask(world, "/orgs/nobody/usage"),
            await ask(world, "/orgs/globex/usage"),
            await ask(world, "/orgs/ada/usage", key="ada"),
            await ask(world, "/orgs/nobody/usage", key="operator"),
            await ask(world, "/orgs/ac%6De/usage/more"),
            await ask(world, "/orgs/acme/usage/%ff"),
        ]
        shown = {
            (a.status, a.body, tuple((n, v) for n, v in a.headers.items() if n[0:13] != "x-correlation"))
            for a in answers
        }
        assert len(shown) == 1, shown
        assert answers[0].status == 404
        assert answers[0].json == {"status": "error", "message": "Not Found"}
        assert "www-authenticate" not in answers[0].headers
        assert (await ask(world, "/orgs/ac%6De/usage")).body == good.body

    run(scenario)


@pytest.mark.parametrize("code", Code)
def test_every_problem_has_the_vendors_shape(code: Code) -> None:
    """A status and a message; what is a 404 says nothing more."""
    reply = visii.problem(Problem(code, "The reason."))
    document = json.loads(reply.body)
    assert document["status"] == "error"
    assert document["message"] == ("Not Found" if reply.status == 404 else "The reason.")
    assert reply.status in (404, 500, STATUS[code].value)
