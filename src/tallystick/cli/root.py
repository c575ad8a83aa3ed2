"""The commands by name. Each is imported when it is called, so that help is quick."""

from __future__ import annotations

import importlib

import click

import tallystick

COMMANDS = {
    "demo": (
        "tallystick.cli.demo.command:demo",
        "Meter two made-up months on a server of its own and check the numbers.",
    ),
    "serve": ("tallystick.cli.serve:serve", "Take events and answer reports over HTTP."),
    "import": ("tallystick.cli.importing.command:import_", "Import files of events: JSON, CSV or TSV."),
    "usage": ("tallystick.cli.usage:usage", "Print usage per time, account and label."),
    "report": ("tallystick.cli.report:report", "Print usage as one vendor's API reports it."),
    "events": ("tallystick.cli.events:events", "Look at kept events."),
    "export": ("tallystick.cli.events:export", "Write every kept event."),
    "keys": ("tallystick.cli.keys:keys", "List, make, rotate and revoke keys."),
    "accounts": ("tallystick.cli.accounts:accounts", "List, show, define and delete accounts."),
    "meters": ("tallystick.cli.definitions:meters", "List, show, define and delete meters."),
    "rates": ("tallystick.cli.definitions:rates", "List, show and define rate tables."),
    "limits": ("tallystick.cli.limits:limits", "List, show, define and delete limits."),
    "grants": ("tallystick.cli.grants:grants", "List, give and take away grants of a limit."),
    "holds": ("tallystick.cli.holds:holds", "List, show and release holds."),
    "verify": ("tallystick.cli.verify:verify", "Replay the log and compare everything kept with it."),
    "backup": ("tallystick.cli.backup:backup", "Copy the whole ledger into a file, while it is served."),
    "restore": ("tallystick.cli.backup:restore", "Make a data folder of a backup, and verify it."),
    "copy": ("tallystick.cli.copy:copy", "Copy a whole ledger to another folder or database, and prove it."),
    "migrate": ("tallystick.cli.migrate:migrate", "Make or renew the tables of a ledger in PostgreSQL."),
    "doctor": ("tallystick.cli.doctor:doctor", "Look for what is wrong with installation, folder or server."),
    "config": ("tallystick.cli.config:config", "Show and check the settings."),
    "version": ("tallystick.cli.version:version", "Say which versions are installed."),
    "completion": ("tallystick.cli.version:completion", "Print what makes a shell complete commands."),
}
"""Name of a command: where it is, and the sentence that help shows for it."""


class Commands(click.Group):
    """A group that knows its commands' names and sentences without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tallystick.__version__, message="%(prog)s %(version)s")
def root() -> None:
    """Exact usage metering, quotas and usage reports for AI and media APIs.

    Data goes to stdout, everything else to stderr. Ends with 0 when all is well, 1 when the data has failures, 2 when
    the command was used wrongly.
    """
