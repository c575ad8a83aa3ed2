"""`tallystick version` and `tallystick completion`: what is installed, and how a shell completes its commands."""

from __future__ import annotations

import platform

import click

import tallystick
from tallystick.cli import options, output


@click.command()
@options.format_flag(*options.FORMATS)
def version(form: str) -> None:
    """Say which versions are installed, of tallystick and of what decides over data."""
    import apsw
    import tzdata

    from tallystick.ledger.sqlite.file import FORMAT

    found = {
        "tallystick": tallystick.__version__,
        "format": FORMAT,
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "tzdata": tzdata.IANA_VERSION,
    }
    output.write_rows(form, list(found), [found])


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete tallystick's commands and flags.

    \b
    Example: tallystick completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    from tallystick.cli.root import root

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(root, {}, "tallystick", "_TALLYSTICK_COMPLETE").source())
