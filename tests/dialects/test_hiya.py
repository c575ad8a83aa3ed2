"""hiya's statistics, records and resources: shapes, sums, references and pages, from events that were sent."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.api.errors import STATUS
from tallystick.dialects import hiya
from tallystick.dialects.hiya import records, references
from tallystick.errors import Code, Problem
from tallystick.model import AccountKind
from tests.api.client import Answer, World, run

SECOND = 1_000_000
FIELDS = (
    "uploadedAudios",
    "createdVoiceprints",
    "computedVoiceprints",
    "performedVerifications",
    "performedIdentityVerifications",
    "performedAuthenticityVerifications",
    "performedMessageVerifications",
)
ACME = {"type": "org", "handle": "acme", "alias": None}


def said(kind: str, id: str, *, at: str = "2026-10-05T10:00:00Z", account: str = "acme", **data: Any) -> dict[str, Any]:
    """Make an event that says what a resource is; `space` is room unless given."""
    space = data.pop("space", "room")
    return {
        "id": f"{kind}-{id}-{at}",
        "source": "test",
        "type": "resource.upserted",
        "account": account,
        "space": space,
        "time": at,
        "data": {"kind": kind, "id": id, **data},
    }


def gone(kind: str, id: str, **data: Any) -> dict[str, Any]:
    """Make an event that says that a resource was deleted."""
    event = said(kind, id, **{"at": "2026-10-06T00:00:00Z", **data})
    return {**event, "id": "gone-" + event["id"], "type": "resource.deleted"}


def verified(id: str, *, type: str | None = "identity", **data: Any) -> dict[str, Any]:
    """Make an event that says that a verification was performed."""
    whole = {"duration": 7.5, "state": "performed", "parent": "a", "model": "default/v1", "actor": "ada", **data}
    return said("verification", id, **whole, **({} if type is None else {"type": type}))


async def keep(world: World, *events: dict[str, Any]) -> None:
    """Send events, all of which must be taken."""
    taken = await world.ingest(*events)
    assert taken.json["accepted"] == len(events), taken.json


async def asked(world: World, path: str, key: str = "acme") -> Any:
    """Return what stands at a path."""
    answer = await world.ask("GET", path, key=key)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
    return answer.json


def place_of(answer: Answer) -> dict[str, str]:
    """Return the headers that say which page this is."""
    return {name: text for name, text in answer.headers.items() if name.startswith(("page-", "item-"))}


def nothing() -> dict[str, Any]:
    """Return the statistics of an empty space."""
    return {"createdIdentities": 0, **{field: {"count": 0, "duration": "PT0S"} for field in FIELDS}}


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "PT0S"),
        (7_500_000, "PT7.500S"),
        (60 * SECOND, "PT1M"),
        (90 * SECOND, "PT1M30S"),
        (3600 * SECOND, "PT1H"),
        (3660 * SECOND, "PT1H1M"),
        (3607_500_000, "PT1H0M7.500S"),
        (3600_000_001, "PT1H0M0.000001S"),
        (90_000 * SECOND, "PT25H"),
        (1_234_500, "PT1.234500S"),
        (1, "PT0.000001S"),
        (1000, "PT0.001S"),
        (59_999_999, "PT59.999999S"),
        (10**18, "PT277777777H46M40S"),
    ],
)
def test_durations_are_written_as_kotlin_does(microseconds: int, text: str) -> None:
    """Hours are the largest unit, parts of zero go, a fraction has three or six digits."""
    assert references.duration_text(microseconds) == text


@given(st.integers(0, 10**17))
def test_a_duration_says_what_it_is(microseconds: int) -> None:
    """Read back part by part it is the same."""
    text, total = references.duration_text(microseconds).removeprefix("PT"), 0
    for letter, unit in (("H", 3600 * SECOND), ("M", 60 * SECOND)):
        if letter in text:
            count, text = text.split(letter)
            total += int(count) * unit
    if text:
        whole, _, fraction = text.removesuffix("S").partition(".")
        assert len(fraction) in (0, 3, 6)
        total += int(whole) * SECOND + int(fraction.ljust(6, "0"))
    assert total == microseconds


@pytest.mark.parametrize("on_disk", [False, True])
def test_states_decide_what_counts(tmp_path: Path, on_disk: bool) -> None:
    """An audio without its file, a voiceprint that is not computed and a verification that failed are not there yet."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await keep(
            world,
            said("audio", "1", state="awaitingFile"),
            said("audio", "2", state="avaitingFile"),
            said("audio", "3", duration=0.000001),
            said("voiceprint", "1", state="notComputable", duration=1),
            said("voiceprint", "2", duration=2),
            said("voiceprint", "3", state="computed", duration=4),
            verified("1", duration=1),
            verified("2", state="performedWithoutScore", duration=2),
            verified("3", state="error"),
            verified("4", state="performing"),
        )
        counted = {
            "uploadedAudios": {"count": 1, "duration": "PT0.000001S"},
            "createdVoiceprints": {"count": 3, "duration": "PT7S"},
            "computedVoiceprints": {"count": 1, "duration": "PT4S"},
            "performedVerifications": {"count": 2, "duration": "PT3S"},
            "performedIdentityVerifications": {"count": 2, "duration": "PT3S"},
        }
        assert await asked(world, "/spaces/acme/room/stats") == {**nothing(), **counted}

    run(scenario, folder=tmp_path / "data" if on_disk else None)


