"""The usage page in a browser: one number everywhere, all of it in the address, nobody else's, and harmless."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard import made
from tests.dashboard.conftest import Visit
from tests.dashboard.made import CANARY, KEYS, MARCH
from tests.server import Server

PAGE = "/dashboard/usage"


def value(page: Page, selector: str) -> Decimal:
    """Return the exact number that an element shows."""
    text = page.locator(f"{selector} data").first.get_attribute("value")
    assert text is not None
    return Decimal(text)


def rows(page: Page) -> list[list[str]]:
    """Return the cells of the exact table as they read, numbers exactly."""
    found: list[list[str]] = page.eval_on_selector_all(
        ".exact tbody tr",
        """found => found.map(row => [...row.cells].map(
            cell => cell.querySelector("data")?.value ?? cell.textContent.trim()))""",
    )
    return found


def all_rows(page: Page) -> list[list[str]]:
    """Return the rows of every page of the table."""
    found = rows(page)
    while page.get_by_role("link", name="Next ›").count():
        page.get_by_role("link", name="Next ›").click()
        page.wait_for_load_state()
        found += rows(page)
    return found


def linked(page: Page, name: str) -> str:
    """Return what a link of the page leads to, as text."""
    with page.expect_download() as download:
        page.get_by_role("link", name=name).click()
    return download.value.path().read_bytes().decode()


def usage(server: Server, key: str, **query: str) -> Any:
    """Ask the API."""
    pairs = {"meter": "audio", "from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z", **query}
    server.disconnect()
    answer = server.ask("GET", f"/v1/usage?{urlencode(pairs)}", key=key)
    assert answer.status == 200, answer.body
    return answer.json


def test_headline_table_csv_json_and_api_are_one_number(visit: Visit, server: Server) -> None:
    """Total, sum of the rows, the sheet and the API agree to the last digit, and so do the rows themselves."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?{MARCH}&by=language")
    said = usage(server, KEYS["acme"], window="day", group_by="language")
    total = Decimal(said["total"]["quantity"])
    assert value(page, "#total") == value(page, "#table-total") == total
    parts = page.eval_on_selector_all(".legend data", "found => found.map(each => each.value)")
    assert sum(map(Decimal, parts)) == total
    sheet = linked(page, "CSV")
    lines = list(csv.reader(io.StringIO(sheet)))
    shown = all_rows(page)
    told = [[row["from"][:10], row["labels"]["language"], row["quantity"], str(row["count"])] for row in said["rows"]]
    assert shown == told
    assert [[line[0][:10], line[2], line[4], line[3]] for line in lines[1:]] == told
    assert json.loads(linked(page, "JSON"))["rows"] == said["rows"]
    assert sum(Decimal(row[2]) for row in shown) == total
    visitor.check()


def test_the_request_shown_for_curl_is_the_one(visit: Visit, server: Server) -> None:
    """Its parameters, sent to the API, give the page's total."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?{MARCH}&by=language&tz=Asia/Kathmandu&filter[language]=de&filter[language]=fr")
    page.get_by_text("Ask for this with curl").click()
    text = page.locator("#curl").inner_text()
    assert KEYS["acme"] not in text
    words = shlex.split(text.replace("\\\n", " "))
    pairs = [word.partition("=") for before, word in pairwise(words) if before == "--data-urlencode"]
    server.disconnect()
    answer = server.ask("GET", f"/v1/usage?{urlencode([(name, said) for name, _, said in pairs])}", key=KEYS["acme"])
    assert Decimal(answer.json["total"]["quantity"]) == value(page, "#total")
    page.get_by_role("button", name="Copy").last.click()
    expect(page.get_by_role("button", name=re.compile("Copied|Selected"))).to_be_visible()
    visitor.check()


def test_every_choice_is_in_the_address_and_back_undoes_it(visit: Visit) -> None:
    """Choosing changes the address; a window of its own shows the same for it, and the back button what was before."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?{MARCH}")
    before, start = value(page, "#total"), page.url
    page.locator("#by").select_option("language")
    page.wait_for_url("**by=language**")
    page.locator(".controls summary").click()
    page.locator("select[name='pick[language]']").select_option("=de")
    page.wait_for_url("**filter[language]=de**")
    expect(page.locator(".chips")).to_contain_text("language: de")
    visitor.settled()
    narrowed = value(page, "#total")
    assert 0 < narrowed < before
    assert dict(parse_qsl(urlsplit(page.url).query)) == {
        "meter": "audio",
        "by": "language",
        "filter[language]": "de",
        "from": "2026-03-01",
        "through": "2026-03-31",
    }
    other = visit()
    other.sign_in(KEYS["acme"])
    assert value(other.open(page.url.removeprefix(visitor.server.url)), "#total") == narrowed
    page.go_back()
    page.wait_for_url(lambda url: "by=language" in url and "filter" not in url)
    expect(page.locator("#total data")).to_have_attribute("value", str(before))
    page.go_back()
    page.wait_for_url(start)
    expect(page.get_by_label("Group by")).to_have_value("")
    visitor.check()


