"""The proof: the log is replayed from nothing, and everything kept is compared with what the replay gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apsw
import msgspec
import numpy as np

from tallystick import rollup
from tallystick.errors import LedgerError
from tallystick.ledger.base import Proof
from tallystick.ledger.packed import rollups, segment
from tallystick.ledger.packed.hold_entries import KeptHold, Named
from tallystick.ledger.packed.hold_entries import kept as kept_hold
from tallystick.ledger.packed.meter_entries import CorrectionHeader
from tallystick.ledger.packed.rollups import Grain
from tallystick.ledger.packed.segment import Damaged, Header
from tallystick.ledger.packed.series import SeriesIndex
from tallystick.ledger.sqlite import file, hold_tables, reading, resource_tables
from tallystick.ledger.sqlite.definitions import base
from tallystick.ledger.sqlite.file import EVENTS, row, rows
from tallystick.ledger.sqlite.hold_tables import Mark
from tallystick.ledger.sqlite.proving import Replay, replay_entry
from tallystick.ledger.sqlite.series_table import load as load_series
from tallystick.ledger.sqlite.tail import Published, Tail, quarter_cells
from tallystick.model import Catalog, Hold
from tallystick.rollup import Cells, Ints

TABLES = (
    "meta",
    "log",
    "frame",
    "series",
    "series_part",
    "identity_run",
    "identity_chunk",
    "rollup",
    "folded",
    "key_use",
    "resource",
    "space",
    "counted_once",
    "record",
    "hold",
    "crossing",
)
CATCH_UPS = 3
"""Rounds in which what came meanwhile is replayed, before the last of it is in one read transaction."""
Progress = Callable[[int, int], None]


def verify(db: apsw.Connection, tail: Callable[[], Tail], progress: Progress) -> Proof:
    """Replay and compare, in short read transactions: the log only grows, so what was read stays as it is.

    Rollups and the identity index are compared at the end with the log as far as it was replayed.
    """

    def published() -> Published:
        return tail().published

    def replay_next(logged: Sequence[Any]) -> None:
        # Asked anew each time: chunks of runs that were merged since are deleted after a while.
        replay.remembers_after = tail().book.unwritten.mark.through
        replay_entry(db, replay, published(), secret, logged)

    state = published()
    replay = Replay(Catalog(0, {}), remembers_after=tail().book.unwritten.mark.through)
    try:
        progress(0, state.sequence)
        _check_pages(db, replay)
        progress(0, state.sequence)
        replay.catalog = base(db)
        secret = file.secret(db)
        for logged in _log(db, replay.entries, state.entry):
            replay_next(logged)
            progress(replay.events, state.sequence)
        if replay.events < state.sequence:
            replay.fault("log", f"holds {replay.events} events, of {state.sequence} that were acknowledged")
        for _ in range(CATCH_UPS):
            for logged in _log(db, replay.entries, published().entry):
                replay_next(logged)
        _check_living(db, replay, tail, secret)
        _check_series(db, replay)
        _check_rollups(db, replay, published)
        _check_counts(db, replay, published)
    except (
        apsw.Error,
        Damaged,
        msgspec.MsgspecError,
        LedgerError,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
    ) as error:
        replay.fault("file", f"cannot be read any further: {type(error).__name__}: {error}")
    return Proof(replay.events, replay.postings, replay.entries, replay.link.hex(), tuple(replay.faults))


def _check_pages(db: apsw.Connection, replay: Replay) -> None:
    # Table by table, so that no read transaction grows old; with their indexes, through which reports find things.
    for table in TABLES:
        for (line,) in rows(db, f"PRAGMA integrity_check({table})"):
            if line != "ok":
                replay.fault("file", line)


def _log(db: apsw.Connection, after: int, through: int) -> Iterator[tuple[Any, ...]]:
    """Yield the entries of a range, a few at a time, so that no read transaction grows old."""
    at = after
    statement = """SELECT entry, kind, first, count, recorded, time_min, time_max, header, columns, link FROM log
        WHERE entry > ? AND entry <= ? ORDER BY entry LIMIT 16"""
    while some := list(rows(db, statement, (at, through))):
        yield from some
        at = some[-1][0]


def _check_living(db: apsw.Connection, replay: Replay, tail: Callable[[], Tail], secret: int) -> None:
    """Compare holds, resources, spaces and what was counted once with the log as far as it goes at this moment."""
    # Memory first: what it does not have any more has a row by then.
    entry, unwritten = tail().unwritten_holds()
    with db:
        (last,) = row(db, "SELECT coalesce(max(entry), 0) FROM log")
        for logged in _log(db, replay.entries, last):
            replay_entry(db, replay, None, secret, logged)
        kept = resource_tables.everything(db)
        holds, crossed = hold_tables.everything(db)
        mark = hold_tables.mark(db)
    if replay.remembers_after <= mark.through <= mark.further <= last:
        _check_holds(replay, mark, holds, entry, unwritten)
    else:
        replay.fault(
            "holds", f"rows tell of log entries {mark.through} and {mark.further}, which is not what was written"
        )
    if crossed != replay.crossed:
        replay.fault("holds", "the crossed thresholds are not what the log says")
    for what, have, due in (
        ("resource", kept.resources, replay.living.resources),
        ("space", kept.spaces, replay.living.spaces),
        ("counted once", kept.once, replay.living.once),
        ("record", kept.records, replay.living.records),
    ):
        for key in [*have, *(key for key in due if key not in have)]:
            if have.get(key) != due.get(key):
                replay.fault("resources", f"{what} {', '.join(map(str, key))} is not what the log says")


def _check_holds(
    replay: Replay, mark: Mark, rows: Mapping[Named, KeptHold], entry: int, unwritten: Mapping[Named, Hold]
) -> None:
    """Compare rows with the log as far as they are, and what memory had beside them with the log as of that entry."""
    due = replay.holds_at(mark.of)
    for name in [*rows, *(name for name in replay.holds if name not in rows)]:
        if rows.get(name) != due(name):
            replay.fault("holds", f"hold {name[1]!r} of account {name[0]} is not what the log says")
    due = replay.holds_at(lambda _: entry)
    changed = [name for at, name, _ in replay.before if mark.of(name) < at <= entry]
    for name in dict.fromkeys([*unwritten, *changed]):
        hold = unwritten.get(name)
        if hold is None or kept_hold(name[0], hold) != due(name):
            replay.fault("holds", f"hold {name[1]!r} of account {name[0]} is not in memory what the log says")


def _check_series(db: apsw.Connection, replay: Replay) -> None:
    kept = load_series(db)
    for number in range(1, len(replay.series) + 1):
        if number > len(kept) or kept.describe(number) != replay.series.describe(number):
            replay.fault("series", f"series {number} is not what the log says")


def _check_rollups(db: apsw.Connection, replay: Replay, published: Callable[[], Published]) -> None:
    """Compare every cell of every grain, after adding what is not folded into the file yet."""
    while True:
        state = published()
        with db:
            done = reading.folded(db)
            if done.last > state.entry or replay.entries > state.entry:
                continue
            found = list(rows(db, "SELECT account, meter, grain, period, cells, body FROM rollup"))
        break
    later = _later(db, replay, state.entry)
    due = rollup.merge([*replay.cells, *later]) if replay.cells or later else rollup.nothing()
    kept: dict[Grain, list[Cells]] = {grain: [] for grain in Grain}
    for account, name, grain, period, size, body in found:
        cells = rollups.unpack(body)
        if not _is_in_place(replay.series, cells, Grain(grain), account, name, period) or size != len(cells):
            replay.fault("rollups", f"cells of account {account}, meter {name!r} are kept in the wrong place")
        kept[Grain(grain)].append(cells)
    account_of = np.array(replay.series.accounts, np.int64)
    lacking = [
        cells.take(done.lacking(border)(account_of[cells.series])) for cells, border in state.overlay.parts(state.entry)
    ]
    for grain in Grain:
        parts = [*kept[grain], *(rollups.coarse(cells, grain) for cells in lacking)]
        have = rollup.merge(parts) if parts else rollup.nothing()
        _compare_cells(replay, grain, have, rollups.coarse(due, grain))


def _later(db: apsw.Connection, replay: Replay, through: int) -> list[Cells]:
    """Return the cells of entries that came while the log was replayed, and learn their series.

    The next run proves their events.
    """
    later = []
    statement = """SELECT kind, header, columns FROM log WHERE entry > ? AND entry <= ? AND columns IS NOT NULL
        ORDER BY entry"""
    for kind, header, body in rows(db, statement, (replay.entries, through)):
        series = (
            msgspec.msgpack.decode(header, type=Header).series
            if kind == EVENTS
            else msgspec.msgpack.decode(header, type=CorrectionHeader).series
        )
        for new in series:
            replay.series.add(new)
        later.append(quarter_cells(segment.unpack_columns(body)))
    return later


def _is_in_place(index: SeriesIndex, cells: Cells, grain: Grain, account: int, meter: str, period: int) -> bool:
    if not bool((rollups.period(cells.bucket, grain) == period).all()):
        return False
    return all(
        number < len(index.accounts) and (index.accounts[number], index.meters[number]) == (account, meter)
        for number in np.unique(cells.series).tolist()
    )


def _compare_cells(replay: Replay, grain: Grain, have: Cells, due: Cells) -> None:
    if len(have) == len(due) and all(bool((a == b).all()) for a, b in zip(have.columns, due.columns, strict=True)):
        return
    both, at, of = np.intersect1d(have.key, due.key, return_indices=True)
    wrong: Ints = np.setxor1d(have.key, due.key)
    for a, b in zip(have.columns[1:], due.columns[1:], strict=True):
        wrong = np.union1d(wrong, both[a[at] != b[of]])
    for cell in wrong[:20].tolist():
        number, bucket = cell >> rollup.BUCKET_BITS, cell & ((1 << rollup.BUCKET_BITS) - 1)
        replay.fault("rollups", f"series {number}, {grain.name.lower()} {bucket}: not the sum of its postings")


def _check_counts(db: apsw.Connection, replay: Replay, published: Callable[[], Published]) -> None:
    """Nothing may be kept beside what the log accounts for."""
    state = published()
    entries = sum(map(len, state.identities.memory)) + sum(map(len, state.identities.stored))
    if entries != state.sequence:
        replay.fault("identity index", f"holds {entries} entries for {state.sequence} events")
    frames = row(db, "SELECT count(*) FROM frame WHERE first <= ?", (replay.events,))[0]
    if frames != replay.frames:
        replay.fault("frames", f"{frames} are kept and the log accounts for {replay.frames}")
