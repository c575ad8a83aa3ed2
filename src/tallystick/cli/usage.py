"""`tallystick usage`: the native report."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from tallystick.cli import options, output, source

BLOCKS = " ▏▎▍▌▋▊▉█"
EIGHTHS = 8


@click.command()
@click.option("--meter", default="audio", show_default=True, help="What was counted.")
@click.option(
    "--account", "accounts", multiple=True, help="Only this account; may be repeated. Default: all there are."
)
@click.option(
    "--from",
    "start",
    metavar="INSTANT",
    help="First instant that counts, as 2026-11-01T00:00:00Z; a day is its first one in --tz.",
)
@click.option("--to", "end", metavar="INSTANT", help="First instant that no longer counts.")
@click.option(
    "--window", help="minute15, hour, day, week, month, year or total. Default: day within a range, else total."
)
@click.option("--tz", help="Zone whose days, weeks, months and years are meant. Default: UTC.")
@click.option("--group-by", metavar="LABELS", help="Labels to tell apart, separated by commas; account is one too.")
@click.option("--filter", "filters", multiple=True, metavar="LABEL=VALUE", help="Only this value; may be repeated.")
@click.option("--aggregation", help="sum, count, min, max or avg. Default: the meter's own.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def usage(form: str, **flags: Any) -> None:
    """Print usage per time, account and label.

    \b
    Example: tallystick usage --meter audio --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --group-by account
    """
    place = source.place_of(flags)
    answer = place.ask("GET", "/v1/usage", _query(flags))
    report = output.document(answer)
    if form == "json":
        output.write_document(answer)
    else:
        labels = [label for label in (flags["group_by"] or "").split(",") if label]
        columns = ["from", "to", *labels, "count", "quantity"]
        output.write_rows(form, columns, map(_row, report["rows"]), report["total"])
    if form == "table" and sys.stdout.isatty():
        write_chart(report["rows"], os.get_terminal_size().columns)
    click.echo(f"{report['meter']} in {report['unit']}, zone {report['tz']}", err=True)


def write_chart(rows: Sequence[dict[str, Any]], width: int) -> None:
    """Draw a bar per time, as long as what was used in it; nothing where there is only one."""
    from decimal import Decimal

    sums: dict[str, Decimal] = {}
    for row in rows:
        sums[row["from"]] = sums.get(row["from"], Decimal(0)) + Decimal(row["quantity"] or 0)
    most = max(sums.values(), default=Decimal(0))
    if len(sums) < 2 or not most:
        return
    names = {start: start.removesuffix("T00:00:00Z") for start in sums}
    room = max(width - max(map(len, names.values())) - 4, EIGHTHS)
    for start, amount in sums.items():
        full, part = divmod(int(amount / most * room * EIGHTHS), EIGHTHS)
        click.echo(f"  {names[start]} {BLOCKS[-1] * full}{BLOCKS[part]}".rstrip())


def _query(flags: dict[str, Any]) -> list[tuple[str, str]]:
    ranged = flags["start"] is not None or flags["end"] is not None
    single = {
        "meter": flags["meter"],
        "from": options.instant(flags["start"], flags["tz"]),
        "to": options.instant(flags["end"], flags["tz"]),
        "window": flags["window"] or ("day" if ranged else "total"),
        "tz": flags["tz"],
        "group_by": flags["group_by"],
        "aggregation": flags["aggregation"],
    }
    query = [(name, value) for name, value in single.items() if value is not None]
    return query + [("account", name) for name in flags["accounts"]] + [_filter(text) for text in flags["filters"]]


def _filter(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not equals or not label:
        raise options.Failure(f"--filter must be LABEL=VALUE, not {text}.")
    return f"filter[{label}]", value


def _row(row: dict[str, Any]) -> output.Row:
    return {"from": row["from"], "to": row["to"], **row["labels"], "count": row["count"], "quantity": row["quantity"]}
