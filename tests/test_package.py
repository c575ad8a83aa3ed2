"""The wheel: it builds, and what it installs runs without the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import tallystick

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command in a folder, without what the environment says about Python, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def uv() -> str:
    """Return the uv that `make` fetched, or another; without one these tests cannot install anything."""
    found = shutil.which("uv", path=f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    return found or pytest.skip("uv is neither in .tools nor on the PATH: `make setup` fetches it")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of what the repository holds, so that nothing here is touched."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", built], source)
    return next(built.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every module, the type marker and the licence are in it; tests and benchmarks are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name and ".egg-info" not in name}
    assert package <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"tallystick", f"tallystick-{tallystick.__version__}.dist-info"}


def test_the_wheel_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """With the pinned dependencies and nothing else, outside the repository, the command and every module work."""
    home = tmp_path / "home"
    home.mkdir()
    python = tmp_path / "venv" / "bin" / "python"
    run([uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], home)
    pins = ROOT / "requirements" / "runtime.txt"
    run([uv(), "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", pins], home)
    run([uv(), "pip", "install", "--quiet", "--python", python, "--no-deps", wheel], home)

    assert "Usage" in run([tmp_path / "venv" / "bin" / "tallystick", "--help"], home)
    script = (
        "import importlib, pkgutil, tallystick\n"
        "names = [module.name for module in pkgutil.walk_packages(tallystick.__path__, 'tallystick.')]\n"
        "for name in names:\n"
        "    if not name.endswith('__main__') and '.postgres' not in name: importlib.import_module(name)\n"
        "print(tallystick.__file__)\n"
    )
    assert str(tmp_path / "venv") in run([python, "-W", "error", "-c", script], home)
