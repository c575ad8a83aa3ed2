"""The nouns, frozen: accounts, keys, meters, limits and the catalog; events, postings, verdicts; questions and tables.

Instants are integers: microseconds since 1970-01-01T00:00:00Z. Amounts are integers at their meter's scale.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import repeat
from typing import Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from tallystick.errors import Code
from tallystick.raws import sizes_of
from tallystick.windows import Period

Labels = tuple[tuple[str, str], ...]
"""A label set: (name, value) pairs sorted by name; a label that an event does not have is not in it."""

VALUE = ""
"""The label under which a posting of a `unique` meter has its value: no label of a definition has this name."""


RATE_SCALE = 6
"""Decimals of a multiplier."""


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
    """A token as the ledger keeps it: its digest (SHA-256, hex), never the token. `account` None = the operator's.

    `ends` is when a key that was rotated gives way to its successor.
    """

    id: str
    digest: str
    account: str | None
    scopes: frozenset[Scope]
    created: int
    expires: int | None = None
    ends: int | None = None

    @property
    def valid_until(self) -> int | None:
        """The first instant at which it opens nothing any more; None = never."""
        return min((at for at in (self.expires, self.ends) if at is not None), default=None)

    def is_valid(self, now: int) -> bool:
        """Say whether it opens anything at `now`."""
        return self.valid_until is None or now < self.valid_until


@dataclass(frozen=True, slots=True)
class Rounding:
    """How a quantity becomes a multiple of `to` (in units): up, down, half_up or half_even; at least `minimum`."""

    to: str
    mode: str
    minimum: str = "0"


@dataclass(frozen=True, slots=True)
class Rated:
    """Whose multipliers a meter takes: the rate table, and the label that says which type an event is of."""

    table: str
    label: str


@dataclass(frozen=True, slots=True)
class Rate:
    """What a type counts from an instant on: `multiplier` is an integer at RATE_SCALE."""

    start: int
    multiplier: int


RateTable = Mapping[str, tuple[Rate, ...]]
"""The rates of each type, ascending by their start; an event takes the last one that starts at its time or before."""


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted (events.md, "A meter definition"). A path is a JSON path into the event, as `$.data.duration`.

    `where` names labels of the meter, or members of `data`. `once_per` "state" or "url" is for resources. `version` is
    that of the catalog which brought this definition; usage is what was posted under `epoch` and later ones.
    """

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
    rate: Rated | None = None
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Replay:
    """Meters that are to count kept events too, those of `start` or later, before they are in force.

    Their `epoch` tells their postings from others of their names. `rates` is the table that comes into force with them.
    """

    meters: tuple[Meter, ...]
    start: int
    rates: tuple[str, RateTable] | None = None


class Property(StrEnum):
    """What of a meter a limit bounds: its sum, or how many events it counted."""

    QUANTITY = "quantity"
    COUNT = "count"


class Policy(StrEnum):
    """What becomes of work that does not fit: it is refused, put off, or let through and counted as overage."""

    REJECT = "reject"
    POSTPONE = "postpone"
    ALLOW = "allow"


class Unheld(StrEnum):
    """What becomes of an event that nobody set anything aside for and that does not fit."""

    RECORD = "record"
    REFUSE = "refuse"


class GrantKind(StrEnum):
    BASE = "base"
    EXTENSION = "extension"


@dataclass(frozen=True, slots=True)
class Grant:
    """What gives a limit capacity from `start` to before `end` (None = without end).

    `limit` is the id of its limit, and `amount` an integer at that one's scale, which is `scale`.
    """

    limit: str
    id: str
    kind: GrantKind
    amount: int
    scale: int
    start: int
    end: int | None = None

    def is_valid(self, now: int) -> bool:
        """Say whether it gives capacity at `now`."""
        return self.start <= now and (self.end is None or now < self.end)


@dataclass(frozen=True, slots=True)
class Limit:
    """An amount of a meter per period, for an account and what it uses under the labels of `where`.

    In `where`, "" stands for "" and for absent. `scale` is that of the meter, or 0 for a count; `amount` is a base
    grant without end, None = none of its own. `anchor` says where a period begins (`windows.period_of`). `status` is
    the HTTP status of a refusal, and `thresholds` are percentages of the capacity, ascending. `unheld` says what
    becomes of events without a hold that do not fit.
    """

    id: str
    account: str
    meter: str
    property: Property
    scale: int
    period: Period
    amount: int | None
    where: Labels = ()
    timezone: str = "UTC"
    anchor: int | None = None
    policy: Policy = Policy.REJECT
    status: int = 429
    thresholds: tuple[int, ...] = ()
    grants: tuple[Grant, ...] = ()
    unheld: Unheld = Unheld.RECORD

    def grant(self, id: str) -> Grant | None:
        """Return the grant of this id."""
        return next((grant for grant in self.grants if grant.id == id), None)


