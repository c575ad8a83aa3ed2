"""The ledger's contract. `memory`, `sqlite` and `postgres` keep it; tests/ledger/conformance.py holds them to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol

from tallystick.holding import Answer
from tallystick.ledger.vitals import Vitals
from tallystick.model import (
    Account,
    AsOf,
    AuditPage,
    AuditQuery,
    Batch,
    Catalog,
    Crossing,
    Deletion,
    EventPage,
    EventQuery,
    Grant,
    Hold,
    HoldQuery,
    Key,
    Limit,
    LiveQuery,
    LiveResource,
    LiveSpace,
    Meter,
    Outcome,
    RateTable,
    RecordPage,
    RecordQuery,
    ResourceQuery,
    UsageQuery,
    UsageTable,
    Verdict,
)


class CatalogStale(Exception):
    """Meters changed or an account was deleted since the batch was prepared; nothing was kept: prepare it again."""


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event as it was kept: its place in the log, when it was recorded, and the bytes that were sent."""

    sequence: int
    recorded: int
    account: str
    time: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that verify found wrong: where, and what was expected and found."""

    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What verify looked at and what it found; `head` is the last link of the chain (hex), worth writing down."""

    events: int
    postings: int
    entries: int
    head: str
    faults: Sequence[Fault] = field(default_factory=tuple)


