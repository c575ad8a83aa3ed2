"""Power cuts at any moment: whatever the disk kept of what was not synced, acknowledged events are there and add up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

from tests.faults.campaign import IMAGES, IMAGES_PER_RUN, flaws_of_campaign, recorded
from tests.faults.hurry import hurry
from tests.faults.vfs import Disk, Sync, Truncate
from tests.faults.workload import counted

RUNS_MAX = 60
"""Runs in which every rare thing must have happened once; the first few do, unless the machine has no time."""


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fold, merge and checkpoint all the time, so that crashes hit that as well."""
    hurry(monkeypatch.setattr)


def reached(folder: Path, seed: int) -> set[str]:
    """Say which of the rare things happened in a run; a busy machine may leave no time for some of them."""
    with Disk() as disk:
        asyncio.run(recorded(folder, disk, seed))
        moved = {Sync, Truncate} <= {type(op) for op in disk.log if op.file == "ledger.db"}
    db = apsw.Connection(str(folder / "ledger.db"))
    happened = {
        "a checkpoint": moved,
        "a fold": db.execute("SELECT through > 0 FROM folded WHERE account = 0").get,
        "rollups": db.execute("SELECT count(*) > 0 FROM rollup").get,
        "a merge of identity runs": db.execute("SELECT max(run) > count(*) FROM identity_run").get,
    }
    db.close()
    return {what for what, did in happened.items() if did}


def test_the_work_reaches_what_a_ledger_does_rarely(tmp_path: Path) -> None:
    """Among what a crash may interrupt are folds, stored and merged identity runs, checkpoints and a restart."""
    left = {"a checkpoint", "a fold", "rollups", "a merge of identity runs"}
    for seed in range(RUNS_MAX):
        left -= reached(tmp_path / str(seed), seed)
        if not left:
            break
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, max(1, IMAGES // IMAGES_PER_RUN) + 1))
def test_no_power_cut_loses_an_acknowledged_event(tmp_path: Path, seed: int) -> None:
    """In every crash image acked events are there once, none that was not sent is, and sums are those of the events."""
    found = flaws_of_campaign(tmp_path, IMAGES_PER_RUN, seed)
    assert not found, counted(found)


def test_the_images_do_catch_a_wal_that_is_not_synced(tmp_path: Path) -> None:
    """Swallowing the WAL's syncs, which is what synchronous=NORMAL does between checkpoints, loses acked events."""
    found = flaws_of_campaign(tmp_path, 60, lies=lambda file: file.endswith("-wal"))
    assert any("acknowledged events are lost" in flaw for flaw in found), counted(found)
