"""The command line as a whole: help, versions and exit codes."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

import tallystick
from tallystick.cli.root import COMMANDS
from tallystick.dialects import NAMES
from tallystick.settings import SPECS
from tests import forked

HELP_CPU_S_MAX = 0.2
SLOW_IMPORTS = {"numpy", "granian", "litestar", "structlog", "rich", "apsw", "asyncio", "whenever"}


def tallystick_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return forked.run("tallystick", *arguments)


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS), *(["report", name] for name in NAMES)])
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    """Help is quick because it opens nothing and serves nothing."""
    script = (
        "import sys; from tallystick.cli.root import root\n"
        f"try: root({[*arguments, '--help']!r})\n"
        f"finally: print(sorted({SLOW_IMPORTS!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_help_takes_less_than_a_fifth_of_a_second() -> None:
    """The best of five, in processor time, so that a busy machine does not decide."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert tallystick_command("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(5)) < HELP_CPU_S_MAX


def test_help_names_every_command_and_the_version_is_the_packages() -> None:
    """What there is can be found."""
    help = tallystick_command("--help").stdout
    assert all(f"  {name} " in help for name in COMMANDS)
    assert tallystick_command("--version").stdout == f"tallystick {tallystick.__version__}\n"


def test_serve_has_a_flag_for_every_setting_that_is_no_secret() -> None:
    """A secret on a command line would be in every list of processes."""
    help = tallystick_command("serve", "--help").stdout
    for name, spec in SPECS.items():
        assert (f"--{name.replace('_', '-')} " in help) != spec.metadata["secret"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["count"], "No such command 'count'"),
        (["usage", "--format", "xml"], "'xml' is not one of"),
        (["usage", "--filter", "en"], "--filter must be LABEL=VALUE"),
        (["usage", "--server", "http://127.0.0.1:9"], "--server needs a key"),
        (["usage", "--server", "ftp://x", "--key", "k"], "must begin with http"),
        (["usage", "--server", "http://127.0.0.1:1", "--key", "k"], "does not answer"),
        (["usage", "--data", "no/such/folder"], "There is no ledger in no/such/folder"),
        (["verify", "--data", "no/such/folder"], "There is no ledger in no/such/folder"),
        (["serve", "--port", "http"], "port (from flag --port): must be a whole number"),
        (["serve", "--config", "no/such.toml"], "cannot read the settings file no/such.toml"),
        (["serve", "--url", "memory:", "--host", "no.such.host.invalid"], "Cannot listen on no.such.host.invalid"),
    ],
)
def test_wrong_use_ends_with_2_and_says_what_is_wrong_on_stderr(arguments: list[str], said: str) -> None:
    """Nothing goes to stdout."""
    done = tallystick_command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
