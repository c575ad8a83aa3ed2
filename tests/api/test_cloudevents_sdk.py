"""The CloudEvents SDK as a client of a real server: what it writes in either mode is taken, and is the same event."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import zstandard
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary, to_structured
from cloudevents.v1.http import CloudEvent as OlderCloudEvent

from tests.server import OPERATOR, Server, serving

SUBJECTS = ["room 7", "50%", 'the "Brünn" office', "会议 😀", "a/b?c=d&e", "%41"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a folder for the tests of this module."""
    with serving(tmp_path_factory.mktemp("data")) as started:
        yield started


def attributes(account: str, id: str, **others: Any) -> dict[str, Any]:
    """Name an event of processed audio."""
    return {"id": id, "source": "urn:worker:7", "type": "audio.processed", "account": account, **others}


def send(server: Server, headers: dict[str, str], body: bytes) -> Any:
    """Post what the SDK made and return the counts."""
    answer = server.ask("POST", "/v1/events?receipts=all", body, headers=headers)
    assert answer.status == 200, answer.body
    return answer.json


def used(server: Server, account: str) -> str:
    """Return how many seconds of audio an account has used."""
    answer = server.ask("GET", f"/v1/usage?meter=audio&account={account}&window=total")
    quantity: str = answer.json["total"]["quantity"]
    return quantity


@pytest.mark.parametrize("subject", SUBJECTS)
def test_either_mode_of_the_sdk_brings_the_same_event(server: Server, subject: str) -> None:
    """Sent in one mode it is accepted and metered, sent again in the other it is a duplicate: content is the same."""
    account = f"sdk-{SUBJECTS.index(subject)}"
    for id, modes in (("1", (to_binary_event, to_structured_event)), ("2", (to_structured_event, to_binary_event))):
        time = datetime(2026, 11, 1, 10, 30, 0, 250_000, tzinfo=UTC)
        event = CloudEvent(
            attributes(account, id, subject=subject, time=time, datacontenttype="application/json"),
            {"duration": "7.25", "language": "cs"},
        )
        first, second = (send(server, message.headers, message.body) for message in (mode(event) for mode in modes))
        assert first["receipts"] == [{"index": 0, "id": id, "status": "accepted", "metered": True}]
        assert second["receipts"] == [{"index": 0, "id": id, "status": "duplicate", "metered": True}]
    assert used(server, account) == "14.5"


def test_the_older_api_of_the_sdk_is_taken_too(server: Server) -> None:
    """Its headers are as the attributes are, without escapes."""
    event = OlderCloudEvent(
        attributes("older", "1", time="2026-11-01T10:30:00+01:00", datacontenttype="application/json"),
        {"duration": 90, "language": "cs"},
    )
    assert send(server, *to_structured(event))["accepted"] == 1
    assert send(server, *to_binary(event))["duplicate"] == 1
    assert used(server, "older") == "90"


def test_a_batch_of_what_the_sdk_writes_is_taken(server: Server) -> None:
    """Structured events in a list are the batch format."""
    events = [
        CloudEvent(attributes("batch", str(n), datacontenttype="application/json"), {"duration": n}) for n in range(10)
    ]
    body = b"[" + b",".join(to_structured_event(event).body for event in events) + b"]"
    counts = send(server, {"content-type": "application/cloudevents-batch+json; charset=UTF-8"}, body)
    assert counts["accepted"] == 10
    assert used(server, "batch") == "45"


@pytest.mark.parametrize("coding", [None, "gzip", "zstd"])
def test_a_chunked_body_is_taken_over_a_connection(server: Server, coding: str | None) -> None:
    """Without an announced length, in chunks that cut where they like, compressed or not."""
    account = f"chunked-{coding or 'plain'}"
    lines = [json.dumps({**attributes(account, str(n)), "data": {"duration": 1}}) for n in range(500)]
    body = "\n".join(lines).encode()
    compress: Any = {None: bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[coding]
    sent = compress(body)
    headers = {"Authorization": f"Bearer {OPERATOR}", "Content-Type": "application/x-ndjson; charset=utf-8"}
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    try:
        encoding = {} if coding is None else {"Content-Encoding": coding}
        pieces = (sent[n : n + 1000] for n in range(0, len(sent), 1000))
        connection.request("POST", "/v1/events", pieces, {**headers, **encoding}, encode_chunked=True)
        assert json.loads(connection.getresponse().read())["accepted"] == 500
    finally:
        connection.close()
    assert used(server, account) == "500"
