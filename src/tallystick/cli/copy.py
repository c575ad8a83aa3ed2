"""`tallystick copy`: a whole ledger brought to another place."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import click

from tallystick.cli import options
from tallystick.cli.progress import Progress


@click.command()
@click.option("--from", "origin", required=True, metavar="PLACE", help="Data folder, or postgresql://… to copy.")
@click.option(
    "--to", "target", required=True, metavar="PLACE", help="New data folder, or postgresql://… without a ledger."
)
@options.format_flag("table", "json")
@options.setting_flags()
def copy(origin: str, target: str, form: str, config: str | None) -> None:
    """Copy a whole ledger to another place, and prove that nothing is missing or different.

    Everything goes along: accounts, keys, meters as they were at each time, limits, holds, every event with its
    identity and what it counted, and the audit. Nobody may have either place open: stop the servers first. A copy
    that was cut short goes on where it stood when the same command runs again; until it is complete it does not open.
    With differences or faults it stays closed, and the command ends with 1.

    \b
    Example: tallystick copy --from ./tallystick-data --to postgresql://tally@db.example/tally
    """
    settings = options.settings_of({}, config)
    from tallystick.cli import output
    from tallystick.cli.verify import ADVICE
    from tallystick.errors import LedgerError
    from tallystick.ledger.copying import copy as copy_ledger

    shown = _Shown()
    try:
        made = copy_ledger(origin, target, settings, shown.note)
    except LedgerError as error:
        shown.end()
        raise options.failure_of(error) from None
    shown.end()
    if form == "json":
        output.write_value(dataclasses.asdict(made))
    else:
        _write(dataclasses.asdict(made), ADVICE)
    if made.faults:
        click.echo(f"{target} is not complete, and does not open", err=True)
        sys.exit(1)
    click.echo(f"{target} is complete: serve it, or use it with other commands", err=True)


class _Shown:
    """How far a copy is: each part of the work by itself."""

    def __init__(self) -> None:
        self._verb = ""
        self._progress: Progress | None = None

    def note(self, verb: str, done: int, all: int) -> None:
        """Show that so many events of all are done."""
        if self._progress is None or verb != self._verb:
            self.end()
            self._verb, self._progress = verb, Progress(f"events {verb}", all)
        self._progress.note(done, done / all if all else None)

    def end(self) -> None:
        """Say what the part came to."""
        if self._progress is not None:
            self._progress.end(self._verb)
            self._progress = None


def _write(made: dict[str, Any], advice: str) -> None:
    click.echo(f"Copied {made['events']} events in {made['entries']} log entries, each as it was sent and counted.")
    click.echo("The copy's log was replayed, and everything kept in both places was compared.")
    click.echo(f"The copy's chain ends in {made['head']}.")
    for fault in made["faults"]:
        click.echo(f"FAULT {fault['where']}: {fault['detail']}")
    click.echo(f"{len(made['faults'])} faults. {advice}" if made["faults"] else "No faults.")
