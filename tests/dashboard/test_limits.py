"""The limits page: each limit in a word, a bar and exact numbers; what is held; nobody else's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tallystick import windows
from tallystick.dashboard import limits
from tests.dashboard.conftest import Visit
from tests.dashboard.made import CANARY, KEYS, audio, send
from tests.server import Server

PAGE = "/dashboard/limits"
NOW = windows.parse_instant("2026-03-11T00:00:00Z")


def limit(used: str, capacity: str = "100", held: str = "0", policy: str = "reject") -> dict[str, Any]:
    """Return a limit of March as the API shows it."""
    left = max(Decimal(capacity) - Decimal(used) - Decimal(held), Decimal(0))
    return {
        "used": used,
        "capacity": capacity,
        "held": held,
        "remaining": str(left),
        "policy": policy,
        "period": "month",
        "timezone": "UTC",
        "anchor": None,
        "resets_at": "2026-04-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("shown", "word"),
    [
        (limit("79.9"), "fine"),
        (limit("70", held="10"), "near"),
        (limit("90", held="10"), "full"),
        (limit("100"), "full"),
        (limit("100.000001"), "over"),
        (limit("0", capacity="0"), "full"),
        (limit("500", policy="allow"), "unlimited"),
    ],
)
def test_a_limit_stands_in_a_word(shown: dict[str, Any], word: str) -> None:
    """Fine, near, full, over or unlimited, decided on exact numbers; held counts, what is passed is passed by use."""
    assert limits.state_of(shown) == word


@pytest.mark.parametrize(
    ("used", "said"),
    # Ten days of March are over: what lasts for twenty more resets before it is used up.
    [("50", "2026-03-21 00:00"), ("32", ""), ("0", ""), ("100", "")],
)
def test_it_is_said_when_a_limit_will_be_used_up(used: str, said: str) -> None:
    """At the pace of the period so far, and only if that is before the limit resets."""
    assert limits._exhausted(limit(used), NOW) == said


def define(server: Server) -> None:
    """Make limits and holds, twice over without harm."""
    server.disconnect()
    month = {"meter": "audio", "period": "total"}
    wanted: dict[str, dict[str, Any]] = {
        "acme-low": {"account": "acme", "amount": "10", **month},
        "acme-open": {"account": "acme", "amount": "10", "policy": "allow", **month},
        "acme-german": {"account": "acme", "amount": "900000", "where": {"language": "de"}, **month},
        f"{CANARY}-limit": {"account": "globex", "amount": "100", **month},
    }
    for id, document in wanted.items():
        assert server.ask("PUT", f"/v1/limits/{id}", document).status in (200, 201)
    for account, id in (("acme", "job-<b>bold</b>"), ("globex", f"{CANARY}-hold")):
        hold = {"id": id, "account": account, "meter": "audio", "labels": {"language": "x"}, "quantity": "2"}
        hold["mode"] = "normal"
        if account == "acme":
            hold |= {"meter": "tokens_in", "labels": {}}
        assert server.ask("POST", "/v1/holds", hold).status in (200, 201)


def card(page: Page, id: str) -> Any:
    """Return the card of a limit."""
    return page.locator(".limit").filter(has=page.get_by_role("heading", name=id, exact=True))


def test_limits_stand_as_the_api_says(visit: Visit, server: Server) -> None:
    """Used, capacity and remaining are the API's, to the last digit; states are words; holds have their age."""
    define(server)
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(PAGE)
    for id, word in (("acme-low", "over"), ("acme-open", "unlimited"), ("acme-german", "fine")):
        said = server.ask("GET", f"/v1/limits/{id}", key=KEYS["acme"]).json
        expect(card(page, id).locator(".state")).to_have_text(word)
        numbers = card(page, id).locator("dl data").evaluate_all("found => found.map(each => each.value)")
        assert numbers[:3] == [said["used"], said["held"], said["capacity"]]
        assert numbers[3] == (said["overage"] if said["overage"] != "0" else said["remaining"])
    expect(page.get_by_role("row", name="job-<b>bold</b>")).to_contain_text("tokens_in")
    assert page.locator("main b").count() == 0
    assert CANARY not in page.content()
    visitor.check()


def test_use_that_comes_in_is_seen_at_once(visit: Visit, server: Server) -> None:
    """The page is as exact as the API: what was acknowledged is in it."""
    define(server)
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    before = Decimal(card(visitor.open(PAGE), "acme-german").locator("dl data").first.get_attribute("value") or "")
    send(server, audio("late-german", "acme", 9, "0.25", language="de"))
    after = Decimal(card(visitor.open(PAGE), "acme-german").locator("dl data").first.get_attribute("value") or "")
    assert after - before == Decimal("0.25")


def test_an_operator_chooses_whose_limits(visit: Visit, server: Server) -> None:
    """All of them, or one account's; an account without limits is told how to get one."""
    define(server)
    visitor = visit()
    visitor.sign_in()
    page = visitor.open(PAGE)
    assert page.locator(".limit").count() == 4
    page.get_by_label("Account").select_option("globex")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**account=globex")
    assert page.locator(".limit").count() == 1
    expect(page.locator("table")).to_contain_text(f"{CANARY}-hold")
    server.ask("PUT", "/v1/accounts/bare", {"kind": "org"})
    page = visitor.open(f"{PAGE}?account=bare")
    expect(page.locator("#first-limit")).to_contain_text('"account": "bare"')
    visitor.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing_on_limits(visit: Visit, server: Server, scheme: str, width: int) -> None:
    """WCAG 2.2 AA, with limits and without."""
    define(server)
    visitor = visit(color_scheme=scheme, width=width)
    visitor.sign_in()
    for target in (PAGE, f"{PAGE}?account=nobody-{width}", f"{PAGE}?account=acme"):
        page = visitor.open(target)
        assert visitor.flaws() == [], target
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), target
    visitor.check()
