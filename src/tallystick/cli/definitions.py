"""`tallystick meters` and `tallystick rates`: what is counted, and by what it is multiplied."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from tallystick.cli import options, output, source

METER_COLUMNS = ("name", "unit", "scale", "aggregation", "events", "labels")
FILE = click.argument("file", metavar="FILE")


def document_in(file: str) -> dict[str, Any]:
    """Read a definition from a file of JSON; - is standard input. Numbers stay as they are written."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise options.Failure(f"{file} is no file of JSON: {error}.") from None
    if not isinstance(found, dict):
        raise options.Failure(f"{file} must hold a JSON object.")
    return found


@click.group()
def meters() -> None:
    """List, show, define and delete meters."""


@meters.command("list")
@options.format_flag(*options.FORMATS)
@options.source_flags
def list_meters(form: str, **flags: Any) -> None:
    """List the meters, by name."""
    rows = source.place_of(flags).rows("/v1/meters", "meters")
    if form == "table":
        rows = [{**row, "labels": " ".join(row.get("labels") or ())} for row in rows]
    output.write_rows(form, METER_COLUMNS, rows)


@meters.command("show")
@click.argument("name")
@options.source_flags
def show_meter(name: str, **flags: Any) -> None:
    """Show the definition of a meter, as JSON."""
    answer = source.place_of(flags).ask("GET", f"/v1/meters/{source.part(name)}")
    output.write_document(answer)


@meters.command("put")
@click.argument("name")
@FILE
@click.option("--from", "start", metavar="INSTANT", help="Count kept events from here on too; beginning = all of them.")
@options.source_flags
def put_meter(name: str, file: str, start: str | None, **flags: Any) -> None:
    """Define a meter from a file of JSON (- is standard input)."""
    document = document_in(file) | ({} if start is None else {"from": start})
    answer = source.place_of(flags).ask("PUT", f"/v1/meters/{source.part(name)}", document=document)
    output.write_document(answer)


@meters.command("delete")
@click.argument("name")
@options.source_flags
def delete_meter(name: str, **flags: Any) -> None:
    """Delete a meter: it counts no more, and its usage cannot be read."""
    output.document(source.place_of(flags).ask("DELETE", f"/v1/meters/{source.part(name)}"))
    click.echo(f"deleted {name}", err=True)


@click.group()
def rates() -> None:
    """List, show and define rate tables."""


@rates.command("list")
@options.format_flag(*options.FORMATS)
@options.source_flags
def list_rates(form: str, **flags: Any) -> None:
    """List every rate of every table."""
    tables = source.place_of(flags).rows("/v1/rates", "tables")
    rows = [{"table": table["table"], **rate} for table in tables for rate in table["rates"]]
    output.write_rows(form, ("table", "type", "multiplier", "from"), rows)


@rates.command("show")
@click.argument("table")
@options.source_flags
def show_rates(table: str, **flags: Any) -> None:
    """Show one table, as JSON."""
    answer = source.place_of(flags).ask("GET", f"/v1/rates/{source.part(table)}")
    output.write_document(answer)


@rates.command("put")
@click.argument("table")
@FILE
@click.option("--recount", is_flag=True, help="Count anew what was counted by rates that this changes.")
@options.source_flags
def put_rates(table: str, file: str, recount: bool, **flags: Any) -> None:
    """Define a table from a file of JSON (- is standard input)."""
    document, query = document_in(file), [("recount", "true")] * recount
    answer = source.place_of(flags).ask("PUT", f"/v1/rates/{source.part(table)}", query, document=document)
    output.write_document(answer)
