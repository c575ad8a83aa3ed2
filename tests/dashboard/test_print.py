"""Pages on paper: what is shown is all there and light, what only a screen can do is not."""

from __future__ import annotations

import pytest

from tests.dashboard import made
from tests.dashboard.conftest import Visit

PAGES = {
    "usage": f"/dashboard/usage?{made.MARCH}&account=acme&by=language",
    "limits": "/dashboard/limits",
    "events": "/dashboard/events?paused=1",
    "one event": "/dashboard/events/one?account=acme&source=asr&id=spaced",
    "vendors": f"/dashboard/vendors?account=acme&{made.MARCH}",
    "administration": "/dashboard/administration/limits",
}
SHOWN = """() => {
  const seen = (element) => element.checkVisibility() && element.getClientRects().length > 0;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
  const paper = document.documentElement.clientWidth;
  const light = (colour) => Math.min(...colour.match(/[0-9.]+/g).slice(0, 3).map(Number)) > 170;
  return {
    controls: all("nav[aria-label=Pages], .who, button, .presets, form.edit, .skip")
      .map((each) => each.outerHTML.slice(0, 80)),
    ground: getComputedStyle(document.body).backgroundColor,
    pale: all("h1, h2, p, th, td, dd, pre, label").filter((each) => light(getComputedStyle(each).color))
      .map((each) => each.textContent),
    cut: all("pre, .scroll, [data-chart], table").filter((each) =>
      (getComputedStyle(each).overflowY !== "visible" && each.scrollHeight > each.clientHeight + 1) ||
      each.getBoundingClientRect().right > paper + 1).map((each) => each.outerHTML.slice(0, 80)),
  };
}"""
A4 = 794 - 2 * 57
"""The width of the paper within its margins, in pixels."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_on_paper_is_light_and_whole(visit: Visit, name: str) -> None:
    """Without navigation, buttons and forms, dark on white though the screen is dark, and with nothing cut off."""
    visitor = visit(color_scheme="dark", width=A4)
    visitor.sign_in()
    page = visitor.open(PAGES[name])
    page.emulate_media(media="print")
    page.wait_for_timeout(100)
    assert page.evaluate(SHOWN) == {"controls": [], "ground": "rgb(255, 255, 255)", "pale": [], "cut": []}
    assert page.get_by_role("heading", level=1).is_visible()
    visitor.check()


def test_a_chart_on_paper_has_the_light_colours_and_the_screen_its_own_again(visit: Visit) -> None:
    """It is drawn anew for the paper and its width, and once more when that is done; a PDF of it can be made."""
    visitor = visit(color_scheme="dark")
    visitor.sign_in()
    page = visitor.open(PAGES["usage"])
    light, dark = "#0d7a68", "#45b9a2"
    has = """([colour, other]) => {
      const found = [...document.querySelectorAll("[data-chart] svg path")].map((each) => each.getAttribute("fill"));
      return found.includes(colour) && !found.includes(other);
    }"""
    page.wait_for_function(has, arg=[dark, light])
    page.emulate_media(media="print")
    page.wait_for_function(has, arg=[light, dark])
    page.emulate_media(media="screen")
    page.wait_for_function(has, arg=[dark, light])
    assert page.pdf(format="A4").startswith(b"%PDF-")
    visitor.check()


def test_what_is_on_paper_says_what_was_asked(visit: Visit) -> None:
    """Meter, account, days and filters stand there, and how many of the rows."""
    visitor = visit(width=A4)
    visitor.sign_in()
    page = visitor.open(PAGES["usage"] + "&filter[type]=transcription")
    page.emulate_media(media="print")
    for id, value in (("account", "acme"), ("from", "2026-03-01"), ("through", "2026-03-31")):
        field = page.locator(f"#{id}")
        assert field.is_visible()
        assert field.input_value() == value
    assert page.get_by_text("Rows 1 to 50 of").is_visible()
    assert page.get_by_label("Filters in force").get_by_text("transcription").is_visible()
