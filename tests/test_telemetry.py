"""Log lines: JSON on stderr, with what was raised and where, never with what it said."""

from __future__ import annotations

import json
import subprocess
import sys

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