class Ledger(Protocol):
    """Keeps events for ever and answers for them.

    Every method may be called from one asyncio loop, any number at a time. What a method has returned is durable and
    is in every answer that is asked for from then on. Methods raise `Problem` with UNAVAILABLE or DISK_FULL when
    nothing could be made durable (safe to repeat), and UNPROVEN when the answer touches a part that is known to be
    damaged; no other errors are expected outcomes.
    """

    @property
    def catalog(self) -> Catalog:
        """The catalog as this process knows it: an immutable value, replaced by a new one at every change."""

    async def current(self) -> Catalog:
        """Return the catalog in force, after every change that had returned before the call, at whatever process.

        From then on `catalog` is this one or a later one.
        """

    async def commit(self, batch: Batch, *, create_accounts: bool = False, bulk: bool = False) -> Mapping[int, Verdict]:
        """Keep each event that is new, with its identity and its postings.

        Atomic per event: it is kept with all that belongs to it or not at all. A batch is not a unit. Durable on
        return, and safe to repeat: identity is (account, source, id), for ever. Order inside a batch counts: of two
        events with one identity the first is kept and the second judged against it; a rejected one claims nothing.

        Returns the verdict of every event, by its index, that was not simply accepted: DUPLICATE (same content,
        events.md "Content"), CONFLICT (other content, `id_reused`), or REJECTED for what only the ledger can see:
        `account_unknown` unless `create_accounts` makes the account, `label_sets_exceeded`, `over_limit` where a limit
        refuses what nobody set anything aside for and does not fit in the present period. An index that is absent was
        accepted. `bulk` lets others go first; batches of one kind are kept in the order of the calls.

        Raises CatalogStale, and keeps nothing, if meters changed since the batch was prepared, or an account was
        deleted while it waited.
        """

    async def usage(self, queries: Sequence[UsageQuery]) -> Sequence[UsageTable]:
        """Answer several questions from one moment: exact sums of postings, computed over the union of parts.

        That moment is one for what is held, too, where a query names a limit.

        Never lags behind a commit that has returned. Meters and labels that do not exist give empty tables: naming
        them is the caller's business. An account that does not exist has no usage.

        Raises Problem with ROWS_EXCEEDED where a table would have more rows than its query's `rows_max`, and gives up
        as soon as that is known.
        """

    async def as_of(self, queries: Sequence[UsageQuery]) -> AsOf:
        """Say up to where `usage` would count at least, without doing the sums.

        Raises UNPROVEN where `usage` would. An answer as of this sequence is still right when this is returned.
        """

    async def events(self, query: EventQuery) -> EventPage:
        """List kept events that match, newest first or oldest first, each with what it fed.

        Looks at a bounded part of the log: a page may be short or empty and still have a `next`. Going on from there,
        whenever and however often, neither repeats nor leaves out an event that was acknowledged before the first
        page; of those that came later, newest first shows none, and oldest first only those up to its `through`. An
        account that does not exist has no events.
        """

    async def live(self, query: LiveQuery) -> Sequence[LiveSpace]:
        """Return the spaces of an account, by name, with what is in them: a fold of all changes, in whatever order.

        One that was only ever deleted is among them: a dataset may be known from requests alone until it is deleted.
        An account that does not exist has none.
        """

    async def resources(self, query: ResourceQuery) -> Sequence[LiveResource]:
        """Return the resources that exist, in order, at most `query.limit`."""

    async def records(self, query: RecordQuery) -> RecordPage:
        """Return what a meter with `once_per` "state" counted of an account, event by event; deletion takes none away.

        Of a meter that counted kept events anew, only what it counted since is here.
        """

    async def event(self, account: str, source: str, id: str) -> KeptEvent | None:
        """Return the kept event of this identity."""

    async def put_account(self, account: Account, *, actor: str) -> Account:
        """Create or change an account (by name; `number` is ignored and given by the ledger). Audited, durable.

        A number is never given twice, whatever was deleted. Members are names, whether or not accounts have them.
        """

    async def delete_account(self, name: str, *, actor: str) -> Deletion:
        """Delete an account that has neither kept events nor keys nor limits. Audited, durable.

        Decided in order with commits and keys: what was acknowledged before it keeps the account, and whatever comes
        after finds none. Lists of members that name it are left as they are. Its name may be used again, by an
        account with another number.
        """

    async def put_key(self, key: Key, *, actor: str) -> bool:
        """Add a key, or replace the one of this id. Audited, durable; in force for the next request.

        False, and nothing changes, if there is no such account, or the id is that of a key of another account.
        """

    async def rotate_key(self, id: str, successor: Key, *, ends: int, actor: str) -> Key | None:
        """Add a successor of a key, and let that one end at `ends` if it would be valid for longer.

        Of `successor` the id, digest and time of creation count; account, scopes and expiry are those of the key. Both
        changes are one, audited, durable, in force for the next request. Returns the successor as it is kept; None,
        and nothing changes, if there is no such key, it is valid no longer when the successor is created, or the
        successor's id is taken. A key that was rotated may be once more, while it is valid: a caller that got no
        answer may ask again, for another successor.
        """

    async def put_meter(self, meter: Meter, *, actor: str, start: int | None = None) -> None:
        """Define a meter, or replace the definition of its name; nothing changes if it is that already. Audited.

        `version` and `epoch` are ignored and given by the ledger. Without `start` it counts what is committed from here
        on, and what an earlier definition of this name counted stays in its usage; so unit, scale and aggregation must
        be the same then. With `start` (an instant; INSTANT_MIN for all) it begins anew: kept events of that instant or
        later are counted, in the order of the log, as if it had been there from the beginning, and it is in force, in
        place of an earlier definition, from the moment at which every event is counted. Until then it is in
        `catalog.replays` and not in `catalog.meters`; that goes on after a restart.

        Raises Problem IN_USE for another unit, scale or aggregation without `start`, while a replay of this name is
        under way, and where a limit would lose what it counts: no definition of a meter with limits on its quantity
        has another unit, scale or aggregation, and none lacks a label that a limit names.
        """

    async def delete_meter(self, name: str, *, actor: str) -> bool:
        """Take a meter out of the catalog: it counts no more and its usage cannot be read; false if there is none.

        What it posted stays in the log. A meter that gets its name later begins anew. Audited. Raises Problem IN_USE
        while there are limits on it.
        """

    async def put_rates(self, table: str, rates: RateTable, *, actor: str, recount: bool = False) -> None:
        """Define a rate table, or replace it; nothing changes if it is that already. Audited.

        Raises Problem IN_USE if another multiplier than before would be in force for events that a meter has counted,
        unless `recount`: then every meter with this table is counted again from all kept events, as by `put_meter` with
        a `start`, and the table is in force together with them. Kept events that the new table has no rate for count
        nothing.
        """

    def replayed(self, name: str) -> tuple[int, int] | None:
        """Say how far a replay is, by its name in `catalog.replays`: (events done, events in all)."""

    async def put_limit(self, limit: Limit, *, actor: str) -> Outcome:
        """Define a limit, or replace the definition of its id; nothing changes if it is that already. Audited, durable.

        In force for whoever asks next; what was used counts for it, from before it was made too. `limit.grants` is
        ignored: grants stay. CREATED, REPLACED or DUPLICATE; else nothing changes: ID_REUSED if there is a limit of
        this id of another account, meter or property, ACCOUNT_UNKNOWN, or METER_UNFIT if the meter, or the one that a
        replay is about to put in its place, is not there, has another scale than `limit`, lacks a label that it
        names, or has a quantity that does not add up.
        """

    async def delete_limit(self, id: str, *, actor: str) -> bool:
        """Delete a limit with its grants; false if there is none. Audited, durable."""

    async def put_grant(self, grant: Grant, *, actor: str) -> Outcome:
        """Give a limit capacity. Audited, durable, safe to repeat.

        CREATED, or DUPLICATE if its limit has this very grant; else nothing changes: ID_REUSED if it has another one
        of this id, LIMIT_UNKNOWN if there is no such limit at the grant's scale.
        """

    async def delete_grant(self, limit: str, id: str, *, actor: str) -> bool:
        """Take a grant away; false if there is none. Audited, durable. What was used stays used."""

    async def reserve(self, hold: Hold, *, catalog_version: int) -> Answer:
        """Set capacity aside, under every limit of the account that counts for the hold, or under none. Durable.

        Which limits count is decided in the order of all changes, and so is what they have left: what is used in the
        present period, and all that is held, whenever its hold was made. Of `hold`, `created`, `deadline` and
        `quantity` are given by the ledger. CREATED; DUPLICATE with the hold as it is now if its account has the same
        one, so that a caller who got no answer may ask again; ID_REUSED if it has another one of this id; UNKNOWN if
        there is no such account; REFUSED, with nothing changed, where it does not fit. In mode check_only nothing is
        kept and the id does not matter: DONE or REFUSED.

        A hold expires at its deadline by the latest clock that any commit has seen, which never goes back.

        Raises CatalogStale if meters or rates changed since `lines` were worked out.
        """

    async def renew(self, account: str, id: str, *, ttl: int | None, quantity: int | None) -> Answer:
        """Move the deadline of an open hold to `ttl` microseconds from now (None = its own), durable.

        `quantity` asks for so much in all: more is decided as by `reserve`, and nothing changes where it does not fit
        (REFUSED); less frees the rest. DONE; UNKNOWN if there is no such hold, ENDED if it is open no longer.
        """

    async def release(self, account: str, id: str) -> Answer:
        """Free what a hold holds. Durable. DONE, or DUPLICATE if it was released before, or has expired.

        UNKNOWN if there is no such hold; ENDED if it was settled.
        """

    async def settle(self, account: str, id: str, batch: Batch) -> Answer:
        """Record the one event of a batch and free all that its hold holds, in one transaction.

        The event is kept as by `commit`, whatever limits say. DONE, with the verdict on it: also if it is a DUPLICATE,
        and if the hold has expired, which its settlement says. With the event that settled the hold before:
        DUPLICATE. Else nothing changes: EVENT_REFUSED with a verdict, where the event is a conflict or rejected; ENDED
        if the hold was released; ID_REUSED if it was settled with another event; UNKNOWN if there is none; BUSY where
        another settlement of it is under way.

        Raises CatalogStale as `commit` does.
        """

    async def hold(self, account: str, id: str) -> Hold | None:
        """Return the hold of this identity, as it was changed last."""

    async def hold_accounts(self, id: str) -> Sequence[str]:
        """Return the accounts that have a hold of this id, by name."""

    async def holds(self, query: HoldQuery) -> Sequence[Hold]:
        """Return holds in order, at most `query.limit`."""

    @property
    def now(self) -> int:
        """The instant that decides about deadlines: the clock, or the latest that a commit has seen."""

    async def crossings(self, limit: str) -> Sequence[Crossing]:
        """Return which thresholds of a limit were crossed, in which period, in the order in which that was seen.

        Each is noted once per period, in the transaction that made use of the present period reach it. A limit that is
        deleted takes them along.
        """

    async def delete_key(self, id: str, *, actor: str) -> bool:
        """Revoke a key; false if there is none. Audited, durable; in force for the next request."""

    def note_key_use(self, id: str, at: int) -> None:
        """Remember that a key was shown. It is no part of the log; a crash may forget the last minute or so of it."""

    @property
    def key_uses(self) -> Mapping[str, int]:
        """When each key was shown last, by id; one that never was is not in it."""

    async def audit(self, query: AuditQuery) -> AuditPage:
        """Return changes to the catalog, the newest first, from the log itself.

        A page may be short, even empty, and still not be the last one. Going on from `next` skips and repeats nothing
        that was there when the first page was asked for.
        """

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Proof:
        """Replay the log from nothing and compare everything kept with it. Changes nothing; others go on meanwhile.

        `progress` is called with (events done, events in all), from any thread. Faults are data, not errors.
        """

    async def backup(self) -> IO[bytes]:
        """Copy the whole ledger as it is at one moment, while others go on; the copy is gone when it is closed.

        Everything that was acknowledged before is in it. Raises Problem NOT_FOUND where nothing is kept that could be
        copied, DISK_FULL where there is no room for it, UNAVAILABLE while another one is made.
        """

    def vitals(self) -> Vitals:
        """Say how the ledger is doing: numbers that are at hand, without waiting for anything."""

    async def close(self) -> None:
        """Finish what was taken, let go of the data. Safe to repeat; every later call raises UNAVAILABLE."""
