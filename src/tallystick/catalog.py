"""The meters and rates that are there from the start (events.md, "Built-in meters")."""

from __future__ import annotations

from dataclasses import replace

from tallystick.model import Catalog, Meter, Rate, Rated, RateTable, Rounding

SPACE = ("space", "$.space")
PERFORMED = frozenset({"performed", "performedWithoutScore"})
AUDIO_LABELS = (
    "technology",
    "vendor",
    "operation",
    "mode",
    "type",
    "model",
    "language",
    "operating_point",
    "tags",
    "billing",
    "license",
)
TOKEN_LABELS = ("model", "operation")
MICROSECONDS = Rounding(to="0.000001", mode="half_up")


def builtin() -> Catalog:
    """Return the catalog of a new ledger, version 1."""
    meters = (
        _audio(),
        *_vision(),
        *_resources(),
        _tokens("tokens_in", "input"),
        _tokens("tokens_out", "output"),
    )
    return Catalog(version=1, meters={meter.name: meter for meter in meters}, rates={"vision": _vision_rates()})


def _vision_rates() -> RateTable:
    """Return the multipliers of the vendor's page, at six decimals, from 1970 on."""
    multipliers = {"assistant": 2_000_000, "explore": 1_000_000, "lens": 3_000_000, "similar": 500_000, "track": 0}
    return {type: (Rate(0, multiplier),) for type, multiplier in multipliers.items()}


def _audio() -> Meter:
    return Meter(
        name="audio",
        version=1,
        events=frozenset({"audio.processed"}),
        quantity="$.data.duration",
        unit="s",
        scale=6,
        labels=(*_from_data(AUDIO_LABELS), SPACE),
        rounding=MICROSECONDS,
    )


def _vision() -> tuple[Meter, Meter]:
    requests = Meter(
        name="vision_requests",
        version=1,
        events=frozenset({"vision.request"}),
        quantity=None,
        unit="{request}",
        scale=0,
        labels=(*_from_data(("type",)), SPACE),
    )
    return requests, replace(requests, name="vision_credits", unit="{credit}", scale=6, rate=Rated("vision", "type"))


def _resources() -> tuple[Meter, Meter, Meter]:
    images = Meter(
        name="images",
        version=1,
        events=frozenset({"resource.upserted"}),
        quantity=None,
        unit="{image}",
        scale=0,
        labels=(SPACE,),
        where=(("kind", frozenset({"image"})),),
        once_per="url",
    )
    verifications = Meter(
        name="verifications",
        version=1,
        events=frozenset({"resource.upserted"}),
        quantity="$.data.duration",
        unit="s",
        scale=6,
        labels=(*_from_data(("type", "model")), SPACE),
        where=(("kind", frozenset({"verification"})), ("state", PERFORMED)),
        rounding=MICROSECONDS,
        once_per="state",
    )
    voiceprints = replace(
        verifications,
        name="voiceprints",
        labels=(SPACE, *_from_data(("model",))),
        where=(("kind", frozenset({"voiceprint"})), ("state", frozenset({"computed"}))),
    )
    return images, verifications, voiceprints


def _tokens(name: str, member: str) -> Meter:
    return Meter(
        name=name,
        version=1,
        events=frozenset({"model.request"}),
        quantity=f"$.data.{member}",
        unit="{token}",
        scale=0,
        labels=_from_data(TOKEN_LABELS),
    )


def _from_data(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"$.data.{name}") for name in names)
