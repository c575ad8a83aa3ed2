"""Holds and crossed thresholds as they are kept: read and written set-wise, whatever the number.

Rows of holds are written behind the log, and a mark says how far they are; crossed thresholds are written with their
entry.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import apsw
import msgspec

from tallystick.ledger.packed import hold_entries
from tallystick.ledger.packed.hold_entries import Crossed, KeptHold, Named, read_crossed, read_hold
from tallystick.ledger.packed.segment import Damaged, decoded
from tallystick.ledger.sqlite.file import row, rows
from tallystick.model import Crossing, Hold, HoldQuery

MARK = "holds_through"


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Up to which entry of the log the rows of holds tell what it says.

    While some are written, in the order of their accounts and ids, the rows up to `owner` and `id` tell what it says up
    to the entry `further`.
    """

    through: int
    further: int
    owner: int = 0
    id: str = ""

    @classmethod
    def at(cls, entry: int) -> Mark:
        """Return the mark of rows that all are as far."""
        return cls(entry, entry)

    @property
    def is_at_rest(self) -> bool:
        return self.through == self.further

    def of(self, name: Named) -> int:
        """Return how far the row of a hold is."""
        return self.further if name <= (self.owner, self.id) else self.through


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of holds, ready to be written: all bodies behind one another, and where each begins and what it is of."""

    bodies: bytes
    places: str


def mark(db: apsw.Connection) -> Mark:
    """Return how far the rows of holds are."""
    (value,) = row(db, "SELECT value FROM meta WHERE name = ?", (MARK,))
    return decoded(_mark, value, "how far the rows of holds are cannot be read")


def move(db: apsw.Connection, mark: Mark) -> None:
    """Note how far the rows of holds are now."""
    db.execute("UPDATE meta SET value = ? WHERE name = ?", (_json(mark), MARK))


def find(db: apsw.Connection, wanted: Iterable[Named]) -> dict[Named, KeptHold]:
    """Return those of some holds that there are."""
    statement = """SELECT h.account, h.id, h.body FROM json_each(?) w
        JOIN hold h ON h.account = w.value ->> 0 AND h.id = w.value ->> 1"""
    found = rows(db, statement, (_json(sorted(set(wanted))),))
    return {(account, id): read_hold(body) for account, id, body in found}


def owners(db: apsw.Connection, id: str) -> set[int]:
    """Return the numbers of the accounts that have a hold of an id."""
    return {account for (account,) in rows(db, "SELECT account FROM hold WHERE id = ?", (id,))}


def ending_after(db: apsw.Connection, now: int) -> Iterator[tuple[Named, KeptHold]]:
    """Yield the holds that are open at an instant."""
    for account, id, body in rows(db, "SELECT account, id, body FROM hold WHERE ends > ?", (now,)):
        yield (account, id), read_hold(body)


def page(db: apsw.Connection, owner: int, query: HoldQuery, now: int, unwritten: Mapping[str, Hold]) -> list[Hold]:
    """Return holds of an account in order, those that a query wants; `unwritten` are not what their rows say."""
    after = query.after or ""
    written = rows(db, "SELECT id, body FROM hold WHERE account = ? AND id > ? ORDER BY id", (owner, after))
    others = ((id, None) for id in sorted(unwritten) if id > after)
    found: list[Hold] = []
    for id, body in heapq.merge(others, written, key=itemgetter(0)):
        if body is not None and id in unwritten:
            continue
        hold = unwritten[id] if body is None else hold_entries.hold_of(read_hold(body), query.account)
        if query.state in (None, hold.state_at(now)):
            found.append(hold)
        if len(found) == query.limit:
            break
    return found


def pack(holds: Mapping[Named, Hold]) -> Packed:
    """Make rows of holds."""
    bodies: list[bytes] = []
    places: list[tuple[int, str, int | None, int, int]] = []
    start = 1
    for (owner, id), hold in holds.items():
        body = _encoder.encode(hold_entries.kept(owner, hold))
        is_ended = hold.settlement is not None or hold.released is not None
        places.append((owner, id, None if is_ended else hold.deadline, start, len(body)))
        bodies.append(body)
        start += len(body)
    # One text of all bodies is cut up: quoted inside another JSON text, each would be read and written once more.
    return Packed(b"".join(bodies), _json(places))


def store(db: apsw.Connection, packed: Packed) -> None:
    """Write holds, each in place of what was kept of it; the index by id stays as it is then."""
    db.execute(
        """INSERT INTO hold
        SELECT value ->> 0, value ->> 1, value ->> 2, CAST(substr(?1, value ->> 3, value ->> 4) AS TEXT)
        FROM json_each(?2) WHERE true
        ON CONFLICT (account, id) DO UPDATE SET ends = excluded.ends, body = excluded.body""",
        (packed.bodies, packed.places),
    )


def note(db: apsw.Connection, crossings: Sequence[Crossed]) -> None:
    """Write crossed thresholds behind those that there are."""
    db.execute(
        "INSERT INTO crossing (limit_id, body) SELECT value ->> 0, value ->> 1 FROM json_each(?)",
        (_json([(each.limit, each) for each in crossings]),),
    )


def forget(db: apsw.Connection, limits: Sequence[str]) -> None:
    """Delete the crossed thresholds of limits that are no more."""
    db.execute("DELETE FROM crossing WHERE limit_id IN (SELECT value FROM json_each(?))", (_json(limits),))


def crossings(db: apsw.Connection, limit: str) -> list[Crossing]:
    """Return the crossed thresholds of a limit in order."""
    found = rows(db, "SELECT body FROM crossing WHERE limit_id = ? ORDER BY id", (limit,))
    return [hold_entries.crossing_of(read_crossed(body)) for (body,) in found]


def everything(db: apsw.Connection) -> tuple[dict[Named, KeptHold], list[Crossed]]:
    """Read all there is, for the proof."""
    holds: dict[Named, KeptHold] = {}
    for account, id, ends, body in rows(db, "SELECT account, id, ends, body FROM hold"):
        kept = read_hold(body)
        is_ended = kept.released is not None or kept.settlement is not None
        if (kept.made.owner, kept.made.id, ends) != (account, id, None if is_ended else kept.made.deadline):
            raise Damaged(f"hold {id!r} of account {account} is kept in the wrong place")
        holds[account, id] = kept
    return holds, [read_crossed(body) for (body,) in rows(db, "SELECT body FROM crossing ORDER BY id")]


_encoder = msgspec.json.Encoder()
_mark = msgspec.json.Decoder(Mark)


def _json(value: object) -> str:
    return _encoder.encode(value).decode()
