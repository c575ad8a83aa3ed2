"""Whether an account has kept events: each commit's header names the accounts that are in it."""

from __future__ import annotations

from dataclasses import dataclass

import apsw
import msgspec

from tallystick.ledger.packed.segment import Owners, decoded
from tallystick.ledger.sqlite.file import EVENTS, rows

ENTRIES_READ_TOGETHER = 256


_owners = msgspec.msgpack.Decoder(Owners)


@dataclass(slots=True)
class Ownership:
    """Looks for an account's first event, as often as asked and never twice at one entry.

    So the whole log is read beside the writer, and inside its transaction only what came since.
    """

    account: int
    has_events: bool = False
    _through: int = 0

    def look(self, db: apsw.Connection) -> None:
        """Look at the entries after those that were looked at before."""
        statement = f"""SELECT entry, header FROM log WHERE kind = {EVENTS} AND entry > ?
            ORDER BY entry LIMIT {ENTRIES_READ_TOGETHER}"""
        while not self.has_events and (some := list(rows(db, statement, (self._through,)))):
            self._through = some[-1][0]
            self.has_events = any(self.account in _accounts(header) for _, header in some)


def _accounts(header: bytes) -> tuple[int, ...]:
    return decoded(_owners, header, "a segment's header cannot be read").accounts
