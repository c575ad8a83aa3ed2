"""`usage`, `report` and `verify`: the same answers from a server and from its folder, in every format."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tallystick.cli import report as report_module
from tallystick.cli.report import report
from tallystick.dialects import NAMES, phonexia, vblaze
from tests.cli.test_root import tallystick_command
from tests.ledger.older import change_series
from tests.server import OPERATOR, Server, serving

USAGE = ["usage", "--from", "2026-11-01T00:00:00Z", "--to", "2026-11-03T00:00:00Z", "--group-by", "account,language"]
REPORT = ["report", "speechmatics", "--account", "acme", "--since", "2026-11-01", "--until", "2026-11-02"]


def event(id: str, account: str, day: int, seconds: str, language: str | None) -> dict[str, object]:
    """Make an event of processed audio."""
    data = {"duration": seconds, "type": "transcription", "language": language}
    time = f"2026-11-0{day}T10:00:00Z"
    return {"id": id, "source": "s", "type": "audio.processed", "account": account, "time": time, "data": data}


EVENTS = [
    event("1", "acme", 1, "60", "en"),
    event("2", "acme", 1, "30.5", "en"),
    event("3", "acme", 2, "0.000001", None),
    event("4", "globex", 2, "90", "[bold]de"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that no server holds any more."""
    data = tmp_path_factory.mktemp("usage") / "ledger"
    with serving(data) as server:
        assert server.ask("POST", "/v1/events", EVENTS).json["accepted"] == len(EVENTS)
    return data


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with the same events."""
    with serving(None) as running:
        assert running.ask("POST", "/v1/events", EVENTS).json["accepted"] == len(EVENTS)
        yield running


@pytest.fixture(params=["server", "folder"])
def where(request: pytest.FixtureRequest) -> list[str]:
    """The flags that say where the data is."""
    if request.param == "folder":
        return ["--data", str(request.getfixturevalue("folder"))]
    return ["--server", request.getfixturevalue("server").url, "--key", OPERATOR]


def test_the_table_shows_every_row_and_the_total(where: list[str]) -> None:
    """What looks like markup is text; what was asked and where is said on stderr."""
    done = tallystick_command(*USAGE, *where)
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines() if line.strip(" ─")]
    assert lines[0] == ["from", "to", "account", "language", "count", "quantity"]
    assert lines[1][2:] == ["acme", "en", "2", "90.5"]
    assert ["2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z", "globex", "[bold]de", "1", "90"] in lines
    assert lines[-1] == ["4", "180.500001"]
    assert where[1] in done.stderr
    assert "audio in s, zone UTC" in done.stderr


def test_csv_and_ndjson_have_the_same_rows(where: list[str]) -> None:
    """Both are exact; CSV cannot tell an absent label from an empty one."""
    lines = list(csv.reader(io.StringIO(tallystick_command(*USAGE, *where, "--format", "csv").stdout)))
    objects = [
        json.loads(line) for line in tallystick_command(*USAGE, *where, "--format", "ndjson").stdout.splitlines()
    ]
    assert lines[0] == list(objects[0]) == ["from", "to", "account", "language", "count", "quantity"]
    assert lines[1:] == [["" if value is None else str(value) for value in row.values()] for row in objects]
    assert [row["quantity"] for row in objects] == ["90.5", "0.000001", "90"]


def test_json_is_the_apis_own_reply(where: list[str]) -> None:
    """Machines get what they would get over HTTP."""
    report = json.loads(tallystick_command(*USAGE, *where, "--format", "json").stdout)
    assert report["total"] == {"count": 4, "quantity": "180.500001"}


def test_flags_become_the_questions_parameters(where: list[str]) -> None:
    """Accounts and filters may be repeated; without a range all of time is one bucket."""
    flags = ["--account", "acme", "--filter", "language=en", "--filter", "language=", "--format", "json"]
    report = json.loads(tallystick_command("usage", *flags, *where).stdout)
    assert (report["window"], report["total"]["count"]) == ("total", 3)


def test_a_day_is_its_first_instant_in_the_zone(where: list[str]) -> None:
    """In UTC where none is named; what is no day is left to the API, which says so."""
    flags = ["usage", "--to", "2026-11-03", "--format", "json", *where]
    report = json.loads(tallystick_command(*flags, "--from", "2026-11-01").stdout)
    assert (report["from"], report["to"]) == ("2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z")
    report = json.loads(tallystick_command(*flags, "--from", "2026-10-25", "--tz", "Europe/Prague").stdout)
    assert (report["from"], report["to"]) == ("2026-10-24T22:00:00Z", "2026-11-02T23:00:00Z")
    done = tallystick_command(*flags, "--from", "2026-02-30")
    assert (done.returncode, "from is not" in done.stderr) == (2, True)
    done = tallystick_command(*flags, "--from", "2026-11-01", "--tz", "Europe/Nowhere")
    assert (done.returncode, "IANA zone" in done.stderr) == (2, True)


def test_a_refused_question_ends_with_2_and_the_reason(where: list[str]) -> None:
    """The API's sentence is the command's."""
    done = tallystick_command("usage", "--meter", "none", *where)
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no meter" in done.stderr


def test_the_speechmatics_report_is_the_vendors_document(where: list[str]) -> None:
    """One line of JSON on stdout."""
    report = json.loads(tallystick_command(*REPORT, *where).stdout)
    assert (report["since"], report["until"]) == ("2026-11-01", "2026-11-02")
    assert report["summary"] == [{"mode": "batch", "type": "transcription", "count": 3, "duration_hrs": 0.03}]


def test_a_report_as_rows_has_each_value_as_the_document_has_it(where: list[str]) -> None:
    """With its place: whatever the vendor's shape is."""
    done = tallystick_command(*REPORT, *where, "--format", "csv")
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert rows[0] == ["pointer", "value"]
    assert ["/summary/0/duration_hrs", "0.03"] in rows
    lines = tallystick_command(*REPORT, *where, "--format", "ndjson").stdout.splitlines()
    assert [list(json.loads(line).values()) for line in lines] == rows[1:]
    assert "/summary/0/duration_hrs" in tallystick_command(*REPORT, *where, "--format", "table").stdout


