"""The meters that are there from the start."""

from __future__ import annotations

from tallystick.model import Catalog, Meter, Rounding

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


def builtin() -> Catalog:
    """Return the catalog of a new ledger, version 1: audio seconds and the tokens of language models."""
    meters = (_audio(), _tokens("tokens_in", "input"), _tokens("tokens_out", "output"))
    return Catalog(version=1, meters={meter.name: meter for meter in meters})


def _audio() -> Meter:
    return Meter(
        name="audio",
        version=1,
        events=frozenset({"audio.processed"}),
        quantity="$.data.duration",
        unit="s",
        scale=6,
        labels=(*_from_data(AUDIO_LABELS), ("space", "$.space")),
        rounding=Rounding(to="0.000001", mode="half_up"),
    )


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
