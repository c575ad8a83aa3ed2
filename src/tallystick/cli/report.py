"""`tallystick report DIALECT`: usage as one vendor's API reports it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from tallystick.cli import options, output, source

VBLAZE = ("usage", "usagemodel", "usagetags", "usagebilling", "usagefull", "usageraw", "usagelicense", "usagekeys")
PHONEXIA = ("capacities", "consumptions")

account_flag = click.option("--account", help="Whose usage; needed unless the key is bound to an account.")


@click.group()
def report() -> None:
    """Print usage as one vendor's API reports it."""


@report.command()
@click.argument("owner")
@click.argument("space")
@options.format_flag("json", "table", "csv", "ndjson")
@options.source_flags
def hiya(owner: str, space: str, **flags: Any) -> None:
    """Print the statistics of a space, as GET /spaces/OWNER/SPACE/stats answers them.

    \b
    Example: tallystick report hiya acme support
    """
    _write(flags, f"/spaces/{_part(owner)}/{_part(space)}/stats")


@report.command()
@click.argument("name", metavar="|".join(PHONEXIA), type=click.Choice(PHONEXIA), default=PHONEXIA[0])
@account_flag
@options.format_flag("json", "table", "csv", "ndjson")
@options.source_flags
def phonexia(name: str, **flags: Any) -> None:
    """Print what may still be processed, or what was, as GET /api/billing/... answers it.

    \b
    Example: tallystick report phonexia consumptions --account acme
    """
    _write(flags, f"/api/billing/{name}")


@report.command()
@account_flag
@click.option("--since", metavar="YYYY-MM-DD", help="First day. Default: the day of the first job.")
@click.option("--until", metavar="YYYY-MM-DD", help="Last day. Default: yesterday; today is never in it.")
@options.format_flag("json", "table", "csv", "ndjson")
@options.source_flags
def speechmatics(**flags: Any) -> None:
    """Print the batch transcription usage report, as GET /v2/usage answers it.

    \b
    Example: tallystick report speechmatics --account acme --since 2026-11-01
    """
    _write(flags, "/v2/usage")


@report.command()
@click.argument("name", metavar="[REPORT]", type=click.Choice(VBLAZE), default=VBLAZE[0])
@click.option("--filter", "filter", metavar="VALUE", help="Only what has this value.")
@account_flag
@click.option("--since", metavar="YYYY-MM-DD", help="First day. Default: the beginning.")
@click.option("--until", metavar="YYYY-MM-DD", help="Last day. Default: up to now.")
@options.format_flag("json", "table", "csv", "ndjson")
@options.source_flags
def vblaze(name: str, filter: str | None, **flags: Any) -> None:
    """Print hours and streams, as GET /usage and its kin answer them.

    REPORT is usage, usagemodel, usagetags, usagebilling, usagefull, usageraw, usagelicense or usagekeys.

    \b
    Example: tallystick report vblaze usagetags --account acme
    """
    _write(flags, f"/{name}" + (f"/{_part(filter)}" if filter else ""))


@report.command()
@click.argument("organisation")
@click.option("--year", help="Default: the current one, in UTC.")
@click.option("--month", help="1 to 12. Default: the current one, in UTC.")
@options.format_flag("json", "table", "csv", "ndjson")
@options.source_flags
def visii(organisation: str, **flags: Any) -> None:
    """Print credits, images and datasets, as GET /orgs/ORGANISATION/usage answers them.

    \b
    Example: tallystick report visii acme --year 2026 --month 11
    """
    _write(flags, f"/orgs/{_part(organisation)}/usage", scheme="token")


def _part(text: str) -> str:
    """Write a part of a path."""
    return quote(text, safe="")


def _write(flags: dict[str, Any], path: str, scheme: str = source.BEARER) -> None:
    """Ask for a report, with the flags that say neither where the data is nor how to write it as its parameters."""
    place, form = source.place_of(flags), flags.pop("form")
    query = [(name, value) for name, value in flags.items() if value is not None]
    answer = place.ask("GET", path, query, scheme)
    if form == "json":
        output.write_document(answer)
    else:
        output.write_values(form, answer)
