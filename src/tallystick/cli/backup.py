"""`tallystick backup` and `tallystick restore`: the commands; what they run is in copying.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tallystick.cli import options, output, source, verify


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.format_flag(*options.FORMATS)
@options.source_flags
def backup(file: Path, form: str, **flags: Any) -> None:
    """Copy the whole ledger into a new file, while it is served or not.

    The copy has everything that was acknowledged when it began. Through --server it needs a key of the operator with
    the scope admin.

    \b
    Example: tallystick backup monday.tally --server http://127.0.0.1:8787
    """
    place = source.place_of(flags)
    from tallystick.cli import copying

    made = copying.backup(place, file)
    output.write_rows(form, list(made), [made])


@click.command()
@click.argument("origin", metavar="BACKUP", type=click.Path(path_type=Path))
@options.format_flag("table", "json")
@options.setting_flags("data")
def restore(origin: Path, form: str, config: str | None, **flags: Any) -> None:
    """Make a data folder of a backup, or of another data folder that is not in use, and verify it.

    The folder is there once every number in it is proved; with faults nothing is restored, and it ends with 1.

    \b
    Example: tallystick restore monday.tally --data ./restored
    """
    settings = options.settings_of(flags, config)
    from tallystick.cli import copying

    proof = copying.restore(origin, settings)
    verify.write_proof(form, proof)
    if proof["faults"]:
        click.echo("nothing was restored", err=True)
        sys.exit(1)
    click.echo(f"restored into {settings.data}", err=True)
