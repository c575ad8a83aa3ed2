"""What the process says about itself: every metric, declared once, and JSON lines on stderr.

Neither ever has a body, a key, a query or a label's value in it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TextIO

import msgspec
import structlog
from prometheus_client import exposition as text
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics

from tallystick.clock import system_clock
from tallystick.distribution import Distribution
from tallystick.windows import format_instant


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as others know it: `kind` is counter, gauge or histogram; a counter is read as `name`_total."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


REQUESTS = Metric(
    "tallystick_http_requests",
    "counter",
    "Requests answered, by method, route as it is declared, and class of the status.",
    ("method", "route", "status"),
)
REQUEST_SECONDS = Metric(
    "tallystick_http_request_duration_seconds",
    "histogram",
    "Time from the first look at a request to the end of its reply.",
    ("method", "route", "status"),
)
REQUESTS_UNDER_WAY = Metric("tallystick_http_requests_under_way", "gauge", "Requests that are being answered.")
BODY_BYTES = Metric("tallystick_http_body_bytes", "gauge", "Bytes of request bodies in memory.")
EVENTS = Metric(
    "tallystick_events", "counter", "Events answered for: accepted, duplicate, conflict or rejected.", ("verdict",)
)
EVENTS_REFUSED = Metric(
    "tallystick_events_refused", "counter", "Events refused, by the code of their receipt.", ("code",)
)
ACCOUNT_EVENTS = Metric(
    "tallystick_account_events",
    "counter",
    "Events accepted, by account; accounts that are not named, or have this name, are the account other.",
    ("account",),
)
LABEL_SET_WARNINGS = Metric(
    "tallystick_label_set_warnings",
    "gauge",
    "UTC months, seen since the start, in which an account uses 80 % or more of the label sets a meter may have.",
    ("account", "meter"),
)
LEDGER_SEQUENCE = Metric("tallystick_ledger_sequence", "gauge", "Place in the log of the last event.")
QUEUED_BYTES = Metric("tallystick_ledger_queued_bytes", "gauge", "Bytes of events that wait for a commit.")
COMMIT_SECONDS = Metric(
    "tallystick_ledger_commit_duration_seconds", "histogram", "Time that commits of events took, their fsync included."
)
COMMIT_BYTES = Metric("tallystick_ledger_commit_bytes", "histogram", "Bytes of the events of one commit, as sent.")
COMMIT_AGE = Metric(
    "tallystick_ledger_commit_age_seconds", "gauge", "Time since the last commit of events; absent before the first."
)
WAL_BYTES = Metric("tallystick_ledger_wal_bytes", "gauge", "Bytes of the write-ahead log that are not in the file yet.")
REPLICA_LAG = Metric(
    "tallystick_replica_lag_seconds",
    "gauge",
    "How far a replica that is read is behind: 0 if it has replayed all that it was sent, else the time since the last "
    "transaction that it has; absent where nothing is read from a replica, and where nobody knows.",
)
DAMAGED_ENTRIES = Metric(
    "tallystick_ledger_damaged_entries", "gauge", "Entries of the log that are not what was written: run verify."
)

METRICS = (
    REQUESTS,
    REQUEST_SECONDS,
    REQUESTS_UNDER_WAY,
    BODY_BYTES,
    EVENTS,
    EVENTS_REFUSED,
    ACCOUNT_EVENTS,
    LABEL_SET_WARNINGS,
    LEDGER_SEQUENCE,
    QUEUED_BYTES,
    COMMIT_SECONDS,
    COMMIT_BYTES,
    COMMIT_AGE,
    WAL_BYTES,
    REPLICA_LAG,
    DAMAGED_ENTRIES,
)

REQUEST_SECONDS_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

OPENMETRICS = re.compile(r"(?:^|,)\s*application/openmetrics-text\s*(?:[;,]|$)", re.ASCII | re.IGNORECASE)

Reading = tuple[Metric, tuple[str, ...], float | Distribution]
"""A metric, the values of its labels, and what it says."""


class Counts:
    """What one process counts of its requests, for one event loop: plain numbers, until somebody looks."""

    def __init__(self) -> None:
        self._seconds: defaultdict[tuple[str, str, str], Distribution] = defaultdict(
            lambda: Distribution(REQUEST_SECONDS_BOUNDS)
        )
        self._events: Counter[str] = Counter({"accepted": 0, "duplicate": 0, "conflict": 0, "rejected": 0})
        self._refused: Counter[str] = Counter()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is the declared one, so that there are few."""
        self._seconds[method, route, f"{status // 100}xx"].add(seconds)

    def judged(self, verdict: str, code: str | None, events: int) -> None:
        """Count events that share a verdict and, where they were refused, its code."""
        self._events[verdict] += events
        if code is not None:
            self._refused[code] += events

    def read(self) -> Iterator[Reading]:
        """Yield what was counted."""
        for labels, seconds in self._seconds.items():
            yield REQUESTS, labels, sum(seconds.counts)
            yield REQUEST_SECONDS, labels, seconds
        for verdict, events in self._events.items():
            yield EVENTS, (verdict,), events
        for code, events in self._refused.items():
            yield EVENTS_REFUSED, (code,), events


