"""`import` from end to end: the same sums from every form, once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import pytest
import zstandard

from tallystick.app import open_app
from tallystick.cli.source import Place
from tallystick.clock import system_clock
from tallystick.ledger.sqlite.ledger import open_sqlite
from tallystick.settings import Settings
from tests import forked
from tests.cli.test_root import tallystick_command
from tests.server import OPERATOR, serving

DATA = Path(__file__).parents[3].parent / "shared" / "data"
SET = ["--set", "type=audio.processed", "--set", "account=acme"]


def imported(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run an import into a folder; return what it said of all files."""
    done = tallystick_command("import", *arguments, "--data", str(folder), "--format", "json")
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def totals(folder: Path, meter: str = "audio") -> tuple[int, Decimal]:
    """Return count and quantity of all that is kept, from a ledger whose replay is clean."""

    async def read() -> tuple[int, Decimal]:
        ledger = await open_sqlite(folder, Settings(), system_clock)
        try:
            assert list((await ledger.verify()).faults) == []
        finally:
            await ledger.close()
        place = Place(Settings(data=folder), None, None)
        async with place.open() as door:
            from tallystick.cli.source import Question

            answer = await door.ask(Question("GET", f"/v1/usage?meter={meter}&window=total"))
        total = json.loads(answer.body)["total"]
        return total["count"], Decimal(total["quantity"])

    return asyncio.run(read())


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return found["accepted"], found["duplicate"], found["conflict"], found["rejected"]


def jobs(count: int) -> list[dict[str, Any]]:
    """Make jobs of whole milliseconds, some of them twice the same."""
    rng = random.Random(count)
    made = [
        {"time": f"2026-03-{1 + n % 28:02d}T10:00:00Z", "ms": rng.randrange(1, 9), "language": rng.choice(["en", "cs"])}
        for n in range(count)
    ]
    return [*made, *made[: count // 3]]


def lines_of(found: Sequence[dict[str, Any]]) -> list[str]:
    return [
        json.dumps(
            {
                "type": "audio.processed",
                "account": "acme",
                "time": job["time"],
                "data": {"duration": f"0.00{job['ms']}", "language": job["language"]},
            }
        )
        for job in found
    ]


def table_of(found: Sequence[dict[str, Any]], delimiter: str) -> str:
    rows = [delimiter.join(["time", "ms", "language"])]
    return "\n".join([*rows, *(delimiter.join([job["time"], str(job["ms"]), job["language"]]) for job in found)]) + "\n"


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.ndjson", bytes),
        ("a.json.gz", gzip.compress),
        ("a.csv.zst", zstandard.compress),
        ("a.tsv", bytes),
        ("-", gzip.compress),
    ],
)
def test_every_form_gives_the_same_sums_and_running_it_again_changes_nothing(
    tmp_path: Path, name: str, pack: Any
) -> None:
    """Equal lines count as often as they stand there, and no line counts again."""
    found = jobs(300)
    if "csv" in name or "tsv" in name:
        text, flags = table_of(found, "\t" if "tsv" in name else ","), ["--map", "ms=duration:ms", *SET]
    else:
        text, flags = "\n".join(lines_of(found)), []
        if "json." in name:
            text = "[" + ",\n".join(lines_of(found)) + "]"
    (tmp_path / name).write_bytes(pack(text.encode()))
    command = ["import", name, *flags, "--data", "d", "--format", "json"]
    for expected in ((400, 0, 0, 0), (0, 400, 0, 0)):
        given = (tmp_path / name).read_bytes() if name == "-" else b""
        done = forked.run("tallystick", *command, cwd=tmp_path, stdin=given)
        assert counts(json.loads(done.stdout)) == expected
        assert "400 lines in" in done.stderr
    assert totals(tmp_path / "d") == (400, Decimal(sum(job["ms"] for job in found)) / 1000)


