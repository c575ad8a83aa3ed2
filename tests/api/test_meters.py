"""Meters over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tallystick.catalog import builtin
from tallystick.ledger.memory import MemoryLedger
from tallystick.model import Meter, Replay, Scope
from tests.api.client import World, run

CALLS = {"events": ["call.ended"], "quantity": "$.data.seconds", "unit": "s", "labels": {"line": "$.data.line"}}
SHOWN = {"name": "calls", "aggregation": "sum", "scale": 6, **CALLS}


def call(id: str, seconds: Any = 60, **data: Any) -> dict[str, Any]:
    """Report a call that ended an hour before noon."""
    event = {"id": id, "source": "test", "type": "call.ended", "account": "acme", "time": "2026-11-01T11:00:00Z"}
    return {**event, "data": {"seconds": seconds, **data}}


async def counted(world: World, meter: str = "calls") -> tuple[int, str]:
    """Ask how many calls there were, and how long."""
    total = (await world.ask("GET", f"/v1/usage?meter={meter}&window=total")).json["total"]
    return total["count"], total["quantity"]


class SlowLedger(MemoryLedger):
    """A ledger whose replays go on until a test ends them."""

    begun: tuple[Meter, int] | None = None

    async def put_meter(self, meter: Meter, *, actor: str, start: int | None = None) -> None:
        """Begin a replay, and leave it at that."""
        if start is None:
            await super().put_meter(meter, actor=actor)
            return
        self.begun = (meter, start)
        coming = replace(meter, version=self.catalog.version + 1)
        self._catalog = replace(self.catalog, replays={meter.name: Replay((coming,), start)})

    def replayed(self, name: str) -> tuple[int, int] | None:
        return (7, 10) if name in self.catalog.replays else None

    async def finish(self) -> None:
        """Bring into force what was begun."""
        assert self.begun is not None
        self._catalog = replace(self.catalog, replays={})
        await super().put_meter(self.begun[0], actor="test", start=self.begun[1])


def slow(world: World) -> SlowLedger:
    """Give a world a ledger whose replays take their time."""
    ledger = SlowLedger(world.settings, lambda: world.now, builtin())
    world.ledger = world.app.ledger = ledger
    return ledger


def test_a_meter_is_defined_counts_and_is_shown() -> None:
    """The first PUT creates, and what comes from then on is counted; the definition is shown with all it implies."""

    async def scenario(world: World) -> None:
        await world.ingest(call("before", 1))
        version = world.app.catalog.version
        made = await world.ask("PUT", "/v1/meters/calls", CALLS)
        assert (made.status, made.json) == (201, {**SHOWN, "version": version + 1})
        assert (await world.ask("GET", "/v1/meters/calls")).json == made.json
        assert (await world.ingest(call("1", 2.5), call("2", 2))).json["accepted"] == 2
        assert await counted(world) == (2, "4.5")

    run(scenario)


def test_a_definition_is_replaced_and_repeated() -> None:
    """Another definition is a new version; the same one, also as it was shown, changes nothing."""

    async def scenario(world: World) -> None:
        first = (await world.ask("PUT", "/v1/meters/calls", CALLS)).json
        again = await world.ask("PUT", "/v1/meters/calls", first)
        assert (again.status, again.json) == (200, first)
        other = await world.ask("PUT", "/v1/meters/calls", {**CALLS, "where": {"line": "fax"}})
        assert (other.status, other.json["where"]) == (200, {"line": ["fax"]})
        assert other.json["version"] == first["version"] + 1

    run(scenario)


@pytest.mark.parametrize(
    ("begins", "quantity"),
    [
        (None, "0"),
        ("beginning", "7"),
        ("2026-11-01T11:00:00Z", "6"),
        ("2026-11-01T12:00:00.000001+01:00", "4"),
        ("2026-11-01", "7"),
        ("2026-11-02", "0"),
    ],
)
def test_a_meter_counts_what_was_kept_from_an_instant_on(begins: str | None, quantity: str) -> None:
    """The beginning, an instant or a day; without any it counts what comes."""

    async def scenario(world: World) -> None:
        times = ["2026-11-01T10:59:59.999999Z", "2026-11-01T11:00:00Z", "2026-11-01T11:30:00Z"]
        await world.ingest(*({**call(str(n), 2**n), "time": at} for n, at in enumerate(times)))
        made = await world.ask("PUT", "/v1/meters/calls", {**CALLS, **({"from": begins} if begins else {})})
        assert (made.status, "from" in made.json) == (201, False)
        assert (await counted(world))[1] == quantity

    run(scenario)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "pointer"),
    [
        ("calls", b"{", 400, "body_undecodable", None),
        ("calls", b"\xff", 400, "body_undecodable", None),
        ("calls", b'{"scale": NaN}', 400, "body_undecodable", None),
        ("calls", [], 422, "field_type", ""),
        ("calls", {}, 422, "field_missing", "/events"),
        ("calls", {**CALLS, "name": "other"}, 422, "field_value", "/name"),
        ("calls", {**CALLS, "quantity": "data.["}, 422, "field_value", "/quantity"),
        ("calls", {**CALLS, "labels": {"a/b": "$.data.a"}}, 422, "field_value", "/labels/a~1b"),
        ("calls", {**CALLS, "rate": {"table": "none", "label": "line"}}, 422, "field_value", "/rate/table"),
        ("calls", {**CALLS, "from": "soon"}, 422, "time_format", "/from"),
        ("calls", {**CALLS, "from": 0}, 422, "time_format", "/from"),
        ("Calls", CALLS, 422, "field_value", "/name"),
        ("calls%20", CALLS, 422, "field_value", "/name"),
        ("a" * 65, CALLS, 422, "field_value", "/name"),
    ],
)
def test_a_flawed_meter_is_refused_with_a_pointer(
    path: str, body: Any, status: int, code: str, pointer: str | None
) -> None:
    """Nothing is defined, and the problem says which member is wrong."""

    async def scenario(world: World) -> None:
        before = world.app.catalog
        answer = await world.ask("PUT", f"/v1/meters/{path}", body)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert [flaw["pointer"] for flaw in answer.json["errors"]] == ([] if pointer is None else [pointer])
        assert world.app.catalog == before

    run(scenario)


@pytest.mark.parametrize("name", sorted(builtin().meters))
def test_built_in_meters_stay_as_they_are(name: str) -> None:
    """They are shown, and neither replaced nor deleted."""

    async def scenario(world: World) -> None:
        shown = await world.ask("GET", f"/v1/meters/{name}")
        assert (shown.status, shown.json["name"], shown.json["version"]) == (200, name, 1)
        for method, body in (("PUT", shown.json), ("DELETE", b"")):
            refused = await world.ask(method, f"/v1/meters/{name}", body)
            assert (refused.status, refused.json["code"]) == (409, "in_use")
            assert "built in" in refused.json["detail"]
        assert dict(world.app.catalog.meters) == dict(builtin().meters)

    run(scenario)


def test_a_meter_of_another_unit_has_to_begin_anew() -> None:
    """Amounts of two units are never added up: 409 without a start, and with one the meter counts anew."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/meters/calls", CALLS)
        await world.ingest(call("1", 90))
        minutes = {**CALLS, "unit": "{call}", "quantity": None, "scale": 0}
        refused = await world.ask("PUT", "/v1/meters/calls", minutes)
        assert (refused.status, refused.json["code"]) == (409, "in_use")
        assert await counted(world) == (1, "90")
        assert (await world.ask("PUT", "/v1/meters/calls", {**minutes, "from": "beginning"})).status == 200
        assert await counted(world) == (1, "1")

    run(scenario)


