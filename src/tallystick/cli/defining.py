"""The meters and rates of the settings file, brought into force when the process starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tallystick import settings
from tallystick.app import App
from tallystick.catalog import builtin
from tallystick.cli.options import Failure
from tallystick.definitions import meters, rates
from tallystick.definitions.reading import NAME, NAME_RULE
from tallystick.errors import Code, Flaw, Problem
from tallystick.model import Catalog, Meter, RateTable
from tallystick.windows import INSTANT_MIN

ACTOR = "config"
BEGINNING = "beginning"

T = TypeVar("T")


async def apply(app: App, config: Path | None) -> None:
    """Define what the file defines and is not in force like that already; all of it is checked before.

    Nothing is defined where the ledger is only read. Raises Failure, naming the file and the member, for what cannot be
    defined.
    """
    tables, defined = _read(config, set(app.catalog.rates))
    if app.ledger.vitals().replica is not None:
        return
    for name, table in tables.items():
        await _put_rates(app, config, name, table)
    for name, (meter, start) in defined.items():
        await _put_meter(app, config, name, meter, start)


def check(config: Path | None) -> None:
    """Raise Failure for what no ledger could define."""
    _read(config, set(builtin().rates))


def _read(
    config: Path | None, tables_known: set[str]
) -> tuple[dict[str, RateTable], dict[str, tuple[Meter, int | None]]]:
    try:
        found = settings.read_definitions(config)
    except settings.SettingError as error:
        raise Failure(str(error)) from None
    tables = {name: _checked(config, "rates", name, partial(_table, lines)) for name, lines in found["rates"].items()}
    known = tables_known | set(tables)
    defined = {
        name: _checked(config, "meters", name, partial(_meter, name, document, known))
        for name, document in found["meters"].items()
    }
    return tables, defined


def _table(lines: Any) -> RateTable:
    try:
        return rates.read({"rates": lines})
    except Problem as problem:
        flaws = tuple(Flaw(flaw.pointer.removeprefix("/rates"), flaw.detail) for flaw in problem.flaws)
        raise Problem(problem.code, problem.detail, flaws) from None


def _meter(name: str, document: Any, tables: set[str]) -> tuple[Meter, int | None]:
    """Read one meter, and from when on it is to count what was kept before."""
    if name in builtin().meters:
        raise Problem(Code.IN_USE, "This meter is built in and stays as it is: define another one under its own name.")
    said = document.get("from") if isinstance(document, Mapping) else None
    start = INSTANT_MIN if said == BEGINNING else rates.instant_of(said)
    if said is not None and start is None:
        flaw = Flaw("/from", f'{rates.FROM_RULE}, or "{BEGINNING}".')
        raise Problem(Code.TIME_FORMAT, flaw.detail, (flaw,))
    members = {key: value for key, value in document.items() if key != "from"} if said is not None else document
    return meters.read(members, name=name, tables=tables), start


def _checked(config: Path | None, kind: str, name: str, read: Callable[[], T]) -> T:
    if not NAME.fullmatch(name):
        raise Failure(f"{config}: {kind}.{name}: a name must be {NAME_RULE}.")
    try:
        return read()
    except Problem as problem:
        raise _failure(config, f"{kind}.{name}", problem) from None


async def _put_rates(app: App, config: Path | None, name: str, table: RateTable) -> None:
    coming = [replay.rates for replay in app.catalog.replays.values()]
    if (name, table) in coming:
        return
    try:
        await app.ledger.put_rates(name, table, actor=ACTOR)
    except Problem as problem:
        raise _failure(config, f"rates.{name}", problem) from None


async def _put_meter(app: App, config: Path | None, name: str, meter: Meter, start: int | None) -> None:
    """Define a meter unless it is in force, or on its way, as it is written: what was counted is not counted again."""
    if meter in _plain(app.catalog, name):
        return
    try:
        await app.ledger.put_meter(meter, actor=ACTOR, start=start)
    except Problem as problem:
        raise _failure(config, f"meters.{name}", problem) from None


def _plain(catalog: Catalog, name: str) -> list[Meter]:
    """Return the definitions of a name, in force and coming, without what the ledger gave them."""
    coming = [meter for replay in catalog.replays.values() for meter in replay.meters]
    all_there_are = [*catalog.meters.values(), *coming]
    return [replace(meter, version=0, epoch=0) for meter in all_there_are if meter.name == name]


def _failure(config: Path | None, where: str, problem: Problem) -> Failure:
    flaws = problem.flaws or (Flaw("", problem.detail),)
    lines = [f"{config}: {where}{flaw.pointer.replace('/', '.')}: {flaw.detail}" for flaw in flaws]
    return Failure("\n".join(lines))