def test_a_file_that_is_renamed_or_grows_adds_only_what_is_new(tmp_path: Path) -> None:
    """What is told apart is the line, not the file."""
    lines = lines_of(jobs(60))
    (tmp_path / "a.ndjson").write_text("\n".join(lines[:50]))
    (tmp_path / "b.ndjson").write_text("\n".join([*lines, lines[0]]))
    first = imported(tmp_path / "d", str(tmp_path / "a.ndjson"))
    again = imported(tmp_path / "d", str(tmp_path / "b.ndjson"), str(tmp_path / "a.ndjson"))
    assert counts(first) == (50, 0, 0, 0)
    assert counts(again) == (31, 100, 0, 0)
    assert [file["duplicate"] for file in again["files"]] == [50, 50]
    assert totals(tmp_path / "d")[0] == 81


BAD = """id,source,when,ms,language
1,s,2026-03-01T10:00:00Z,5,en
2,s,yesterday,5,en
3,s,2026-03-01T10:00:00Z,five,en

4,s,2026-03-01T10:00:00Z,5,en,more
1,s,2026-03-01T10:00:00Z,6,en
,s,2026-03-01T10:00:00Z,-1,en
5,s,2026-03-01T10:00:00Z,5,en
"""


@pytest.mark.parametrize("where", ["folder", "server"])
def test_refused_lines_go_to_a_file_with_their_numbers_and_reasons(tmp_path: Path, where: str) -> None:
    """The dry run finds what the validator finds and keeps nothing; only the ledger knows a conflict."""
    (tmp_path / "bad.csv").write_text(BAD)
    command = ["import", str(tmp_path / "bad.csv"), "--map", "when=time", "--map", "ms=duration:ms", *SET]
    command += ["--format", "json", "--rejects", str(tmp_path / "rejects")]

    def run(*flags: str) -> tuple[tuple[int, int, int, int], list[tuple[int, str, str]]]:
        done = tallystick_command(*command, *flags)
        assert done.returncode == 1
        assert "line 3" in done.stderr
        rejects = [json.loads(line) for line in (tmp_path / "rejects").read_text().splitlines()]
        assert all(reject["detail"] and reject["raw"] in BAD for reject in rejects)
        return counts(json.loads(done.stdout)), [(line["line"], line["code"], line["pointer"]) for line in rejects]

    wrong = [
        (3, "time_format", "/time"),
        (4, "quantity_type", "/data/duration"),
        (6, "not_object", ""),
        (8, "quantity_negative", "/data/duration"),
    ]
    with serving(tmp_path / "ledger" if where == "server" else None) as server:
        place = ["--data", str(tmp_path / "ledger")]
        if where == "server":
            place = ["--server", server.url, "--key", OPERATOR]
        assert run(*place, "--dry-run") == ((3, 0, 0, 4), wrong)
        assert (where == "server") == (tmp_path / "ledger").exists(), "a dry run makes no ledger"
        with_conflict = sorted([*wrong, (7, "id_reused", "")])
        counted, rejects = run(*place)
        assert (counted, [(line, code) for line, code, _ in rejects]) == (
            (2, 0, 1, 4),
            [(line, code) for line, code, _ in with_conflict],
        )
    assert totals(tmp_path / "ledger") == (2, Decimal("0.010"))


def test_a_server_with_a_smaller_bound_gets_smaller_batches(tmp_path: Path) -> None:
    """A refused batch is halved until it fits, and each line still has its number."""
    lines = lines_of(jobs(300))
    lines[200] = "{}"
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    with serving(None, "--batch-events-max", "70") as server:
        flags = ["--server", server.url, "--key", OPERATOR, "--format", "json", "--rejects", str(tmp_path / "r")]
        done = tallystick_command("import", str(tmp_path / "a.ndjson"), *flags)
        assert counts(json.loads(done.stdout)) == (399, 0, 0, 1)
        assert json.loads((tmp_path / "r").read_text())["line"] == 201
        assert server.ask("GET", "/v1/usage?meter=audio").json["total"]["count"] == 399


