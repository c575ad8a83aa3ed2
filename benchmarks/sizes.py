"""`python -m benchmarks.sizes`: what each table of the ledger in PostgreSQL takes per event, however these come."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg

from benchmarks import distributed, postgres, traffic
from tallystick.ledger.postgres import folding
from tallystick.ledger.postgres.pool import Pool
from tallystick.ledger.postgres.series import SeriesCache

EVENTS = 200_000
ONE = replace(traffic.USUAL, accounts=1)
SHAPES = {
    "5,000 of one account": (ONE, 5_000, 1),
    "5,000 of 200 accounts": (traffic.USUAL, 5_000, 1),
    "100 of one account": (ONE, 100, 10),
    "one by one": (ONE, 1, 20),
}
"""How events come, with the part of them that is enough to tell."""


def bytes_per_event(url: str, shape: traffic.Traffic, batch_events: int, events: int) -> Mapping[str, float]:
    """Keep events, fold them, and return the bytes per event of each table with its indexes and what is beside it."""
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder:
        path = traffic.write(Path(folder) / "bodies", shape, events, batch_events)
        distributed.events_per_s(path, url, 1)
    fold(url)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("VACUUM ANALYZE")
        ((kept,),) = db.execute("SELECT sum(events) FROM head").fetchall()
        sizes = db.execute(
            "SELECT tablename, pg_total_relation_size(tablename::regclass) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
    assert kept == events
    return {table: size / events for table, size in sizes}


def fold(url: str) -> None:
    """Fold everything, as it is after a while without traffic."""
    pool, cache = Pool(url, "folding", 1), SeriesCache()
    try:
        while accounts := pool.run(partial(folding.lagging, entries=1)):
            for account in accounts:
                pool.run(partial(folding.fold, cache=cache, account=account))
    finally:
        pool.close()


def main() -> None:
    """Print a line per table."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    with postgres.server() as url:
        found = {
            name: bytes_per_event(url, shape, batch, events // part) for name, (shape, batch, part) in SHAPES.items()
        }
    print(f"{'bytes per event':16}" + "".join(f"{name:>24}" for name in found))
    tables = sorted(
        {table for sizes in found.values() for table in sizes}, key=lambda t: -max(s[t] for s in found.values())
    )
    for table in tables:
        print(f"{table:16}" + "".join(f"{sizes[table]:24.1f}" for sizes in found.values()))
    print(f"{'all':16}" + "".join(f"{sum(sizes.values()):24.1f}" for sizes in found.values()))


if __name__ == "__main__":
    main()
