"""Holds over HTTP, on either ledger: asked for before the work, renewed, settled with its event, or given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tallystick.model import AccountKind, Scope
from tests.api.client import HOUR, NOON, Answer, World, audio, place, run
from tests.ledger.build import LEDGERS

LIMIT: dict[str, Any] = {"account": "acme", "meter": "audio", "period": "month", "amount": "100"}
HOLD: dict[str, Any] = {"id": "job-1", "account": "acme", "meter": "audio", "quantity": "60"}
SECOND = 1_000_000


@pytest.fixture(params=LEDGERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str | None:
    """Where the ledger is kept: in memory, in a folder or in PostgreSQL."""
    return place(request.param, request, tmp_path)


async def limited(world: World, id: str = "hours", **changed: Any) -> None:
    """Make the account, where it is not there, and a limit of it."""
    if "acme" not in world.app.catalog.accounts:
        await world.account("acme")
    assert (await world.ask("PUT", f"/v1/limits/{id}", {**LIMIT, **changed})).status == 201


async def held(world: World, *, key: str = "operator", **changed: Any) -> Answer:
    """Ask for a hold."""
    return await world.ask("POST", "/v1/holds", {**HOLD, **changed}, key=key)


async def settled(world: World, id: str = "job-1", *, key: str = "operator", **said: Any) -> Answer:
    """Settle a hold with an event of so many seconds."""
    return await world.ask("POST", f"/v1/holds/{id}/settle", audio(f"event-{id}", **said), key=key)


async def shown(world: World, id: str = "hours") -> Any:
    return (await world.ask("GET", f"/v1/limits/{id}")).json


def test_a_hold_is_made_shown_and_settled(folder: Path | str | None) -> None:
    """201 with its limits and fields to pace oneself by; settling records the event and frees the rest."""

    async def scenario(world: World) -> None:
        await limited(world)
        made = await held(world, labels={"operation": "transcribe"}, ttl="PT5M")
        assert made.status == 201
        assert made.headers["location"] == "/v1/holds/job-1"
        assert made.json == {
            "id": "job-1",
            "account": "acme",
            "meter": "audio",
            "labels": {"operation": "transcribe"},
            "quantity": "60",
            "asked": "60",
            "count": 1,
            "ttl": "PT300S",
            "mode": "normal",
            "state": "open",
            "created_at": "2026-11-01T12:00:00Z",
            "expires_at": "2026-11-01T12:05:00Z",
            "expired": False,
            "exceeded": False,
            "event": None,
            "limits": [
                {
                    "id": "hours",
                    "meter": "audio",
                    "property": "quantity",
                    "policy": "reject",
                    "amount": "60",
                    "capacity": "100",
                    "used": "0",
                    "held": "60",
                    "remaining": "40",
                    "resets_at": "2026-12-01T00:00:00Z",
                }
            ],
        }
        assert made.headers["ratelimit-policy"] == '"hours";q=100;w=2592000'
        assert made.headers["ratelimit"] == '"hours";r=40;t=2548800'
        limit = await shown(world)
        assert (limit["used"], limit["held"], limit["remaining"]) == ("0", "60", "40")
        open_one = (await world.ask("GET", "/v1/holds/job-1")).json
        assert open_one == {name: value for name, value in made.json.items() if name != "limits"}
        done = await settled(world, seconds="45.5")
        assert done.status == 200
        assert done.json == {
            **open_one,
            "state": "settled",
            "event": {"source": "test", "id": "event-job-1", "settled_at": "2026-11-01T12:00:00Z"},
            "receipt": {"index": 0, "id": "event-job-1", "status": "accepted", "metered": True},
        }
        limit = await shown(world)
        assert (limit["used"], limit["held"], limit["remaining"]) == ("45.5", "0", "54.5")
        kept = await world.ask("GET", "/v1/events?account=acme")
        assert [event["event"]["id"] for event in kept.json["events"]] == ["event-job-1"]

    run(scenario, folder=folder)


def test_what_does_not_fit_is_a_problem_that_names_every_limit_in_the_way(folder: Path | str | None) -> None:
    """429, or 402 where one of them says so, with when to come again."""

    async def scenario(world: World) -> None:
        await limited(world)
        await limited(world, "day", period="day", amount="50")
        await limited(world, "roomy", amount="1000")
        refused = await held(world, quantity="100.5")
        assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
        assert (refused.json["code"], refused.json["status"], refused.json["postponed"]) == ("over_limit", 429, False)
        assert [(each["id"], each["amount"], each["remaining"]) for each in refused.json["limits"]] == [
            ("day", "100.5", "50"),
            ("hours", "100.5", "100"),
        ]
        for each in refused.json["limits"]:
            assert {"capacity", "used", "held", "remaining", "resets_at"} <= set(each)
        assert refused.headers["retry-after"] == str(29 * 86_400 + 12 * 3_600)
        assert refused.headers["ratelimit"] == '"day";r=50;t=43200, "hours";r=100;t=2548800, "roomy";r=1000;t=2548800'
        only = await held(world, quantity="60")
        assert (only.status, only.headers["retry-after"]) == (429, "43200")
        assert (await world.ask("PUT", "/v1/limits/hours", {**LIMIT, "status": 402})).status == 200
        assert (await held(world, quantity="60")).status == 429
        assert (await held(world, quantity="101")).status == 402
        assert (await world.ask("GET", "/v1/holds/job-1")).status == 404

    run(scenario, folder=folder)


def test_postponed_work_is_told_to_come_later(folder: Path | str | None) -> None:
    """Where all that is in the way only puts work off, the answer is 429, whatever its status, and says so."""

    async def scenario(world: World) -> None:
        await limited(world, "images", meter="images", period="year", amount="1", policy="postpone", status=402)
        assert (await held(world, meter="images", quantity="1")).status == 201
        later = await held(world, id="job-2", meter="images", quantity="1")
        assert (later.status, later.json["postponed"]) == (429, True)
        assert later.json["limits"][0]["policy"] == "postpone"
        await limited(world, "also", meter="images", amount="0", status=402)
        refused = await held(world, id="job-2", meter="images", quantity="1")
        assert (refused.status, refused.json["postponed"]) == (402, False)

    run(scenario, folder=folder)


def test_credits_of_a_month_are_held_by_requests(folder: Path | str | None) -> None:
    """Two requests of type lens hold six credits; what is left decides the third, with 402."""

    async def scenario(world: World) -> None:
        await limited(world, "credits", meter="vision_credits", amount="10", status=402)
        asked: dict[str, Any] = {"meter": "vision_requests", "labels": {"type": "lens"}, "quantity": 2}
        made = await held(world, **asked)
        assert made.status == 201
        assert [(each["id"], each["amount"]) for each in made.json["limits"]] == [("credits", "6")]
        refused = await held(world, id="job-2", **asked)
        assert (refused.status, refused.json["limits"][0]["remaining"]) == (402, "4")
        some = await held(world, id="job-3", **{**asked, "quantity": 3}, mode="best_effort")
        assert (some.status, some.json["quantity"], some.json["asked"]) == (201, "1", "3")
        unknown = await held(world, id="job-4", **{**asked, "labels": {"type": "nothing"}})
        assert (unknown.status, unknown.json["code"]) == (422, "rate_missing")
        assert unknown.json["errors"][0]["pointer"] == "/labels/type"

    run(scenario, folder=folder)


def test_every_call_is_safe_to_repeat(folder: Path | str | None) -> None:
    """The same id and content get the same hold, 200; other content 409; so it is with settling and releasing."""

    async def scenario(world: World) -> None:
        await limited(world)
        assert (await held(world)).status == 201
        again = await held(world)
        assert (again.status, again.json["state"]) == (200, "open")
        other = await held(world, quantity="61")
        assert (other.status, other.json["code"], other.json["errors"][0]["pointer"]) == (409, "id_reused", "/id")
        first = await settled(world, seconds="30")
        assert first.status == 200
        repeated = await settled(world, seconds="30")
        assert repeated.status == 200
        assert repeated.json["receipt"] == {**first.json["receipt"], "status": "duplicate"}
        assert {**repeated.json, "receipt": None} == {**first.json, "receipt": None}
        changed = await settled(world, seconds="31")
        assert (changed.status, changed.json["code"]) == (409, "id_reused")
        another = await world.ask("POST", "/v1/holds/job-1/settle", audio("other", seconds="30"))
        assert (another.status, another.json["errors"][0]["pointer"]) == (409, "/id")
        assert (await held(world)).json["state"] == "settled"
        assert (await held(world, id="job-2", quantity="70")).status == 201
        for _ in range(2):
            freed = await world.ask("POST", "/v1/holds/job-2/release")
            assert (freed.status, freed.json["state"]) == (200, "released")
        late = await settled(world, "job-2", seconds="1")
        assert (late.status, late.json["code"]) == (409, "hold_ended")
        assert (await shown(world))["used"] == "30"
        done = await world.ask("POST", "/v1/holds/job-1/release")
        assert (done.status, done.json["code"]) == (409, "hold_ended")

    run(scenario, folder=folder)


def test_a_hold_is_renewed_before_it_expires(folder: Path | str | None) -> None:
    """Without a body as long again; with one, for longer and for more, all of it or nothing."""

    async def scenario(world: World) -> None:
        await limited(world)
        await held(world, ttl="PT5M", quantity="10")
        world.now += 4 * 60 * SECOND
        renewed = await world.ask("POST", "/v1/holds/job-1/renew")
        assert (renewed.status, renewed.json["expires_at"]) == (200, "2026-11-01T12:09:00Z")
        more = await world.ask("POST", "/v1/holds/job-1/renew", {"ttl": "PT1H", "quantity": "80"})
        assert (more.status, more.json["quantity"], more.json["expires_at"]) == (200, "80", "2026-11-01T13:04:00Z")
        assert more.json["limits"][0]["remaining"] == "20"
        refused = await world.ask("POST", "/v1/holds/job-1/renew", {"quantity": "100.000001"})
        assert (refused.status, refused.json["code"]) == (429, "over_limit")
        for flawed, pointer in (({"ttl": "PT0S"}, "/ttl"), ({"ttl": "P2D"}, "/ttl"), ({"quantity": "0"}, "/quantity")):
            answer = await world.ask("POST", "/v1/holds/job-1/renew", flawed)
            assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)
        world.now += HOUR
        gone = await world.ask("POST", "/v1/holds/job-1/renew")
        assert (gone.status, gone.json["code"]) == (409, "hold_ended")
        assert (await world.ask("GET", "/v1/holds/job-1")).json["state"] == "expired"
        late = await settled(world, seconds="90")
        assert (late.status, late.json["expired"], late.json["exceeded"]) == (200, True, True)
        assert (await shown(world))["used"] == "90"

    run(scenario, folder=folder)


def test_an_event_that_is_refused_leaves_its_hold_open(folder: Path | str | None) -> None:
    """A conflict is 409, a flaw 422 with its pointer, another account 403; then the right one settles it."""

    async def scenario(world: World) -> None:
        await limited(world)
        await world.account("globex")
        await world.ingest(audio("event-job-1", seconds="1"))
        await held(world)
        conflict = await settled(world, seconds="2")
        assert (conflict.status, conflict.json["code"]) == (409, "id_reused")
        flawed = await world.ask("POST", "/v1/holds/job-1/settle", audio("new", seconds="long"))
        assert (flawed.status, flawed.json["errors"][0]["pointer"]) == (422, "/data/duration")
        foreign = await settled(world, account="globex")
        assert (foreign.status, foreign.json["code"]) == (403, "account_forbidden")
        for body in ([audio("a"), audio("b")], []):
            assert (await world.ask("POST", "/v1/holds/job-1/settle", body)).status == 400
        assert (await world.ask("GET", "/v1/holds/job-1")).json["state"] == "open"
        plain = audio("fresh", seconds="2")
        del plain["account"]
        done = await world.ask("POST", "/v1/holds/job-1/settle", plain)
        assert (done.status, done.json["state"]) == (200, "settled")
        assert (await settled(world, "nothing")).status == 404
        assert (await settled(world, "nothing", seconds="long")).status == 404

    run(scenario, folder=folder)


@pytest.mark.parametrize(
    ("changed", "code", "pointer"),
    [
        ({"id": ""}, "field_length", "/id"),
        ({"id": "a\u0000"}, "text_invalid", "/id"),
        ({"id": "x" * 257}, "field_length", "/id"),
        ({"meter": "nothing"}, "field_value", "/meter"),
        ({"labels": {"colour": "red"}}, "field_value", "/labels/colour"),
        ({"labels": {"model": 1}}, "field_type", "/labels"),
        ({"quantity": None}, "field_missing", "/quantity"),
        ({"quantity": "0"}, "quantity_range", "/quantity"),
        ({"quantity": "-1"}, "quantity_negative", "/quantity"),
        ({"quantity": "many"}, "quantity_type", "/quantity"),
        ({"quantity": True}, "quantity_type", "/quantity"),
        ({"quantity": 1e13}, "quantity_range", "/quantity"),
        ({"meter": "tokens_in", "quantity": "0.5"}, "quantity_precision", "/quantity"),
        ({"meter": "tokens_in", "quantity": "PT1S"}, "quantity_type", "/quantity"),
        ({"count": 0}, "field_value", "/count"),
        ({"ttl": "soon"}, "field_value", "/ttl"),
        ({"ttl": "P2D"}, "field_value", "/ttl"),
        ({"mode": "gentle"}, "field_value", "/mode"),
        ({"colour": "red"}, "field_value", "/colour"),
    ],
)
def test_a_flaw_is_named(changed: dict[str, Any], code: str, pointer: str) -> None:
    """What is wrong with a hold that is asked for is in errors, with its pointer, and nothing is held."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        answer = await held(world, **changed)
        assert (answer.status, answer.json["code"]) == (422, code), answer.body
        assert answer.json["errors"][0]["pointer"] == pointer
        assert (await world.ask("GET", "/v1/holds?account=acme")).json["holds"] == []

    run(scenario)


