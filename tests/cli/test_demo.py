"""`tallystick demo`: its numbers are the generator's, the generator's are those of what it sends, nothing is left."""

from __future__ import annotations

import asyncio
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
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from tallystick import windows
from tallystick.cli.demo import bounds, month, story, tell, traffic
from tallystick.cli.demo.command import demo
from tallystick.cli.demo.days import BILLED_DAYS, DAYS, LATE_DAYS, ONE, Days, until
from tallystick.cli.demo.server import Answer, Server
from tallystick.cli.demo.traffic import LINES, SINGLE, Books, Parcel, books_of, make
from tallystick.settings import Settings
from tallystick.windows import Period
from tests.api.client import OPERATOR, World
from tests.cli.test_root import tallystick_command

DEMO = [sys.executable, "-m", "tallystick", "demo"]
END_S_MAX = 30
WIDE = ("http", "/v2/usage", "with its data in", "head of the chain", "KEY=")
"""What begins or marks a line that may be longer than a terminal, because it is there to be copied."""
CLOCKS = (
    "2026-11-27T12:00:00Z",
    "2026-03-01T00:00:30Z",
    "2026-12-31T23:59:59Z",
    "2028-02-29T18:30:00Z",
    "2026-03-29T01:30:00Z",
    "2026-10-25T01:00:00.000001Z",
)
"""Beginnings and ends of days, months and years, a leap day, and the hours in which clocks are changed."""
USUAL = until(windows.parse_instant(CLOCKS[0]))


