"""What the demo does with its server: send the traffic, show what it says of it, and compare that with the books."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tallystick.cli.demo.days import ONE, Days
from tallystick.cli.demo.month import Month
from tallystick.cli.demo.server import Answer, Server, checked
from tallystick.cli.demo.traffic import (
    ALTO,
    BATCH,
    CUSTOMERS,
    LINES,
    PLAIN,
    SINGLE,
    Books,
    Parcel,
    books_of,
)

Jobs = Mapping[tuple[str | None, ...], Sequence[int]]

STATUSES = ("accepted", "duplicate", "conflict", "rejected")
FORMS = {BATCH: "CloudEvents batch", LINES: "NDJSON", PLAIN: "JSON list", SINGLE: "single event"}
REPORTED = ALTO.account


@dataclass(slots=True)
class Comparison:
    """Every number of the server beside the one of the books."""

    count: int = 0
    differences: list[str] = field(default_factory=list)

    def compare(self, what: str, found: object, expected: object) -> None:
        """Note whether the two agree."""
        self.count += 1
        if found != expected:
            self.differences.append(f"{what}: {found}, but it should be {expected}")


@dataclass(frozen=True, slots=True)
class Story:
    """One run of the demo: where it is told, and what it compares."""

    server: Server
    console: Console
    days: Days
    parcels: Sequence[Parcel]
    books: Books
    keys: Mapping[str, str]
    comparison: Comparison = field(default_factory=Comparison)

    def heading(self, text: str) -> None:
        """Begin a part."""
        self.console.print(Text(f"\n{text}\n", style="bold"))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], texts: int) -> None:
        """Show rows; all but the first few columns are numbers."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 3, 0, 0))
        for place, column in enumerate(columns):
            table.add_column(column, justify="left" if place < texts else "right")
        for row in rows:
            table.add_row(*(Text("-" if value is None else str(value)) for value in row))
        self.console.print(table)


def begin(server: Server, console: Console, days: Days, parcels: Sequence[Parcel]) -> Story:
    """Add up the books and give every customer that reports for itself an account and a key."""
    senders = [customer.account for customer in CUSTOMERS if customer.own_key or customer.account == REPORTED]
    keys = {account: _make_key(server, account) for account in senders}
    return Story(server, console, days, parcels, books_of(parcels, days), keys)


def _make_key(server: Server, account: str) -> str:
    operator = server.operator_key
    checked(server.ask("PUT", f"/v1/accounts/{account}", b'{"kind":"org"}', key=operator), 201)
    wanted = json.dumps({"account": account, "scopes": ["ingest", "report"]}).encode()
    return str(checked(server.ask("POST", "/v1/keys", wanted, key=operator), 201)["key"])


# Receipts


def send(story: Story) -> None:
    """Send every request and compare each receipt with what was to become of the event."""
    statuses: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for number, parcel in enumerate(story.parcels, 1):
        answer = _post(story, parcel)
        for status in STATUSES:
            statuses[status] += answer.document.get(status, 0)
        receipts = answer.document.get("receipts", [])
        codes.update(receipt["code"] for receipt in receipts)
        refused = [(place, item.code) for place, item in enumerate(parcel.items) if item.code is not None]
        story.comparison.compare(f"request {number}, status", answer.status, _status_of(parcel))
        story.comparison.compare(f"request {number}, refused", [(r["index"], r["code"]) for r in receipts], refused)
    for status in STATUSES:
        story.comparison.compare(f"events {status}", statuses[status], story.books.statuses[status])
    story.comparison.compare("codes", codes, story.books.codes)
    _show_receipts(story, statuses, codes)


def _post(story: Story, parcel: Parcel) -> Answer:
    key = story.server.operator_key if parcel.sender is None else story.keys[parcel.sender]
    return story.server.ask("POST", "/v1/events", parcel.body, key=key, media_type=parcel.media_type)


