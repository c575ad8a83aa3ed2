"""One body in every format and coding: the receipts are the same, and those of judging each event by itself."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.errors import Problem
from tallystick.ingest import accept, decode, prepare
from tallystick.ingest.validate import validate
from tallystick.model import Caller, Scope, Verdict
from tallystick.settings import Settings
from tests.api.client import OPERATOR, World, audio
from tests.ingest.test_prepare import NOW, raw_events

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PLAIN = "application/json"
LINES = "application/x-ndjson"

SETTINGS = Settings(operator_key=OPERATOR, event_bytes_max=2_000, text_length_max=16)
COMPRESS: dict[str, Any] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}

Receipts = list[dict[str, Any]]


def may_stand_in_a_list(raw: bytes) -> bool:
    """Say whether a list that holds this text is JSON, and a line that holds it one line."""
    try:
        found = decode.decode(b"[" + raw + b"]", BATCH, {})
    except Problem:
        return False
    return list(found.raws) == [raw.strip()] and b"\n" not in raw


async def receipts_of(world: World, body: bytes, content_type: str, coding: str, key: str, **ce: str) -> Receipts:
    """Send a body and return every receipt."""
    headers = {"content-type": content_type, "content-encoding": coding, **ce}
    answer = await world.ask("POST", "/v1/events?receipts=all", COMPRESS[coding](body), key=key, headers=headers)
    assert answer.status in (200, 207, 403, 409, 413, 422), answer.body
    receipts: Receipts = answer.json["receipts"]
    for status in ("accepted", "duplicate", "conflict", "rejected"):
        assert answer.json[status] == sum(receipt["status"] == status for receipt in receipts)
    return receipts


async def together(world: World, raws: Sequence[bytes], content_type: str, coding: str, key: str) -> Receipts:
    """Send events in one body."""
    body = b"\n".join(raws) if content_type == LINES else b"[" + b",".join(raws) + b"]"
    return await receipts_of(world, body, content_type, coding, key)


async def one_by_one(world: World, raws: Sequence[bytes], content_type: str, coding: str, key: str) -> Receipts:
    """Send each event in a body of its own."""
    found: Receipts = []
    for index, raw in enumerate(raws):
        (receipt,) = await receipts_of(world, raw, content_type, coding, key)
        found.append({**receipt, "index": index})
    return found


async def in_small_parts(world: World, raws: Sequence[bytes], content_type: str, coding: str, key: str) -> Receipts:
    """Send events in one body that is prepared and kept as a very large one is: beside the loop, in parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accept, "INLINE_BYTES", 0)
        patch.setattr(accept, "PART_BYTES", 500)
        patch.setattr(prepare, "PIECE_BYTES", 200)
        return await together(world, raws, content_type, coding, key)


WAYS = {
    True: ((together, PLAIN), (together, LINES), (one_by_one, LINES), (in_small_parts, PLAIN)),
    False: ((together, BATCH), (one_by_one, STRUCTURED), (in_small_parts, BATCH)),
}
"""How events can be sent, by whether a specversion may be missing."""


async def world_of_acme() -> World:
    """Make a world with one account that has a key."""
    world = World(SETTINGS, now=NOW)
    await world.account("acme")
    return world


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(raw_events().filter(may_stand_in_a_list), min_size=1, max_size=8),
    st.sampled_from(["operator", "acme"]),
    st.booleans(),
    st.booleans(),
)
def test_every_format_and_coding_gives_the_same_receipts(
    raws: list[bytes], key: str, plain: bool, is_one_id: bool
) -> None:
    """Together, one by one, in lines or in parts, compressed or not; and each refusal is the one of the exact path."""
    if is_one_id:
        raws = [re.sub(rb'"id":"[0-9]+"', b'"id":"1"', raw) for raw in [*raws, raws[0]]]

    async def scenario() -> None:
        judged = await exactly(raws, key, plain)
        seen: Receipts | None = None
        for number, (way, content_type) in enumerate(WAYS[plain]):
            for coding in COMPRESS if number == 0 else [list(COMPRESS)[number % 3]]:
                found = await way(await world_of_acme(), raws, content_type, coding, key)
                seen = found if seen is None else seen
                assert found == seen, (way.__name__, content_type, coding)
        assert seen is not None
        for receipt, exact in zip(seen, judged, strict=True):
            assert receipt["status"] == "conflict" or said_of(receipt) == exact

    asyncio.run(scenario())


async def exactly(raws: Sequence[bytes], key: str, plain: bool) -> list[Any]:
    """Judge each event by itself: a refusal's code, pointer and words, or whether it is metered."""
    world = await world_of_acme()
    caller = Caller("k", None if key == "operator" else "acme", frozenset(Scope))
    found: list[Any] = []
    for raw in raws:
        judged = validate(raw, plain=plain, caller=caller, catalog=world.app.catalog, settings=SETTINGS, now=NOW)
        if isinstance(judged, Verdict):
            found.append((judged.code, judged.pointer, judged.detail))
        else:
            found.append(bool(judged.postings or judged.change))
    return found


def said_of(receipt: Mapping[str, Any]) -> Any:
    """Return of a receipt what does not depend on the events before it."""
    if receipt["status"] == "rejected":
        return receipt["code"], receipt["pointer"], receipt["detail"]
    return receipt["metered"]


def as_headers(raw: bytes) -> tuple[bytes, dict[str, str]] | None:
    """Write an event in binary mode; None for one whose attributes are not all text, or that is not UTF-8."""
    try:
        raw.decode("utf-8")
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        data = bytes(members.pop("data", msgspec.Raw(b"")))
        attributes = {name: msgspec.json.decode(value, type=str | None) for name, value in members.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if attributes.get("data_base64") is not None:
        return None
    return data, {f"ce-{name}": quote(value) for name, value in attributes.items() if value is not None}


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(raw_events().filter(may_stand_in_a_list), st.sampled_from(["operator", "acme"]))
def test_binary_mode_gives_the_receipt_of_structured_mode(raw: bytes, key: str) -> None:
    """Attributes in headers and data in the body are judged as in one document, and are the same content."""
    sent = as_headers(raw)
    if sent is None or len(raw) > SETTINGS.event_bytes_max - 200:
        return
    body, headers = sent

    async def scenario() -> None:
        world = await world_of_acme()
        (structured,) = await receipts_of(world, raw, STRUCTURED, "identity", key)
        (binary,) = await receipts_of(await world_of_acme(), body, PLAIN, "gzip", key, **headers)
        assert binary == structured
        (again,) = await receipts_of(world, body, PLAIN, "zstd", key, **headers)
        assert again["status"] == ("rejected" if structured["status"] == "rejected" else "duplicate")

    if headers:
        asyncio.run(scenario())


def test_the_receipts_compared_above_are_of_every_kind() -> None:
    """Else the comparison would compare nothing: accepted, duplicate, conflict and rejected all come up."""

    async def scenario() -> None:
        first, other = audio("1"), audio("1", seconds="61")
        raws = [json.dumps(event).encode() for event in (first, first, other, audio("2", seconds="-1"))]
        for way, content_type in WAYS[True]:
            found = await way(await world_of_acme(), raws, content_type, "gzip", "operator")
            assert [receipt["status"] for receipt in found] == ["accepted", "duplicate", "conflict", "rejected"]

    asyncio.run(scenario())
