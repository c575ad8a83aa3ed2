"""Which series a report reads, and the group of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tallystick.ledger.packed.series import Selection, SeriesIndex
from tallystick.model import VALUE, Account, Catalog, Meter, UsageQuery

SELECTIONS_MAX = 32
"""Groupings remembered per account and meter."""


def counts(meter: Meter, version: int) -> bool:
    """Say whether what was posted under a version is usage of the meter in force; a replay's is not before its end."""
    return meter.epoch <= version <= meter.version


def select(query: UsageQuery, catalog: Catalog, index: SeriesIndex) -> Selection:
    """Find the series of a query and group them by its labels."""
    accounts, meter = catalog.accounts, catalog.meters.get(query.meter)
    if meter is None or not _known(meter).issuperset((*query.group_by, *query.where)):
        return Selection(np.empty(0, np.int64), np.empty(0, np.int64), (), np.empty(0, np.int64))
    names = list(accounts if query.accounts is None else (a for a in dict.fromkeys(query.accounts) if a in accounts))
    strand = index.strands.get((accounts[names[0]].number, query.meter)) if len(names) == 1 else None
    if strand is None:
        return _group(query, meter, names, accounts, index)
    # What reports and limits ask again and again; it holds until the account meets a new label set.
    size, where = len(strand.numbers), frozenset(query.where.items())
    key = (meter.epoch, meter.version), query.group_by, query.blank, where
    found = strand.selections.get(key)
    if found is None or found[0] != size:
        found = (size, _group(query, meter, names, accounts, index))
        if len(strand.selections) >= SELECTIONS_MAX:
            strand.selections.clear()
        strand.selections[key] = found
    return found[1]


def _known(meter: Meter) -> set[str]:
    values = {VALUE} if meter.aggregation == "unique" else set[str]()
    return {"account", *values, *(name for name, _ in meter.labels)}


def _group(
    query: UsageQuery, meter: Meter, names: Sequence[str], accounts: Mapping[str, Account], index: SeriesIndex
) -> Selection:
    numbers: list[int] = []
    groups: list[tuple[str | None, ...]] = []
    read: list[int] = []
    told = [(label, "" if label in query.blank else None) for label in query.group_by]
    for name in names:
        strand = index.strands.get((accounts[name].number, query.meter))
        if strand is None:
            continue
        read.append(accounts[name].number)
        for number, labels, version in zip(strand.numbers, strand.labels, strand.versions, strict=False):
            if not counts(meter, version):
                continue
            # Said in the quickest way: an account may have ten thousand label sets.
            values = dict(labels)
            for label, wanted in query.where.items():
                if values.get(label, "") not in wanted:
                    break
            else:
                numbers.append(number)
                groups.append(
                    tuple([name if label == "account" else values.get(label, absent) for label, absent in told])
                )
    ordered = sorted(set(groups), key=lambda group: [(value is not None, value or "") for value in group])
    rank = {group: at for at, group in enumerate(ordered)}
    series = np.array(numbers, np.int64)
    order = np.argsort(series, kind="stable")
    return Selection(
        series[order], np.array([rank[g] for g in groups], np.int64)[order], ordered, np.array(sorted(read), np.int64)
    )
