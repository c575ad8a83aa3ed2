"""`tallystick grants`: what gives a limit capacity for a time."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli import options, output, source

COLUMNS = ("id", "amount", "kind", "from", "until")


@click.group()
def grants() -> None:
    """List, give and take away grants of a limit."""


@grants.command("list")
@click.argument("limit")
@options.format_flag(*options.FORMATS)
@options.source_flags
def list_(limit: str, form: str, **flags: Any) -> None:
    """List the grants of a limit by when they begin."""
    rows = source.place_of(flags).rows(f"/v1/limits/{source.part(limit)}/grants", "grants")
    output.write_rows(form, COLUMNS, rows)


@grants.command()
@click.argument("limit")
@click.argument("id")
@click.option("--amount", required=True, help="How much, as a decimal.")
@click.option("--kind", type=click.Choice(["base", "extension"]), default="extension", show_default=True, help="What.")
@click.option("--from", "start", required=True, metavar="INSTANT", help="Valid from, as 2026-11-01T00:00:00Z.")
@click.option("--until", "end", metavar="INSTANT", help="First instant at which it is not. Default: without end.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def give(limit: str, id: str, form: str, **flags: Any) -> None:
    """Give a limit capacity; the same again changes nothing.

    \b
    Example: tallystick grants give audio-monthly december --amount 3600 --from 2026-12-01T00:00:00Z
    """
    place = source.place_of(flags)
    document = {"id": id, "amount": flags["amount"], "kind": flags["kind"], "from": flags["start"]}
    answer = place.ask("POST", f"/v1/limits/{source.part(limit)}/grants", document={**document, "until": flags["end"]})
    output.write_one(form, answer, COLUMNS)


@grants.command()
@click.argument("limit")
@click.argument("id")
@options.source_flags
def take(limit: str, id: str, **flags: Any) -> None:
    """Take a grant away; what was used stays used."""
    path = f"/v1/limits/{source.part(limit)}/grants/{source.part(id)}"
    output.document(source.place_of(flags).ask("DELETE", path))
    click.echo(f"took {id} from {limit}", err=True)
