"""`tallystick import`: the command; what it runs is in run.py."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tallystick.cli import options, output, source

REJECTS = Path("tallystick-rejects.ndjson")
COLUMNS = ("file", "lines", "accepted", "duplicate", "conflict", "rejected")
FORMS = ("ndjson", "json", "csv", "tsv")


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--map", "maps", multiple=True, metavar="COLUMN=FIELD[:UNIT]", help="Where a column goes; UNIT is ms, s, min or h."
)
@click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE", help="A value for every event; may be repeated.")
@click.option("--tz", default="UTC", show_default=True, help="Zone of times that have none.")
@click.option("--dry-run", is_flag=True, help="Check every line and keep none.")
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    default=REJECTS,
    show_default=True,
    help="Where refused lines go, with reasons; written only if there are any.",
)
@click.option("--as", "kind", type=click.Choice(FORMS), help="Form of the files. Default: by their names.")
@click.option("--delimiter", metavar="CHARACTER", help="What parts the cells of a row. Default: by the form.")
@options.format_flag("table", "json", "csv", "ndjson")
@options.source_flags
def import_(form: str, **flags: Any) -> None:
    """Import files of events: lines or lists of JSON, CSV, TSV; plain, gzip or zstd; - is standard input.

    A column goes to the field of its name unless --map says otherwise; --map COLUMN= drops it. An empty cell is no
    value. A line without an id gets one from its bytes, so running an import again, after whatever end, adds only what
    is new. Ends with 1 if lines were refused.

    \b
    Example: tallystick import clips.tsv --map clip=id --map duration_ms=duration:ms
               --set source=clips --set type=audio.processed --set account=radio
    """
    place = source.place_of(flags)
    from tallystick.cli.importing.files import Files
    from tallystick.cli.importing.mapping import mapping_of
    from tallystick.cli.importing.run import Import, Rejects
    from tallystick.windows import is_zone

    if not is_zone(flags["tz"]):
        raise options.Failure(f"--tz {flags['tz']}: there is no such zone; name one as Europe/Prague.")
    if flags["delimiter"] is not None and len(flags["delimiter"]) != 1:
        raise options.Failure("--delimiter must be one character.")
    plan = mapping_of(flags["maps"], flags["sets"], flags["tz"])
    rejects = Rejects(flags["rejects"])
    files = Files(flags["files"], plan, flags["kind"], flags["delimiter"])
    work = Import(files.names, flags["dry_run"], rejects)
    import asyncio

    try:
        tallies, whole = asyncio.run(_run(place, files, work))
    finally:
        rejects.close()
    if flags["dry_run"]:
        click.echo("This was a dry run: nothing was kept, and duplicates were not looked for.", err=True)
    _write(form, [asdict(tally) for tally in tallies])
    sys.exit(0 if whole and not any(tally.refused for tally in tallies) else 1)


def _write(form: str, tallies: list[output.Row]) -> None:
    total = {name: sum(tally[name] for tally in tallies) for name in COLUMNS if name != "file"}
    if form == "json":
        output.write_value({**total, "files": tallies})
    else:
        output.write_rows(form, COLUMNS, tallies, total if len(tallies) > 1 else None)


async def _run(place: source.Place, files: Any, work: Any) -> Any:
    from tallystick.cli import runtime
    from tallystick.cli.importing.reading import reader

    runtime.settle()
    if work.dry_run:
        place = place.or_nothing()
    # Files that are read apart are begun while the ledger opens.
    with reader(files) as read:
        async with place.open(makes=not work.dry_run) as door:
            return await work.run(read, door)
