"""A database in the making: steps written behind the logs, several of them in one transaction.

Where tables are spread over nodes each account's part of these is a transaction of its own, which also notes up to
which step the account is; steps are there once, however far of them it came before it was killed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
import psycopg

from tallystick.errors import LedgerError
from tallystick.ledger.packed.steps import Changed, Committed, Content, Unfinished
from tallystick.ledger.postgres import copy_state, locks, log, server
from tallystick.ledger.postgres.copy_source import connected
from tallystick.ledger.postgres.copy_writing import NumberedStep, StepWriter
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.migrating import is_distributed


@contextmanager
def open_target(url: str, origin: str, now: int) -> Iterator[PostgresTarget]:
    """Begin a copy in a database without a ledger, or go on with the one in it; raises LedgerError if neither.

    From the first moment on the database says that it is not complete.
    """
    db = connected(url)
    try:
        with _asking(url):
            server.migrate(db, url, now)
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
    """One connection, by which steps are written with how far the copy is."""

    def __init__(self, url: str, db: Db, done: Unfinished) -> None:
        self.name = f"the database {server.named(url)}"
        self.done = done
        self._url = url
        self._db = db
        self._is_split = is_distributed(db)
        self._writer = StepWriter(db)

    def take(self, contents: Sequence[Content], done: Unfinished) -> None:
        steps, first = list[NumberedStep](), self.done.events + 1
        for number, content in enumerate(contents, self.done.steps + 1):
            steps.append(NumberedStep(number, first, content))
            first += len(content.raws) if isinstance(content, Committed) else 0
        with _asking(self._url):
            if self._is_split:
                self._take_apart(steps)
                steps = []
            self._take_together(steps, msgspec.structs.replace(done, changed=self.done.changed))

    def _take_together(self, steps: Sequence[NumberedStep], done: Unfinished) -> None:
        """Write steps, and how far the copy is then, as one transaction, with the catalog to ourselves."""
        with locks.transaction(self._db):
            locks.hold(self._db, locks.CATALOG)
            self._check()
            for step in steps:
                self._writer.write(step, step.accounts)
            copy_state.write(self._db, done)
        self.done = done

    def _check(self) -> None:
        if copy_state.read(self._db) != self.done:
            raise LedgerError(f"Another copy into {self.name} is under way. Stop one of them.")

    def _take_apart(self, steps: Sequence[NumberedStep]) -> None:
        """Write changes of the catalog, which every node has, and what is between them account by account."""
        for is_change, some in itertools.groupby(steps, lambda step: isinstance(step.content, Changed)):
            if is_change:
                self._change([step for step in some if step.number > self.done.changed])
                continue
            by_account: dict[int, list[NumberedStep]] = {}
            for step in some:
                for account in step.accounts:
                    by_account.setdefault(account, []).append(step)
            for account in sorted(by_account):
                self._take_of(account, by_account[account])

    def _change(self, steps: Sequence[NumberedStep]) -> None:
        if steps:
            self._take_together(steps, msgspec.structs.replace(self.done, changed=steps[-1].number))

    def _take_of(self, account: int, steps: Sequence[NumberedStep]) -> None:
        """Write an account's part of steps, and up to which of them it has it, as one transaction."""
        db = self._db
        with locks.transaction(db):
            locks.hold(db, locks.CATALOG, shared=True)
            self._check()
            log.heads(db, [account], lock=True)
            after = copy_state.marked(db, account)
            left = [step for step in steps if step.number > after]
            for step in left:
                self._writer.write(step, {account})
            if left:
                copy_state.mark(db, account, left[-1].number)

    def finish(self, key_uses: Mapping[str, int]) -> None:
        db = self._db
        with _asking(self._url), locks.transaction(db):
            if self.done.events:
                db.execute("SELECT setval('event_sequence', %s)", (self.done.events,))
            ((number, last),) = db.execute("SELECT max(number), max(recorded) FROM entry").fetchall()
            if number is not None:
                db.execute("SELECT setval('entry_number', %s)", (number,))
            db.execute(
                """INSERT INTO key_use SELECT * FROM unnest(%s::text[], %s::bigint[]) ON CONFLICT (key)
                DO UPDATE SET at = excluded.at""",
                (list(key_uses), list(key_uses.values())),
            )
            accounts = [account for (account,) in db.execute("SELECT account FROM head").fetchall()]
        with _asking(self._url):
            for some in [[account] for account in accounts] if self._is_split else [accounts]:
                with locks.transaction(db):
                    # From now on the clock never goes back behind what the log has seen, of whatever account.
                    log.move_clocks(db, some, last or 0)
                    copy_state.unmark(db, some)

    def complete(self) -> None:
        with _asking(self._url), locks.transaction(self._db):
            copy_state.clear(self._db)
