"""Flags that commands share: those of the settings, made from their declaration, and those of where data is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tallystick.errors import LedgerDamaged, LedgerError
from tallystick.settings import CONFIG_FILE, SPECS, SettingError, Settings, load

Command = TypeVar("Command", bound=Callable[..., Any])

DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
FORMATS = ("table", "json", "csv", "ndjson")


class Failure(click.ClickException):
    """What was asked for cannot be done as it was asked."""

    exit_code = 2


def failure_of(error: LedgerError) -> click.ClickException:
    """Make the error of a ledger that does not open; damage ends with 1, whatever was asked."""
    return click.ClickException(str(error)) if isinstance(error, LedgerDamaged) else Failure(str(error))


def setting_flags(*names: str) -> Callable[[Command], Command]:
    """Add `--config` and a flag for each of these settings."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            spec = SPECS[name]
            # A secret on a command line is in every list of processes.
            if not spec.metadata["secret"]:
                command = click.option(_flag(name), name, metavar=_metavar(str(spec.type)), help=_help(name))(command)
        text = f"Settings file (TOML). Default: {CONFIG_FILE}, where there is one."
        return click.option("--config", metavar="FILE", envvar="TALLYSTICK_CONFIG", help=text)(command)

    return decorate


def source_flags(command: Command) -> Command:
    """Add the flags that say where the data is: a folder, or a server that holds it."""
    for flag, variable, help in (
        ("--key", "TALLYSTICK_KEY", "Key for --server."),
        ("--server", "TALLYSTICK_SERVER", "Ask this server instead of opening the data folder."),
    ):
        command = click.option(flag, envvar=variable, show_envvar=True, metavar="TEXT", help=help)(command)
    return setting_flags("data")(command)


def format_flag(*formats: str) -> Callable[[Command], Command]:
    """Add `--format`; the first one is the default."""
    help = "How to write it."
    return click.option(
        "--format", "form", type=click.Choice(formats), default=formats[0], show_default=True, help=help
    )


def instant(said: str | None, zone: str | None = None) -> str | None:
    """Return what a flag says as the API reads it: a day is its first instant in a zone, UTC where none is named.

    The API says what is wrong: with a zone that there is not, and with what is neither a day nor an instant, which
    stays as it is.
    """
    if said is None or DAY.fullmatch(said) is None:
        return said
    from tallystick.windows import format_instant, is_zone, local_instant

    known = zone if zone is not None and is_zone(zone) else "UTC"
    try:
        return format_instant(local_instant(f"{said}T00:00:00", known))
    except ValueError:
        return said


def settings_of(flags: dict[str, Any], config: str | None) -> Settings:
    """Gather the settings of this run from flags, environment and file."""
    try:
        return load(flags, os.environ, config_path(config))
    except SettingError as error:
        raise Failure(str(error)) from None


def config_path(given: str | None) -> Path | None:
    """Return the settings file: the one that was named, else the one in the working folder, where there is one."""
    if given is not None:
        return Path(given)
    return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(kind: str) -> str:
    return {"int": "N", "bool": "true|false", "Path": "FOLDER"}.get(kind, "TEXT")


def _help(name: str) -> str:
    default = SPECS[name].default
    shown = str(default).lower() if isinstance(default, bool) else default
    return str(SPECS[name].metadata["help"]) + ("" if default is None else f" Default: {shown}.")
