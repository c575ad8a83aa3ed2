"""A real Chromium that looks at a real server, and tells of whatever a page should not have done."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.api.client import World, run
from tests.dashboard import browsers, made
from tests.dashboard.person import Person, Play, Scenario
from tests.server import OPERATOR, Server, serving

TIMEOUT_MS = 10_000
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(
  `${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


@dataclass(slots=True)
class Visitor:
    """A browser window of its own; `strays` are requests to elsewhere, `faults` errors of scripts."""

    server: Server
    context: BrowserContext
    page: Page
    strays: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def open(self, target: str) -> Page:
        """Go to a page and wait until its chart is drawn, if it has one."""
        self.page.goto(self.server.url + target)
        return self.settled()

    def settled(self) -> Page:
        """Wait until what the page draws is drawn."""
        if self.page.locator("[data-chart]").count():
            self.page.wait_for_selector("[data-drawn]")
        return self.page

    def sign_in(self, key: str = OPERATOR) -> None:
        """Sign in with a key as the form does; no page is drawn for it, which would take longer than most tests."""
        door, ask = f"{self.server.url}/dashboard/sign-in", self.context.request
        token = re.search(r'name="csrf" value="([^"]+)"', ask.get(door).text())
        assert token is not None
        assert ask.post(door, form={"csrf": token[1], "key": key, "next": ""}, max_redirects=0).status == 303

    def check(self) -> None:
        """Nothing was asked of anyone else, no script failed, and no rule of the page's policy was broken."""
        assert self.page.evaluate("window.violations") == []
        assert self.strays == []
        assert self.faults == []

    def flaws(self) -> list[str]:
        """Return what axe finds wrong with the page as it is now."""
        found = Axe().run(
            self.page, options={"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
        )
        return [
            f"{each['id']}: {node['html'][:120]} {node.get('failureSummary', '')[:200]}"
            for each in found.response["violations"]
            for node in each["nodes"]
        ]

    def _note(self, url: str) -> None:
        if urlsplit(url)[:2] != urlsplit(self.server.url)[:2]:
            self.strays.append(url)

    def watch(self) -> None:
        """Begin to note what a page should not do."""
        self.page.add_init_script(WATCH)
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))


@pytest.fixture(params=["memory", "sqlite"])
def played(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Play a scenario with a person before either ledger."""

    def play(scenario: Scenario) -> None:
        async def both(world: World) -> None:
            await scenario(world, Person(world))

        run(both, folder=tmp_path / "data" if request.param == "sqlite" else None)

    return play


Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium; a module at a time, because what drives it keeps the thread's event loop to itself."""
    path = browsers.executable()
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(browsers.ARGUMENTS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve what `made.fill` has made, from a file."""
    folder: Path = tmp_path_factory.mktemp("dashboard") / "data"
    with serving(folder) as started:
        made.fill(started)
        yield started


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Visit]:
    """Open windows, as many as asked for, with what Playwright takes: a colour scheme, a width, no scripts."""
    opened: list[BrowserContext] = []

    def open(**options: Any) -> Visitor:
        width = options.pop("width", 1280)
        context = browser.new_context(viewport={"width": width, "height": 900}, locale="en-GB", **options)
        context.set_default_timeout(TIMEOUT_MS)
        opened.append(context)
        visitor = Visitor(server, context, context.new_page())
        visitor.watch()
        return visitor

    yield open
    for context in opened:
        context.close()
