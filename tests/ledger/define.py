"""Meters, rates, resources and events about them, for tests, in few words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tallystick.ledger.base import Ledger
from tallystick.model import LiveQuery, LiveSpace, Meter, Rate, RateTable, ResourceQuery

WORK = "work.done"


def meter(name: str = "work", **definition: Any) -> Meter:
    """Define a meter of `work.done` that adds up `n`; `labels` and `where` are written as mappings."""
    labels: Mapping[str, str] = definition.pop("labels", {"kind": "$.data.kind"})
    where: Mapping[str, set[str]] = definition.pop("where", {})
    return Meter(
        name=name,
        version=0,
        events=frozenset(definition.pop("events", {WORK})),
        quantity=definition.pop("quantity", "$.data.n"),
        unit=definition.pop("unit", "1"),
        scale=definition.pop("scale", 0),
        labels=tuple(labels.items()),
        where=tuple((label, frozenset(values)) for label, values in where.items()),
        **definition,
    )


def rates(**multipliers: int | Mapping[int, int]) -> RateTable:
    """Write down rates in millionths: of each type one from 1970 on, or several by their start."""
    return {
        type: tuple(Rate(start, rate) for start, rate in sorted(({0: of} if isinstance(of, int) else of).items()))
        for type, of in multipliers.items()
    }


def work(id: str, n: Any = 1, *, account: str = "acme", at: str | None = None, **data: Any) -> dict[str, Any]:
    """Write down a piece of work that no built-in meter knows."""
    return event_of(WORK, id, account, at, {"n": n, **data})


def event_of(type: str, id: str, account: str, at: str | None, data: Mapping[str, Any]) -> dict[str, Any]:
    """Write down an event of any type."""
    stamp = {} if at is None else {"time": at}
    return {"specversion": "1.0", "id": id, "source": "test", "type": type, "account": account, **stamp, "data": data}


def upsert(
    id: str,
    kind: str,
    resource: str | None = "r",
    *,
    space: str | None = "lab",
    at: int | str | None = None,
    account: str = "acme",
    **data: Any,
) -> dict[str, Any]:
    """Write down that a resource is as `data` says; `at` is a time, or seconds after midnight of 2024-05-01."""
    return _about("resource.upserted", id, kind, resource, space, at, account, data)


def delete(
    id: str,
    kind: str,
    resource: str | None = "r",
    *,
    space: str | None = "lab",
    at: int | str | None = None,
    account: str = "acme",
) -> dict[str, Any]:
    """Write down that a resource ended."""
    return _about("resource.deleted", id, kind, resource, space, at, account, {})


def _about(
    type: str,
    id: str,
    kind: str,
    resource: str | None,
    space: str | None,
    at: int | str | None,
    account: str,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    time = second(at) if isinstance(at, int) else at
    named = {"kind": kind, **({} if resource is None else {"id": resource})}
    made = event_of(type, id, account, time, {**named, **data})
    return made if space is None else {**made, "space": space}


def second(number: int) -> str:
    """Return an instant of 2024-05-01, that many seconds after midnight."""
    return f"2024-05-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"


async def put(ledger: Ledger, defined: Meter, start: int | None = None) -> Meter:
    """Define a meter and wait until it is in force; return it as the catalog has it."""
    await ledger.put_meter(defined, actor="test", start=start)
    await settled(ledger)
    return ledger.catalog.meters[defined.name]


async def put_rates(ledger: Ledger, table: str, defined: RateTable, *, recount: bool = False) -> None:
    """Define rates and wait until they are in force."""
    await ledger.put_rates(table, defined, actor="test", recount=recount)
    await settled(ledger)


async def settled(ledger: Ledger) -> None:
    """Wait until everything that is being counted again is."""
    while ledger.catalog.replays:
        await asyncio.sleep(0)


async def space_of(ledger: Ledger, space: str = "lab", account: str = "acme") -> LiveSpace | None:
    """Ask what there is of one space."""
    found = await ledger.live(LiveQuery(account, space))
    assert len(found) <= 1
    return found[0] if found else None


async def live(ledger: Ledger, space: str = "lab") -> dict[str, tuple[int, int]]:
    """Ask what is in a space now, by counter."""
    found = await space_of(ledger, space)
    return {} if found is None else dict(found.live)


async def closed(ledger: Ledger, space: str = "lab") -> dict[str, tuple[int, int]]:
    """Ask what was in a space when it was deleted."""
    found = await space_of(ledger, space)
    return {} if found is None else dict(found.closed)


async def resources(ledger: Ledger, account: str = "acme", **options: Any) -> list[tuple[str, str, str]]:
    """Ask which resources there are, as (space, kind, id)."""
    found = await ledger.resources(ResourceQuery(account, **options))
    return [(each.space, each.kind, each.id) for each in found]
