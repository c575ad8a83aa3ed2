"""What the usage page says of an answer: its total, its parts, its rows, and a sentence for whoever sees no chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.dashboard import figures, period
from tallystick.dashboard.chart import Series
from tallystick.dashboard.figures import EXACT
from tallystick.dashboard.projection import Projection
from tallystick.dashboard.question import Question

ROWS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Report:
    """What the API answered: rows of GET /v1/usage as they came, and what all of them come to, read or not."""

    rows: Sequence[Mapping[str, Any]]
    total: Decimal
    count: int
    unit: str
    is_cut: bool


def read(said: Mapping[str, Any]) -> Report:
    """Read a report of the API, or a page of it."""
    total = said["total"]
    return Report(
        said["rows"], Decimal(total["quantity"] or 0), total["count"], said["unit"], said.get("next") is not None
    )


def projected(projection: Projection, asked: Question, report: Report) -> dict[str, str]:
    """Say what a running period would come to, and from what that follows."""
    total = EXACT.add(report.total, figures.added(projection.expected))
    return {
        "total": figures.rounded(total, 0 if total >= 100 else 2),
        "basis": f"from {projection.basis} {asked.buckets}{'s' if projection.basis > 1 else ''}".replace(
            "minute15", "quarter hour"
        ),
    }


def legend(asked: Question, series: Sequence[Series], report: Report) -> list[dict[str, Any]]:
    """Return the parts of the whole, largest first, where there are parts that add up to it."""
    if not asked.by or not asked.adds_up:
        return []
    return [
        {
            "name": each.name,
            "place": each.place,
            "total": figures.plain(each.total),
            "share": figures.share(each.total, report.total),
        }
        for each in series
    ]


def sentence(
    asked: Question, series: Sequence[Series], names: Sequence[str], sums: Sequence[Decimal], report: Report
) -> str:
    """Say in a sentence what the chart shows."""
    word = figures.unit(report.unit)
    amount = f"{figures.grouped(figures.plain(report.total))} {word}"
    said = (
        f"{asked.name} from {period.day_name(asked.days.first)} to {period.day_name(asked.days.last)}: {amount} in all"
    )
    if not any(sums):
        return f"{said}."
    most = max(range(len(sums)), key=lambda place: sums[place])
    said += f", most in {names[most]} with {figures.grouped(figures.plain(sums[most]))} {word}"
    if asked.by and asked.adds_up and len(series) > 1:
        said += f"; the largest part is {series[0].name} with {figures.share(series[0].total, report.total)}"
    return f"{said}."


def table(asked: Question, report: Report, bucket_of: Mapping[str, int], names: Sequence[str]) -> dict[str, Any]:
    """Return the rows of the API, sorted as asked, the page of them that is shown, and where the others are."""
    by = asked.by or ""
    rows = [
        {
            "place": bucket_of[row["from"]],
            "bucket": names[bucket_of[row["from"]]],
            "group": row["labels"].get(by) if by else None,
            "count": str(row["count"]),
            "quantity": row["quantity"] or "",
        }
        for row in report.rows
    ]
    keys: Mapping[str, Any] = {
        "from": lambda row: row["place"],
        "label": lambda row: (row["group"] is not None, row["group"] or ""),
        "count": lambda row: int(row["count"]),
        "quantity": lambda row: Decimal(row["quantity"] or 0),
    }
    rows.sort(key=keys[asked.sort.removeprefix("-")], reverse=asked.sort.startswith("-"))
    pages = max(1, -(-len(rows) // ROWS_SHOWN))
    page = min(asked.page, pages)
    first = (page - 1) * ROWS_SHOWN
    return {
        "rows": rows[first : first + ROWS_SHOWN],
        "rows_all": len(rows),
        "rows_first": first + 1,
        "page": page,
        "pages": pages,
    }
