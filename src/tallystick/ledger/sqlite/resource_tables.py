"""Resources, spaces and what was counted once, as they are kept: read and written set-wise, whatever the number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import apsw
import msgspec

from tallystick.envelope import number
from tallystick.ledger.packed.living import Counted, Living, Named, Recorded
from tallystick.ledger.packed.tables import Table, recorded_of
from tallystick.ledger.sqlite.file import row, rows
from tallystick.model import Change, LiveQuery, LiveResource, LiveSpace, Record, RecordPage, RecordQuery, ResourceQuery
from tallystick.resources import Resource, Space, containers_of

COLUMNS = "account, space, kind, id, time, source, event, ends, state"
_state_encoder = msgspec.json.Encoder(decimal_format="number")
_state_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=number)
_Months = dict[int, int]
_Counts = dict[str, tuple[int, int]]
_SpaceTexts = tuple[tuple[int, ...], _Months, dict[str, _Months], _Counts, _Counts]
_space_decoder = msgspec.json.Decoder(_SpaceTexts)
_spaces_decoder = msgspec.json.Decoder(list[_SpaceTexts])
SPACES_DECODED_TOGETHER = 500
"""About a millisecond's; then other threads get their turn."""


def load(db: apsw.Connection, wanted: Iterable[Named], once: Iterable[Counted]) -> Living:
    """Read resources and their spaces, and what was counted of resources."""
    living = Living(partial(newer, db))
    names = sorted(set(wanted))
    columns = ", ".join(f"r.{column}" for column in COLUMNS.split(", "))
    statement = f"""SELECT {columns} FROM json_each(?) w JOIN resource r ON r.account = w.value ->> 0
        AND r.space = w.value ->> 1 AND r.kind = w.value ->> 2 AND r.id = w.value ->> 3"""
    living.resources.update(_resource(row) for row in rows(db, statement, (_json(names),)))
    statement = """SELECT s.* FROM json_each(?) w JOIN space s ON s.account = w.value ->> 0
        AND s.space = w.value ->> 1"""
    places = sorted({(name.account, name.space) for name in names})
    living.spaces.update(_space(row) for row in rows(db, statement, (_json(places),)))
    keys = [(*key.resource, key.meter, key.epoch) for key in set(once)]
    if keys:
        statement = """SELECT c.account, c.space, c.kind, c.id, c.meter, c.epoch, c.value FROM json_each(?) w
            JOIN counted_once c ON c.account = w.value ->> 0 AND c.space = w.value ->> 1 AND c.kind = w.value ->> 2
            AND c.id = w.value ->> 3 AND c.meter = w.value ->> 4 AND c.epoch = w.value ->> 5"""
        living.once.update(_counted(row) for row in rows(db, statement, (_json(keys),)))
    return living


def newer(db: apsw.Connection, account: int, space: str, than: int) -> Iterator[Resource]:
    """Yield the resources of a space that something newer than an instant is known of."""
    statement = f"SELECT {COLUMNS} FROM resource WHERE account = ? AND space = ? AND newest > ?"
    return (resource for _, resource in map(_resource, rows(db, statement, (account, space, than))))


def store(db: apsw.Connection, living: Living) -> None:
    """Write what there is of resources, spaces and counting once, in place of what was kept of the same."""
    if living.resources:
        db.execute(
            f"""INSERT OR REPLACE INTO resource ({COLUMNS}, newest) SELECT value ->> 0, value ->> 1, value ->> 2,
            value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9
            FROM json_each(?)""",
            (_json([_row(name, resource) for name, resource in living.resources.items()]),),
        )
    if living.spaces:
        db.execute(
            """INSERT OR REPLACE INTO space SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
            value ->> 5, value ->> 6, value ->> 7 FROM json_each(?)""",
            (_json([(*place, *_space_row(space)) for place, space in living.spaces.items()]),),
        )
    if living.once:
        db.execute(
            """INSERT OR REPLACE INTO counted_once SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3,
            value ->> 4, value ->> 5, value ->> 6 FROM json_each(?)""",
            (_json([(*key.resource, key.meter, key.epoch, value) for key, value in living.once.items()]),),
        )

    if living.records:
        rows_of = [
            (*key, change.space, change.kind, change.id, _state_encoder.encode(change.state).decode())
            for key, change in living.records.items()
        ]
        db.execute(
            """INSERT INTO record SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
            value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9 FROM json_each(?)""",
            (_json(rows_of),),
        )


