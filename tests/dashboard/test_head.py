"""The usage page is sent in two parts: what a browser has to fetch goes ahead of what the server has to count."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.dashboard import client
from tests.api.client import World, audio
from tests.dashboard.person import Person, Play

PAGE = "/dashboard/usage?from=2026-11-01&through=2026-11-02"


async def parts_of(world: World, person: Person, target: str, method: str = "GET") -> list[bytes]:
    """Return what is sent of a page, part by part."""
    replies: list[dict[str, Any]] = []
    cookie = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    await world.ask(method, target, key=None, headers={"Cookie": cookie}, replies=replies)
    assert replies[0]["status"] == 200
    return [reply["body"] for reply in replies[1:] if reply["body"]]


def test_styles_and_scripts_go_ahead_and_the_page_follows_from_its_title_on(played: Play) -> None:
    """Nothing is there twice and nothing is missing; whoever asks for the head alone gets no page."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await world.ingest(audio("1"))
        await person.sign_in()
        head, rest = await parts_of(world, person, PAGE)
        for asset in (b"styles.css", b"htmx.min.js", b"echarts.common.min.js", b"chart.js"):
            assert asset in head
            assert asset not in rest
        assert b"<title>" not in head
        assert rest.startswith("<title>Usage of audio · tallystick</title>\n</head>\n<body>".encode())
        assert (head + rest).count(b"</head>") == (head + rest).count(b"</html>") == 1
        assert await parts_of(world, person, PAGE, "HEAD") == []

    played(scenario)


def test_what_is_refused_behind_the_head_is_said_in_the_rest(played: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is whole, and a key that was revoked meanwhile shows nothing more."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await world.ingest(audio("1"))
        await person.sign_in(world.keys["acme"])
        asked = client.Api.get

        async def revoked(api: client.Api, path: str, *more: Any, **others: Any) -> client.Answer:
            if path == "/v1/usage":
                await world.ledger.delete_key("key-acme", actor="test")
            return await asked(api, path, *more, **others)

        monkeypatch.setattr(client.Api, "get", revoked)
        page = (await person.get(PAGE)).body.decode()
        assert page.count("</head>") == page.count("</html>") == 1
        assert "unknown, revoked or expired" in page
        assert "data-chart" not in page
        assert (await person.get(PAGE)).status == 303

    played(scenario)


def test_the_chart_of_many_accounts_waits_for_nothing_but_its_numbers(
    played: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the filters may be set to is asked for when they are opened, and then in full."""
    queries: list[str] = []
    exchange = client.exchange

    async def noted(ask: client.Asgi, method: str, path: str, query: str, *more: Any) -> client.Answer:
        queries.append(f"{path}?{query}")
        return await exchange(ask, method, path, query, *more)

    monkeypatch.setattr(client, "exchange", noted)

    async def scenario(world: World, person: Person) -> None:
        for account in ("acme", "globex"):
            await world.account(account)
            await world.ingest(audio("1", account, model=f"{account}-model"))
        await person.sign_in()
        queries.clear()
        page = (await person.get(PAGE)).body.decode()
        assert len([query for query in queries if query.startswith("/v1/usage?")]) == 3
        assert not any("%2C" in query for query in queries)
        assert "globex-model" not in page
        chosen = (await person.get(PAGE.replace("usage?", "usage/choices?"))).body.decode()
        assert "globex-model" in chosen
        assert "<html" not in chosen
        assert "globex-model" in (await person.get(f"{PAGE}&choose=1")).body.decode()

    played(scenario)
