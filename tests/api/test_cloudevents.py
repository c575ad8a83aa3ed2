"""CloudEvents over HTTP as its specification and its conformance suite have it: what arrives is what was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tallystick.envelope import read
from tests.api.client import Answer, World, run

EVENT = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "time": "2018-04-05T03:56:24Z",
    "id": "1234-1234-1234",
    "source": "/mycontext/subcontext",
}
DATA = {"message": "Hello World!"}
HEADERS = {f"ce-{name}": value for name, value in EVENT.items()}
MINIMAL = {"specversion": "1.0", "id": "minimal", "type": "io.cloudevents.test", "source": "https://cloudevents.io"}


class Watched(World):
    """A world that shows which events reached its ledger, as they are kept."""

    __slots__ = ("kept",)

    def __post_init__(self) -> None:
        World.__post_init__(self)
        self.kept: list[dict[str, Any]] = []
        commit = self.ledger.commit

        async def watched(batch: Any, **named: Any) -> Any:
            self.kept += map(read, batch.raw)
            return await commit(batch, **named)

        self.ledger.commit = watched  # type: ignore[method-assign]  # a test looks over its shoulder


def play(scenario: Any) -> None:
    """Play a scenario with a key that is bound to an account, so that events need not name one."""

    async def with_account(world: World) -> None:
        watched = Watched(world.settings)
        await watched.account("acme")
        await scenario(watched)

    run(with_account)


async def post(world: World, body: Any, headers: dict[str, str], **options: Any) -> Answer:
    """Send a body with the key of the account and ask for every receipt."""
    return await world.ask("POST", "/v1/events?receipts=all", body, key="acme", headers=headers, **options)


# The conformance suite's table for the HTTP binding


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_binary_content_mode(content_type: str) -> None:
    """Attributes come from the headers, data from the body, and its type is the content type as it was sent."""

    async def scenario(world: Watched) -> None:
        body = b'{\n    "message": "Hello World!"\n}'
        answer = await post(world, body, {**HEADERS, "Content-Type": content_type})
        assert (answer.status, answer.json["accepted"]) == (200, 1)
        assert world.kept == [{**EVENT, "datacontenttype": content_type, "data": DATA}]

    play(scenario)


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+json", "application/cloudevents+json; charset=utf-8"]
)
def test_structured_content_mode(content_type: str) -> None:
    """Everything comes from the body."""

    async def scenario(world: Watched) -> None:
        event = {**EVENT, "datacontenttype": "application/json", "data": DATA}
        answer = await post(world, event, {"Content-Type": content_type})
        assert (answer.status, answer.json["accepted"]) == (200, 1)
        assert world.kept == [event]

    play(scenario)


@pytest.mark.parametrize("charset", ["", ";charset=UTF-8", '; charset="utf-8"', '; Charset="UTF-8"; x=y'])
@pytest.mark.parametrize("mode", ["binary", "structured", "batch"])
def test_every_mode_takes_the_charset_in_every_spelling(mode: str, charset: str) -> None:
    """The three modes bring the same event, so only the first is new."""

    async def scenario(world: Watched) -> None:
        event = {**EVENT, "datacontenttype": "application/json", "data": DATA}
        sent = {
            "binary": (DATA, "application/json", HEADERS),
            "structured": (event, "application/cloudevents+json", {}),
            "batch": ([event], "application/cloudevents-batch+json", {}),
        }
        body, media_type, headers = sent[mode]
        answer = await post(world, body, {**headers, "content-type": media_type + charset})
        assert (answer.status, answer.json["accepted"]) == (200, 1)
        for other, media_type, headers in sent.values():
            again = await post(world, other, {**headers, "content-type": media_type})
            assert (again.status, again.json["duplicate"]) == (200, 1)

    play(scenario)


@pytest.mark.parametrize("media_type", ["application/cloudevents+json", "application/json", "text/plain"])
def test_another_charset_is_415(media_type: str) -> None:
    """In every mode, with the charset that is taken."""

    async def scenario(world: Watched) -> None:
        headers = {**HEADERS, "content-type": f"{media_type}; charset=utf-16"}
        answer = await post(world, {**EVENT, "data": DATA}, headers)
        assert (answer.status, answer.json["code"]) == (415, "media_type_unknown")
        assert "utf-8" in answer.json["detail"].lower()

    play(scenario)


# The suite's events in JSON

GOOD: dict[str, dict[str, Any]] = {
    "minimal": MINIMAL,
    "null for what is optional": {
        **MINIMAL,
        "datacontenttype": None,
        "dataschema": None,
        "subject": None,
        "time": None,
    },
    "all core attributes": {
        **MINIMAL,
        "datacontenttype": "text/plain",
        "dataschema": "https://cloudevents.io/dataschema",
        "subject": "tests",
        "time": "2018-04-05T17:31:00Z",
    },
    "nanoseconds": {**MINIMAL, "time": "2018-04-05T17:31:00.000000000Z"},
    "an offset ahead": {**MINIMAL, "time": "2018-04-05T18:31:00+01:00"},
    "an offset behind": {**MINIMAL, "time": "2018-04-05T16:31:00-01:00"},
    "a relative source": {**MINIMAL, "source": "#fragment"},
    "text as data": {**MINIMAL, "datacontenttype": "text/plain", "data": "Simple text"},
    "extensions of all types": {
        **MINIMAL,
        "extinteger": 10,
        "extboolean": True,
        "extstring": "text",
        "exturi": "https://cloudevents.io",
        "exturiref": "//authority/path",
        "exttimestamp": "2023-03-31T15:12:00Z",
        "extbinary": "TWE=",
    },
}

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    **{f"no {name}": ({**MINIMAL, name: None}, "field_missing", f"/{name}") for name in MINIMAL},
    **{
        f"an empty {name}": ({**MINIMAL, name: ""}, "field_length", f"/{name}")
        for name in ("id", "type", "source", "subject")
    },
    **{
        f"the time {time}": ({**MINIMAL, "time": time}, "time_format", "/time")
        for time in (
            "lunchtime",
            "2018-04-05T18:31Z",
            "2018-04-05T18:31:00X",
            "2018-04-05T18:31:00+25:00",
            "2018-04-05T18:31:00+xx:00",
            "2018-04-05T18:31:00+05",
        )
    },
    "an empty specversion": ({**MINIMAL, "specversion": ""}, "field_value", "/specversion"),
    "an older specversion": ({**MINIMAL, "specversion": "0.9"}, "field_value", "/specversion"),
    "a number as id": ({**MINIMAL, "id": 25}, "field_type", "/id"),
    "an object as id": ({**MINIMAL, "id": {"xyz": "abc"}}, "field_type", "/id"),
    "data twice": ({**MINIMAL, "data": "text", "data_base64": "eyAieHl6IjogMTIzIH0="}, "field_value", "/data_base64"),
}


@pytest.mark.parametrize("event", GOOD.values(), ids=GOOD)
def test_a_valid_event_is_taken_alone_and_in_a_batch(event: dict[str, Any]) -> None:
    """It feeds no meter and is kept all the same."""

    async def scenario(world: Watched) -> None:
        answer = await post(world, event, {"content-type": "application/cloudevents+json"})
        assert answer.status == 200
        assert answer.json["receipts"] == [{"index": 0, "id": "minimal", "status": "accepted", "metered": False}]
        batch = await post(world, [event, event], {"content-type": "application/cloudevents-batch+json"})
        assert (batch.status, batch.json["duplicate"]) == (200, 2)

    play(scenario)


@pytest.mark.parametrize(("event", "code", "pointer"), BAD.values(), ids=BAD)
def test_an_invalid_event_is_refused_alone_and_in_a_batch(event: dict[str, Any], code: str, pointer: str) -> None:
    """A batch loses nothing but the invalid event."""

    async def scenario(world: Watched) -> None:
        answer = await post(world, event, {"content-type": "application/cloudevents+json"})
        assert (answer.status, answer.json["code"], answer.json["errors"][0]["pointer"]) == (422, code, pointer)
        batch = await post(world, [event, MINIMAL], {"content-type": "application/cloudevents-batch+json"})
        assert (batch.status, batch.json["accepted"]) == (207, 1)
        assert (batch.json["receipts"][0]["index"], batch.json["receipts"][0]["code"]) == (0, code)

    play(scenario)


# The binding's rules for headers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%c3%a9t%c3%a9", "été"),
        ("%61%2D%7e", "a-~"),
        ("100%25", "100%"),
        ("%2541", "%41"),
        ('"Euro € 😀"'.encode().decode("latin-1"), "Euro € 😀"),
        ('"say \\"%41\\" \\\\"', 'say "A" \\'),
        ("a+b&c=d", "a+b&c=d"),
        ("déjà".encode().decode("latin-1"), "déjà"),
    ],
)
def test_a_header_brings_any_text(value: str, text: str) -> None:
    """Quoted strings first, then percent signs once, then UTF-8."""

    async def scenario(world: Watched) -> None:
        answer = await post(world, DATA, {**HEADERS, "ce-subject": value})
        assert answer.status == 200, answer.body
        assert world.kept[0]["subject"] == text
        event = {**EVENT, "data": DATA, "subject": text}
        again = await post(world, event, {"content-type": "application/cloudevents+json"})
        assert (again.status, again.json["duplicate"]) == (200, 1)

    play(scenario)


@pytest.mark.parametrize("value", ["%C0%A0", "%E2%82", "%ff", "\xff", "100%", "%4", "%gg", "%%41", "%u20AC"])
def test_a_header_that_cannot_be_decoded_is_400(value: str) -> None:
    """The header is named, and how it is written right."""

    async def scenario(world: Watched) -> None:
        answer = await post(world, DATA, {**HEADERS, "ce-subject": value})
        assert (answer.status, answer.json["code"]) == (400, "header_invalid")
        assert answer.json["errors"][0]["pointer"] == "/subject"
        assert "ce-subject" in answer.json["detail"]
        assert "%" in answer.json["detail"]
        assert world.kept == []

    play(scenario)


def test_a_header_that_comes_twice_is_400() -> None:
    """Neither value is more right than the other; beside a structured event headers do not matter."""

    async def scenario(world: Watched) -> None:
        twice = [("ce-id", "2")]
        answer = await post(world, DATA, HEADERS, repeated=twice)
        assert (answer.status, answer.json["code"], answer.json["errors"][0]["pointer"]) == (
            400,
            "header_invalid",
            "/id",
        )
        structured = {"content-type": "application/cloudevents+json"}
        answer = await post(world, {**EVENT, "data": DATA}, structured, repeated=[("ce-id", "1"), *twice])
        assert answer.status == 200

    play(scenario)


def test_control_characters_do_not_come_in_by_a_header() -> None:
    """What is decoded is judged as any text is."""

    async def scenario(world: Watched) -> None:
        answer = await post(world, DATA, {**HEADERS, "ce-subject": "a%00b"})
        assert (answer.status, answer.json["code"]) == (422, "text_invalid")

    play(scenario)


def test_binary_mode_needs_its_attributes_and_no_data() -> None:
    """An event may be without data; one without an id is refused as one event."""

    async def scenario(world: Watched) -> None:
        answer = await post(world, b"", HEADERS)
        assert (answer.status, answer.json["accepted"]) == (200, 1)
        some = {name: value for name, value in HEADERS.items() if name != "ce-id"}
        answer = await post(world, DATA, some)
        assert (answer.status, answer.json["code"], answer.json["errors"][0]["pointer"]) == (
            422,
            "field_missing",
            "/id",
        )

    play(scenario)


def test_data_that_is_no_json_is_kept_in_binary_mode() -> None:
    """Text as text, anything else in base64."""

    async def scenario(world: Watched) -> None:
        await post(world, "né".encode(), {**HEADERS, "content-type": "text/plain"})
        await post(world, b"\x00\xff", {**HEADERS, "ce-id": "2", "content-type": "image/png"})
        assert [event.get("data", event.get("data_base64")) for event in world.kept] == ["né", "AP8="]
        assert json.dumps([event["datacontenttype"] for event in world.kept]) == '["text/plain", "image/png"]'

    play(scenario)
