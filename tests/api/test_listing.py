"""GET /v1/events and GET /v1/export: what was sent is what is listed, to those who may read it."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tallystick.api import listing
from tallystick.errors import Code, Problem
from tallystick.model import AccountKind, EventPage, EventQuery, Scope
from tests.api.client import HOUR, Message, World, audio, run


async def ingest_for_three(world: World) -> None:
    """Two organisations and a user who is a member of the first, with an event each, in this order."""
    await world.account("ada", AccountKind.USER)
    await world.account("acme", members=["ada"])
    await world.account("globex")
    await world.ingest(audio("1", "acme"), audio("2", "globex", "90", space="lab"), audio("3", "ada", status="failed"))


async def ids(world: World, query: str = "", key: str = "operator") -> list[str]:
    """List one page of events by id."""
    answer = await world.ask("GET", f"/v1/events?{query}", key=key)
    assert answer.status == 200, answer.body
    return [item["event"]["id"] for item in answer.json["events"]]


async def exported(world: World, query: str = "", key: str = "operator") -> list[Any]:
    """Export as lines of JSON."""
    answer = await world.ask("GET", f"/v1/export?{query}", key=key)
    assert (answer.status, answer.whole) == (200, True)
    return [json.loads(line) for line in answer.body.splitlines()]


# Events


def test_an_event_is_listed_as_it_was_sent_with_what_became_of_it() -> None:
    """Its place, its receipt, and what it fed, exactly."""

    async def scenario(world: World) -> None:
        sent = b'{"id":"1","source":"s","type":"audio.processed","account":"acme","data":{"duration":1.50e0,"n":1.10}}'
        await world.ask("POST", "/v1/events", sent)
        answer = await world.ask("GET", "/v1/events")
        assert answer.body == (
            b'{"events":[{"sequence":1,"recorded_at":"2026-11-01T12:00:00Z","account":"acme","space":null,"event":'
            + sent
            + b',"receipt":{"status":"accepted","metered":true},'
            b'"fed":[{"meter":"audio","labels":{},"quantity":"1.5"}]}],"next":null}'
        )

    run(scenario)


def test_an_event_sent_in_binary_mode_is_listed_as_one_object() -> None:
    """Its attributes and its data together."""

    async def scenario(world: World) -> None:
        headers = {f"ce-{name}": value for name, value in audio("1").items() if name not in ("data",)}
        data = {"duration": 2}
        await world.ask("POST", "/v1/events", data, headers={**headers, "ce-specversion": "1.0"})
        (item,) = (await world.ask("GET", "/v1/events")).json["events"]
        assert (item["event"]["id"], item["event"]["data"], item["fed"][0]["quantity"]) == ("1", data, "2")

    run(scenario)


def test_events_are_listed_to_those_who_read_their_account() -> None:
    """Without an account all that the key reads; a foreign or unknown one is 403, whatever else is asked."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        for key, found in (("operator", "321"), ("acme", "1"), ("globex", "2"), ("ada", "31")):
            assert await ids(world, key=key) == list(found)
            assert [item["event"]["id"] for item in await exported(world, key=key)] == list(found)[::-1]
        assert await ids(world, "account=globex&account=acme") == ["2", "1"]
        assert await ids(world, "account=acme", key="ada") == ["1"]
        for path in ("events", "export"):
            for key, names in (("acme", "ada"), ("acme", "acme&account=globex"), ("operator", "nobody"), ("ada", "")):
                answer = await world.ask("GET", f"/v1/{path}?account={names}&id=none", key=key)
                assert (answer.status, answer.json["errors"][0]["pointer"]) == (403, "account")
            await world.key("ingests", "acme", Scope.INGEST)
            assert (await world.ask("GET", f"/v1/{path}", key="ingests")).status == 403

    run(scenario)