@pytest.mark.parametrize("on_disk", [False, True])
def test_deleting_makes_statistics_smaller_and_leaves_records(tmp_path: Path, on_disk: bool) -> None:
    """The audio's deletion leaves its verification as it was; the space's takes all, and references become null."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        space = said("space", "room", attributes={"alias": "The room"})
        await keep(world, space, said("audio", "a", duration=7.5), verified("v", attributes={"alias": "One"}))
        shown = "/spaces/acme/room/verifications/identity/v"
        verification = {
            "handle": "v",
            "alias": "One",
            "type": "identity",
            "state": "performed",
            "model": "default/v1",
            "audio": {"handle": "a", "alias": None},
            "duration": "PT7.500S",
        }
        assert await asked(world, shown) == verification
        audio = {"handle": "a", "alias": None, "state": "available", "duration": "PT7.500S"}
        assert await asked(world, "/spaces/acme/room/audios/a") == audio
        id = uuid5(records.NAMESPACE, f"acme\ntest\n{verified('v')['id']}")
        record = {
            "id": str(id),
            "handle": "record-" + str(id).replace("-", "")[:12],
            "actor": {"handle": "ada", "alias": None},
            "type": "identity",
            "model": "default/v1",
            "verification": {"handle": "v", "alias": "One", "type": "identity"},
            "space": {"handle": "room", "alias": "The room", "owner": ACME},
            "owner": ACME,
            "performedAt": "2026-10-05T10:00:00.000000Z",
        }
        assert await asked(world, "/orgs/acme/records/verification") == [record]
        await keep(world, gone("audio", "a"))
        assert await asked(world, shown) == {**verification, "audio": None}
        assert (await world.ask("GET", "/spaces/acme/room/audios/a", key="acme")).status == 404
        assert (await asked(world, "/spaces/acme/room/stats"))["performedVerifications"]["count"] == 1
        await keep(world, gone("verification", "v"))
        assert await asked(world, "/spaces/acme/room/stats") == nothing()
        assert await asked(world, "/orgs/acme/records/verification") == [{**record, "verification": None}]
        await keep(world, gone("space", "room"))
        assert (await world.ask("GET", "/spaces/acme/room/stats", key="acme")).status == 404
        assert await asked(world, "/orgs/acme/spaces") == []
        left = [{**record, "verification": None, "space": None}]
        assert await asked(world, "/orgs/acme/records/verification") == left

    run(scenario, folder=tmp_path / "data" if on_disk else None)


def test_an_account_without_anything() -> None:
    """Empty lists, with their headers, and no space whose statistics there could be."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.account("ada", AccountKind.USER)
        for path, key in (
            ("/orgs/acme/spaces", "acme"),
            ("/orgs/acme/records/verification", "acme"),
            ("/orgs/acme/records/voiceprint", "acme"),
            ("/user/records/voiceprint", "ada"),
        ):
            answer = await world.ask("GET", path, key=key)
            assert (answer.status, answer.body) == (200, b"[]")
            assert place_of(answer)["item-total"] == "0"
        assert (await world.ask("GET", "/spaces/acme/room/stats", key="acme")).status == 404

    run(scenario)


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_deletions_count_in_whatever_order_they_come(order: tuple[int, ...]) -> None:
    """An audio said twice and deleted in between, and the space before: what is left goes by time alone."""
    events = (
        gone("space", "room", at="2026-10-01T00:00:00Z"),
        said("audio", "a", duration=1, at="2026-10-02T00:00:00Z"),
        gone("audio", "a", at="2026-10-03T00:00:00Z"),
        said("audio", "a", duration=2, at="2026-10-04T00:00:00Z"),
    )

    async def scenario(world: World) -> None:
        await world.account("acme")
        for place in order:
            await keep(world, events[place])
        counted = (await asked(world, "/spaces/acme/room/stats"))["uploadedAudios"]
        assert counted == {"count": 1, "duration": "PT2S"}

    run(scenario)


