"""Meters over HTTP: defined, shown and deleted."""

from __future__ import annotations

from typing import Any

from tallystick.api import auth, documents, pages, replays
from tallystick.api.definition_description import METER, METER_EXAMPLE, NAME, MeterShown, MetersShown
from tallystick.api.description import Parameter, describe
from tallystick.api.http import Call
from tallystick.catalog import builtin
from tallystick.definitions import meters, rates, reading
from tallystick.errors import Code, Problem
from tallystick.model import Meter
from tallystick.query import Reply
from tallystick.windows import INSTANT_MIN

BEGINNING = "beginning"
IN_PATH = (Parameter("name", "The meter's name.", NAME),)


@describe(query=pages.PARAMETERS, replies={200: MetersShown})
async def index(call: Call) -> Reply:
    """List the meters by name, page by page, those that are being counted among them."""
    limit, after = pages.asked(call, str)
    coming = {meter.name for replay in call.app.catalog.replays.values() for meter in replay.meters}
    names = sorted(name for name in {*call.app.catalog.meters, *coming} if after is None or name > after)
    page, following = pages.cut(names, limit)
    return pages.reply(call, "meters", [_shown(call, name) for name in page], following)


@describe(path=IN_PATH, replies={200: MeterShown}, codes=(Code.NOT_FOUND,))
async def get(call: Call) -> Reply:
    """Show one meter."""
    return documents.reply(_shown(call, call.path["name"]))


@describe(
    path=IN_PATH,
    body=METER,
    example=METER_EXAMPLE,
    replies={200: MeterShown, 201: MeterShown, 202: MeterShown},
    codes=(Code.IN_USE, Code.LABEL_RESERVED, Code.TEXT_INVALID),
)
async def put(call: Call) -> Reply:
    """Define a meter or replace its definition; with `from` it counts what was kept before."""
    auth.require_operator(call.caller)
    name, before = call.path["name"], call.app.catalog.meters.get(call.path["name"])
    _refuse_name(name)
    document = await documents.read_object(call)
    start = _start(document.pop("from", None))
    for shown in ("version", "replay"):
        document.pop(shown, None)
    meter = meters.read(document, name=name, tables=call.app.catalog.rates)
    await call.app.ledger.put_meter(meter, actor=call.caller.key_id, start=start)
    if await replays.wait(call, replays.of_meter(name)) is not None:
        return documents.reply(_shown(call, name), 202)
    return documents.reply(_shown(call, name), 201 if before is None else 200)


@describe(path=IN_PATH, replies={204: None}, codes=(Code.NOT_FOUND, Code.IN_USE))
async def delete(call: Call) -> Reply:
    """Take a meter out: it counts no more."""
    auth.require_operator(call.caller)
    name = call.path["name"]
    _refuse_builtin(name)
    if not await call.app.ledger.delete_meter(name, actor=call.caller.key_id):
        raise _not_found()
    return Reply(204, b"", "")


def _refuse_name(name: str) -> None:
    if not reading.NAME.fullmatch(name):
        raise documents.refuse(Code.FIELD_VALUE, "/name", f"A meter's name must be {reading.NAME_RULE}.")
    _refuse_builtin(name)


def _refuse_builtin(name: str) -> None:
    if name in builtin().meters:
        detail = f"The meter {name} is built in and stays as it is. Define another one under its own name."
        raise Problem(Code.IN_USE, detail)


def _start(value: Any) -> int | None:
    """Return from when on kept events are to be counted; None = none of them."""
    if value is None:
        return None
    start = INSTANT_MIN if value == BEGINNING else rates.instant_of(value)
    if start is None:
        raise documents.refuse(Code.TIME_FORMAT, "/from", f'{rates.FROM_RULE}, or "{BEGINNING}".')
    return start


def _shown(call: Call, name: str) -> dict[str, Any]:
    """Return a meter's definition as it is in force, or will be, and how far it is counted anew."""
    meter: Meter | None = call.app.catalog.meters.get(name) or replays.meter_in(call, name)
    if meter is None:
        raise _not_found()
    replay = replays.progress(call, replays.of_meter(name))
    shown = {**meters.written(meter), "version": meter.version}
    return shown if replay is None else {**shown, "replay": replay}


def _not_found() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such meter.")
