"""The whole ledger in one file, and back from it, proved: what `backup` and `restore` run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tallystick.cli import options, output, source
from tallystick.cli.verify import of_folder
from tallystick.errors import LedgerError
from tallystick.ledger.sqlite import file
from tallystick.ledger.sqlite.backup import check
from tallystick.settings import Settings


def backup(place: source.Place, target: Path) -> dict[str, Any]:
    """Copy a ledger to a file, which is there once it is whole and on disk; say what is in it."""
    with output.whole_file(target) as writing:
        answer = place.ask("POST", "/v1/backup", sink=writing.write)
        output.succeeded(answer)
        writing.flush()
        entries, head = _checked(Path(writing.name))
    return {"file": str(target), "bytes": target.stat().st_size, "entries": entries, "head": head}


def restore(origin: Path, settings: Settings) -> dict[str, Any]:
    """Bring a backup, or the closed data folder `origin`, into a new data folder; it is there once it is proved."""
    target = settings.data
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise options.Failure(f"{target} is not empty. Name a new folder with --data; what is there stays.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as beside:
        staged = Path(beside) / "ledger"
        staged.mkdir()
        _copy(origin, staged)
        proof = of_folder(settings, staged)
        if not proof["faults"]:
            _let_go(staged)
            staged.rename(target)
            _sync(target.parent)
    return proof


def _copy(origin: Path, staged: Path) -> None:
    with _closed(origin) as names:
        for name in names:
            shutil.copyfile(name, staged / (name.name if origin.is_dir() else file.FILE_NAME))
            with (staged / (name.name if origin.is_dir() else file.FILE_NAME)).open("rb") as copy:
                os.fsync(copy.fileno())


@contextmanager
def _closed(origin: Path) -> Iterator[list[Path]]:
    """Name the files to copy; of a folder nobody may write to them meanwhile."""
    if not origin.exists():
        raise options.Failure(f"{origin} is not there.")
    if origin.is_file():
        _checked(origin)
        yield [origin]
        return
    if not (origin / file.FILE_NAME).is_file():
        raise options.Failure(f"There is no ledger in {origin}.")
    try:
        lock = file.Lock(origin)
    except LedgerError as error:
        raise options.Failure(f"{error} Or take a backup through it: tallystick backup.") from None
    try:
        yield sorted(origin.glob(f"{file.FILE_NAME}*"))
    finally:
        lock.release()


def _let_go(folder: Path) -> None:
    """Remove the note of which process had the folder open."""
    (folder / file.LOCK_NAME).unlink(missing_ok=True)
    _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(path: Path) -> tuple[int, str]:
    try:
        return check(path)
    except LedgerError as error:
        raise options.Failure(str(error)) from None
