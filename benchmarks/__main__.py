"""`python -m benchmarks [--events N] [--only b,d]`: one run, one table, a verdict beside every floor."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import (
    admission,
    admission_http,
    decode,
    dialects,
    distributed,
    embedded,
    first_chart,
    handwritten,
    http,
    importing,
    latency,
    long,
    meters,
    postgres,
    traffic,
)
from benchmarks.apart import apart
from benchmarks.report import Line, ceiling, median, percentile, rate, ratio, text

PARTS = {
    "a": "decode only: msgspec into an envelope, data as dict, exact decimals",
    "b": "embedded ledger: the same bytes through accept until durable, one process",
    "c": "the same over HTTP: server process and client on this machine",
    "d": "PostgreSQL by hand: decoding, COPY, ON CONFLICT, rollups of what is new, fsync on",
    "e": "flatness, memory and disk over a long run",
    "f": "reports at that size",
    "g": "20,000 random old ids sent again",
    "h": "start-up at that size",
    "i": "single commits beside bulk and a busy thread",
    "j": "reserve and settle at 1, 16 and 64 clients, beside Redis with a Lua script; over HTTP, alone and beside bulk",
    "k": "import of files: lines of JSON, a list of JSON, CSV with mapping and units, beside (b) on the same events",
    "m": "13 labels and three meters per event, two of them own ones (a, b and d, with the same floors)",
    "p": "the ledger in PostgreSQL: through accept until durable, one process",
    "q": "the same, two processes on one database",
    "r": "every dialect's reply in the server at that size, for accounts with 200 and with 10,000 label sets",
    "s": "the dashboard at that size: until the first chart of the usage page is drawn in Chromium, cold and warm",
    "w": "the worst case: 100 label sets per account, times shuffled over three years (a, b and d, no floor)",
}
BATCHES = {1: 10_000, 500: 200_000, 5_000: 400_000, 20_000: 400_000}
"""Events per request, and how many events are sent so."""
FLOOR_BATCH = 20_000
FLOOR_BATCHES_POSTGRES = (5_000, 20_000)
IN_FLIGHT = {1: 64, 500: 8, 5_000: 4, 20_000: 3}
IN_FLIGHT_POSTGRES = {1: 8, 500: 3, 5_000: 3, 20_000: 3}
"""What served it best when tried on two cores."""
IN_FLIGHT_HTTP = {1: 16, 500: 4, 5_000: 3, 20_000: 3}
LONG_BATCH = 5_000
PAIRS_S = 5.0
BULK_EVENTS = 2_000_000
NAMES = {"ours": "in process", "http": "over HTTP", "redis": "Redis"}
OLD_IDS = 20_000
IMPORTED_EVENTS = 800_000
"""Enough that the start of the process, which counts, plays little part."""
MS = 1_000.0

Rates = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for, and where files may lie."""

    events: int
    only: frozenset[str]
    rounds: int
    batches: frozenset[int]
    folder: Path
    postgres: str
    rich: bool


def say(message: str) -> None:
    """Tell on stderr what is going on."""
    print(message, file=sys.stderr, flush=True)


def measured(run: Run, parts: str, path: Path, batch: int, rich: bool) -> Rates:
    """Measure the rates of the parts that were asked for, in turn and several times over."""
    own, books = (meters.RICH, handwritten.RICH) if rich else ((), handwritten.USUAL)
    measures: dict[str, Callable[[], float]] = {
        "a": lambda: apart(decode.events_per_s, path),
        "b": lambda: apart(embedded.events_per_s, path, IN_FLIGHT[batch], own),
        "c": lambda: apart(http.events_per_s, path, IN_FLIGHT_HTTP[batch]),
        "d": lambda: apart(handwritten.events_per_s, path, run.postgres, IN_FLIGHT_POSTGRES[batch], books),
        "p": lambda: distributed.events_per_s(path, run.postgres, IN_FLIGHT[batch]),
        "q": lambda: distributed.events_per_s(path, run.postgres, IN_FLIGHT[batch], processes=2),
    }
    rates: Rates = {part: [] for part in parts}
    for _ in range(run.rounds):
        for part in parts:
            rates[part].append(measures[part]())
            say(f"  {part}: {rates[part][-1]:,.0f} events/s")
    return rates