def test_a_deleted_meter_is_gone() -> None:
    """204, then 404 wherever it is named."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/meters/calls", CALLS)
        gone = await world.ask("DELETE", "/v1/meters/calls")
        assert (gone.status, gone.body) == (204, b"")
        for method, target in (
            ("GET", "/v1/meters/calls"),
            ("DELETE", "/v1/meters/calls"),
            ("GET", "/v1/usage?meter=calls&window=total"),
        ):
            assert (await world.ask(method, target)).status == 404

    run(scenario)


def test_meters_are_listed_by_name_in_pages() -> None:
    """Built-in ones among them, each once."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/meters/calls", CALLS)
        everything = (await world.ask("GET", "/v1/meters")).json
        names = [meter["name"] for meter in everything["meters"]]
        assert (names, everything["next"]) == (sorted([*builtin().meters, "calls"]), None)
        found: list[str] = []
        target: str | None = "/v1/meters?limit=3"
        while target:
            page = await world.ask("GET", target)
            found += [meter["name"] for meter in page.json["meters"]]
            target = page.headers["link"].split(">")[0][1:] if page.json["next"] else None
        assert found == names

    run(scenario)


def test_the_operator_defines_and_whoever_administers_reads() -> None:
    """An account's key with admin sees definitions; without that scope nobody does, and only the operator's changes."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("reporter", None, Scope.REPORT)
        await world.ask("PUT", "/v1/meters/calls", CALLS)
        for key, statuses in {"acme": (200, 200, 403, 403), "reporter": (403,) * 4, "nobody": (401,) * 4}.items():
            answers = [
                await world.ask("GET", "/v1/meters", key=key),
                await world.ask("GET", "/v1/meters/calls", key=key),
                await world.ask("PUT", "/v1/meters/calls", {"events": ["a"]}, key=key),
                await world.ask("DELETE", "/v1/meters/calls", key=key),
            ]
            assert tuple(answer.status for answer in answers) == statuses
        assert world.app.catalog.meters["calls"].events == {"call.ended"}

    run(scenario)


def test_a_long_replay_is_answered_before_it_is_done() -> None:
    """202 with how far it is; then the meter is shown with it, is listed, and its usage is unavailable, not partial."""

    async def scenario(world: World) -> None:
        ledger = slow(world)
        begun = await world.ask("PUT", "/v1/meters/calls", {**CALLS, "from": "beginning"})
        progress = {"done": 7, "of": 10}
        assert (begun.status, begun.json["replay"]) == (202, progress)
        assert (await world.ask("GET", "/v1/meters/calls")).json == begun.json
        assert progress in [meter.get("replay") for meter in (await world.ask("GET", "/v1/meters")).json["meters"]]
        waiting = await world.ask("GET", "/v1/usage?meter=calls&window=total")
        assert (waiting.status, waiting.json["code"], waiting.headers["retry-after"]) == (503, "unavailable", "5")
        assert "7 of 10" in waiting.json["detail"]
        await ledger.finish()
        assert "replay" not in (await world.ask("GET", "/v1/meters/calls")).json
        assert await counted(world) == (0, "0")

    run(scenario, replay_wait_s=0)


def test_a_meter_that_is_replaced_answers_until_its_replay_is_done() -> None:
    """The definition in force is shown and counted by meanwhile, with how far the other one is."""

    async def scenario(world: World) -> None:
        slow(world)
        await world.ask("PUT", "/v1/meters/calls", CALLS)
        await world.ingest(call("1", 3))
        begun = await world.ask("PUT", "/v1/meters/calls", {**CALLS, "labels": {}, "from": "beginning"})
        assert (begun.status, begun.json["replay"]["done"], begun.json["labels"]) == (202, 7, CALLS["labels"])
        assert await counted(world) == (1, "3")

    run(scenario, replay_wait_s=0)


def test_a_replay_that_is_done_soon_is_waited_for() -> None:
    """The answer is 201 with the meter in force, and requests go on meanwhile."""

    async def scenario(world: World) -> None:
        ledger = slow(world)
        polls = 0

        def replayed(name: str) -> tuple[int, int]:
            nonlocal polls
            polls += 1
            if polls == 3:
                ledger._catalog = replace(
                    ledger.catalog, replays={}, meters={**ledger.catalog.meters, **coming(ledger)}
                )
            return polls, 3

        ledger.replayed = replayed  # type: ignore[method-assign]  # to end it after some looks
        made = await world.ask("PUT", "/v1/meters/calls", {**CALLS, "from": "beginning"})
        assert (made.status, "replay" in made.json, polls) == (201, False, 3)

    run(scenario)


def coming(ledger: SlowLedger) -> Mapping[str, Meter]:
    """Return the meters that are being counted."""
    return {meter.name: meter for replay in ledger.catalog.replays.values() for meter in replay.meters}


def test_what_a_meter_refuses_names_the_member_of_the_event() -> None:
    """The receipt of an event that a defined meter cannot take points into the event."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/meters/calls", {**CALLS, "labels": {"line": "$.data.line.number"}})
        refused = await world.ingest(call("1", "soon"), call("2", 1, line={"number": [1]}), call("3", 1.0000001))
        said = [(receipt["code"], receipt["pointer"]) for receipt in refused.json["receipts"]]
        assert said == [
            ("quantity_type", "/data/seconds"),
            ("field_type", "/data/line/number"),
            ("quantity_precision", "/data/seconds"),
        ]

    run(scenario)


