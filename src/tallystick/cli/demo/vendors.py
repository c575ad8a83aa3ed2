"""What the demo does with the four more customers: send their work, and show each the report of its vendor's kind."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tallystick.cli.demo import month
from tallystick.cli.demo.month import PICTURES, RECORDS, SPACE, SPEECH, VOICES, Month
from tallystick.cli.demo.server import checked
from tallystick.cli.demo.story import Story


def show(story: Story) -> Month:
    """Send their work and show what it comes to, in four ways."""
    made = month.make(story.days)
    _send(story, made)
    _vblaze(story, made)
    _hiya(story, made)
    _visii(story, made)
    _phonexia(story, made)
    return made


def _send(story: Story, made: Month) -> None:
    operator = story.server.operator_key
    checked(story.server.ask("PUT", f"/v1/accounts/{VOICES}", b'{"kind":"org"}', key=operator), 201)
    accepted = repeated = 0
    for media_type, body in made.bodies():
        for again in range(2):
            answer = story.server.ask("POST", "/v1/events", body, key=operator, media_type=media_type)
            counts = checked(answer, 200)
            accepted += counts["accepted"] if not again else 0
            repeated += counts["duplicate"]
    story.comparison.compare("month, accepted", accepted, len(made.events))
    story.comparison.compare("month, sent again", repeated, len(made.events))
    story.heading(f"Two months of four more customers: {accepted} events, each batch sent twice")
    story.table(("receipt", "events"), (("accepted", accepted), ("duplicate", repeated)), 1)


def _get(story: Story, path: str, **query: str) -> Any:
    return story.server.get(path, query, key=story.server.operator_key)


def _vblaze(story: Story, made: Month) -> None:
    report = _get(story, "/usage", account=RECORDS)
    expected = made.by_model()
    rows = [(model, Decimal(str(hours)), streams) for model, (hours, streams) in report.items()]
    total = (sum(hours for hours, _ in expected.values()), sum(streams for _, streams in expected.values()))
    story.comparison.compare("vblaze", rows, [*((model, *cell) for model, cell in expected.items()), ("total", *total)])
    story.heading(f"{RECORDS}, as vblaze reports it (GET /usage)")
    story.table(("model", "hours", "streams"), rows, 1)


def _hiya(story: Story, made: Month) -> None:
    found = _get(story, f"/spaces/{VOICES}/{SPACE}/stats")
    rows = [
        (name, found[name]["count"], found[name]["duration"]) for name in ("uploadedAudios", "performedVerifications")
    ]
    expected = [
        ("uploadedAudios", len(made.audios), _iso(sum(made.audios))),
        ("performedVerifications", len(made.verifications), _iso(sum(made.verifications))),
    ]
    story.comparison.compare("hiya", rows, expected)
    records = _get(story, f"/orgs/{VOICES}/records/verification", **{"page-size": "50"})
    story.comparison.compare("hiya, records", len(records), len(made.verifications))
    story.heading(f"{VOICES}, as hiya reports it (GET /spaces/{VOICES}/{SPACE}/stats)")
    story.table(("what is there now", "count", "duration"), rows, 1)


def _iso(millis: int) -> str:
    """Write a duration as the vendor does."""
    minutes, rest = divmod(millis, 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""]
    return f"PT{''.join(parts)}{rest // 1000}.{rest % 1000:03}S"


def _visii(story: Story, made: Month) -> None:
    asked = {"year": str(story.days.told.year), "month": str(story.days.told.month)}
    target = f"/orgs/{PICTURES}/usage"
    report = story.server.get(target, asked, key=story.server.operator_key, scheme="token")["usage"]
    rows = [
        (dataset, line["type"], line["requests"], Decimal(line["credits"]))
        for dataset, found in report["datasets"].items()
        for line in found["usage"]
    ]
    expected = [
        (dataset, type, count, month.MULTIPLIERS[type] * count)
        for (dataset, type), count in sorted(made.requests.items())
    ]
    story.comparison.compare("visii", sorted(rows), expected)
    story.comparison.compare("visii, credits", Decimal(report["credits"]["used"]), made.credits())
    story.heading(f"{PICTURES}, as visii reports it (GET {target}), {story.days.told:%Y-%m}")
    story.table(("dataset", "type", "requests", "credits"), rows, 2)


def _phonexia(story: Story, made: Month) -> None:
    rows = []
    for item in _get(story, "/api/billing/consumptions", account=SPEECH)["items"]:
        labels = {label["key"]: label["value"] for label in item["labels"]}
        (used,) = item["consumptions"]
        rows.append((labels["technology"], labels["vendor"], Decimal(used["consumption"])))
    expected = [(*labels, Decimal(millis).scaleb(-3)) for labels, (_, millis) in sorted(made.technologies.items())]
    story.comparison.compare("phonexia", sorted(rows), expected)
    story.heading(f"{SPEECH}, as phonexia reports it (GET /api/billing/consumptions)")
    story.table(("technology", "vendor", "seconds"), rows, 2)
