"""The vendors' pages come back: each example is rebuilt from events over HTTP, and whole replies are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.dialects import NAMES
from tests.api.client import World, place, run
from tests.golden.story import Story, stories, tell
from tests.ledger.build import LEDGERS

STORIES = stories()


@pytest.mark.parametrize(
    ("story", "kept"),
    [(story, kept) for story in STORIES for kept in LEDGERS if kept != "memory" or not story.large],
    ids=lambda value: value.name if isinstance(value, Story) else value,
)
def test_the_page_of_a_vendor_comes_back_from_its_events(
    request: pytest.FixtureRequest, tmp_path: Path, story: Story, kept: str
) -> None:
    """With the clock at the instant of the page, every reply is the page's, to the last member."""

    async def scenario(world: World) -> None:
        await tell(world, story)

    run(scenario, folder=place(kept, request, tmp_path))


def test_every_dialect_has_a_page() -> None:
    """A dialect is registered by its name, and has a folder of that name."""
    assert {story.name.split("/")[0] for story in STORIES} == set(NAMES)


def test_a_reply_that_differs_is_seen() -> None:
    """A member more, a digit or an event less: none passes for the page."""
    (page,) = (story for story in STORIES if story.name == "phonexia/capacities.json")

    async def scenario(world: World) -> None:
        changed = {**page.document, "events": page.document["events"][1:]}
        with pytest.raises(AssertionError):
            await tell(world, Story("changed", changed))

    run(scenario)
