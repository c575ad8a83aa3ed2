"""`tallystick doctor`: what a person would look at first when something is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from tallystick.cli import options, output, source
from tallystick.cli.source import Place

OK, WARNING, FAILURE = "ok", "warning", "failure"
TIME_APART_S = 60
MIB = 1 << 20


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    status: str
    detail: str


@click.command()
@options.format_flag(*options.FORMATS)
@options.source_flags
def doctor(form: str, **flags: Any) -> None:
    """Look at the installation, the settings, and the data folder or the server; ends with 1 if something is wrong.

    Nothing is changed. Whether the numbers are right is what verify says.
    """
    place = source.place_of(flags)
    found = [finding._asdict() for finding in _findings(place)]
    output.write_rows(form, Finding._fields, found)
    sys.exit(1 if any(row["status"] == FAILURE for row in found) else 0)


def _findings(place: Place) -> Iterator[Finding]:
    yield _sqlite()
    yield from _server(place) if place.server is not None else _folder(place)


def _sqlite() -> Finding:
    from tallystick.errors import LedgerError
    from tallystick.ledger.sqlite import file

    have = file.sqlite_version()
    try:
        file.check_sqlite(have)
    except LedgerError as error:
        return Finding("sqlite", FAILURE, str(error))
    return Finding("sqlite", OK, f"version {'.'.join(map(str, have))}")


def _folder(place: Place) -> Iterator[Finding]:
    from tallystick.ledger.sqlite import file

    folder, settings = place.settings.data, place.settings
    if not (folder / file.FILE_NAME).is_file():
        yield Finding("data folder", WARNING, f"There is no ledger in {folder} yet; serve and import make one.")
        return
    if not os.access(folder, os.W_OK | os.X_OK) or not os.access(folder / file.FILE_NAME, os.R_OK | os.W_OK):
        yield Finding("data folder", FAILURE, f"{folder} may not be written to by this user.")
        return
    yield Finding("data folder", OK, str(folder))
    stats = os.statvfs(folder)
    free, need = stats.f_bavail * stats.f_frsize, settings.disk_free_bytes_min
    size = (folder / file.FILE_NAME).stat().st_size
    if free < need:
        yield Finding("disk", FAILURE, f"{free // MIB} MiB free: events are refused below {need // MIB} MiB.")
    else:
        status = WARNING if free < need + size else OK
        yield Finding("disk", status, f"{free // MIB} MiB free; the ledger has {size // MIB} MiB, and so has a backup.")
    yield from _opened(place)


def _opened(place: Place) -> Iterator[Finding]:
    try:
        answer = place.ask("GET", "/v1/events", [("limit", "1")])
    except click.ClickException as error:
        status = WARNING if "in use by" in error.message else FAILURE
        yield Finding("ledger", status, error.message)
        return
    if answer.status != 200:
        yield Finding("ledger", FAILURE, output.refused(answer).message)
        return
    newest = output.document(answer)["events"]
    last = f"the last event was recorded at {newest[0]['recorded_at']}" if newest else "it has no events"
    yield Finding("ledger", OK, f"opens; {last}")


def _server(place: Place) -> Iterator[Finding]:
    try:
        answer = place.ask("GET", "/readyz")
    except click.ClickException as error:
        yield Finding("server", FAILURE, error.message)
        return
    if answer.status != 200:
        yield Finding("server", FAILURE, f"/readyz says {answer.status}: it is starting, ending, or cannot write.")
    else:
        yield Finding("server", OK, f"{place.server} takes requests")
    yield from _clock(answer.headers.get("date"))
    events = place.ask("GET", "/v1/events", [("limit", "1")])
    if events.status == 401:
        yield Finding("key", FAILURE, output.refused(events).message)
    elif events.status == 403:
        yield Finding("key", WARNING, "The key is good, and has not the scope report.")
    elif events.status >= 400:
        yield Finding("ledger", FAILURE, output.refused(events).message)
    else:
        yield Finding("key", OK, "reads events")


def _clock(said: str | None) -> Iterator[Finding]:
    from email.utils import parsedate_to_datetime

    from tallystick.clock import system_clock

    if said is None:
        return
    apart = abs(parsedate_to_datetime(said).timestamp() - system_clock() / 1_000_000)
    status = WARNING if apart > TIME_APART_S else OK
    yield Finding("clock", status, f"the server's and this one's are {apart:.0f} s apart")
