"""`tallystick holds`: capacity that is set aside for work under way."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli import options, output, source

COLUMNS = ("id", "account", "meter", "quantity", "state", "created_at", "expires_at")
STATES = ("open", "settled", "released", "expired")


@click.group()
def holds() -> None:
    """List, show and release holds."""


@holds.command("list")
@click.option("--account", help="Whose holds. With a key of an account: its own.")
@click.option("--state", type=click.Choice(STATES), help="Only holds in this state.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def list_(account: str | None, state: str | None, form: str, **flags: Any) -> None:
    """List the holds of an account by id.

    \b
    Example: tallystick holds list --account acme --state open
    """
    given = {"account": account, "state": state}
    query = [(name, value) for name, value in given.items() if value is not None]
    output.write_rows(form, COLUMNS, source.place_of(flags).rows("/v1/holds", "holds", query))


@holds.command()
@click.argument("id")
@click.option("--account", help="Whose hold it is, where several accounts have one of this id.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def show(id: str, account: str | None, form: str, **flags: Any) -> None:
    """Show one hold."""
    query = [] if account is None else [("account", account)]
    output.write_one(form, source.place_of(flags).ask("GET", f"/v1/holds/{source.part(id)}", query), COLUMNS)


@holds.command()
@click.argument("id")
@click.option("--account", help="Whose hold it is, where several accounts have one of this id.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def release(id: str, account: str | None, form: str, **flags: Any) -> None:
    """Give back what a hold holds, of a worker that is gone for good."""
    query = [] if account is None else [("account", account)]
    answer = source.place_of(flags).ask("POST", f"/v1/holds/{source.part(id)}/release", query)
    output.write_one(form, answer, COLUMNS)
