"""Accounts, keys, meters, rates, events, exports and settings from the command line, in a folder and over HTTP."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick.cli.usage import write_chart
from tallystick.settings import SPECS
from tests import forked
from tests.cli.test_root import tallystick_command
from tests.cli.test_usage import EVENTS
from tests.server import OPERATOR, serving


@pytest.fixture(scope="module", params=["folder", "server"])
def where(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The flags that say where four events are."""
    data = tmp_path_factory.mktemp("nouns") / "ledger"
    with serving(data) as server:
        assert server.ask("POST", "/v1/events", EVENTS).json["accepted"] == len(EVENTS)
        if request.param == "server":
            yield ["--server", server.url, "--key", OPERATOR]
            return
    yield ["--data", str(data)]


def run(where: list[str], *arguments: str, code: int = 0, stdin: str | None = None) -> str:
    """Run a command; stdout has its data only."""
    done = forked.run("tallystick", *arguments, *where, stdin=(stdin or "").encode())
    assert done.returncode == code, done.stderr
    assert where[1] in done.stderr
    return done.stdout


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_accounts_are_listed_defined_shown_and_deleted(where: list[str]) -> None:
    """In every format the same."""
    assert [row["account"] for row in lines(run(where, "accounts", "list", "--format", "ndjson"))] == ["acme", "globex"]
    made = run(where, "accounts", "put", "labs", "--timezone", "Europe/Prague", "--member", "ada", "--format", "json")
    assert json.loads(made) == {"account": "labs", "kind": "org", "timezone": "Europe/Prague", "members": ["ada"]}
    assert run(where, "accounts", "show", "labs", "--format", "csv").splitlines()[1] == "labs,org,Europe/Prague,ada"
    assert "labs" in run(where, "accounts", "list")
    run(where, "accounts", "delete", "labs")
    run(where, "accounts", "show", "labs", code=2)
    assert run(where, "accounts", "delete", "acme", code=2) == ""


def test_keys_are_made_listed_rotated_and_revoked(where: list[str]) -> None:
    """The key itself is shown once, and never in the list."""
    made = json.loads(run(where, "keys", "create", "--account", "acme", "--scope", "report", "--format", "json"))
    listed = lines(run(where, "keys", "list", "--format", "ndjson"))
    assert [(key["id"], key["scopes"]) for key in listed if key["account"] == "acme"] == [(made["id"], ["report"])]
    assert made["key"] not in run(where, "keys", "list")
    successor = json.loads(run(where, "keys", "rotate", made["id"], "--overlap", "PT0S", "--format", "json"))
    assert successor["replaces"] == made["id"]
    run(where, "keys", "revoke", made["id"])
    run(where, "keys", "revoke", successor["id"])
    left = lines(run(where, "keys", "list", "--format", "ndjson"))
    assert [key for key in left if key["account"] == "acme"] == []
    for owner in ([], ["--account", "acme", "--operator"]):
        done = tallystick_command("keys", "create", "--scope", "report", *owner, *where)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--account NAME or --operator" in done.stderr


def test_meters_are_defined_from_a_file_and_count(where: list[str], tmp_path: Path) -> None:
    """What was kept before counts where asked so; flaws are named."""
    document = {"events": ["audio.processed"], "aggregation": "count", "unit": "{job}", "scale": 0}
    (tmp_path / "jobs.json").write_text(json.dumps(document))
    shown = json.loads(run(where, "meters", "put", "jobs", str(tmp_path / "jobs.json"), "--from", "beginning"))
    assert shown["name"] == "jobs"
    assert json.loads(run(where, "meters", "show", "jobs")) == shown
    assert {row["name"] for row in lines(run(where, "meters", "list", "--format", "ndjson"))} >= {"jobs", "audio"}
    assert json.loads(run(where, "usage", "--meter", "jobs", "--format", "json"))["total"]["count"] == 4
    run(where, "meters", "delete", "jobs")
    run(where, "meters", "delete", "jobs", code=2)
    assert run(where, "meters", "put", "jobs", "-", stdin='{"scale": 77}', code=2) == ""


