"""Two ledgers compared, whatever kinds they are of: account by account, everything that is kept of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from tallystick.ledger.base import Fault
from tallystick.ledger.packed.living import Living
from tallystick.ledger.packed.steps import Admitted, Changed, Committed, Posted, Recounted, Source, rows_of
from tallystick.model import Account

Progress = Callable[[int], None]
Part = tuple[str, str]
"""What was summed up: whose it is, and what."""


def compare(one: Source, other: Source, progress: Progress) -> list[Fault]:
    """Return what is not the same; `progress` is told how many events of both were compared."""
    first = digests(one, progress)
    second = digests(other, lambda done: progress(one.events + done))
    return [
        Fault(where, f"{what} are not the same in {one.name} and {other.name}")
        for where, what in sorted({*first, *second})
        if first.get((where, what)) != second.get((where, what))
    ]


def digests(source: Source, progress: Progress) -> Mapping[Part, str]:
    """Return a digest of each account's events, holds, resources and rollups, and of the catalog's changes."""
    running = _Running()
    done = 0
    for step in source.steps():
        content = step.read()
        match content:
            case Changed():
                running.add("catalog", "changes", (content.recorded, content.actor, content.changes))
            case Admitted():
                for change in content.changes:
                    running.add(_account(change.owner), "changes of holds", (content.recorded, change))
            case Committed():
                running.committed(content)
            case Recounted():
                running.recounted(content)
            case Living():
                running.living(content)
        done += step.events
        progress(done)
    found = running.result()
    for account in source.catalog.accounts.values():
        found.update(_kept(source, account))
    uses = sorted(source.key_uses().items())
    return {**found, ("keys", "times of use"): _digest(uses), ("events", "numbers"): str(source.events)}


def _kept(source: Source, account: Account) -> Iterator[tuple[Part, str]]:
    """Yield digests of what is kept of an account beside its log."""
    where, number = _account(account.number), account.number
    yield (where, "rollups"), _days(source, number)
    yield (where, "holds"), _unordered(source.holds(number))
    # Those of different limits are in no order.
    yield (where, "crossed thresholds"), _unordered(source.crossings(number))


def _days(source: Source, account: int) -> str:
    """Digest what is counted per meter, label set and UTC day."""
    cells = source.days(account)
    numbers = np.unique(cells.series)
    described = [source.series.describe(number) for number in numbers.tolist()]
    rank = np.empty(len(described), np.int64)
    rank[sorted(range(len(described)), key=described.__getitem__)] = np.arange(len(described))
    place = rank[np.searchsorted(numbers, cells.series)] if len(numbers) else cells.series
    order = np.lexsort((cells.bucket, place))
    columns = (place, cells.bucket, *cells.columns[1:])
    digest = hashlib.sha256(_packed(sorted(described)))
    for column in columns:
        digest.update(column[order].astype("<i8").tobytes())
    return digest.hexdigest()


class _Running:
    """Digests of what comes in an order, and of what comes in none."""

    def __init__(self) -> None:
        self._ordered: dict[Part, Any] = {}
        self._sums: dict[Part, int] = {}

    def add(self, where: str, what: str, value: object) -> None:
        self._update(where, what, _packed(value))

    def _update(self, where: str, what: str, *parts: bytes) -> None:
        digest = self._ordered.setdefault((where, what), hashlib.sha256())
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)

    def committed(self, content: Committed) -> None:
        """Take in the events of a transaction: bytes, times, and what they added to meters."""
        for account in np.unique(content.accounts).tolist():
            rows = np.flatnonzero(content.accounts == account)
            raws = [content.raws[at] for at in rows.tolist()]
            said = (content.recorded, content.catalog_version, list(map(len, raws)))
            self._update(_account(account), "events", _packed(said), *raws, *_postings(content.posted, rows))

    def recounted(self, content: Recounted) -> None:
        """Take in what a replay counted, event by event: each kind of ledger cuts it into slices of its own."""
        what = f"postings of {content.replay} counted anew"
        for at, account in enumerate(content.accounts.tolist()):
            said = (int(content.sequences[at]), content.epoch)
            self._update(_account(account), what, _packed(said), *_postings(content.posted, np.array([at])))

    def living(self, content: Living) -> None:
        """Take in resources and what goes with them."""
        for name, resource in content.resources.items():
            self._put(name.account, "resources", (name, resource))
        for (account, space), state in content.spaces.items():
            self._put(account, "spaces", (space, state))
        for key, value in content.once.items():
            self._put(key.resource.account, "what was counted once", (key, value))
        for record, change in content.records.items():
            self._put(record.account, "records", (record, change))

    def _put(self, account: int, what: str, value: object) -> None:
        part = (_account(account), what)
        self._sums[part] = self._sums.get(part, 0) + _number(value)

    def result(self) -> dict[Part, str]:
        """Return the digests."""
        sums = {part: f"{value:x}" for part, value in self._sums.items()}
        return {**sums, **{part: digest.hexdigest() for part, digest in self._ordered.items()}}


def _postings(posted: Posted, rows: Any) -> Iterator[bytes]:
    """Yield times and postings of some events, with series by what they stand for."""
    columns = rows_of(posted.columns, rows)
    used, series = np.unique(columns.posting_series, return_inverse=True)
    yield _packed([posted.sets[at] for at in used.tolist()])
    yield columns.timed.tobytes()
    for column in (columns.time, columns.posting_event, series, columns.posting_amount):
        yield column.astype("<i8").tobytes()


def _unordered(values: Iterator[object]) -> str:
    """Digest values in whatever order they come, each as often as it is there."""
    return f"{sum(map(_number, values)):x}"


def _number(value: object) -> int:
    return int.from_bytes(hashlib.sha256(_packed(value)).digest(), "little")


def _digest(value: object) -> str:
    return hashlib.sha256(_packed(value)).hexdigest()


def _packed(value: object) -> bytes:
    # The standard library's, because sums of durations may pass 64 bits.
    return json.dumps(msgspec.to_builtins(value, str_keys=True, order="deterministic"), sort_keys=True).encode()


def _account(number: int) -> str:
    return f"account {number}"
