"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tallystick"
FUNCTION_LINES_MAX = 60

CLOCK_READS = {
    ("date", "today"),
    ("datetime", "now"),
    ("datetime", "today"),
    ("datetime", "utcnow"),
    ("Instant", "now"),
    ("ZonedDateTime", "now"),
    ("time", "time"),
    ("time", "time_ns"),
}
VAGUE_NAMES = {"common", "data", "helper", "helpers", "manager", "misc", "util", "utils"}
# Put together here, so that this file does not name them either.
REGISTRY_HOSTS = ("py" + "pi.org", "python" + "hosted.org", "registry." + "npmjs", "deb." + "debian.org")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(*folders: Path) -> Iterator[tuple[str, ast.Module]]:
    """Yield every module below the folders as (path from the root, tree)."""
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.Module) -> Iterator[Function]:
    """Yield every function of a module, nested ones and methods too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def clock_reads(tree: ast.Module) -> Iterator[int]:
    """Yield the lines on which a module takes the time from somewhere else than `clock`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if (owner, node.attr) in CLOCK_READS:
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and ("time", "time") in {(node.module, n.name[:4]) for n in node.names}:
            yield node.lineno


def kept_files() -> list[Path]:
    """Return the files that git keeps, or would keep once added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def project() -> dict[str, object]:
    """Return the [project] table."""
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def distribution(requirement: str) -> str:
    """Return the distribution a requirement names, in its normal form."""
    return re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def imported() -> set[str]:
    """Return the top-level packages from elsewhere that the source imports."""
    names: set[str] = set()
    for _, tree in modules(SOURCE):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"tallystick"}


def test_only_the_clock_reads_the_time() -> None:
    """Time comes in as a value everywhere but in clock.py, so that every decision can be tested at any instant."""
    found = [f"{path}:{line}" for path, tree in modules(SOURCE) for line in clock_reads(tree)]
    assert [place for place in found if not place.startswith("src/tallystick/clock.py:")] == []
    assert found != [], "the check sees the one place that reads the time"


def test_a_clock_read_is_seen_however_it_is_written() -> None:
    """The check above knows calls through modules, through classes and names imported from time."""
    written = (
        "import time\nimport datetime\nfrom time import time_ns\ntime.time()\ndatetime.datetime.now()\ntime.monotonic()"
    )
    assert sorted(clock_reads(ast.parse(written))) == [3, 4, 5]


def test_functions_stay_short() -> None:
    """No function of the package is longer than a screen."""
    long = [
        f"{path}:{node.lineno} {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines"
        for path, tree in modules(SOURCE)
        for node in functions(tree)
        if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert not long, "\n".join(long)


def test_every_module_says_what_lives_there() -> None:
    """Every module, of the package and of its tests and benchmarks, begins with a docstring."""
    bare = [
        path
        for path, tree in modules(SOURCE, ROOT / "tests", ROOT / "benchmarks")
        if tree.body and not ast.get_docstring(tree)
    ]
    assert not bare, "\n".join(bare)


def test_every_test_states_its_behaviour() -> None:
    """A test has a docstring of one sentence, and a name that reads as one."""
    mute = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in modules(ROOT / "tests")
        for node in functions(tree)
        if node.name.startswith("test_")
        and (not (ast.get_docstring(node) or "").rstrip().endswith((".", "?")) or node.name.count("_") < 2)
    ]
    assert not mute, "\n".join(mute)


def test_no_module_has_a_vague_name() -> None:
    """A module is named after what lives in it."""
    vague = [
        path for path, _ in modules(SOURCE, ROOT / "benchmarks") if VAGUE_NAMES & set(Path(path).with_suffix("").parts)
    ]
    assert not vague, "\n".join(vague)


def test_whatever_is_ignored_says_why() -> None:
    """An ignored rule names itself and carries its reason on its line."""
    ignored = re.compile(r"#\s*(?:noqa|type:\s*ignore)(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[\w, -]+\])?(?P<why>.*)")
    bare = []
    for path in kept_files():
        if path.suffix == ".py" and path.name != "test_house.py":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = ignored.search(line)
                if match and len(re.findall(r"\w+", match["why"])) < 3:
                    bare.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not bare, "\n".join(bare)


def test_nothing_is_left_to_fix() -> None:
    """A to-do names its issue, and nothing is merged that says it needs fixing."""
    marks = re.compile(r"\bFIX" + r"ME\b|\bTO" + r"DO\b(?!\(#\d+\))")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in kept_files()
        if path.suffix == ".py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is each machine's own business, so no kept file says it."""
    naming = [
        str(path.relative_to(ROOT))
        for path in kept_files()
        if any(host.encode() in path.read_bytes() for host in REGISTRY_HOSTS)
    ]
    assert not naming, "\n".join(naming)


def test_pins_carry_hashes_and_no_addresses() -> None:
    """Every pinned package has a hash, no pin holds an address, and nothing else pins."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        pins = re.findall(r"^\S+==[^\n]*(?:\n    --hash=\S+[^\n]*)+", text, flags=re.MULTILINE)
        assert pins
        assert len(pins) == len(re.findall("==", re.sub(r"(?m) ;.*$", "", text))), path.name
        assert "://" not in text
    assert not (ROOT / "uv.lock").exists()


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    """The package needs what it says it needs: nothing comes by accident, nothing is carried for nothing."""
    declared = project()["dependencies"]
    assert isinstance(declared, list)
    names = {distribution(requirement).replace("-", "_") for requirement in declared}
    data_only = {"tzdata"}
    optional = {"psycopg"}
    assert imported() - optional - names == set()
    assert names - data_only - imported() == set()


def test_everything_that_is_needed_is_pinned() -> None:
    """The pins for running hold every declared dependency, and those for development hold the same ones."""
    declared = project()["dependencies"]
    assert isinstance(declared, list)
    runtime, dev = (
        set(re.findall(r"^(\S+==\S+)", (ROOT / "requirements" / name).read_text(encoding="utf-8"), flags=re.MULTILINE))
        for name in ("runtime.txt", "dev.txt")
    )
    assert {distribution(requirement) for requirement in declared} <= {distribution(pin) for pin in runtime}
    assert runtime <= dev


def test_the_names_in_the_architecture_resolve() -> None:
    """Every `tallystick.…` in ARCHITECTURE.md is a module, or a name in one."""
    path = ROOT / "ARCHITECTURE.md"
    if not path.exists():
        pytest.skip("ARCHITECTURE.md is not written yet")
    names = set(re.findall(r"`(tallystick(?:\.\w+)+)(?:\(.*?\))?`", path.read_text(encoding="utf-8")))
    assert names, "it names no function"
    assert sorted(name for name in names if not resolves(name)) == []


def resolves(name: str) -> bool:
    """Say whether a dotted name is a module or something reachable from one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None) or getattr(found, "__annotations__", {}).get(part)
        return found is not None
    return False


def test_a_name_that_does_not_exist_does_not_resolve() -> None:
    """The check of the architecture tells names that exist from names that do not."""
    assert resolves("tallystick.clock.system_clock")
    assert resolves("tallystick.ledger.base.Ledger.commit")
    assert not resolves("tallystick.clock.grandfather_clock")
    assert not resolves("tallystick.sundial")
