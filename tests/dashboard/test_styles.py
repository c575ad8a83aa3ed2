"""How a page looks is one file: whoever draws it early draws it without styles, never with half of them."""

from __future__ import annotations

from playwright.sync_api import Route

from tests.dashboard.conftest import Visit
from tests.dashboard.made import KEYS, MARCH

LOOK = "for (const each of document.querySelectorAll('*')) getComputedStyle(each).backgroundImage"


def test_no_rule_is_broken_while_styles_arrive(visit: Visit) -> None:
    """Pico's own pictures stand in its file, which the page's policy forbids; ours take their place at once."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    held: list[Route] = []
    visitor.page.route("**/*.css?*", lambda route: held.append(route))
    for path in ("/dashboard/vendors?vendor=phonexia", f"/dashboard/usage?{MARCH}", "/dashboard/limits"):
        visitor.page.goto(visitor.server.url + path, wait_until="commit")
        visitor.page.locator("main").wait_for(state="attached")
        assert held
        while held:
            held.pop(0).continue_()
            visitor.page.wait_for_timeout(100)
            visitor.page.evaluate(LOOK)
        visitor.page.wait_for_load_state()
        visitor.check()
