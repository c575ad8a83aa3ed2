"""Usage, worked out for each question from all that was counted."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from msgspec import structs

from tallystick.ledger.memory.kept import Kept
from tallystick.ledger.verdicts import rows_exceeded
from tallystick.model import VALUE, AsOf, Catalog, Meter, Posting, Total, UsageQuery, UsageRow, UsageTable

Counted = Sequence[tuple[Kept, Posting]]


def answer(query: UsageQuery, catalog: Catalog, counted: Counted, as_of: AsOf) -> UsageTable:
    """Answer one question from all that the meters in force have counted."""
    groups: defaultdict[tuple[int, tuple[str | None, ...]], list[tuple[Kept, Posting]]] = defaultdict(list)
    if is_answerable(query, catalog.meters.get(query.meter)):
        for bucket, kept, posting in wanted(query, counted):
            values = {**dict(posting.labels), "account": kept.account}
            labels = tuple(values.get(name, "" if name in query.blank else None) for name in query.group_by)
            groups[bucket, labels].append((kept, posting))
    everything = [each for group in groups.values() for each in group]
    totals = {group: told(counted, query) for group, counted in groups.items()}
    if query.rows_max is not None and len(groups) > query.rows_max:
        raise rows_exceeded(query.rows_max)
    rows = [UsageRow(bucket, labels, totals[bucket, labels]) for bucket, labels in sorted(groups, key=order)]
    return UsageTable(rows, told(everything, query), as_of)


def told(counted: Sequence[tuple[Kept, Posting]], query: UsageQuery) -> Total:
    """Return as much of an aggregate as was asked for."""
    values = {dict(posting.labels).get(VALUE) for _, posting in counted}
    whole = structs.replace(total(counted), unique=len(values) if query.distinct else None)
    return whole if query.latest else structs.replace(whole, latest=None)


def is_answerable(query: UsageQuery, meter: Meter | None) -> bool:
    if meter is None:
        return False
    labels = {name for name, _ in meter.labels} | ({VALUE} if meter.aggregation == "unique" else set())
    return set(query.where) <= labels and set(query.group_by) <= labels | {"account"}


def wanted(query: UsageQuery, counted: Counted) -> Iterator[tuple[int, Kept, Posting]]:
    edges = [int(edge) for edge in query.edges]
    for kept, posting in counted:
        bucket = bisect_right(edges, kept.time) - 1
        if posting.meter != query.meter or not 0 <= bucket < len(edges) - 1:
            continue
        if query.accounts is not None and kept.account not in query.accounts:
            continue
        labels = dict(posting.labels)
        # "" and absent are one value to a filter, though not to a grouping.
        if all(labels.get(name, "") in values for name, values in query.where.items()):
            yield bucket, kept, posting


def total(counted: Sequence[tuple[Kept, Posting]]) -> Total:
    """Aggregate postings; the latest is that of the latest event, by time, source and id."""
    if not counted:
        return Total()
    amounts = [posting.amount for _, posting in counted]
    _, latest = max(counted, key=lambda each: (each[0].time, each[0].source, each[0].id, each[0].account))
    return Total(len(amounts), sum(amounts), min(amounts), max(amounts), latest.amount)


def order(group: tuple[int, tuple[str | None, ...]]) -> tuple[int, tuple[tuple[bool, str], ...]]:
    """Order rows by bucket, then by labels: absent first, then by code points."""
    bucket, labels = group
    return bucket, tuple((value is not None, value or "") for value in labels)
