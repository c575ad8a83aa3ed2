"""The usage page: one meter over some days, what it adds up to, drawn and to the last digit."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from tallystick import windows
from tallystick.dashboard import chart, figures, period, question, rendering
from tallystick.dashboard.chart import Bars, Series
from tallystick.dashboard.client import Api
from tallystick.dashboard.figures import ZERO
from tallystick.dashboard.limit_lines import lines_of
from tallystick.dashboard.projection import Projection, project
from tallystick.dashboard.question import Question
from tallystick.dashboard.report import Report, legend, projected, read, sentence, table
from tallystick.dashboard.session import Reader, accounts_of
from tallystick.dashboard.visit import Sent, Visit, redirect
from tallystick.windows import Window

ROWS_READ_MAX = 20_000
"""A page that reads more would keep everybody else waiting; whoever wants them all has the files."""
LABEL_SETS_READ = 1000
"""How many are looked at for what there is to choose from."""
CHOICES_MAX = 60
"""More values than this are typed, not chosen."""
EVENT_OF_METER = {
    "vision_requests": ("vision.request", {"type": "lens"}),
    "vision_credits": ("vision.request", {"type": "lens"}),
    "tokens_in": ("model.request", {"model": "m-1", "operation": "chat", "input": 1200, "output": 350}),
    "tokens_out": ("model.request", {"model": "m-1", "operation": "chat", "input": 1200, "output": 350}),
    "images": ("resource.upserted", {"kind": "image", "id": "image-1", "url": "https://example.org/1.png"}),
}
AUDIO_EVENT = ("audio.processed", {"duration": 930.5, "type": "transcription", "language": "en"})


async def show(visit: Visit, api: Api, reader: Reader) -> Sent:
    """Show the page; what its form sends becomes an address first.

    Its head goes ahead of everything that has to be counted, unless it may be something else that is shown.
    """
    meters = await api.listed("/v1/usage/meters", "meters")
    asked, flaws = question.of(visit, reader, meters)
    if question.is_form(visit) and not flaws:
        return redirect(asked.url(sort=asked.sort))
    accounts = await accounts_of(reader, api)

    async def whole() -> Sent:
        return await _whole(
            visit, api, reader, asked, flaws, meters=[each["meter"] for each in meters], accounts=accounts
        )

    is_plain = not flaws and asked.account in ("", *accounts)
    return rendering.begun(whole) if is_plain and not visit.is_part else await whole()


async def _whole(
    visit: Visit, api: Api, reader: Reader, asked: Question, flaws: list[tuple[str, str]], **choices: Any
) -> Sent:
    chosen_by, is_choosing = asked.by, bool(visit.value("choose"))
    values = await _values(api, asked) if asked.filters or is_choosing else None
    asked, values = await _grouped(api, asked, reader, values)
    report = await _report(api, asked)
    if report.is_cut:
        flaws.append(("by", f"That would be more than {ROWS_READ_MAX:,} rows; the CSV has them. Shown without groups."))
        asked = replace(asked, by="")
        report = await _report(api, asked)
    return rendering.page(
        "usage.html",
        visit,
        reader,
        status=422 if flaws else 200,
        charts=True,
        title=f"Usage of {asked.name}",
        question=replace(asked, by=chosen_by),
        by=asked.by or "",
        flaws=dict(flaws),
        fields=None if values is None and asked.labels else _fields(asked, values or {}),
        choosing=is_choosing,
        presets=period.PRESETS,
        as_of=_as_of(visit.now, asked.zone),
        curl=_curl(visit, asked),
        **choices,
        **await _shown(visit, api, reader, asked, report),
    )


async def choices(visit: Visit, api: Api, reader: Reader) -> Sent:
    """Send what the filters may be set to: asked for when they are opened, as it takes as long as a chart."""
    asked, _ = question.of(visit, reader, await api.listed("/v1/usage/meters", "meters"))
    return rendering.page("filters.html", visit, reader, fields=_fields(asked, await _values(api, asked)))


async def sheet(visit: Visit, api: Api, reader: Reader) -> Sent:
    """Send the rows that the page shows as CSV, as the API writes them."""
    return await _file(visit, api, reader, "text/csv", "csv")


async def document(visit: Visit, api: Api, reader: Reader) -> Sent:
    """Send what the page shows as JSON, as the API writes it."""
    return await _file(visit, api, reader, "application/json", "json")


async def _file(visit: Visit, api: Api, reader: Reader, accept: str, ending: str) -> Sent:
    asked, flaws = question.of(visit, reader, await api.listed("/v1/usage/meters", "meters"))
    if flaws:
        return redirect(asked.url())
    asked, _ = await _grouped(api, asked, reader, None)
    answer = await api.get("/v1/usage", asked.api(), accept=accept)
    name = f"usage-{asked.name}-{asked.days.first}-{asked.days.last}.{ending}"
    headers = {**rendering.PRIVATE, "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    return Sent(200, answer.body, answer.headers["content-type"], headers)


# What is asked


async def _report(api: Api, asked: Question) -> Report:
    return read((await api.get("/v1/usage", [*asked.api(), ("limit", str(ROWS_READ_MAX))])).document)


async def _total(api: Api, asked: Question, start: int, end: int) -> Decimal:
    pairs = asked.between(start, end, window=Window.TOTAL, by="")
    return read((await api.get("/v1/usage", pairs)).document).total


Values = Mapping[str, Mapping[str | None, int]]
"""The values that each label has, None where an event has none, and how many events have it."""


async def _values(api: Api, asked: Question) -> Values:
    """Return what each label may be in these days, whatever is filtered."""
    labels = list(asked.labels)
    if not labels:
        return {}
    unfiltered = replace(asked, filters=())
    pairs = unfiltered.api(window=Window.TOTAL, by=",".join(labels))
    rows = (await api.get("/v1/usage", [*pairs, ("limit", str(LABEL_SETS_READ))])).document["rows"]
    found: dict[str, Counter[str | None]] = {label: Counter() for label in labels}
    for row in rows:
        for label, value in row["labels"].items():
            found[label][value] += row["count"]
    return found


async def _grouped(api: Api, asked: Question, reader: Reader, values: Values | None) -> tuple[Question, Values | None]:
    """Return the question with the grouping that tells most where it has none, and the values if they were needed.

    That is accounts where there are several, else the label whose largest part is the least.
    """
    if asked.by is not None:
        return asked, values
    if not asked.account and (reader.accounts is None or len(reader.accounts) > 1):
        return replace(asked, by="account"), values
    known = await _values(api, asked) if values is None else values
    used = [label for label in asked.labels if any(known.get(label, ()))]
    return replace(asked, by=min(used, key=lambda label: max(known[label].values()), default="")), known


def _fields(asked: Question, values: Values) -> list[dict[str, Any]]:
    """Return a field per label that has something to choose; a label with many values is typed."""
    fields = []
    for label in asked.labels:
        there = sorted(value for value in values.get(label, ()) if value)
        chosen = [value for name, value in asked.filters if name == label]
        if there or chosen:
            more = [value for value in chosen if value and value not in there]
            fields.append(
                {
                    "label": label,
                    "values": [*there, *more],
                    "is_typed": len(there) > CHOICES_MAX,
                    "choice": question.choice(label, asked),
                    "several": chosen if len(chosen) > 1 else [],
                }
            )
    return fields


# What is shown


async def _shown(visit: Visit, api: Api, reader: Reader, asked: Question, report: Report) -> dict[str, Any]:
    """Return everything about the answer."""
    start, end = asked.days.start, asked.days.end
    edges = [int(edge) for edge in windows.edges(start, end, asked.buckets, asked.zone)]
    names = period.bucket_names(edges, asked.buckets, asked.zone)
    bucket_of = {windows.format_instant(edge): place for place, edge in enumerate(edges[:-1])}
    series = await _series(api, asked, report, bucket_of, len(names))
    sums = [figures.added(amounts) for amounts in zip(*(each.amounts for each in series), strict=True)]
    projection = project(sums or [ZERO] * len(names), edges, visit.now) if asked.adds_up else None
    word = figures.unit(report.unit)
    return {
        "unit": word,
        "total": figures.plain(report.total),
        "spoken": figures.spoken(report.total, report.unit),
        "events": str(report.count),
        "before": await _before(visit, api, asked, report),
        "projection": projection and projected(projection, asked, report),
        "legend": legend(asked, series, report),
        "drawing": await _drawing(visit, api, reader, asked, series, names, projection, edges, report),
        "sentence": sentence(asked, series, names, sums, report),
        "empty": None if report.count else await _empty(visit, api, asked),
        **table(asked, report, bucket_of, names),
    }


async def _series(
    api: Api, asked: Question, report: Report, bucket_of: Mapping[str, int], buckets: int
) -> list[Series]:
    """Return what is stacked: the groups, or one series of all where groups do not add up."""
    by, rows = asked.by or "", report.rows
    if by and not asked.adds_up:
        by, rows = "", read((await api.get("/v1/usage", asked.api(by=""))).document).rows
    groups: dict[str | None, dict[int, Decimal]] = {}
    for row in rows:
        group = row["labels"][by] if by else None
        groups.setdefault(group, {})[bucket_of[row["from"]]] = Decimal(row["quantity"] or 0)
    names = {group: _group_name(group, by) if by else asked.name for group in groups}
    return chart.stacked(groups, buckets, names)


def _group_name(group: str | None, by: str) -> str:
    if group is None:
        return f"without {by}"
    return group if group else f"empty {by}"


async def _drawing(
    visit: Visit,
    api: Api,
    reader: Reader,
    asked: Question,
    series: Sequence[Series],
    names: Sequence[str],
    projection: Projection | None,
    edges: Sequence[int],
    report: Report,
) -> dict[str, Any] | None:
    if not report.count or (asked.is_running and not asked.adds_up):
        return None
    one_day = asked.days.count == 1
    today = next((place for place in range(len(names)) if edges[place] <= visit.now < edges[place + 1]), None)
    expected = None if projection is None else projection.expected
    shown = list(series)
    if asked.is_running:
        shown = [_until(each, today) for each in chart.running(series)]
        expected = None if projection is None else projection.running
    bars = Bars(
        buckets=names,
        names=[period.axis_name(name, asked.buckets, one_day=one_day) for name in names],
        series=shown,
        unit=figures.unit(report.unit),
        expected=expected,
        lines=await lines_of(visit, api, reader, asked),
        today=today if asked.buckets is not Window.TOTAL else None,
    )
    return chart.drawing(bars)


def _until(series: Series, today: int | None) -> Series:
    """Leave what has not come yet empty: a running total would go on there as if it were known."""
    if today is None:
        return series
    amounts = [amount if place <= today else ZERO for place, amount in enumerate(series.amounts)]
    return replace(series, amounts=amounts)


async def _before(visit: Visit, api: Api, asked: Question, report: Report) -> dict[str, str] | None:
    """Compare with as long a stretch before; while a period runs, with that one up to the same point."""
    if not asked.days.can_move(-1):
        return None
    earlier = asked.days.moved(-1)
    whole = await _total(api, asked, earlier.start, earlier.end)
    compared = whole
    is_part = asked.days.start < visit.now < asked.days.end
    if is_part:
        point = min(earlier.start + visit.now - asked.days.start, earlier.end)
        compared = await _total(api, asked, earlier.start, point)
    return {
        "name": earlier.name(),
        "total": figures.plain(whole),
        "compared": figures.plain(compared) if is_part else "",
        "change": figures.change(report.total, compared),
    }


async def _empty(visit: Visit, api: Api, asked: Question) -> dict[str, Any]:
    """Say what to do where there is nothing: how the first event is sent, and when there was something last."""
    type, data = EVENT_OF_METER.get(asked.name, AUDIO_EVENT)
    event = {"id": "job-1", "source": "my-worker", "type": type, "account": asked.account or "acme"}
    said = rendering.json_text({**event, "data": data})
    curl = (
        f"curl -s {shlex.quote(f'{visit.origin}/v1/events')} \\\n"
        '  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(said)}"
    )
    return {
        "curl": curl,
        "last": await _last_used(visit, api, asked),
        "knows_event": asked.name in (*EVENT_OF_METER, "audio"),
    }


async def _last_used(visit: Visit, api: Api, asked: Question) -> dict[str, str] | None:
    """Return name and address of the last month that has usage."""
    start, end = windows.parse_instant("1970-01-02T00:00:00Z"), visit.now + windows.DAY
    rows = (await api.get("/v1/usage", asked.between(start, end, window=Window.MONTH, by=""))).document["rows"]
    if not rows:
        return None
    at = windows.parse_instant(rows[-1]["from"])
    days = period.of_preset("this-month", at, asked.zone)
    return {"name": days.name(), "url": asked.url(days=days, preset=None)}


def _as_of(now: int, zone: str) -> str:
    text = windows.format_local(now, zone)
    return f"{text[:10]} {text[11:19]} {'UTC' if zone == 'UTC' else text[19:]}"


def _curl(visit: Visit, asked: Question) -> str:
    """Write the request that asks for just this, with the key left to whoever asks."""
    lines = [f"curl -s -G {shlex.quote(f'{visit.origin}/v1/usage')}", '-H "Authorization: Bearer $KEY"']
    lines += [f"--data-urlencode {shlex.quote(f'{name}={value}')}" for name, value in asked.api()]
    return " \\\n  ".join(lines)