def test_quantities_may_be_texts_numbers_and_durations(folder: Path | str | None) -> None:
    """All exact; of a meter that counts events the quantity is their number where it is absent."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        told = []
        for number, quantity in enumerate(("0.1", 0.1, "PT0.1S", 7, "1.0")):
            told.append((await held(world, id=str(number), quantity=quantity)).json["quantity"])
        assert told == ["0.1", "0.1", "0.1", "7", "1"]
        requests = await held(world, id="r", meter="vision_requests", labels={"type": "lens"}, quantity=None, count=3)
        assert (requests.status, requests.json["quantity"]) == (201, "3")

    run(scenario, folder=folder)


def test_tags_of_a_hold_are_letters_as_those_of_its_event_will_be(folder: Path | str | None) -> None:
    """In code-point order and without repeats, for limits as well: work is held under the limit that will count it."""

    async def scenario(world: World) -> None:
        await limited(world, where={"tags": "GDG"})
        assert (await shown(world))["where"] == {"tags": "DG"}
        assert (await held(world, labels={"tags": "GGD"}, quantity="101")).status == 429
        assert (await held(world, labels={"tags": "GGD"})).json["limits"][0]["id"] == "hours"
        assert (await settled(world, duration=60, tags=["diarize", "gender"])).status == 200
        assert (await shown(world))["used"] == "60"
        refused = await held(world, id="job-2", labels={"tags": "x"})
        assert (refused.status, refused.json["code"]) == (422, "field_value")
        assert refused.json["errors"][0]["pointer"] == "/labels/tags"

    run(scenario, folder=folder)


def test_a_key_holds_for_its_own_account(folder: Path | str | None) -> None:
    """It needs to name none; a member of an organisation reads its holds and changes none."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=("ada",))
        own = {name: value for name, value in HOLD.items() if name != "account"}
        assert (await world.ask("POST", "/v1/holds", own, key="acme")).json["account"] == "acme"
        assert (await held(world, key="ada")).status == 403
        assert (await world.ask("POST", "/v1/holds", own)).json["errors"][0]["pointer"] == "/account"
        assert (await held(world, account="nobody")).status == 403
        assert (await world.ask("GET", "/v1/holds/job-1", key="ada")).status == 404
        assert (await world.ask("GET", "/v1/holds/job-1?account=acme", key="ada")).status == 200
        for call in ("renew", "release"):
            assert (await world.ask("POST", f"/v1/holds/job-1/{call}?account=acme", key="ada")).status == 403
        assert (await world.ask("POST", "/v1/holds", own, key="ada")).status == 201
        unclear = await world.ask("GET", "/v1/holds/job-1")
        assert (unclear.status, unclear.json["errors"][0]["pointer"]) == (400, "account")
        assert (await world.ask("GET", "/v1/holds/job-1?account=ada")).json["account"] == "ada"
        assert (await world.ask("POST", "/v1/holds/job-1/release?account=ada")).json["state"] == "released"
        assert (await world.ask("GET", "/v1/holds/job-1?account=acme")).json["state"] == "open"

    run(scenario, folder=folder)


