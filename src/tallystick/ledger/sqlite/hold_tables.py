"""Holds and crossed thresholds as they are kept: read and written set-wise, whatever the number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

import apsw
import msgspec

from tallystick.ledger.packed import hold_entries
from tallystick.ledger.packed.hold_entries import Crossed, KeptHold, Named, read_crossed, read_hold
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.sqlite.file import rows
from tallystick.model import Crossing, Hold, HoldQuery


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


def page(db: apsw.Connection, owner: int, query: HoldQuery, now: int) -> list[Hold]:
    """Return holds of an account in order, those that a query wants."""
    statement = "SELECT body FROM hold WHERE account = ? AND id > ? ORDER BY id"
    found: list[Hold] = []
    for (body,) in rows(db, statement, (owner, query.after or "")):
        hold = hold_entries.hold_of(read_hold(body), query.account)
        if query.state in (None, hold.state_at(now)):
            found.append(hold)
        if len(found) == query.limit:
            break
    return found


def store(db: apsw.Connection, holds: Mapping[Named, Hold]) -> None:
    """Write holds, each in place of what was kept of it; the index by id stays as it is then."""
    bodies = [_encoder.encode(hold_entries.kept(owner, hold)) for (owner, _), hold in holds.items()]
    starts = accumulate(map(len, bodies), initial=1)
    places = [
        (owner, id, hold.deadline if _is_unended(hold) else None, start, len(body))
        for ((owner, id), hold), start, body in zip(holds.items(), starts, bodies, strict=False)
    ]
    # One text of all bodies is cut up: quoted inside another JSON text, each would be read and written once more.
    db.execute(
        """INSERT INTO hold
        SELECT value ->> 0, value ->> 1, value ->> 2, CAST(substr(?1, value ->> 3, value ->> 4) AS TEXT)
        FROM json_each(?2) WHERE true
        ON CONFLICT (account, id) DO UPDATE SET ends = excluded.ends, body = excluded.body""",
        (b"".join(bodies), _json(places)),
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


def _is_unended(hold: Hold) -> bool:
    return hold.settlement is None and hold.released is None


_encoder = msgspec.json.Encoder()


def _json(value: object) -> str:
    return _encoder.encode(value).decode()
