"""The reference of meters: what it shows as JSON and as TOML can be defined, and is the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from tallystick.definitions import meters, rates
from tallystick.settings import read_definitions

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "meters.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def documents() -> list[dict[str, Any]]:
    """Return the page's JSON."""
    return [json.loads(block, parse_float=Decimal) for block in blocks("json")]


def defined(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return what the page's TOML defines."""
    path = folder / "settings.toml"
    path.write_text("\n".join(blocks("toml")))
    return read_definitions(path)


def test_the_meter_on_the_page_is_one_in_both_notations(tmp_path: Path) -> None:
    """A definition says the same as JSON and as TOML, and uses every member that goes with the others."""
    meter = meters.read(documents()[0], name="calls")
    assert meters.read(defined(tmp_path)["meters"]["calls"], name="calls") == meter
    assert set(documents()[0]) == set(meters.MEMBERS) - {"name", "once_per", "rate"}


def test_the_rates_on_the_page_are_the_same_in_both_notations(tmp_path: Path) -> None:
    """So are rates, with days and instants as TOML has them."""
    table = rates.read(documents()[1])
    assert rates.read({"rates": defined(tmp_path)["rates"]["prices"]}) == table
    assert {type: len(lines) for type, lines in table.items()} == {"voice": 2, "fax": 1}


def test_the_page_has_a_line_for_every_member() -> None:
    """Whatever a definition may say is explained."""
    explained = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert explained == list(meters.MEMBERS)