@dataclass(frozen=True, slots=True)
class Crossing:
    """That use reached a threshold of a limit, for the first time in the period that began at `start`.

    `used` and `capacity` are integers at the limit's `scale`, as they were at the instant `at`.
    """

    limit: str
    threshold: int
    start: int
    at: int
    used: int
    capacity: int
    scale: int


class HoldMode(StrEnum):
    """All of it or nothing, as much of it as fits, or only say whether it would."""

    NORMAL = "normal"
    BEST_EFFORT = "best_effort"
    CHECK_ONLY = "check_only"


class HoldState(StrEnum):
    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"
    CHECKED = "checked"


class HoldLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a hold, if it holds all that was asked for, sets aside of one meter for a label set.

    `quantity` is an integer at `scale`, None where the hold does not tell it. `count` is a number of events;
    `is_counted` says that each unit of the quantity is one event, so that the count goes with the quantity.
    """

    meter: str
    scale: int
    labels: Labels
    quantity: int | None
    count: int
    is_counted: bool = False


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What ended a hold: the event that was recorded, by its identity, and when.

    `expired` = the hold had expired before, `exceeded` = the event has more than was held.
    """

    at: int
    source: str
    event: str
    expired: bool = False
    exceeded: bool = False


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Capacity of an account set aside before the work; identity = (account, id), for ever.

    `asked` is what was asked for and `quantity` what is held, of `meter`, at its scale. `ttl` is in microseconds.
    `lines` are what `asked` comes to in every meter that an event of this kind feeds, by the rates of its time.
    """

    account: str
    id: str
    meter: str
    labels: Labels
    scale: int
    asked: int
    quantity: int
    count: int
    ttl: int
    mode: HoldMode
    created: int
    deadline: int
    lines: tuple[HoldLine, ...]
    released: int | None = None
    settlement: Settlement | None = None

    def state_at(self, now: int) -> HoldState:
        """Say how it stands; what has expired stays so, whatever a clock says later."""
        if self.settlement is not None:
            return HoldState.SETTLED
        if self.released is not None:
            return HoldState.RELEASED
        if self.mode is HoldMode.CHECK_ONLY:
            return HoldState.CHECKED
        return HoldState.OPEN if now < self.deadline else HoldState.EXPIRED

    def is_same(self, other: Hold) -> bool:
        """Say whether two calls ask for the same; `lines` follow from that, by the rates of their time."""
        return (self.meter, self.labels, self.asked, self.count, self.ttl, self.mode) == (
            other.meter,
            other.labels,
            other.asked,
            other.count,
            other.ttl,
            other.mode,
        )


@dataclass(frozen=True, slots=True)
class HoldQuery:
    """Which holds of an account, ordered by id in code points, those behind `after`; `state` None = any."""

    account: str
    state: HoldState | None = None
    after: str | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Catalog:
    """What was defined at a version. Accounts, keys and limits are in it too; only meters and rates move `version`.

    `limits` have their grants. `replays` are what is being counted from kept events; it counts nothing new until it is
    in force. `numbers_given` is how many account numbers there were ever: none is given twice.
    """

    version: int
    meters: Mapping[str, Meter]
    accounts: Mapping[str, Account] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)  # by digest
    rates: Mapping[str, RateTable] = field(default_factory=dict)
    replays: Mapping[str, Replay] = field(default_factory=dict)
    numbers_given: int = 0
    limits: Mapping[str, Limit] = field(default_factory=dict)

    def key(self, id: str) -> Key | None:
        """Return the key of this id."""
        return next((key for key in self.keys.values() if key.id == id), None)

    def limits_of(self, account: str) -> list[Limit]:
        """Return the limits of an account, by id."""
        return sorted((each for each in self.limits.values() if each.account == account), key=lambda each: each.id)

    @property
    def accounts_deleted(self) -> int:
        """How many accounts there were once and are no more."""
        return self.numbers_given - len(self.accounts)


class Caller(msgspec.Struct, frozen=True):
    """Who asks, as a key says: the account it is bound to (None = the operator) and what it may do."""

    key_id: str
    account: str | None
    scopes: frozenset[Scope]


class Deletion(StrEnum):
    """What became of an account that was to be deleted."""

    DELETED = "deleted"
    UNKNOWN = "unknown"
    HAS_EVENTS = "has_events"
    HAS_KEYS = "has_keys"
    HAS_LIMITS = "has_limits"


class Outcome(StrEnum):
    """What became of a limit or grant that was to be put."""

    CREATED = "created"
    REPLACED = "replaced"
    DUPLICATE = "duplicate"  # it is there, just so
    ID_REUSED = "id_reused"  # the id is that of another grant, or of a limit on something else
    ACCOUNT_UNKNOWN = "account_unknown"
    METER_UNFIT = "meter_unfit"  # no such meter, or none that can be limited so
    LIMIT_UNKNOWN = "limit_unknown"


Place = tuple[int, int]
"""Where a change to the catalog stands: the log entry, and which of the entry's changes it is."""