def test_rates_are_defined_and_listed(where: list[str]) -> None:
    """One row for each rate."""
    document = '{"rates": [{"type": "lens", "multiplier": "0.25", "from": "2026-01-01T00:00:00Z"}]}'
    assert json.loads(run(where, "rates", "put", "own", "-", stdin=document))["table"] == "own"
    row = {"table": "own", "type": "lens", "multiplier": "0.25", "from": "2026-01-01T00:00:00Z"}
    assert row in lines(run(where, "rates", "list", "--format", "ndjson"))
    assert json.loads(run(where, "rates", "show", "own"))["rates"][0]["multiplier"] == "0.25"


def test_the_tail_has_the_newest_events_at_the_bottom(where: list[str]) -> None:
    """As many as asked for, and only those that are meant."""
    found = lines(run(where, "events", "tail", "-n", "3", "--format", "ndjson"))
    assert [item["event"]["id"] for item in found] == ["2", "3", "4"]
    rows = list(csv.DictReader(io.StringIO(run(where, "events", "tail", "--account", "globex", "--format", "csv"))))
    assert [(row["account"], row["id"], row["metered"]) for row in rows] == [("globex", "4", "true")]
    assert "audio.processed" in run(where, "events", "tail")


def test_an_export_has_all_that_is_meant_or_is_not_there(where: list[str], tmp_path: Path) -> None:
    """On stdout or in a file, which is never overwritten."""
    found = lines(run(where, "export", "--from", "2026-11-02T00:00:00Z"))
    assert [item["event"]["id"] for item in found] == ["3", "4"]
    run(where, "export", "--format", "csv", "-o", str(tmp_path / "all.csv"))
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 5
    run(where, "export", "--from", "yesterday", "-o", str(tmp_path / "none"), code=2)
    done = tallystick_command("export", "-o", str(tmp_path / "all.csv"), *where)
    assert (done.returncode, "exists" in done.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["all.csv"]


def test_doctor_says_what_it_looked_at(where: list[str]) -> None:
    """All is well here."""
    found = lines(run(where, "doctor", "--format", "ndjson"))
    assert {row["status"] for row in found} == {"ok"}
    assert {"sqlite"} < {row["check"] for row in found}


def test_doctor_finds_what_is_wrong(tmp_path: Path) -> None:
    """No server, a wrong key, a damaged file: 1; a folder in use is no failure, and neither is one to come."""
    with serving(tmp_path / "ledger") as server:
        for arguments, code, said in (
            (["--data", str(tmp_path / "ledger")], 0, "in use by process"),
            (["--data", str(tmp_path / "none")], 0, "no ledger in"),
            (["--server", server.url, "--key", "tly_wrong"], 1, "unknown"),
            (["--server", "http://127.0.0.1:1", "--key", "k"], 1, "does not answer"),
        ):
            done = tallystick_command("doctor", *arguments)
            assert (done.returncode, said in done.stdout) == (code, True), (arguments, done.stdout)
    (tmp_path / "ledger" / "ledger.db").write_bytes(b"garbage" * 1000)
    done = tallystick_command("doctor", "--data", str(tmp_path / "ledger"))
    assert (done.returncode, "failure" in done.stdout) == (1, True)


def config(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return forked.run("tallystick", "config", *arguments, environ=environ)


def test_config_shows_every_setting_and_where_it_comes_from(tmp_path: Path) -> None:
    """A secret is only said to be set."""
    (tmp_path / "t.toml").write_text("port = 99\n")
    flags = ["show", "--origin", "--format", "ndjson", "--config", str(tmp_path / "t.toml"), "--host", "::1"]
    done = config(*flags, environ={"TALLYSTICK_OPERATOR_KEY": OPERATOR, "TALLYSTICK_LOG_LEVEL": "error"})
    rows = {row["setting"]: (row["value"], row["origin"]) for row in lines(done.stdout)}
    assert list(rows) == list(SPECS)
    assert rows["port"] == (99, str(tmp_path / "t.toml"))
    assert rows["host"] == ("::1", "flag --host")
    assert rows["log_level"] == ("error", "TALLYSTICK_LOG_LEVEL")
    assert rows["drain_s_max"] == (15, "default")
    assert rows["operator_key"][1] == "TALLYSTICK_OPERATOR_KEY"
    assert OPERATOR not in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 99\n", None),
        ("prot = 99\n", "did you mean port?"),
        ("port = 'x'\n", "must be a whole number"),
        ("[meters.jobs]\nscale = 77\n", "meters.jobs"),
        ("[meters.x]\nevents = ['a']\nrate = {table = 'none', label = 'type'}\n", "meters.x"),
        ("port =", "cannot read the settings file"),
    ],
)
def test_config_check_finds_what_serve_would_refuse(tmp_path: Path, text: str, said: str | None) -> None:
    """Settings and definitions of the file; 1 if it cannot be used."""
    (tmp_path / "t.toml").write_text(text)
    done = config("check", "--config", str(tmp_path / "t.toml"))
    assert done.returncode == (0 if said is None else 1)
    assert (said or "can be used") in done.stdout