VENDORS = {
    ("vblaze", "--account", "acme"): {"m": [1, 1], "total": [1, 1]},
    ("vblaze", "usageraw", "--account", "acme", "--filter", "G/"): {},
    ("vblaze", "usagetags", "--account", "acme", "--since", "2026-11-02"): {"total": [0, 0]},
    ("phonexia", "--account", "acme"): {"items": []},
    ("phonexia", "consumptions", "--account", "acme"): {
        "items": [
            {
                "labels": [{"key": "technology", "value": "t"}],
                "consumptions": [{"property": "processed_audio_length", "consumption": 3600}],
            }
        ]
    },
}
"""What is asked for, and what comes."""


@pytest.fixture(scope="module", params=["server", "folder"])
def vendors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Where there is work that every vendor knows, in a folder or on its server."""
    data = tmp_path_factory.mktemp("vendors") / "ledger"
    work = {**event("1", "acme", 1, "3600", "en")}
    work["data"] = {"duration": "3600", "model": "m", "technology": "t"}
    searched = {**work, "id": "2", "type": "vision.request", "data": {"type": "lens", "dataset": "shop"}}
    heard = {
        **work,
        "id": "3",
        "type": "resource.upserted",
        "space": "a/ž",
        "data": {"kind": "audio", "id": "a", "duration": 1},
    }
    with serving(data) as running:
        assert running.ask("POST", "/v1/events", [work, searched, heard]).json["accepted"] == 3
        if request.param == "server":
            yield ["--server", running.url, "--key", OPERATOR]
    if request.param == "folder":
        yield ["--data", str(data)]


def test_every_vendors_report_is_the_vendors_document(vendors: list[str]) -> None:
    """One line of JSON on stdout, as the vendor's path answers."""
    for arguments, wanted in VENDORS.items():
        done = tallystick_command("report", *arguments, *vendors)
        assert json.loads(done.stdout) == wanted, done.stderr
    visii = json.loads(
        tallystick_command("report", "visii", "acme", "--year", "2026", "--month", "11", *vendors).stdout
    )
    assert visii["usage"]["credits"] == {"limitType": "unlimited", "month": 11, "used": 3, "year": 2026}
    hiya = json.loads(tallystick_command("report", "hiya", "acme", "a/ž", *vendors).stdout)
    assert hiya["uploadedAudios"] == {"count": 1, "duration": "PT1S"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["visii", "acme", "--month", "13"], "month must be a whole number from 1 to 12."),
        (["visii", "nobody"], "Not Found"),
        (["hiya", "acme", "none"], "There is no such resource"),
        (["vblaze", "--account", "nobody"], "does not read that account"),
        (["phonexia"], "Name one account"),
    ],
)
def test_a_vendors_refusal_is_told_in_its_words(vendors: list[str], arguments: list[str], said: str) -> None:
    """Whatever its shape; the command ends with 2."""
    done = tallystick_command("report", *arguments, *vendors)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_report_is_offered_for_every_dialect() -> None:
    """The commands and their choices are the dialects' own names."""
    assert sorted(report.commands) == sorted(NAMES)
    assert report_module.VBLAZE == vblaze.REPORTS
    paths = {each.path for each in phonexia.DIALECT.reports}
    assert {f"/api/billing/{name}" for name in report_module.PHONEXIA} == paths


