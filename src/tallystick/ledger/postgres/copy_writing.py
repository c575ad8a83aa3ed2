"""Steps of a copy written behind the logs of accounts: all that a step has, or what it has for some of them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from tallystick.errors import LedgerError
from tallystick.ledger.packed import hold_entries, segment
from tallystick.ledger.packed.hold_entries import Crossed, HoldMade
from tallystick.ledger.packed.limit_entries import LimitDeleted
from tallystick.ledger.packed.living import Living
from tallystick.ledger.packed.segment import Columns, NewSeries
from tallystick.ledger.packed.steps import Admitted, Changed, Committed, Content, Posted, Recounted, rows_of
from tallystick.ledger.postgres import (
    admitting,
    catalog_log,
    copy_state,
    hold_tables,
    identities,
    log,
    parts,
    resource_tables,
    server,
    shards,
)
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.identities import SALTS_MAX
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import RecountHeader
from tallystick.ledger.postgres.parts import FRAME_PACKED_BYTES, Part
from tallystick.ledger.postgres.recounting import row_of
from tallystick.ledger.postgres.series import SeriesCache, numbered
from tallystick.ledger.sqlite.tail import source_and_id
from tallystick.model import HoldState
from tallystick.rollup import Ints


@dataclass(frozen=True, slots=True)
class NumberedStep:
    """A step in its place: its number, which its entries get as well, and the sequence of its first event."""

    number: int
    first: int
    content: Content

    @property
    def accounts(self) -> Set[int]:
        """The accounts that it has something for in logs of their own."""
        match self.content:
            case Committed() | Recounted():
                return set(np.unique(self.content.accounts).tolist())
            case Admitted():
                return {change.owner for change in self.content.changes}
            case Living():
                return self.content.accounts
            case Changed():
                return set()


class StepWriter:
    """Writes steps inside the transactions of its caller; it knows the catalog and the series that there are."""

    def __init__(self, db: Db) -> None:
        self._db = db
        self._secret = server.secret(db)
        self._known = CatalogLog().refresh(db)
        self._series = SeriesCache()
        heads = db.execute("SELECT account, series FROM head WHERE series > 0").fetchall()
        self._series.refresh(db, dict(heads))

    def write(self, step: NumberedStep, accounts: Set[int]) -> None:
        """Write what a step has for some accounts."""
        match step.content:
            case Changed():
                self._changed(step.content)
            case Admitted():
                self._admitted(step.content, step.number, accounts)
            case Committed():
                self._committed(step.content, step, accounts)
            case Recounted():
                self._recounted(step.content, step.number, accounts)
            case Living():
                resource_tables.store(self._db, step.content.of(accounts))

    def _changed(self, content: Changed) -> None:
        self._known = catalog_log.logged(self._db, self._known, content.changes, content.actor, content.recorded)
        for change in content.changes:
            if isinstance(change, LimitDeleted):
                hold_tables.forget(self._db, change.owner, change.id, crossings=True)

    def _admitted(self, content: Admitted, number: int, accounts: Set[int]) -> None:
        changes = [change for change in content.changes if change.owner in accounts]
        admitting.append(self._db, changes, content.recorded, number)
        log.move_clocks(self._db, list({change.owner: None for change in changes}), content.recorded)
        self._fold_holds([each for each in changes if not isinstance(each, Crossed)])

    def _fold_holds(self, changes: Sequence[hold_entries.HoldChange]) -> None:
        if not changes:
            return
        known = [hold_entries.named(each) for each in changes if not isinstance(each, HoldMade)]
        owners = [owner for owner, _ in known]
        # No hold ends before the first instant, so none but those that are named.
        found = hold_tables.find(self._db, owners, known, -(2**63)) if known else {}
        kept = {name: each.hold for name, each in found.items()}
        for change in changes:
            hold_entries.fold(kept, change)
        holds = {name: hold_entries.hold_of(each, "") for name, each in kept.items()}
        is_open = {name: hold.state_at(hold.deadline) is HoldState.EXPIRED for name, hold in holds.items()}
        hold_tables.store(self._db, holds, is_open)

    def _committed(self, content: Committed, step: NumberedStep, accounts: Set[int]) -> None:
        db, number, made = self._db, step.number, dict[int, list[NewSeries]]()
        columns = content.posted.numbered(self._numbers(content.posted, accounts, made))
        packed = [_part(content, account, columns) for account in sorted(accounts)]
        self._identify(content, packed, number)
        parts.store(db, packed, number)
        heads = log.heads(db, [part.account for part in packed])
        rows = [
            part.placed(
                heads[part.account],
                number,
                step.first,
                content.recorded,
                content.catalog_version,
                tuple(made.get(part.account, ())),
            )
            for part in packed
        ]
        log.append(db, number, content.recorded, rows)

    def _identify(self, content: Committed, packed: Sequence[Part], number: int) -> None:
        """Claim the identities of events; one that finds its fingerprint taken goes on to the next salt."""
        names = {account.number: account.name for account in self._known.catalog.accounts.values()}
        offsets = np.concatenate([part.offsets for part in packed])
        places = np.concatenate([part.places for part in packed])
        owners = content.accounts[offsets]
        sources, ids = source_and_id([content.raws[at] for at in offsets.tolist()])
        left = np.arange(len(ids))
        for salt in range(SALTS_MAX):
            some = left.tolist()
            prints = identities.fingerprints(
                self._secret,
                salt,
                [names[owner] for owner in owners[left].tolist()],
                [sources[at] for at in some],
                [ids[at] for at in some],
            ).view(np.int64)
            claimed = self._claim(owners[left], prints, places[left], number)
            left = left[~claimed]
            if not len(left):
                return
        raise LedgerError("More identities have one fingerprint than can be.")

    def _claim(self, owners: Ints, prints: Ints, places: Ints, number: int) -> Ints:
        cursor = self._db.execute(
            """INSERT INTO identity (account, fingerprint, number, place)
            SELECT account, fingerprint, %s, place FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])
                w (account, fingerprint, place)
            ON CONFLICT (account, fingerprint) DO NOTHING""",
            (number, owners, prints, places),
        )
        if cursor.rowcount == len(owners):
            return np.ones(len(owners), np.bool_)
        of_one, owner = shards.only("i.account", owners)
        statement = f"""SELECT i.account, i.place FROM unnest(%s::bigint[], %s::bigint[]) w (account, fingerprint)
            JOIN identity i USING (account, fingerprint) WHERE i.number = %s{of_one}"""
        own = set(self._db.execute(statement, (owners, prints, number, *owner)).fetchall())
        return np.array([pair in own for pair in zip(owners.tolist(), places.tolist(), strict=True)], np.bool_)

    def _recounted(self, content: Recounted, number: int, accounts: Set[int]) -> None:
        made = dict[int, list[NewSeries]]()
        numbers = self._numbers(content.posted, accounts, made)
        for account in sorted(accounts):
            self._recount(content, number, account, numbers, made.get(account, ()))

    def _recount(self, content: Recounted, number: int, account: int, numbers: Ints, made: Sequence[NewSeries]) -> None:
        db, head = self._db, log.heads(self._db, [account])[account]
        rows = np.flatnonzero(content.accounts == account)
        columns = rows_of(content.posted.numbered(numbers), rows)
        digest, body = segment.pack_columns(columns)
        header = RecountHeader(
            account=account,
            position=head.entries + 1,
            number=number,
            recorded=content.recorded,
            catalog_version=self._known.catalog.version,
            replay=content.replay,
            epoch=content.epoch,
            after=copy_state.marked(db, account, (content.epoch, content.replay)),
            through=min(content.through, head.sequence),
            sequences=np.diff(content.sequences[rows], prepend=np.int64(0)).astype("<i8").tobytes(),
            time_min=int(columns.time.min()),
            time_max=int(columns.time.max()),
            columns=digest,
            series=tuple(made),
        )
        db.execute("INSERT INTO posting VALUES (%s, %s, %s)", (account, number, body))
        log.append(db, number, content.recorded, [row_of(head, header, len(rows))])
        copy_state.mark(db, account, header.through, (content.epoch, content.replay))

    def _numbers(self, posted: Posted, accounts: Set[int], made: dict[int, list[NewSeries]]) -> Ints:
        """Return the numbers of series, 0 for those of other accounts.

        Those that are given just now are written, and added to `made` by account.
        """
        places = [at for at, each in enumerate(posted.sets) if each[0] in accounts]
        some, new = numbered(self._db, self._series, [posted.sets[at] for at in places])
        self._series.learn(new)
        for each in new:
            made.setdefault(each.account, []).append(each)
        numbers = np.zeros(len(posted.sets), np.int64)
        numbers[places] = some
        return numbers


def _part(content: Committed, account: int, columns: Columns) -> Part:
    """Pack the events of one account."""
    rows = np.flatnonzero(content.accounts == account)
    own = rows_of(columns, rows)
    digest, body = segment.pack_columns(own)
    raws, accounts = [content.raws[at] for at in rows.tolist()], content.accounts[rows].astype(np.uint32)
    frames = segment.pack_frames(raws, accounts, FRAME_PACKED_BYTES)
    times = int(own.time.min()), int(own.time.max())
    return Part(account, rows, np.arange(len(rows)), *times, frames, body, digest)
