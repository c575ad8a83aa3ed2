"""`POST /v1/events?dry_run=true`: the verdicts of a real request, and nothing kept."""

from __future__ import annotations

import json

from tests.api.client import World, audio, run
from tests.api.test_receipts import CASES, LINES

LEDGERS_OWN = {"id_reused", "label_sets_exceeded", "account_unknown"}


def test_a_dry_run_gives_each_verdict_that_needs_no_ledger_and_keeps_nothing() -> None:
    """The receipts are those that the same lines get when they are sent for good."""

    async def scenario(world: World) -> None:
        cases = [case for case in CASES if case.code not in LEDGERS_OWN and b"\n" not in case.raw]
        body = b"\n".join([case.raw for case in cases] + [json.dumps(audio(f"good-{n}")).encode() for n in range(3)])
        dry = await world.ask("POST", "/v1/events?dry_run=true", body, headers={"content-type": LINES})
        again = await world.ask("POST", "/v1/events?dry_run=true", body, headers={"content-type": LINES})
        assert (await world.ask("GET", "/v1/events")).json["events"] == []
        real = await world.ask("POST", "/v1/events", body, headers={"content-type": LINES})
        assert dry.json == again.json == real.json
        assert real.json["accepted"] == 3
        counted = (await world.ask("GET", "/metrics")).body.decode()
        assert 'tallystick_events_total{verdict="accepted"} 3.0' in counted

    run(scenario)


def test_dry_run_is_true_or_absent() -> None:
    """Anything else is a misspelling, and must not keep events that were to be looked at only."""

    async def scenario(world: World) -> None:
        for value in ("1", "false", ""):
            answer = await world.ask("POST", f"/v1/events?dry_run={value}", json.dumps(audio("x")).encode())
            assert answer.status == 400
            assert answer.json["errors"][0]["pointer"] == "dry_run"
        assert (await world.ask("GET", "/v1/events")).json["events"] == []

    run(scenario)
