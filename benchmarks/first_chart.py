"""(s) How long somebody waits for the usage page: from asking for it until its chart is drawn, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import http
from tests.dashboard import browsers

DAYS = "from=2025-05-02&through=2025-06-01"
"""All days of the long run's traffic."""
PAGES: Mapping[str, str] = {
    "all accounts": f"/dashboard/usage?{DAYS}",
    "10,000 label sets": f"/dashboard/usage?{DAYS}&account=wide-10000",
}
"""What is looked at, by name."""
WARM_REPEATS = 8
WATCH = """
window.firstChart = new Promise((done) => {
  const watcher = new MutationObserver(() => {
    if (!document.querySelector("[data-chart] svg path")) return;
    watcher.disconnect();
    requestAnimationFrame(() => done(performance.now()));
  });
  watcher.observe(document, { childList: true, subtree: true });
});
"""
"""Tells when the first shapes of a chart are shown, in milliseconds since the page was asked for."""


@dataclass(slots=True)
class Waits:
    """Seconds until the first chart: in a new browser before a new server, and again in the same ones."""

    cold_s: list[float] = field(default_factory=list)
    warm_s: list[float] = field(default_factory=list)


def waited(page: Page, address: str) -> float:
    """Go to a page from an empty one and return the seconds until its chart is drawn."""
    page.goto("about:blank")
    page.goto(address)
    return float(page.evaluate("window.firstChart")) / 1000


@contextmanager
def signed_in(browser: Browser, url: str, key: str) -> Iterator[Page]:
    """Open a window that has nothing in its cache but what signing in takes."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(f"{url}/dashboard/sign-in?next=/dashboard/events?paused=1")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard/events?*")
    yield page
    context.close()


def measure(folder: Path, rounds: int, pages: Mapping[str, str] = PAGES, warm: int = WARM_REPEATS) -> dict[str, Waits]:
    """Serve a data folder anew for each page and round; return what somebody waited, by page."""
    found = {name: Waits() for name in pages}
    with sync_playwright() as playwright:
        for _ in range(rounds):
            for name, target in pages.items():
                browser = playwright.chromium.launch(
                    executable_path=browsers.executable(), args=list(browsers.ARGUMENTS)
                )
                with http.server(folder) as (host, port, key), signed_in(browser, f"http://{host}:{port}", key) as page:
                    address = f"http://{host}:{port}{target}"
                    found[name].cold_s.append(waited(page, address))
                    found[name].warm_s += [waited(page, address) for _ in range(warm)]
                browser.close()
    return found


def has_browser() -> bool:
    """Say whether there is anything to look with."""
    return browsers.executable() is not None
