"""Entries of the log about what is counted: meters, rates, replays of kept events, and the postings these gave."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from tallystick.ledger.packed.segment import NewSeries
from tallystick.model import Catalog, Meter, RateTable, Replay
from tallystick.rollup import Ints


class MeterPut(msgspec.Struct, frozen=True, tag="meter_put", array_like=True):
    """A meter was defined, or its definition replaced; `version` is that of the catalog from here on."""

    version: int
    meter: Meter
    before: Meter | None = None


class MeterDeleted(msgspec.Struct, frozen=True, tag="meter_deleted", array_like=True):
    """A meter counts no more."""

    version: int
    name: str
    before: Meter | None = None


class RatesPut(msgspec.Struct, frozen=True, tag="rates_put", array_like=True):
    """A rate table was defined or replaced."""

    version: int
    table: str
    rates: RateTable
    before: RateTable | None = None


class ReplayBegun(msgspec.Struct, frozen=True, tag="replay_begun", array_like=True):
    """Kept events are being counted by meters that will be in force when all of them are."""

    version: int
    name: str
    replay: Replay


class ReplayDone(msgspec.Struct, frozen=True, tag="replay_done", array_like=True):
    """Every event up to here is counted: what was replayed is in force."""

    version: int
    name: str
    replay: Replay
    before: Replay | None = None


Definition = MeterPut | MeterDeleted | RatesPut | ReplayBegun | ReplayDone


class CorrectionHeader(msgspec.Struct, frozen=True, array_like=True):
    """What the chain covers of postings that a replay gave: of the events `first` to `through`, as the log has them.

    `sequences` are those of the events in the entry's columns: differences to the one before, as int64.
    """

    entry: int
    recorded: int
    replay: str
    epoch: int
    first: int
    through: int
    sequences: bytes
    time_min: int
    time_max: int
    accounts: tuple[int, ...]
    columns: bytes
    series: tuple[NewSeries, ...]

    def events(self) -> Ints:
        """Return the sequences of the events in the columns."""
        return np.cumsum(np.frombuffer(self.sequences, "<i8").astype(np.int64))


def defined(catalog: Catalog, change: Definition) -> Catalog:
    """Return the catalog after a change of what is counted."""
    meters, rates, replays = dict(catalog.meters), dict(catalog.rates), dict(catalog.replays)
    match change:
        case MeterPut():
            meters[change.meter.name] = change.meter
        case MeterDeleted():
            meters.pop(change.name, None)
        case RatesPut():
            rates[change.table] = change.rates
        case ReplayBegun():
            replays[change.name] = change.replay
        case ReplayDone():
            replays.pop(change.name)
            meters.update((meter.name, meter) for meter in change.replay.meters)
            rates.update([change.replay.rates] if change.replay.rates else [])
    return replace(catalog, version=change.version, meters=meters, rates=rates, replays=replays)
