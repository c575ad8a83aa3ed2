"""Commands on a ledger in PostgreSQL, which the environment names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_root import tallystick_command


def test_commands_work_on_the_database_that_the_environment_names(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are imported, counted and proved; a backup is refused with the way that there is; no folder is made."""
    monkeypatch.setenv("TALLYSTICK_URL", postgres)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work.csv").write_text("id,source,account,duration\n1,s,acme,60\n2,s,acme,30.5\n", encoding="utf-8")
    done = tallystick_command("import", "work.csv", "--set", "type=audio.processed")
    assert done.returncode == 0, done.stderr
    total = json.loads(tallystick_command("usage", "--format", "json").stdout)["total"]
    assert total == {"count": 2, "quantity": "90.5"}
    proof = tallystick_command("verify", "--format", "json")
    assert (proof.returncode, json.loads(proof.stdout)["faults"]) == (0, []), proof.stderr
    backup = tallystick_command("backup", "copy.tally")
    assert (backup.returncode != 0, "pg_dump" in backup.stderr) == (True, True)
    assert not (tmp_path / "tallystick-data").exists()
    assert not (tmp_path / "copy.tally").exists()
