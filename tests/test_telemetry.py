"""Log lines: JSON on stderr, with what was raised and where, never with what it said."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys

from tallystick.telemetry import Lines
from tests.server import OPERATOR, serving

SCRIPT = """
import logging
from tallystick import telemetry

telemetry.configure("info")
telemetry.LOG.debug("too quiet")
telemetry.LOG.info("started", port=1)
logging.getLogger("library").info("too quiet as well")
try:
    raise ValueError("canary")
except ValueError as error:
    telemetry.LOG.error("crash", **telemetry.described(error))
    logging.getLogger("library").exception("it failed")
"""


def test_lines_are_json_on_stderr_and_quote_no_exception() -> None:
    """Our lines and those of libraries look alike; stdout is left alone."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "started"),
        ("error", "crash"),
        ("error", "it failed"),
    ]
    assert lines[0]["port"] == 1
    assert lines[0]["timestamp"].endswith("Z")
    assert all(line["error"] == "ValueError" for line in lines[1:])
    assert lines[1]["frames"] == ["<string>:10 <module>"]
    assert lines[2]["logger"] == "library"
    assert "canary" not in done.stderr
    assert done.stdout == ""


def test_a_request_is_one_line_without_anything_of_its_content() -> None:
    """Method, route, status, time, whose key: and no key, query, body, label or name in a path."""
    event: dict[str, object] = {"id": "canary-1", "source": "canary", "type": "audio.processed", "account": "canary-2"}
    event |= {"subject": "canary-3", "data": {"duration": 1, "language": "canary-4"}}
    with serving(None, "--log-level", "debug") as server:
        token = server.ask("POST", "/v1/keys", {"account": None, "scopes": ["report"]}).json["key"]
        server.ask(
            "POST", "/v1/events?receipts=all&x=canary", [event, {"id": "canary-5"}], headers={"X-Request-Id": "r-1"}
        )
        server.ask("POST", "/v1/events", b"[canary", headers={"Content-Type": "application/json", "ce-x": "canary"})
        server.ask("GET", "/v1/usage?meter=audio&group_by=language&filter[language]=canary-4", key=token)
        server.ask("GET", "/v1/usage?meter=canary", key="canary-key-that-nobody-has-and-is-long-enough")
        server.ask("GET", "/v1/accounts/canary-2")
        server.ask("GET", "/canary", headers={"Cookie": "canary", "User-Agent": "canary"})
        server.ask("CANARY", "/livez")
    text = "".join(server.log)
    lines = [json.loads(line) for line in server.log]
    assert "canary" not in text.lower()
    assert OPERATOR not in text
    assert token not in text
    requests = [line for line in lines if line["event"] == "request" and line["route"] != "/readyz"]
    assert [(line["method"], line["route"], line["status"]) for line in requests] == [
        ("POST", "/v1/keys", 201),
        ("POST", "/v1/events", 207),
        ("POST", "/v1/events", 400),
        ("GET", "/v1/usage", 200),
        ("GET", "/v1/usage", 401),
        ("GET", "/v1/accounts/{account}", 200),
        ("GET", "none", 404),
        ("other", "/livez", 405),
    ]
    assert (requests[1]["request_id"], requests[1]["key"], requests[1]["account"]) == (
        "r-1",
        "operator-key-setting",
        None,
    )
    assert requests[3]["key"].startswith("key-")
    assert "key" not in requests[4]
    assert all(line["ms"] > 0 for line in requests)
    assert {line["level"] for line in requests[:-1]} == {"info"}


def test_a_level_above_info_leaves_requests_out() -> None:
    """Who asks for warnings gets no line per request."""
    with serving(None, "--log-level", "warning") as server:
        assert server.ask("GET", "/llms.txt").status == 200
    assert server.log == []


def test_probes_are_not_worth_a_line() -> None:
    """What asks every few seconds whether the process lives would bury everything else."""
    with serving(None) as server:
        for path in ("/livez", "/readyz", "/metrics", "/llms.txt"):
            assert server.ask("GET", path).status == 200
    lines = [json.loads(line) for line in server.log]
    assert [line["route"] for line in lines if line["event"] == "request"] == ["/llms.txt"]


def test_lines_of_one_turn_of_a_loop_are_written_together_and_in_order() -> None:
    """Writing lets go of the interpreter: once per turn is enough. Beside a loop, what is said is there at once."""

    class File(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            return super().write(text)

    file = File()
    lines = Lines(file)

    async def turn() -> None:
        lines.info("a")
        lines.error("b")
        await asyncio.to_thread(lines.warning, "from a thread")
        await asyncio.sleep(0)

    asyncio.run(turn())
    lines.info("c")
    assert sorted(file.getvalue().splitlines()) == ["a", "b", "c", "from a thread"]
    assert file.getvalue().index("a\nb\n") < file.getvalue().index("c\n")
    assert file.writes == 3