def compared(rates: Rates, batch: int, floors: bool, case: str) -> Iterator[Line]:
    """Yield each rate, and what (b) and (c) are of the others; ratios are of one round, their median is shown."""
    names = {
        "a": "decode only",
        "b": "embedded ledger",
        "c": "over HTTP",
        "d": "PostgreSQL by hand",
        "p": "ledger in PostgreSQL",
        "q": "two processes of it",
    }
    for part, values in rates.items():
        yield rate(part, f"{names[part]}, {case}", median(values))
    least = {("b", "a"): 0.18, ("b", "d"): 1.8, ("p", "d"): 0.7, ("q", "p"): 1.0}
    for one, other in (("b", "a"), ("b", "d"), ("c", "b"), ("p", "d"), ("q", "p")):
        if one in rates and other in rates:
            has_floor = batch in FLOOR_BATCHES_POSTGRES if one in "pq" else batch == FLOOR_BATCH
            floor = least.get((one, other)) if floors and has_floor else None
            quotients = [x / y for x, y in zip(rates[one], rates[other], strict=True)]
            yield ratio(one, f"  ({one}) ÷ ({other})", median(quotients), floor)


def rates(run: Run, parts: str, shape: traffic.Traffic, batches: dict[int, int], label: str) -> Iterator[Line]:
    """Measure and compare rates at each batch size."""
    for batch, most in batches.items():
        if batch not in run.batches:
            continue
        count = min(most, run.events)
        say(f"{label}{count:,} events in batches of {batch:,}")
        path = traffic.write(run.folder / "bodies", shape, count, batch)
        result = measured(run, parts, path, batch, shape.rich)
        path.unlink()
        yield from compared(result, batch, floors=not shape.shuffled_days, case=f"{label}batches of {batch:,}")


def grown(run: Run, growth: long.Growth) -> Iterator[Line]:
    """Yield what a long run showed."""
    tenth = run.events / 10
    flat = growth.tenths_s[0] / growth.tenths_s[-1]
    if "e" in run.only:
        yield rate("e", f"first tenth of {run.events:,}, batches of {LONG_BATCH:,}", tenth / growth.tenths_s[0])
        yield rate("e", "last tenth", tenth / growth.tenths_s[-1])
        yield ratio("e", "  flatness: last tenth ÷ first tenth", flat, 0.8)
        yield ceiling("e", "disk per event after checkpoint", growth.disk_bytes / run.events, "B", 110)
        yield ceiling("e", "memory per event (growth of private memory)", growth.memory_bytes / run.events, "B", 24)
        yield ceiling("e", "single commit beside it, p50", median(growth.singles_s) * MS, "ms")
        yield ceiling("e", "single commit beside it, p99", percentile(growth.singles_s, 0.99) * MS, "ms")
        yield ceiling("e", "single commit beside it, slowest", max((*growth.singles_s, *growth.merging_s)) * MS, "ms")
        yield from delayed(growth)
    if "f" in run.only:
        for wide, most in zip(traffic.LONG.wide, (20, 200), strict=True):
            seconds = growth.reports_s[wide.account]
            yield ceiling("f", f"report over {wide.label_sets:,} label sets, p50", median(seconds) * MS, "ms", most)
            yield ceiling("f", f"report over {wide.label_sets:,} label sets, slowest", max(seconds) * MS, "ms")


def delayed(growth: long.Growth) -> Iterator[Line]:
    """Yield how much longer single commits took that met a merge."""
    if growth.merging_s:
        delay = percentile(growth.merging_s, 0.99) - percentile(growth.singles_s, 0.99)
        what = f"  p99 of the {len(growth.merging_s)} that met a merge, above that of the others"
        yield ceiling("e", what, delay * MS, "ms", 50)


def returned(run: Run, alone: long.Return, beside: long.Return) -> Iterator[Line]:
    """Yield what coming back to a large ledger showed."""
    if "g" in run.only:
        yield ceiling("g", f"{OLD_IDS:,} random old ids, all at once after a restart", alone.resend_s, "s", 2)
        yield ceiling("g", "the same beside some 70 single commits a second", beside.resend_s, "s")
        yield ceiling("g", "single commit meanwhile, p99", percentile(beside.singles_s, 0.99) * MS, "ms")
    if "h" in run.only:
        yield ceiling("h", "start-up to the first answer", alone.start_s, "s", 1)