Stated = Account | Key | Meter | RateTable | Replay | Limit | Grant
"""What a change of the catalog is about."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A change to the catalog: when, by whom (a key's id, "event" or "process"), to what, and what it was before.

    `account` and `number` say whose it is: None and 0 = the operator's. `before` and `after` are the noun itself, None
    where there is none; a key's digest is left out of them.
    """

    place: Place
    time: int
    actor: str
    action: str
    target: str
    account: str | None
    number: int
    before: Stated | None
    after: Stated | None


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which changes: of the accounts that ever had this name, of the one account with this number; None = any.

    `before` is the place of the last record that was seen; those before it in the log are wanted.
    """

    limit: int
    account: str | None = None
    number: int | None = None
    before: Place | None = None

    def wants(self, record: AuditRecord) -> bool:
        """Say whether a record is in the answer."""
        return (
            self.account in (None, record.account)
            and self.number in (None, record.number)
            and (self.before is None or record.place < self.before)
        )


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records, newest first; `next` is what to ask for the ones `before`, None where there are no more."""

    records: Sequence[AuditRecord]
    next: Place | None = None


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
    """What one event adds to one meter: `amount` is an integer at the meter's scale.

    `once` is what a meter with `once_per` compares with what it counted of the resource before ("" for a state): the
    ledger drops the posting where that was counted already.
    """

    meter: str
    meter_version: int
    labels: Labels
    amount: int
    once: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What an event says of a resource: that it is as `state` has it (None: that it ended) at `time`.

    Of two changes of one resource the one with the later (time, source, event) counts.
    """

    kind: str
    space: str
    id: str
    time: int
    source: str
    event: str
    state: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Checked:
    """An event that passed every check which needs no state, with what it adds to meters and changes of a resource."""

    event: Event
    postings: tuple[Posting, ...]
    change: Change | None = None


class Status(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one event; conflicts and rejections have a code, a JSON pointer into the event and a reason.

    `http_status` is there where the code alone does not tell the status of a refusal.
    """

    status: Status
    metered: bool = False
    code: Code | None = None
    pointer: str = ""
    detail: str = ""
    http_status: int | None = None


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
class Doomed:
    """How an event is refused unless it is kept already, and whether other meters or a resource would have it."""

    verdict: Verdict
    metered: bool


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Checked events in columns, with what the catalog makes of them: what ingest hands to a ledger.

    `raw[i]` is event i as sent, one JSON object in UTF-8. `account[i]` is its account's name. `time[i]` is its instant,
    that of receipt where `timed[i]` is false. Posting j belongs to event `posting_event[j]` (ascending) and adds
    `posting_amount[j]` to the series `label_sets[posting_set[j]]`. `changes[i]` is what event i says of a resource, and
    `once[i]` what meters with `once_per` have to compare, by their names. `doomed` are events that a meter refuses:
    each is judged beside what is kept like the others, since it may have been kept before the meter was defined, and
    is refused otherwise.
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
    changes: Mapping[int, Change] = {}
    once: Mapping[int, Mapping[str, str]] = {}
    doomed: Mapping[int, Doomed] = {}

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def size(self) -> int:
        """How many bytes were sent."""
        return sum(sizes_of(self.raw))

    @property
    def metered(self) -> NDArray[np.int64]:
        """The events that feed a meter or a resource, some of them more than once."""
        return np.concatenate((self.posting_event, np.array([*self.changes], np.int64)))

    @property
    def all_metered(self) -> frozenset[int]:
        """The events of which `is_metered` says that they are."""
        return frozenset(self.metered.tolist()) | {at for at, doomed in self.doomed.items() if doomed.metered}

    def missing(self, accounts: Mapping[str, Account]) -> list[str]:
        """Return the accounts of events that do not exist, in the order in which they come; doomed ones need none."""
        names = self.account
        if self.doomed:
            names = [name for at, name in enumerate(names) if at not in self.doomed]
        return [name for name in dict.fromkeys(names) if name not in accounts]

    def is_metered(self, index: int) -> bool:
        """Say whether one event feeds a meter or a resource."""
        if index in self.doomed:
            return self.doomed[index].metered
        if index in self.changes:
            return True
        events = memoryview(self.posting_event)  # type: ignore[arg-type]  # numpy's stubs do not say that it is a buffer
        at = bisect_left(events, index)
        return at < len(events) and events[at] == index