def test_a_report_without_an_account_says_what_is_missing(where: list[str]) -> None:
    """The operator reads all accounts, the vendor's report is of one."""
    done = tallystick_command("report", "speechmatics", *where)
    assert (done.returncode, done.stdout) == (2, "")
    assert "account" in done.stderr


def test_verify_says_what_was_compared(where: list[str]) -> None:
    """A clean ledger ends with 0, in words and as JSON."""
    done = tallystick_command("verify", *where)
    assert done.returncode == 0
    assert "4 events, 4 postings" in done.stdout
    assert done.stdout.endswith("No faults.\n")
    proof = json.loads(tallystick_command("verify", *where, "--format", "json").stdout)
    assert (proof["events"], proof["faults"]) == (4, [])


def test_verify_shows_on_a_terminal_how_far_it_is(where: list[str]) -> None:
    """On stderr, at the beginning and at the end; stdout is the same as anywhere."""
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        command = [sys.executable, "-m", "tallystick", "verify", *where, "--format", "json"]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False)
        finally:
            os.close(theirs)
        shown = _everything(terminal).decode()
    assert (done.returncode, json.loads(done.stdout)["events"]) == (0, 4)
    assert "of 4 events" in shown
    assert "verify: 4 events in " in shown.splitlines()[-1]
    assert shown.splitlines()[-1].endswith("/s")


def _everything(terminal: IO[bytes]) -> bytes:
    """Read what was written to a terminal that nobody holds any more; Linux says so with an error."""
    found = b""
    while True:
        try:
            part = terminal.read(4096)
        except OSError:
            return found
        if not part:
            return found
        found += part


def test_verify_says_nothing_of_it_elsewhere(where: list[str]) -> None:
    """A log of a timer has no use for it."""
    assert "events in" not in tallystick_command("verify", *where).stderr


def test_a_folder_that_a_server_holds_is_not_opened(tmp_path: Path) -> None:
    """The error names the way through the server."""
    with serving(tmp_path / "ledger"):
        done = tallystick_command("usage", "--data", str(tmp_path / "ledger"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "--server" in done.stderr


def test_verify_ends_with_1_when_it_finds_a_fault_and_when_nothing_can_be_read(folder: Path, tmp_path: Path) -> None:
    """A series with other labels is named; a file that is no database any more is an error that says what to do."""
    database = folder / "ledger.db"
    for name, changed, said in (
        ("series", database.read_bytes(), "FAULT"),
        ("header", b"garbage!" + database.read_bytes()[8:], "cannot be opened"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ledger.db").write_bytes(changed)
        if name == "series":
            change_series(tmp_path / name / "ledger.db")
        done = tallystick_command("verify", "--data", str(tmp_path / name))
        assert done.returncode == 1
        assert said in done.stdout + done.stderr
        assert "No faults" not in done.stdout
