"""`tallystick migrate`: the tables of a ledger in PostgreSQL, made or renewed apart from serving."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from tallystick.cli import options, output
from tallystick.errors import LedgerError


@click.command()
@click.option("--citus", is_flag=True, help="Spread the tables over the nodes of Citus, by account.")
@options.format_flag(*options.FORMATS)
@options.setting_flags("url")
def migrate(citus: bool, form: str, config: str | None, **flags: Any) -> None:
    """Make the tables of a ledger in PostgreSQL, or bring them to the format of this version.

    `serve` does so too when it starts. Safe to repeat, and to run from several places at once: one of them does it.

    --citus needs the extension in the database, version 12 or newer, with its nodes added, and nobody who serves it
    meanwhile. Processes see at their start that tables are spread, and then commit each account's events apart.

    \b
    Example: tallystick migrate --url postgresql://tally@db.example/tally
    """
    settings = options.settings_of(flags, config)
    from tallystick.ledger.open import is_postgres, migrate_ledger

    if settings.url is None or not is_postgres(settings.url):
        raise options.Failure("migrate needs a database: --url postgresql://USER@HOST/DATABASE, or TALLYSTICK_URL.")
    try:
        made = dataclasses.asdict(migrate_ledger(settings.url, citus=citus))
    except LedgerError as error:
        raise options.failure_of(error) from None
    output.write_rows(form, list(made), [made])
