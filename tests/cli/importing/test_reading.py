"""Files that are read by a process of their own, and how it ends."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tallystick.cli.importing import batches, files, reading
from tallystick.cli.importing.batches import Batch
from tallystick.cli.importing.files import Files
from tallystick.cli.importing.mapping import mapping_of
from tallystick.cli.importing.reading import Read, reader
from tallystick.cli.options import Failure

FILES = Files(["a.csv", "b.csv"], mapping_of(["n=duration:ms"], ["type=audio.processed"], "UTC"), None, None)
IMPORT = [sys.executable, "-m", "tallystick", "import", "-", "--as", "csv", "--set", "type=t", "--set", "account=a"]


@pytest.fixture(autouse=True)
def always_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read everything apart, from a folder of the test's own."""
    monkeypatch.setattr(files, "APART_BYTES", 0)
    monkeypatch.chdir(tmp_path)


async def all_of(read: Read, count: int) -> list[Batch]:
    """Read the batches of so many files."""
    found: list[Batch] = []
    while sum(batch.ends for batch in found) < count:
        found.append(await read())
    return found


def test_what_is_read_apart_is_what_would_be_read_here(tmp_path: Path) -> None:
    """Events, lines, refused rows and notes, of one file after the other."""
    rows = "".join(f"{n if n % 1000 else 'no number'},t,cs\n" for n in range(2 * batches.BATCH_EVENTS))
    (tmp_path / "a.csv").write_text(f"n,type,language\n{rows}")
    (tmp_path / "b.csv").write_bytes(b"n,id\n1,\xff\n2,b\n3\n")
    with reader(FILES) as read:
        found = asyncio.run(all_of(read, 2))
    assert found == list(FILES.batches())
    assert [len(batch.notes) for batch in found] == [1, 0, 0]
    assert sum(len(batch.refused) for batch in found) == 42


def test_modules_that_lie_beside_the_files_are_not_taken_for_others(tmp_path: Path) -> None:
    """Files may lie in any folder, whatever else is in it."""
    for name in ("pickle", "csv", "json", "tallystick"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    (tmp_path / "a.csv").write_text("n\n1\n")
    (tmp_path / "b.csv").write_text("n\n2\n")
    with reader(FILES) as read:
        assert len(asyncio.run(all_of(read, 2))) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The one before it is read."""
    (tmp_path / "a.csv").write_text("n\n1\n")
    with reader(FILES) as read:
        assert asyncio.run(all_of(read, 1))[0].ends
        with pytest.raises(Failure, match=r"^b\.csv cannot be read: No such file or directory\.$"):
            asyncio.run(all_of(read, 1))
    (tmp_path / "a.csv").write_text("m\n1\n")
    with reader(FILES) as read, pytest.raises(Failure, match=r"^a\.csv: There is no column 'n' to map"):
        asyncio.run(all_of(read, 1))


def test_a_reading_process_that_is_killed_ends_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did not give is never taken for nothing."""
    os.mkfifo(tmp_path / "a.csv")
    monkeypatch.setattr(reading, "READER", "-")
    with reader(FILES) as read, pytest.raises(Failure, match="ended with 1: run the import again"):
        asyncio.run(all_of(read, 1))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_no_reading_process_outlives_its_import(tmp_path: Path, sent: signal.Signals) -> None:
    """It ends also where it waits for a pipe; interrupted, the import says one word and no more."""
    waits, writes = os.pipe()
    with subprocess.Popen(IMPORT, stdin=waits, stderr=subprocess.PIPE, process_group=0, text=True) as process:
        os.close(waits)
        deadline = time.monotonic() + 30
        while not (tmp_path / "tallystick-data" / "ledger.db").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, sent) if sent == signal.SIGINT else process.kill()
        ended = select.poll()
        ended.register(writes, 0)
        assert ended.poll(30_000) == [(writes, select.POLLERR)], "somebody reads the pipe yet"
        said = process.communicate(timeout=30)[1].splitlines()
    assert said[1:] == (["", "Aborted!"] if sent == signal.SIGINT else [])
    assert process.returncode == (1 if sent == signal.SIGINT else -sent)
    os.close(writes)
