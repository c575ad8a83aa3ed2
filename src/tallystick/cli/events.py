"""`tallystick events` and `tallystick export`: kept events, as they come in and all of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tallystick.cli import options, output, source
from tallystick.cli.source import Door, Place, Question, target_of

COLUMNS = ("sequence", "recorded_at", "time", "account", "type", "source", "id", "metered")
LOOK_S = 1.0
CHOICE = (
    click.option("--account", "accounts", multiple=True, help="Only this account; may be repeated."),
    click.option("--space", help="Only events of this space."),
    click.option("--subject", help="Only events with this subject."),
    click.option("--type", help="Only events of this type."),
    click.option("--id", help="Only events with this id."),
    click.option(
        "--from", "start", metavar="INSTANT", help="The first instant of their time; a day is its first one in UTC."
    ),
    click.option("--to", "end", metavar="INSTANT", help="The instant behind the last."),
)


def choice(command: Any) -> Any:
    """Add the flags that say which events are meant."""
    for option in reversed(CHOICE):
        command = option(command)
    return command


def _query(flags: dict[str, Any]) -> list[tuple[str, str]]:
    said = {name: flags[name] for name in ("space", "subject", "type", "id")}
    said |= {"from": options.instant(flags["start"]), "to": options.instant(flags["end"])}
    single = [(name, value) for name, value in said.items() if value is not None]
    return single + [("account", name) for name in flags["accounts"]]


@click.group()
def events() -> None:
    """Look at kept events."""


@events.command()
@click.option(
    "--lines", "-n", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many to begin with."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes in; needs --server.")
@choice
@options.format_flag("table", "json", "csv", "ndjson")
@options.source_flags
def tail(lines: int, follow: bool, form: str, **flags: Any) -> None:
    """Show the events that were recorded last, the newest at the bottom.

    \b
    Example: tallystick events tail --follow --account acme --format ndjson
    """
    place = source.place_of(flags)
    if follow and place.server is None:
        raise options.Failure("--follow needs --server: nothing comes into a folder that no server holds.")
    if follow and form != "ndjson":
        raise options.Failure("--follow needs --format ndjson: a table or a list has an end.")
    import asyncio

    try:
        asyncio.run(_tail(place, _query(flags), lines, form, follow))
    except KeyboardInterrupt:
        sys.exit(0)


async def _tail(place: Place, query: Sequence[tuple[str, str]], lines: int, form: str, follow: bool) -> None:
    import asyncio

    async with place.open() as door:
        found = await _newest(door, query, lines, 0)
        output.write_rows(form, COLUMNS, [_row(item) for item in found] if form in ("table", "csv") else found)
        seen = max((item["sequence"] for item in found), default=0)
        while follow:
            sys.stdout.flush()
            await asyncio.sleep(LOOK_S)
            found = await _newest(door, query, None, seen)
            output.write_rows(form, COLUMNS, found)
            seen = max((item["sequence"] for item in found), default=seen)


async def _newest(door: Door, query: Sequence[tuple[str, str]], lines: int | None, behind: int) -> list[dict[str, Any]]:
    """Return the newest events behind a place in the log, oldest first, at most so many."""
    found: list[dict[str, Any]] = []
    cursor = None
    while lines is None or len(found) < lines:
        size = ("limit", str(1000 if lines is None else lines - len(found)))
        asked = [*query, size, *([("cursor", cursor)] if cursor else [])]
        page = output.document(await door.ask(Question("GET", target_of("/v1/events", asked))))
        new = [item for item in page["events"] if item["sequence"] > behind]
        found += new
        cursor = page["next"]
        if cursor is None or len(new) < len(page["events"]):
            break
    return found[::-1]


def _row(item: dict[str, Any]) -> dict[str, Any]:
    event = item["event"]
    known = {name: item[name] for name in ("sequence", "recorded_at", "account")}
    said = {name: event.get(name) for name in ("time", "type", "source", "id")}
    return {**known, **said, "metered": item["receipt"]["metered"]}


@click.command()
@choice
@click.option(
    "--format", "form", type=click.Choice(["ndjson", "csv"]), default="ndjson", show_default=True, help="How."
)
@click.option("--output", "-o", "file", type=click.Path(path_type=Path, dir_okay=False), help="Default: stdout.")
@options.source_flags
def export(form: str, file: Path | None, **flags: Any) -> None:
    """Write every kept event that is meant, oldest first, with what it fed.

    An export that breaks off ends with an error, and a file it was written to is not there.

    \b
    Example: tallystick export --account acme --from 2026-11-01T00:00:00Z -o november.ndjson
    """
    place = source.place_of(flags)
    target = [*_query(flags), ("format", form)]
    if file is None:
        output.succeeded(place.ask("GET", "/v1/export", target, sink=sys.stdout.buffer.write))
        sys.stdout.buffer.flush()
        return
    with output.whole_file(file) as writing:
        output.succeeded(place.ask("GET", "/v1/export", target, sink=writing.write))
