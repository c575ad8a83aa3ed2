"""What is opened and what is refused: the library, the folder, the format; and how many statements a commit takes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from tallystick.errors import LedgerError
from tallystick.ledger.open import open_ledger
from tallystick.ledger.sqlite import file
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.settings import Settings
from tests.ledger.build import Desk, StillClock, asynchronous, audio

NOW = 1_714_564_800_000_000
CLOCK = StillClock(NOW)


def refusal(folder: Path) -> str:
    """Return why the folder cannot be opened."""
    with pytest.raises(LedgerError) as refused:
        asyncio.run(open_ledger(folder, Settings(), CLOCK))
    return str(refused.value)


async def opened_and_closed(folder: Path) -> None:
    await (await open_ledger(folder, Settings(), CLOCK)).close()


def altered(folder: Path, statement: str) -> None:
    """Open a folder once, so that it is there, and change its file."""
    asyncio.run(opened_and_closed(folder))
    db = apsw.Connection(str(folder / file.FILE_NAME))
    db.execute(statement)
    db.close()


@pytest.mark.parametrize("version", [(3, 51, 2), (3, 40, 0), (2, 99, 99)])
def test_a_sqlite_that_loses_commits_is_refused(version: tuple[int, ...]) -> None:
    """Releases with the WAL-reset bug are named, and so is what is needed."""
    with pytest.raises(LedgerError, match=r"3\.51\.3"):
        file.check_sqlite(version)


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 52, 0), (4, 0, 0)])
def test_a_sqlite_without_the_bug_is_taken(version: tuple[int, ...]) -> None:
    """Anything from the release that mends it on."""
    file.check_sqlite(version)


def test_a_format_of_the_future_is_refused(tmp_path: Path) -> None:
    """An older tallystick must not write what it does not understand, and changes nothing."""
    altered(tmp_path, f"PRAGMA user_version = {file.FORMAT + 1}")
    assert "newer tallystick" in refusal(tmp_path)
    db = apsw.Connection(str(tmp_path / file.FILE_NAME))
    assert db.pragma("user_version") == file.FORMAT + 1
    db.close()


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    """A database of another program is left as it is."""
    altered(tmp_path, "PRAGMA application_id = 1")
    assert "not tallystick's" in refusal(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A data folder below a regular file cannot be, and the message says which."""
    (tmp_path / "occupied").write_text("")
    assert str(tmp_path / "occupied" / "data") in refusal(tmp_path / "occupied" / "data")


def test_an_older_format_is_brought_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each migration that a file has not seen runs once, in order, and what was kept stays."""
    desk = Desk(tmp_path, CLOCK)

    async def send(id: str) -> None:
        async with desk.open() as ledger:
            assert await desk.send(ledger, audio(id)) == ["accepted"]

    asyncio.run(send("1"))
    later = (*file.MIGRATIONS, "CREATE TABLE added (a INTEGER) STRICT", "INSERT INTO added VALUES (7)")
    monkeypatch.setattr(file, "MIGRATIONS", later)
    monkeypatch.setattr(file, "FORMAT", len(later))
    for id in ("2", "3"):
        asyncio.run(send(id))
    db = apsw.Connection(str(tmp_path / file.FILE_NAME))
    assert db.pragma("user_version") == len(later)
    assert db.execute("SELECT a FROM added").fetchall() == [(7,)]
    assert db.execute("SELECT sum(count) FROM log WHERE kind = 1").fetchone() == (3,)
    db.close()


def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    """The folder belongs to the process that opened it until that one ends."""
    asyncio.run(opened_and_closed(tmp_path))
    lock = file.Lock(tmp_path)
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tallystick.clock import system_clock\n"
        "from tallystick.ledger.open import open_ledger\n"
        "from tallystick.settings import Settings\n"
        "asyncio.run(open_ledger(Path(sys.argv[1]), Settings(), system_clock))\n"
    )
    second = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode != 0
    assert "in use by process" in second.stderr
    lock.release()
    asyncio.run(opened_and_closed(tmp_path))


@asynchronous
async def test_a_commit_takes_the_same_statements_whatever_its_size(tmp_path: Path) -> None:
    """A statement per event would hand the interpreter away at each: seconds, beside one busy thread."""
    desk = Desk(tmp_path, CLOCK)
    statements: list[str] = []
    real = file.connect

    def connect(*arguments: object, **keywords: object) -> apsw.Connection:
        db = real(*arguments, **keywords)  # type: ignore[arg-type]  # passed on as it came
        if keywords.get("writes"):
            db.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.append(str(event["sql"])))
        return db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "connect", connect)
        async with desk.open() as ledger:
            assert isinstance(ledger, SqliteLedger)
            await desk.send(ledger, *(audio(f"warm{n}", language=f"l{n}") for n in range(50)))
            counts = []
            for size in (1, 50, 2000):
                statements.clear()
                await desk.send(ledger, *(audio(f"{size}-{n}", language=f"l{n % 50}") for n in range(size)))
                counts.append(len([s for s in statements if "log" in s or "frame" in s or "series" in s]))
    assert counts[0] == counts[1] == counts[2] > 0
