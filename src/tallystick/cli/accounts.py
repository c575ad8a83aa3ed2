"""`tallystick accounts`: who owns usage."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli import options, output, source

COLUMNS = ("account", "kind", "timezone", "members")


@click.group()
def accounts() -> None:
    """List, show, define and delete accounts."""


@accounts.command("list")
@options.format_flag(*options.FORMATS)
@options.source_flags
def list_(form: str, **flags: Any) -> None:
    """List the accounts, by name."""
    output.write_rows(form, COLUMNS, source.place_of(flags).rows("/v1/accounts", "accounts"))


@accounts.command()
@click.argument("account")
@options.format_flag(*options.FORMATS)
@options.source_flags
def show(account: str, form: str, **flags: Any) -> None:
    """Show one account."""
    answer = source.place_of(flags).ask("GET", f"/v1/accounts/{source.part(account)}")
    output.write_one(form, answer, COLUMNS)


@accounts.command()
@click.argument("account")
@click.option("--kind", type=click.Choice(["org", "user"]), default="org", show_default=True, help="What it is.")
@click.option("--timezone", help="Its zone, as Europe/Prague. Default: UTC.")
@click.option("--member", "members", multiple=True, help="A user of the organisation; may be repeated.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def put(account: str, form: str, **flags: Any) -> None:
    """Make an account, or give it this definition in place of the one it has.

    \b
    Example: tallystick accounts put acme --timezone Europe/Prague --member ada
    """
    place = source.place_of(flags)
    document = {"kind": flags["kind"], "members": list(flags["members"])}
    if flags["timezone"] is not None:
        document["timezone"] = flags["timezone"]
    output.write_one(form, place.ask("PUT", f"/v1/accounts/{source.part(account)}", document=document), COLUMNS)


@accounts.command()
@click.argument("account")
@options.source_flags
def delete(account: str, **flags: Any) -> None:
    """Delete an account that has neither events nor keys nor limits."""
    output.document(source.place_of(flags).ask("DELETE", f"/v1/accounts/{source.part(account)}"))
    click.echo(f"deleted {account}", err=True)
