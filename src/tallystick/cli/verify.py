"""`tallystick verify`: the proof that what is kept is what the log says."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tallystick.cli import options, output, source
from tallystick.errors import Problem
from tallystick.settings import Settings


@click.command()
@options.format_flag("table", "json")
@options.source_flags
def verify(form: str, **flags: Any) -> None:
    """Replay the log from nothing and compare everything kept with it; ends with 1 if anything differs.

    Through --server it needs a key of the operator with the scope admin.
    """
    place = source.place_of(flags)
    proof = _of_folder(place.settings) if place.server is None else output.document(place.ask("POST", "/v1/verify"))
    if form == "json":
        click.echo(json.dumps(proof, ensure_ascii=False))
    else:
        _write(proof)
    sys.exit(1 if proof["faults"] else 0)


def _of_folder(settings: Settings) -> dict[str, Any]:
    import asyncio

    try:
        return asyncio.run(_verified(settings))
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


def _write(proof: dict[str, Any]) -> None:
    compared = f"{proof['events']} events, {proof['postings']} postings, {proof['entries']} log entries"
    click.echo(f"Replayed {compared} and compared identities, postings and rollups with what is kept.")
    click.echo(f"The chain ends in {proof['head']}.")
    for fault in proof["faults"]:
        click.echo(f"FAULT {fault['where']}: {fault['detail']}")
    click.echo(f"{len(proof['faults'])} faults." if proof["faults"] else "No faults.")
