"""(d) What one would write by hand on PostgreSQL: the same events, identities, postings and rollups, durable.

A batch is decoded and checked, copied into a staging table, inserted where its identity is new, and only that is added
to the rollups, at the quarter hours, days and months that the embedded ledger keeps. Label sets are interned.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import msgspec
import psycopg

from benchmarks import traffic

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")
MILLION = Decimal(1_000_000)
QUANTITY_MAX = 10**12
TEXT_MAX = 256
AHEAD = timedelta(minutes=5)
LABELS = (
    "technology",
    "vendor",
    "operation",
    "mode",
    "type",
    "model",
    "language",
    "operating_point",
    "tags",
    "billing",
    "license",
    "space",
)


@dataclass(frozen=True, slots=True)
class Books:
    """What is kept of an event: its labels, the meters that have them, and the postings that SQL makes of it."""

    labels: tuple[str, ...] = LABELS
    meters: tuple[str, ...] = ("audio",)
    posted: LiteralString = "fresh"


USUAL = Books()
RICH = Books(
    (*LABELS, "team"),
    ("audio", "jobs", "billed"),
    """(
        SELECT posting.series, time, posting.amount FROM fresh CROSS JOIN LATERAL (VALUES
            (series, amount), (series + 1, 1), (series + 2, (amount + 14999999) / 15000000 * 15)
        ) AS posting (series, amount)
    ) AS posted""",
)

Key = tuple[str | None, ...]
"""An account and the value of each label."""

SCHEMA: LiteralString = """
CREATE TABLE series (number int PRIMARY KEY, account text NOT NULL, meter text NOT NULL, labels text[] NOT NULL);
CREATE TABLE event (
    account text, source text, id text, time bigint, recorded bigint, raw text, series int, amount bigint,
    PRIMARY KEY (account, source, id)
);
CREATE TABLE rollup (
    series int, level smallint, bucket bigint, count bigint, sum bigint, min bigint, max bigint,
    PRIMARY KEY (series, level, bucket)
) WITH (fillfactor = 70);
"""
STAGING: LiteralString = """
CREATE TEMP TABLE staging (account text, source text, id text, time bigint, raw text, series int, amount bigint)
ON COMMIT DELETE ROWS
"""
KEEP_EVENTS: LiteralString = """
WITH fresh AS (
    INSERT INTO event (account, source, id, time, recorded, raw, series, amount)
    SELECT account, source, id, time, %s, raw, series, amount FROM staging
    ON CONFLICT DO NOTHING
    RETURNING series, time, amount
), rolled AS (
    INSERT INTO rollup
    SELECT series, level, bucket, count(*), sum(amount), min(amount), max(amount)
    FROM """
KEEP_ROLLUPS: LiteralString = """ CROSS JOIN LATERAL (VALUES
        (0, time / 900000000),
        (1, time / 86400000000),
        (2, to_char(to_timestamp(time / 1000000) AT TIME ZONE 'UTC', 'YYYYMM')::bigint)
    ) AS cell (level, bucket)
    GROUP BY series, level, bucket ORDER BY series, level, bucket
    ON CONFLICT (series, level, bucket) DO UPDATE SET
        count = rollup.count + excluded.count, sum = rollup.sum + excluded.sum,
        min = least(rollup.min, excluded.min), max = greatest(rollup.max, excluded.max)
)
SELECT count(*) FROM fresh
"""
CONFLICTS: LiteralString = """
SELECT count(*) FROM staging JOIN event USING (account, source, id) WHERE staging.raw <> event.raw
"""


class Typed(msgspec.Struct):
    """An event with everything typed that the tables need."""

    id: str
    source: str
    type: str
    time: datetime
    account: str
    data: dict[str, Any]


SPLIT = msgspec.json.Decoder(list[msgspec.Raw])
EVENT = msgspec.json.Decoder(Typed, float_hook=Decimal)


class Series:
    """The interned label sets: a dict in front of the table."""

    def __init__(self, connection: psycopg.Connection[Any], books: Books = USUAL) -> None:
        self.connection = connection
        self.books = books
        self.numbers: dict[Key, int] = {}
        self.lock = threading.Lock()

    def intern(self, keys: Iterable[Key]) -> None:
        """Give every new label set of a batch its number, durable before it is used."""
        with self.lock:
            new = [key for key in dict.fromkeys(keys) if key not in self.numbers]
            if not new:
                return
            meters = self.books.meters
            rows = [(len(meters) * (len(self.numbers) + place), key) for place, key in enumerate(new)]
            with self.connection.cursor() as cursor, cursor.copy("COPY series FROM STDIN") as copy:
                for number, key in rows:
                    for further, meter in enumerate(meters):
                        copy.write_row((number + further, key[0], meter, list(key[1:])))
            self.numbers.update((key, number) for number, key in rows)


def check(event: Typed, key: Key, latest: datetime) -> None:
    """Refuse what must not be counted; the traffic has nothing of it, but whoever bills by the numbers has to look."""
    texts = (event.id, event.source, event.type, *filter(None, key))
    if not all(map(str.isprintable, texts)) or max(map(len, texts)) > TEXT_MAX or not (event.id and event.source):
        raise ValueError(f"{event.id}: text")
    if event.type != "audio.processed" or event.data.get("status", "success") != "success":
        raise ValueError(f"{event.id}: type or status")
    if not 0 <= event.data["duration"] <= QUANTITY_MAX or event.time > latest:
        raise ValueError(f"{event.id}: range")


def rows(body: bytes, series: Series) -> Iterator[tuple[object, ...]]:
    """Yield the staging rows of a batch."""
    raws = SPLIT.decode(body)
    events = [EVENT.decode(raw) for raw in raws]
    keys = [(event.account, *map(event.data.get, series.books.labels)) for event in events]
    latest = datetime.now(UTC) + AHEAD
    for event, key in zip(events, keys, strict=True):
        check(event, key, latest)
    series.intern(key for key in keys if key not in series.numbers)
    for raw, event, key in zip(raws, events, keys, strict=True):
        micros = (event.time - EPOCH) // MICROSECOND
        amount = int(event.data["duration"] * MILLION)
        yield event.account, event.source, event.id, micros, bytes(raw).decode(), series.numbers[key], amount


def line(row: tuple[object, ...]) -> str:
    """Return a row in COPY's text format."""
    return "\t".join(map(str, row)).replace("\\", "\\\\")


