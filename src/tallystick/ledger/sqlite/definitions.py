"""Changes of what is counted, decided inside the transaction: meters, rate tables, and the replays they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import apsw
import numpy as np

from tallystick.catalog import builtin
from tallystick.errors import Problem
from tallystick.ledger import verdicts
from tallystick.ledger.packed.entries import Change
from tallystick.ledger.packed.meter_entries import MeterDeleted, MeterPut, RatesPut, ReplayBegun
from tallystick.ledger.sqlite.changes import Decide
from tallystick.ledger.sqlite.file import rows
from tallystick.limits import hindering, limits_on
from tallystick.model import Catalog, Meter, Rate, RateTable, Replay, UsageQuery
from tallystick.windows import INSTANT_MAX, INSTANT_MIN

BEFORE_BUILTINS_WERE_LOGGED = ("audio", "tokens_in", "tokens_out")
"""The meters of a log that begins without any."""
OWN_ACTOR = "tallystick"
"""Who brings in what is there from the start: nobody changed anything."""
FIXED = ("unit", "scale", "aggregation")
"""What a meter keeps for as long as its usage goes on."""


def base(db: apsw.Connection) -> Catalog:
    """Return the catalog that a log begins with."""
    if next(rows(db, "SELECT 1 FROM meta WHERE name = 'meters_before_log'"), None) is None:
        return Catalog(0, {})
    return Catalog(1, {name: builtin().meters[name] for name in BEFORE_BUILTINS_WERE_LOGGED})


def missing(catalog: Catalog) -> list[Change]:
    """Return what a log lacks of the meters and rates that are there from the start."""
    version, own = catalog.version + 1, builtin()
    meters = [replace(each, version=version, epoch=version) for each in own.meters.values()]
    changes: list[Change] = [MeterPut(version, each) for each in meters if each.name not in catalog.meters]
    tables = [RatesPut(version, name, rates) for name, rates in own.rates.items() if name not in catalog.rates]
    return [*changes, *tables]


def put_meter(meter: Meter, start: int | None) -> Decide[Problem | None]:
    """Define a meter from here on, or begin to count kept events for it."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], Problem | None]:
        before, version = catalog.meters.get(meter.name), catalog.version + 1
        if any(meter.name == each.name for replay in catalog.replays.values() for each in replay.meters):
            return [], verdicts.replaying(f"Meter {meter.name!r}")
        if hindered := hindering(meter, catalog):
            return [], verdicts.meter_limited(meter.name, hindered)
        if start is not None:
            anew = replace(meter, version=version, epoch=version)
            return [ReplayBegun(version, meter.name, Replay((anew,), start))], None
        if before is not None and replace(meter, version=before.version, epoch=before.epoch) == before:
            return [], None
        if before is not None and any(getattr(before, name) != getattr(meter, name) for name in FIXED):
            return [], verdicts.meter_in_use(meter.name)
        epoch = version if before is None else before.epoch
        return [MeterPut(version, replace(meter, version=version, epoch=epoch), before)], None

    return decide


def delete_meter(name: str) -> Decide[bool | Problem]:
    """Take the meter out, unless there are limits on it."""

    def decide(catalog: Catalog) -> tuple[Sequence[Change], bool | Problem]:
        before = catalog.meters.get(name)
        if on_it := [limit.id for limit in limits_on(name, catalog)]:
            return [], verdicts.meter_limited(name, on_it)
        return ([] if before is None else [MeterDeleted(catalog.version + 1, name, before)]), before is not None

    return decide


@dataclass(slots=True)
class RatesChange:
    """A rate table to be defined or replaced, with the types of which events were counted at other rates."""

    table: str
    rates: RateTable
    recount: bool
    types: Sequence[str] = ()

    def look(self, has_counted: Callable[[UsageQuery], bool], catalog: Catalog) -> None:
        """Find the types, inside the transaction; `has_counted` says whether there is anything in an answer."""
        before = catalog.rates.get(self.table, {})
        rated = self._rated(catalog)
        self.types = sorted({type for meter in rated for type in self._counted(has_counted, meter, before)})

    def _rated(self, catalog: Catalog) -> list[Meter]:
        return [each for each in catalog.meters.values() if each.rate and each.rate.table == self.table]

    def decide(self, catalog: Catalog) -> tuple[Sequence[Change], Problem | None]:
        """Say what is to be logged, or why not: events that were counted keep their rates unless they are recounted."""
        before, version = catalog.rates.get(self.table), catalog.version + 1
        if before == self.rates:
            return [], None
        name = f"rates/{self.table}"
        if name in catalog.replays:
            return [], verdicts.replaying(f"Rate table {self.table!r}")
        if not self.types:
            return [RatesPut(version, self.table, self.rates, before)], None
        if not self.recount:
            return [], verdicts.rates_in_use(self.table, self.types)
        anew = tuple(replace(meter, version=version, epoch=version) for meter in self._rated(catalog))
        replay = Replay(anew, INSTANT_MIN, (self.table, self.rates))
        return [ReplayBegun(version, name, replay)], None

    def _counted(self, has_counted: Callable[[UsageQuery], bool], meter: Meter, before: RateTable) -> Iterator[str]:
        """Yield the types of which a meter counted events at times when another rate would be in force."""
        assert meter.rate is not None
        for type in sorted({*before, *self.rates}):
            for start, end in changed_times(before.get(type, ()), self.rates.get(type, ())):
                where = {meter.rate.label: frozenset({type})}
                query = UsageQuery(meter.name, None, np.array([start, end], np.int64), where=where)
                if has_counted(query):
                    yield type
                    break


def changed_times(before: Sequence[Rate], after: Sequence[Rate]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of time in which two rates of one type differ; where there is none differs from any."""
    starts = sorted({INSTANT_MIN, INSTANT_MAX, *(rate.start for rate in (*before, *after))})
    for start, end in pairwise(at for at in starts if INSTANT_MIN <= at <= INSTANT_MAX):
        if _at(before, start) != _at(after, start):
            yield start, end


def _at(rates: Sequence[Rate], time: int) -> int | None:
    return max(((rate.start, rate.multiplier) for rate in rates if rate.start <= time), default=(0, None))[1]
