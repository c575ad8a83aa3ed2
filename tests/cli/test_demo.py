"""`tallystick demo`: its numbers are the generator's, the generator's are those of what it sends, nothing is left."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tallystick.cli.demo import month, story, traffic
from tallystick.cli.demo.command import demo
from tallystick.cli.demo.traffic import LINES, SINGLE, Books, Parcel, books_of, make
from tests.cli.test_root import tallystick_command

DEMO = [sys.executable, "-m", "tallystick", "demo"]
END_S_MAX = 30
WIDE = ("http", "/v2/usage", "with its data in", "head of the chain", "KEY=")
"""What begins or marks a line that may be longer than a terminal, because it is there to be copied."""


@pytest.fixture(scope="module")
def shown() -> str:
    """What the demo prints when it does not stay."""
    done = tallystick_command("demo", "--no-serve")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def numbers(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    table = text.split(heading, 1)[1].split("\n\n")[1]
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[2:]]


# The generator


def facts_of(parcel: Parcel) -> list[dict[str, Any] | None]:
    """Read a request's events as any reader of JSON would; None where there is no JSON."""
    if parcel.media_type == LINES:
        return [parsed(line) for line in parcel.body.splitlines()]
    found = json.loads(parcel.body, parse_float=Decimal)
    return [found] if parcel.media_type == SINGLE else list(found)


def parsed(line: bytes) -> dict[str, Any] | None:
    """Read one line."""
    try:
        return dict(json.loads(line, parse_float=Decimal))
    except ValueError:
        return None


def duration(value: Decimal | int | str) -> Decimal:
    """Read seconds in any of the forms in which the demo writes them."""
    iso = re.fullmatch(r"PT(\d+)M([\d.]+)S", str(value))
    return Decimal(value) if iso is None else 60 * int(iso[1]) + Decimal(iso[2])


def test_the_books_are_what_the_requests_say() -> None:
    """Taken each identity once, and only what is to be taken, the events add up to the sums that the demo expects."""
    parcels = make()
    seconds, tokens, seen = defaultdict[tuple[str, str], Decimal](Decimal), Counter[str](), set()
    for parcel in parcels:
        for item, event in zip(parcel.items, facts_of(parcel), strict=True):
            if item.code is not None or event is None:
                continue
            identity = (parcel.sender or event["account"], event["source"], event["id"])
            assert (item.status == "duplicate") == (identity in seen)
            if identity not in seen and event["data"].get("status") != "failed":
                if "duration" in event["data"]:
                    seconds[identity[0], event["time"][:10]] += duration(event["data"]["duration"])
                else:
                    tokens[event["data"]["model"]] += event["data"]["input"] + event["data"]["output"]
            seen.add(identity)
    books = books_of(parcels)
    assert seconds == {(a, f"{day:%Y-%m-%d}"): Decimal(ms).scaleb(-3) for (a, day), (_, ms) in books.audio.items()}
    assert tokens == {model: sums[1] + sums[2] for model, sums in books.tokens.items()}


def test_the_same_seed_makes_the_same_day_and_another_seed_another() -> None:
    """The demo shows the same numbers on every machine."""
    bodies = [[parcel.body for parcel in make(seed)] for seed in (traffic.SEED, traffic.SEED, traffic.SEED + 1)]
    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


def test_a_day_has_all_that_happens_in_one() -> None:
    """Repeats, conflicts, many kinds of refusals and late events are among it, in every form of request."""
    parcels = make()
    books = books_of(parcels)
    assert {parcel.media_type for parcel in parcels} == set(story.FORMS)
    assert {parcel.sender for parcel in parcels} == {None, "kestrel-clinic", "quill-assist"}
    assert min(books.statuses[status] for status in story.STATUSES) >= 5
    assert len(books.codes) >= 10
    assert len({day for _, day in books.audio}) == 1 + traffic.LATE_DAYS


# The run


def test_the_demo_prints_the_receipts_that_the_generator_counts(shown: str) -> None:
    """Each receipt and each code stands there with its number."""
    books = books_of(make())
    rows = numbers(shown, "What became of them")
    counted = {(row[0], row[1] if len(row) == 3 else None): int(row[-1]) for row in rows}
    assert sum(counted.values()) == sum(len(parcel.items) for parcel in make())
    assert {status: counted[status, None] for status in ("accepted", "duplicate")} == {
        status: books.statuses[status] for status in ("accepted", "duplicate")
    }
    assert {code: number for (_, code), number in counted.items() if code is not None} == books.codes