def test_days_are_chosen_by_preset_by_field_and_by_step(visit: Visit) -> None:
    """Presets stand in the address by name, own days as days; earlier and later move by whole months."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?{MARCH}")
    page.get_by_role("link", name="Earlier").click()
    page.wait_for_url("**from=2026-02-01&through=2026-02-28**")
    page.get_by_role("link", name="Later").click()
    page.wait_for_url("**from=2026-03-01&through=2026-03-31**")
    visitor.settled()
    page.locator("#from").fill("2026-03-05")
    page.locator("#from").blur()
    page.wait_for_url("**from=2026-03-05**")
    expect(page.locator(".lead .of")).to_have_text("5 March 2026 to 31 March 2026")
    page.get_by_role("link", name="Last month").click()
    page.wait_for_url("**period=last-month**")
    expect(page.get_by_role("link", name="Last month")).to_have_attribute("aria-current", "true")
    visitor.check()


def test_the_table_is_sorted_by_its_heads(visit: Visit) -> None:
    """A click sorts, a second one turns it round; numbers are sorted as numbers, over all pages of the table."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?{MARCH}&by=language")
    for descending in (False, True):
        page.locator(".exact thead").get_by_role("link", name="s", exact=True).click()
        page.wait_for_url("**sort=-quantity**" if descending else "**sort=quantity**")
        head = page.locator("th[aria-sort=descending]" if descending else "th[aria-sort=ascending]")
        expect(head).to_have_count(1)
        amounts = [Decimal(row[2]) for row in rows(page)]
        assert amounts == sorted(amounts, reverse=descending)
    visitor.check()


def test_a_customer_sees_nothing_of_another(visit: Visit) -> None:
    """Not on the page, not in what can be chosen, not in its files, not by asking for it."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    for target in ("", "&by=model", "&by=account", "&by=language&sort=label"):
        assert "globex" not in visitor.context.request.get(f"{visitor.server.url}{PAGE}.csv?{MARCH}{target}").text()
        text = visitor.open(f"{PAGE}?{MARCH}{target}").content()
        assert CANARY not in text
        assert "globex" not in text
    page = visitor.open(f"{PAGE}?{MARCH}&account=globex")
    expect(page.get_by_role("heading", level=1)).to_have_text("This key does not open that")
    assert CANARY not in page.content()
    visitor.check()
    theirs = visit()
    theirs.sign_in(KEYS["globex"])
    assert CANARY in theirs.open(f"{PAGE}?{MARCH}&by=language").content()


def test_it_works_without_scripts(visit: Visit, server: Server) -> None:
    """Signing in, choosing, filtering and signing out are forms; the numbers are in tables."""
    visitor = visit(java_script_enabled=False)
    page = visitor.page
    page.goto(server.url)
    page.get_by_label("Key").fill(KEYS["acme"])
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{server.url}{PAGE}?{MARCH}")
    page.locator("#by").select_option("language")
    page.locator("#window").select_option("week")
    page.locator(".controls summary").click()
    page.locator("select[name='pick[space]']").select_option("!")
    page.get_by_role("button", name="Show").click()
    query = parse_qsl(urlsplit(page.url).query, keep_blank_values=True)
    assert ("filter[space]", "") in query
    assert ("window", "week") in query
    said = usage(server, KEYS["acme"], **{"filter[space]": ""})
    assert value(page, "#total") == Decimal(said["total"]["quantity"])
    assert value(page, ".exact tfoot") == value(page, "#total")
    page.goto(f"{server.url}{PAGE}?{MARCH}&by=language")
    page.locator(".controls summary").click()
    page.get_by_role("link", name="Show what there is to choose from").click()
    page.locator("select[name='pick[language]']").select_option("=de")
    page.get_by_role("button", name="Show").click()
    assert "filter[language]=de" in page.url
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_what_cannot_be_used_is_said_beside_its_field(visit: Visit) -> None:
    """A zone, a range and a meter that are none are named, and the rest of the page is there."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?meter=nothing&tz=Mars/Base&from=2026-03-05&through=2026-03-01")
    for label, said in (("Time zone", "IANA"), ("Through", "before the first"), ("Meter", "no meter")):
        field = page.get_by_label(label)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(said))
    visitor.check()


