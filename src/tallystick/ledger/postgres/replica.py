"""A database that is read and takes no writes, a replica mostly: how it stands, and what is refused of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from tallystick.errors import Code, Problem
from tallystick.ledger.postgres import copy_state, listing, reading, recounting, server
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.pool import Again, Pool, unavailable
from tallystick.ledger.vitals import Replica

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
RETRY_AFTER_S = 60
UNDER_WAY_S_MAX = 5.0
UNDER_WAY_WAIT_S = 0.005
UNKNOWN = Replica(None, is_promoted=False)

# Whatever has reached a replica is in its answers where it has replayed all that it was sent.
STANDING = """SELECT
    CASE WHEN NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()
            AND EXISTS (SELECT FROM pg_stat_wal_receiver)
        THEN 0::float8
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END,
    (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000)::bigint"""


class Watch(threading.Thread):
    """Looks about once a second how a database stands that this process only reads.

    `also` is done at every look, and told how many there were. What anyone may read: `standing`; `behind`, the instant
    up to which all is replayed where that is not all there is; `progress`, how far replays of meters are.
    """

    def __init__(
        self, pool: Pool, db: Db, catalog: CatalogLog, primary_url: str | None, also: Callable[[Db, int], None]
    ) -> None:
        super().__init__(name="tallystick-watch", daemon=True)
        self._pool = pool
        self._catalog = catalog
        self._primary_url = primary_url
        self._also = also
        self._closing = threading.Event()
        self._looks = 0
        self.standing = UNKNOWN
        self.behind: int | None = None
        self.progress: dict[recounting.Name, tuple[int, int]] = {}
        self._look_at(db)

    def stop(self) -> None:
        """Look no more."""
        self._closing.set()

    def run(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            self._looks += 1
            try:
                self._pool.run(self._look)
            except Problem as problem:
                self.standing = Replica(None, is_promoted=self.standing.is_promoted)
                log.warning("replica_not_seen", error=str(problem))
            except Exception:
                log.exception("look_failed")

    def _look(self, db: Db) -> None:
        self._look_at(db)
        for name, replay in self._catalog.refresh(db).catalog.replays.items():
            key = (name, replay.meters[0].epoch)
            self.progress[key] = recounting.progress(db, key)
        self._also(db, self._looks)

    def _look_at(self, db: Db) -> None:
        ((lag_s, replayed_to),) = db.execute(STANDING).fetchall()
        is_promoted = not server.is_read_only(db)
        if is_promoted and not self.standing.is_promoted:
            log.warning("database_takes_writes", what_to_do="start this process again, and it writes")
        self.behind = replayed_to if lag_s else None
        self.standing = Replica(lag_s, is_promoted=is_promoted)

    def refresh(self, db: Db) -> None:
        """Read the catalog; raises Problem where a whole ledger is being copied into the primary."""
        if copy_state.read(db) is not None:
            raise unavailable("A copy of a ledger is being made in this database, and is not complete.")
        self._catalog.refresh(db)

    def refusal(self) -> Problem:
        """Say why nothing is written here, and where it is."""
        elsewhere = self._primary_url or "a server on the primary"
        if self.standing.is_promoted:
            detail = f"The database takes writes by now: start this server again, or send it to {elsewhere}."
        else:
            detail = f"This server only reads a replica of the ledger. Send it to {elsewhere}."
        return Problem(Code.READ_ONLY, detail, retry_after_s=RETRY_AFTER_S)


def last_settled(db: Db) -> int:
    """Return a sequence up to which no event is still to appear, of no account; waits for what is under way.

    Who got a lower sequence than an event that is replayed had begun to write before that: it is over, or the replica
    knows it to be under way. There are no locks to ask here: whoever has them is elsewhere.
    """
    ((is_replica,),) = db.execute("SELECT pg_is_in_recovery()").fetchall()
    if not is_replica:
        return listing.last_settled(db)
    with reading.snapshot(db):
        ((last, known, age),) = db.execute(
            """SELECT (SELECT coalesce(max(sequence), 0) FROM head), pg_snapshot_xmax(pg_current_snapshot())::text,
            age('3'::xid)"""
        ).fetchall()
    # Transactions are counted in 64 bits, ages in 32.
    following = int(known) + (age + 3 - int(known)) % 2**32
    deadline = time.monotonic() + UNDER_WAY_S_MAX
    while _oldest_under_way(db) < following:
        if time.monotonic() > deadline:
            raise Again("a transaction on the primary is under way for long")
        time.sleep(UNDER_WAY_WAIT_S)
    return int(last)


def _oldest_under_way(db: Db) -> int:
    """Return the number of the oldest transaction that is not over, or of the one that comes next."""
    ((oldest,),) = db.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchall()
    return int(oldest)