def test_the_demo_prints_the_usage_that_the_generator_sums(shown: str) -> None:
    """Seconds by account and day, tokens by model, hours by kind of job, and the proof."""
    books = books_of(make())
    *rows, total = numbers(shown, "Usage of meter audio")
    assert [(row[1], row[0], int(row[2]), 1000 * Decimal(row[3])) for row in rows] == sorted(
        ((account, f"{day:%Y-%m-%d}", *sums) for (account, day), sums in books.audio.items()),
        key=lambda row: (row[1], row[0]),
    )
    assert 1000 * Decimal(total[-1]) == sum(millis for _, millis in books.audio.values())
    tokens = {row[0]: [int(cell) for cell in row[1:]] for row in numbers(shown, "tokens_in and tokens_out")}
    assert tokens == books.tokens
    jobs = books.jobs[story.REPORTED]
    hours = {tuple(None if c == "-" else c for c in row[:3]): row[3:] for row in numbers(shown, "as Speechmatics")}
    assert {kind: int(row[0]) for kind, row in hours.items()} == {kind: count for kind, (count, _) in jobs.items()}
    assert all(abs(3600 * Decimal(row[1]) - Decimal(jobs[kind][1]).scaleb(-3)) <= 18 for kind, row in hours.items())
    made = month.make()
    events, postings = books.statuses["accepted"] + len(made.events), books.postings + made.postings
    assert f"{events} events, {postings} postings" in shown
    assert re.search(r"0 faults\nhead of the chain: [0-9a-f]{64}\n", shown)


def test_the_demo_prints_each_vendors_report_of_the_month(shown: str) -> None:
    """Hours by model, what is in a space, requests and credits, seconds by technology, and limits near and over."""
    made = month.make()
    *models, total = numbers(shown, "as vblaze reports it")
    assert {row[0]: int(row[2]) for row in models} == {name: count for name, (_, count) in made.by_model().items()}
    assert int(total[2]) == 260
    space = {row[0]: int(row[1]) for row in numbers(shown, "as hiya reports it")}
    assert space == {"uploadedAudios": 36, "performedVerifications": 30}
    pictures = numbers(shown, "as visii reports it")
    assert sum(Decimal(row[3]) for row in pictures) == made.credits()
    speech = numbers(shown, "as phonexia reports it")
    assert 1000 * sum(Decimal(row[2]) for row in speech) == sum(ms for _, ms in made.technologies.values())
    near, over = numbers(shown, "Limits: one customer is near")
    assert (near[-1], over[-2]) == ("0", "0")
    assert Decimal(over[-1]) > 0 < Decimal(near[-2])


def test_the_months_sums_are_what_its_events_say() -> None:
    """Seconds, credits and what is left in the space, read from the events themselves."""
    made = month.make()
    events = [json.loads(line, parse_float=Decimal) for _, body in made.bodies() for line in body.splitlines()]
    audio = [event for event in events if event["type"] == "audio.processed"]
    said = sum(Decimal(event["data"]["duration"].removeprefix("PT").removesuffix("S")) for event in audio)
    kept = [sums for cells in (made.calls, made.technologies) for sums in cells.values()]
    assert said * 1000 == sum(millis for _, millis in kept)
    assert len(audio) == sum(count for count, _ in kept)
    gone = {event["data"]["id"] for event in events if event["type"] == "resource.deleted"}
    audios = {event["data"]["id"] for event in events if event["data"].get("kind") == "audio"} - gone
    assert len(audios) == len(made.audios)
    assert len({event["id"] for event in events}) == len(events)


def test_the_demo_fits_a_terminal_and_is_plain_where_there_is_none(shown: str) -> None:
    """No line is wider than 80 columns but those to be copied, and a pipe gets no colour."""
    assert [line for line in shown.splitlines() if len(line) > 80 and not any(mark in line for mark in WIDE)] == []
    assert "\x1b" not in shown


def test_a_terminal_gets_colour(tmp_path: Path) -> None:
    """Headings and the verdict stand out."""
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [*DEMO, "--no-serve"], stdout=theirs, stderr=theirs, env={**environ, "TERM": "xterm", "TMPDIR": str(tmp_path)}
    )
    os.close(theirs)
    text = b"".join(chunks(ours))
    assert process.wait(END_S_MAX) == 0
    assert b"\x1b[1;32mAll" in text


