"""Resources, spaces and what was counted once, as they are kept: read and written set-wise, whatever the number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from tallystick.envelope import number
from tallystick.ledger.packed.living import Counted, Living, Named, Recorded
from tallystick.ledger.packed.tables import Table, recorded_of
from tallystick.ledger.postgres import shards
from tallystick.ledger.postgres.locks import Db
from tallystick.model import Change, LiveQuery, LiveResource, LiveSpace, Record, RecordPage, RecordQuery, ResourceQuery
from tallystick.resources import Resource, Space

DIGEST_BYTES = 16
COLUMNS = "account, space, kind, id, time, source, event, ends, state"
PREFIX = 128
"""Characters of an id that are in the index of the order: names may be longer than a key."""
_state_encoder = msgspec.json.Encoder(decimal_format="number")
_state_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=number)
_Months = dict[int, int]
_Counts = dict[str, tuple[int, int]]
_space_decoder = msgspec.json.Decoder(tuple[_Months, dict[str, _Months], _Counts, _Counts])


def digest(*texts: str) -> bytes:
    """Return what stands for names in a key; NUL cannot be in them."""
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=DIGEST_BYTES).digest()


def load(db: Db, wanted: Iterable[Named], once: Iterable[Counted]) -> Living:
    """Read resources and their spaces, and what was counted of resources; the heads of their accounts are locked."""
    living = Living(partial(newer, db))
    names = sorted(set(wanted))
    if not names:
        return living
    columns = ", ".join(f"r.{column}" for column in COLUMNS.split(", "))
    accounts = [name.account for name in names]
    of_one, owner = shards.only("r.account", accounts)
    statement = f"""SELECT {columns} FROM unnest(%s::bigint[], %b::bytea[]) w (account, digest)
        JOIN resource r USING (account, digest) WHERE true{of_one}"""
    keys = (accounts, [digest(*name[1:]) for name in names], *owner)
    living.resources.update(map(_resource, db.execute(statement, keys)))
    places = sorted({(name.account, name.space) for name in names})
    of_one, owner = shards.only("s.account", accounts)
    statement = f"""SELECT s.account, s.space, s.newest, s.closes, s.body FROM unnest(%s::bigint[], %s::text[])
        w (account, space) JOIN space s USING (account, space) WHERE true{of_one}"""
    living.spaces.update(map(_space, db.execute(statement, (*_columns(places), *owner))))
    compared = sorted(set(once))
    if compared:
        of_one, owner = shards.only("c.account", accounts)
        statement = f"""SELECT c.account, c.space, c.kind, c.id, c.meter, c.epoch, c.value
            FROM unnest(%s::bigint[], %b::bytea[], %s::text[], %s::bigint[]) w (account, digest, meter, epoch)
            JOIN counted_once c USING (account, digest, meter, epoch) WHERE true{of_one}"""
        sought = [(key.resource.account, digest(*key.resource[1:]), key.meter, key.epoch) for key in compared]
        living.once.update(map(_counted, db.execute(statement, (*_columns(sought), *owner))))
    return living


def newer(db: Db, account: int, space: str, than: int) -> Iterator[Resource]:
    """Yield the resources of a space that something newer than an instant is known of."""
    statement = f"SELECT {COLUMNS} FROM resource WHERE account = %s AND space = %s AND newest > %s"
    found = db.execute(statement, (account, space, than)).fetchall()
    return (resource for _, resource in map(_resource, found))


def store(db: Db, living: Living) -> None:
    """Write what there is of resources, spaces and counting once, in place of what was kept of the same."""
    _store_resources(db, living)
    _store_spaces(db, living)
    if living.once:
        rows = [
            (key.resource.account, digest(*key.resource[1:]), key.meter, key.epoch, *key.resource[1:], value)
            for key, value in living.once.items()
        ]
        db.execute(
            """INSERT INTO counted_once (account, digest, meter, epoch, space, kind, id, value)
            SELECT * FROM unnest(%s::bigint[], %b::bytea[], %s::text[], %s::bigint[], %s::text[], %s::text[],
                %s::text[], %s::text[])
            ON CONFLICT (account, digest, meter, epoch) DO UPDATE SET value = excluded.value""",
            _columns(rows),
        )
    if living.records:
        recorded = [
            (
                key.account,
                key.meter,
                key.epoch,
                key.time,
                digest(key.source, key.event),
                key.source,
                key.event,
                change.space,
                change.kind,
                change.id,
                _state_encoder.encode(change.state).decode(),
            )
            for key, change in living.records.items()
        ]
        db.execute(
            """INSERT INTO record (account, meter, epoch, time, digest, source, event, space, kind, id, state)
            SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %b::bytea[], %s::text[],
                %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])""",
            _columns(recorded),
        )


def _store_resources(db: Db, living: Living) -> None:
    if not living.resources:
        return
    rows = [
        (
            name.account,
            digest(*name[1:]),
            *name[1:],
            *(resource.latest or (None, None, None)),
            "{" + ",".join(map(str, resource.ends)) + "}",
            _state_encoder.encode(resource.state).decode(),
            resource.newest,
        )
        for name, resource in living.resources.items()
    ]
    db.execute(
        """INSERT INTO resource (account, digest, space, kind, id, time, source, event, ends, state, newest)
        SELECT account, digest, space, kind, id, time, source, event, ends::bigint[], state, newest
        FROM unnest(%s::bigint[], %b::bytea[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::text[],
            %s::text[], %s::text[], %s::text[], %s::bigint[])
            w (account, digest, space, kind, id, time, source, event, ends, state, newest)
        ON CONFLICT (account, digest) DO UPDATE SET time = excluded.time, source = excluded.source,
            event = excluded.event, ends = excluded.ends, state = excluded.state, newest = excluded.newest""",
        _columns(rows),
    )


def _store_spaces(db: Db, living: Living) -> None:
    if not living.spaces:
        return
    rows = [
        (
            *place,
            space.newest,
            "{" + ",".join(map(str, space.closes)) + "}",
            _json((space.closed_in, space.made_in, space.live, space.closed)),
            bool(space.made_in or space.closed_in or space.live),
        )
        for place, space in living.spaces.items()
    ]
    db.execute(
        """INSERT INTO space (account, space, newest, closes, body, is_shown)
        SELECT account, space, newest, closes::bigint[], body, is_shown
        FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::boolean[])
            w (account, space, newest, closes, body, is_shown)
        ON CONFLICT (account, space) DO UPDATE SET newest = excluded.newest, closes = excluded.closes,
            body = excluded.body, is_shown = excluded.is_shown""",
        _columns(rows),
    )


def everything(db: Db, account: int) -> Living:
    """Read all there is of an account, for the proof."""
    living = Living(partial(newer, db))
    for table in TABLES:
        table.take(living, db.execute(f"SELECT {table.columns} FROM {table.name} WHERE account = %s", (account,)))
    return living


def page(db: Db, table: Table, after: Sequence[Any] | None, count: int) -> tuple[Living, Sequence[Any]] | None:
    """Read rows of one table behind a key (None = from the first), and say the last one's key; None = no more."""
    living = Living(partial(newer, db))
    last = table.page(living, after, count, "%s", db.execute)
    return None if last is None else (living, last)


