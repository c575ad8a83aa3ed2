"""`tallystick config`: the settings of a run, where each comes from, and whether a settings file can be used."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import click

from tallystick.cli import options, output
from tallystick.settings import SPECS, SettingError, read_definitions, resolve

HIDDEN = "(set, not shown)"


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@click.option("--origin", is_flag=True, help="Say where each comes from.")
@options.format_flag(*options.FORMATS)
@options.setting_flags(*SPECS)
def show(form: str, origin: bool, config: str | None, **flags: Any) -> None:
    """Show the settings that serve would run with; a secret is only said to be set."""
    try:
        found = resolve(flags, os.environ, options.config_path(config))
    except SettingError as error:
        raise options.Failure(str(error)) from None
    rows = []
    for name, (value, where) in found.items():
        is_hidden = SPECS[name].metadata["secret"] and value is not None
        plain = value if isinstance(value, int | None) else _without_password(str(value))
        rows.append({"setting": name, "value": HIDDEN if is_hidden else plain, **({"origin": where} if origin else {})})
    output.write_rows(form, ["setting", "value", *["origin"] * origin], rows)


def _without_password(text: str) -> str:
    """Hide the password that the URL of a database may have, in it or behind it."""
    return re.sub(r"(://[^/@:]*:)[^/@]+(@)|([?&]password=)[^&]+", rf"\1\3{HIDDEN}\2", text)


@config.command()
@options.setting_flags(*SPECS)
def check(config: str | None, **flags: Any) -> None:
    """Say whether serve could start with these settings, and with the meters and rates of the file; 1 if not."""
    path = options.config_path(config)
    try:
        resolve(flags, os.environ, path)
        read_definitions(path)
    except SettingError as error:
        click.echo(str(error))
        sys.exit(1)
    from tallystick.cli import defining

    try:
        defining.check(path)
    except options.Failure as failure:
        click.echo(failure.message)
        sys.exit(1)
    click.echo("The settings can be used." if path is None else f"{path} and the settings beside it can be used.")
