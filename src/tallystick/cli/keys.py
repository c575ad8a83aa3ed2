"""`tallystick keys`: what opens the API, and for whom."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli import options, output, source

COLUMNS = ("id", "account", "scopes", "created_at", "expires_at", "last_used_at")
SCOPES = ("ingest", "report", "limits", "admin")


@click.group()
def keys() -> None:
    """List, make, rotate and revoke keys."""


@keys.command("list")
@options.format_flag(*options.FORMATS)
@options.source_flags
def list_(form: str, **flags: Any) -> None:
    """List the keys, oldest first, without what opens doors."""
    output.write_rows(form, COLUMNS, source.place_of(flags).rows("/v1/keys", "keys"))


@keys.command()
@click.option("--account", help="Whose key it is. Without --account and with --operator, the operator's.")
@click.option("--operator", is_flag=True, help="Make a key of the operator, which sees all accounts.")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="May be repeated.")
@click.option("--expires-at", metavar="INSTANT", help="When it ends. Default: never.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def create(form: str, **flags: Any) -> None:
    """Make a key and show it, this once.

    \b
    Example: tallystick keys create --account acme --scope ingest --scope report
    """
    place = source.place_of(flags)
    if (flags["account"] is None) != flags["operator"]:
        raise options.Failure("Say whose key it is: --account NAME or --operator.")
    document = {"account": flags["account"], "scopes": list(flags["scopes"])}
    if flags["expires_at"] is not None:
        document["expires_at"] = flags["expires_at"]
    output.write_one(form, place.ask("POST", "/v1/keys", document=document))


@keys.command()
@click.argument("id")
@click.option("--overlap", metavar="DURATION", help="How long the old key stays valid, as PT24H. Default: a day.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def rotate(id: str, overlap: str | None, form: str, **flags: Any) -> None:
    """Make the successor of a key and show it, this once."""
    document = {} if overlap is None else {"overlap": overlap}
    answer = source.place_of(flags).ask("POST", f"/v1/keys/{source.part(id)}/rotate", document=document)
    output.write_one(form, answer)


@keys.command()
@click.argument("id")
@options.source_flags
def revoke(id: str, **flags: Any) -> None:
    """End a key at once."""
    output.document(source.place_of(flags).ask("DELETE", f"/v1/keys/{source.part(id)}"))
    click.echo(f"revoked {id}", err=True)