def test_a_voiceprint_record_has_its_own_members() -> None:
    """`voiceprint` and `computedAt`, no `type`; what was not said is null."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        at = "2026-10-05T10:00:00.25Z"
        await keep(world, said("voiceprint", "p", at=at, state="computed", duration=1, attributes={"alias": 7}))
        (record,) = await asked(world, "/v1/orgs/acme/records/voiceprint?sort=computedAt")
        assert {name: record[name] for name in record if name not in ("id", "handle", "owner", "space")} == {
            "actor": None,
            "model": None,
            "voiceprint": {"handle": "p", "alias": None},
            "computedAt": "2026-10-05T10:00:00.250000Z",
        }

    run(scenario)


def test_records_come_in_pages_by_time() -> None:
    """Pages from 1, 20 items unless asked otherwise, an empty list past the end, the place in headers."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        minutes = [f"2026-10-05T10:{minute:02}:00Z" for minute in range(23)]
        await keep(world, *(verified(f"v{number:02}", at=at) for number, at in reversed([*enumerate(minutes)])))

        async def page(query: str) -> tuple[list[str], dict[str, str]]:
            answer = await world.ask("GET", f"/orgs/acme/records/verification?{query}", key="acme")
            assert answer.status == 200
            return [record["verification"]["handle"] for record in answer.json], place_of(answer)

        def place(pages: int, size: int, current: int, items: int) -> dict[str, str]:
            return {
                "page-total": str(pages),
                "page-size": str(size),
                "page-current": str(current),
                "item-total": str(items),
            }

        names = [f"v{number:02}" for number in range(23)]
        assert await page("") == (names[:20], place(2, 20, 1, 23))
        assert await page("page=2&sort=performedAt") == (names[20:], place(2, 20, 2, 23))
        assert await page("page=3") == ([], place(2, 20, 3, 23))
        assert await page("page=9999999999999999999&page-size=50") == ([], place(1, 50, 9999999999999999999, 23))
        assert await page("page=1&page-size=50&unknown=1&unknown=2") == (names, place(1, 50, 1, 23))
        assert await page("page=3&page-size=1") == (names[2:3], place(23, 1, 3, 23))
        both = "after=2026-10-05T10:03:00.000000Z&before=2026-10-05T10:05:00Z"
        assert await page(both) == (names[3:6], place(1, 20, 1, 3))
        assert await page("after=2026-10-05T10:22:00.000001Z") == ([], place(0, 20, 1, 0))
        assert await page("before=2026-10-05T12:00:00%2B02:00") == (names[:1], place(1, 20, 1, 1))

    run(scenario)


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=x",
        "page=",
        "page=1&page=2",
        "page=1.0",
        "page=%D9%A1",
        "page=" + "9" * 1001,
        "page-size=0",
        "page-size=51",
        "sort=handle",
        "sort=computedAt",
        "sort=",
        "after=2026-10-05",
        "before=now",
        "after=2026-10-05T10:00:01Z&before=2026-10-05T10:00:00Z",
    ],
)
def test_a_bad_parameter_of_records_is_refused_by_name(query: str) -> None:
    """400 in the vendor's shape; the message names the parameter."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        answer = await world.ask("GET", f"/orgs/acme/records/verification?{query}", key="acme")
        assert (answer.status, answer.json["error"]["code"]) == (400, 400)
        assert query.split("=")[0] in answer.json["error"]["errors"][0]["message"]

    run(scenario)


def test_a_script_like_the_vendors_adds_up_a_month() -> None:
    """Log in, page the records until there are none, look up each verification and its audio, and sum."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        audios = [said("audio", f"a{number}", duration=number + 0.5, space=f"s{number % 3}") for number in range(45)]
        work = [
            verified(f"v{number}", parent=f"a{number}", duration=number + 0.5, space=f"s{number % 3}", type=type_)
            for number, type_ in zip(range(45), ("identity", "authenticity", "message") * 15, strict=True)
        ]
        early = verified("early", at="2026-09-30T23:59:59Z", parent="a0", space="s0")
        await keep(world, *audios, *work, early)
        login = {"handle": "key-ada", "password": world.keys["ada"]}
        opened = await world.ask("POST", "/v1/auth/credentials", login, key=None)
        assert opened.status == 200
        key, total, page = opened.json["token"], 0.0, 1
        while found := await asked(
            world, f"/v1/orgs/acme/records/verification?page={page}&after=2026-10-01T00:00:00.000000Z", key
        ):
            for record in found:
                place = f"/v1/spaces/acme/{record['space']['handle']}"
                named = record["verification"]
                verification = await asked(world, f"{place}/verifications/{named['type']}/{named['handle']}", key)
                audio = await asked(world, f"{place}/audios/{verification['audio']['handle']}", key)
                assert audio["duration"] == verification["duration"]
                total += float(audio["duration"].removeprefix("PT").removesuffix("S"))
            page += 1
        assert page == 4
        assert total == sum(number + 0.5 for number in range(45))

    run(scenario)


