"""Pages of the reference that are made from the code: `python -m tests.generated` writes them, a test compares them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tallystick.api import openapi
from tallystick.api.errors import STATUS
from tallystick.asgi import ROUTES
from tallystick.cli.root import COMMANDS, root
from tallystick.errors import Code
from tallystick.settings import CHOICES, PREFIX, SPECS
from tallystick.telemetry import METRICS

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
WIDTH = 100


def table(*rows: tuple[str, ...]) -> str:
    """Write rows as a table; the first names its columns."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def cli() -> str:
    """The command line: what every command says of itself."""
    intro = """# The command line

Data goes to stdout, everything else to stderr. Commands end with 0 when all is well, 1 when the data has failures (a
refused line, a fault that `verify` finds), 2 when they were used wrongly. `--format` is `table` for people and `json`,
`csv` or `ndjson` for programs; `NO_COLOR` is respected. A command works on the data folder (`--data`) while no server
holds it, and through `--server URL --key KEY` otherwise, and says on stderr which.
"""
    return "\n".join([intro, *_helps(root, "tallystick", None)])


def _helps(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    more: dict[str, Any] = {"terminal_width": WIDTH, "max_content_width": WIDTH, **command.context_settings}
    context = command.context_class(command, parent, name, **more)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for part in COMMANDS if command is root else sorted(command.list_commands(context)):
            found = command.get_command(context, part)
            assert found is not None
            yield from _helps(found, part, context)


def settings() -> str:
    """The settings, from their declaration."""
    rows = []
    for name, spec in SPECS.items():
        bounds = spec.metadata
        may_be = ", ".join(CHOICES.get(name, ())) or {"int": f"from {bounds['min']}", "bool": "true, false"}.get(
            str(spec.type), "text"
        )
        may_be += f" to {bounds['max']}" if bounds["max"] is not None else ""
        shown = "" if spec.default is None else str(spec.default).lower() if spec.type == "bool" else str(spec.default)
        flag = "" if bounds["secret"] else "--" + name.replace("_", "-")
        rows.append((code(name), code(flag), code(shown), may_be, bounds["help"]))
    return f"""# Settings

A setting is taken from the first of: its flag, `{PREFIX}<NAME>` in the environment, `{PREFIX}<NAME>_FILE` (a file that
holds the value, as secrets are mounted), `tallystick.toml` in the working folder or the file that `--config` names, its
default. `tallystick config show --origin` says what a run would use and why, `tallystick config check` whether it
could. The file may also define [meters and rates](meters.md).

{table(("setting", "flag", "default", "may be", "what it is"), *rows)}
"""


def metrics() -> str:
    """What /metrics has."""
    rows = [
        (code(metric.name + "_total" * (metric.kind == "counter")), metric.kind, " ".join(metric.labels), metric.help)
        for metric in METRICS
    ]
    return f"""# Metrics

`GET /metrics` speaks Prometheus' text format and OpenMetrics. Who may read it is the setting `metrics`.

{table(("metric", "kind", "labels", "what it is"), *rows)}
"""


def codes() -> str:
    """Every code and its status."""
    codes = list(Code)
    cut = codes.index(Code.OVER_LIMIT) + 1

    def rows(some: list[Code]) -> str:
        return table(
            ("code", "status"), *((code(found), f"{STATUS[found].value} {STATUS[found].phrase}") for found in some)
        )

    return f"""# Codes

A code is the part of a refusal that programs read; the sentence beside it says what to do.

## Of one event

In [receipts](ingest.md); the status is that of a request with this event alone.

{rows(codes[:cut])}

## Of a request

In problems (RFC 9457, `application/problem+json`).

{rows(codes[cut:])}
"""


def http() -> str:
    """Every route."""
    paths = openapi.document(ROUTES)["paths"]
    rows = []
    for route in ROUTES:
        summary = paths[route.path.replace("...}", "}")][route.method.lower()]["summary"]
        rows.append((route.method, code(route.path), code(route.scope or ("any" if route.is_keyed else "")), summary))
    return f"""# HTTP

Every path that answers, with the scope that its key needs; without one it needs no key. Parameters, bodies and replies
are in `/openapi.json`, and `/llms.txt` is a short guide. What has a page: [sending events](ingest.md),
[reading](reading.md), [accounts and keys](accounts-and-keys.md), [meters and rates](meters.md), [limits](limits.md).

{table(("method", "path", "scope", "what it does"), *rows)}
"""


PAGES = {f"{page.__name__}.md": page for page in (cli, settings, metrics, codes, http)}


def main(folder: Path = FOLDER) -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
