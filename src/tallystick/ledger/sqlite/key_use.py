"""When keys were used last: in memory at once, in the file within a minute or so. No part of the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import apsw
import msgspec

from tallystick.ledger.sqlite.file import rows


class KeyUses:
    """`latest` is written by the loop alone, at every request, and read by anyone."""

    def __init__(self, stored: Mapping[str, int]) -> None:
        self.latest = dict(stored)
        self._stored = dict(stored)

    def due(self, ids: Iterable[str]) -> dict[str, int]:
        """Return what the file does not have yet of the keys with these ids."""
        # One step for the interpreter, so the loop may go on writing.
        latest = self.latest.copy()
        return {id: latest[id] for id in ids if latest.get(id) != self._stored.get(id)}

    def mark_stored(self, uses: Mapping[str, int]) -> None:
        self._stored.update(uses)


def store(uses: Mapping[str, int], db: apsw.Connection) -> None:
    """Write last uses, as one statement."""
    db.execute(
        "INSERT OR REPLACE INTO key_use SELECT value ->> 0, value ->> 1 FROM json_each(?)",
        (msgspec.json.encode(list(uses.items())).decode(),),
    )


def load(db: apsw.Connection, ids: Iterable[str]) -> KeyUses:
    """Read what was stored of the keys with these ids, and drop the rest: those keys were revoked."""
    known = msgspec.json.encode(list(ids)).decode()
    db.execute("DELETE FROM key_use WHERE id NOT IN (SELECT value FROM json_each(?))", (known,))
    return KeyUses(dict(rows(db, "SELECT id, at FROM key_use")))