def test_scopes_are_limits_for_holds_and_ingest_for_settling(folder: Path | str | None) -> None:
    """Who may hold need not be who reports the work."""

    async def scenario(world: World) -> None:
        await limited(world)
        await world.key("gate", "acme", Scope.LIMITS)
        await world.key("worker", "acme", Scope.INGEST)
        assert (await held(world, key="worker")).status == 403
        assert (await held(world, key="gate")).status == 201
        assert (await settled(world, key="gate")).status == 403
        assert (await settled(world, key="worker")).status == 200
        assert (await world.ask("GET", "/v1/holds/job-1", key="worker")).status == 403

    run(scenario, folder=folder)


def test_holds_are_listed_in_pages(folder: Path | str | None) -> None:
    """By id, of one account, in one state or in any; an operator's key names the account."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        for id in ("c", "a", "b/1", "d"):
            await held(world, id=id, quantity="1")
        await world.ask("POST", "/v1/holds/b%2F1/release")
        first = (await world.ask("GET", "/v1/holds?limit=2", key="acme")).json
        assert [hold["id"] for hold in first["holds"]] == ["a", "b/1"]
        rest = (await world.ask("GET", f"/v1/holds?limit=2&cursor={first['next']}", key="acme")).json
        assert ([hold["id"] for hold in rest["holds"]], rest["next"]) == (["c", "d"], None)
        open_ones = (await world.ask("GET", "/v1/holds?state=open&account=acme")).json
        assert [hold["id"] for hold in open_ones["holds"]] == ["a", "c", "d"]
        assert (await world.ask("GET", "/v1/holds")).status == 400
        assert (await world.ask("GET", "/v1/holds?account=acme&state=half")).status == 400

    run(scenario, folder=folder)


def test_check_only_keeps_nothing(folder: Path | str | None) -> None:
    """200 with what would be, or the refusal that would come."""

    async def scenario(world: World) -> None:
        await limited(world)
        asked = await held(world, mode="check_only")
        assert (asked.status, asked.json["state"], asked.json["limits"][0]["remaining"]) == (200, "checked", "40")
        assert asked.json["expires_at"] is None
        assert (await held(world, mode="check_only", quantity="101")).status == 429
        assert (await world.ask("GET", "/v1/holds?account=acme")).json["holds"] == []

    run(scenario, folder=folder)


def test_events_without_a_hold_are_recorded_unless_a_limit_refuses_them(folder: Path | str | None) -> None:
    """Truth first; with `unheld` refuse, a receipt says over_limit and a single event gets the limit's status."""

    async def scenario(world: World) -> None:
        await limited(world)
        assert (await world.ingest(audio("1", seconds="150"))).status == 200
        strict = {**LIMIT, "amount": "200", "unheld": "refuse", "status": 402}
        assert (await world.ask("PUT", "/v1/limits/hours", strict)).json["unheld"] == "refuse"
        single = await world.ask("POST", "/v1/events", audio("2", seconds="51"))
        assert (single.status, single.json["status"], single.json["code"]) == (402, 402, "over_limit")
        assert single.json["receipts"][0]["code"] == "over_limit"
        some = await world.ingest(audio("3", seconds="50"), audio("4", seconds="1"))
        assert (some.status, some.json["accepted"], some.json["rejected"]) == (207, 1, 1)
        assert (await shown(world))["used"] == "200"

    run(scenario, folder=folder)


