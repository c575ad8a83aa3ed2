"""When keys were used last: in memory at once, in the database within a minute or so. No part of the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tallystick.ledger.postgres.locks import Db


class KeyUses:
    """`latest` is written by the loop alone, at every request, and read by anyone."""

    def __init__(self, db: Db) -> None:
        self._stored: dict[str, int] = {}
        self.latest: dict[str, int] = {}
        self.read(db)

    def store(self, db: Db, ids: Iterable[str]) -> None:
        """Write what the database does not have yet of the keys with these ids, and read what others have noted."""
        latest = self.latest.copy()
        due = {id: latest[id] for id in sorted(ids) if latest.get(id) != self._stored.get(id)}
        if due:
            db.execute(
                """INSERT INTO key_use SELECT * FROM unnest(%s::text[], %s::bigint[]) ON CONFLICT (key)
                DO UPDATE SET at = greatest(key_use.at, excluded.at)""",
                (list(due), list(due.values())),
            )
        self.read(db)

    def read(self, db: Db) -> None:
        """Read what others have noted."""
        self._stored = dict(db.execute("SELECT key, at FROM key_use").fetchall())
        for id, at in self._stored.items():
            self.latest[id] = max(at, self.latest.get(id, at))


def forget_others(db: Db, ids: Sequence[str]) -> None:
    """Forget the uses of keys that were revoked, given those that were not."""
    db.execute("DELETE FROM key_use WHERE key <> ALL(%s)", (list(ids),))