def test_an_import_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed again and again, a pipe or a file, and run to its end at last: each line counts once, equal ones too."""
    rng = random.Random(11)
    found = jobs(30_000)
    table = table_of(found, ",")
    (tmp_path / "a.csv").write_text(table)
    command = [str(tmp_path / "a.csv"), "--map", "ms=duration:ms", *SET]
    ended, wal = [], tmp_path / "d" / "ledger.db-wal"
    for name in ("-", str(tmp_path / "a.csv"), "-"):
        whole = [
            sys.executable,
            "-m",
            "tallystick",
            "import",
            name,
            *command[1:],
            "--as",
            "csv",
            "--data",
            str(wal.parent),
        ]
        process = subprocess.Popen(whole, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdin is not None, "it has a pipe"
        # A pipe never comes to its end, however fast it is read: whoever reads it is killed on the way.
        feeding = threading.Thread(target=_feed, args=(process.stdin, table[: len(table) * 3 // 4].encode()))
        feeding.start()
        while process.poll() is None and not (wal.exists() and wal.stat().st_size >= 400_000):
            time.sleep(0.005)
        time.sleep(rng.random() / 4)
        process.kill()
        ended.append(process.wait(30))
        feeding.join()
        with suppress(BrokenPipeError):
            process.stdin.close()
    assert (ended[0], ended[2]) == (-signal.SIGKILL, -signal.SIGKILL)
    assert ended[1] in (-signal.SIGKILL, 0)
    end = imported(tmp_path / "d", *command)
    assert end["accepted"] + end["duplicate"] == len(found)
    assert end["duplicate"] > 0
    assert totals(tmp_path / "d") == (len(found), Decimal(sum(job["ms"] for job in found)) / 1000)


def _feed(pipe: IO[bytes], text: bytes) -> None:
    with suppress(BrokenPipeError):
        pipe.write(text)
        pipe.flush()


def test_a_file_that_is_cut_short_is_imported_as_far_as_it_goes_and_ends_with_1(tmp_path: Path) -> None:
    """The whole file, later, adds the rest."""
    lines = lines_of(jobs(3000))
    packed = gzip.compress("\n".join(lines).encode())
    (tmp_path / "cut.ndjson.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "whole.ndjson.gz").write_bytes(packed)
    done = tallystick_command("import", str(tmp_path / "cut.ndjson.gz"), "--data", str(tmp_path / "d"))
    assert done.returncode == 1
    assert "could not be read to its end" in done.stderr
    end = imported(tmp_path / "d", str(tmp_path / "whole.ndjson.gz"))
    assert end["accepted"] + end["duplicate"] == len(lines)
    assert totals(tmp_path / "d")[0] == len(lines)


def test_meters_of_the_settings_file_count_what_is_imported(tmp_path: Path) -> None:
    """As they would if a server had taken it."""
    config = '[meters.jobs]\nevents = ["job.done"]\nunit = "{job}"\nscale = 0\naggregation = "count"\n'
    (tmp_path / "t.toml").write_text(config)
    (tmp_path / "a.csv").write_text("id\n1\n2\n")
    flags = ["--set", "type=job.done", "--set", "account=acme", "--set", "source=s", "--config"]
    assert counts(imported(tmp_path / "d", str(tmp_path / "a.csv"), *flags, str(tmp_path / "t.toml")))[0] == 2
    assert totals(tmp_path / "d", "jobs")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.csv"], "none.csv cannot be read: No such file"),
        (["a.csv", "--map", "z=id"], "a.csv: There is no column 'z' to map"),
        (["a.csv", "--tz", "Mars"], "there is no such zone"),
        (["a.csv", "--delimiter", "::"], "one character"),
        ([], "Missing argument"),
    ],
)
def test_an_import_that_cannot_be_meant_ends_with_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    """Nothing is kept, and nothing goes to stdout."""
    (tmp_path / "a.csv").write_text("id,source\n1,s\n")
    done = forked.run("tallystick", "import", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_door_without_room_is_asked_again_and_the_wait_has_an_end(tmp_path: Path) -> None:
    """A batch that got no answer is sent again; what was kept of it is a duplicate then, not lost and not twice."""
    from tallystick.cli.importing.files import Files
    from tallystick.cli.importing.mapping import mapping_of
    from tallystick.cli.importing.reading import reader
    from tallystick.cli.importing.run import Import, Rejects
    from tallystick.cli.options import Failure
    from tallystick.cli.source import Answer, Door, Folder, Question

    class Flaky:
        def __init__(self, door: Door) -> None:
            self.door, self.asked = door, 0

        async def ask(self, question: Question) -> Answer:
            self.asked += 1
            answer = await self.door.ask(question)
            if self.asked == 3:
                return Answer(503, b"{}", {"retry-after": "0"})
            if self.asked == 4:
                raise Failure("gone")
            return answer

    async def run() -> None:
        app = await open_app(Settings(url="memory:", operator_key=OPERATOR))
        try:
            files = Files([str(tmp_path / "a.ndjson")] * 5, mapping_of((), (), "UTC"), None, None)
            with reader(files) as read:
                door = Flaky(Folder(app, OPERATOR))
                (first, *rest), whole = await Import(files.names, False, rejects).run(read, door)
        finally:
            await app.close()
        assert whole
        assert first.accepted == 40
        assert [tally.duplicate for tally in rest] == [40] * 4

    rejects = Rejects(tmp_path / "r")
    (tmp_path / "a.ndjson").write_text("\n".join(lines_of(jobs(30))))
    asyncio.run(run())


def test_a_refusal_on_a_terminal_takes_the_place_of_the_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would stand behind it on one line otherwise."""
    from tallystick.cli.importing.batches import Refusal
    from tallystick.cli.importing.run import Rejects

    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    rejects = Rejects(tmp_path / "r")
    rejects.add("a.csv", [Refusal(7, b"x", "rejected", "not_json", "", "Send JSON.")])
    rejects.close()
    assert capsys.readouterr().err.startswith("\r\x1b[Ka.csv line 7: not_json  Send JSON.\n")