class Total(msgspec.Struct, frozen=True):
    """An aggregate over postings: how many, their sum, the least and the greatest (None of nothing).

    `latest` is the amount of the one that is the latest by (time, source, id), and `unique` how many distinct values
    there are, where that was asked for.
    """

    count: int = 0
    sum: int = 0
    min: int | None = None
    max: int | None = None
    latest: int | None = None
    unique: int | None = None


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """The one question about usage.

    `accounts` None = every account. `edges` are ascending instants: bucket i is [edges[i], edges[i+1]). `group_by` are
    labels of the meter, or "account"; those of them that are in `blank` are "" where they are absent. `where` maps a
    label to the values wanted; "" stands for "" and for absent. With more than `rows_max` rows (None = any number)
    there is no answer. `latest` asks for the latest amounts too, and `distinct`, of a meter of distinct values, for how
    many there are. `limit` asks what is held of it now, if now is between the edges.
    """

    meter: str
    accounts: tuple[str, ...] | None
    edges: NDArray[np.int64]
    group_by: tuple[str, ...] = ()
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)
    blank: frozenset[str] = frozenset()
    latest: bool = False
    distinct: bool = False
    rows_max: int | None = None
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class LimitQuery:
    """Which limits of an account, and the instant at which they are to stand; None = any.

    With the last instant of a period that is over it is how that ended.
    """

    account: str
    at: int
    meter: str | None = None
    period: Period | None = None
    where: Labels | None = None
    timezone: str | None = None

    def wants(self, limit: Limit) -> bool:
        """Say whether a limit is in the answer."""
        return (
            limit.account == self.account
            and self.meter in (None, limit.meter)
            and self.period in (None, limit.period)
            and self.where in (None, limit.where)
            and self.timezone in (None, limit.timezone)
        )


class UsageRow(msgspec.Struct, frozen=True):
    """One bucket (index into the query's edges) of one group; `labels` follow `group_by`, None = absent."""

    bucket: int
    labels: tuple[str | None, ...]
    total: Total


@dataclass(frozen=True, slots=True, eq=False)
class UsageRows(Sequence[UsageRow]):
    """Rows in columns; each is made when it is looked at. `latest` is None where it was not asked for."""

    buckets: Sequence[int]
    labels: Sequence[tuple[str | None, ...]]
    counts: Sequence[int]
    sums: Sequence[int]
    least: Sequence[int]
    greatest: Sequence[int]
    latest: Sequence[int] | None

    def __len__(self) -> int:
        return len(self.buckets)

    @overload
    def __getitem__(self, at: int) -> UsageRow: ...
    @overload
    def __getitem__(self, at: slice) -> UsageRows: ...
    def __getitem__(self, at: int | slice) -> UsageRow | UsageRows:
        if isinstance(at, slice):
            return self._cut(at)
        latest = None if self.latest is None else self.latest[at]
        total = Total(self.counts[at], self.sums[at], self.least[at], self.greatest[at], latest)
        return UsageRow(self.buckets[at], self.labels[at], total)

    def _cut(self, at: slice) -> UsageRows:
        latest = None if self.latest is None else self.latest[at]
        totals = self.counts[at], self.sums[at], self.least[at], self.greatest[at]
        return UsageRows(self.buckets[at], self.labels[at], *totals, latest)

    def __iter__(self) -> Iterator[UsageRow]:
        latest = repeat(None) if self.latest is None else self.latest
        totals = map(Total, self.counts, self.sums, self.least, self.greatest, latest)
        return map(UsageRow, self.buckets, self.labels, totals)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented


Counts = Mapping[str, tuple[int, int]]
"""Of each counter of a space: how many resources, and their durations together in microseconds; none = not in it."""


@dataclass(frozen=True, slots=True)
class LiveQuery:
    """What is in the spaces of an account now; `space` None = all that there are or were, "" = what is in none."""

    account: str
    space: str | None = None


class LiveSpace(msgspec.Struct, frozen=True, gc=False):
    """A space or dataset by its name, live or not.

    `containers` says what there is of this name now ("space", "dataset"). `closed_in` has the instant at which it was
    deleted last in each UTC month (`windows.month_of`), `made_in` for each container that of the last upsert that made
    it. `live` counts what is in it now, `closed` what was in it when it was deleted for the last time.
    """

    space: str
    containers: frozenset[str]
    closed_in: Mapping[int, int]
    made_in: Mapping[str, Mapping[int, int]]
    live: Counts
    closed: Counts


@dataclass(frozen=True, slots=True)
class ResourceQuery:
    """Which live resources of an account, ordered by (space, kind, id) in code points, those behind `after`.

    `names` are the only ones that are meant, each by these three; None = any.
    """

    account: str
    space: str | None = None
    kind: str | None = None
    id: str | None = None
    after: tuple[str, str, str] | None = None
    limit: int = 1000
    names: Sequence[tuple[str, str, str]] | None = None


@dataclass(frozen=True, slots=True)
class LiveResource:
    """A resource that exists: `state` is what its latest upsert says, with its duration in microseconds.

    A space or dataset that was never upserted itself, but made by what is in it, has no state.
    """

    space: str
    kind: str
    id: str
    time: int
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which records of an account: what a meter with `once_per` "state" counted, from `start` to before `end`.

    They are ordered by (time, source, event id); `offset` are left out at the beginning.
    """

    account: str
    meter: str
    start: int
    end: int
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Record:
    """That a meter counted a resource, by which event, and what that said; nothing that comes later changes it."""

    time: int
    source: str
    event: str
    space: str
    kind: str
    id: str
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Some records, and how many there are in all."""

    records: Sequence[Record]
    total: int


@dataclass(frozen=True, slots=True)
class AsOf:
    """Up to where an answer counts: the last log sequence in it and when that was recorded (0, 0 = nothing yet)."""

    sequence: int
    time: int


@dataclass(frozen=True, slots=True)
class UsageTable:
    """The answer: rows ordered by bucket, then labels (absent first, then code points), and the total over all.

    `held` is what is held of the query's limit, at its scale.
    """

    rows: Sequence[UsageRow]
    total: Total
    as_of: AsOf
    held: int = 0

    @property
    def amounts(self) -> Iterable[tuple[tuple[Any, ...], int, int]]:
        """Labels, count and sum of each row, for reports that need no more of thousands of rows."""
        if isinstance(self.rows, UsageRows):
            return zip(self.rows.labels, self.rows.counts, self.rows.sums, strict=True)
        return ((row.labels, row.total.count, row.total.sum) for row in self.rows)


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which kept events, and in which order of their sequence.

    `accounts` None = every account; `start` and `end` bound the events' time, half-open; what is None is not asked for.
    Sequences are in (after, through]; `through` None = up to the last that was acknowledged. At most `limit` events.
    """

    accounts: tuple[str, ...] | None
    start: int | None = None
    end: int | None = None
    space: str | None = None
    subject: str | None = None
    type: str | None = None
    id: str | None = None
    after: int = 0
    through: int | None = None
    oldest_first: bool = False
    limit: int = 100


@dataclass(frozen=True, slots=True)
class EventRow:
    """One kept event: its place, whose it is, the bytes that were sent, and what it fed, ordered by meter."""

    sequence: int
    recorded: int
    account: str
    space: str | None
    time: int
    raw: bytes
    metered: bool
    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Rows in the order asked for; `next` is the query that goes on from here, None when nothing is left."""

    rows: Sequence[EventRow]
    as_of: AsOf
    next: EventQuery | None
