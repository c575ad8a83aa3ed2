"""phonexia's capacities and consumptions: what is shown, the two clocks, the flag, and every point left open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick import windows
from tallystick.api.errors import STATUS
from tallystick.dialects import phonexia
from tallystick.errors import Code, Problem
from tallystick.limits import Balance, decide
from tallystick.model import Limit, LimitQuery
from tallystick.query import limit_plan, standings
from tests.api.client import World, run

STT = {"technology": "speech_to_text", "vendor": "phonexia", "operation": "transcribe"}
SID = {"technology": "speaker_identification"}
AT = "2026-11-01T11:00:00Z"  # an hour before the clock of a World


def audio(id: str, seconds: str, at: str = AT, account: str = "acme", **labels: Any) -> dict[str, Any]:
    """Write down that so many seconds were processed."""
    data = {"duration": seconds, **labels}
    return {"id": id, "source": "s", "type": "audio.processed", "account": account, "time": at, "data": data}


async def keep(world: World, *events: dict[str, Any]) -> None:
    """Send events, all of which must be taken."""
    assert (await world.ingest(*events)).json["accepted"] == len(events)


async def limited(world: World, id: str, where: dict[str, str], amount: str | None = "60", **more: Any) -> None:
    """Define a limit of acme's."""
    body = {"account": "acme", "meter": "audio", "where": where, "period": "month", "amount": amount, **more}
    answer = await world.ask("PUT", f"/v1/limits/{id}", body)
    assert answer.status in (200, 201), answer.body


async def granted(world: World, id: str, amount: str, start: str, end: str | None, kind: str = "extension") -> None:
    """Give a limit capacity; the grant is named after its start."""
    name = f"g-{start}-{amount}".lower().replace(":", "-").replace(".", "-")
    body = {"id": name, "amount": amount, "kind": kind, "from": start, "until": end}
    answer = await world.ask("POST", f"/v1/limits/{id}/grants", body)
    assert answer.status == 201, answer.body


async def items(world: World, report: str = "capacities", **options: Any) -> list[dict[str, Any]]:
    """Ask for a report and return its items."""
    answer = await world.ask("GET", f"/api/billing/{report}", key=options.get("key", "acme"))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
    assert list(answer.json) == ["items"]
    found: list[dict[str, Any]] = answer.json["items"]
    return found


def said(item: dict[str, Any]) -> dict[str, str]:
    """Return an item's labels."""
    return {label["key"]: label["value"] for label in item["labels"]}


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_account_without_limits_and_usage(tmp_path: Path, on_disk: bool) -> None:
    """Nothing is limited and nothing was consumed: both lists are empty."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        assert await items(world) == await items(world, "consumptions") == []
        # What is used without a limit is unlimited, so it is no capacity.
        await keep(world, audio("1", "60", **STT))
        assert await items(world) == []

    run(scenario, folder=tmp_path / "data" if on_disk else None)


def test_which_limits_are_shown() -> None:
    """Only those of audio, of its quantity, by the three keys alone, from a minute to a month, and none that allow."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "shown", STT)
        for number, (where, more) in enumerate(
            (
                ({}, {}),
                ({**STT, "language": "en"}, {}),
                ({"model": "m"}, {}),
                (SID, {"property": "count"}),
                (SID, {"period": "year"}),
                (SID, {"period": "total"}),
                (SID, {"policy": "allow"}),
                ({"space": "a"}, {}),
            )
        ):
            await limited(world, f"hidden-{number}", dict(where), **more)
        await limited(world, "images", {}, meter="images", amount="1")
        assert [said(item) for item in await items(world)] == [STT]
        await limited(world, "postponing", SID, policy="postpone")
        assert [said(item) for item in await items(world)] == [SID, STT]

    run(scenario)