def exposition(readings: Iterable[Reading], accept: str) -> tuple[bytes, str]:
    """Write readings as the Accept header asks, as OpenMetrics or as Prometheus' text; also returns the media type."""
    families = _Families(readings)
    if OPENMETRICS.search(accept):
        body = openmetrics.generate_latest(families)  # type: ignore[no-untyped-call]  # the library left types out here
        return body, openmetrics.CONTENT_TYPE_LATEST
    return text.generate_latest(families), text.CONTENT_TYPE_PLAIN_0_0_4


class _Families:
    """Readings in the shape that the encoders take: one family per metric, in the order of declaration."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings: defaultdict[Metric, list[Reading]] = defaultdict(list)
        for reading in readings:
            self._readings[reading[0]].append(reading)

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            yield _family(metric, self._readings[metric])


def _family(metric: Metric, readings: Sequence[Reading]) -> Family:
    if metric.kind == "histogram":
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for _, labels, spread in readings:
            assert isinstance(spread, Distribution)
            family.add_metric(labels, _buckets(spread), spread.sum)
        return family
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    numbers = kind(metric.name, metric.help, labels=metric.labels)
    for _, labels, number in readings:
        assert not isinstance(number, Distribution)
        numbers.add_metric(labels, number)
    return numbers


def _buckets(spread: Distribution) -> list[tuple[str, float]]:
    bounds = [*map(str, map(float, spread.bounds)), "+Inf"]
    return list(zip(bounds, accumulate(spread.counts), strict=True))


# Log lines

LOG: structlog.stdlib.BoundLogger = structlog.get_logger()


class Lines:
    """Where lines go: those of one turn of an event loop together, those of other threads at once."""

    def __init__(self, file: TextIO) -> None:
        """Write to a file that is written through."""
        self._file = file
        self._waiting: list[str] = []

    def msg(self, line: str) -> None:
        """Write a line."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._file.write(f"{line}\n")
            return
        if not self._waiting:
            loop.call_soon(self._write)
        self._waiting.append(line)

    debug = info = warning = error = critical = msg

    def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        self._file.write("".join(f"{line}\n" for line in lines))


class Forward(logging.Handler):
    """Takes what libraries log and writes it as our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the library's message, and of an exception only what it was and where."""
        error = record.exc_info[1] if record.exc_info else None
        about = {} if error is None else described(error)
        LOG.log(record.levelno, record.getMessage(), logger=record.name, **about)


def configure(level: str) -> None:
    """Send our lines and those of libraries, from `level` up, to stderr."""
    stderr = Lines(sys.stderr)
    structlog.configure(
        processors=[_line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # One for all: a request writes one line, and would make a logger for it each time.
        logger_factory=lambda *names: stderr,
        cache_logger_on_first_use=False,
    )
    # Below a warning, libraries talk to their own developers.
    logging.basicConfig(level=logging.WARNING, handlers=[Forward()], force=True)


def described(error: BaseException) -> dict[str, Any]:
    """Say what was raised and where; not its message, which may quote what a customer sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__qualname__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


_encoder = msgspec.json.Encoder(enc_hook=str)


def _line(logger: Any, level: str, line: MutableMapping[str, Any]) -> str:
    """Write a line of the log."""
    return _encoder.encode({**line, "level": level, "timestamp": format_instant(system_clock())}).decode()