def test_a_ledger_in_a_file_counts_what_was_kept(tmp_path: Path) -> None:
    """A real replay is waited for: the answer is 201, and the numbers are whole."""

    async def scenario(world: World) -> None:
        await world.ingest(*(call(str(n), 1) for n in range(300)))
        made = await world.ask("PUT", "/v1/meters/calls", {**CALLS, "from": "beginning"})
        assert (made.status, "replay" in made.json) == (201, False)
        assert await counted(world) == (300, "300")

    run(scenario, folder=tmp_path)


def test_definitions_are_in_the_audit() -> None:
    """Who defined and deleted what, with the key that asked."""

    async def scenario(world: World) -> None:
        await world.ask("PUT", "/v1/meters/calls", CALLS)
        await world.ask("PUT", "/v1/meters/calls", {**CALLS, "from": "beginning"})
        await world.ask("DELETE", "/v1/meters/calls")
        told = (await world.ask("GET", "/v1/audit")).json["audit"]
        assert [(each["action"], each["target"]) for each in told] == [
            ("meter.delete", "calls"),
            ("replay.done", "calls"),
            ("replay.begin", "calls"),
            ("meter.put", "calls"),
        ]
        assert {each["actor"] for each in told} == {"operator-key-setting", "replay"}

    run(scenario)


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_was_kept_before_a_meter_would_refuse_it_is_a_duplicate_for_ever(tmp_path: Path, on_disk: bool) -> None:
    """A retry is judged by what is kept, whatever meters say by then; only what is new is refused."""

    async def scenario(world: World) -> None:
        kept = {"id": "1", "source": "test", "type": "call.ended", "account": "acme", "data": {"note": "no seconds"}}
        assert (await world.ingest(kept)).json["accepted"] == 1
        assert (await world.ask("PUT", "/v1/meters/calls", CALLS)).status == 201
        changed = {**kept, "data": {"note": "other"}}
        answer = await world.ingest(
            kept, changed, {**kept, "id": "2"}, {**kept, "account": "beta"}, query="?receipts=all"
        )
        said = [(each["status"], each.get("code")) for each in answer.json["receipts"]]
        refused = ("rejected", "quantity_missing")
        assert said == [("duplicate", None), ("conflict", "id_reused"), refused, refused]
        assert (await world.ask("GET", "/v1/accounts/beta")).status == 404

    run(scenario, folder=tmp_path / "data" if on_disk else None)