needs_real_files = pytest.mark.skipif(not DATA.is_dir(), reason="the real input is not there (../shared/data)")


@needs_real_files
def test_real_clips_are_imported_by_one_command(tmp_path: Path) -> None:
    """They sum to the durations in the file, to the millisecond, per speaker too."""
    path = DATA / "speech-clips-ps.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    flags = ["--map", "clip=id", "--map", "speaker=billing", "--map", "duration_ms=duration:ms"]
    found = imported(tmp_path / "d", str(path), *flags, *SET, "--set", "source=clips")
    assert counts(found) == (len(rows), 0, 0, 0)
    assert totals(tmp_path / "d") == (len(rows), Decimal(sum(int(row[3]) for row in rows)) / 1000)
    asked = ["--group-by", "billing", "--format", "ndjson", "--data", str(tmp_path / "d")]
    table = [json.loads(line) for line in tallystick_command("usage", *asked).stdout.splitlines()]
    expected: dict[str | None, int] = {}
    for _, speaker, _, milliseconds in rows:
        expected[speaker or None] = expected.get(speaker or None, 0) + int(milliseconds)
    assert {row["billing"]: Decimal(row["quantity"]) * 1000 for row in table} == expected


@needs_real_files
def test_real_requests_are_imported_by_one_command(tmp_path: Path) -> None:
    """Lines without ids, times without a zone: both tokens sum to those in the file, twice run or not."""
    path = DATA / "llm-requests-code.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    flags = ["--map", "TIMESTAMP=time", "--map", "ContextTokens=input", "--map", "GeneratedTokens=output"]
    flags += ["--set", "type=model.request", "--set", "model=code", "--set", "account=acme"]
    assert counts(imported(tmp_path / "d", str(path), *flags)) == (len(rows), 0, 0, 0)
    assert counts(imported(tmp_path / "d", str(path), *flags)) == (0, len(rows), 0, 0)
    assert totals(tmp_path / "d", "tokens_in") == (len(rows), Decimal(sum(int(row[1]) for row in rows)))
    assert totals(tmp_path / "d", "tokens_out") == (len(rows), Decimal(sum(int(row[2]) for row in rows)))
    asked = ["usage", "--meter", "tokens_in", "--from", "2023-11-16T18:17:00Z", "--to", "2023-11-16T18:18:00Z"]
    shown = tallystick_command(*asked, "--format", "json", "--data", str(tmp_path / "d"))
    minute = [row for row in rows if row[0].startswith("2023-11-16 18:17:")]
    assert json.loads(shown.stdout)["total"]["count"] == len(minute)
