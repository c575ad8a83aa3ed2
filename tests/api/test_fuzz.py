"""Bodies, headers and codings changed at random: every request ends soon, none in a 500, and receipts add up."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.settings import Settings
from tests.api.client import OPERATOR, Answer, Message, World, audio
from tests.server import serving

EXAMPLES = int(os.environ.get("TALLYSTICK_TEST_FUZZ", "150"))
SECONDS_MAX = 20
SETTINGS = Settings(operator_key=OPERATOR, batch_bytes_max=20_000, batch_events_max=50, event_bytes_max=3000)
ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
MEDIA_TYPES = (
    ONE,
    BATCH,
    "application/json",
    "application/x-ndjson",
    "application/cloudevents+xml",
    "text/plain",
    "image/png",
    "application/json; charset=utf-8",
    "application/x-ndjson;charset=UTF-8",
    'application/json; charset="utf-16"',
)
COMPRESS: dict[str, Any] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd checked": zstandard.ZstdCompressor(write_checksum=True).compress,
}
STATUSES = {200, 207, 400, 403, 409, 413, 415, 422}
SNIPPETS = (
    b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\ud800", b"\\u0000", b"\n", b"\r\n", b"\0", b"\xff",
    b"null", b"true", b"NaN", b"-", b"1e999999999999999999", b"9" * 5000, b"[" * 200, b'"id":"1",',
    b'"account":"globex",', b"\xef\xbb\xbf", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b" " * 3000,
    b"{}," * 100, b"{}\n" * 100,
)  # fmt: skip

ids = st.sampled_from(["1", "2", "3", "4", "5", "é", "", "x" * 300, "\u202e"])
durations = st.sampled_from(["60", 60, 1.5, "7.25", 0, -1, "x", None, "PT1M", 1e300])


@st.composite
def good_bodies(draw: st.DrawFn) -> tuple[bytes, str]:
    """Draw a body of some events in one of the formats, and its media type; not all of the events are good."""
    events = [
        {"specversion": "1.0", **audio(draw(ids)), "data": {"duration": draw(durations)}}
        for _ in range(draw(st.integers(0, 5)))
    ]
    form = draw(st.integers(0, 2))
    if form == 0:
        return "\n".join(map(json.dumps, events)).encode(), "application/x-ndjson"
    if form == 1:
        return json.dumps(events).encode(), draw(st.sampled_from(["application/json", BATCH]))
    return json.dumps((events or [{}])[0], ensure_ascii=False).encode(), draw(
        st.sampled_from(["application/json", ONE])
    )


@st.composite
def mutations(draw: st.DrawFn, body: bytes, most: int) -> bytes:
    """Change a body: bytes flipped, taken out, put in or doubled, at random places."""
    changed = bytearray(body)
    for _ in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, len(changed)))
        end = min(len(changed), place + draw(st.integers(1, 40)))
        match draw(st.integers(0, 4)):
            case 0 if place < len(changed):
                changed[place] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del changed[place:end]
            case 2:
                changed[place:place] = draw(st.sampled_from(SNIPPETS))
            case 3:
                changed[place:place] = changed[place:end] * draw(st.integers(1, 3))
            case _:
                changed[place:end] = draw(st.binary(max_size=8))
    return bytes(changed)


header_values = st.one_of(
    st.sampled_from(
        ["", '"', "%", "%zz", "%C0%A0", '"a\\"', "a" * 5000, ";", ";;", "a/b", "a/b;charset", ",", "gzip,zstd"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=12),
)
ATTRIBUTES = ("id", "source", "type", "specversion", "time", "account", "subject", "data", "x", "")
header_names = st.sampled_from(
    [
        "content-type",
        "content-encoding",
        "content-length",
        "transfer-encoding",
        "expect",
        "x-request-id",
        *(f"ce-{name}" for name in ATTRIBUTES),
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, str]], list[int]]:
    """Draw a request: its body as it is sent, its headers, and where the body is cut into parts."""
    coding = draw(st.sampled_from(sorted(COMPRESS)))
    body, media_type = draw(good_bodies())
    body = draw(mutations(body, draw(st.sampled_from([0, 0, 1, 3]))))
    sent = draw(mutations(COMPRESS[coding](body), draw(st.sampled_from([0, 0, 0, 2]))))
    if draw(st.integers(0, 4)) == 0:
        media_type = draw(st.sampled_from(MEDIA_TYPES))
    headers = [("content-type", media_type), ("content-encoding", coding.split()[0])]
    if draw(st.integers(0, 4)) == 0:
        ce = {"id": draw(ids.filter(str.isascii)), "source": "w", "type": "audio.processed", "specversion": "1.0"}
        headers += [(f"ce-{name}", value) for name, value in ce.items()]
    if draw(st.integers(0, 3)) == 0:
        headers += draw(st.lists(st.tuples(header_names, header_values), max_size=3))
    return sent, headers, sorted(draw(st.lists(st.integers(0, len(sent)), max_size=3)))


async def sent(world: World, body: bytes, headers: Sequence[tuple[str, str]], cuts: Sequence[int]) -> Answer:
    """Send a request in parts."""
    edges = [0, *cuts, len(body)]
    parts: list[Message] = [
        {"type": "http.request", "body": body[start:end], "more_body": True} for start, end in pairwise(edges)
    ]
    parts.append({"type": "http.request", "body": b"", "more_body": False})
    target = "/v1/events?receipts=all"
    return await world.ask("POST", target, parts=parts, headers={"transfer-encoding": "chunked"}, repeated=headers)


def accepted_by(answer: Answer) -> int:
    """Check a reply, and return how many events it says were accepted."""
    assert answer.status in STATUSES, answer.body
    document = answer.json
    if "receipts" not in document:
        assert answer.status >= 400
        assert document["status"] == answer.status
        assert len(document["detail"]) > 10
        return 0
    counts = {name: document[name] for name in ("accepted", "duplicate", "conflict", "rejected")}
    receipts = document["receipts"]
    assert [receipt["index"] for receipt in receipts] == list(range(len(receipts)))
    for name, count in counts.items():
        assert count == sum(receipt["status"] == name for receipt in receipts)
    refused = counts["conflict"] + counts["rejected"]
    assert (answer.status == 200) == (refused == 0)
    for receipt in receipts:
        assert ("code" in receipt) == (receipt["status"] in ("conflict", "rejected"))
    accepted: int = counts["accepted"]
    return accepted


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(requests(), min_size=1, max_size=4))
def test_whatever_is_sent_is_answered_and_counted(
    drawn: list[tuple[bytes, list[tuple[str, str]], list[int]]],
) -> None:
    """What was accepted is kept, what was not is not, nothing is held in memory, and the next good request is taken."""

    async def scenario() -> None:
        world = World(SETTINGS)
        kept = 0
        commit = world.ledger.commit

        async def counting(batch: Any, **named: Any) -> Any:
            nonlocal kept
            judged = await commit(batch, **named)
            kept += len(batch) - len(judged)
            return judged

        world.ledger.commit = counting  # type: ignore[method-assign]  # a test looks over its shoulder
        async with asyncio.timeout(SECONDS_MAX):
            accepted = 0
            for body, headers, cuts in drawn:
                accepted += accepted_by(await sent(world, body, headers, cuts))
                assert (world.app.body_bytes, world.app.calls) == (0, 0)
            assert accepted == kept
            assert (await world.ingest(audio("the next one"))).json["accepted"] == 1

    asyncio.run(scenario())


FRAMINGS = (
    b"Content-Length: %d\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: %d\r\n\r\n",
    b"Content-Length: 99999999999999999999\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n",
    b"Transfer-Encoding: gzip\r\nContent-Length: %d\r\n\r\n",
    b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n",
    b"Content-Encoding: zstd\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"ce-id: \xff\r\nce-type: t\xc3\xa9\r\nContent-Length: %d\r\n\r\n",
    b"ce-id: a\r\n b\r\nContent-Length: %d\r\n\r\n",
    b"ce-id : a\r\nContent-Length: %d\r\n\r\n",
    b"ce-subject: \x01\r\nContent-Length: %d\r\n\r\n",
    b"\r\n",
)


def test_broken_framing_ends_the_request_and_nothing_else() -> None:
    """Over a real connection: an answer that is no 500, and the end of that connection; others are still answered."""
    start = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {OPERATOR}\r\n"
    start += "Content-Type: application/json\r\n"
    body = json.dumps([audio("1")]).encode()
    with serving(None, "--body-wait-s-max", "1") as server:
        for framing in FRAMINGS:
            with socket.create_connection(server.address, timeout=SECONDS_MAX) as connection:
                head = framing % len(body) if b"%" in framing else framing
                connection.sendall(start.encode() + head + body + b"\r\n0\r\n\r\n")
                reply = connection.makefile("rb").read()
            assert int(reply.split()[1]) in STATUSES, (framing, reply)
        assert server.ask("POST", "/v1/events", [audio("2")]).json["accepted"] == 1
        assert not [line for line in server.log if "crash" in line]
