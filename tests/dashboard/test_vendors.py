"""The vendor views: just what the vendor's path answers, beside the request that gets it."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from playwright.sync_api import expect

from tallystick.dashboard.vendors import VIEWS
from tests.dashboard.conftest import Visit
from tests.dashboard.made import CANARY, KEYS, MARCH
from tests.server import Server

PAGE = "/dashboard/vendors"


def steady(text: str) -> str:
    """Return an answer without its layout, and without what every request has of its own: an id, and the second."""
    return re.sub(r"\s|[0-9a-f]{32}|T\d\d:\d\d:\d\dZ", "", text)


@pytest.mark.parametrize("vendor", VIEWS)
def test_a_view_is_what_its_request_is_answered(visit: Visit, server: Server, vendor: str) -> None:
    """The request that is shown, sent with the key in its place, gives the answer that is shown."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?vendor={vendor}&{MARCH}&space=lab")
    words = shlex.split(page.locator("#curl").inner_text().replace("\\\n", " "))
    header, target = words[words.index("-H") + 1], words[-1]
    assert header in ("Authorization: Bearer $KEY", "Authorization: token $KEY")
    server.disconnect()
    sent = {"Authorization": header.partition(": ")[2].replace("$KEY", KEYS["acme"])}
    answer = server.ask("GET", target.removeprefix(server.url), key=None, headers=sent)
    shown = page.locator("#answer").inner_text()
    assert steady(shown) == steady(answer.body.decode())
    assert json.loads(shown).keys() == answer.json.keys()
    expect(page.locator("#answered")).to_contain_text(str(answer.status))
    visitor.check()


def test_a_customer_sees_no_other_in_any_view(visit: Visit) -> None:
    """Asked for another account every view answers as the vendor's path does, with nothing of it."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    for vendor in VIEWS:
        page = visitor.open(f"{PAGE}?vendor={vendor}&{MARCH}&space=x&account=globex")
        assert CANARY not in page.content()
        expect(page.locator("#answered")).to_have_text(re.compile("40[034]"))
    visitor.check()


def test_what_is_missing_is_asked_for(visit: Visit, server: Server) -> None:
    """hiya's view needs a space; an unknown vendor is no page."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?vendor=hiya")
    expect(page.locator("main")).to_contain_text("Name a space")
    page.get_by_label("Space").fill("<b>none</b>")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**space=**")
    expect(page.locator("#answered")).to_contain_text("404")
    assert page.locator("main b").count() == 0
    page = visitor.open(f"{PAGE}?vendor=acme")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is here")
    visitor.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_vendor_views(visit: Visit, scheme: str) -> None:
    """WCAG 2.2 AA, with an answer, with a refusal and with a flaw, on a phone and on a desk."""
    for width in (320, 1280):
        visitor = visit(color_scheme=scheme, width=width)
        visitor.sign_in(KEYS["acme"])
        for more in ("", "vendor=visii&account=globex", "from=x&through=2026-01-01", "vendor=hiya"):
            page = visitor.open(f"{PAGE}?{more}")
            assert visitor.flaws() == [], more
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), more
        visitor.check()