def keep(connection: psycopg.Connection[Any], body: bytes, series: Series) -> tuple[int, int]:
    """Take one batch in and return how many events were new and how many conflict, once that is durable."""
    lines = [line(row) for row in rows(body, series)]
    conflicts = 0
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy("COPY staging FROM STDIN") as copy:
            copy.write("\n".join(lines))
        cursor.execute(KEEP_EVENTS + series.books.posted + KEEP_ROLLUPS, (time.time_ns() // 1000,))
        fresh = cursor.fetchall()[0][0]
        if fresh < len(lines):
            conflicts = cursor.execute(CONFLICTS).fetchall()[0][0]
    return fresh, conflicts


def worker(address: str, queue: Iterator[bytes], lock: threading.Lock, series: Series) -> int:
    """Take batches from the queue until it is empty and return how many events were new."""
    count = 0
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(STAGING)
        while True:
            with lock:
                body = next(queue, None)
            if body is None:
                return count
            count += keep(connection, body, series)[0]


def prepare(address: str) -> None:
    """Make empty tables."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS series, event, rollup")
        connection.execute(SCHEMA)
        connection.execute("CHECKPOINT")


def timed(address: str, bodies: Sequence[bytes], in_flight: int, books: Books = USUAL) -> float:
    """Send every body over `in_flight` connections and return the rate."""
    prepare(address)
    queue, lock = iter(bodies), threading.Lock()
    with psycopg.connect(address, autocommit=True) as connection, ThreadPoolExecutor(in_flight) as pool:
        series = Series(connection, books)
        started = time.perf_counter()
        work = [pool.submit(worker, address, queue, lock, series) for _ in range(in_flight)]
        count = sum(job.result() for job in work)
        seconds = time.perf_counter() - started
    return count / seconds


def events_per_s(path: Path, address: str, in_flight: int, books: Books = USUAL) -> float:
    """Send a file of bodies, read beforehand, and return the rate."""
    return timed(address, list(traffic.read(path)), in_flight, books)