def everything(db: apsw.Connection) -> Living:
    """Read all there is, for the proof."""
    living = Living(partial(newer, db))
    for table in TABLES:
        table.take(living, rows(db, f"SELECT {table.columns} FROM {table.name}"))
    return living


def page(
    db: apsw.Connection, table: Table, after: Sequence[Any] | None, count: int
) -> tuple[Living, Sequence[Any]] | None:
    """Read rows of one table behind a key (None = from the first), and say the last one's key; None = no more."""
    living = Living(partial(newer, db))
    last = table.page(living, after, count, "?", partial(rows, db))
    return None if last is None else (living, last)


def records(db: apsw.Connection, account: int, epoch: int, query: RecordQuery) -> RecordPage:
    """Return some of the records of an account and a meter since its epoch, and how many there are."""
    bounds = (account, query.meter, epoch, query.start, query.end)
    where = "FROM record WHERE account = ? AND meter = ? AND epoch = ? AND time >= ? AND time < ?"
    (total,) = row(db, f"SELECT count(*) {where}", bounds)
    columns = "time, source, event, space, kind, id, state"
    statement = f"SELECT {columns} {where} ORDER BY time, source, event LIMIT ? OFFSET ?"
    return RecordPage([_record(said) for said in rows(db, statement, (*bounds, query.limit, query.offset))], total)


def _record(said: Sequence[Any]) -> Record:
    time, source, event, space, kind, id, state = said
    return Record(time, source, event, space, kind, id, _state_decoder.decode(state))


def live_spaces(db: apsw.Connection, account: int, query: LiveQuery) -> list[LiveSpace]:
    """Return the spaces of an account that were ever made or deleted, by name, with what is in them."""
    statement = """SELECT * FROM space WHERE account = ?1 AND (?2 IS NULL OR space = ?2)
        AND (made_in <> '{}' OR closed_in <> '{}' OR live <> '{}') ORDER BY space"""
    found: list[LiveSpace] = []
    kept = rows(db, statement, (account, query.space))
    while some := list(islice(kept, SPACES_DECODED_TOGETHER)):
        texts = ",".join([f"[{','.join(row[3:])}]" for row in some])
        for (_, name, *_), (closes, closed_in, made_in, live, closed) in zip(
            some, _spaces_decoder.decode(f"[{texts}]"), strict=True
        ):
            found.append(LiveSpace(name, containers_of(closes, made_in), closed_in, made_in, live, closed))
    return found


def live_resources(db: apsw.Connection, account: int, query: ResourceQuery) -> list[LiveResource]:
    """Return resources that exist, in order; a space or dataset that its contents made is among them."""
    bounds = (account, query.space, query.kind, query.id, *(query.after or ("", "", "")), query.limit)
    names: tuple[str, ...] = ()
    named = ""
    if query.names is not None:
        names = (_json(query.names),)
        named = " AND (space, kind, id) IN (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?9))"
    # A container is named by its space, so that those without a row of their own are found beside the rest.
    statement = f"""
        SELECT {COLUMNS}, closes FROM resource LEFT JOIN space USING (account, space)
        WHERE account = ?1{_equal(query, "space", "kind", "id")}{named}
            AND (space, kind, id) > (?5, ?6, ?7) AND ends = '[]' AND time > coalesce(closes ->> '$[#-1]', time - 1)
        ORDER BY space, kind, id LIMIT ?8"""
    found = {
        (name.space, name.kind, name.id): LiveResource(
            name.space, name.kind, name.id, resource.latest[0], resource.state
        )
        for name, resource in (_resource(row[:-1]) for row in rows(db, statement, (*bounds, *names)))
        if resource.latest is not None
    }
    for made in _made(db, account, query):
        found.setdefault((made.space, made.kind, made.id), made)
    return [found[key] for key in sorted(found)][: query.limit]


