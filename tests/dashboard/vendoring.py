"""Renews what the dashboard carries of others, from their packages: `make vendor`."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "src" / "tallystick" / "dashboard" / "static" / "vendor"
LIST = FOLDER / "vendor.toml"
HEAD = "# What is not ours: as published, unchanged. `make vendor` renews the files, in the versions named here.\n"


def listed() -> list[dict[str, Any]]:
    """Return the packages, each with its files: their names here and there, and the digests of their content."""
    packages: list[dict[str, Any]] = tomllib.loads(LIST.read_text(encoding="utf-8"))["package"]
    return packages


def digest_of(path: Path) -> str:
    """Return the digest under which a file is listed."""
    return sha256(path.read_bytes()).hexdigest()


def renew() -> None:
    """Fetch every package in its version, take its files out and note their digests."""
    packages = listed()
    for package in packages:
        with tempfile.TemporaryDirectory() as made:
            command = ["npm", "pack", "--silent", f"{package['name']}@{package['version']}"]
            name = subprocess.run(command, cwd=made, check=True, capture_output=True, text=True).stdout.strip()
            with tarfile.open(Path(made) / name) as archive:
                for file in package["file"]:
                    member = archive.extractfile(f"package/{file['from']}")
                    assert member is not None, f"{package['name']} has no {file['from']}"
                    (FOLDER / file["name"]).write_bytes(member.read())
                    file["sha256"] = digest_of(FOLDER / file["name"])
    LIST.write_text(HEAD + "".join(map(_written, packages)), encoding="utf-8")


def _written(package: dict[str, Any]) -> str:
    lines = ["", "[[package]]", *(f'{name} = "{package[name]}"' for name in ("name", "version", "licence"))]
    for file in package["file"]:
        lines += ["", "[[package.file]]", *(f'{name} = "{file[name]}"' for name in ("name", "from", "sha256"))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    renew()
