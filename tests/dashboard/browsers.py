"""Where Chromium is, and how it is started so that it asks nobody for anything."""

from __future__ import annotations

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def executable() -> str | None:
    """Return the path of the machine's Chromium, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)