def test_spaces_of_an_organisation_come_in_pages() -> None:
    """By handle, with alias and owner; a dataset is no space, and what is in no space is not in the list."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        spaces = [said("space", f"s{number:02}", space=f"s{number:02}") for number in range(21)]
        photos = said("image", "i", space="photos", url="https://example.org/i")
        await keep(world, *spaces, photos, said("audio", "a", duration=1, space=""))
        first = await world.ask("GET", "/orgs/acme/spaces", key="acme")
        assert [space["handle"] for space in first.json] == [f"s{number:02}" for number in range(20)]
        assert first.json[0] == {"handle": "s00", "alias": None, "owner": ACME}
        assert first.headers["item-total"] == "21"
        assert [space["handle"] for space in await asked(world, "/v1/orgs/acme/spaces?page=2&sort=handle")] == ["s20"]
        assert await asked(world, "/orgs/acme/spaces?page=3") == []
        assert (await world.ask("GET", "/orgs/acme/spaces?sort=createdAt", key="acme")).status == 400
        # A dataset has no statistics here.
        assert (await world.ask("GET", "/spaces/acme/photos/stats", key="acme")).status == 404

    run(scenario)


def test_names_of_any_script_are_found_behind_percent_signs() -> None:
    """A slash inside a name is percent-encoded, and decoded once."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        space, name = "žluť/2 %2F", "hlas/1?#😀"
        await keep(world, said("audio", name, duration=1, space=space), verified(name, space=space, parent=name))
        place = f"/spaces/acme/{quote(space, safe='')}"
        assert (await asked(world, f"{place}/stats"))["uploadedAudios"]["count"] == 1
        assert (await asked(world, f"{place}/audios/{quote(name, safe='')}"))["handle"] == name
        shown = await asked(world, f"{place}/verifications/identity/{quote(name, safe='')}")
        assert shown["audio"] == {"handle": name, "alias": None}
        (record,) = await asked(world, "/orgs/acme/records/verification")
        assert record["space"]["handle"] == space

    run(scenario)


