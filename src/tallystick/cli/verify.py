"""`tallystick verify`: the proof that what is kept is what the log says."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli import options, output, source
from tallystick.cli.progress import Progress
from tallystick.errors import Problem
from tallystick.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

ADVICE = (
    "What is kept is not what was written: a disk or a program changed it. Stop sending events to it, keep the folder "
    "as it is, and restore the last backup that verifies into another folder (tallystick restore). Events since then "
    "can be sent again by whoever has them: those that the backup has are duplicates."
)

NDJSON = "application/x-ndjson"


@click.command()
@options.format_flag("table", "json")
@options.source_flags
def verify(form: str, **flags: Any) -> None:
    """Replay the log from nothing and compare everything kept with it; ends with 1 if anything differs.

    On a terminal it shows how far it is. Through --server it needs a key of the operator with the scope admin.
    """
    place = source.place_of(flags)
    proof = of_folder(place.settings) if place.server is None else _of_server(place)
    write_proof(form, proof)
    sys.exit(1 if proof["faults"] else 0)


def of_folder(settings: Settings, folder: Path | None = None) -> dict[str, Any]:
    """Return the proof of a data folder, of the settings or another one; progress goes to stderr."""
    import asyncio

    try:
        return asyncio.run(_verified(settings if folder is None else dataclasses.replace(settings, data=folder)))
    except Problem as problem:
        raise click.ClickException(problem.detail) from None


async def _verified(settings: Settings) -> dict[str, Any]:
    from tallystick.api.proofs import document_of

    app = await source.open_folder(settings)
    shown = _Shown() if sys.stderr.isatty() else None
    try:
        proof = await app.ledger.verify(None if shown is None else shown.note)
        return {**document_of(proof)}
    finally:
        if shown is not None:
            shown.end()
        await app.close()


def _of_server(place: source.Place) -> dict[str, Any]:
    """Return the proof of a server; only somebody at a terminal is told how far it is."""
    if not sys.stderr.isatty():
        return {**output.document(place.ask("POST", "/v1/verify"))}
    told = _Told(_Shown())
    try:
        output.succeeded(place.ask("POST", "/v1/verify", accept=NDJSON, sink=told.read))
    finally:
        told.shown.end()
    return told.last


class _Shown:
    """How far a verify is, on a terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def note(self, done: int, all: int) -> None:
        """Show so many events of all."""
        if self._progress is None:
            self._progress = Progress("events", all)
        self._progress.note(done, done / all if all else None)

    def end(self) -> None:
        """Say what it came to, if it came to anything."""
        if self._progress is not None:
            self._progress.end("verify")


@dataclasses.dataclass(slots=True)
class _Told:
    """Lines of JSON as they come from a server: how far it is, and at last the proof."""

    shown: _Shown
    last: dict[str, Any] = dataclasses.field(default_factory=dict)
    _begun: bytes = b""

    def read(self, part: bytes) -> None:
        """Take what came, and show what it says."""
        *lines, self._begun = (self._begun + part).split(b"\n")
        for line in lines:
            self.last = json.loads(line)
            if "done" in self.last:
                self.shown.note(self.last["done"], self.last["of"])


def write_proof(form: str, proof: dict[str, Any]) -> None:
    """Say what was compared, and what is wrong, to somebody who has never seen the inside."""
    if form == "json":
        output.write_value(proof)
        return
    compared = f"{proof['events']} events, {proof['postings']} postings, {proof['entries']} log entries"
    click.echo(f"Replayed {compared} and compared identities, postings and rollups with what is kept.")
    click.echo("Every event was read as it was sent and counted anew; every total that reports add up was added again.")
    click.echo(f"The chain ends in {proof['head']}.")
    click.echo("Whoever wrote that down earlier can tell that nothing before it was changed, removed or put in.")
    for fault in proof["faults"]:
        click.echo(f"FAULT {fault['where']}: {fault['detail']}")
    if proof["faults"]:
        click.echo(f"{len(proof['faults'])} faults. {ADVICE}")
    else:
        click.echo("No faults.")
