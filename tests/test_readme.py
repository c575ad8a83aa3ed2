"""The README, followed line by line: what it says to type is typed, and what it shows is what comes."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tallystick.cli.root import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
KEY = re.compile(r"tly_op_[0-9A-Za-z]+")
PORT = "8787"
BETWEEN = "-- next block --"
END_S_MAX = 60
SAME_EVERY_TIME = (
    (KEY, "KEY"),
    (re.compile(r"\(process \d+\)"), "(process PID)"),
    (re.compile(r'("as_of":\{"sequence":\d+,"time":)"[^"]+"'), r'\1"NOW"'),
)
"""What no two runs have in common, and what stands for it where outputs are compared."""


@dataclass(slots=True)
class Step:
    """A block to type, and the block that shows what it prints, if one follows."""

    typed: str
    shown: str | None = None


def steps(text: str) -> list[Step]:
    """Read a page's blocks: `sh` is typed, whatever else follows it is shown."""
    found: list[Step] = []
    for language, block in BLOCK.findall(text):
        if language == "sh":
            found.append(Step(block))
        else:
            assert found and found[-1].shown is None, f"nothing prints this: {block}"
            found[-1].shown = block
    return found


def settled(output: str) -> str:
    """Put a fixed word where two runs differ."""
    for pattern, word in SAME_EVERY_TIME:
        output = pattern.sub(word, output)
    return output.strip()


def environment(commands: Path) -> dict[str, str]:
    """Return what a terminal of a reader has, with tallystick on its path and a free port instead of the usual one."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TALLYSTICK_", "PYTHON"))}
    return {**ours, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "TALLYSTICK_PORT": "0", "TERM": "xterm"}


@contextmanager
def terminal(step: Step, folder: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """Type a step that stays in a terminal of its own; give what it has printed when it is ready."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", step.typed], cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as screen:
        try:
            printed = b""
            while b"ctrl-c ends it" not in printed:
                printed += screen.read(4096)
            yield printed.decode().replace("\r\n", "\n")
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(END_S_MAX) == 0


def follow(folder: Path, commands: Path) -> list[Step]:
    """Start the server as the page says and type the rest beside it; return the steps with what was really shown."""
    _, serve, *rest = steps(README)
    with terminal(serve, folder, environment(commands)) as printed:
        (key,), (port,) = KEY.findall(printed), re.findall(r"answers at http://127\.0\.0\.1:(\d+)", printed)
        script = f"\necho '{BETWEEN}'\n".join(step.typed for step in rest)
        script = KEY.sub(key, script.replace(f":{PORT}/", f":{port}/"))
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=folder, capture_output=True, text=True, timeout=END_S_MAX, check=True
        )
    outputs = [printed.replace(f":{port} ", f":{PORT} "), *done.stdout.split(BETWEEN)]
    return [Step(step.typed, output) for step, output in zip([serve, *rest], outputs, strict=True)]


def compare(followed: list[Step]) -> None:
    """Hold what was printed to what the page shows."""
    for step, real in zip(steps(README)[1:], followed, strict=True):
        assert settled(real.shown or "") == settled(step.shown or ""), step.typed


def test_whoever_follows_the_readme_sees_what_it_shows(tmp_path: Path) -> None:
    """From the first start to the two reports, every command prints what stands below it."""
    compare(follow(tmp_path, Path(sys.executable).parent))


@pytest.mark.slow
def test_the_readme_begins_with_an_install_that_works(tmp_path: Path) -> None:
    """Its first block, typed in a copy of the checkout, gives the command that the rest of the page uses."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    # python3 is whichever runs these tests: the one of the machine may be older than the page asks for.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    environ["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environ['PATH']}"
    install = steps(README)[0]
    done = subprocess.run(
        ["bash", "-e", "-c", install.typed], cwd=copy, env=environ, capture_output=True, text=True, timeout=600
    )
    if "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("pip reaches no package index from here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert install.shown is None
    compare(follow(copy, copy / "tally" / "bin"))


def test_an_output_that_differs_is_seen() -> None:
    """Only what no two runs share is left out of the comparison."""
    followed = [Step(step.typed, step.shown) for step in steps(README)[1:]]
    compare(followed)
    changed = followed[-1].shown
    assert changed is not None
    followed[-1].shown = changed.replace("0.26", "0.27")
    with pytest.raises(AssertionError):
        compare(followed)


def test_every_block_is_one_that_is_typed_or_one_that_is_shown() -> None:
    """No block of the page escapes the tests above."""
    fences = re.findall(r"^```", README, flags=re.MULTILINE)
    assert len(fences) == 2 * sum(1 if step.shown is None else 2 for step in steps(README))
    assert re.findall(r"^(?:~~~|    \S)", README, flags=re.MULTILINE) == []


def test_what_the_readme_names_beside_its_blocks_exists() -> None:
    """Targets of make and commands of tallystick that the text mentions are there."""
    prose = BLOCK.sub("", README)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", prose))
    assert {"demo", "test"} <= named <= targets
    (line,) = (part for part in prose.split("* ") if part.startswith("`tallystick --help`"))
    commands = set(re.findall(r"`([a-z]+)(?: [a-z]+)?`", line))
    assert {"import", "verify"} <= commands <= set(COMMANDS)