def _status_of(parcel: Parcel) -> int:
    """Say which status a request must have: of one event, that event's; of more, whether all were taken."""
    refused = [item for item in parcel.items if item.code is not None]
    if not refused:
        return 200
    if parcel.media_type != SINGLE:
        return 207
    return 409 if refused[0].status == "conflict" else 422


def _show_receipts(story: Story, statuses: Mapping[str, int], codes: Mapping[str, int]) -> None:
    sent = Counter(FORMS[parcel.media_type] for parcel in story.parcels)
    events = sum(len(parcel.items) for parcel in story.parcels)
    story.heading(f"Sent to POST /v1/events: {events} events in {len(story.parcels)} requests")
    story.table(("form", "requests"), sorted(sent.items()), 1)
    conflicts = [code for code in codes if code == "id_reused"]
    rejections = sorted(set(codes) - set(conflicts), key=lambda code: (-codes[code], code))
    rows: list[Sequence[object]] = [("accepted", "", statuses["accepted"]), ("duplicate", "", statuses["duplicate"])]
    rows += [("conflict", code, codes[code]) for code in conflicts]
    rows += [("rejected", code, codes[code]) for code in rejections]
    story.heading("What became of them")
    story.table(("receipt", "code", "events"), rows, 2)


# Usage


def _usage(story: Story, meter: str, first: datetime, behind: datetime, window: str, group_by: str) -> Any:
    query = {
        "meter": meter,
        "from": instant(first),
        "to": instant(behind),
        "window": window,
        "group_by": group_by,
    }
    return story.server.get("/v1/usage", query, key=story.server.operator_key)


def instant(day: datetime) -> str:
    """Write an instant as the API does."""
    return day.isoformat().replace("+00:00", "Z")


def show_audio(story: Story) -> None:
    """Show the seconds of audio per day and account: late events count on the day of the work."""
    first, behind = story.days.late, story.days.today
    report = _usage(story, "audio", first, behind, "day", "account")
    rows = [(row["from"][:10], row["labels"]["account"], row["count"], row["quantity"]) for row in report["rows"]]
    books = {key: sums for key, sums in story.books.audio.items() if first <= key[1] < behind}
    expected = [
        (f"{day:%Y-%m-%d}", account, books[account, day][0], seconds(books[account, day][1]))
        for account, day in sorted(books, key=lambda key: (key[1], key[0]))
    ]
    total = (sum(row[2] for row in expected), seconds(sum(millis for _, millis in books.values())))
    _compare_rows(story, "audio", rows, expected)
    story.comparison.compare("audio, total", (report["total"]["count"], report["total"]["quantity"]), total)
    story.heading("Usage of meter audio, by day and account (GET /v1/usage)")
    story.table(("day", "account", "events", "seconds"), [*rows, ("total", "", *total)], 2)


def seconds(millis: int) -> str:
    """Write milliseconds as seconds without trailing zeros."""
    text = f"{millis // 1000}.{millis % 1000:03}"
    return text.rstrip("0").rstrip(".")


def show_tokens(story: Story) -> None:
    """Show the tokens of each language model, of all days."""
    into, out = (
        _usage(story, meter, story.days.first, story.days.today + ONE, "total", "model")["rows"]
        for meter in ("tokens_in", "tokens_out")
    )
    answered = {row["labels"]["model"]: row["quantity"] for row in out}
    models = [(row["labels"]["model"], row["count"], row["quantity"]) for row in into]
    rows = [(*row, answered.get(row[0])) for row in models]
    expected = [(model, sums[0], str(sums[1]), str(sums[2])) for model, sums in sorted(by_model(story.books).items())]
    _compare_rows(story, "tokens", rows, expected)
    story.heading("Two months of meters tokens_in and tokens_out, by model")
    story.table(("model", "events", "tokens in", "tokens out"), rows, 1)


def by_model(books: Books) -> dict[str, list[int]]:
    """Add up the days: answers, tokens in and tokens out of each model."""
    sums: dict[str, list[int]] = {}
    for (model, _), day in books.tokens.items():
        sums[model] = [before + more for before, more in zip(sums.get(model, (0, 0, 0)), day, strict=True)]
    return sums


