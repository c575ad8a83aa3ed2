"""What a process does that writes to its database: commits, changes of the catalog, and what is done behind them."""

from __future__ import annotations

from collections.abc import Callable

from tallystick.clock import Clock
from tallystick.ledger.postgres import resource_tables
from tallystick.ledger.postgres.catalog_log import CatalogLog
from tallystick.ledger.postgres.committing import Committer
from tallystick.ledger.postgres.folding import Folder
from tallystick.ledger.postgres.lanes import Lane, Lanes, Room, Tally
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.pool import Pool
from tallystick.ledger.postgres.recounting import Recounter
from tallystick.ledger.postgres.series import SeriesCache
from tallystick.settings import Settings

CHANGERS = 1
GROUP_BYTES_PER_MS = 512 * 1024
"""What one transaction may gather for each millisecond of commit_ms_max: a server is further away than a file."""


class Writing:
    """Its threads and connections, from the first to the last; what they share with readers is given to them.

    `also` is done about once a second, and told how often it was.
    """

    def __init__(
        self,
        url: str,
        settings: Settings,
        clock: Clock,
        secret: int,
        catalog: CatalogLog,
        cache: SeriesCache,
        tally: Tally,
        also: Callable[[Db, int], None],
        *,
        is_split: bool,
    ) -> None:
        self.room = Room(settings.queue_bytes_max)
        self.changers = Pool(url, "changer", CHANGERS)
        self.changers_beside = Pool(url, "changer-beside", CHANGERS)
        self._behind = Pool(url, "behind", 1)

        def lane(name: str) -> Lane:
            load, store = resource_tables.load, resource_tables.store
            committer = Committer(catalog, cache, settings, secret, clock, load, store)
            bytes_max = settings.commit_ms_max * GROUP_BYTES_PER_MS
            return Lane(name, url, committer, self.room, tally, bytes_max, is_split=is_split)

        self.lanes = Lanes(lane, is_split=is_split)
        self.recounter = Recounter(self._behind, catalog, cache, clock)
        self._folder = Folder(self._behind, cache, also)
        for thread in (self.recounter, self._folder):
            thread.start()

    def close(self) -> None:
        """Commit what was taken, then end."""
        self.recounter.stop()
        self._folder.stop()
        self.lanes.close()
        self.recounter.join()
        self._folder.join()
        for pool in (self.changers, self.changers_beside, self._behind):
            pool.close()