@cache
def usual(clock: str) -> tuple[Days, list[Parcel]]:
    """Return the days up to a clock's time and the requests about them, made once."""
    days = until(windows.parse_instant(clock))
    return days, make(days)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Name the folder in which the demo keeps its data."""
    return tmp_path_factory.mktemp("demo") / "kept"


@pytest.fixture(scope="module")
def shown(data: Path) -> str:
    """What the demo prints when it does not stay."""
    done = tallystick_command("demo", "--no-serve", "--data", str(data))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def days_of(text: str) -> Days:
    """Return the days of which a demo tells, by the clock that it prints."""
    (now,) = re.findall(r"up to now, (\S+Z),", text)
    return until(windows.parse_instant(now))


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


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_books_are_what_the_requests_say(clock: str) -> None:
    """Taken each identity once, and only what is to be taken, the events add up to the sums that the demo expects."""
    days, parcels = usual(clock)
    seconds, tokens, seen = defaultdict[tuple[str, str], Decimal](Decimal), Counter[str](), set()
    for parcel in parcels:
        for item, event in zip(parcel.items, facts_of(parcel), strict=True):
            if item.code is not None or event is None:
                continue
            identity = (parcel.sender or event["account"], event["source"], event["id"])
            assert (item.status == "duplicate") == (identity in seen)
            assert windows.parse_instant(event["time"]) <= windows.parse_instant(clock)
            if identity not in seen and event["data"].get("status") != "failed":
                if "duration" in event["data"]:
                    seconds[identity[0], event["time"][:10]] += duration(event["data"]["duration"])
                else:
                    tokens[event["data"]["model"]] += event["data"]["input"] + event["data"]["output"]
            seen.add(identity)
    books = books_of(parcels, days)
    assert seconds == {(a, f"{day:%Y-%m-%d}"): Decimal(ms).scaleb(-3) for (a, day), (_, ms) in books.audio.items()}
    assert tokens == {model: sums[1] + sums[2] for model, sums in story.by_model(books).items()}


def test_the_same_seed_and_clock_make_the_same_traffic_and_others_another() -> None:
    """The demo shows the same numbers on every machine at the same time."""
    later = Days(USUAL.now + ONE)
    made = [(USUAL, traffic.SEED), (USUAL, traffic.SEED), (USUAL, traffic.SEED + 1), (later, traffic.SEED)]
    first, *others = [[parcel.body for parcel in make(days, seed)] for days, seed in made]
    assert [first == other for other in others] == [True, False, False]
    assert month.make(USUAL).events == month.make(USUAL).events


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_day_that_is_told_has_all_that_happens_in_one(clock: str) -> None:
    """Repeats, conflicts, many kinds of refusals and late events are among it, in every form of request."""
    days, parcels = usual(clock)
    books = books_of(parcels, days)
    assert {parcel.media_type for parcel in parcels} == set(story.FORMS)
    assert {parcel.sender for parcel in parcels} == {None, "kestrel-clinic", "quill-assist"}
    assert min(books.statuses[status] for status in story.STATUSES) >= 5
    assert len(books.codes) >= 10
    late = [item for parcel in parcels for item in parcel.items if item.work is not None and item.work.number > 90_000]
    assert len({item.work.at.date() for item in late[-80:] if item.work is not None}) == LATE_DAYS


def test_the_traffic_looks_alive() -> None:
    """Every day has some; weekdays have more than Sundays, noon more than night, and this month more than the last."""
    works = [item.work for parcel in usual(CLOCKS[0])[1] for item in parcel.items if item.work is not None]
    days, hours = Counter(work.at.date() for work in works), Counter(work.at.hour for work in works)
    assert len(days) == DAYS
    weekly = [sum(number for day, number in days.items() if day.weekday() == weekday) for weekday in (2, 6)]
    assert weekly[0] > 1.3 * weekly[1]
    assert hours[10] > 3 * hours[3]
    recent = sum(number for day, number in days.items() if day >= USUAL.shown.date())
    assert recent > 1.2 * (len(works) - recent)


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_period_of_every_limit_began_some_days_ago_and_ends_later(clock: str) -> None:
    """Whatever the month, its anchor is a day that it has, and midnight does not begin another period."""
    now = windows.parse_instant(clock)
    days = until(now)
    for instant in (now, now + windows.DAY):
        begun, ends = windows.period_of(instant, Period.MONTH, anchor=days.billed.day)
        assert until(begun).now == days.billed == days.today - BILLED_DAYS * ONE
        assert ends > now + 7 * windows.DAY


# The run


def test_the_demo_prints_the_receipts_that_the_generator_counts(shown: str) -> None:
    """Each receipt and each code stands there with its number."""
    days = days_of(shown)
    books = books_of(make(days), days)
    rows = numbers(shown, "What became of them")
    counted = {(row[0], row[1] if len(row) == 3 else None): int(row[-1]) for row in rows}
    assert sum(counted.values()) == sum(len(parcel.items) for parcel in make(days))
    assert {status: counted[status, None] for status in ("accepted", "duplicate")} == {
        status: books.statuses[status] for status in ("accepted", "duplicate")
    }
    assert {code: number for (_, code), number in counted.items() if code is not None} == books.codes


def test_the_demo_prints_the_usage_that_the_generator_sums(shown: str) -> None:
    """Seconds by account and day, tokens by model, hours by kind of job, and the proof."""
    days = days_of(shown)
    books = books_of(make(days), days)
    audio = {key: sums for key, sums in books.audio.items() if days.late <= key[1] <= days.told}
    *rows, total = numbers(shown, "Usage of meter audio")
    assert [(row[1], row[0], int(row[2]), 1000 * Decimal(row[3])) for row in rows] == sorted(
        ((account, f"{day:%Y-%m-%d}", *sums) for (account, day), sums in audio.items()),
        key=lambda row: (row[1], row[0]),
    )
    assert 1000 * Decimal(total[-1]) == sum(millis for _, millis in audio.values())
    tokens = {row[0]: [int(cell) for cell in row[1:]] for row in numbers(shown, "tokens_in and tokens_out")}
    assert tokens == story.by_model(books)
    jobs = books.jobs[story.REPORTED]
    hours = {tuple(None if c == "-" else c for c in row[:3]): row[3:] for row in numbers(shown, "as Speechmatics")}
    assert {kind: int(row[0]) for kind, row in hours.items()} == {kind: count for kind, (count, _) in jobs.items()}
    assert all(abs(3600 * Decimal(row[1]) - Decimal(jobs[kind][1]).scaleb(-3)) <= 18 for kind, row in hours.items())
    made = month.make(days)
    events, postings = books.statuses["accepted"] + len(made.events), books.postings + made.postings
    assert f"{events} events, {postings} postings" in shown
    assert re.search(r"0 faults\nhead of the chain: [0-9a-f]{64}\n", shown)


def test_the_demo_prints_each_vendors_report_of_the_month(shown: str) -> None:
    """Hours by model, what is in a space, requests and credits, seconds by technology, and limits of every kind."""
    made = month.make(days_of(shown))
    *models, total = numbers(shown, "as vblaze reports it")
    assert {row[0]: int(row[2]) for row in models} == {name: count for name, (_, count) in made.by_model().items()}
    assert int(total[2]) == 520
    space = {row[0]: int(row[1]) for row in numbers(shown, "as hiya reports it")}
    assert space == {"uploadedAudios": 36, "performedVerifications": 30}
    pictures = numbers(shown, "as visii reports it")
    assert sum(Decimal(row[3]) for row in pictures) == made.credits()
    speech = numbers(shown, "as phonexia reports it")
    assert 1000 * sum(Decimal(row[2]) for row in speech) == sum(ms for _, ms in made.technologies.values())
    near, over, unlimited, fine = ([Decimal(cell) for cell in row[2:]] for row in numbers(shown, "Limits: one is near"))
    capacity, used, held, _ = near
    assert Decimal("0.8") * capacity <= used + held < capacity
    assert over[1] > over[0]
    assert unlimited[3] == unlimited[1] - unlimited[0] > 0
    assert fine[1] + fine[2] < fine[0] / 2
    assert min(near[2], fine[2]) > 0


def test_the_months_sums_are_what_its_events_say() -> None:
    """Seconds, credits and what is left in the space, read from the events themselves."""
    made = month.make(USUAL)
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
        DEMO, stdout=theirs, stderr=theirs, env={**environ, "SERVE": "0", "TERM": "xterm", "TMPDIR": str(tmp_path)}
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


def wrong(parcels: Sequence[Parcel], days: Days) -> Books:
    """Add up the books with a mistake of one in each kind of number."""
    books = books_of(parcels, days)
    books.statuses["duplicate"] += 1
    books.codes["not_json"] += 1
    books.postings += 1
    for sums in (
        books.audio["nordlyd", days.told],
        books.tokens["quill-small", days.told],
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


def test_a_folder_that_was_named_is_kept_and_proves_itself_again(shown: str, data: Path) -> None:
    """Its ledger can be looked at afterwards, and a second demo does not write into it."""
    days = days_of(shown)
    proof = json.loads(tallystick_command("verify", "--data", str(data), "--format", "json").stdout)
    events = books_of(make(days), days).statuses["accepted"] + len(month.make(days).events)
    assert (proof["events"], proof["faults"]) == (events, [])
    again = tallystick_command("demo", "--no-serve", "--data", str(data))
    assert (again.returncode, again.stdout) == (2, "")
    assert "is not an empty folder" in again.stderr


# Any day


class Within(Server):
    """The demo's server as an application in this process, whose clock goes on by a second with every request."""

    def __init__(self, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self.world, self.loop, self.operator_key = world, loop, OPERATOR

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str,
        media_type: str = "application/json",
        scheme: str = "Bearer",
    ) -> Answer:
        """Ask the application."""
        headers = {"content-type": media_type}
        asked = self.world.ask(method, path, body or b"", key=key, scheme=scheme, headers=headers)
        answer = self.loop.run_until_complete(asked)
        self.world.now += windows.SECOND
        return Answer(answer.status, json.loads(answer.body, parse_float=str))


