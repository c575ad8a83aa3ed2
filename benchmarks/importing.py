"""(k) `tallystick import` end to end: a process of its own makes a ledger of a file, until every line is durable."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import traffic

COLUMNS = ("clip", "worker", "customer", "recorded", "length_ms", "kind", "mode", "language", "operating_point")
"""What the rows of a table tell of the usual traffic, in words of their own."""
FLAGS: Mapping[str, Sequence[str]] = {
    "ndjson": (),
    "json": (),
    "csv": (
        "--map=clip=id",
        "--map=worker=source",
        "--map=customer=account",
        "--map=recorded=time",
        "--map=length_ms=duration:ms",
        "--map=kind=data.type",
        "--set=type=audio.processed",
        "--set=status=success",
    ),
}
"""The forms of a file, and what an import of it is told."""


def write(folder: Path, events: Iterable[bytes]) -> Mapping[str, Path]:
    """Write the same events as lines of JSON, as a list and as a table; returns the files by their form."""
    paths = {form: folder / f"events.{form}" for form in FLAGS}
    with (
        paths["ndjson"].open("wb") as lines,
        paths["json"].open("wb") as elements,
        paths["csv"].open("w", newline="") as table,
    ):
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(COLUMNS)
        for number, event in enumerate(events):
            lines.write(event + b"\n")
            elements.write((b",\n" if number else b"[\n") + event)
            rows.writerow(row(json.loads(event)))
        elements.write(b"\n]\n")
    return paths


def row(event: Mapping[str, Any]) -> Iterator[object]:
    """Yield the cells of an event; its time is in UTC without saying so, as in many a table."""
    data = event["data"]
    yield from (event["id"], event["source"], event["account"])
    yield event["time"].removesuffix("Z").replace("T", " ")
    yield round(data["duration"] * 1000)
    yield from (data[name] for name in ("type", "mode", "language", "operating_point"))


def events_per_s(path: Path, form: str, count: int) -> float:
    """Import a file of so many events into a folder that is not there yet; every one has to be new."""
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder:
        command = [sys.executable, "-m", "tallystick", "import", str(path), "--data", f"{folder}/data", "--format=json"]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, *FLAGS[form]], capture_output=True, cwd=folder, env=_environment(), check=False
        )
        taken = time.perf_counter() - started
    if done.returncode or json.loads(done.stdout)["accepted"] != count:
        raise RuntimeError(f"Not every line was accepted: {done.stdout[-500:]!r} {done.stderr[-500:]!r}")
    return count / taken


def _environment() -> Mapping[str, str]:
    """Return this process's environment, but with modules compiled once: whoever installs a package has them so."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def files(folder: Path, count: int) -> Mapping[str, Path]:
    """Write the usual traffic in every form."""
    return write(folder, traffic.events(traffic.USUAL, count))
