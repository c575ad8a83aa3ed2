"""Sessions: a signed token stands for a key for an hour, and reads reports only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.model import Scope
from tests.api.client import HOUR, OPERATOR, Answer, World, audio, run

STATS = "/spaces/acme/room/stats"


async def log_in(world: World, handle: str, password: str, **more: str) -> Answer:
    """Ask for a session."""
    return await world.ask("POST", "/auth/credentials", {"handle": handle, "password": password, **more}, key=None)


async def begun(world: World) -> str:
    """Make an account with an audio in a space, and return a session of its key."""
    await world.account("acme")
    data = {"kind": "audio", "id": "a", "duration": 1}
    await world.ingest({**audio("1"), "type": "resource.upserted", "space": "room", "data": data})
    answer = await log_in(world, "key-acme", world.keys["acme"], remember="me")
    assert (answer.status, set(answer.json)) == (200, {"token"})
    return str(answer.json["token"])


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_session_reads_reports_and_nothing_else(tmp_path: Path, on_disk: bool) -> None:
    """It has the key's account and the scope report, though the key has every scope."""

    async def scenario(world: World) -> None:
        token = await begun(world)
        assert (await world.ask("GET", STATS, key=token)).status == 200
        assert (await world.ask("GET", "/v1/usage?meter=audio", key=token)).status == 200
        assert (await world.ask("GET", "/usage", key=token)).status == 200
        assert (await world.ask("GET", "/v1/keys", key=token)).status == 403
        assert (await world.ingest(audio("2"), key=token)).status == 403
        await world.account("globex")
        assert (await world.ask("GET", "/v1/usage?meter=audio&account=globex", key=token)).status == 403
        # It opens no other session.
        assert (await log_in(world, "key-acme", token)).status == 401

    run(scenario, folder=tmp_path / "data" if on_disk else None)


def test_a_session_ends_after_an_hour() -> None:
    """To the microsecond, by the clock of the process."""

    async def scenario(world: World) -> None:
        token = await begun(world)
        world.now += HOUR - 1
        assert (await world.ask("GET", STATS, key=token)).status == 200
        world.now += 1
        assert (await world.ask("GET", STATS, key=token)).status == 401

    run(scenario)


def test_a_session_ends_with_its_key() -> None:
    """Revoked or expired: the next request is refused, in the vendor's shape."""

    async def scenario(world: World) -> None:
        token = await begun(world)
        await world.key("brief", "acme", expires=world.now + HOUR // 2)
        brief = (await log_in(world, "key-brief", world.keys["brief"])).json["token"]
        await world.ledger.delete_key("key-acme", actor="test")
        refused = await world.ask("GET", STATS, key=token)
        assert (refused.status, refused.json["error"]["code"]) == (401, 401)
        assert refused.headers["www-authenticate"].startswith("Bearer ")
        assert (await world.ask("GET", STATS, key=brief)).status == 200
        world.now += HOUR // 2
        assert (await world.ask("GET", STATS, key=brief)).status == 401

    run(scenario)


def test_a_session_ends_with_the_process() -> None:
    """Another process has another secret: nothing that was signed before is taken."""

    async def scenario(world: World) -> None:
        token = await begun(world)
        world.app.session_secret = b"another"
        assert (await world.ask("GET", STATS, key=token)).status == 401

    run(scenario)


def test_a_session_cannot_be_made_or_changed_by_hand() -> None:
    """Another key, a later end or another signature: 401, without a word on which it was."""

    async def scenario(world: World) -> None:
        token = await begun(world)
        await world.account("globex")
        end = str(world.now + HOUR)
        bodies = set()
        for forged in (
            token.replace("key-acme", "key-globex"),
            token.replace("key-acme", "key-none"),
            token.replace("key-acme", "operator-key-setting"),
            token.replace(end, str(world.now + 2 * HOUR)),
            token.replace(end, "0" + end),
            token[:-1] + ("0" if token[-1] != "0" else "1"),
            token[:-1],
            "tly_session_",
        ):
            answer = await world.ask("GET", STATS, key=forged, headers={"x-request-id": "abcdef01"})
            assert answer.status == 401, forged
            bodies.add(answer.body)
        assert len(bodies) == 1

    run(scenario)


def test_wrong_credentials_look_alike() -> None:
    """An unknown handle, another key's, a wrong, mistyped or ended key: one and the same 401."""

    async def scenario(world: World) -> None:
        await begun(world)
        await world.account("globex")
        await world.key("ended", "acme", expires=world.now + 1)
        world.now += 1
        bodies = set()
        for handle, password in (
            ("key-none", world.keys["acme"]),
            ("key-globex", world.keys["acme"]),
            ("key-acme", world.keys["globex"]),
            ("key-acme", world.keys["acme"][:-1] + "-"),
            ("key-acme", ""),
            ("key-acmé", "žluť"),
            ("key-ended", world.keys["ended"]),
        ):
            answer = await log_in(world, handle, password)
            assert answer.status == 401
            assert "www-authenticate" in answer.headers
            bodies.add(answer.json["error"]["errors"][0]["message"])
        assert len(bodies) == 1

    run(scenario)


def test_a_key_that_reads_no_reports_opens_no_session() -> None:
    """A session gives no more than its key has."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("writer", "acme", Scope.INGEST)
        assert (await log_in(world, "key-writer", world.keys["writer"])).status == 403

    run(scenario)


def test_the_operators_keys_log_in_too() -> None:
    """The one from the settings by its fixed id; it still has to say which account it means."""

    async def scenario(world: World) -> None:
        await begun(world)
        token = (await log_in(world, "operator-key-setting", OPERATOR)).json["token"]
        assert (await world.ask("GET", STATS, key=token)).status == 200
        assert (await world.ask("GET", "/usage", key=token)).status == 400
        assert (await world.ask("GET", "/v1/keys", key=token)).status == 403

    run(scenario)


@pytest.mark.parametrize(
    ("body", "media_type", "status", "said"),
    [
        (b"{}", "application/json", 400, "handle is required"),
        (b'{"handle":1,"password":"x"}', "application/json", 400, "Expected `str`"),
        (b"[]", "application/json", 400, "Expected `object`"),
        (b"{", "application/json", 400, "one JSON object"),
        (b"handle=a&password=b", "application/x-www-form-urlencoded", 415, "application/json"),
    ],
)
def test_a_body_that_is_no_credentials_is_refused(body: bytes, media_type: str, status: int, said: str) -> None:
    """In the vendor's shape, with what to send instead."""

    async def scenario(world: World) -> None:
        answer = await world.ask("POST", "/auth/credentials", body, key=None, headers={"content-type": media_type})
        assert (answer.status, answer.json["error"]["code"]) == (status, status)
        assert said in answer.json["error"]["errors"][0]["message"]

    run(scenario)


def test_a_session_is_noted_as_a_use_of_its_key() -> None:
    """The listing of keys tells when it was last logged in with, and read with."""

    async def scenario(world: World) -> None:
        token = await begun(world)
        logged_in = world.now
        assert world.ledger.key_uses["key-acme"] == logged_in
        world.now += 60_000_000
        await world.ask("GET", STATS, key=token)
        assert world.ledger.key_uses["key-acme"] == logged_in + 60_000_000

    run(scenario)