def test_whoever_may_not_read_gets_the_same_404_as_for_what_is_not_there() -> None:
    """Foreign, unknown, of another kind or of another type: one answer, byte for byte."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("bob", AccountKind.USER)
        await world.account("acme", members=["ada"])
        await world.account("globex")
        await keep(
            world,
            said("audio", "a", duration=1, account="globex"),
            said("audio", "a", duration=1),
            verified("v", account="globex"),
            verified("v"),
        )
        bodies = set()
        for key, path in (
            ("acme", "/spaces/globex/room/stats"),
            ("acme", "/spaces/nobody/room/stats"),
            ("acme", "/spaces/acme/other/stats"),
            ("acme", "/spaces/globex/room/audios/a"),
            ("acme", "/spaces/acme/room/audios/b"),
            ("acme", "/spaces/acme/room/verifications/message/v"),
            ("acme", "/spaces/acme/room/verifications/identity/w"),
            ("acme", "/orgs/globex/records/verification"),
            ("acme", "/orgs/nobody/records/verification"),
            ("acme", "/orgs/acme/records/audio"),
            ("acme", "/orgs/globex/spaces"),
            ("acme", "/user/records/verification"),
            ("acme", "/user/records/verification?account=globex"),
            ("ada", "/user/records/verification?account=acme"),
            ("ada", "/user/records/verification?account=bob"),
            ("ada", "/orgs/ada/records/verification"),
            ("bob", "/orgs/acme/records/verification"),
            ("operator", "/spaces/nobody/room/stats"),
            ("operator", "/user/records/verification?account=nobody"),
            ("operator", "/user/records/verification?account=acme"),
        ):
            answer = await world.ask("GET", path, key=key, headers={"x-request-id": "abcdef01"})
            assert answer.status == 404, path
            bodies.add(answer.body)
        message = b"There is no such resource, or this key does not read it."
        assert bodies == {b'{"error":{"id":"abcdef01","code":404,"errors":[{"message":"' + message + b'"}]}}'}

    run(scenario)


def test_a_user_reads_its_own_records_and_those_of_its_organisations() -> None:
    """/user is the key's own account; an operator's key names one."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        await keep(world, verified("own", account="ada"), verified("theirs"))

        async def names(path: str, key: str) -> list[str]:
            return [record["verification"]["handle"] for record in await asked(world, path, key)]

        assert await names("/user/records/verification", "ada") == ["own"]
        assert await names("/user/records/verification?account=ada", "operator") == ["own"]
        assert await names("/orgs/acme/records/verification", "ada") == ["theirs"]
        assert await names("/orgs/acme/records/verification", "operator") == ["theirs"]
        assert (await asked(world, "/spaces/ada/room/stats", "ada"))["performedVerifications"]["count"] == 1
        for query in ("", "?account=", "?account=ada&account=acme"):
            assert (await world.ask("GET", f"/user/records/verification{query}")).status == 400

    run(scenario)


def test_statistics_of_many_do_not_overflow() -> None:
    """Durations add up past what a 32-bit number of milliseconds would hold."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await keep(world, *(said("audio", f"{number}", duration=10**9) for number in range(5)))
        counted = (await asked(world, "/spaces/acme/room/stats"))["uploadedAudios"]
        assert counted == {"count": 5, "duration": "PT1388888H53M20S"}

    run(scenario)


@pytest.mark.parametrize("code", Code)
def test_every_problem_has_the_vendors_shape(code: Code) -> None:
    """The id is hexadecimal whatever the request's was, and the code is the status."""
    for request_id in ("0123abcd" * 4, "my request", ""):
        reply = hiya.problem(Problem(code, "The reason.", request_id=request_id))
        error = json.loads(reply.body)["error"]
        assert error["errors"] == [{"message": "The reason."}]
        assert error["code"] == reply.status
        assert int(error["id"], 16) >= 0
        assert (error["id"] == request_id) == (request_id == "0123abcd" * 4)
        assert reply.status in (400, 500, STATUS[code].value)
