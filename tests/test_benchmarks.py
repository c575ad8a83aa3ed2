"""The benchmarks measure what they say: their traffic, their table, and the comparison's own arithmetic."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks import decode, dialects, distributed, embedded, handwritten, importing, meters, report, traffic
from tallystick.catalog import builtin
from tallystick.cli.importing.batches import batches_of
from tallystick.cli.importing.mapping import mapping_of
from tallystick.cli.importing.opened import opened
from tallystick.dialects import NAMES
from tallystick.ingest.prepare import prepare


def decoded(shape: traffic.Traffic, count: int) -> list[dict[str, Any]]:
    """Return generated events as dicts with exact numbers."""
    return [json.loads(event, parse_float=Decimal) for event in traffic.events(shape, count)]


def test_traffic_is_as_large_and_as_varied_as_it_says() -> None:
    """Events take 300 bytes within 2 %, ids are all different, and every account and label set occurs."""
    events = list(traffic.events(traffic.USUAL, 40_000))
    assert abs(sum(map(len, events)) / len(events) - 300) < 6
    dicts = [json.loads(event) for event in events]
    assert len({event["id"] for event in dicts}) == len(dicts)
    sets = {(e["account"], e["data"]["mode"], e["data"]["language"], e["data"]["operating_point"]) for e in dicts}
    assert len(sets) == 200 * 20


def test_traffic_moves_on_and_some_of_it_is_late() -> None:
    """A thousand events make a second, and one in twenty is late by up to thirty days."""
    times = [event["time"] for event in decoded(traffic.USUAL, 20_000)]
    late = sum(time < "2025-06-01" for time in times)
    assert 0.04 < late / len(times) < 0.06
    assert min(times) > "2025-05-02"
    assert max(times) == "2025-06-01T00:00:19.999000Z"


def test_the_worst_case_is_scattered_over_three_years_and_never_ahead() -> None:
    """Every month of the three years before has some of it, and none lies in the future of any clock."""
    times = [event["time"] for event in decoded(traffic.WORST, 20_000)]
    assert max(times) < "2025-06-01T00:00:01"
    assert min(times) > "2022-06-01"
    assert len({time[:7] for time in times}) == 36


def test_the_rich_traffic_feeds_three_meters_with_thirteen_labels() -> None:
    """Every event of it has three postings, two of them with thirteen labels, and there are as many sets as usual."""
    catalog = builtin()
    catalog = replace(catalog, meters={**catalog.meters, **{meter.name: meter for meter in meters.RICH}})
    raws = list(traffic.events(traffic.RICH, 20_000))
    prepared = prepare(
        raws, caller=embedded.OPERATOR, catalog=catalog, settings=embedded.SETTINGS, now=traffic.START + traffic.DAY
    )
    assert len(prepared.batch.posting_event) == 3 * len(raws)
    sets = Counter(len(label_set.labels) for label_set in set(prepared.batch.label_sets))
    assert sets[12] > 3_900
    assert sets == {12: sets[12], 13: 2 * sets[12]}


def test_traffic_is_the_same_every_time() -> None:
    """The same events come out whatever the size of the batches, and other ones of another seed."""
    one = b"".join(traffic.bodies(traffic.events(traffic.USUAL, 500), 7))
    two = b"".join(traffic.bodies(traffic.events(traffic.USUAL, 500), 7))
    assert one == two
    assert next(traffic.events(traffic.USUAL, 1)) != next(traffic.events(traffic.WORST, 1))


def test_the_long_run_has_accounts_with_many_label_sets() -> None:
    """One account has 200 label sets and one has 10,000, all of them different."""
    assert len({traffic.labels_of(number) for number in range(10_000)}) == 10_000
    assert "billing" not in "".join(traffic.labels_of(number) for number in range(200))
    accounts = Counter(event["account"] for event in decoded(traffic.LONG, 20_000))
    assert accounts["wide-200"] > 150
    assert accounts["wide-10000"] > 300


def test_every_dialect_has_the_label_sets_that_are_measured() -> None:
    """Two accounts have so many sets of audio and of vision, in one month, and every event has an id of its own."""
    found = [json.loads(event) for event in dialects.events(60_000)]
    assert 59_000 < len(found) < 61_000
    assert len({(event["source"], event["account"], event["id"]) for event in found}) == len(found)
    for client in dialects.CLIENTS:
        work = [event for event in found if event["account"] == client.account]
        assert {event["time"][:7] for event in work} == {"2025-05"}
        for type in ("audio.processed", "vision.request"):
            of_type = [event for event in work if event["type"] == type]
            labels = {
                (event["space"], *(value for name, value in event["data"].items() if name != "duration"))
                for event in of_type
            }
            assert len(labels) == client.label_sets
    assert set(dialects.REPORTS) == {*NAMES, "native"}


def test_bodies_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    """A file of bodies gives the bodies again, and a sample of its events is of events in it."""
    path = traffic.write(tmp_path / "bodies", traffic.USUAL, 1_050, 100)
    kept = list(traffic.read(path))
    assert kept == list(traffic.bodies(traffic.events(traffic.USUAL, 1_050), 100))
    assert [len(decode.DECODER.decode(body)) for body in kept] == [100] * 10 + [50]
    chosen = traffic.sample(path, 60, 1_050)
    assert len(set(chosen)) == 60
    assert set(chosen) <= set(traffic.events(traffic.USUAL, 1_050))


def test_the_table_says_which_floors_were_met() -> None:
    """A ratio below its floor and a latency above its ceiling are called out; a number without one is not judged."""
    lines = [report.ratio("b", "x", 0.17, 0.18), report.ceiling("g", "y", 1.5, "s", 2), report.rate("a", "z", 1_234)]
    assert [line.verdict for line in lines] == ["NOT MET", "met", ""]
    assert "1,234 events/s" in report.text(lines)


def test_percentiles_are_values_that_were_measured() -> None:
    """The median and the 99th percentile are taken from the values, whatever their order."""
    values = [float(number) for number in range(100, 0, -1)]
    assert report.median(values) == 51.0
    assert report.percentile(values, 0.99) == 100.0
    assert report.percentile([3.0], 0.99) == 3.0


@pytest.mark.slow
def test_postgres_by_hand_counts_each_event_once(postgres: str) -> None:
    """Batches that overlap over two connections leave every event once, and rollups that sum to what is new."""
    events = list(traffic.events(traffic.WORST, 3_000))
    bodies = [*traffic.bodies(iter(events), 500), *traffic.bodies(iter(events[1_000:2_000]), 250)]
    assert handwritten.timed(postgres, bodies, 1) > 0
    total = sum(int(json.loads(event, parse_float=Decimal)["data"]["duration"] * 1_000_000) for event in events)
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT count(*), sum(amount) FROM event").fetchone() == (3_000, total)
        levels = connection.execute("SELECT level, sum(count), sum(sum) FROM rollup GROUP BY level ORDER BY level")
        assert levels.fetchall() == [(level, 3_000, total) for level in range(3)]


@pytest.mark.slow
def test_postgres_by_hand_keeps_three_meters(postgres: str) -> None:
    """Of the rich traffic, seconds, jobs and billed seconds are each rolled up, at every level."""
    events = list(traffic.events(traffic.RICH, 2_000))
    assert handwritten.timed(postgres, list(traffic.bodies(iter(events), 500)), 1, handwritten.RICH) > 0
    amounts = [int(json.loads(event, parse_float=Decimal)["data"]["duration"] * 1_000_000) for event in events]
    billed = sum(-(-amount // (meters.BILLED_S * 1_000_000)) * meters.BILLED_S for amount in amounts)
    with psycopg.connect(postgres) as connection:
        totals = connection.execute(
            "SELECT meter, level, sum(sum)::bigint FROM rollup JOIN series ON number = series GROUP BY 1, 2"
        ).fetchall()
    wanted = {"audio": sum(amounts), "jobs": len(events), "billed": billed}
    assert {(meter, level, total) for meter, level, total in totals} == {
        (meter, level, total) for meter, total in wanted.items() for level in range(3)
    }


@pytest.mark.slow
def test_postgres_by_hand_tells_a_conflict_from_a_duplicate(postgres: str) -> None:
    """The same identity with other content is a conflict, with the same content it is not."""
    handwritten.prepare(postgres)
    event = next(traffic.events(traffic.USUAL, 1))
    changed = event.replace(b'"transcription"', b'"translation"')
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(handwritten.STAGING)
        series = handwritten.Series(connection)
        verdicts = [handwritten.keep(connection, b"[" + body + b"]", series) for body in (event, event, changed)]
    assert verdicts == [(1, 0), (0, 0), (0, 1)]


@pytest.mark.slow
def test_postgres_by_hand_is_durable(postgres: str) -> None:
    """The comparison would be worthless against a server that does not wait for its disk."""
    with psycopg.connect(postgres) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == ("on",)


@pytest.mark.slow
def test_the_ledger_in_postgres_is_measured_with_one_process_and_with_two(tmp_path: Path, postgres: str) -> None:
    """However many processes send a file, every event of it is kept once."""
    path = traffic.write(tmp_path / "bodies", traffic.USUAL, 2_000, 250)
    for processes in (1, 2):
        assert distributed.events_per_s(path, postgres, 2, processes) > 0
        with psycopg.connect(postgres) as connection:
            assert connection.execute("SELECT sum(events) FROM head").fetchone() == (2_000,)


def test_every_form_of_an_imported_file_has_the_same_events(tmp_path: Path) -> None:
    """Lines, list and table become the events that the ledger's own rate is measured with."""
    sent = list(traffic.events(traffic.USUAL, 300))
    found = {}
    for form, path in importing.write(tmp_path, sent).items():
        flags: dict[str, list[str]] = {"--map": [], "--set": []}
        for name, value in (flag.split("=", 1) for flag in importing.FLAGS[form]):
            flags[name].append(value)
        with opened(str(path)) as file:
            batches = list(batches_of(file, mapping_of(flags["--map"], flags["--set"], "UTC"), None, None))
        assert not any(batch.refused for batch in batches)
        found[form] = [json.loads(event, parse_float=Decimal) for batch in batches for event in batch.events]
    assert found["ndjson"] == found["json"] == [json.loads(event, parse_float=Decimal) for event in sent]
    assert [{**event, "specversion": "1.0"} for event in found["csv"]] == found["ndjson"]
