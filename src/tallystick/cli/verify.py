"""`tallystick verify`: the proof that what is kept is what the log says."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli import options, output, source
from tallystick.errors import Problem
from tallystick.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

ADVICE = (
    "What is kept is not what was written: a disk or a program changed it. Stop sending events to it, keep the folder "
    "as it is, and restore the last backup that verifies into another folder (tallystick restore). Events since then "
    "can be sent again by whoever has them: those that the backup has are duplicates."
)


@click.command()
@options.format_flag("table", "json")
@options.source_flags
def verify(form: str, **flags: Any) -> None:
    """Replay the log from nothing and compare everything kept with it; ends with 1 if anything differs.

    Through --server it needs a key of the operator with the scope admin.
    """
    place = source.place_of(flags)
    proof = of_folder(place.settings) if place.server is None else output.document(place.ask("POST", "/v1/verify"))
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
    try:
        proof = await app.ledger.verify(_show_progress if sys.stderr.isatty() else None)
        return {**document_of(proof)}
    finally:
        await app.close()


def _show_progress(done: int, all: int) -> None:
    click.echo(f"\r{done} of {all} events", err=True, nl=done == all)


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