def test_version_and_completion() -> None:
    """One names what decides over data, the other knows every command."""
    (found,) = lines(tallystick_command("version", "--format", "ndjson").stdout)
    assert found["tallystick"] == tallystick.__version__
    assert set(found) == {"tallystick", "format", "python", "sqlite", "tzdata"}
    for shell in ("bash", "zsh", "fish"):
        assert "_TALLYSTICK_COMPLETE" in tallystick_command("completion", shell).stdout
    asked = {"_TALLYSTICK_COMPLETE": "bash_complete", "COMP_WORDS": "tallystick re", "COMP_CWORD": "1"}
    script = "from tallystick.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env={**os.environ, **asked}
    )
    assert {line.split(",")[1] for line in done.stdout.splitlines()} == {"report", "restore"}


def test_a_chart_has_a_bar_for_each_day_as_long_as_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of one day are one bar; a single bar would say nothing."""
    rows = [
        {"from": "2026-11-01T00:00:00Z", "quantity": "30"},
        {"from": "2026-11-01T00:00:00Z", "quantity": "10"},
        {"from": "2026-11-02T00:00:00Z", "quantity": "20"},
        {"from": "2026-11-03T00:00:00Z", "quantity": "0"},
    ]
    write_chart(rows, 30)
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["  2026-11-01 " + "█" * 16, "  2026-11-02 " + "█" * 8, "  2026-11-03"]
    write_chart(rows[:2], 30)
    write_chart([], 30)
    assert capsys.readouterr().out == ""


def test_a_tail_that_follows_shows_what_comes_in_until_it_is_told_to_end() -> None:
    """Each event once, as a line; ctrl-c is a good end."""
    with serving(None) as server:
        server.ask("POST", "/v1/events", EVENTS)
        command = [sys.executable, "-m", "tallystick", "events", "tail", "-f", "-n", "1", "--format", "ndjson"]
        flags = ["--server", server.url, "--key", OPERATOR]
        process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        with process.stdout as printed:
            assert json.loads(printed.readline())["event"]["id"] == "4"
            more = [{**EVENTS[0], "id": f"new-{number}"} for number in range(3)]
            assert server.ask("POST", "/v1/events", more).json["accepted"] == 3
            assert [json.loads(printed.readline())["event"]["id"] for _ in more] == ["new-0", "new-1", "new-2"]
            process.send_signal(signal.SIGINT)
            assert printed.read() == ""
        assert process.wait(30) == 0
    for wrong in (["--follow"], ["--follow", "--server", "http://x", "--key", "k"]):
        done = tallystick_command("events", "tail", *wrong)
        assert (done.returncode, "--follow needs" in done.stderr) == (2, True)
