"""`tallystick serve`: the command; what it runs is in process.py."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli import options
from tallystick.settings import SPECS


@click.command()
@options.setting_flags(*SPECS)
def serve(config: str | None, **flags: Any) -> None:
    """Take events and answer reports over HTTP until told to end.

    The first start makes the operator's key and prints it once, on stderr. Once requests are answered, one line on
    stdout says where; it is JSON unless stdout is a terminal. SIGTERM and SIGINT end it: what was taken is finished.
    """
    settings = options.settings_of(flags, config)
    from tallystick.cli import process

    process.serve(settings, options.config_path(config))
