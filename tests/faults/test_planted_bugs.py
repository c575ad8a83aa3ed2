"""The checks have teeth: each known way to get a ledger wrong, planted into ours, is found, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.planted import BUGS, CHECKS

FOUND_AS = {
    "ack before commit": "acknowledged events are lost",
    "identity claimed before the write": "acknowledged events are lost",
    "rollup folded twice after a restart": "instead of",
    "rollup not folded after a restart": "instead of",
    "synchronous NORMAL": "acknowledged events are lost",
    "retry on a handle that failed": "had failed",
    "truncate on a bad end": "acknowledged events are lost",
    "hits not confirmed": "acknowledged events are lost",
    "float sums": "instead of",
    "holds said to be written before they are": "acknowledged holds are",
    "holds not read from the log after a restart": "acknowledged holds are",
}
"""What each bug does to its users, as a check words it: to be found by accident is not to be found."""


def found(folder: Path, bug: str, check: str) -> list[str]:
    """Run a check on a ledger with this bug, or with none, and return what it found."""
    command = [sys.executable, "-m", "tests.faults.planted", bug, check, str(folder)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    lines = ended.stdout.splitlines()
    assert "examined" in lines, (ended.stdout + ended.stderr)[-2000:]
    return [line.removeprefix("flaw ") for line in lines if line.startswith("flaw ")]


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(tmp_path: Path, bug: str) -> None:
    """The check meant for a bug reports what that bug does."""
    flaws = found(tmp_path / "data", bug, BUGS[bug][1].__name__)
    assert any(FOUND_AS[bug] in flaw for flaw in flaws), flaws[:5]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_the_same_check_finds_nothing_in_a_sound_ledger(tmp_path: Path, check: str) -> None:
    """Without a bug no check reports anything."""
    assert found(tmp_path / "data", "none", check) == []
