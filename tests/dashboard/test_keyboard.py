"""Every page with the keyboard alone: whatever can be used is reached by Tab, in order, and can be seen to be."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Visit, Visitor
from tests.dashboard.made import MARCH
from tests.server import OPERATOR, Server

PAGES = (
    f"/dashboard/usage?{MARCH}&by=language",
    f"/dashboard/usage?{MARCH}&by=language&filter[language]=de",
    "/dashboard/usage?from=2020-01-01&through=2020-01-31",
    "/dashboard/limits",
    "/dashboard/events?paused=1&id=spaced",
    "/dashboard/events/one?account=acme&source=asr&id=spaced",
    "/dashboard/vendors",
    *(f"/dashboard/administration/{noun}" for noun in ("accounts", "keys", "meters", "rates", "limits", "audit")),
    "/dashboard/nowhere",
)
WAITING = """() => {
  const usable = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
  const seen = (each) => each.checkVisibility({ visibilityProperty: true }) && !each.disabled;
  window.waiting = [...document.querySelectorAll(usable)].filter(seen);
  return window.waiting.length;
}"""
FOCUSED = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const style = getComputedStyle(at), box = at.getBoundingClientRect();
  const ring = (parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== "none") || style.boxShadow !== "none";
  return {
    place: window.waiting.indexOf(at), name: at.outerHTML.slice(0, 100), ring,
    seen: box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}"""
"""Where the focus is among all that waits for it; null where it has left the page."""


def tabbed(page: Page) -> set[int]:
    """Press Tab from the top to the end; return the places that had the focus, each of which could be seen."""
    count, reached, last = page.evaluate(WAITING), list[int](), -1
    # A field of a date takes several presses.
    for _ in range(count * 2 + 20):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at is None or at["place"] < last:
            break
        assert at["seen"], at
        assert at["ring"], at
        reached.append(at["place"])
        last = at["place"]
    assert reached == sorted(reached)
    # One of several radio buttons stands for all.
    radios = page.evaluate("waiting.flatMap((each, at) => each.type === 'radio' && !each.checked ? [at] : [])")
    return set(range(count)) - set(reached) - set(radios)


@pytest.mark.parametrize("width", [320, 1280])
def test_everything_is_reached_by_tab_in_the_order_of_the_page(visit: Visit, width: int) -> None:
    """With a ring around it, within the window, from the link that skips the navigation to the last one."""
    visitor = visit(width=width)
    visitor.sign_in()
    for target in PAGES:
        page = visitor.open(target)
        assert tabbed(page) == set(), target
    visitor.check()


def test_the_first_tab_skips_the_navigation(visit: Visit) -> None:
    """It shows the link; Enter leads behind the navigation, where the next Tab goes on."""
    visitor = visit()
    visitor.sign_in()
    page = visitor.open(PAGES[4])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
    page.keyboard.press("Enter")
    expect(page.locator(":focus")).to_have_attribute("id", "main")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    visitor.check()


def test_one_signs_in_chooses_and_signs_out_without_a_mouse(visit: Visit, server: Server) -> None:
    """Typing, Tab, Enter and arrows are enough: a key, a grouping, an opened filter, the way out."""
    visitor = visit()
    page = visitor.page
    page.goto(f"{server.url}/dashboard/usage?{MARCH}&by=language")
    page.keyboard.type(OPERATOR)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/usage?**")
    visitor.settled()
    to(visitor, "#by")
    page.keyboard.press("ArrowDown")
    page.wait_for_url(lambda url: "by=language" not in url)
    visitor.settled()
    to(visitor, ".filters summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#choices select")
    to(visitor, "#choices select")
    to(visitor, ".who button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/sign-in")
    visitor.check()


def to(visitor: Visitor, selector: str) -> None:
    """Press Tab until something that is so has the focus."""
    for _ in range(150):
        if visitor.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        visitor.page.keyboard.press("Tab")
    pytest.fail(f"Tab never reaches {selector}")
