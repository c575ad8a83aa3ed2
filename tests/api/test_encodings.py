"""Compressed request bodies over HTTP: taken within the bounds, counted while they are held, refused in words."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from tests.api.client import Message, World, audio, run

MIB = 1024 * 1024


def zstd(content: bytes) -> bytes:
    """Compress into one zstd frame."""
    return zstandard.ZstdCompressor().compress(content)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd}
BOTH = pytest.mark.parametrize("coding", ["gzip", "zstd"])


def body(*ids: str) -> bytes:
    """Write a batch."""
    return json.dumps([audio(id) for id in ids]).encode()


async def post(world: World, content: bytes, coding: str, **options: Any) -> Any:
    """Send a body of plain JSON that is compressed already."""
    headers = {"content-type": "application/json", "content-encoding": coding, **options.pop("headers", {})}
    return await world.ask("POST", "/v1/events", content, headers=headers, **options)


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "zstd", "Zstd", "identity", ""])
def test_a_compressed_batch_is_taken(coding: str) -> None:
    """Sent again in another coding it is a duplicate: only what was compressed counts."""

    async def scenario(world: World) -> None:
        name = coding.lower().removeprefix("x-")
        answer = await post(world, COMPRESS.get(name, bytes)(body("a", "b")), coding)
        assert (answer.status, answer.json["accepted"]) == (200, 2)
        assert (await post(world, body("a", "b"), "identity")).json["duplicate"] == 2
        assert world.app.body_bytes == 0

    run(scenario)


@BOTH
def test_a_compressed_body_may_come_in_parts(coding: str) -> None:
    """Chunks of the connection need not be those of the coding, and its parts may follow each other."""

    async def scenario(world: World) -> None:
        first, second = body("a", "b")[:100], body("a", "b")[100:]
        sent = COMPRESS[coding](first) + COMPRESS[coding](second)
        parts: list[Message] = [
            {"type": "http.request", "body": sent[n : n + 7], "more_body": True} for n in range(0, len(sent), 7)
        ]
        parts.append({"type": "http.request", "body": b"", "more_body": False})
        headers = {"transfer-encoding": "chunked"}
        assert (await post(world, b"", coding, parts=parts, headers=headers)).json["accepted"] == 2

    run(scenario)


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, zstd", "gzip, gzip"])
def test_a_coding_that_is_not_taken_is_415_and_names_those_that_are(coding: str) -> None:
    """RFC 9110, 12.5.3: Accept-Encoding tells a client that it is the coding, and what it may send."""

    async def scenario(world: World) -> None:
        answer = await post(world, gzip.compress(body("a")), coding)
        assert (answer.status, answer.json["code"]) == (415, "media_type_unknown")
        assert answer.headers["accept-encoding"] == "gzip, zstd"
        assert "gzip or zstd" in answer.json["detail"]
        assert not world.app.catalog.accounts

    run(scenario)


def test_codings_in_two_headers_are_two_codings() -> None:
    """Two lines of one header are one list."""

    async def scenario(world: World) -> None:
        twice = [("content-encoding", "gzip"), ("content-encoding", "gzip")]
        answer = await world.ask("POST", "/v1/events", gzip.compress(gzip.compress(body("a"))), repeated=twice)
        assert answer.status == 415

    run(scenario)


def test_a_415_about_the_media_type_names_media_types_and_no_codings() -> None:
    """RFC 9110, 12.5.3: else the client would blame its coding."""

    async def scenario(world: World) -> None:
        answer = await post(world, gzip.compress(body("a")), "gzip", headers={"content-type": "text/plain"})
        assert answer.status == 415
        assert "accept-encoding" not in answer.headers
        assert "application/cloudevents+json" in answer.headers["accept"]
        charset = await post(world, body("a"), "", headers={"content-type": "application/json; charset=latin-1"})
        assert (charset.status, "accept-encoding" in charset.headers) == (415, False)
        assert "charset=utf-8" in charset.json["detail"]

    run(scenario)


@BOTH
@pytest.mark.parametrize("damage", ["cut", "garbage", "none of it", "nothing"])
def test_damaged_data_is_400_and_nothing_of_it_is_kept(coding: str, damage: str) -> None:
    """Also where all events could be read before the damage."""

    async def scenario(world: World) -> None:
        whole = COMPRESS[coding](body("a"))
        sent = {"cut": whole[:-1], "garbage": whole + b"x", "none of it": body("a"), "nothing": b""}[damage]
        answer = await post(world, sent, coding)
        assert (answer.status, answer.json["code"]) == (400, "body_undecodable")
        assert coding in answer.json["detail"]
        assert not world.app.catalog.accounts
        assert world.app.body_bytes == 0

    run(scenario)


def test_a_zstd_window_past_the_setting_is_400_and_names_it() -> None:
    """What has to be remembered while decoding is bounded."""

    async def scenario(world: World) -> None:
        sent = zstd(body(*[f"{n}" for n in range(1000)]))
        answer = await post(world, sent, "zstd")
        assert (answer.status, answer.json["code"]) == (400, "body_undecodable")
        assert "at most 65536 bytes" in answer.json["detail"]

    run(scenario, zstd_window_bytes_max=65536)


@BOTH
def test_the_bound_is_on_what_comes_out(coding: str) -> None:
    """A decoded body of exactly the bound is taken, one byte more is not."""

    async def scenario(world: World) -> None:
        bound = world.settings.batch_bytes_max
        assert (await post(world, COMPRESS[coding](body("a").ljust(bound)), coding)).json["accepted"] == 1
        answer = await post(world, COMPRESS[coding](body("b").ljust(bound + 1)), coding)
        assert (answer.status, answer.json["code"]) == (413, "batch_too_large")
        assert str(bound) in answer.json["detail"]
        assert world.app.body_bytes == 0

    run(scenario, batch_bytes_max=4096)


def test_data_that_does_not_compress_may_be_a_little_larger_than_the_bound() -> None:
    """The bound is on what comes out: what gzip puts around it is no reason to refuse it."""

    async def scenario(world: World) -> None:
        stored = gzip.compress(body("a").ljust(world.settings.batch_bytes_max), 0)
        assert len(stored) > world.settings.batch_bytes_max
        assert (await post(world, stored, "gzip")).json["accepted"] == 1

    run(scenario, batch_bytes_max=4096)


@BOTH
def test_parts_without_content_are_bounded_too(coding: str) -> None:
    """What goes in has its own bound, a little above: nothing may be sent for ever because nothing comes out."""

    async def scenario(world: World) -> None:
        answer = await post(world, COMPRESS[coding](b"") * 1000, coding)
        assert (answer.status, answer.json["code"]) == (413, "batch_too_large")

    run(scenario, batch_bytes_max=4096)


@BOTH
def test_a_bomb_is_refused_before_it_takes_memory(coding: str) -> None:
    """A gigabyte of spaces in a small body costs what is allowed, not what it would become."""

    async def scenario(world: World) -> None:
        part = COMPRESS[coding](b" " * 64 * MIB)
        bomb = part * 16
        tracemalloc.start()
        try:
            answer = await post(world, bomb, coding)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (answer.status, answer.json["code"]) == (413, "batch_too_large")
        assert peak < 8 * MIB
        assert world.app.body_bytes == 0

    run(scenario, batch_bytes_max=2 * MIB)


@BOTH
def test_what_is_decoded_counts_as_held(coding: str) -> None:
    """A body that is small as sent is not small once decoded: past what all may hold it is told to come again."""

    async def scenario(world: World) -> None:
        answer = await post(world, COMPRESS[coding](b" " * 3 * MIB), coding)
        assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
        assert world.app.body_bytes == 0
        assert (await post(world, COMPRESS[coding](body("a")), coding)).json["accepted"] == 1

    run(scenario, queue_bytes_max=2 * MIB)


@BOTH
def test_a_body_counts_as_held_until_it_is_answered(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While events wait for their commit only what was decoded is there, and counted."""

    async def scenario(world: World) -> None:
        seen: list[int] = []
        commit = world.ledger.commit

        async def watched(*given: Any, **named: Any) -> Any:
            seen.append(world.app.body_bytes)
            return await commit(*given, **named)

        monkeypatch.setattr(world.ledger, "commit", watched)
        content = body(*(f"{n}" for n in range(2000)))
        assert (await post(world, COMPRESS[coding](content), coding)).json["accepted"] == 2000
        assert seen
        assert set(seen) == {len(content)}
        assert world.app.body_bytes == 0

    run(scenario)


def test_documents_may_be_compressed_too() -> None:
    """Every body that is read is read in the same way."""

    async def scenario(world: World) -> None:
        sent = gzip.compress(b'{"kind":"org"}')
        answer = await world.ask("PUT", "/v1/accounts/acme", sent, headers={"content-encoding": "gzip"})
        assert answer.status in (200, 201)
        answer = await world.ask("PUT", "/v1/accounts/acme", sent, headers={"content-encoding": "br"})
        assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, zstd")

    run(scenario)
