"""A bit that rots in the closed file: verify finds it, the file is refused, or it was a bit that meant nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
from pathlib import Path

import apsw
import pytest
import zstandard

from tallystick.errors import LedgerError, Problem
from tallystick.ledger.sqlite import keeper
from tests.faults.campaign import opened, recorded
from tests.faults.hurry import hurry
from tests.faults.vfs import Disk
from tests.faults.workload import TickingClock

FLIPS = int(os.environ.get("TALLYSTICK_TEST_FLIPS", "100"))
FILE = "ledger.db"
EVENTS = 800
CUTS = 10
PAGE_BYTES = 4096


def content_of(path: Path) -> str | None:
    """Return a digest over every row of every table, in order; None if SQLite cannot read them."""
    digest = hashlib.sha256()
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        digest.update(repr((db.pragma("user_version"), db.pragma("application_id"))).encode())
        for name, sql in list(db.execute("SELECT name, upper(sql) FROM sqlite_schema ORDER BY name")):
            digest.update(repr((name, sql)).encode())
        for (name,) in list(db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")):
            for row in db.execute(f"SELECT * FROM {name} ORDER BY 1"):
                digest.update(repr([meaning(value) for value in row]).encode())
    except (apsw.Error, UnicodeDecodeError):
        return None
    finally:
        db.close()
    return digest.hexdigest()


def meaning(value: object) -> object:
    """Return what a stored value stands for: a few bits of a zstd frame decide nothing about what comes out of it."""
    try:
        return zstandard.ZstdDecompressor().decompress(value) if isinstance(value, bytes) else value
    except zstandard.ZstdError:
        return value


async def written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Work on a ledger until all its tables have rows, and return its file."""
    hurry(monkeypatch.setattr)
    with Disk() as disk:
        await recorded(folder, disk, seed=1, events=EVENTS)
    # Opening drops the chunks of runs that were merged: what nobody reads any more may rot unnoticed.
    monkeypatch.setattr(keeper, "LOOK_EVERY_S", 60)
    async with opened(folder, TickingClock()):
        pass
    # How many pages are free depends on what was done behind the log in time; damage to them would prove nothing.
    db = apsw.Connection(str(folder / FILE))
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()
    return (folder / FILE).read_bytes()


async def is_noticed(folder: Path) -> bool:
    """Say whether opening or verifying a folder tells that it is damaged."""
    try:
        async with opened(folder, TickingClock()) as ledger:
            return bool((await ledger.verify()).faults)
    except (LedgerError, Problem):
        return True


def flipped(content: bytes, rng: random.Random) -> tuple[bytes, int]:
    """Flip one bit; returns where as well."""
    at = rng.randrange(len(content))
    changed = bytearray(content)
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed), at


@pytest.mark.slow
def test_a_flipped_bit_is_noticed_or_means_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any one flipped bit verify reports a fault, unless all that the tables hold is as before."""
    content = asyncio.run(written(tmp_path / "live", monkeypatch))
    before = content_of(tmp_path / "live" / FILE)
    rng, missed, harmless = random.Random(1), [], 0
    for number in range(FLIPS):
        folder = tmp_path / f"flip{number}"
        folder.mkdir()
        damaged, at = flipped(content, rng)
        (folder / FILE).write_bytes(damaged)
        same = content_of(folder / FILE) == before
        harmless += same
        if not same and not asyncio.run(is_noticed(folder)):
            missed.append(at)
        shutil.rmtree(folder)
    assert not missed, f"of {FLIPS} flips, {harmless} of them harmless, these went unnoticed: {missed}"
    assert harmless < FLIPS // 2, "most flips hit nothing: this proves little"


def test_a_file_that_was_cut_short_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the file ends too early, it is refused, verify reports a fault, or what is missing held nothing."""
    content = asyncio.run(written(tmp_path / "live", monkeypatch))
    before = content_of(tmp_path / "live" / FILE)
    rng, missed = random.Random(2), []
    sizes = [rng.randrange(1, len(content)) for _ in range(CUTS)]
    for size in [*sizes, *(size // PAGE_BYTES * PAGE_BYTES or PAGE_BYTES for size in sizes)]:
        folder = tmp_path / "cut"
        folder.mkdir()
        (folder / FILE).write_bytes(content[:size])
        # The end of the last page may be empty.
        is_harmless = len(content) - size < PAGE_BYTES and content_of(folder / FILE) == before
        if not is_harmless and not asyncio.run(is_noticed(folder)):
            missed.append(size)
        shutil.rmtree(folder)
    assert not missed
