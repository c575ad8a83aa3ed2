"""Holds, crossed thresholds and the counters of limits as they are kept: read and written set-wise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from tallystick.ledger.packed import hold_entries
from tallystick.ledger.packed.counters import Counter, Counters, definition_of
from tallystick.ledger.packed.hold_entries import Crossed, KeptHold, Named, read_crossed, read_hold
from tallystick.ledger.packed.segment import Damaged
from tallystick.ledger.postgres import shards
from tallystick.ledger.postgres.locks import Db
from tallystick.ledger.postgres.pool import Again
from tallystick.model import Catalog, Crossing, Hold, HoldQuery

PAGE = 200


@dataclass(frozen=True, slots=True)
class Found:
    """A hold as it is kept, and whether counters still have what it holds."""

    hold: KeptHold
    is_counted: bool


def find(db: Db, owners: Sequence[int], wanted: Iterable[Named], now: int) -> dict[Named, Found]:
    """Return some holds, and all of these accounts that have expired and are still counted."""
    if not owners:
        return {}
    names = sorted(set(wanted))
    which, named = shards.among(owners)
    statement = f"""SELECT account, id, ends IS NOT NULL, body FROM hold WHERE account {which} AND ends <= %s
        UNION SELECT h.account, h.id, h.ends IS NOT NULL, h.body
        FROM unnest(%s::bigint[], %s::text[]) w (account, id) JOIN hold h ON h.account = w.account AND h.id = w.id
        WHERE h.account {which}"""
    found = db.execute(statement, (named, now, [a for a, _ in names], [id for _, id in names], named))
    return {(account, id): Found(read_hold(body), counted) for account, id, counted, body in found}


def one(db: Db, owner: int, id: str) -> KeptHold | None:
    """Return the hold of an id."""
    found = db.execute("SELECT body FROM hold WHERE account = %s AND id = %s", (owner, id)).fetchall()
    return read_hold(found[0][0]) if found else None


def counted(db: Db, owner: int) -> list[KeptHold]:
    """Return the holds of an account that counters have."""
    found = db.execute("SELECT body FROM hold WHERE account = %s AND ends IS NOT NULL", (owner,))
    return [read_hold(body) for (body,) in found]


def counted_by_id(db: Db, owner: int) -> Iterator[tuple[str, KeptHold]]:
    """Yield the holds of an account that counters have, with their ids."""
    return ((kept.made.id, kept) for kept in counted(db, owner))


def open_at(db: Db, owners: Sequence[int], now: int) -> Iterator[tuple[int, KeptHold]]:
    """Yield the holds of accounts that are open at an instant."""
    which, named = shards.among(owners)
    for owner, body in db.execute(f"SELECT account, body FROM hold WHERE account {which} AND ends > %s", (named, now)):
        yield owner, read_hold(body)


def owners(db: Db, id: str) -> set[int]:
    """Return the numbers of the accounts that have a hold of an id."""
    return {account for (account,) in db.execute("SELECT account FROM hold WHERE id = %s", (id,))}


def page(db: Db, owner: int, query: HoldQuery, now: int) -> list[Hold]:
    """Return holds of an account in order, those that a query wants."""
    found: list[Hold] = []
    after = query.after or ""
    while True:
        statement = "SELECT id, body FROM hold WHERE account = %s AND id > %s ORDER BY id LIMIT %s"
        rows = db.execute(statement, (owner, after, PAGE)).fetchall()
        for _, body in rows:
            hold = hold_entries.hold_of(read_hold(body), query.account)
            if query.state in (None, hold.state_at(now)):
                found.append(hold)
            if len(found) == query.limit:
                return found
        if len(rows) < PAGE:
            return found
        after = rows[-1][0]


def store(db: Db, holds: Mapping[Named, Hold], is_open: Mapping[Named, bool]) -> None:
    """Write holds, each in place of what was kept of it."""
    rows = [
        (owner, id, hold.deadline if is_open[owner, id] else None, _text(hold_entries.kept(owner, hold)))
        for (owner, id), hold in holds.items()
    ]
    db.execute(
        """INSERT INTO hold (account, id, ends, body)
        SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[])
        ON CONFLICT (account, id) DO UPDATE SET ends = EXCLUDED.ends, body = EXCLUDED.body""",
        _columns(rows),
    )


def let_go(db: Db, names: Sequence[Named]) -> None:
    """Note that counters do not have expired holds any more."""
    of_one, owner = shards.only("hold.account", [account for account, _ in names])
    db.execute(
        f"""UPDATE hold SET ends = NULL FROM unnest(%s::bigint[], %s::text[]) w (account, id)
        WHERE hold.account = w.account AND hold.id = w.id{of_one}""",
        (*_columns(names), *owner),
    )


# Crossed thresholds


def crossed(db: Db, owners: Sequence[int]) -> dict[str, frozenset[tuple[int, int]]]:
    """Return which thresholds of the limits of accounts were noted, with the beginning of their period."""
    noted: dict[str, set[tuple[int, int]]] = {}
    which, named = shards.among(owners)
    statement = f"SELECT limit_id, threshold, start FROM crossing WHERE account {which}"
    for limit, threshold, start in db.execute(statement, (named,)):
        noted.setdefault(limit, set()).add((threshold, start))
    return {limit: frozenset(some) for limit, some in noted.items()}


def note(db: Db, positions: Mapping[int, int], changes: Sequence[tuple[int, Crossed]]) -> None:
    """Write crossed thresholds, given with their places in the entries at `positions` by account."""
    rows = [
        (each.owner, each.limit, each.threshold, each.start, positions[each.owner], place, _text(each))
        for place, each in changes
    ]
    db.execute(
        """INSERT INTO crossing (account, limit_id, threshold, start, position, place, body)
        SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::int[],
            %s::text[])""",
        _columns(rows),
    )


def crossings(db: Db, owner: int, limit: str) -> list[Crossing]:
    """Return the crossed thresholds of a limit in order."""
    statement = "SELECT body FROM crossing WHERE account = %s AND limit_id = %s ORDER BY position, place"
    return [hold_entries.crossing_of(read_crossed(body)) for (body,) in db.execute(statement, (owner, limit))]


def forget(db: Db, owner: int, limit: str, *, crossings: bool) -> None:
    """Forget what is used of a limit whose definition changes, and the thresholds of one that is no more."""
    for table in ("counter", *(["crossing"] if crossings else [])):
        db.execute(f"DELETE FROM {table} WHERE account = %s AND limit_id = %s", (owner, limit))


def everything(db: Db, owner: int) -> tuple[dict[Named, KeptHold], list[Crossed]]:
    """Read all there is of an account, for the proof."""
    holds: dict[Named, KeptHold] = {}
    for id, ends, body in db.execute("SELECT id, ends, body FROM hold WHERE account = %s", (owner,)):
        kept = read_hold(body)
        is_ended = kept.released is not None or kept.settlement is not None
        right = (None,) if is_ended else (None, kept.made.deadline)
        if (kept.made.owner, kept.made.id) != (owner, id) or ends not in right:
            raise Damaged(f"hold {id!r} of account {owner} is kept in the wrong place")
        holds[owner, id] = kept
    statement = "SELECT body FROM crossing WHERE account = %s ORDER BY position, place"
    return holds, [read_crossed(body) for (body,) in db.execute(statement, (owner,))]


# Counters


@dataclass(slots=True)
class KeptCounters:
    """The counters of some accounts as they were read, to see afterwards what became of them."""

    counters: Counters
    was: dict[tuple[int, str], tuple[int, ...]]
    stale: list[Named]


def load(db: Db, owners: Sequence[int], catalog: Catalog) -> KeptCounters:
    """Read the counters of accounts, those that still count what their limits do."""
    kept = KeptCounters(Counters(), {}, [])
    which, named = shards.among(owners)
    statement = f"""SELECT account, limit_id, definition, start, ends, used, held, has_later
        FROM counter WHERE account {which}"""
    for owner, id, definition, start, end, used, held, has_later in db.execute(statement, (named,)).fetchall():
        limit = catalog.limits.get(id)
        due = None if limit is None or limit.meter not in catalog.meters else definition_of(limit, owner, catalog)
        if limit is None or due is None or _text(due) != definition:
            kept.stale.append((owner, id))
            continue
        counter = Counter(limit, due, start, end, int(used), int(held), has_later)
        kept.counters.put(owner, counter)
        kept.was[owner, id] = _state(counter)
    return kept


def save(db: Db, kept: KeptCounters) -> None:
    """Write the counters that are new or changed; raises Again where somebody changed one meanwhile."""
    fresh: list[tuple[Any, ...]] = []
    moved: list[tuple[Any, ...]] = []
    for owner, counter in kept.counters.all():
        was = kept.was.get((owner, counter.limit.id))
        if was is None:
            fresh.append((owner, counter.limit.id, _text(counter.definition), *_state(counter)))
        elif was != _state(counter):
            moved.append((owner, counter.limit.id, *_state(counter), *was[:4]))
    gone = [name for name in kept.stale if name not in {(row[0], row[1]) for row in fresh}]
    if gone:
        of_one, owners = shards.only("counter.account", [owner for owner, _ in gone])
        db.execute(
            f"""DELETE FROM counter USING unnest(%s::bigint[], %s::text[]) w (account, limit_id)
            WHERE counter.account = w.account AND counter.limit_id = w.limit_id{of_one}""",
            (*_columns(gone), *owners),
        )
    if fresh:
        db.execute(
            """INSERT INTO counter (account, limit_id, definition, start, ends, used, held, has_later)
            SELECT account, limit_id, definition, start, ends, used, held, has_later <> 0
            FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::numeric[], %s::numeric[],
                %s::int[]) w (account, limit_id, definition, start, ends, used, held, has_later)
            ON CONFLICT (account, limit_id) DO UPDATE SET definition = EXCLUDED.definition, start = EXCLUDED.start,
                ends = EXCLUDED.ends, used = EXCLUDED.used, held = EXCLUDED.held, has_later = EXCLUDED.has_later""",
            _columns(fresh),
        )
    if moved:
        of_one, owners = shards.only("counter.account", [row[0] for row in moved])
        # On condition that each is what was decided by, whoever forgot a lock.
        cursor = db.execute(
            f"""UPDATE counter SET start = w.start, ends = w.ends, used = w.used, held = w.held,
                has_later = w.has_later <> 0
            FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::numeric[], %s::numeric[], %s::int[],
                %s::bigint[], %s::bigint[], %s::numeric[], %s::numeric[])
                w (account, limit_id, start, ends, used, held, has_later, was_start, was_ends, was_used, was_held)
            WHERE counter.account = w.account AND counter.limit_id = w.limit_id AND counter.start = w.was_start
                AND counter.ends = w.was_ends AND counter.used = w.was_used AND counter.held = w.was_held{of_one}""",
            (*_columns(moved), *owners),
        )
        if cursor.rowcount != len(moved):
            raise Again("what is left of a limit changed meanwhile")


def _state(counter: Counter) -> tuple[int, ...]:
    return (counter.start, counter.end, counter.used, counter.held, int(counter.has_later))


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return rows as columns; numbers past int64 go as text, which is cast."""
    return [[_plain(value) for value in column] for column in zip(*rows, strict=True)]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.integer) else value


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