def _compare_rows(
    story: Story, what: str, rows: Sequence[Sequence[object]], expected: Sequence[Sequence[object]]
) -> None:
    story.comparison.compare(f"{what}, rows", len(rows), len(expected))
    for found, due in zip(rows, expected, strict=False):
        story.comparison.compare(what, found, due)


def show_speechmatics(story: Story) -> None:
    """Show one account's batch jobs as Speechmatics reports them, asked for with that account's own key."""
    query = {"since": f"{story.days.first:%Y-%m-%d}", "until": f"{story.days.told:%Y-%m-%d}"}
    report = story.server.get("/v2/usage", query, key=story.keys[REPORTED])
    labels = ("type", "language", "operating_point")
    rows = [(*(line.get(label) for label in labels), *_amounts(line)) for line in report["details"] or []]
    jobs = story.books.jobs[REPORTED]
    _compare_rows(story, "speechmatics, details", rows, _ordered(jobs))
    summary = [(line["type"], *_amounts(line)) for line in report["summary"] or []]
    _compare_rows(story, "speechmatics, summary", summary, _ordered(_by_type(jobs)))
    story.heading(f"Whole days of {REPORTED}, as Speechmatics reports them (GET /v2/usage)")
    story.table((*labels, "count", "duration_hrs"), rows, 3)


def _amounts(line: Mapping[str, Any]) -> tuple[int, Decimal]:
    return line["count"], Decimal(line["duration_hrs"])


def _by_type(jobs: Jobs) -> dict[tuple[str | None, ...], list[int]]:
    sums: dict[tuple[str | None, ...], list[int]] = {}
    for kind, (count, millis) in jobs.items():
        before = sums.get(kind[:1], [0, 0])
        sums[kind[:1]] = [before[0] + count, before[1] + millis]
    return sums


def _ordered(jobs: Jobs) -> list[tuple[object, ...]]:
    """Put kinds of jobs into the report's order, most jobs first, each with its count and its hours."""
    order = sorted(jobs, key=lambda kind: (-jobs[kind][0], [label or "" for label in kind]))
    return [(*kind, jobs[kind][0], hours(jobs[kind][1])) for kind in order]


def hours(millis: int) -> Decimal:
    """Turn milliseconds into hours with two decimals, as the vendor writes them."""
    return (Decimal(millis) / 3_600_000).quantize(Decimal("0.01"), ROUND_HALF_UP)


# The proof


def verify(story: Story, made: Month) -> None:
    """Have the server replay its log from nothing and compare it with all that it keeps."""
    proof = checked(story.server.ask("POST", "/v1/verify", key=story.server.operator_key), 200)
    story.comparison.compare("verify, events", proof["events"], story.books.statuses["accepted"] + len(made.events))
    story.comparison.compare("verify, postings", proof["postings"], story.books.postings + made.postings)
    story.comparison.compare("verify, faults", proof["faults"], [])
    story.heading("The log replayed and compared with everything kept (POST /v1/verify)")
    replayed = f"{proof['events']} events, {proof['postings']} postings, {proof['entries']} entries"
    story.console.print(Text(f"{replayed}; {len(proof['faults'])} faults"))
    story.console.print(Text(f"head of the chain: {proof['head']}"), soft_wrap=True)


def judge(story: Story) -> bool:
    """Say whether the server has arrived at the numbers of the books."""
    comparison = story.comparison
    if not comparison.differences:
        said = f"All {comparison.count} comparisons with the generator's own sums agree."
        story.console.print(Text(f"\n{said}", style="bold green"))
        return True
    for difference in comparison.differences:
        story.console.print(Text(f"DIFFERS {difference}", style="bold red"), soft_wrap=True)
    said = f"{len(comparison.differences)} of {comparison.count} comparisons differ from the generator's own sums."
    story.console.print(Text(said, style="bold red"))
    return False