@pytest.mark.parametrize("on_disk", [False, True])
def test_one_item_per_label_set_and_period_with_one_flag(tmp_path: Path, on_disk: bool) -> None:
    """The longest period first; one that is used up takes the flag from all items of its label set, and no other."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        for period in ("minute", "hour", "day", "week", "month"):
            await limited(world, f"stt-{period}", STT, "100", period=period)
        await limited(world, "sid", SID, "100")
        await keep(world, audio("1", "100", at="2026-11-01T00:00:00Z", **STT))
        shown = await items(world)
        assert [item["current_period"] for item in shown if said(item) == STT] == [
            {"period": "month", "start_time": "2026-11-01T00:00:00Z", "end_time": "2026-12-01T00:00:00Z"},
            {"period": "week", "start_time": "2026-10-26T00:00:00Z", "end_time": "2026-11-02T00:00:00Z"},
            {"period": "day", "start_time": "2026-11-01T00:00:00Z", "end_time": "2026-11-02T00:00:00Z"},
            {"period": "hour", "start_time": "2026-11-01T12:00:00Z", "end_time": "2026-11-01T13:00:00Z"},
            {"period": "minute", "start_time": "2026-11-01T12:00:00Z", "end_time": "2026-11-01T12:01:00Z"},
        ]
        assert [item["details"][0]["consumed"] for item in shown] == [0, 100, 100, 100, 0, 0]
        assert [item["has_remaining_capacity"] for item in shown] == [True, False, False, False, False, False]

    run(scenario, folder=tmp_path / "data" if on_disk else None)


def test_fewer_keys_are_one_item_over_all_they_match() -> None:
    """A capacity of a technology is of all its vendors and operations; labels come in their order, absent first."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "a", {"operation": "transcribe"})
        await limited(world, "b", {"technology": "speech_to_text"})
        await limited(world, "c", {"operation": "transcribe", "technology": "speech_to_text"})
        await limited(world, "d", STT)
        await keep(
            world,
            audio("1", "1", **STT),
            audio("2", "2", technology="speech_to_text", vendor="whisper", operation="translate"),
            audio("3", "4", operation="transcribe"),
        )
        shown = await items(world)
        assert [list(said(item).values()) for item in shown] == [
            ["transcribe"],
            ["speech_to_text"],
            ["speech_to_text", "transcribe"],
            ["speech_to_text", "phonexia", "transcribe"],
        ]
        assert [item["details"][0]["consumed"] for item in shown] == [5, 3, 1, 1]

    run(scenario)


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_two_clocks(tmp_path: Path, on_disk: bool) -> None:
    """An extension that ends inside the period lowers the capacity then and leaves what was consumed."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "stt", STT, "100")
        await granted(world, "stt", "50.75", "2026-11-01T00:00:00Z", "2026-11-10T00:00:00Z")
        await keep(world, audio("1", "120.5", **STT))

        async def detail() -> tuple[Any, ...]:
            (item,) = await items(world)
            (only,) = item["details"]
            assert only["property"] == "processed_audio_length"
            return (
                only["capacity"],
                only["consumed"],
                only["valid_until"],
                only["is_extended"],
                item["has_remaining_capacity"],
            )

        assert await detail() == (150, 120.5, "2026-11-10T00:00:00Z", True, True)
        world.now = windows.parse_instant("2026-11-09T23:59:59.999999Z")
        assert await detail() == (150, 120.5, "2026-11-10T00:00:00Z", True, True)
        world.now += 1
        assert await detail() == (100, 120.5, "2026-12-01T00:00:00Z", False, False)
        world.now = windows.parse_instant("2026-12-01T00:00:00Z")
        assert await detail() == (100, 0, "2027-01-01T00:00:00Z", False, True)

    run(scenario, folder=tmp_path / "data" if on_disk else None)


def test_an_item_disappears_with_its_last_grant() -> None:
    """A capacity that only grants give is there while one is valid; the period's end is not its end."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "stt", STT, None)
        assert await items(world) == []
        await granted(world, "stt", "10", "2026-10-01T00:00:00Z", "2026-11-01T13:00:00Z", "base")
        await granted(world, "stt", "20", "2026-11-01T12:30:00Z", "2027-06-01T00:00:00Z", "base")
        (item,) = await items(world)
        assert [item["details"][0][name] for name in ("capacity", "valid_until", "is_extended")] == [
            10,
            "2026-11-01T13:00:00Z",
            False,
        ]
        world.now = windows.parse_instant("2027-05-31T23:59:59Z")
        (item,) = await items(world)
        assert (item["details"][0]["capacity"], item["details"][0]["valid_until"]) == (20, "2027-06-01T00:00:00Z")
        world.now = windows.parse_instant("2027-06-01T00:00:00Z")
        assert await items(world) == []

    run(scenario)


def test_a_capacity_without_grants_refuses_and_takes_the_flag_though_it_is_not_shown() -> None:
    """The label set's other period is shown, with the flag that what refuses has."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "day", STT, None, period="day")
        await limited(world, "month", STT, "100")
        (item,) = await items(world)
        assert (item["current_period"]["period"], item["has_remaining_capacity"]) == ("month", False)

    run(scenario)


def test_capacity_is_floored_and_the_flag_is_exact() -> None:
    """Of 60.9 seconds 60 are told; with 60.5 consumed some is left, with 60.9 none."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "stt", STT, "60.9")
        await keep(world, audio("1", "60.5", **STT))
        (item,) = await items(world)
        assert (item["details"][0]["capacity"], item["has_remaining_capacity"]) == (60, True)
        await keep(world, audio("2", "0.399999", **STT))
        (item,) = await items(world)
        assert (item["details"][0]["consumed"], item["has_remaining_capacity"]) == (60.899999, True)
        await keep(world, audio("3", "0.000001", **STT))
        (item,) = await items(world)
        assert (item["details"][0]["consumed"], item["has_remaining_capacity"]) == (60.9, False)

    run(scenario)


