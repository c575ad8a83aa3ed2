"""A golden file as a story: accounts, calls and events that are sent over HTTP, and replies that are compared whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tallystick import windows
from tallystick.model import AccountKind
from tests.api.client import World

HERE = Path(__file__).resolve().parent
BATCH_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class Story:
    """One golden file; `large` ones are told to the ledger on disk only."""

    name: str
    document: dict[str, Any]

    @property
    def large(self) -> bool:
        """Whether it has too many events for the ledger in memory, which counts them all for each answer."""
        return bool(self.document.get("large", False))


def stories(folder: Path = HERE) -> list[Story]:
    """Return the stories of every dialect's folder."""
    return [
        Story(str(path.relative_to(folder)), json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal))
        for path in sorted(folder.glob("*/*.json"))
    ]


def events(parts: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Write each part's event so many times: `#` is the number of each, and `seconds` are shared out among them."""
    for place, part in enumerate(parts):
        times = part["times"]
        text = json.dumps(part["event"])
        share, rest = divmod(round(Decimal(part.get("seconds", "0")) * 10**6), times)
        for number in range(times):
            event = json.loads(text.replace("#", str(number)))
            event["id"] = f"{place}-{number}"
            if "seconds" in part:
                event["data"]["duration"] = str(Decimal(share + (rest if number == 0 else 0)) / 10**6)
            yield event


async def tell(world: World, story: Story) -> None:
    """Send all that the story says, and compare what comes of it."""
    document = story.document
    world.now = windows.parse_instant(document["now"])
    for name, kind in document["accounts"].items():
        await world.account(name, AccountKind(kind))
    for call in document.get("calls", []):
        done = await world.ask(call["method"], call["path"], call["body"])
        assert done.status in (200, 201), done.body
    sent = list(events(document["events"]))
    for first in range(0, len(sent), BATCH_EVENTS):
        batch = sent[first : first + BATCH_EVENTS]
        taken = await world.ingest(*batch)
        assert taken.json["accepted"] == len(batch), taken.json
    for asked in document["asked"]:
        scheme = asked.get("authorization", "Bearer")
        answer = await world.ask("GET", asked["path"], key=document["key"], scheme=scheme, headers=asked.get("headers"))
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
        assert json.loads(answer.body, parse_float=Decimal) == asked["reply"], asked["path"]