def records(db: Db, account: int, epoch: int, query: RecordQuery) -> RecordPage:
    """Return some of the records of an account and a meter since its epoch, and how many there are."""
    bounds = (account, query.meter, epoch, query.start, query.end)
    where = "FROM record WHERE account = %s AND meter = %s AND epoch = %s AND time >= %s AND time < %s"
    (total,) = db.execute(f"SELECT count(*) {where}", bounds).fetchall()[0]
    statement = f"""SELECT time, source, event, space, kind, id, state {where}
        ORDER BY time, source, event LIMIT %s OFFSET %s"""
    found = db.execute(statement, (*bounds, query.limit, query.offset))
    return RecordPage([_record(said) for said in found], total)


def _record(said: Sequence[Any]) -> Record:
    time, source, event, space, kind, id, state = said
    return Record(time, source, event, space, kind, id, _state_decoder.decode(state))


def live_spaces(db: Db, account: int, query: LiveQuery) -> list[LiveSpace]:
    """Return the spaces of an account that were ever made or deleted, by name, with what is in them."""
    statement = "SELECT account, space, newest, closes, body FROM space WHERE account = %s AND is_shown"
    asked = "" if query.space is None else " AND space = %s"
    bounds = [account] if query.space is None else [account, query.space]
    return [
        LiveSpace(name, space.containers, space.closed_in, space.made_in, space.live, space.closed)
        for (_, name), space in map(_space, db.execute(f"{statement}{asked} ORDER BY space", bounds))
    ]