def test_crossed_thresholds_are_listed(folder: Path | str | None) -> None:
    """Each once per period, with what was used when it was seen; and the list has pages."""

    async def scenario(world: World) -> None:
        await limited(world, thresholds=[50, 80, 100])
        await world.ingest(audio("1", seconds="85.5"))
        await world.ingest(audio("2", seconds="20"))
        assert (await world.ask("GET", "/v1/limits/hours/thresholds", key="acme")).json == {
            "thresholds": [
                {
                    "threshold": threshold,
                    "period_start": "2026-11-01T00:00:00Z",
                    "at": "2026-11-01T12:00:00Z",
                    "used": used,
                    "capacity": "100",
                }
                for threshold, used in ((50, "85.5"), (80, "85.5"), (100, "105.5"))
            ],
            "next": None,
        }
        first = (await world.ask("GET", "/v1/limits/hours/thresholds?limit=2")).json
        rest = (await world.ask("GET", f"/v1/limits/hours/thresholds?cursor={first['next']}")).json
        assert [each["threshold"] for each in first["thresholds"] + rest["thresholds"]] == [50, 80, 100]
        assert rest["next"] is None

    run(scenario, folder=folder)


def test_a_clock_that_is_set_back_opens_nothing_again(folder: Path | str | None) -> None:
    """What has expired by a clock that a commit has seen stays so."""

    async def scenario(world: World) -> None:
        await limited(world)
        await held(world, ttl="PT1M")
        world.now += 2 * 60 * SECOND
        await world.ingest(audio("1", seconds="1"))
        world.now = NOON
        assert (await world.ask("GET", "/v1/holds/job-1")).json["state"] == "expired"
        assert (await held(world, id="job-2", quantity="99")).status == 201

    run(scenario, folder=folder)


def test_what_is_held_is_no_remaining_capacity_to_phonexia(folder: Path | str | None) -> None:
    """The flag of the vendor's report is the decision that admits: false as soon as nothing is left to hold."""

    async def scenario(world: World) -> None:
        stt: dict[str, Any] = {"where": {"technology": "speech_to_text"}}
        await limited(world, **stt)
        labels = {"technology": "speech_to_text"}

        async def remains() -> tuple[Any, Any]:
            (item,) = (await world.ask("GET", "/api/billing/capacities?account=acme")).json["items"]
            return item["has_remaining_capacity"], item["details"][0]["consumed"]

        assert await remains() == (True, 0)
        assert (await held(world, labels=labels, quantity="100")).status == 201
        assert await remains() == (False, 0)
        assert (await held(world, id="job-2", labels=labels, quantity="0.000001")).status == 429
        assert (await settled(world, seconds="99.5", technology="speech_to_text")).status == 200
        assert await remains() == (True, 99.5)

    run(scenario, folder=folder)
