"""What a ledger says about itself to whoever watches it: plain numbers, counted per commit and read when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tallystick.distribution import Distribution

COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
COMMIT_BYTES = tuple(4**power for power in range(4, 14))
"""From 256 bytes to 64 MiB."""

NEAR_PERCENT = 80
"""From here on, in percent of the bound on label sets, somebody should be told."""


@dataclass(slots=True)
class Commits:
    """The commits of events since the ledger was opened: how long each took, and the bytes of its events as sent."""

    seconds: Distribution = field(default_factory=lambda: Distribution(COMMIT_SECONDS))
    bytes: Distribution = field(default_factory=lambda: Distribution(COMMIT_BYTES))

    def add(self, seconds: float, size: int) -> None:
        """Count one commit."""
        self.seconds.add(seconds)
        self.bytes.add(size)


@dataclass(frozen=True, slots=True)
class Replica:
    """How a ledger stands that is only read, beside the one that is written.

    `lag_s` is 0 where all that has reached it is in its answers, else the seconds since the last transaction that is;
    None where nobody knows. With `is_promoted` its database takes writes by now, for which the process has to be
    started again.
    """

    lag_s: float | None
    is_promoted: bool


@dataclass(frozen=True, slots=True)
class Vitals:
    """A ledger's numbers at one moment; what is counted begins anew whenever the ledger is opened.

    `sequence` is the place in the log of the last event and `committed` the instant of its commit, None before the
    first. `queued_bytes` are events that wait to be written, `wal_bytes` what is still to be moved into the file.
    `accepted` are events by account, in the order in which accounts first sent some. `label_set_warnings` are, by
    account and meter, the UTC months seen with NEAR_PERCENT or more of the label sets that they may have.
    `damaged_entries` are entries of the log that were found not to be what was written. `replica` is there where the
    ledger is only read.
    """

    sequence: int
    committed: int | None
    queued_bytes: int
    wal_bytes: int
    commits: Commits
    accepted: Mapping[str, int]
    label_set_warnings: Mapping[tuple[str, str], int]
    damaged_entries: int
    replica: Replica | None = None


def near(label_sets_max: int) -> int:
    """Return the number of label sets from which a month counts as near its bound."""
    return -(-label_sets_max * NEAR_PERCENT // 100)
