"""`copy`: a ledger from a folder to a database, and back, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_root import tallystick_command


def imported(tmp_path: Path) -> str:
    (tmp_path / "work.csv").write_text("id,source,account,duration\n1,s,acme,60\n2,s,globex,30.5\n", encoding="utf-8")
    folder = str(tmp_path / "ledger")
    done = tallystick_command("import", str(tmp_path / "work.csv"), "--set", "type=audio.processed", "--data", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_ledger_goes_into_a_database_and_back(tmp_path: Path, postgres: str) -> None:
    """The command says what it copied, and the folder that comes back says what the first one said."""
    folder, back = imported(tmp_path), str(tmp_path / "back")
    there = tallystick_command("copy", "--from", folder, "--to", postgres, "--format", "json")
    assert there.returncode == 0, there.stderr
    made = json.loads(there.stdout)
    assert (made["events"], made["faults"], len(made["head"])) == (2, [], 64)
    again = tallystick_command("copy", "--from", postgres, "--to", back)
    assert (again.returncode, "Copied 2 events" in again.stdout, "No faults." in again.stdout) == (0, True, True)
    before, after = (
        tallystick_command("usage", "--data", each, "--format", "json", "--group-by", "account").stdout
        for each in (folder, back)
    )
    assert (json.loads(before)["total"], before) == ({"count": 2, "quantity": "90.5"}, after)


def test_a_place_that_is_taken_is_wrong_use(tmp_path: Path) -> None:
    """It ends with 2, says what to do, and changes nothing."""
    folder = imported(tmp_path)
    done = tallystick_command("copy", "--from", folder, "--to", folder + "-2")
    assert done.returncode == 0, done.stderr
    taken = tallystick_command("copy", "--from", folder, "--to", folder + "-2")
    assert (taken.returncode, "already" in taken.stderr, taken.stdout) == (2, True, "")
    itself = tallystick_command("copy", "--from", folder, "--to", folder)
    assert (itself.returncode, "in use" in itself.stderr) == (2, True)
    nothing = tallystick_command("copy", "--from", str(tmp_path / "nothing"), "--to", str(tmp_path / "new"))
    assert (nothing.returncode, "There is no ledger" in nothing.stderr) == (2, True)