def test_nothing_counted_says_what_to_do(visit: Visit, server: Server) -> None:
    """An empty stretch leads to the last one that is not; where there is nothing at all, curl sends the first event."""
    visitor = visit()
    visitor.sign_in(KEYS["acme"])
    page = visitor.open(f"{PAGE}?from=2020-01-01&through=2020-01-31")
    page.get_by_role("link", name="March 2026").click()
    page.wait_for_url("**from=2026-03-01**")
    page = visitor.open(f"{PAGE}?meter=tokens_in")
    text = page.locator("#first-event").inner_text()
    assert '"type": "model.request"' in text
    found = re.search(r"-d '(.*)'", text)
    assert found is not None
    assert json.loads(found[1])["account"] == "acme"
    visitor.check()


def test_hostile_labels_are_text_and_nothing_else(visit: Visit, server: Server) -> None:
    """Two hundred values that would like to be markup, script or style: shown as they are, on every way to see them."""
    values = made.hostile()
    server.disconnect()
    assert server.ask("PUT", "/v1/accounts/hostile", {"kind": "org"}).status == 201
    key = server.ask("POST", "/v1/keys", {"account": "hostile", "scopes": ["report", "limits"]}).json["key"]
    labels = enumerate(values)
    made.send(server, *(made.audio(f"h-{at}", "hostile", 1 + at % 28, "7", language=text) for at, text in labels))
    visitor = visit()
    visitor.page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    visitor.sign_in(key)
    for more in ("&show=running", "&sort=-label", ""):
        page = visitor.open(f"{PAGE}?{MARCH}&by=language{more}")
        page.locator(".chart").hover(position={"x": 200, "y": 150})
        expect(page.locator(".tip")).to_be_visible()
        visitor.check()
    assert {row[1] for row in all_rows(page)} == {text.strip() for text in values}
    page = visitor.open(f"{PAGE}?{urlencode([('filter[language]', text) for text in values[:40]])}&{MARCH}&by=language")
    assert page.locator(".chips li").count() == 40
    assert page.locator("main script, main img, main svg[onload]").count() == 0
    visitor.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing(visit: Visit, scheme: str, width: int) -> None:
    """WCAG 2.2 AA, on the form, the page, the empty page, flaws and an error, in both colour schemes."""
    visitor = visit(color_scheme=scheme, width=width, reduced_motion="reduce")
    visitor.page.goto(visitor.server.url)
    assert visitor.flaws() == []
    visitor.sign_in(KEYS["acme"])
    for target in targets():
        page = visitor.open(target)
        assert visitor.flaws() == [], target
        assert page.locator("h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), target
    visitor.check()


def targets() -> Sequence[str]:
    """Return what the page looks like in all its states."""
    return (
        f"{PAGE}?{MARCH}&by=language&filter[language]=de&filter[language]=en",
        f"{PAGE}?{MARCH}&by=language&show=running",
        f"{PAGE}?from=2020-01-01&through=2020-01-31&meter=tokens_in",
        f"{PAGE}?{MARCH}&tz=Mars&through=x",
        "/dashboard/nowhere",
    )
