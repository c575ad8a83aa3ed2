"""The vendor's own clients against this server: where they parse replies and errors, they parse ours.

Neither has a call for usage; both have a general one, with which their users ask for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.server import OPERATOR, Server, serving

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
INSTALL_S_MAX = 300
WRONG = "wrong-key-of-more-than-thirty-two-characters"

Question = tuple[str, dict[str, str]]


def installed(name: str, *commands: Sequence[str | Path], folder: Path) -> None:
    """Install a client into a folder; where that is impossible the test is skipped, and says so."""
    for command in commands:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{name} is not tried: there is no {Path(command[0]).name} here")
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S_MAX)
        if done.returncode != 0:
            pytest.skip(f"{name} is not tried, it cannot be installed: {done.stderr.strip()[-200:]}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with two jobs of yesterday."""
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    job = {"source": "s", "type": "audio.processed", "account": "acme", "time": yesterday}
    data = {"duration": 5400, "type": "transcription", "language": "en", "operating_point": "enhanced"}
    events = [{**job, "id": f"{number}", "data": data} for number in range(2)]
    with serving(None) as running:
        assert running.ask("POST", "/v1/events", events).json["accepted"] == 2
        yield running


@pytest.fixture(scope="module", params=["python", "node"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """The command that asks with one of the clients, which it finds installed."""
    folder = tmp_path_factory.mktemp("client")
    if request.param == "python":
        uv, python = ROOT / ".tools" / "bin" / "uv", folder / "bin" / "python"
        pins = ROOT / "requirements" / "clients.txt"
        install = (uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", pins)
        installed(
            "speechmatics-batch", (uv, "venv", "--quiet", "--python", sys.executable, folder), install, folder=folder
        )
        return [python, HERE / "usage.py"]
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    installed("@speechmatics/batch-client", ("npm", "ci", *quiet), ("node", "--version"), folder=folder)
    return ["env", "-C", folder, "node", HERE / "usage.mjs"]


def asked(client: Sequence[str | Path], server: Server, *questions: Question) -> list[Any]:
    """Return what the client makes of the answers."""
    environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*client, server.url],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        timeout=120,
        env=environ,
        check=True,
    )
    found: list[Any] = json.loads(done.stdout)
    return found


def test_a_vendors_client_reads_our_usage(client: Sequence[str | Path], server: Server) -> None:
    """With another URL and key it gets the vendor's document; what it appends of its own is ignored."""
    key = server.ask("POST", "/v1/keys", {"account": "acme", "scopes": ["report"]}).json["key"]
    whole, none, theirs = asked(
        client,
        server,
        (key, {}),
        (key, {"since": "2020-01-01", "until": "2020-01-31"}),
        (OPERATOR, {"account": "acme"}),
    )
    summary = {"mode": "batch", "type": "transcription", "count": 2, "duration_hrs": 3}
    assert whole["summary"] == [summary]
    assert whole["details"] == [{**summary, "language": "en", "operating_point": "enhanced"}]
    assert none == {"since": "2020-01-01", "until": "2020-01-31", "summary": None, "details": None}
    assert theirs == whole


def test_a_vendors_client_understands_our_errors(client: Sequence[str | Path], server: Server) -> None:
    """A wrong key, a key that may not read the account and a bad day are the errors that the client has for them."""
    key = server.ask("POST", "/v1/keys", {"account": "acme", "scopes": ["ingest"]}).json["key"]
    wrong, scopeless, bad = asked(
        client, server, (WRONG, {}), (key, {}), (OPERATOR, {"account": "acme", "since": "yesterday"})
    )
    if wrong["raised"] == "AuthenticationError":
        assert scopeless["raised"] == "AuthenticationError"
        assert bad["raised"] == "TransportError"
        assert '"error":"Bad Request"' in bad["said"]
        assert "since" in bad["said"]
    else:
        assert {answer["raised"] for answer in (wrong, scopeless, bad)} == {"SpeechmaticsResponseError"}
        assert [answer["said"] for answer in (wrong, scopeless, bad)] == [
            "Permission Denied",
            "Forbidden",
            "Bad Request",
        ]
