"""The disk and its crash images, proved on a plain database: they break what is broken and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from tests.faults import plain
from tests.faults.images import crash_images, random_points
from tests.faults.vfs import Call, Delete, Disk, Failure, Op, Sync, Trap, Truncate, Write, honest

ROWS = 40
IMAGES = 120


def flaws(
    folder: Path, synchronous: str = "FULL", lies: Callable[[str], bool] = honest, images: int = IMAGES
) -> list[str]:
    """Run the workload on a disk and return what is wrong with its crash images."""
    with Disk(lies) as disk:
        (folder / "live").mkdir()
        database = plain.open_plain(folder / "live", disk, synchronous)
        plain.run(database, ROWS)
        database.connection.close()
        crashes = crash_images(disk.log, random_points(disk.log, images, seed=1), seed=2)
        found = (plain.flaw(image, database.acked, folder / f"image{n}") for n, image in enumerate(crashes))
        return [flaw for flaw in found if flaw]


def test_a_fully_synchronous_database_keeps_every_acknowledged_row(tmp_path: Path) -> None:
    """With synchronous=FULL no crash image lacks an acknowledged row, and none is corrupt."""
    assert flaws(tmp_path, images=IMAGES * 2) == []


def test_a_database_with_synchronous_normal_loses_acknowledged_rows(tmp_path: Path) -> None:
    """With synchronous=NORMAL some images lack acknowledged rows, and still none is corrupt: that is its promise."""
    found = flaws(tmp_path, synchronous="NORMAL")
    assert found
    assert all(flaw.startswith("lost") for flaw in found)


def test_a_disk_that_lies_about_syncing_the_wal_loses_acknowledged_rows(tmp_path: Path) -> None:
    """Swallowing the WAL's syncs is a stand-in for synchronous=NORMAL that needs no access to the connection."""
    assert any("lost rows" in flaw for flaw in flaws(tmp_path, lies=lambda file: file.endswith("-wal")))


def test_a_disk_that_lies_about_every_sync_corrupts_the_database(tmp_path: Path) -> None:
    """Torn and reordered pages do reach the database file when nothing holds them back."""
    found = flaws(tmp_path, lies=lambda file: True)
    assert any(flaw == "corrupt" or flaw.startswith("unreadable") for flaw in found)


def test_the_log_holds_every_operation_in_order(tmp_path: Path) -> None:
    """Replaying all of the log gives the very files that are on the real disk."""
    with Disk() as disk:
        database = plain.open_plain(tmp_path, disk)
        plain.run(database, 10)
        syncs = [Sync(name, disk.point, handle=0, folder=True) for name in sorted({op.file for op in disk.log})]
        (image,) = crash_images([*disk.log, *syncs], [disk.point + len(syncs)], seed=1)
        kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.endswith("-shm")}
        database.connection.close()
    assert image.files == kept


def test_an_unsynced_write_is_kept_lost_or_torn() -> None:
    """The same write gives images with all of it, none of it, and some of its sectors."""
    log: list[Op] = [Write("f", 0, b"a" * 1536), Sync("f", 1, 0, folder=True), Write("f", 0, b"b" * 1536)]
    contents = {image.files["f"] for image in crash_images(log, [3] * 120, seed=1)}
    sectors = {bytes(content[start] for start in (0, 512, 1024)) for content in contents}
    assert sectors == {bytes(letters) for letters in itertools.product(b"ab", repeat=3)}


def test_a_synced_write_is_in_every_image() -> None:
    """What was synced never varies, while what came after the sync does."""
    log: list[Op] = [
        Write("f", 0, b"a" * 100),
        Sync("f", 1, 0, folder=True),
        Write("f", 512, b"b" * 100),
        Truncate("f", 50),
    ]
    images = [image.files["f"] for image in crash_images(log, [4] * 40, seed=1)]
    assert all(content[:50] == b"a" * 50 for content in images)
    assert {len(content) for content in images} == {50, 100, 612}


def test_a_deletion_without_a_folder_sync_may_be_undone_until_the_name_is_synced_anew() -> None:
    """An old WAL may come back after its deletion, but not once its successor is durable."""
    log: list[Op] = [
        Write("f", 0, b"old"),
        Sync("f", 1, 0, folder=True),
        Delete("f", False),
        Write("f", 0, b"new"),
        Sync("f", 4, 0, folder=True),
    ]
    before = {image.files.get("f") for image in crash_images(log, [4] * 40, seed=1)}
    after = {image.files.get("f") for image in crash_images(log, [5] * 40, seed=1)}
    assert before == {b"old", b"new", None}
    assert after == {b"new"}


def test_what_a_failed_sync_lost_is_not_made_durable_by_a_later_one() -> None:
    """The kernel forgets what it could not write: syncing again succeeds and saves nothing."""
    log: list[Op] = [
        Write("f", 0, b"a" * 512),
        Sync("f", 1, 0, folder=True),
        Write("f", 0, b"b" * 512),
        Sync("f", 3, 0, failed=True),
    ]
    images = [next(crash_images([*log, Sync("f", 4, 0)], [5], seed)).files["f"][:1] for seed in range(40)]
    assert set(images) == {b"a", b"b"}


@pytest.mark.parametrize(
    ("failure", "call", "error"),
    [
        (Failure.EIO, Call.WRITE, apsw.IOError),
        (Failure.EIO, Call.SYNC, apsw.IOError),
        (Failure.ENOSPC, Call.WRITE, apsw.FullError),
        (Failure.SHORT, Call.WRITE, apsw.FullError),
    ],
)
def test_a_trap_fails_the_call_it_is_set_for_once(
    tmp_path: Path, failure: Failure, call: Call, error: type[apsw.Error]
) -> None:
    """The trapped call fails as SQLite's own VFS would report it; the next attempt works, what was acked is there."""
    with Disk() as disk:
        database = plain.open_plain(tmp_path, disk)
        database.insert(1)
        disk.arm(Trap(failure, at=1, calls=frozenset({call})))
        with pytest.raises(error):
            database.insert(2)
        assert disk.sprung == 1
        database.insert(3)
        assert [row[0] for row in database.connection.execute("SELECT number FROM row")] == [1, 3]
        database.connection.close()


def test_a_trap_for_ever_fails_until_it_is_taken_away(tmp_path: Path) -> None:
    """With a dead disk every commit fails; with the disk back the next one works."""
    with Disk() as disk:
        database = plain.open_plain(tmp_path, disk)
        disk.arm(Trap(Failure.EIO, at=1, forever=True, calls=frozenset({Call.WRITE, Call.SYNC})))
        for number in (1, 2, 3):
            with pytest.raises(apsw.IOError):
                database.insert(number)
        disk.arm(None)
        database.insert(4)
        assert [row[0] for row in database.connection.execute("SELECT number FROM row")] == [4]
        database.connection.close()


def test_a_read_that_stops_halfway_fails(tmp_path: Path) -> None:
    """What a failing disk cannot hand over whole is an error, never a page with its second half missing."""
    with Disk() as disk:
        database = plain.open_plain(tmp_path, disk)
        plain.run(database, 14, checkpoint_every=14)
        database.connection.close()
        again = apsw.Connection(str(tmp_path / plain.FILE), vfs=disk.name)
        disk.arm(Trap(Failure.SHORT, at=3, calls=frozenset({Call.READ})))
        with pytest.raises(apsw.IOError):
            list(again.execute("SELECT count(*), sum(length(payload)) FROM row"))
        again.close()