@pytest.mark.parametrize(
    ("at", "counted"),
    [
        ("2026-10-31T23:59:59.999999Z", 0),
        ("2026-11-01T00:00:00Z", 1),
        ("2026-11-01T01:00:00+02:00", 0),
        ("2026-11-01T12:00:00Z", 1),
    ],
)
def test_an_event_counts_in_the_period_of_its_time(at: str, counted: int) -> None:
    """Periods are half-open and in UTC."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "stt", STT)
        await keep(world, audio("1", "1", at=at, **STT))
        (item,) = await items(world)
        assert item["details"][0]["consumed"] == counted

    run(scenario)


def test_limits_of_one_label_set_and_period_are_details_of_one_item() -> None:
    """Several limits on the same are all there; one whose period begins elsewhere is an item of its own."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "b", STT, "200")
        await limited(world, "a", STT, "100")
        await limited(world, "prague", STT, "50", timezone="Europe/Prague")
        shown = await items(world)
        assert [item["current_period"]["start_time"] for item in shown] == [
            "2026-10-31T23:00:00Z",
            "2026-11-01T00:00:00Z",
        ]
        assert [[detail["capacity"] for detail in item["details"]] for item in shown] == [[50], [100, 200]]

    run(scenario)


@pytest.mark.parametrize("on_disk", [False, True])
def test_consumptions_are_of_all_time_and_of_every_label_set_with_a_technology(tmp_path: Path, on_disk: bool) -> None:
    """Absent and empty are one and left out; work without a technology is another vendor's, and a failure is none."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.account("globex")
        await keep(
            world,
            audio("1", "1.5", at="1969-12-31T23:59:59Z", **STT),
            audio("2", "PT1H", **STT, language="en", model="m"),
            audio("3", "1", technology="b"),
            audio("4", "1", technology="b", vendor="", operation=""),
            audio("5", "1", technology="b", operation="é/ž 😀"),
            audio("6", "1", technology="a", vendor="v"),
            audio("7", "1", vendor="v"),
            audio("8", "1", technology="", vendor="v"),
            audio("9", "1", technology="b", status="failed"),
            audio("10", "0", technology="zero"),
            audio("11", "5", account="globex", technology="secret"),
        )
        shown = await items(world, "consumptions")
        assert [(said(item), item["consumptions"]) for item in shown] == [
            (labels, [{"property": "processed_audio_length", "consumption": amount}])
            for labels, amount in (
                ({"technology": "a", "vendor": "v"}, 1),
                ({"technology": "b"}, 2),
                ({"technology": "b", "operation": "é/ž 😀"}, 1),
                (STT, 3601.5),
                ({"technology": "zero"}, 0),
            )
        ]

    run(scenario, folder=tmp_path / "data" if on_disk else None)


def test_numbers_are_exact_however_large_or_small() -> None:
    """In the text itself: no exponent, no padding, no noise."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "stt", STT, "1000000000000")
        await keep(world, audio("1", "999999999999.999999", **STT), audio("2", "0.000001", technology="tiny"))
        body = (await world.ask("GET", "/api/billing/capacities", key="acme")).body
        assert b'"capacity":1000000000000,"consumed":999999999999.999999,' in body
        assert b'"has_remaining_capacity":true' in body
        body = (await world.ask("GET", "/api/billing/consumptions", key="acme")).body
        assert b'"consumption":0.000001}' in body

    run(scenario)


def test_deleting_resources_changes_nothing() -> None:
    """What was processed stays processed."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await limited(world, "stt", STT)
        await keep(world, {**audio("1", "10", **STT), "space": "room"})
        before = await items(world), await items(world, "consumptions")
        gone = {**audio("2", "1"), "type": "resource.deleted", "data": {"kind": "space", "id": "room"}}
        await keep(world, gone)
        assert (await items(world), await items(world, "consumptions")) == before

    run(scenario)


@pytest.mark.parametrize("code", Code)
def test_every_problem_has_the_vendors_shape(code: Code) -> None:
    """One member, `detail`; a status where the report can meet it, else 500."""
    reply = phonexia.problem(Problem(code, "The reason."))
    assert json.loads(reply.body) == {"detail": "The reason."}
    assert reply.status in (500, STATUS[code].value)


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([STT, SID, {"operation": "transcribe"}]),
            st.sampled_from(["month", "week", "day", "hour", "minute"]),
            st.integers(0, 3).map(str) | st.none(),
        ),
        min_size=1,
        max_size=5,
    ),
    st.lists(st.tuples(st.sampled_from(["0.5", "1", "2"]), st.sampled_from([STT, SID])), max_size=5),
)
def test_the_flag_is_what_a_decision_would_be(
    defined: list[tuple[dict[str, str], str, str | None]], work: list[tuple[str, dict[str, str]]]
) -> None:
    """It is false where, and only where, the least amount more of that label set's own limits would not fit."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        for number, (where, period, amount) in enumerate(defined):
            await limited(world, f"l{number}", where, amount, period=period)
        await keep(world, *(audio(f"{n}", seconds, **labels) for n, (seconds, labels) in enumerate(work)))
        plan = limit_plan(world.app.catalog, LimitQuery("acme", world.now, "audio"))
        fits: dict[tuple[tuple[str, str], ...], bool] = {}
        for row in await standings(world.ledger, plan):
            fits[row.limit.where] = fits.get(row.limit.where, True) and _decided(row.limit, row.standing, world.now)
        for item in await items(world):
            assert item["has_remaining_capacity"] == fits[tuple(sorted(said(item).items()))]

    run(scenario)


def _decided(limit: Limit, standing: Any, now: int) -> bool:
    return decide(limit, Balance(standing.used, standing.held), 1, now).fits
