"""What the pages are shown with: two customers, a March of usage, and labels that mean no good."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tests.server import Server

MARCH = "from=2026-03-01&through=2026-03-31"
LANGUAGES = ("en", "de", "fr", "es", "cs", "it", "pt", "nl", "pl", "sv", "ja")
CANARY = "canary7f3a"
"""In whatever the other customer has."""
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1); //",
    "</title><script src=//example.org/x.js></script>",
    "javascript:alert(1)",
    "{{ 7 * 7 }} {% raw %} ${7*7} #{7*7}",
    "{a|b} {b} {c0}",
    "z\u0336a\u0334l\u0335go \u200b \u05d0\u05d1 \u0627\u0644",
    "<svg onload=alert(1)>",
    "=1+1",
    "日本語 العربية ตัวอย่าง 😀",
    "a" * 256,
    "&lt;b&gt; &amp; &#60;",
    "--><!--",
    "%3Cscript%3E %0d%0aSet-Cookie: a=b",
    "` + alert(1) + `",
)
KEYS: dict[str, str] = {}
"""By account, made when the server is filled."""


def hostile(count: int = 200) -> list[str]:
    """Return different label values, each of which would like to be more than text."""
    return [f"{HOSTILE[at % len(HOSTILE)]}{at}"[-256:] for at in range(count)]


def audio(id: str, account: str, day: int, seconds: str, **labels: Any) -> dict[str, Any]:
    """Make an event of audio that was processed at noon of a day in March."""
    data = {"type": "transcription", "language": "en", **labels}
    return {
        "id": id,
        "source": "asr",
        "type": "audio.processed",
        "account": account,
        "time": f"2026-03-{day:02}T12:00:00Z",
        "data": {"duration": Decimal(seconds), **data},
    }


def events() -> list[dict[str, Any]]:
    """Return a March: every day something in eleven languages, unevenly, with a fraction that floats would lose."""
    made = []
    for day in range(1, 32):
        for at, language in enumerate(LANGUAGES):
            if (day + at) % 3:
                seconds = f"{(day * 37 + at * 11) % 500}.{(day * 7 + at) % 10}00001"
                made.append(audio(f"e-{day}-{at}", "acme", day, seconds, language=language))
    made.append({**audio("spaced", "acme", 3, "0.000001", model="m-2"), "space": "lab"})
    made.append(audio(f"{CANARY}-1", "globex", 5, "77", language=f"{CANARY}-language", model=f"{CANARY}-model"))
    return made


def fill(server: Server) -> None:
    """Make accounts, keys and events."""
    for account in ("acme", "globex"):
        assert server.ask("PUT", f"/v1/accounts/{account}", {"kind": "org"}).status == 201
        wanted = {"account": account, "scopes": ["report", "limits", "admin", "ingest"]}
        KEYS[account] = server.ask("POST", "/v1/keys", wanted).json["key"]
    send(server, *events())


def send(server: Server, *events: Mapping[str, Any]) -> None:
    """Send events, with every digit of their numbers."""
    answer = server.ask("POST", "/v1/events", written(events).encode(), headers={"Content-Type": "application/json"})
    assert answer.status == 200, answer.body


def written(value: Any) -> str:
    """Write JSON with decimals as they are."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(name)}:{written(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)
