"""Pages from templates: everything that was not written here is escaped, and the headers that keep a page to itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import jinja2

from tallystick.dashboard import assets, figures
from tallystick.dashboard.session import Reader
from tallystick.dashboard.visit import Sent, Visit, Whole, url

TEMPLATES = Path(__file__).parent / "templates"

POLICY = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "object-src 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every page and every asset is sent with."""
PRIVATE = {"Cache-Control": "no-store", "Vary": "Cookie"}

LINKS: tuple[tuple[str, str, str], ...] = (
    ("/usage", "Usage", "report"),
    ("/limits", "Limits", "limits"),
    ("/events", "Events", "report"),
    ("/vendors", "Vendor views", "report"),
    ("/administration", "Administration", "admin"),
)
"""The pages that lead to each other: path, name and the scope that the key needs."""


@cache
def environment() -> jinja2.Environment:
    """Return the templates, with what they may call."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["grouped"] = figures.grouped
    made.filters["instant"] = instant
    made.filters["json"] = json_text
    made.filters["unit"] = figures.unit
    made.globals["asset"] = assets.address
    made.globals["url"] = url
    return made


@cache
def prepare() -> None:
    """Have the templates read in a thread of its own, once: whoever sees the form to sign in wants a page next."""
    made = environment()
    Thread(target=lambda: [made.get_template(name) for name in made.list_templates()], name="templates").start()


def json_text(document: Any) -> str:
    """Write JSON as people do, in one line."""
    return json.dumps(document, ensure_ascii=False)


def instant(text: str) -> str:
    """Write an instant of the API for people, to the second, in UTC."""
    return f"{text[:10]} {text[11:19]} UTC"


def length(micros: int) -> str:
    """Write how long something is in its two largest units: "2 d 3 h", "5 min 10 s"."""
    seconds = max(0, micros // 1_000_000)
    units = (("d", seconds // 86_400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    first = next((at for at, (_, count) in enumerate(units) if count), 3)
    shown = [f"{count} {name}" for name, count in units[first : first + 2] if count]
    return " ".join(shown) or "0 s"


def begun(whole: Whole) -> Sent:
    """Send the head of a page with charts, and then the rest of the page that `whole` makes."""
    return Sent(200, environment().get_template("head.html").render(charts=True).encode(), headers=PRIVATE, whole=whole)


def page(
    template: str,
    visit: Visit,
    reader: Reader | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Sent:
    """Render a template as a page; `reader` is who is signed in."""
    sent = rendered(template, visit.path, visit.request_id, reader, status=status, **values)
    return sent if headers is None else replace(sent, headers={**sent.headers, **headers})


def rendered(
    template: str, path: str, request_id: str, reader: Reader | None, *, status: int = 200, **values: Any
) -> Sent:
    """Render a template as the page at a path of ours, "" where there is none."""
    values.setdefault("charts", False)
    links = [(path, name) for path, name, scope in LINKS if reader is not None and reader.has(scope)]
    body = (
        environment()
        .get_template(template)
        .render(path=path, request_id=request_id, reader=reader, links=links, **values)
    )
    return Sent(status, body.encode(), headers=PRIVATE)