def live_resources(db: Db, account: int, query: ResourceQuery) -> list[LiveResource]:
    """Return resources that exist, in order; a space or dataset that its contents made is among them."""
    named = {name: getattr(query, name) for name in ("space", "kind", "id") if getattr(query, name) is not None}
    after = query.after or ("", "", "")
    columns = ", ".join(f"r.{column}" for column in COLUMNS.split(", "))
    statement = f"""SELECT {columns} FROM resource r LEFT JOIN space s USING (account, space)
        WHERE account = %s{"".join(f" AND r.{name} = %s" for name in named)} AND (r.space, r.kind, r.id) > (%s, %s, %s)
            AND (r.space, r.kind, left(r.id, {PREFIX})) >= (%s, %s, left(%s, {PREFIX}))
            {"" if query.names is None else "AND r.digest = ANY(%b::bytea[])"}
            AND r.time IS NOT NULL AND r.ends = '{{}}'
            AND r.time > coalesce(s.closes[cardinality(s.closes)], r.time - 1)
        ORDER BY r.space, r.kind, left(r.id, {PREFIX}), r.id LIMIT %s"""
    digests = [] if query.names is None else [[digest(*name) for name in query.names]]
    bounds = (account, *named.values(), *after, *after, *digests, query.limit)
    found = {
        (name.space, name.kind, name.id): LiveResource(
            name.space, name.kind, name.id, resource.latest[0], resource.state
        )
        for name, resource in map(_resource, db.execute(statement, bounds))
        if resource.latest is not None
    }
    for made in _made(db, account, query):
        found.setdefault((made.space, made.kind, made.id), made)
    return [found[key] for key in sorted(found)][: query.limit]


def _made(db: Db, account: int, query: ResourceQuery) -> Iterator[LiveResource]:
    """Yield the spaces and datasets that there are, as nothing but names."""
    if query.kind not in (None, "space", "dataset"):
        return
    after, count = query.after or ("", "", ""), 0
    # A container is its own space.
    named = [name for name in (query.space, query.id) if name is not None]
    wanted = None if query.names is None else set(query.names)
    among = "" if wanted is None else " AND space = ANY(%s)"
    statement = f"""SELECT account, space, newest, closes, body FROM space
        WHERE account = %s AND space >= %s{" AND space = %s" * len(named)}{among} AND is_shown ORDER BY space"""
    spaces = [] if wanted is None else [sorted({name for name, _, _ in wanted})]
    for (_, name), space in map(_space, db.execute(statement, (account, after[0], *named, *spaces))):
        for kind in sorted(space.containers):
            if wanted is not None and (name, kind, name) not in wanted:
                continue
            if (name, kind, name) > after and query.kind in (None, kind) and count < query.limit:
                count += 1
                yield LiveResource(name, kind, name, max(space.made_in[kind].values()), {})


def _resource(row: Sequence[Any]) -> tuple[Named, Resource]:
    account, space, kind, id, time, source, event, ends, state = row
    latest = None if time is None else (time, source, event)
    resource = Resource(kind, space, id, latest, _state_decoder.decode(state), tuple(ends))
    return Named(account, space, kind, id), resource


def _space(row: Sequence[Any]) -> tuple[tuple[int, str], Space]:
    account, name, newest, closes, body = row
    closed_in, made_in, live, closed = _space_decoder.decode(body)
    return (account, name), Space(tuple(closes), closed_in, made_in, newest, live, closed)


def _counted(row: Sequence[Any]) -> tuple[Counted, str]:
    account, space, kind, id, meter, epoch, value = row
    return Counted(meter, epoch, Named(account, space, kind, id)), value


def _recorded(row: Sequence[Any]) -> tuple[Recorded, Change]:
    account, meter, epoch, *said = row
    return recorded_of(account, meter, epoch, _record(said))


TABLES = (
    Table("resource", "account, digest", COLUMNS, _resource, "resources"),
    Table("space", "account, space", "account, space, newest, closes, body", _space, "spaces"),
    Table(
        "counted_once",
        "account, digest, meter, epoch",
        "account, space, kind, id, meter, epoch, value",
        _counted,
        "once",
    ),
    Table(
        "record",
        "account, meter, epoch, time, digest",
        "account, meter, epoch, time, source, event, space, kind, id, state",
        _recorded,
        "records",
    ),
)


def _columns(rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Return rows as columns; whole numbers without gaps as such of numpy."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return [np.array(column, np.int64) if all(type(value) is int for value in column) else column for column in columns]


def _json(value: object) -> str:
    # The standard library's, because sums of durations may pass 64 bits.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
