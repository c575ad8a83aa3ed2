"""The events page: live, searched, and one event's whole story; harmless, and nobody else's."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import Visit
from tests.dashboard.made import CANARY, HOSTILE, KEYS, audio, send, written
from tests.server import Server

PAGE = "/dashboard/events"


def test_new_events_come_in_by_themselves_until_paused(visit: Visit, server: Server) -> None:
    """What is acknowledged appears without a reload, with its verdict and what it fed; a paused page stands still."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(PAGE)
    server.disconnect()
    send(server, audio("live-1", "acme", 20, "1234.5"))
    row = page.get_by_role("row", name="live-1")
    expect(row).to_contain_text("accepted")
    expect(row).to_contain_text("audio +1,234.5")
    page.get_by_role("link", name="Pause").click()
    page.wait_for_url("**paused=1")
    send(server, audio("live-2", "acme", 20, "1"))
    page.wait_for_timeout(3000)
    expect(page.get_by_role("row", name="live-2")).to_have_count(0)
    page.get_by_role("link", name="Go on by itself").click()
    expect(page.get_by_role("row", name="live-2")).to_be_visible()
    visitor.check()


def test_what_is_refused_comes_in_live_with_its_reason(visit: Visit, server: Server) -> None:
    """Between what is kept; the id of a duplicate leads to all that came under it. Another customer sees nothing."""
    visitor, other = visit(), visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(PAGE)
    other.sign_in(KEYS["globex"])
    server.disconnect()
    events = [
        audio("e-1-1", "acme", 4, "1"),
        audio("refused-live", "acme", 4, "-5"),
        audio("kept-live", "acme", 4, "5"),
    ]
    headers = {"Content-Type": "application/json"}
    answer = server.ask("POST", "/v1/events", written(events).encode(), key=KEYS["acme"], headers=headers)
    assert (answer.status, answer.json["conflict"], answer.json["rejected"]) == (207, 1, 1)
    expect(page.get_by_role("row", name="refused-live")).to_contain_text("rejected")
    expect(page.get_by_role("row", name="refused-live")).to_contain_text("`data.duration` is never negative")
    expect(page.get_by_role("row", name="kept-live")).to_contain_text("accepted")
    page.get_by_role("row", name="e-1-1").get_by_role("link", name="e-1-1").click()
    page.wait_for_url("**id=e-1-1**")
    assert page.locator(".verdict").all_inner_texts() == ["conflict", "accepted"]
    assert "refused-live" not in other.open(PAGE).content()
    visitor.check()


def test_a_live_page_says_that_its_session_is_over(visit: Visit) -> None:
    """Instead of standing still; the link leads to the form and from there back, and nothing is asked any more."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(PAGE)
    visitor.context.clear_cookies()
    expect(page.get_by_role("alert")).to_contain_text("You are signed out")
    expect(page.locator("tbody tr")).to_have_count(0)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert asked == []
    page.get_by_role("link", name="Sign in again").click()
    page.get_by_label("Key").fill(KEYS["acme"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**{PAGE}")
    visitor.check()


def test_events_are_searched_and_paged(visit: Visit) -> None:
    """By id, space and type, in the address; earlier pages follow, and none shows an event of another customer."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(PAGE)
    page.get_by_label("Id").fill("spaced")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**id=spaced**")
    assert page.locator("tbody tr").count() == 1
    page = visitor.open(f"{PAGE}?space=lab")
    assert page.locator("tbody tr").count() == 1
    page = visitor.open(f"{PAGE}?id=nothing-like-it")
    expect(page.locator("#tail")).to_contain_text("No event is like this")
    page = visitor.open(f"{PAGE}?paused=1&verdict=accepted")
    seen = set[str]()
    while True:
        assert CANARY not in page.content()
        ids = page.locator("tbody th a").all_inner_texts()
        assert not seen & set(ids)
        seen |= set(ids)
        if not page.get_by_role("link", name="Earlier ›").count():
            break
        page.get_by_role("link", name="Earlier ›").click()
        page.wait_for_load_state()
    assert len(seen) > 200
    visitor.check()


def test_an_event_tells_its_whole_story(visit: Visit, server: Server) -> None:
    """What was sent digit by digit, its receipt, each meter that it moved as it stands now, and its hold."""
    server.disconnect()
    hold = {"id": "story-hold", "account": "acme", "meter": "audio", "labels": {"language": "en"}, "quantity": "60"}
    assert server.ask("POST", "/v1/holds", hold).status in (200, 201)
    event = {**audio("story", "acme", 30, "12.50"), "time": "2026-03-30T01:00:00Z"}
    sent = {"Content-Type": "application/json"}
    settle = server.ask("POST", "/v1/holds/story-hold/settle?account=acme", written(event).encode(), headers=sent)
    assert settle.status in (200, 409), settle.body
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?id=story")
    page.get_by_role("link", name="story").click()
    page.wait_for_url("**/events/one?**")
    expect(page.locator("main")).to_contain_text("accepted, counted")
    expect(page.locator("main")).to_contain_text("story-hold")
    expect(page.locator("#raw")).to_contain_text('"duration": 12.50')
    moved = page.locator("section", has_text="What it moved").locator("tbody tr").first
    added = moved.locator("data").first.get_attribute("value")
    day = moved.locator("data").nth(1).get_attribute("value")
    assert added == "12.5"
    moved.get_by_role("link", name="audio").click()
    page.wait_for_url("**/usage?**")
    expect(page.locator("#total data")).to_have_attribute("value", str(day))
    visitor.check()


def test_what_is_foreign_and_what_is_missing_look_the_same(visit: Visit) -> None:
    """Another customer's event is no event: the page for it is the page for one that never was."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    shown = []
    for account, id in (("globex", f"{CANARY}-1"), ("nobody", "nothing")):
        page = visitor.open(f"{PAGE}/one?{urlencode({'account': account, 'source': 'asr', 'id': id})}")
        shown.append(re.sub(r"[0-9a-f]{32}", "", page.locator("main").inner_text()))
        assert CANARY not in page.content().replace(f"id={CANARY}-1", "")
    assert shown[0] == shown[1]
    page = visitor.open(f"{PAGE}/one?account=acme&source=asr&id=nothing")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is here")


def test_hostile_events_are_text_and_nothing_else(visit: Visit, server: Server) -> None:
    """Ids, sources, types and data that would like to be more are shown as they are, in the list and alone."""
    server.disconnect()
    made: list[dict[str, Any]] = [
        {**audio(f"{text}-{at}"[-256:], "acme", 9, "1", model=text), "source": text, "space": f"s{at}"}
        for at, text in enumerate(HOSTILE)
    ]
    send(server, *made)
    visitor = visit()
    visitor.page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    visitor.sign_in(KEYS["acme"])
    for event in made:
        identity = {name: event[name] for name in ("account", "source", "id")}
        page = visitor.open(f"{PAGE}/one?{urlencode(identity)}")
        assert page.locator("h1").text_content() == f"Event {event['id']}"
    page = visitor.open(PAGE)
    assert page.locator("main script, main img, main svg[onload]").count() == 0
    visitor.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_events(visit: Visit, scheme: str) -> None:
    """WCAG 2.2 AA for the list, an empty search and one event, on a phone and on a desk."""
    for width in (320, 1280):
        visitor = visit(color_scheme=scheme, width=width)
        visitor.sign_in(KEYS["acme"])
        for target in (f"{PAGE}?id=e-1-1", f"{PAGE}?id=none", f"{PAGE}/one?account=acme&source=asr&id=spaced"):
            page = visitor.open(target)
            assert visitor.flaws() == [], target
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), target
        visitor.check()