def chunks(descriptor: int) -> Iterator[bytes]:
    """Read a terminal until nobody writes to it any more."""
    with os.fdopen(descriptor, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(4096):
                yield part
        except OSError:
            return


def wrong(parcels: Sequence[Parcel]) -> Books:
    """Add up the books with a mistake of one in each kind of number."""
    books = books_of(parcels)
    books.statuses["duplicate"] += 1
    books.codes["not_json"] += 1
    books.postings += 1
    for sums in (
        books.audio["nordlyd", traffic.DAY],
        books.tokens["quill-small"],
        next(iter(books.jobs["alto-media"].values())),
    ):
        sums[0] += 1
    return books


def test_a_number_that_differs_is_named_and_ends_the_demo_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number is compared: books that are wrong by one differ in every place where it counts."""
    monkeypatch.setattr(story, "books_of", wrong)
    done = CliRunner().invoke(demo, ["--serve"])
    differing = {line.split(":")[0] for line in done.output.splitlines() if line.startswith("DIFFERS")}
    assert differing == {
        "DIFFERS events duplicate",
        "DIFFERS codes",
        "DIFFERS audio",
        "DIFFERS audio, total",
        "DIFFERS tokens",
        "DIFFERS speechmatics, details",
        "DIFFERS speechmatics, summary",
        "DIFFERS verify, postings",
    }
    assert done.exit_code == 1


def test_a_receipt_that_is_not_the_expected_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of which one event is expected to be refused, and is not, differs at its request."""
    day = make()
    item = day[0].items[0]
    object.__setattr__(item, "code", "field_missing")
    monkeypatch.setattr(traffic, "make", lambda: day)
    done = CliRunner().invoke(demo, ["--no-serve"])
    assert "DIFFERS request 1, status: 200, but it should be 207" in done.output
    assert "DIFFERS request 1, refused: []" in done.output
    assert done.exit_code == 1


def test_a_folder_that_was_named_is_kept_and_proves_itself_again(tmp_path: Path) -> None:
    """Its ledger can be looked at afterwards, and a second demo does not write into it."""
    data = tmp_path / "kept"
    assert tallystick_command("demo", "--no-serve", "--data", str(data)).returncode == 0
    proof = json.loads(tallystick_command("verify", "--data", str(data), "--format", "json").stdout)
    events = books_of(make()).statuses["accepted"] + len(month.make().events)
    assert (proof["events"], proof["faults"]) == (events, [])
    again = tallystick_command("demo", "--no-serve", "--data", str(data))
    assert (again.returncode, again.stdout) == (2, "")
    assert "is not an empty folder" in again.stderr


# The end


def started(folder: Path, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start the demo with a folder for what is temporary."""
    return subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ, "TMPDIR": str(folder)},
    )


def servers(folder: Path) -> list[str]:
    """Return the processes that serve something in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = place.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in command:
            found.append(place.parent.name)
    return found


def left(folder: Path) -> list[Path]:
    """Return what is left of ledgers in a folder for what is temporary."""
    return list(folder.glob("tallystick-demo-*"))


def until_it_stays(process: subprocess.Popen[str]) -> tuple[str, str, str]:
    """Read what the demo prints until it waits; return the address, the key and the page that it names."""
    assert process.stdout is not None
    text = ""
    while "/v2/usage?" not in text:
        line = process.stdout.readline()
        assert line, "the demo has ended"
        text = text + line if "Serving at" in text or "Serving at" in line else ""
    (url,) = re.findall(r"Serving at (\S+) ", text)
    (key,) = re.findall(r"^KEY=(\S+)", text, flags=re.MULTILINE)
    (page,) = re.findall(rf"^({re.escape(url)}/dashboard/\S+)$", text, flags=re.MULTILINE)
    assert re.search(rf'^  "{url}/v2/usage\?since=2026-03-03&until=2026-03-03"$', text, flags=re.MULTILINE)
    return url, key, page


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_stays_up_until_it_is_told_to_end_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """The address, the page and the key that it prints answer; a signal ends it with 0, and leaves nothing."""
    process = started(tmp_path, {"SERVE": "1"})
    url, key, page = until_it_stays(process)
    with urllib.request.urlopen(page, timeout=END_S_MAX) as reply:
        assert b'name="key"' in reply.read()
    request = urllib.request.Request(f"{url}/v2/usage?since=2026-03-03", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=END_S_MAX) as reply:
        assert json.load(reply)["summary"][0]["type"] == "transcription"
    assert len(servers(tmp_path)) == len(left(tmp_path)) == 1
    process.send_signal(number)
    _, complaints = process.communicate(timeout=END_S_MAX)
    assert (process.returncode, complaints) == (0, "")
    assert (servers(tmp_path), left(tmp_path)) == ([], [])


def test_a_demo_that_is_told_to_end_on_its_way_leaves_nothing(tmp_path: Path) -> None:
    """The signal is answered before the day is over, with the exit code that says so."""
    process = started(tmp_path, {})
    deadline = time.monotonic() + END_S_MAX
    while not list(tmp_path.glob("tallystick-demo-*/lock")):
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    process.terminate()
    _, complaints = process.communicate(timeout=END_S_MAX)
    assert (process.returncode, complaints) == (128 + signal.SIGTERM, "")
    assert (servers(tmp_path), left(tmp_path)) == ([], [])


def test_settings_of_the_machine_do_not_reach_the_demo(tmp_path: Path) -> None:
    """A port in use, a key or a settings file that belong to another server change nothing."""
    (tmp_path / "tallystick.toml").write_text("batch_events_max = 1\n")
    environ = {**os.environ, "TALLYSTICK_OPERATOR_KEY": "k" * 40, "TALLYSTICK_EVENT_BYTES_MAX": "1", "SERVE": "0"}
    done = subprocess.run(DEMO, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_that_does_not_start_ends_the_demo() -> None:
    """Its own words say why: here, that the port is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = tallystick_command("demo", "--no-serve", "--port", str(port))
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert done.stderr.endswith("Error: the server did not start\n")
