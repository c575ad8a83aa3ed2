"""The demo from beginning to end."""

from __future__ import annotations

from tallystick.cli.demo import bounds, story, vendors
from tallystick.cli.demo.story import Story


def tell(told: Story) -> bool:
    """Send, report and verify; true if every number is what it should be."""
    story.send(told)
    story.show_audio(told)
    story.show_tokens(told)
    story.show_speechmatics(told)
    month = vendors.show(told)
    bounds.show(told, month)
    story.verify(told, month)
    return story.judge(told)
