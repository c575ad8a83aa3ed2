"""Meters and rates in the settings file: brought into force at the start, once, or refused with the member's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.catalog import builtin
from tallystick.cli import defining
from tallystick.cli.options import Failure
from tallystick.model import Rate, Rated, Rounding
from tallystick.settings import load
from tests.api.client import World, run
from tests.server import serving

FILE = """
log_level = "error"

[meters.calls]
events = ["call.ended"]
where.line = ["voice", "fax"]
where.test = false
quantity = "$.data.seconds"
unit = "s"
round = { to = "15", mode = "up", minimum = 30 }

[meters.calls.labels]
line = "$.data.line"
lines = "length(data.lines)"

[meters.credits]
events = ["call.ended"]
unit = "{credit}"
scale = 6
labels = { line = "$.data.line" }
rate = { table = "prices", label = "line" }
from = "beginning"

[[rates.prices]]
type = "voice"
multiplier = 0.1

[[rates.prices]]
type = "voice"
multiplier = "0.25"
from = 2026-01-01

[[rates.prices]]
type = "fax"
multiplier = 2
from = 2026-01-01T12:00:00+01:00
"""
NEW_YEAR = 1_767_225_600_000_000


def call(id: str, line: str, seconds: int) -> dict[str, object]:
    """Report a call."""
    data = {"line": line, "seconds": seconds}
    event = {"id": id, "source": "test", "type": "call.ended", "account": "acme", "data": data}
    return {**event, "time": "2026-10-01T00:00:00Z"}


def written(folder: Path, text: str) -> Path:
    """Write a settings file."""
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def test_a_file_defines_meters_and_rates(tmp_path: Path) -> None:
    """Everything that the API can define, numbers to the digit and dates as TOML has them."""
    config = written(tmp_path, FILE)

    async def scenario(world: World) -> None:
        await defining.apply(world.app, config)
        calls, credits = world.app.catalog.meters["calls"], world.app.catalog.meters["credits"]
        assert calls.where == (("line", frozenset({"voice", "fax"})), ("test", frozenset({"false"})))
        assert (calls.unit, calls.scale, calls.rounding) == ("s", 6, Rounding("15", "up", "30"))
        assert calls.labels == (("line", "$.data.line"), ("lines", "length(data.lines)"))
        assert credits.rate == Rated("prices", "line")
        assert dict(world.app.catalog.rates["prices"]) == {
            "fax": (Rate(NEW_YEAR + 11 * 3_600_000_000, 2_000_000),),
            "voice": (Rate(0, 100_000), Rate(NEW_YEAR, 250_000)),
        }
        told = (await world.ask("GET", "/v1/audit")).json["audit"]
        assert {each["actor"] for each in told} == {"config", "replay"}

    run(scenario)


def test_a_file_that_is_applied_again_changes_nothing(tmp_path: Path) -> None:
    """Neither a version nor a replay, however often the process starts; what it does not name stays."""
    config = written(tmp_path, FILE)

    async def scenario(world: World) -> None:
        await world.ingest(call("1", "voice", 100))
        await defining.apply(world.app, config)
        await world.ask("PUT", "/v1/meters/other", {"events": ["a"]})
        await world.ingest(call("2", "voice", 1))
        before = world.app.catalog
        await defining.apply(world.app, config)
        assert world.app.catalog == before
        total = (await world.ask("GET", "/v1/usage?meter=credits&window=total")).json["total"]
        assert (total["count"], total["quantity"]) == (2, "0.5")

    run(scenario)


def test_a_definition_that_changed_is_replaced(tmp_path: Path) -> None:
    """With `from` it counts what was kept anew, without it goes on."""

    async def scenario(world: World) -> None:
        await defining.apply(world.app, written(tmp_path, FILE))
        await world.ingest(call("1", "voice", 1), call("2", "fax", 1))
        await defining.apply(world.app, written(tmp_path, FILE.replace("scale = 6", "scale = 6\nwhere.line = 'fax'")))
        total = (await world.ask("GET", "/v1/usage?meter=credits&window=total")).json["total"]
        assert total == {"count": 1, "quantity": "2"}

    run(scenario)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[meters.calls]\nevents = []", "meters.calls.events: events must name at least one event type."),
        ("[meters.calls]\nevents = ['a']\nround = { to = 0.5, mode = 'up' }", "meters.calls.round.to: "),
        ("[meters.calls]\nevents = ['a']\nscale = 1.5", "meters.calls.scale: scale must be a whole number"),
        ("[meters.calls]\nevents = ['a']\nfrom = 1979-05-27T07:32:00", "meters.calls.from: from must be an instant"),
        ("[meters.calls]\nevents = ['a']\nfrom = 07:32:00", "meters.calls.from: from must be an instant"),
        ("[meters.calls]\nevents = ['a']\nlabels.a = 'data.['", "meters.calls.labels.a: This path leads nowhere"),
        ("[meters.Calls]\nevents = ['a']", "meters.Calls: a name must be 1 to 64"),
        ("[meters.audio]\nevents = ['a']", "meters.audio: This meter is built in"),
        ("[meters]\ncalls = 1", "meters.calls: The document must be an object."),
        ("[[meters]]\nname = 'calls'", "meters (from "),
        ("[[rates.prices]]\ntype = 'a'", "rates.prices.0.multiplier: multiplier is required."),
        ("[rates.prices]\na = 1", "rates.prices: rates must be a list."),
        ("[[rates.'no good']]\ntype = 'a'\nmultiplier = 1", "rates.no good: a name must be"),
        ("rates = 1", "rates (from "),
    ],
)
def test_a_flaw_in_the_file_names_file_and_member_and_nothing_is_defined(tmp_path: Path, text: str, says: str) -> None:
    """Whoever wrote it finds it; what stands before the flaw is not applied either."""
    config = written(tmp_path, f"{text}\n")

    async def scenario(world: World) -> None:
        with pytest.raises(Failure) as refused:
            await defining.apply(world.app, config)
        assert says in str(refused.value)
        assert str(config) in str(refused.value)
        assert world.app.catalog == builtin()

    run(scenario)


def test_every_flaw_of_a_definition_has_its_line(tmp_path: Path) -> None:
    """All that is wrong with a meter is told at once."""
    config = written(tmp_path, "[meters.calls]\nevents = []\nunit = 'a b'\n")

    async def scenario(world: World) -> None:
        with pytest.raises(Failure) as refused:
            await defining.apply(world.app, config)
        assert [line.split(": ")[1] for line in str(refused.value).splitlines()] == [
            "meters.calls.unit",
            "meters.calls.events",
        ]

    run(scenario)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({'unit = "s"\n': 'unit = "ms"\nscale = 6\n'}, "meters.calls: Meter 'calls' has another unit"),
        ({"multiplier = 2\n": "multiplier = 3\n"}, "rates.prices: Rate table 'prices' would change"),
    ],
)
def test_what_counted_usage_forbids_is_refused(tmp_path: Path, change: dict[str, str], says: str) -> None:
    """Another unit without a start, and another rate for what is counted, name the definition that asks for it."""

    async def scenario(world: World) -> None:
        await defining.apply(world.app, written(tmp_path, FILE))
        await world.ingest(call("1", "fax", 1))
        text = FILE
        for old, new in change.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        with pytest.raises(Failure) as refused:
            await defining.apply(world.app, written(tmp_path, text))
        assert says in str(refused.value)

    run(scenario)


def test_without_a_file_nothing_is_defined() -> None:
    """No settings file is no mistake."""

    async def scenario(world: World) -> None:
        await defining.apply(world.app, None)
        assert world.app.catalog == builtin()

    run(scenario)


def test_definitions_are_no_settings(tmp_path: Path) -> None:
    """A file with both gives the settings that it has."""
    assert load({}, {}, written(tmp_path, FILE)).log_level == "error"


def test_a_server_starts_with_what_its_file_defines(tmp_path: Path) -> None:
    """Before the first request, and again after a restart, without counting anything twice."""
    config, data = written(tmp_path, FILE), tmp_path / "data"
    for id in ("1", "2"):
        with serving(data, "--config", str(config)) as server:
            assert server.ask("GET", "/v1/meters/calls").json["unit"] == "s"
            assert server.ask("POST", "/v1/events", call(id, "voice", 1)).status == 200
            while (answer := server.ask("GET", "/v1/usage?meter=credits&window=total")).status == 503:
                assert answer.json["code"] == "unavailable"
            assert answer.json["total"]["count"] == int(id)