def _equal(query: ResourceQuery, *columns: str) -> str:
    """Compare only what was asked for: a condition that may be about nothing keeps SQLite from its index."""
    return "".join(
        f" AND {column} = ?{place}" for place, column in enumerate(columns, 2) if getattr(query, column) is not None
    )


def _made(db: apsw.Connection, account: int, query: ResourceQuery) -> Iterator[LiveResource]:
    """Yield the spaces and datasets that there are, as nothing but names."""
    if query.kind not in (None, "space", "dataset"):
        return
    after, count = query.after or ("", "", ""), 0
    # A container is its own space.
    named = [name for name in (query.space, query.id) if name is not None]
    wanted = None if query.names is None else set(query.names)
    spaces = _json(sorted({name for name, _, _ in wanted or ()}))
    among = "" if wanted is None else " AND space IN (SELECT value FROM json_each(?))"
    statement = f"""SELECT * FROM space WHERE account = ? AND space >= ?{" AND space = ?" * len(named)}{among}
        AND made_in <> '{{}}' ORDER BY space"""
    bounds = (account, after[0], *named, *(() if wanted is None else (spaces,)))
    for (_, name), space in map(_space, rows(db, statement, bounds)):
        for kind in sorted(space.containers):
            if wanted is not None and (name, kind, name) not in wanted:
                continue
            if (name, kind, name) > after and query.kind in (None, kind) and count < query.limit:
                count += 1
                yield LiveResource(name, kind, name, max(space.made_in[kind].values()), {})


def _row(name: Named, resource: Resource) -> tuple[Any, ...]:
    latest = resource.latest or (None, None, None)
    state = _state_encoder.encode(resource.state).decode()
    return (*name, *latest, _json(resource.ends), state, resource.newest)


def _resource(row: Sequence[Any]) -> tuple[Named, Resource]:
    account, space, kind, id, time, source, event, ends, state = row
    latest = None if time is None else (time, source, event)
    resource = Resource(kind, space, id, latest, _state_decoder.decode(state), tuple(json.loads(ends)))
    return Named(account, space, kind, id), resource


def _space_row(space: Space) -> tuple[Any, ...]:
    texts = (space.closes, space.closed_in, space.made_in, space.live, space.closed)
    return (space.newest, *map(_json, texts))


def _space(row: Sequence[Any]) -> tuple[tuple[int, str], Space]:
    account, name, newest, *texts = row
    # All at once: a report may read thousands of spaces.
    closes, closed_in, made_in, live, closed = _space_decoder.decode(f"[{','.join(texts)}]")
    return (account, name), Space(closes, closed_in, made_in, newest, live, closed)


def _counted(row: Sequence[Any]) -> tuple[Counted, str]:
    account, space, kind, id, meter, epoch, value = row
    return Counted(meter, epoch, Named(account, space, kind, id)), value


def _recorded(row: Sequence[Any]) -> tuple[Recorded, Change]:
    account, meter, epoch, *said = row
    return recorded_of(account, meter, epoch, _record(said))


TABLES = (
    Table("resource", "account, space, kind, id", COLUMNS, _resource, "resources"),
    Table("space", "account, space", "*", _space, "spaces"),
    Table("counted_once", "account, space, kind, id, meter, epoch", "*", _counted, "once"),
    Table("record", "account, meter, epoch, time, source, event", "*", _recorded, "records"),
)


def _json(value: object) -> str:
    # The standard library's, because sums of durations may pass 64 bits.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