@contextmanager
def within(days: Days, folder: Path) -> Iterator[Within]:
    """Open an application whose clock shows the end of these days."""

    async def opened() -> World:
        return World(Settings(operator_key=OPERATOR), now=windows.parse_instant(story.instant(days.now)), folder=folder)

    with asyncio.Runner() as runner:
        world = runner.run(opened())
        try:
            yield Within(world, runner.get_loop())
        finally:
            runner.run(world.app.close())


@pytest.mark.parametrize("clock", CLOCKS[1::2])
def test_the_demo_is_the_same_on_every_day(clock: str, tmp_path: Path) -> None:
    """Every number agrees and every limit is what it is said to be, also where a day or a year ends meanwhile."""
    days, parcels = usual(clock)
    with within(days, tmp_path) as server:
        told = story.begin(server, Console(file=StringIO()), days, parcels)
        assert tell.tell(told)
    assert told.comparison.count > 200
    used = {bound.account: bound.used / bound.amount for bound in bounds.bounds_of(told, month.make(days))}
    assert Decimal("0.8") <= used["brightline"] < 1 < used["sightly"]


def test_a_receipt_that_is_not_the_expected_one_is_named(tmp_path: Path) -> None:
    """Traffic of which one event is expected to be refused, and is not, differs at its request."""
    parcels, shown = make(USUAL), StringIO()
    object.__setattr__(parcels[0].items[0], "code", "field_missing")
    with within(USUAL, tmp_path) as server:
        assert not tell.tell(story.begin(server, Console(file=shown), USUAL, parcels))
    assert "DIFFERS request 1, status: 200, but it should be 207" in shown.getvalue()
    assert "DIFFERS request 1, refused: []" in shown.getvalue()


# The end


def started(folder: Path, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start the demo with a folder for what is temporary."""
    return subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
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
    text = line = ""
    while not line.startswith("tly_op_"):
        line = process.stdout.readline()
        assert line, "the demo has ended"
        text = text + line if "Serving at" in text or "Serving at" in line else ""
    (url,) = re.findall(r"Serving at (\S+) ", text)
    (key,) = re.findall(r"^KEY=(\S+)", text, flags=re.MULTILINE)
    (page,) = re.findall(rf"^({re.escape(url)}/dashboard/\S+)\n{line}$", text, flags=re.MULTILINE)
    assert re.search(rf'^  "{url}/v2/usage\?since=([-\d]+)&until=\1"$', text, flags=re.MULTILINE)
    return url, key, page


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_stays_up_until_it_is_told_to_end_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """The address, the page and the key that it prints answer; a signal ends it with 0, and leaves nothing.

    A settings file, a key or a limit that belongs to another server of the machine changes nothing.
    """
    (tmp_path / "tallystick.toml").write_text("batch_events_max = 1\n")
    others = {"TALLYSTICK_OPERATOR_KEY": "k" * 40, "TALLYSTICK_EVENT_BYTES_MAX": "1"}
    process = started(tmp_path, {"SERVE": "1", **others})
    url, key, page = until_it_stays(process)
    with urllib.request.urlopen(page, timeout=END_S_MAX) as reply:
        assert b'name="key"' in reply.read()
    request = urllib.request.Request(f"{url}/v2/usage", headers={"Authorization": f"Bearer {key}"})
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


def test_a_server_that_does_not_start_ends_the_demo() -> None:
    """Its own words say why: here, that the port is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = tallystick_command("demo", "--no-serve", "--port", str(port))
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert done.stderr.endswith("Error: the server did not start\n")
