"""What one transaction does to holds: calls decided, events counted, and one entry of the log for it all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import apsw
import msgspec

from tallystick.errors import Problem
from tallystick.holding import Answer
from tallystick.ledger.base import CatalogStale
from tallystick.ledger.packed import hold_entries, segment
from tallystick.ledger.packed.counters import Counter, Counters
from tallystick.ledger.packed.deciding import Call, Deciding
from tallystick.ledger.packed.hold_entries import Crossed, Named
from tallystick.ledger.sqlite import hold_tables, reading
from tallystick.ledger.sqlite.file import ADMISSION
from tallystick.ledger.sqlite.job import Job, set_exception, tell
from tallystick.ledger.sqlite.tail import Tail
from tallystick.model import Hold, HoldState, Limit, UsageQuery, UsageTable


@dataclass(slots=True, eq=False)
class HoldWork:
    """A call about the hold of an account, on its way through the writer; written with others, as a Group."""

    account: str
    id: str
    call: Call
    future: asyncio.Future[Answer]
    bytes: int = 0
    answer: Answer | None = None

    @property
    def result(self) -> object:
        """What its caller waits for."""
        return self.answer

    def write(self, db: apsw.Connection) -> None:
        raise TypeError("calls about holds are written together, as a Group")

    def publish(self) -> None:
        raise TypeError("calls about holds are published together, as a Group")

    def fail(self, problem: Problem | CatalogStale) -> None:
        tell(self.future.get_loop(), set_exception, self.future, problem)


@dataclass(slots=True, eq=False)
class FileBooks:
    """What decisions go by: memory, and of the file what was looked up beforehand.

    It knows no Turn: a circle of both would outlive every transaction, with all its holds, until garbage is looked for.
    """

    tail: Tail
    counters: Counters
    db: apsw.Connection
    now: int
    known: dict[Named, Hold] = field(default_factory=dict)

    def look_up(self, wanted: Sequence[Named]) -> None:
        """Have those of some holds at hand that there are."""
        book = self.tail.book
        self.known = {name: hold for name in wanted if (hold := book.find(*name))}
        if unknown := [name for name in wanted if name not in self.known]:
            accounts = {account.number: account.name for account in self.tail.catalog.accounts.values()}
            for name, kept in hold_tables.find(self.db, unknown).items():
                self.known[name] = hold_entries.hold_of(kept, accounts[name[0]])

    def find(self, owner: int, id: str) -> Hold | None:
        return self.known.get((owner, id))

    def put(self, owner: int, hold: Hold, *, is_open: bool) -> None:
        if is_open:
            self.tail.book.put(owner, hold)
        else:
            self.tail.book.drop(owner, hold.id)

    def counter(self, owner: int, limit: Limit) -> Counter:
        open_ones = self.tail.book.open.get(owner, {})
        return self.counters.of(limit, owner, self.now, self.tail.catalog, self._counted, open_ones.values)

    def _counted(self, query: UsageQuery) -> UsageTable:
        return reading.counted(self.db, self.tail, query)

    def limits_of(self, account: str) -> Sequence[Limit]:
        return self.tail.book.limits_of(account, self.tail.catalog)

    def watched(self) -> Mapping[str, Sequence[Limit]]:
        return self.tail.book.watched(self.tail.catalog)

    def crossed(self, owner: int, limit: str) -> frozenset[tuple[int, int]]:
        return self.tail.book.crossed.get(limit, frozenset())

    def note_crossed(self, limit: str, noted: frozenset[tuple[int, int]]) -> None:
        self.tail.book.crossed[limit] = noted


@dataclass(slots=True, eq=False)
class Turn:
    """One transaction's part in admission, at the instant `now`; for the writer thread.

    What it changes in memory is the writer's own until `publish`; when the transaction fails, all of that is read from
    the file again.
    """

    tail: Tail
    counters: Counters
    db: apsw.Connection
    now: int
    deciding: Deciding = field(init=False)
    _books: FileBooks = field(init=False)
    _over: dict[Named, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._books = FileBooks(self.tail, self.counters, self.db, self.now)
        self.deciding = Deciding(self._books, self.counters, self.tail.catalog, self.now)

    def begin(self, calls: Sequence[HoldWork], jobs: Sequence[Job]) -> None:
        """Let holds expire that are due, and have those at hand that are asked about."""
        for owner, hold in self.tail.book.overdue(self.now):
            self.counters.hold(owner, hold, None)
            self._over[owner, hold.id] = None
        names = [(work.account, work.id) for work in calls]
        names += [job.settles for job in jobs if job.settles is not None]
        owner_of = self.deciding.owner
        self._books.look_up([(owner, id) for account, id in names if (owner := owner_of(account))])

    def decide(self, work: HoldWork) -> None:
        """Answer one call."""
        work.answer = self.deciding.decide(work.account, work.id, work.call)
        if work.answer is None:
            work.fail(CatalogStale())

    def refuse(self, job: Job) -> Answer | None:
        """Say why the event of a settlement must not be recorded; None = it may be, and `settle` comes afterwards."""
        assert job.settles is not None
        return self.deciding.refuse(job.settles, job.batch)

    def settle(self, job: Job) -> Answer:
        """End the hold of a settlement whose event was judged, unless that was refused."""
        assert job.settles is not None
        return self.deciding.settle(job.settles, job.batch, job.verdicts.get(0))

    def watch(self, jobs: Iterable[Job]) -> Mapping[str, Sequence[Counter]]:
        """Return the counters of limits that have thresholds or refuse events, by the accounts of jobs."""
        if not self._books.watched():
            return {}
        return self.deciding.watch(name for job in jobs for name in job.batch.account)

    def count(self, jobs: Sequence[Job], owners: Sequence[int], watched: Mapping[str, Sequence[Counter]]) -> None:
        """Count the postings of jobs, and note the thresholds that they reach; `owners` are whose they are."""
        self.deciding.count(jobs, owners, watched)

    # The end of it

    def write(self) -> None:
        """Write what changed as an entry of the log; rows of holds are written behind it."""
        changes = self.deciding.changes
        if not changes:
            return
        tail = self.tail
        header = msgspec.msgpack.encode(hold_entries.AdmissionHeader(tail.entry + 1, self.now, tuple(changes)))
        chained = segment.link(tail.link, header)
        self.db.execute(
            "INSERT INTO log (entry, kind, count, recorded, header, link) VALUES (?, ?, ?, ?, ?, ?)",
            (tail.entry + 1, ADMISSION, len(changes), self.now, header, chained),
        )
        tail.entry, tail.link = tail.entry + 1, chained
        crossings = [change for change in changes if isinstance(change, Crossed)]
        if crossings:
            hold_tables.note(self.db, crossings)

    def show(self) -> None:
        """Let others see what changed; with the book's lock in hand."""
        seen: dict[Named, Hold | None] = {**self._over}
        for name, hold in self.deciding.changed.items():
            seen[name] = hold if hold.state_at(self.now) is HoldState.OPEN else None
        self.tail.book.show(seen)
        self.tail.book.unwritten.add(self.deciding.changed, len(self.deciding.changes))
