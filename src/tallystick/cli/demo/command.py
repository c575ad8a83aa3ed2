"""`tallystick demo`: from nothing to two months of usage, metered, reported and proved."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from tallystick.cli.options import Failure
from tallystick.clock import system_clock

if TYPE_CHECKING:
    from tallystick.cli.demo.story import Story

# What speaks HTTP or draws tables is imported where it is used, so that help is quick.

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WIDTH = 80


class Told(BaseException):
    """A signal came that tells the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@click.command()
@click.option("--serve/--no-serve", envvar="SERVE", show_envvar=True, default=True, help="Go on serving afterwards.")
@click.option("--data", metavar="FOLDER", type=click.Path(path_type=Path), help="Keep the data here; must be empty.")
@click.option("--port", default=0, show_default=True, metavar="N", help="Port to listen on; 0 picks a free one.")
def demo(serve: bool, data: Path | None, port: int) -> None:
    """Meter two made-up months up to now and show the reports.

    Starts a server over an empty folder and sends it the traffic of eight customers: yesterday's event by event, with
    repeats, conflicts, refused and late events among it, and that of the days around. Prints receipts, usage, vendors'
    reports and limits, and has the log verified. Ends with 1 if any number is not what was made up.
    """
    if data is not None and data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise Failure(f"{data} is not an empty folder. Name another with --data, or leave it out.")
    with told_by_signals(), folder(data) as place:
        agreed = _run(place, port, stay=serve)
    sys.exit(0 if agreed else 1)


def _run(place: Path, port: int, *, stay: bool) -> bool:
    from rich.console import Console

    from tallystick.cli.demo import days, story, tell, traffic
    from tallystick.cli.demo.server import serving

    console = Console(width=min(WIDTH, Console().width) if sys.stdout.isatty() else WIDTH, highlight=False)
    with serving(place, port) as server:
        to_now = days.until(system_clock())
        console.print(f"Made-up usage of {days.DAYS} days up to now, {story.instant(to_now.now)},", soft_wrap=True)
        console.print(f"for a server at {server.url} with its data in {place}", soft_wrap=True)
        try:
            told = story.begin(server, console, to_now, traffic.make(to_now))
            agreed = tell.tell(told)
            if agreed and stay:
                _stay(told)
        finally:
            _ignore_signals()
    return agreed


def _stay(told: Story) -> None:
    """Say how to look around, and wait until the demo or its server is told to end."""
    server = told.server
    server.disconnect()
    told.heading(f"Serving at {server.url} (process {server.process.pid}); ctrl-c ends it.")
    told.console.print("In a shell:", markup=False)
    told.console.print("\n".join(_commands(told)), soft_wrap=True, markup=False)
    told.console.print("\nOr look at it in a browser, and sign in with the operator's key:", markup=False)
    page = f"/dashboard/usage?from={told.days.shown:%Y-%m-%d}&through={told.days.today:%Y-%m-%d}"
    told.console.print(f"{server.url}{page}\n{server.operator_key}", soft_wrap=True, markup=False)
    sys.stdout.flush()
    try:
        code = server.process.wait()
    except Told:
        return
    if code != 0:
        raise click.ClickException(f"the server has ended with {code}")


def _commands(told: Story) -> list[str]:
    """Return what to try next, to be copied."""
    from tallystick.cli.demo import story
    from tallystick.cli.demo.days import ONE

    server, days = told.server, told.days
    return [
        f"OPERATOR_KEY={server.operator_key}",
        f"KEY={told.keys[story.REPORTED]}  # of {story.REPORTED}",
        'curl -s -H "Authorization: Bearer $KEY" \\',
        f'  "{server.url}/v2/usage?since={days.told:%Y-%m-%d}&until={days.told:%Y-%m-%d}"',
        f"export TALLYSTICK_SERVER={server.url} TALLYSTICK_KEY=$OPERATOR_KEY",
        f"tallystick usage --from {story.instant(days.shown)} --to {story.instant(days.today + ONE)}",
        "tallystick report speechmatics --account kestrel-clinic",
        "tallystick limits list",
        "tallystick events tail -n 5",
        "tallystick verify",
        "tallystick backup demo.tally",
    ]


@contextmanager
def folder(data: Path | None) -> Iterator[Path]:
    """Name the folder that was asked for, or one that is removed in the end."""
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="tallystick-demo-") as made:
        yield Path(made)


@contextmanager
def told_by_signals() -> Iterator[None]:
    """Turn the signals that end a process into an exception, once, so that everything is put away."""

    def tell(number: int, frame: FrameType | None) -> None:
        _ignore_signals()
        raise Told(number)

    before = [signal.signal(number, tell) for number in SIGNALS]
    try:
        yield
    except Told as told:
        sys.exit(128 + told.number)
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """Let nothing interrupt what puts things away."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
