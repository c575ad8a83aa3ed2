"""Pages without JavaScript: forms are sent by the browser, and lead to a page that says what was done."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Visit
from tests.dashboard.made import KEYS, MARCH
from tests.server import OPERATOR, Server


@pytest.fixture
def page(visit: Visit, server: Server) -> Page:
    """A browser without scripts, in which an operator has signed in."""
    page = visit(java_script_enabled=False).page
    page.goto(server.url)
    page.get_by_label("Key").fill(OPERATOR)
    page.get_by_role("button", name="Sign in").click()
    return page


def test_events_are_searched_by_verdict_and_paged(page: Page, server: Server) -> None:
    """What was refused is in the list with its reason, and the link behind the last row leads on."""
    server.disconnect()
    sent = {"id": "no-scripts", "source": "s", "type": "audio.processed", "account": "acme", "data": {"duration": -1}}
    assert server.ask("POST", "/v1/events", sent).status == 422
    page.goto(f"{server.url}/dashboard/events")
    expect(page.get_by_role("row", name="no-scripts")).to_contain_text("is never negative")
    page.get_by_label("Verdict").select_option("rejected")
    page.get_by_label("Id").fill("no-scripts")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".verdict")).to_have_text(["rejected"])
    page.goto(f"{server.url}/dashboard/events?verdict=accepted")
    page.get_by_role("link", name="Earlier ›").click()
    expect(page.locator("#tail-head")).to_have_text("Earlier ones")
    page.locator("tbody th a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Event ")


def test_limits_and_vendors_are_chosen(page: Page, server: Server) -> None:
    """By the button beside the fields."""
    page.goto(f"{server.url}/dashboard/limits")
    page.get_by_label("Account").select_option("acme")
    page.get_by_role("button", name="Show").click()
    assert "account=acme" in page.url
    page.goto(f"{server.url}/dashboard/vendors")
    for vendor in ("vblaze", "phonexia", "visii", "hiya", "Speechmatics"):
        page.get_by_role("link", name=vendor).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(vendor)
        page.get_by_label("Account").select_option("globex")
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(vendor)
        assert "account=globex" in page.url


def test_what_is_administered_is_made_changed_and_taken_away(page: Page, server: Server) -> None:
    """An account, a key that is shown once, a limit and a meter; then the key is revoked."""
    at = f"{server.url}/dashboard/administration"
    page.goto(f"{at}/accounts")
    page.get_by_label("Name").fill("plain")
    page.get_by_role("button", name="Put in force").click()
    expect(page.get_by_role("row", name="plain")).to_be_visible()
    page.goto(f"{at}/keys")
    page.get_by_label("Account").fill("plain")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator(".secret")).to_contain_text("tly_acct_")
    _limit(page, at, "plain-hours", "plain")
    expect(page.get_by_role("row", name="plain-hours")).to_contain_text("60")
    page.goto(f"{at}/meters")
    page.get_by_label("Name").fill("plain_calls")
    page.get_by_role("button", name="Put in force").click()
    expect(page.get_by_role("row", name="plain_calls")).to_be_visible()
    page.goto(f"{at}/keys")
    row = page.get_by_role("row", name="plain")
    row.get_by_text("Revoke", exact=True).click()
    row.get_by_role("button").last.click()
    expect(page.get_by_role("row", name="plain")).to_have_count(0)
    page.goto(f"{at}/audit")
    expect(page.get_by_role("row", name="key.delete").first).to_be_visible()


def test_what_is_there_is_changed_and_taken_away_without_scripts(page: Page, server: Server) -> None:
    """Members, a rate table, a grant, a key that another follows; a limit goes, and an account with keys does not."""
    at = f"{server.url}/dashboard/administration"
    for name, members in (("grace-plain", ""), ("team-plain", "grace-plain")):
        page.goto(f"{at}/accounts")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Kind").select_option("org" if members else "user")
        page.get_by_label("Members").fill(members)
        page.get_by_role("button", name="Put in force").click()
    expect(page.get_by_role("row", name="team-plain")).to_contain_text("grace-plain")
    page.goto(f"{at}/rates")
    page.get_by_label("Name").fill("plain_rates")
    page.get_by_role("button", name="Put in force").click()
    expect(page.get_by_role("row", name="plain_rates")).to_be_visible()
    _limit(page, at, "team-hours", "team-plain")
    form = page.locator("form.edit").last
    form.get_by_label("To limit").select_option("team-hours")
    for label, text in (("Id of the grant", "more"), ("Amount", "40"), ("From (UTC)", "2026-01-01")):
        form.get_by_label(label, exact=True).fill(text)
    form.get_by_role("button", name="Give it").click()
    expect(page.get_by_role("row", name="team-hours")).to_contain_text("40")
    page.goto(f"{at}/keys")
    page.get_by_label("Account").fill("team-plain")
    page.get_by_role("button", name="Make it").click()
    page.goto(f"{at}/keys")
    row = page.get_by_role("row", name="team-plain")
    row.get_by_text("Rotate", exact=True).click()
    row.locator("details[open]").get_by_role("button").click()
    expect(page.locator(".secret")).to_contain_text("tly_acct_")
    for path, name in (("limits", "team-hours"), ("accounts", "team-plain")):
        page.goto(f"{at}/{path}")
        row = page.get_by_role("row", name=name)
        row.get_by_text("Delete", exact=True).click()
        row.locator("details[open]").get_by_role("button").click()
    expect(page.locator("main")).to_contain_text("The account has keys.")
    page.goto(f"{at}/limits")
    expect(page.get_by_role("row", name="team-hours")).to_have_count(0)


def test_a_customer_chooses_filters_and_turns_pages(visit: Visit, server: Server) -> None:
    """Usage with a filter from the list, as a file, the month before, and the way out."""
    page = visit(java_script_enabled=False).page
    page.goto(f"{server.url}/dashboard/usage?{MARCH}&by=language&choose=1")
    page.get_by_label("Key").fill(KEYS["acme"])
    page.get_by_role("button", name="Sign in").click()
    page.locator("select[name='pick[language]']").select_option("=de")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_label("Filters in force")).to_contain_text("language: de")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename.endswith(".csv")
    page.get_by_role("link", name="Earlier").first.click()
    expect(page.locator("#empty")).to_contain_text("February 2026")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def _limit(page: Page, at: str, id: str, account: str) -> None:
    """Put a limit of 60 in force."""
    page.goto(f"{at}/limits")
    form = page.locator("form.edit").first
    for label, text in (("Id", id), ("Account", account), ("Amount", "60")):
        form.get_by_label(label, exact=True).fill(text)
    form.get_by_role("button", name="Put in force").click()
