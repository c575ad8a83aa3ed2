"""What the demo does with the month: send it, show each customer the report of its vendor's kind, and its limits."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tallystick.cli.demo import month
from tallystick.cli.demo.month import PICTURES, RECORDS, SPACE, SPEECH, VOICES, Month
from tallystick.cli.demo.server import checked
from tallystick.cli.demo.story import Story

NEAR, OVER = Decimal("0.9"), Decimal("1.25")
"""How much of its limit a customer has used."""


def show(story: Story) -> Month:
    """Send the month and show what it comes to, in five ways."""
    made = month.make()
    _send(story, made)
    _vblaze(story, made)
    _hiya(story, made)
    _visii(story, made)
    _phonexia(story, made)
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


def _visii(story: Story, made: Month) -> None:
    asked = {"year": str(month.START.year), "month": str(month.START.month)}
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
    story.heading(f"{PICTURES}, as visii reports it (GET {target})")
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
