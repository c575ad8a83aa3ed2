"""What is in deploy/: read line by line, and held to what the product does."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import time
from configparser import ConfigParser
from pathlib import Path

from click.testing import CliRunner

from tallystick.cli.root import root
from tallystick.settings import SPECS, Settings
from tests.cli.test_usage import event
from tests.server import OPERATOR, serving

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions; lines that end in a backslash go on."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


class Unit(ConfigParser):
    """A systemd unit: names keep their case, and may be given again."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit() -> tuple[Unit, list[tuple[str, str]]]:
    text = (ROOT / "deploy" / "tallystick.service").read_text(encoding="utf-8")
    pairs = [(name, value) for name, _, value in (line.partition("=") for line in text.splitlines()) if value]
    parsed = Unit(strict=False, interpolation=None, delimiters=("=",))
    parsed.read_string(text)
    return parsed, pairs


def test_the_dockerfile_holds_to_the_rules_of_good_ones() -> None:
    """Stages with fixed tags, no root at run time, lists for commands, everything copied from what is not ignored."""
    found = instructions()
    names = [name for name, _ in found]
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}
    assert set(names) <= known | {"ENTRYPOINT", "CMD"}
    assert all(re.fullmatch(r"[a-z]+:\d[\w.-]*(?: AS [a-z]+)?", rest) for name, rest in found if name == "FROM")
    last = names[len(names) - names[::-1].index("FROM") :]
    assert last.index("USER") < last.index("ENTRYPOINT")
    assert dict(found)["USER"] not in ("root", "0")
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name, rest in found:
        if name in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(rest), list)
        if name == "COPY" and not rest.startswith("--from"):
            for origin in rest.split()[:-1]:
                assert (ROOT / origin).exists(), origin
                assert origin in kept, f"{origin} is ignored"
        if name == "RUN":
            assert "pip install" not in rest or "--no-cache-dir" in rest
            assert "sudo" not in rest
    assert dict(found)["STOPSIGNAL"] == "SIGTERM"


def test_both_start_a_command_that_there_is() -> None:
    """Every flag and setting that they name exists, and they wait long enough for what was taken."""
    parsed, pairs = unit()
    found = dict(instructions())
    (docker,) = [json.loads(found["ENTRYPOINT"]) + json.loads(found["CMD"])]
    for command in (docker, shlex.split(parsed["Service"]["ExecStart"])):
        assert Path(command[0]).name == "tallystick"
        assert CliRunner().invoke(root, [*command[1:], "--help"]).exit_code == 0
    variables = [value.partition("=")[0] for name, value in pairs if name == "Environment"]
    settings = {f"TALLYSTICK_{name.upper()}{end}" for name in SPECS for end in ("", "_FILE")} | {"TALLYSTICK_CONFIG"}
    assert set(variables) <= settings
    assert int(parsed["Service"]["TimeoutStopSec"]) > Settings().drain_s_max
    assert found["EXPOSE"] == str(Settings().port)


def test_the_unit_has_sections_and_names_that_systemd_knows() -> None:
    """A misspelled name would be passed over in silence."""
    parsed, _ = unit()
    known = {
        "Unit": {"Description", "Documentation", "After"},
        "Install": {"WantedBy"},
        "Service": {
            *("Type", "ExecStart", "Environment", "LoadCredential", "KillSignal", "TimeoutStopSec", "Restart"),
            *("RestartSec", "DynamicUser", "StateDirectory", "StateDirectoryMode", "UMask", "NoNewPrivileges"),
            *("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables"),
            *("ProtectKernelModules", "ProtectControlGroups", "RestrictAddressFamilies", "RestrictNamespaces"),
            *("LockPersonality", "CapabilityBoundingSet", "SystemCallArchitectures"),
        },
    }
    assert set(parsed.sections()) == set(known)
    for section, names in known.items():
        assert set(parsed[section]) <= names


def test_a_stop_finishes_what_was_taken_and_ends_with_0(tmp_path: Path) -> None:
    """While a request is being taken, /readyz is 503 and new ones are refused; then the end, with the events kept."""
    body = json.dumps([event(str(number), "acme", 1, "1", "en") for number in range(10)]).encode()
    with serving(tmp_path / "ledger") as server:
        head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(server.address, timeout=20) as slow:
            slow.sendall(head.encode() + body[:100])
            while "body_bytes 100.0" not in server.ask("GET", "/metrics").body.decode():
                time.sleep(0.01)
            statuses: list[int] = []
            os.kill(server.pid, signal.SIGTERM)
            while 503 not in statuses:
                statuses.append(server.ask("GET", "/readyz").status)
            assert server.ask("POST", "/v1/events", b"[]").status == 503
            slow.sendall(body[100:])
            reply = slow.makefile("rb").readline()
        assert reply.split()[1] == b"200"
        assert server.process.wait(30) == 0
    with serving(tmp_path / "ledger") as again:
        assert again.ask("GET", "/v1/usage?meter=audio").json["total"]["count"] == 10
