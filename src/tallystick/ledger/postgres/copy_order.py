"""One order for the logs of all accounts and the catalog: what could have been written so, one entry after the other.

Entries of events go by their sequences, all of a transaction together; before them go the changes of the catalog that
they were counted by, and what their accounts' logs have before them. A change of the catalog comes as early as it may:
after all that was counted by the version before, and after the thresholds that went with a limit which it deletes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tallystick.ledger.packed import segment
from tallystick.ledger.packed.entries import CatalogHeader, apply
from tallystick.ledger.packed.hold_entries import AdmissionHeader, Crossed
from tallystick.ledger.packed.limit_entries import LimitDeleted
from tallystick.ledger.packed.segment import GENESIS, Damaged
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import ADMISSION, EVENTS, EntryHeader, read_header
from tallystick.model import Catalog

ENTRIES_READ_TOGETHER = 500
Limited = tuple[int, str]
"""A limit by the number of its account and its id: another account may have one of the same id later."""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A change of the catalog, and its link."""

    header: CatalogHeader
    link: bytes


@dataclass(frozen=True, slots=True)
class Together:
    """The entries of events that one transaction wrote, and their links."""

    headers: Sequence[EntryHeader]
    links: Sequence[bytes]

    @property
    def first(self) -> int:
        """The sequence of its first event."""
        return min(header.first for header in self.headers)

    @property
    def count(self) -> int:
        """How many events it has."""
        return sum(header.count for header in self.headers)


@dataclass(frozen=True, slots=True)
class AdmissionEntry:
    """What became of holds and thresholds of one account, and the entry's link."""

    header: AdmissionHeader
    link: bytes


Ordered = CatalogEntry | Together | AdmissionEntry


@dataclass(slots=True)
class Order:
    """Goes through the logs once; what a replay counted is passed by."""

    db: Db
    _catalog: Catalog = field(default_factory=lambda: Catalog(0, {}))
    _positions: dict[int, int] = field(default_factory=dict)

    def entries(self) -> Iterator[Ordered]:
        changes, commits = self._changes(), self._commits()
        change, commit = next(changes, None), next(commits, None)
        last = self._last_deletions()
        while change is not None or commit is not None:
            if change is not None and self._is_due(change, commit):
                for limit in [each for each in _deleted(change) if last[each] == change.header.entry]:
                    blocked = self._gone_crossing(limit)
                    # What has to come first may lie behind events that come first.
                    while commit is not None and self._reach(limit[0]) < blocked:
                        yield from self._commit(commit)
                        commit = next(commits, None)
                    yield from self._admissions(limit[0], blocked)
                self._catalog = apply(self._catalog, change.header.changes)
                yield change
                change = next(changes, None)
            elif commit is not None:
                yield from self._commit(commit)
                commit = next(commits, None)
            else:
                raise Damaged("the catalog's log does not go on")
        for (account,) in self.db.execute("SELECT account FROM head ORDER BY account").fetchall():
            yield from self._admissions(account, None)

    def _is_due(self, change: CatalogEntry, commit: Together | None) -> bool:
        version = apply(self._catalog, change.header.changes).version
        return commit is None or version <= commit.headers[0].catalog_version

    def _commit(self, commit: Together) -> Iterator[Ordered]:
        for header in commit.headers:
            yield from self._admissions(header.account, header.position - 1)
        yield commit
        for header in commit.headers:
            self._positions[header.account] = header.position

    def _reach(self, account: int) -> int:
        """Return up to which position an account's log can be gone through before its next entry of events."""
        statement = f"SELECT min(position) FROM entry WHERE account = %s AND position > %s AND kind = {EVENTS}"
        ((found,),) = self.db.execute(statement, (account, self._positions.get(account, 0))).fetchall()
        return 2**62 if found is None else int(found) - 1

    def _admissions(self, account: int, through: int | None) -> Iterator[AdmissionEntry]:
        """Yield what an account's log has of holds from where it was left up to a position (None = to its end)."""
        statement = f"""SELECT position, header, link FROM entry WHERE account = %s AND position > %s
            AND position <= %s AND kind = {ADMISSION} ORDER BY position LIMIT {ENTRIES_READ_TOGETHER}"""
        end = 2**62 if through is None else through
        at = self._positions.get(account, 0)
        if through is not None and at >= through:
            return
        while some := self.db.execute(statement, (account, at, end)).fetchall():
            for _, packed, link in some:
                yield AdmissionEntry(msgspec.msgpack.decode(packed, type=AdmissionHeader), link)
            at = self._positions[account] = some[-1][0]
        self._positions[account] = max(at, through or 0)

    def _changes(self) -> Iterator[CatalogEntry]:
        entry, link = 0, GENESIS
        statement = f"""SELECT entry, header, link FROM catalog_entry WHERE entry > %s ORDER BY entry
            LIMIT {ENTRIES_READ_TOGETHER}"""
        while some := self.db.execute(statement, (entry,)).fetchall():
            for number, packed, chained in some:
                if number != entry + 1 or segment.link(link, packed) != chained:
                    raise Damaged(f"catalog entry {number} is not what was written")
                entry, link = number, bytes(chained)
                yield CatalogEntry(msgspec.msgpack.decode(packed, type=CatalogHeader), link)

    def _commits(self) -> Iterator[Together]:
        """Yield the transactions that kept events, by their sequences, which are in a row within each."""
        statement = f"""SELECT first, header, link FROM entry WHERE kind = {EVENTS} AND first > %s
            ORDER BY first LIMIT {ENTRIES_READ_TOGETHER}"""
        first, headers, links = 0, list[EntryHeader](), list[bytes]()
        while some := self.db.execute(statement, (first,)).fetchall():
            for _, packed, link in some:
                header = read_header(packed)
                if headers and header.number != headers[0].number:
                    yield Together(headers, links)
                    headers, links = [], []
                headers.append(header)
                links.append(bytes(link))
            first = some[-1][0]
        if headers:
            yield Together(headers, links)

    def _last_deletions(self) -> Mapping[Limited, int]:
        """Return the entries of the catalog's log in which limits were deleted, the last one of each."""
        return {limit: change.header.entry for change in self._changes() for limit in _deleted(change)}

    def _gone_crossing(self, limit: Limited) -> int:
        """Return the position behind which an account's log has no crossed threshold that went with this limit."""
        account, id = limit
        statement = "SELECT position FROM crossing WHERE account = %s AND limit_id = %s"
        kept = {position for (position,) in self.db.execute(statement, (account, id)).fetchall()}
        last, at = 0, self._positions.get(account, 0)
        statement = f"""SELECT position, header FROM entry WHERE account = %s AND position > %s
            AND kind = {ADMISSION} ORDER BY position LIMIT {ENTRIES_READ_TOGETHER}"""
        while some := self.db.execute(statement, (account, at)).fetchall():
            for at, packed in some:
                changes = msgspec.msgpack.decode(packed, type=AdmissionHeader).changes
                if at not in kept and any(isinstance(each, Crossed) and each.limit == id for each in changes):
                    last = at
        return last


def _deleted(change: CatalogEntry) -> Sequence[Limited]:
    return [(each.owner, each.id) for each in change.header.changes if isinstance(each, LimitDeleted)]