def looked_at(run: Run, folder: Path) -> Iterator[Line]:
    """Yield how long somebody waits for the usage page of this ledger."""
    if not first_chart.has_browser():
        say("  s: there is no Chromium here, so nothing is looked at")
        return
    for name, waits in first_chart.measure(folder, run.rounds).items():
        for case, seconds in (("cold", waits.cold_s), ("warm", waits.warm_s)):
            yield ceiling("s", f"first chart, {name}, {case}, p50", median(seconds) * MS, "ms", 1000)
            yield ceiling("s", "  slowest", max(seconds) * MS, "ms")


def size(run: Run) -> Iterator[Line]:
    """Fill one ledger and measure everything that depends on its size; the same bodies serve (i)."""
    say(f"{run.events:,} events for the long run{', 13 labels and three meters each' if run.rich else ''}")
    shape = traffic.RICH_LONG if run.rich else traffic.LONG
    bodies = traffic.write(run.folder / "long", shape, run.events, LONG_BATCH)
    if run.only & set("efghs"):
        folder = run.folder / "data"
        count = -(-run.events // LONG_BATCH)
        yield from grown(run, apart(long.grow, bodies, folder, count, IN_FLIGHT[LONG_BATCH], run.rich))
        if run.only & set("gh"):
            old = traffic.sample(bodies, OLD_IDS, run.events)
            yield from returned(run, *(apart(long.come_back, folder, old, beside) for beside in (False, True)))
        if "s" in run.only:
            yield from looked_at(run, folder)
    if "i" in run.only:
        singles = apart(latency.beside_bulk, bodies, 400, 0.025, run.rich)
        yield ceiling("i", f"{len(singles)} single commits, p50", median(singles) * MS, "ms")
        yield ceiling("i", f"{len(singles)} single commits, p99", percentile(singles, 0.99) * MS, "ms", 40)


def replied(run: Run) -> Iterator[Line]:
    """Yield how long each dialect's slowest report takes: in the middle, and at the worst."""
    say(f"{run.events:,} events for the dialects' replies")
    bodies = traffic.write_events(run.folder / "dialects", dialects.events(run.events), LONG_BATCH)
    measured = apart(dialects.measure, run.folder / "replies", bodies, IN_FLIGHT[LONG_BATCH])
    for client, most in zip(dialects.CLIENTS, (20, 200), strict=True):
        for dialect, paths in dialects.REPORTS.items():
            slowest = max(paths, key=lambda path: median(measured[client.account, path]))
            seconds = measured[client.account, slowest]
            what = f"{client.label_sets:,} label sets, {dialect}: {slowest.split('?')[0].replace('{a}', 'ORG')}"
            yield ceiling("r", f"{what}, p50", median(seconds) * MS, "ms", most)
            yield ceiling("r", "  slowest", max(seconds) * MS, "ms")


def admitted(run: Run) -> Iterator[Line]:
    """Measure reserve and settle: rates beside Redis, where there is one, and latencies of an open loop."""
    redis = admission.has_redis()
    if not redis:
        say(f"  j: there is no {admission.REDIS} here, so nothing is compared with it")
    for tasks in (1, 16, 64):
        rates = {which: [0.0] * run.rounds for which in ("ours", "http", *(["redis"] if redis else []))}
        for turn in range(run.rounds):
            for which in rates:
                measure = admission_http.pairs_per_s if which == "http" else partial(admission.pairs_per_s, which)
                rates[which][turn] = apart(measure, tasks, PAIRS_S)
                say(f"  j: {which}, {tasks}: {rates[which][turn]:,.0f} pairs/s")
        for which, values in rates.items():
            yield Line("j", f"reserve + settle, {tasks} clients, {NAMES[which]}", f"{median(values):,.0f} pairs/s")
        if redis:
            quotients = [a / b for a, b in zip(rates["ours"], rates["redis"], strict=True)]
            yield ratio("j", "  in process ÷ Redis", median(quotients), 0.5 if tasks == 64 else None)
    say("  j: open loop")
    bulk = traffic.write(run.folder / "bulk", traffic.USUAL, BULK_EVENTS, FLOOR_BATCH)
    for case, beside, most in (("alone", None, 10), ("beside bulk", bulk, 40)):
        found = apart(admission_http.latencies, PAIRS_S, beside)
        name = f"{admission_http.RATE_PER_S}/s on {admission_http.CONNECTIONS} connections, {case}"
        yield ceiling("j", f"{name}, p50", median(found) * MS, "ms")
        yield ceiling("j", f"{name}, p99", percentile(found, 0.99) * MS, "ms", most)


def imported(run: Run) -> Iterator[Line]:
    """Measure imports and the ledger's own rate in turn; ratios are of one round, their median is shown."""
    count = min(IMPORTED_EVENTS, run.events)
    say(f"{count:,} events to import")
    bodies = traffic.write(run.folder / "imported", traffic.USUAL, count, FLOOR_BATCH)
    files = importing.files(run.folder, count)
    own: list[float] = []
    rates: Rates = {form: [] for form in files}
    for _ in range(run.rounds):
        own.append(apart(embedded.events_per_s, bodies, IN_FLIGHT[FLOOR_BATCH]))
        say(f"  b: {own[-1]:,.0f} events/s")
        for form, path in files.items():
            rates[form].append(importing.events_per_s(path, form, count))
            say(f"  k: {form}: {rates[form][-1]:,.0f} events/s")
    yield rate("b", f"embedded ledger, batches of {FLOOR_BATCH:,}", median(own))
    for form, values in rates.items():
        yield rate("k", f"import of {form}, end to end", median(values))
        yield ratio("k", "  (k) ÷ (b)", median([x / y for x, y in zip(values, own, strict=True)]), 0.7)


def lines(run: Run) -> Iterator[Line]:
    """Measure what was asked for."""
    usual = "".join(sorted(run.only & set("abcdpq")))
    if usual:
        yield from rates(run, usual, traffic.USUAL, BATCHES, "")
    if "m" in run.only:
        yield from rates(run, "abd", traffic.RICH, {FLOOR_BATCH: BATCHES[FLOOR_BATCH]}, "three meters, ")
    if "w" in run.only:
        worst = {batch: BATCHES[batch] for batch in (500, FLOOR_BATCH)}
        yield from rates(run, "abd", traffic.WORST, worst, "worst case, ")
    if "j" in run.only:
        yield from admitted(run)
    if "k" in run.only:
        yield from imported(run)
    if run.only & set("efghis"):
        yield from size(run)
    if "r" in run.only:
        yield from replied(run)


def parts(value: str) -> frozenset[str]:
    """Read `--only`."""
    chosen = frozenset(value.replace(",", "").replace(" ", ""))
    if not chosen or chosen - set(PARTS):
        raise argparse.ArgumentTypeError(f"name parts out of {','.join(PARTS)}")
    return chosen


def arguments() -> argparse.Namespace:
    """Read the command line."""
    legend = "\n".join(f"  {letter}  {meaning}" for letter, meaning in PARTS.items())
    reader = argparse.ArgumentParser(
        prog="python -m benchmarks",
        epilog=f"parts:\n{legend}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reader.add_argument("--events", type=int, default=5_000_000, help="events of the long run (default 5,000,000)")
    reader.add_argument("--only", type=parts, default=frozenset(PARTS), help="parts to run, as in b,d (default all)")
    reader.add_argument("--rounds", type=int, default=3, help="how often rates are measured in turn (default 3)")
    reader.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="batch sizes (default all)")
    reader.add_argument("--rich", action="store_true", help="(e) to (i) with 13 labels and three meters per event")
    reader.add_argument("--folder", default="/var/tmp", help="where files may lie meanwhile: on a disk (/var/tmp)")
    return reader.parse_args()


def main() -> None:
    """Run the parts and print their table."""
    asked = arguments()
    # Not /tmp: it may lie in memory, where durability costs nothing. The children read it too.
    os.environ["TMPDIR"] = asked.folder
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tallystick-bench-")))
        wanted = asked.only & {"d", "m", "p", "q", "w"}
        address = stack.enter_context(postgres.server()) if wanted else ""
        run = Run(asked.events, asked.only, asked.rounds, frozenset(asked.batches), folder, address, asked.rich)
        done: list[Line] = []
        try:
            done.extend(lines(run))
        finally:
            # What was measured before a slice failed is worth seeing too.
            print(text(done))


if __name__ == "__main__":
    main()
