"""Statistics of a space: what is in it now, counted, with durations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import msgspec

from tallystick.dialects.hiya.references import duration_text
from tallystick.dialects.hiya.refusals import not_found
from tallystick.model import Counts, LiveQuery, LiveSpace
from tallystick.query import Reply, Request

VERIFICATIONS = ("verification.identity", "verification.authenticity", "verification.message")


class Counted(TypedDict):
    """How many there are, and how long they are together."""

    count: int
    duration: str


class Statistics(TypedDict):
    """The vendor's eight fields."""

    uploadedAudios: Counted
    createdIdentities: int
    createdVoiceprints: Counted
    computedVoiceprints: Counted
    performedVerifications: Counted
    performedIdentityVerifications: Counted
    performedAuthenticityVerifications: Counted
    performedMessageVerifications: Counted


def parse(request: Request) -> LiveQuery:
    """Ask for the space that the path names; who may read it is settled already."""
    return LiveQuery(request.path["owner"], request.path["space"])


def render(spaces: Sequence[LiveSpace]) -> Reply:
    """Write the statistics; a Problem where there is no such space."""
    if not spaces or "space" not in spaces[0].containers:
        raise not_found()
    counts = spaces[0].live
    identity, authenticity, message = VERIFICATIONS
    document: Statistics = {
        "uploadedAudios": _counted(counts, "audio"),
        "createdIdentities": counts.get("identity", (0, 0))[0],
        "createdVoiceprints": _counted(counts, "voiceprint"),
        "computedVoiceprints": _counted(counts, "voiceprint.computed"),
        "performedVerifications": _counted(counts, *VERIFICATIONS),
        "performedIdentityVerifications": _counted(counts, identity),
        "performedAuthenticityVerifications": _counted(counts, authenticity),
        "performedMessageVerifications": _counted(counts, message),
    }
    return Reply(200, msgspec.json.encode(document))


def _counted(counts: Counts, *names: str) -> Counted:
    found = [counts.get(name, (0, 0)) for name in names]
    duration = sum(duration for _, duration in found)
    return {"count": sum(count for count, _ in found), "duration": duration_text(duration)}
