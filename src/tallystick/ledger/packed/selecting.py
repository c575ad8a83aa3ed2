"""Which series a report reads, and the group of each."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from tallystick.ledger.packed.series import Selection, SeriesIndex, Sought, Strand
from tallystick.model import VALUE, Catalog, Meter, UsageQuery

Group = tuple[str | None, ...]

SELECTIONS_MAX = 32
"""Groupings remembered per account and meter."""
WIDE_SELECTIONS_MAX = 8
"""Groupings of several accounts at once that are remembered in all."""
WIDE_SERIES_MAX = 50_000
"""Of up to so many series: a grouping of more would take more memory than it spares time."""


class Owned(NamedTuple):
    """The series of an account, under its name and its number."""

    name: str
    number: int
    strand: Strand


def counts(meter: Meter, version: int) -> bool:
    """Say whether what was posted under a version is usage of the meter in force; a replay's is not before its end."""
    return meter.epoch <= version <= meter.version


def select(query: UsageQuery, catalog: Catalog, index: SeriesIndex) -> Selection:
    """Find the series of a query and group them by its labels."""
    accounts, meter = catalog.accounts, catalog.meters.get(query.meter)
    if meter is None or not _known(meter).issuperset((*query.group_by, *query.where)):
        return Selection(np.empty(0, np.int64), np.empty(0, np.int64), (), np.empty(0, np.int64))
    names = accounts if query.accounts is None else (a for a in dict.fromkeys(query.accounts) if a in accounts)
    owners = [(name, accounts[name].number) for name in names]
    found = [(name, number, index.strands.get((number, query.meter))) for name, number in owners]
    owned = [Owned(name, number, strand) for name, number, strand in found if strand is not None]
    if len(owned) == len(owners) == 1:
        return _remembered(query, meter, owned, owned[0].strand.selections, SELECTIONS_MAX)
    if sum(len(each.strand.numbers) for each in owned) <= WIDE_SERIES_MAX:
        return _remembered(query, meter, owned, index.selections, WIDE_SELECTIONS_MAX)
    return _group(query, meter, owned)


def _remembered(
    query: UsageQuery, meter: Meter, owned: Sequence[Owned], selections: dict[Sought, tuple[int, Selection]], most: int
) -> Selection:
    """Group what reports and limits ask again and again; it holds until one of the accounts meets a new label set."""
    # Asked before the series are read: what comes in between is found to be missing next time.
    size = sum(len(each.strand.numbers) for each in owned)
    whose = tuple((each.name, each.number) for each in owned)
    where = frozenset(query.where.items())
    key = (meter.name, (meter.epoch, meter.version), whose, query.group_by, query.blank, where)
    found = selections.get(key)
    if found is None or found[0] != size:
        found = (size, _group(query, meter, owned))
        if len(selections) >= most:
            selections.clear()
        selections[key] = found
    return found[1]


def _known(meter: Meter) -> set[str]:
    values = {VALUE} if meter.aggregation == "unique" else set[str]()
    return {"account", *values, *(name for name, _ in meter.labels)}


def _group(query: UsageQuery, meter: Meter, owned: Sequence[Owned]) -> Selection:
    numbers: list[int] = []
    groups: list[Group] = []
    for name, _, strand in owned:
        some, theirs = _group_of(query, meter, name, strand)
        numbers += some
        groups += theirs
    ordered = _ordered(set(groups))
    rank = {group: at for at, group in enumerate(ordered)}
    series = np.array(numbers, np.int64)
    order = np.argsort(series, kind="stable")
    read = np.array(sorted(each.number for each in owned), np.int64)
    return Selection(series[order], np.array([rank[g] for g in groups], np.int64)[order], ordered, read)


def _group_of(query: UsageQuery, meter: Meter, name: str, strand: Strand) -> tuple[list[int], list[Group]]:
    """Return the numbers of an account's series that are wanted, and the group of each."""
    kept = zip(strand.numbers, strand.labels, strand.versions, strict=False)
    counted = [(number, labels) for number, labels, version in kept if counts(meter, version)]
    if not query.where and all(label == "account" for label in query.group_by):
        # The account says it all.
        return [number for number, _ in counted], [(name,) * len(query.group_by)] * len(counted)
    numbers: list[int] = []
    groups: list[Group] = []
    told = [(label, "" if label in query.blank else None) for label in query.group_by]
    for number, labels in counted:
        # Said in the quickest way: an account may have ten thousand label sets.
        values = dict(labels)
        for label, wanted in query.where.items():
            if values.get(label, "") not in wanted:
                break
        else:
            numbers.append(number)
            groups.append(tuple([name if label == "account" else values.get(label, absent) for label, absent in told]))
    return numbers, groups


def _ordered(groups: AbstractSet[Group]) -> list[Group]:
    """Sort by code points, label by label, what is absent first; labels that are the same everywhere do not matter."""
    varied = [at for at, values in enumerate(zip(*groups, strict=True)) if len(set(values)) > 1]
    return sorted(groups, key=lambda group: ["" if group[at] is None else f"\0{group[at]}" for at in varied])
