"""`tallystick limits`: how much an account may use, and how it stands."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli import options, output, source

COLUMNS = ("id", "account", "meter", "period", "policy", "capacity", "used", "held", "remaining", "resets_at")
THRESHOLDS = ("threshold", "period_start", "at", "used", "capacity")
PERIODS = ("minute", "hour", "day", "week", "month", "year", "total")


@click.group()
def limits() -> None:
    """List, show, define and delete limits."""


@limits.command("list")
@click.option("--account", help="Only the limits of this account.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def list_(account: str | None, form: str, **flags: Any) -> None:
    """List limits by id, and how they stand."""
    query = [] if account is None else [("account", account)]
    output.write_rows(form, COLUMNS, source.place_of(flags).rows("/v1/limits", "limits", query))


@limits.command()
@click.argument("id")
@options.format_flag(*options.FORMATS)
@options.source_flags
def show(id: str, form: str, **flags: Any) -> None:
    """Show one limit and how it stands."""
    output.write_one(form, source.place_of(flags).ask("GET", f"/v1/limits/{source.part(id)}"), COLUMNS)


@limits.command()
@click.argument("id")
@click.option("--account", required=True, help="Whose use it bounds.")
@click.option("--meter", required=True, help="What is counted.")
@click.option("--amount", help="How much, as a decimal. Default: none of its own, only what grants give.")
@click.option("--period", type=click.Choice(PERIODS), default="month", show_default=True, help="When it resets.")
@click.option("--property", "property_", type=click.Choice(["quantity", "count"]), help="Default: quantity.")
@click.option("--where", multiple=True, metavar="LABEL=VALUE", help="Only use with this label; may be repeated.")
@click.option("--timezone", help="The zone whose clock cuts the periods. Default: UTC.")
@click.option("--anchor", type=int, help="Where a period begins: a weekday, or a day of the month.")
@click.option("--policy", type=click.Choice(["reject", "postpone", "allow"]), help="Default: reject.")
@click.option("--status", type=click.Choice(["402", "429"]), help="Of a refusal. Default: 429.")
@click.option("--threshold", "thresholds", type=int, multiple=True, help="A percentage to note; may be repeated.")
@click.option("--unheld", type=click.Choice(["record", "refuse"]), help="Events without a hold. Default: record.")
@options.format_flag(*options.FORMATS)
@options.source_flags
def put(id: str, form: str, **flags: Any) -> None:
    """Define a limit, or give it this definition in place of the one it has; its grants stay.

    \b
    Example: tallystick limits put audio-monthly --account acme --meter audio --amount 36000 --status 402
    """
    place = source.place_of(flags)
    document: dict[str, Any] = {name: flags[name] for name in ("account", "meter", "amount", "period")}
    optional = {
        "property": flags["property_"],
        "where": dict(map(_label, flags["where"])) or None,
        "timezone": flags["timezone"],
        "anchor": flags["anchor"],
        "policy": flags["policy"],
        "status": None if flags["status"] is None else int(flags["status"]),
        "thresholds": list(flags["thresholds"]) or None,
        "unheld": flags["unheld"],
    }
    document |= {name: value for name, value in optional.items() if value is not None}
    output.write_one(form, place.ask("PUT", f"/v1/limits/{source.part(id)}", document=document), COLUMNS)


@limits.command()
@click.argument("id")
@options.source_flags
def delete(id: str, **flags: Any) -> None:
    """Delete a limit with its grants."""
    output.document(source.place_of(flags).ask("DELETE", f"/v1/limits/{source.part(id)}"))
    click.echo(f"deleted {id}", err=True)


@limits.command()
@click.argument("id")
@options.format_flag(*options.FORMATS)
@options.source_flags
def thresholds(id: str, form: str, **flags: Any) -> None:
    """List which thresholds of a limit were crossed, and when."""
    rows = source.place_of(flags).rows(f"/v1/limits/{source.part(id)}/thresholds", "thresholds")
    output.write_rows(form, THRESHOLDS, rows)


def _label(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not equals or not label:
        raise options.Failure(f"--where must be LABEL=VALUE, not {text}.")
    return label, value
