"""What the demo does with the month: send it, show each customer the report of its vendor's kind, and its limits."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tallystick.cli.demo import month
from tallystick.cli.demo.month import PICTURES, RECORDS, SPACE, SPEECH, VOICES, Month
from tallystick.cli.demo.server import checked
from tallystick.cli.demo.story import Story, seconds

NEAR, OVER = Decimal("0.9"), Decimal("1.25")
"""How much of its limit a customer has used."""


def show(story: Story) -> Month:
    """Send the month and show what it comes to, in five ways."""
    made = month.make()
    _send(story, made)
    _vblaze(story, made)
    _hiya(story, made)
    _vision(story, made)
    _speech(story, made)
    _limits(story, made)
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
    story.heading(f"The month before: {accepted} events of four more customers, each batch sent twice")
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


def _vision(story: Story, made: Month) -> None:
    columns = ("dataset", "type", "requests", "credits")
    asked = {"account": PICTURES, "window": "total", "group_by": "space,type"}
    counted = _get(story, "/v1/usage", meter="vision_requests", **asked)["rows"]
    cost = {tuple(row["labels"].values()): row["quantity"] for row in _usage_rows(story, "vision_credits", asked)}
    rows = [(*row["labels"].values(), row["count"], cost.get(tuple(row["labels"].values()))) for row in counted]
    expected = [
        (dataset, type, count, f"{(month.MULTIPLIERS[type] * count).normalize():f}")
        for (dataset, type), count in sorted(made.requests.items())
    ]
    story.comparison.compare("vision", rows, expected)
    story.heading(f"{PICTURES}: visual search, by dataset and type")
    story.table(columns, rows, 2)


def _usage_rows(story: Story, meter: str, asked: dict[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _get(story, "/v1/usage", meter=meter, **asked)["rows"]
    return rows


def _speech(story: Story, made: Month) -> None:
    asked = {"account": SPEECH, "window": "total", "group_by": "technology,vendor"}
    rows = [(*row["labels"].values(), row["count"], row["quantity"]) for row in _usage_rows(story, "audio", asked)]
    expected = [(*labels, jobs, seconds(millis)) for labels, (jobs, millis) in sorted(made.technologies.items())]
    story.comparison.compare("speech", rows, expected)
    story.heading(f"{SPEECH}: speech, by technology and vendor")
    story.table(("technology", "vendor", "jobs", "seconds"), rows, 2)


def _limits(story: Story, made: Month) -> None:
    """Give two customers limits, one of which it is near to, and one that is past."""
    used = {
        RECORDS: ("audio", Decimal(sum(millis for _, millis in made.calls.values())).scaleb(-3), NEAR),
        PICTURES: ("vision_credits", made.credits(), OVER),
    }
    rows = []
    for account, (meter, amount, share) in used.items():
        capacity = (amount / share).quantize(Decimal(1))
        document = {"account": account, "meter": meter, "period": "total", "amount": f"{capacity:f}", "policy": "allow"}
        body, key = json.dumps(document).encode(), story.server.operator_key
        found = checked(story.server.ask("PUT", f"/v1/limits/{account}", body, key=key), 201)
        expected = (f"{amount.normalize():f}", _text(capacity - amount), _text(amount - capacity))
        shown = (found["used"], found["remaining"], found["overage"])
        story.comparison.compare(f"limit of {account}", shown, expected)
        rows.append((account, meter, found["capacity"], *shown))
    story.heading("Limits: one customer is near, one is over (GET /v1/limits)")
    story.table(("account", "meter", "capacity", "used", "remaining", "overage"), rows, 2)


def _text(amount: Decimal) -> str:
    """Write what is left, or over, which is never below nothing."""
    return "0" if amount <= 0 else f"{amount.normalize():f}"
