"""`backup` and `restore`: a copy while it is written to, and back from it, proved."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.cli.test_root import tallystick_command
from tests.cli.test_usage import event
from tests.ledger.older import change_series
from tests.server import OPERATOR, serving


def filled(tmp_path: Path) -> Path:
    with serving(tmp_path / "ledger") as server:
        events = [event(str(number), "acme", 1, "1", "en") for number in range(50)]
        assert server.ask("POST", "/v1/events", events).json["accepted"] == 50
    return tmp_path / "ledger"


def count(folder: Path) -> int:
    done = tallystick_command("usage", "--data", str(folder), "--format", "json")
    found: int = json.loads(done.stdout)["total"]["count"]
    return found


def test_a_backup_of_a_server_has_what_was_acknowledged_before_it(tmp_path: Path) -> None:
    """Events go on coming in meanwhile; none of them is in it by half."""
    acked = 0
    stop = threading.Event()
    with serving(tmp_path / "ledger") as server:

        def send() -> None:
            nonlocal acked
            while not stop.is_set():
                events = [event(f"{acked}-{number}", "acme", 1, "1", "en") for number in range(20)]
                assert server.ask("POST", "/v1/events", events).json["accepted"] == 20
                acked += 20
            server.disconnect()

        sender = threading.Thread(target=send)
        sender.start()
        while acked < 200:
            stop.wait(0.01)
        before = acked
        flags = ["--server", server.url, "--key", OPERATOR, "--format", "json"]
        done = tallystick_command("backup", str(tmp_path / "copy"), *flags)
        after = acked
        stop.set()
        sender.join()
        assert done.returncode == 0, done.stderr
        (said,) = json.loads(done.stdout)
        proof = tallystick_command(
            "restore", str(tmp_path / "copy"), "--data", str(tmp_path / "back"), "--format", "json"
        )
        assert proof.returncode == 0, proof.stderr
        assert json.loads(proof.stdout)["head"] == said["head"]
        assert not (tmp_path / "ledger" / "backup.partial").exists()
        assert before <= count(tmp_path / "back") <= after + 20
        with serving(tmp_path / "back") as restored:
            again = restored.ask("POST", "/v1/events", [event("0-0", "acme", 1, "1", "en")]).json
            assert (again["accepted"], again["duplicate"]) == (0, 1)


def test_a_backup_of_a_folder_and_a_copy_of_it_restore_alike(tmp_path: Path) -> None:
    """Files that are there are never overwritten."""
    data = filled(tmp_path)
    for _, code in ((1, 0), (2, 2)):
        done = tallystick_command("backup", str(tmp_path / "copy"), "--data", str(data))
        assert done.returncode == code
    for origin, target in ((tmp_path / "copy", "a"), (data, "b")):
        done = tallystick_command("restore", str(origin), "--data", str(tmp_path / target))
        assert (done.returncode, done.stdout.endswith("No faults.\n")) == (0, True), done.stderr
        assert count(tmp_path / target) == 50
        assert tallystick_command("restore", str(origin), "--data", str(tmp_path / target)).returncode == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_folder_in_use_is_neither_backed_up_nor_copied_around_its_server(tmp_path: Path) -> None:
    """A copy of files that are being written is none; the error names the way."""
    with serving(tmp_path / "ledger"):
        for command in (
            ["backup", str(tmp_path / "copy"), "--data", str(tmp_path / "ledger")],
            ["restore", str(tmp_path / "ledger"), "--data", str(tmp_path / "back")],
        ):
            done = tallystick_command(*command)
            assert (done.returncode, done.stdout) == (2, "")
            assert "in use by process" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["ledger"]


def test_a_backup_that_is_not_what_was_written_restores_nothing(tmp_path: Path) -> None:
    """1 with the fault named; what is no backup at all is wrong use."""
    data = filled(tmp_path)
    assert tallystick_command("backup", str(tmp_path / "copy"), "--data", str(data)).returncode == 0
    shutil.copy(tmp_path / "copy", tmp_path / "changed")
    change_series(tmp_path / "changed")
    done = tallystick_command("restore", str(tmp_path / "changed"), "--data", str(tmp_path / "back"))
    assert (done.returncode, "FAULT" in done.stdout) == (1, True)
    assert "nothing was restored" in done.stderr
    (tmp_path / "cut").write_bytes((tmp_path / "copy").read_bytes()[:5000])
    (tmp_path / "text").write_text("no ledger")
    with closing(apsw.Connection(str(tmp_path / "other"))) as db:
        db.execute("CREATE TABLE log (entry, link)")
    for name in ("cut", "text", "other", "none"):
        done = tallystick_command("restore", str(tmp_path / name), "--data", str(tmp_path / "back"))
        assert done.returncode in (1, 2), name
        assert not (tmp_path / "back").exists()


def test_only_the_operator_takes_a_backup_and_memory_has_none(tmp_path: Path) -> None:
    """Nothing is left where nothing came."""
    with serving(None) as server:
        server.ask("PUT", "/v1/accounts/acme", {"kind": "org"})
        key = server.ask("POST", "/v1/keys", {"account": "acme", "scopes": ["admin"]}).json["key"]
        assert server.ask("POST", "/v1/backup", key=key).status == 403
        done = tallystick_command("backup", str(tmp_path / "copy"), "--server", server.url, "--key", OPERATOR)
    assert (done.returncode, "nothing to copy" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_no_backup_is_made_where_it_would_fill_the_disk(tmp_path: Path) -> None:
    """507, and the ledger goes on."""
    with serving(tmp_path / "ledger", "--disk-free-bytes-min", str(10**17)) as server:
        assert server.ask("POST", "/v1/backup").status == 507
        assert server.ask("GET", "/v1/usage?meter=audio").status == 200


@pytest.mark.parametrize("target", ["there", "no/such/folder/copy"])
def test_a_backup_goes_to_a_new_file_only(tmp_path: Path, target: str) -> None:
    """The reason is said before anything is copied."""
    (tmp_path / "there").write_text("mine")
    done = tallystick_command("backup", str(tmp_path / target), "--data", str(filled(tmp_path)))
    assert (done.returncode, done.stdout) == (2, "")
    assert (tmp_path / "there").read_text() == "mine"
