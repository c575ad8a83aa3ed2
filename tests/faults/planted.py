"""Bugs planted into the ledger: `python -m tests.faults.planted BUG|none CHECK FOLDER` says what a check finds.

Each runs in a process of its own: nothing has to be put back, and a ledger may end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
from msgspec.structs import replace

from tallystick import rollup
from tallystick.ledger import verdicts
from tallystick.ledger.packed.hold_entries import Named
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite import commit, file, hold_tables, job, judging, keeper, order, screener, tail, unwritten
from tallystick.ledger.sqlite.hold_tables import Mark
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.tail import Overlay
from tallystick.ledger.sqlite.unwritten import Unwritten
from tallystick.ledger.sqlite.writer import Writer
from tallystick.model import Hold, Verdict
from tallystick.rollup import Cells, Ints
from tests.faults import checks
from tests.faults.holding import held
from tests.faults.hurry import hurry
from tests.spoken import say


def ack_before_commit() -> None:
    """Answer clients when the rows are inserted, before the COMMIT that makes them durable."""
    write = commit.Group.write

    def hasty(self: commit.Group, db: apsw.Connection) -> None:
        write(self, db)
        for each in (caller for waiting in self.jobs for caller in waiting.callers):
            each.future.get_loop().call_soon_threadsafe(job.set_results, [each])

    put(commit.Group, "write", hasty)


def identity_claimed_before_the_write() -> None:
    """Remember an identity as taken when its event is first seen, whatever becomes of the write."""
    screen, claimed = judging.screen, set[tuple[str, str, str]]()

    def claiming(job: Job, *rest: Any) -> None:
        screen(job, *rest)
        batch, alive = job.batch, np.ones(len(job.rows), np.bool_)
        for row, index in enumerate(job.rows.tolist()):
            identity = (batch.account[index], batch.source[index], batch.id[index])
            if identity in claimed:
                job.verdicts[index], alive[row] = verdicts.duplicate(metered=True), False
            claimed.add(identity)
        job.keep(alive)

    put(screener, "screen", claiming)


def rollup_folded_twice_after_a_restart() -> None:
    """Forget at a restart how far the rollups were folded, and fold all of it again."""
    load = tail._load_overlay

    def forgetful(db: apsw.Connection) -> Overlay:
        db.execute("DELETE FROM folded WHERE account <> 0; UPDATE folded SET through = 0")
        return load(db)

    put(tail, "_load_overlay", forgetful)


def rollup_not_folded_after_a_restart() -> None:
    """Take the rollups for complete at a restart, which finds them far behind the log."""
    put(keeper, "FOLD_CELLS", 10**9)
    load = tail._load_overlay
    put(tail, "_load_overlay", lambda db: replace(load(db), frozen=(), active=()))


def synchronous_normal() -> None:
    """Leave the syncing of the WAL to the checkpoints."""
    connect = file.connect

    def careless(*arguments: Any, **options: Any) -> apsw.Connection:
        db = connect(*arguments, **options)
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    put(file, "connect", careless)


def retry_on_a_handle_that_failed() -> None:
    """Go on with the connection whose sync has failed."""

    def stubborn(self: Writer, db: apsw.Connection) -> apsw.Connection:
        with contextlib.suppress(apsw.Error):
            db.execute("ROLLBACK")
        self._recover(db)
        return db

    put(Writer, "_reopen", stubborn)


def truncate_on_a_bad_end() -> None:
    """Drop the last entry of the log when it does not fit the one before, as logs that are only caches do.

    Rows of holds are said to be no further than what is left: a ledger whose rows are is refused.
    """
    check = tail._check_end

    def cutting(db: apsw.Connection) -> tuple[int, bytes]:
        try:
            return check(db)
        except Damaged:
            drop = "DELETE FROM log WHERE entry = (SELECT max(entry) FROM log) RETURNING entry, first"
            ((entry, first),) = db.execute(drop)
            db.execute("DELETE FROM frame WHERE first >= ?", (first,))
            hold_tables.move(db, Mark.at(entry - 1))
            return cutting(db)

    put(tail, "_check_end", cutting)


def hits_not_confirmed() -> None:
    """Believe a fingerprint without looking at the event that it stands for."""

    def believing(job: Job, row: int, kept: object) -> Verdict:
        return verdicts.duplicate(metered=job.batch.is_metered(int(job.rows[row])))

    for module in (judging, order):
        put(module, "judge", believing)


def float_sums() -> None:
    """Add up as doubles."""
    reduce = rollup._reduce

    def rounded(key: Ints, column: Callable[[int], Ints], dated: bool) -> Cells:
        exact = reduce(key, column, dated)
        pairs = zip(exact.high.tolist(), exact.low.tolist(), strict=True)
        sums = [int(float((high << rollup.LOW_BITS) + low)) for high, low in pairs]
        high = np.array([total >> rollup.LOW_BITS for total in sums], np.int64)
        return replace(exact, high=high, low=np.array([total & rollup.LOW_MASK for total in sums], np.int64))

    put(rollup, "_reduce", rounded)


def holds_said_to_be_written_before_they_are() -> None:
    """Move the mark of the rows of holds to its end with the first of them."""
    slices = Unwritten.slices

    def hasty(self: Unwritten, size: int) -> Iterator[tuple[dict[Named, Hold], Mark]]:
        yield from ((holds, Mark.at(mark.further)) for holds, mark in list(slices(self, size)))

    put(Unwritten, "slices", hasty)


def holds_not_read_from_the_log_after_a_restart() -> None:
    """Take the rows of holds for complete at a restart, which finds them behind the log."""
    put(unwritten, "load", lambda db, names, last: Unwritten(Mark.at(last)))


BUGS: dict[str, tuple[Callable[[], None], checks.Check]] = {
    "ack before commit": (ack_before_commit, checks.power_cuts),
    "identity claimed before the write": (identity_claimed_before_the_write, checks.failed_syncs),
    "rollup folded twice after a restart": (rollup_folded_twice_after_a_restart, checks.restarts),
    "rollup not folded after a restart": (rollup_not_folded_after_a_restart, checks.restarts),
    "synchronous NORMAL": (synchronous_normal, checks.power_cuts),
    "retry on a handle that failed": (retry_on_a_handle_that_failed, checks.failed_syncs),
    "truncate on a bad end": (truncate_on_a_bad_end, checks.rotten_end),
    "hits not confirmed": (hits_not_confirmed, checks.collisions),
    "float sums": (float_sums, checks.long_sums),
    "holds said to be written before they are": (holds_said_to_be_written_before_they_are, held),
    "holds not read from the log after a restart": (holds_not_read_from_the_log_after_a_restart, held),
}
CHECKS: dict[str, checks.Check] = {check.__name__: check for _, check in BUGS.values()}


def put(owner: object, name: str, value: object) -> None:
    """Replace what must be there: a bug planted beside the code would be caught by nothing."""
    assert hasattr(owner, name), f"{owner} has no {name} any more"
    setattr(owner, name, value)


if __name__ == "__main__":
    hurry()
    if sys.argv[1] in BUGS:
        BUGS[sys.argv[1]][0]()
    for flaw in asyncio.run(CHECKS[sys.argv[2]](Path(sys.argv[3]))):
        say("flaw", flaw.replace("\n", " "))
    say("examined")
