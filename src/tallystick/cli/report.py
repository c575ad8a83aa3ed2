"""`tallystick report DIALECT`: usage as one vendor's API reports it."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli import options, output, source


@click.group()
def report() -> None:
    """Print usage as one vendor's API reports it."""


@report.command()
@click.option("--account", help="Whose usage; needed unless the key is bound to an account.")
@click.option("--since", metavar="YYYY-MM-DD", help="First day. Default: the day of the first job.")
@click.option("--until", metavar="YYYY-MM-DD", help="Last day. Default: yesterday; today is never in it.")
@options.source_flags
def speechmatics(**flags: Any) -> None:
    """Print the batch transcription usage report, as GET /v2/usage answers it.

    \b
    Example: tallystick report speechmatics --account acme --since 2026-11-01
    """
    place = source.place_of(flags)
    answer = place.ask("GET", "/v2/usage", [(name, value) for name, value in flags.items() if value is not None])
    output.document(answer)
    output.write_document(answer)