def test_events_are_found_by_what_they_say() -> None:
    """Space, subject, type, id and the time they took place."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        await world.ingest(
            {**audio("4"), "type": "unheard.of", "time": "2026-11-01T10:59:59.999999Z", "subject": "acme/a b"}
        )
        for query, found in (
            ("space=lab", "2"),
            ("type=unheard.of", "4"),
            ("id=3", "3"),
            ("subject=acme%2Fa%20b", "4"),
            ("subject=acme", ""),
            ("subject=acme/a%20b&id=3", ""),
            ("from=2026-11-01T11:00:00Z", "321"),
            ("to=2026-11-01T11:00:00Z", "4"),
            ("from=2026-11-01T10:00:00Z&to=2026-11-01T11:00:00.000001Z", "4321"),
            ("id=3&type=unheard.of", ""),
        ):
            assert await ids(world, query) == list(found)
            assert [item["event"]["id"] for item in await exported(world, query)] == list(found)[::-1]

    run(scenario)


def test_a_list_comes_in_pages() -> None:
    """Following `next` or Link lists every event once, newest first, whatever is sent in between."""

    async def scenario(world: World) -> None:
        await world.ingest(*(audio(str(n)) for n in range(250)))
        target, found = "/v1/events?type=audio.processed", list[str]()
        sizes = []
        while target:
            answer = await world.ask("GET", target)
            found += [item["event"]["id"] for item in answer.json["events"]]
            sizes.append(len(answer.json["events"]))
            target = answer.headers.get("link", "").removeprefix("<").removesuffix('>; rel="next"')
            assert (answer.json["next"] is None) == (target == "")
            await world.ingest(audio(f"later {len(sizes)}"))
        assert found == [str(n) for n in range(250)][::-1]
        assert sizes == [100, 100, 50]

    run(scenario)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("from=now", "from"),
        ("cursor=abc", "cursor"),
        ("type=", "type"),
        ("subject=", "subject"),
    ],
)
def test_a_wrong_parameter_is_400_with_its_name(query: str, pointer: str) -> None:
    """The pointer of a problem is the query parameter."""

    async def scenario(world: World) -> None:
        answer = await world.ask("GET", f"/v1/events?{query}")
        assert (answer.status, answer.json["code"]) == (400, "parameter_invalid")
        assert answer.json["errors"][0]["pointer"] == pointer

    run(scenario)


# Export


def test_an_export_has_every_event_up_to_its_start() -> None:
    """Oldest first, each line as the list shows it; what comes while it runs is not in it."""

    async def scenario(world: World) -> None:
        for start in range(0, 2500, 500):
            await world.ingest(*(audio(str(n)) for n in range(start, start + 500)))
        events, calls = world.ledger.events, []

        async def while_more_comes(query: EventQuery) -> EventPage:
            page = await events(query)
            calls.append(query)
            await world.ingest(audio(f"later {len(calls)}"))
            return page

        world.ledger.events = while_more_comes  # type: ignore[method-assign]  # a test looks over its shoulder
        found = await exported(world)
        assert [item["event"]["id"] for item in found] == [str(n) for n in range(2500)]
        assert [item["sequence"] for item in found] == list(range(1, 2501))
        assert [query.limit for query in calls] == [1000] * 3
        world.ledger.events = events  # type: ignore[method-assign]  # as it was
        listed = (await world.ask("GET", "/v1/events?id=7")).json["events"][0]
        assert found[7] == listed

    run(scenario)


def test_an_export_as_csv_is_one_sheet() -> None:
    """One header, a line for each event, text that is no formula."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        await world.ingest({**audio("=4", seconds="1.5"), "subject": "a,b"})
        answer = await world.ask("GET", "/v1/export?format=csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline=""), strict=True))
        assert [(row["id"], row["account"], row["space"], row["metered"]) for row in rows] == [
            ("1", "acme", "", "true"),
            ("2", "globex", "lab", "true"),
            ("3", "ada", "", "false"),
            ("'=4", "acme", "", "true"),
        ]
        assert (rows[3]["subject"], json.loads(rows[3]["data"])["duration"]) == ("a,b", "1.5")
        assert answer.body.count(b"sequence,recorded_at,") == 1

    run(scenario)


def test_an_export_of_nothing_is_whole() -> None:
    """No lines, or the header alone."""

    async def scenario(world: World) -> None:
        assert await exported(world) == []
        assert (await world.ask("GET", "/v1/export?format=csv")).body.count(b"\r\n") == 1

    run(scenario)


def test_head_of_an_export_has_its_headers_and_reads_no_further() -> None:
    """As GET would answer, without a body."""

    async def scenario(world: World) -> None:
        await world.ingest(*(audio(str(n)) for n in range(1500)))
        events, calls = world.ledger.events, []

        async def counting(query: EventQuery) -> EventPage:
            calls.append(query)
            return await events(query)

        world.ledger.events = counting  # type: ignore[method-assign]  # a test looks over its shoulder
        answer = await world.ask("HEAD", "/v1/export?format=csv")
        assert (answer.status, answer.body, answer.whole) == (200, b"", True)
        assert answer.headers["content-type"].startswith("text/csv")
        assert "content-length" not in answer.headers
        assert len(calls) == 1

    run(scenario)


def test_what_is_wrong_with_an_export_is_said_before_it_begins() -> None:
    """A wrong format, an older HTTP, a ledger that cannot be read: a problem, not half an answer."""

    async def scenario(world: World) -> None:
        answer = await world.ask("GET", "/v1/export?format=parquet")
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (400, "format")

        async def damaged(query: EventQuery) -> EventPage:
            raise Problem(Code.UNPROVEN, "Damaged.", retry_after_s=60)

        world.ledger.events = damaged  # type: ignore[method-assign]  # a ledger that cannot be read
        assert (await world.ask("GET", "/v1/export")).status == 503

    run(scenario)


def test_an_export_that_breaks_has_no_end() -> None:
    """What was read is sent, and then the connection is left without the last part of the reply."""

    async def scenario(world: World) -> None:
        await world.ingest(*(audio(str(n)) for n in range(1500)))
        events, sent = world.ledger.events, list[Message]()

        async def breaks(query: EventQuery) -> EventPage:
            if query.after:
                raise Problem(Code.UNPROVEN, "Damaged.")
            return await events(query)

        world.ledger.events = breaks  # type: ignore[method-assign]  # damage in the middle
        with pytest.raises(Problem):
            await world.ask("GET", "/v1/export", replies=sent)
        assert sent[0]["status"] == 200
        assert b"".join(message["body"] for message in sent[1:]).count(b"\n") == 1000
        assert all(message["more_body"] for message in sent[1:])
        assert (world.app.calls, world.app.idle.is_set()) == (0, True)

    run(scenario)


def test_an_export_ends_when_the_client_goes() -> None:
    """It is read no further, and is not ended as if it were whole."""

    async def scenario(world: World) -> None:
        await world.ingest(*(audio(str(n)) for n in range(5000)))
        gone: list[Message] = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]
        answer = await world.ask("GET", "/v1/export", parts=gone)
        assert not answer.whole
        assert answer.body.count(b"\n") <= 2 * listing.ROWS_AT_ONCE
        assert world.app.calls == 0

    run(scenario)


def test_listing_answers_at_any_hour() -> None:
    """The clock plays no part in what was kept."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        world.now += 1000 * HOUR
        assert await ids(world) == ["3", "2", "1"]

    run(scenario)
