"""Rows and documents on stdout, in the form that was asked for; refusals as errors."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from tallystick.cli.options import Failure
from tallystick.cli.source import Answer

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]

QUANTITIES = ("count", "quantity")
WIDE = 1000
"""Columns of a table that nobody's terminal limits: cutting a value short would be worse than a long line."""


def document(answer: Answer) -> Any:
    """Return what a successful answer holds; end the command with the reason otherwise."""
    succeeded(answer)
    return json.loads(answer.body) if answer.body else None


def succeeded(answer: Answer) -> None:
    """End the command with the reason unless an answer is a success."""
    if answer.status >= 400:
        raise refused(answer)


def refused(answer: Answer) -> click.ClickException:
    """Make the error of an answer that is none; damaged data is told from wrong use by its exit code."""
    try:
        problem: dict[str, Any] = json.loads(answer.body)
    except ValueError:
        problem = {}
    text = _reason(problem) or f"the answer has status {answer.status}"
    flaws = [f"{flaw['pointer']}: {flaw['detail']}" for flaw in problem.get("errors", ()) if flaw.get("detail") != text]
    text = "\n".join([text, *flaws])
    return click.ClickException(text) if problem.get("code") == "unproven" else Failure(text)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file beside its name, and give it the name once all of it is on disk; one that is there stays."""
    if path.exists():
        raise Failure(f"{path} exists; name another file.")
    beside = path.with_name(f"{path.name}.partial")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        beside.unlink(missing_ok=True)


def write_document(answer: Answer) -> None:
    """Write a reply as it is; end the command with the reason where it is none."""
    succeeded(answer)
    sys.stdout.buffer.write(answer.body.rstrip(b"\n") + b"\n")
    sys.stdout.buffer.flush()


def write_values(form: str, answer: Answer) -> None:
    """Write a document of any shape as rows: each single value, exactly as it is written, with its JSON pointer."""
    succeeded(answer)
    found = json.loads(answer.body, parse_float=str, parse_int=str)
    write_rows(form, ("pointer", "value"), [{"pointer": at, "value": value} for at, value in _values(found, "")])


def _values(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    from tallystick.envelope import pointer_to

    if not value or not isinstance(value, dict | list):
        yield pointer, value
        return
    for name, member in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _values(member, pointer + pointer_to(name))


def _reason(problem: dict[str, Any]) -> str:
    """Return what a problem says in words, in whichever dialect's shape."""
    error = problem.get("error")
    if isinstance(error, dict):
        return " ".join(each["message"] for each in error["errors"])
    return str(problem.get("detail") or problem.get("message") or error or "")


def write_value(value: Any) -> None:
    """Write a value as one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False))


def write_rows(form: str, columns: Sequence[str], rows: Iterable[Row], total: Row | None = None) -> None:
    """Write rows as CSV, as JSON, as lines of it or as a table, which alone shows the total."""
    if form == "json":
        write_value(list(rows))
    elif form == "csv":
        _write_csv(columns, rows)
    elif form == "ndjson":
        for row in rows:
            write_value(row)
    else:
        _write_table(columns, rows, total)


def write_one(form: str, answer: Answer, columns: Sequence[str] = ()) -> None:
    """Write the document of an answer: as it is, or as the one row of a table; say so where there is none."""
    found = None if answer.status == 204 else document(answer)
    if found is None:
        return
    if form == "json":
        write_document(answer)
    else:
        write_rows(form, columns or list(found), [found])


def _write_csv(columns: Sequence[str], rows: Iterable[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(row.get(column)) for column in columns] for row in rows)


def _write_table(columns: Sequence[str], rows: Iterable[Row], total: Row | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    table = Table(box=box.SIMPLE_HEAD, show_footer=total is not None)
    for column in columns:
        footer = "" if total is None else _cell(total.get(column))
        right = column in QUANTITIES or (bool(rows) and all(type(row.get(column)) is int for row in rows))
        table.add_column(column, Text(footer), justify="right" if right else "left", overflow="fold")
    for row in rows:
        # Text, because a label may look like markup.
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def _cell(value: Any) -> str:
    return "" if value is None else str(_plain(value))


def _plain(value: Any) -> Any:
    """Write what is no single value as JSON, and true and false as JSON has them."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | dict | list) else value
