"""Makes the pictures of the dashboard that the pages show: `make screenshots`."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from tallystick import windows
from tallystick.clock import system_clock
from tests.dashboard import browsers, made
from tests.server import OPERATOR, Server, serving

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
ACCOUNTS = {"aurora-labs": 10, "brightline": 6, "kestrel-clinic": 4, "voxgate": 2}
LANGUAGES = ("en", "en", "en", "en", "de", "de", "fr", "es", "es", "cs", "ja")
LIMITS: dict[str, dict[str, Any]] = {
    "aurora-hours": {"account": "aurora-labs", "amount": "1150000"},
    "brightline-hours": {"account": "brightline", "amount": "520000"},
    "kestrel-included": {"account": "kestrel-clinic", "amount": "380000", "policy": "allow"},
    "voxgate-german": {"account": "voxgate", "amount": "160000", "where": {"language": "de"}},
}
SHOTS: tuple[tuple[str, str, str, int], ...] = (
    ("usage-light", "/dashboard/usage?by=language", "light", 1280),
    ("usage-dark", "/dashboard/usage?account=aurora-labs&show=running&by=language", "dark", 1280),
    ("usage-phone", "/dashboard/usage?by=account", "light", 390),
    ("limits-light", "/dashboard/limits", "light", 1280),
    ("events-dark", "/dashboard/events?paused=1", "dark", 1280),
)


def work(now: int) -> Iterator[dict[str, Any]]:
    """Yield two months of work up to now: less at weekends, most at midday, and growing."""
    rng = random.Random(20260301)
    for back in range(62):
        day = now // windows.DAY - back
        weight = 0.3 if (day + 3) % 7 >= 5 else 1.0
        for account, share in ACCOUNTS.items():
            for at in range(int(share * weight * (1 - back / 150) * rng.uniform(0.7, 1.3) * 3)):
                seconds = min(max(int(rng.gauss(13 * 3600, 3 * 3600)), 0), 86_399)
                time = day * windows.DAY + seconds * windows.SECOND
                if time < now:
                    yield {
                        "id": f"job-{back}-{account[:2]}-{at}",
                        "source": "asr-1",
                        "type": "audio.processed",
                        "account": account,
                        "time": windows.format_instant(time),
                        "data": {
                            "duration": Decimal(rng.randrange(2_000, 3_600_000)).scaleb(-3),
                            "type": rng.choice(("transcription", "transcription", "alignment")),
                            "language": rng.choice(LANGUAGES),
                        },
                    }


def fill(server: Server) -> None:
    """Send the work, at the end some that is not accepted, and define the limits."""
    done = list(work(system_clock()))
    made.send(server, *done[5:])
    said = made.written(
        [*done[:2], done[9], {**done[2], "data": {"duration": -1}}, {**done[9], "space": "lab"}, *done[3:5]]
    )
    answer = server.ask("POST", "/v1/events", said.encode(), headers={"Content-Type": "application/json"})
    assert [answer.json[verdict] for verdict in ("accepted", "duplicate", "conflict", "rejected")] == [4, 1, 1, 1]
    for id, limit in LIMITS.items():
        document = {"meter": "audio", "period": "month", **limit}
        assert server.ask("PUT", f"/v1/limits/{id}", document).status == 201
    hold = {"id": "stream-17", "account": "kestrel-clinic", "meter": "audio", "quantity": "3600"}
    assert server.ask("POST", "/v1/holds", hold).status == 201


def shoot(browser: Browser, server: Server) -> None:
    """Look at each page and keep what is seen."""
    for name, target, scheme, width in SHOTS:
        phone = width < 600
        context = browser.new_context(
            viewport={"width": width, "height": 844 if phone else 860},
            color_scheme=scheme,  # type: ignore[arg-type] # one of two words
            device_scale_factor=1,
            locale="en-GB",
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(server.url)
        page.get_by_label("Key").fill(OPERATOR)
        page.get_by_role("button", name="Sign in").click()
        page.goto(server.url + target)
        if page.locator("[data-chart]").count():
            page.wait_for_selector("[data-drawn]")
        page.screenshot(path=FOLDER / f"dashboard-{name}.png")
        context.close()


def main() -> None:
    """Serve, fill, look."""
    path = browsers.executable()
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server, sync_playwright() as playwright:
        fill(server)
        browser = playwright.chromium.launch(executable_path=path, args=list(browsers.ARGUMENTS))
        shoot(browser, server)
        browser.close()


if __name__ == "__main__":
    main()
