"""The nouns, frozen: accounts, keys, meters and the catalog; events, postings, verdicts; questions and tables.

Instants are integers: microseconds since 1970-01-01T00:00:00Z. Amounts are integers at their meter's scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tallystick.errors import Code

Labels = tuple[tuple[str, str], ...]
"""A label set: (name, value) pairs sorted by name; a label that an event does not have is not in it."""


class AccountKind(StrEnum):
    ORG = "org"
    USER = "user"


class Scope(StrEnum):
    INGEST = "ingest"
    REPORT = "report"
    LIMITS = "limits"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns usage. `number` is given by the ledger in order of creation and never changes."""

    name: str
    number: int
    kind: AccountKind = AccountKind.ORG
    timezone: str = "UTC"
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """A token as the ledger keeps it: its digest (SHA-256, hex), never the token. `account` None = the operator's."""

    id: str
    digest: str
    account: str | None
    scopes: frozenset[Scope]
    created: int
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class Rounding:
    """How a quantity becomes a multiple of `to` (in units): up, down, half_up or half_even; at least `minimum`."""

    to: str
    mode: str
    minimum: str = "0"


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted (events.md, "A meter definition"). A path is a JSON path into the event, as `$.data.duration`."""

    name: str
    version: int
    events: frozenset[str]
    quantity: str | None
    unit: str
    scale: int
    labels: tuple[tuple[str, str], ...]
    aggregation: str = "sum"
    where: tuple[tuple[str, frozenset[str]], ...] = ()
    rounding: Rounding | None = None
    once_per: str | None = None
    rate: str | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """What was defined at a version. Accounts and keys are in it too; only meters and rates move `version`."""

    version: int
    meters: Mapping[str, Meter]
    accounts: Mapping[str, Account] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)  # by digest


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as a key says: the account it is bound to (None = the operator) and what it may do."""

    key_id: str
    account: str | None
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Event:
    """One report of work that passed every check which needs no state.

    `account` and `space` are resolved (events.md); `time` is the event's own or, where `timed` is false, the instant
    of receipt. `attributes` are the other CloudEvents attributes, `data` the payload with numbers as int or Decimal;
    in both, members that were null are left out.
    """

    account: str
    source: str
    id: str
    type: str
    subject: str | None
    space: str | None
    time: int
    timed: bool
    data: Mapping[str, Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Posting:
    """What one event adds to one meter: `amount` is an integer at the meter's scale."""

    meter: str
    meter_version: int
    labels: Labels
    amount: int


class Status(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one event; conflicts and rejections have a code, a JSON pointer into the event and a reason."""

    status: Status
    metered: bool = False
    code: Code | None = None
    pointer: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A verdict with the event's place in its request, and its id where it had one."""

    index: int
    id: str | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, eq=False)
class LabelSet:
    """The key of a series: usage is kept per account, meter version and label set.

    Compared by identity, so that a ledger can remember one without hashing its labels; equal ones may exist.
    """

    account: str
    meter: str
    meter_version: int
    labels: Labels


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked events in columns, with what the catalog makes of them: what ingest hands to a ledger.

    `raw[i]` is event i as sent, one JSON object in UTF-8. `account[i]` is its account's name. `time[i]` is its instant,
    that of receipt where `timed[i]` is false. Posting j belongs to event `posting_event[j]` (ascending) and adds
    `posting_amount[j]` to the series `label_sets[posting_set[j]]`.
    """

    catalog_version: int
    received: int
    raw: Sequence[bytes]
    account: Sequence[str]
    source: Sequence[str]
    id: Sequence[str]
    time: NDArray[np.int64]
    timed: NDArray[np.bool_]
    posting_event: NDArray[np.int64]
    posting_set: NDArray[np.int64]
    posting_amount: NDArray[np.int64]
    label_sets: Sequence[LabelSet]

    def __len__(self) -> int:
        return len(self.raw)


@dataclass(frozen=True, slots=True)
class Total:
    """A mergeable aggregate over postings: how many, their sum, the least and the greatest (None of nothing)."""

    count: int = 0
    sum: int = 0
    min: int | None = None
    max: int | None = None


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """The one question about usage.

    `accounts` None = every account. `edges` are ascending instants: bucket i is [edges[i], edges[i+1]). `group_by` are
    labels of the meter, or "account". `where` maps a label to the values wanted; "" stands for "" and for absent.
    """

    meter: str
    accounts: tuple[str, ...] | None
    edges: NDArray[np.int64]
    group_by: tuple[str, ...] = ()
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One bucket (index into the query's edges) of one group; `labels` follow `group_by`, None = absent."""

    bucket: int
    labels: tuple[str | None, ...]
    total: Total


@dataclass(frozen=True, slots=True)
class AsOf:
    """Up to where an answer counts: the last log sequence in it and when that was recorded (0, 0 = nothing yet)."""

    sequence: int
    time: int


@dataclass(frozen=True, slots=True)
class UsageTable:
    """The answer: rows ordered by bucket, then labels (absent first, then code points), and the total over all."""

    rows: Sequence[UsageRow]
    total: Total
    as_of: AsOf
