"""A database in the making: steps written behind the logs, several of them in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import psycopg

from tallystick.errors import LedgerError
from tallystick.ledger.packed import hold_entries, segment
from tallystick.ledger.packed.hold_entries import Crossed, HoldMade
from tallystick.ledger.packed.limit_entries import LimitDeleted
from tallystick.ledger.packed.living import Living
from tallystick.ledger.packed.segment import Columns, NewSeries
from tallystick.ledger.packed.steps import (
    Admitted,
    Changed,
    Committed,
    Content,
    Posted,
    Recounted,
    Unfinished,
    rows_of,
)
from tallystick.ledger.postgres import (
    admitting,
    catalog_log,
    copy_state,
    hold_tables,
    identities,
    locks,
    log,
    parts,
    resource_tables,
    server,
)
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.copy_source import connected
from tallystick.ledger.postgres.identities import SALTS_MAX
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.log import RecountHeader
from tallystick.ledger.postgres.parts import Part
from tallystick.ledger.postgres.recounting import row_of
from tallystick.ledger.postgres.series import SeriesCache, numbered
from tallystick.ledger.sqlite.tail import source_and_id
from tallystick.model import HoldState
from tallystick.rollup import Ints


@contextmanager
def open_target(url: str, origin: str, now: int) -> Iterator[PostgresTarget]:
    """Begin a copy in a database without a ledger, or go on with the one in it; raises LedgerError if neither.

    From the first moment on the database says that it is not complete.
    """
    db = connected(url)
    try:
        with _asking(url):
            server.migrate(db, url, now)
            copy_state.refuse_distributed(db, url)
            target = PostgresTarget(url, db, _begun(db, url, origin))
        yield target
    finally:
        db.close()


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """Say what to do where the database does not answer."""
    try:
        yield
    except psycopg.Error as error:
        raise LedgerError(
            f"The database {server.named(url)} did not take it ({error}). Run the same command again: it goes on."
        ) from error


def _begun(db: Db, url: str, origin: str) -> Unfinished:
    with locks.transaction(db):
        locks.hold(db, locks.CATALOG)
        done = copy_state.read(db)
        if done is None:
            ((entries,),) = db.execute("SELECT count(*) FROM catalog_entry").fetchall()
            if entries:
                raise LedgerError(
                    f"There is a ledger in the database {server.named(url)} already. Name an empty one; what is there "
                    "stays."
                )
            done = Unfinished(origin)
            copy_state.write(db, done)
    return done


class PostgresTarget:
    """One connection, and what it knows of the logs it writes."""

    def __init__(self, url: str, db: Db, done: Unfinished) -> None:
        self.name = f"the database {server.named(url)}"
        self.done = done
        self._url = url
        self._db = db
        self._secret = server.secret(db)
        self._log = CatalogLog()
        self._known = self._log.refresh(db)
        self._series = SeriesCache()
        heads = db.execute("SELECT account, series FROM head WHERE series > 0").fetchall()
        self._series.refresh(db, dict(heads))
        self._sequence = done.events

    def take(self, contents: Sequence[Content], done: Unfinished) -> None:
        db = self._db
        with _asking(self._url), locks.transaction(db):
            locks.hold(db, locks.CATALOG)
            if copy_state.read(db) != self.done:
                raise LedgerError(f"Another copy into {self.name} is under way. Stop one of them.")
            for content in contents:
                match content:
                    case Changed():
                        self._changed(content)
                    case Admitted():
                        self._admitted(content)
                    case Committed():
                        self._committed(content)
                    case Recounted():
                        self._recounted(content)
                    case Living():
                        resource_tables.store(db, content)
            copy_state.write(db, done)
        self.done = done

    def finish(self, key_uses: Mapping[str, int]) -> None:
        db = self._db
        with _asking(self._url), locks.transaction(db):
            if self._sequence:
                db.execute("SELECT setval('event_sequence', %s)", (self._sequence,))
            # From now on the clock never goes back behind what the log has seen, of whatever account.
            ((last,),) = db.execute("SELECT coalesce(max(recorded), 0) FROM entry").fetchall()
            db.execute("UPDATE head SET clock = greatest(clock, %s)", (last,))
            db.execute(
                """INSERT INTO key_use SELECT * FROM unnest(%s::text[], %s::bigint[]) ON CONFLICT (key)
                DO UPDATE SET at = excluded.at""",
                (list(key_uses), list(key_uses.values())),
            )

    def complete(self) -> None:
        with _asking(self._url), locks.transaction(self._db):
            copy_state.clear(self._db)

    def _changed(self, content: Changed) -> None:
        self._known = catalog_log.logged(self._db, self._known, content.changes, content.actor, content.recorded)
        for change in content.changes:
            if isinstance(change, LimitDeleted):
                hold_tables.forget(self._db, change.owner, change.id, crossings=True)

    def _admitted(self, content: Admitted) -> None:
        admitting.append(self._db, content.changes, content.recorded)
        log.move_clocks(self._db, list({change.owner: None for change in content.changes}), content.recorded)
        self._fold_holds([each for each in content.changes if not isinstance(each, Crossed)])

    def _fold_holds(self, changes: Sequence[hold_entries.HoldChange]) -> None:
        if not changes:
            return
        known = [(each.owner, each.id) for each in changes if not isinstance(each, HoldMade)]
        owners = [owner for owner, _ in known]
        # No hold ends before the first instant, so none but those that are named.
        found = hold_tables.find(self._db, owners, known, -(2**63)) if known else {}
        kept = {name: each.hold for name, each in found.items()}
        for change in changes:
            hold_entries.fold(kept, change)
        holds = {name: hold_entries.hold_of(each, "") for name, each in kept.items()}
        is_open = {name: hold.state_at(hold.deadline) is HoldState.EXPIRED for name, hold in holds.items()}
        hold_tables.store(self._db, holds, is_open)

    def _committed(self, content: Committed) -> None:
        accounts, db = content.accounts, self._db
        number, made = self._number(), dict[int, list[NewSeries]]()
        columns = content.posted.numbered(self._numbers(content.posted, made))
        packed = [_part(content, account, columns) for account in np.unique(accounts).tolist()]
        self._identify(content, packed, number)
        parts.store(db, packed, number)
        heads = log.heads(db, [part.account for part in packed])
        rows = [
            part.placed(
                heads[part.account],
                number,
                self._sequence + 1,
                content.recorded,
                content.catalog_version,
                tuple(made.get(part.account, ())),
            )
            for part in packed
        ]
        log.append(db, number, content.recorded, rows)
        self._sequence += len(content.raws)

    def _identify(self, content: Committed, packed: Sequence[Part], number: int) -> None:
        """Claim the identities of events; one that finds its fingerprint taken goes on to the next salt."""
        names = {account.number: account.name for account in self._known.catalog.accounts.values()}
        sources, ids = source_and_id(content.raws)
        places = np.empty(len(ids), np.int64)
        for part in packed:
            places[part.offsets] = part.places
        left = np.arange(len(ids))
        for salt in range(SALTS_MAX):
            some = left.tolist()
            owners = content.accounts[left]
            prints = identities.fingerprints(
                self._secret,
                salt,
                [names[owner] for owner in owners.tolist()],
                [sources[at] for at in some],
                [ids[at] for at in some],
            ).view(np.int64)
            claimed = self._claim(owners, prints, places[left], number)
            left = left[~claimed]
            if not len(left):
                return
        raise LedgerError("More identities have one fingerprint than can be.")

    def _claim(self, owners: Ints, prints: Ints, places: Ints, number: int) -> Ints:
        cursor = self._db.execute(
            """INSERT INTO identity (account, fingerprint, number, place)
            SELECT account, fingerprint, %s, place FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])
                w (account, fingerprint, place)
            ON CONFLICT DO NOTHING RETURNING account, place""",
            (number, owners, prints, places),
        )
        if cursor.rowcount == len(owners):
            return np.ones(len(owners), np.bool_)
        taken = set(cursor.fetchall())
        return np.array([pair in taken for pair in zip(owners.tolist(), places.tolist(), strict=True)], np.bool_)

    def _recounted(self, content: Recounted) -> None:
        made = dict[int, list[NewSeries]]()
        numbers = self._numbers(content.posted, made)
        for account in np.unique(content.accounts).tolist():
            self._recount(content, account, numbers, made.get(account, ()))

    def _recount(self, content: Recounted, account: int, numbers: Ints, made: Sequence[NewSeries]) -> None:
        db, head = self._db, log.heads(self._db, [account])[account]
        rows = np.flatnonzero(content.accounts == account)
        columns = rows_of(content.posted.numbered(numbers), rows)
        digest, body = segment.pack_columns(columns)
        statement = "SELECT through FROM replayed WHERE account = %s AND epoch = %s AND replay = %s"
        ((after,),) = db.execute(statement, (account, content.epoch, content.replay)).fetchall() or [(0,)]
        header = RecountHeader(
            account=account,
            position=head.entries + 1,
            number=self._number(),
            recorded=content.recorded,
            catalog_version=self._known.catalog.version,
            replay=content.replay,
            epoch=content.epoch,
            after=after,
            through=min(content.through, head.sequence),
            sequences=np.diff(content.sequences[rows], prepend=np.int64(0)).astype("<i8").tobytes(),
            time_min=int(columns.time.min()),
            time_max=int(columns.time.max()),
            columns=digest,
            series=tuple(made),
        )
        db.execute("INSERT INTO posting VALUES (%s, %s, %s)", (account, header.number, body))
        log.append(db, header.number, content.recorded, [row_of(head, header, len(rows))])
        db.execute(
            """INSERT INTO replayed (account, epoch, replay, through, events) VALUES (%s, %s, %s, %s, 0)
            ON CONFLICT (account, epoch, replay) DO UPDATE SET through = excluded.through""",
            (account, content.epoch, content.replay, header.through),
        )

    def _numbers(self, posted: Posted, made: dict[int, list[NewSeries]]) -> Ints:
        """Return the numbers of series; those that are given just now are written, and added to `made` by account."""
        numbers, new = numbered(self._db, self._series, posted.sets)
        self._series.learn(new)
        for each in new:
            made.setdefault(each.account, []).append(each)
        return numbers

    def _number(self) -> int:
        ((number,),) = self._db.execute("SELECT nextval('entry_number')").fetchall()
        return int(number)


def _part(content: Committed, account: int, columns: Columns) -> Part:
    """Pack the events of one account."""
    rows = np.flatnonzero(content.accounts == account)
    own = rows_of(columns, rows)
    digest, body = segment.pack_columns(own)
    frames = segment.pack_frames([content.raws[at] for at in rows.tolist()], content.accounts[rows].astype(np.uint32))
    times = int(own.time.min()), int(own.time.max())
    return Part(account, rows, np.arange(len(rows)), *times, frames, body, digest)
