"""What the demo does with limits: one is near, one over, one without end, one comfortably kept; and work under way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tallystick.cli.demo.month import PICTURES, RECORDS, Month
from tallystick.cli.demo.server import checked
from tallystick.cli.demo.story import Story
from tallystick.cli.demo.traffic import KESTREL, QUILL

TTL = "PT12H"
"""How long work under way holds what it may need: as long as somebody looks at the demo."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit on what an account has used of a meter since the period began, `share` of which that is.

    `holds` are what work under way sets aside, in the meter's unit.
    """

    account: str
    meter: str
    used: Decimal
    share: Decimal
    policy: str
    holds: Sequence[int] = ()

    @property
    def amount(self) -> Decimal:
        """The capacity: whole units."""
        return (self.used / self.share).quantize(Decimal(1))

    @property
    def standing(self) -> tuple[str, str, str, str]:
        """What is used, held, left and over: events that nobody held anything for are counted, fit or not."""
        held, over = Decimal(sum(self.holds)), self.used - self.amount
        return text(self.used), text(held), text(max(Decimal(0), -over - held)), text(max(Decimal(0), over))


def bounds_of(story: Story, made: Month) -> list[Bound]:
    """Return the limits, each with what the books say is used."""
    billed, books = story.days.billed, story.books
    talked = sum(
        sums[1] for (account, day), sums in books.audio.items() if account == KESTREL.account and day >= billed
    )
    written = sum(sums[2] for (_, day), sums in books.tokens.items() if day >= billed)
    recorded = Decimal(made.millis_billed).scaleb(-3)
    return [
        Bound(RECORDS, "audio", recorded, Decimal("0.88"), "reject", (3600,)),
        Bound(PICTURES, "vision_credits", made.credits_billed, Decimal("1.25"), "reject"),
        Bound(QUILL.account, "tokens_out", Decimal(written), Decimal("1.1"), "allow"),
        Bound(KESTREL.account, "audio", Decimal(talked).scaleb(-3), Decimal("0.4"), "postpone", (900, 240)),
    ]


def show(story: Story, made: Month) -> None:
    """Define the limits, let work begin that holds a part of them, and show how they stand."""
    bounds = bounds_of(story, made)
    for bound in bounds:
        _define(story, bound)
    _refuse(story)
    rows = []
    for bound in bounds:
        found = story.server.get(f"/v1/limits/{bound.account}", {}, key=story.server.operator_key)
        shown = (found["used"], found["held"], found["remaining"], found["overage"])
        story.comparison.compare(f"limit of {bound.account}", shown, bound.standing)
        rows.append((bound.account, bound.meter, found["capacity"], found["used"], found["held"], found["overage"]))
    story.heading("Limits: one is near, one over, one unlimited, one fine (GET /v1/limits)")
    story.table(("account", "meter", "capacity", "used", "held", "over"), rows, 2)


def _define(story: Story, bound: Bound) -> None:
    document = {
        "account": bound.account,
        "meter": bound.meter,
        "period": "month",
        "anchor": story.days.billed.day,
        "amount": text(bound.amount),
        "policy": bound.policy,
        "thresholds": [80, 100],
    }
    body, key = json.dumps(document).encode(), story.server.operator_key
    checked(story.server.ask("PUT", f"/v1/limits/{bound.account}", body, key=key), 201)
    for number, quantity in enumerate(bound.holds, 1):
        hold = {"id": f"stream-{number}", "account": bound.account, "meter": bound.meter}
        wanted = json.dumps({**hold, "quantity": str(quantity), "ttl": TTL}).encode()
        checked(story.server.ask("POST", "/v1/holds", wanted, key=key), 201)


def _refuse(story: Story) -> None:
    """Ask for more where nothing is left."""
    wanted = {"id": "search-1", "account": PICTURES, "meter": "vision_requests", "labels": {"type": "lens"}}
    body = json.dumps({**wanted, "quantity": "1"}).encode()
    answer = story.server.ask("POST", "/v1/holds", body, key=story.server.operator_key)
    story.comparison.compare("hold beyond a limit", (answer.status, answer.document["code"]), (429, "over_limit"))


def text(amount: Decimal) -> str:
    """Write an amount as the API does."""
    return f"{amount.normalize():f}"
