"""No key learns anything of accounts that are not its own: every route, every identity, every foreign id."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from tallystick import telemetry
from tallystick.api.routing import Route
from tallystick.asgi import ROUTES
from tallystick.dialects import vblaze
from tallystick.model import Scope
from tests.api.client import HOUR, Answer, World, audio, run

VICTIM, MISSING, ATTACKER = "victim-org", "absent-org", "acme"
"""Names of one length, so that answers that differ in nothing but the name are equal when it is taken out."""
CANARY = "canary7f3a"


@dataclass(frozen=True, slots=True)
class Probe:
    """A request in which `{id}` stands for something foreign; `statuses` are those of good ends, if any."""

    target: str
    body: Any = None
    foreign: str = VICTIM
    missing: str = MISSING
    statuses: tuple[int, ...] = ()


KEY, NO_KEY = "key-victim-org", "key-absent-org"
LIMIT, NO_LIMIT = "victim-hours", "absent-hours"
A_LIMIT: Mapping[str, Any] = {"account": VICTIM, "meter": "audio", "period": "month", "amount": "60"}
A_GRANT: Mapping[str, Any] = {
    "id": "{id}",
    "amount": "1",
    "kind": "base",
    "from": "2026-01-01T00:00:00Z",
    "until": None,
}
HELD, NOT_HELD = "victim-job", "absent-job"
A_HOLD: Mapping[str, Any] = {"id": "job", "meter": "vision_requests", "labels": {"type": "lens"}, "quantity": "1"}
PROBES: Mapping[tuple[str, str], tuple[Probe, ...]] = {
    ("POST", "/v1/events"): (
        Probe("/v1/events", audio("x", account="{id}")),
        Probe("/v1/events?receipts=all", [audio("y", account="{id}")], statuses=(207,)),
        # A subject is no account where the key says whose the event is.
        Probe("/v1/events", {**audio("z"), "account": None, "subject": "{id}/room"}, statuses=(200, 409)),
    ),
    ("GET", "/v1/events"): (Probe("/v1/events?account={id}"), Probe("/v1/events?account=acme&account={id}&limit=5")),
    ("GET", "/v1/export"): (Probe("/v1/export?account={id}"), Probe("/v1/export?account={id}&format=csv")),
    ("GET", "/v1/receipts"): (
        Probe("/v1/receipts"),
        Probe("/v1/receipts?account={id}"),
        Probe("/v1/receipts?account=acme&account={id}&limit=1"),
        Probe(f"/v1/receipts?id={CANARY}-id"),
    ),
    ("GET", "/v1/usage"): (
        Probe("/v1/usage?meter=audio&account={id}"),
        Probe("/v1/usage?meter=audio&account=acme&account={id}&group_by=account,model"),
    ),
    ("GET", "/v1/usage/meters"): (Probe("/v1/usage/meters?limit=1"),),
    ("GET", "/v1/key"): (Probe("/v1/key"),),
    ("GET", "/v1/accounts"): (Probe("/v1/accounts"),),
    ("GET", "/v1/accounts/{account}"): (Probe("/v1/accounts/{id}"),),
    ("PUT", "/v1/accounts/{account}"): (Probe("/v1/accounts/{id}", {"kind": "org", "members": ["acme"]}),),
    ("DELETE", "/v1/accounts/{account}"): (Probe("/v1/accounts/{id}"),),
    ("GET", "/v1/keys"): (Probe("/v1/keys"),),
    ("POST", "/v1/keys"): (Probe("/v1/keys", {"account": "{id}", "scopes": ["report"]}),),
    ("GET", "/v1/keys/{id}"): (Probe("/v1/keys/{id}", foreign=KEY, missing=NO_KEY),),
    ("DELETE", "/v1/keys/{id}"): (Probe("/v1/keys/{id}", foreign=KEY, missing=NO_KEY),),
    ("POST", "/v1/keys/{id}/rotate"): (Probe("/v1/keys/{id}/rotate", {}, foreign=KEY, missing=NO_KEY),),
    ("GET", "/v1/audit"): (Probe("/v1/audit"), Probe("/v1/audit?account={id}")),
    ("GET", "/v1/accounts/{account}/resources"): (
        Probe("/v1/accounts/{id}/resources"),
        Probe("/v1/accounts/{id}/resources?kind=audio&limit=1"),
    ),
    ("GET", "/v1/meters"): (Probe("/v1/meters"),),
    ("GET", "/v1/meters/{name}"): (Probe("/v1/meters/audio"),),
    ("PUT", "/v1/meters/{name}"): (Probe("/v1/meters/mine", {"events": ["x"]}),),
    ("DELETE", "/v1/meters/{name}"): (Probe("/v1/meters/audio"),),
    ("GET", "/v1/rates"): (Probe("/v1/rates"),),
    ("GET", "/v1/rates/{table}"): (Probe("/v1/rates/vision"),),
    ("PUT", "/v1/rates/{table}"): (Probe("/v1/rates/mine", {"rates": []}),),
    ("GET", "/v1/limits"): (Probe("/v1/limits"), Probe("/v1/limits?account={id}")),
    ("GET", "/v1/limits/{id}"): (Probe("/v1/limits/{id}", foreign=LIMIT, missing=NO_LIMIT),),
    ("PUT", "/v1/limits/{id}"): (
        Probe("/v1/limits/{id}", {**A_LIMIT, "account": ATTACKER}, foreign=LIMIT, missing=NO_LIMIT),
        Probe("/v1/limits/mine", {**A_LIMIT, "account": "{id}"}),
    ),
    ("DELETE", "/v1/limits/{id}"): (Probe("/v1/limits/{id}", foreign=LIMIT, missing=NO_LIMIT),),
    ("GET", "/v1/limits/{id}/grants"): (Probe("/v1/limits/{id}/grants", foreign=LIMIT, missing=NO_LIMIT),),
    ("POST", "/v1/limits/{id}/grants"): (Probe("/v1/limits/{id}/grants", A_GRANT, foreign=LIMIT, missing=NO_LIMIT),),
    ("GET", "/v1/limits/{id}/grants/{grant}"): (
        Probe("/v1/limits/{id}/grants/more", foreign=LIMIT, missing=NO_LIMIT),
        Probe("/v1/limits/mine/grants/{id}", foreign="victim-grant", missing="absent-grant"),
    ),
    ("DELETE", "/v1/limits/{id}/grants/{grant}"): (
        Probe("/v1/limits/{id}/grants/more", foreign=LIMIT, missing=NO_LIMIT),
    ),
    ("GET", "/v1/limits/{id}/thresholds"): (Probe("/v1/limits/{id}/thresholds", foreign=LIMIT, missing=NO_LIMIT),),
    ("GET", "/v1/holds"): (Probe("/v1/holds?account={id}"),),
    ("POST", "/v1/holds"): (
        Probe("/v1/holds", {**A_HOLD, "account": "{id}"}),
        Probe("/v1/holds", {**A_HOLD, "id": "{id}", "mode": "check_only"}, HELD, NOT_HELD, statuses=(200,)),
    ),
    **{
        (method, path): (
            Probe(path, body, foreign=HELD, missing=NOT_HELD),
            Probe(f"{path.replace('{id}', HELD)}?account={{id}}", body),
        )
        for method, path, body in (
            ("GET", "/v1/holds/{id}", None),
            ("POST", "/v1/holds/{id}/renew", {}),
            ("POST", "/v1/holds/{id}/release", None),
            ("POST", "/v1/holds/{id}/settle", audio("settles", account=ATTACKER)),
        )
    },
    ("POST", "/v1/verify"): (Probe("/v1/verify"),),
    ("POST", "/v1/backup"): (Probe("/v1/backup"),),
    ("GET", "/v2/usage"): (Probe("/v2/usage?account={id}&since=2026-10-01"),),
    **{
        ("GET", path): (Probe(f"{path}?account={{id}}"),)
        for path in ("/api/billing/capacities", "/api/billing/consumptions")
    },
    ("GET", "/orgs/{organisation}/usage"): (Probe("/orgs/{id}/usage?year=2026"), Probe("/orgs/{id}/usage?year=x")),
    **{("GET", f"/{report}"): (Probe(f"/{report}?account={{id}}"),) for report in vblaze.REPORTS},
    **{
        ("GET", f"/{report}/{{filter...}}"): (Probe(f"/{report}/{CANARY}-model?account={{id}}"),)
        for report in vblaze.REPORTS
    },
    **{
        ("GET", prefix + path): (Probe(prefix + target),)
        for prefix in ("", "/v1")
        for path, target in (
            ("/spaces/{owner}/{space}/stats", f"/spaces/{{id}}/{CANARY}-space/stats"),
            ("/spaces/{owner}/{space}/audios/{audio}", f"/spaces/{{id}}/{CANARY}-space/audios/{CANARY}-audio"),
            (
                "/spaces/{owner}/{space}/verifications/{type}/{verification}",
                f"/spaces/{{id}}/{CANARY}-space/verifications/identity/{CANARY}-verification",
            ),
            ("/user/records/{kind}", "/user/records/verification?account={id}"),
            ("/orgs/{organisation}/records/{kind}", "/orgs/{id}/records/voiceprint"),
            ("/orgs/{organisation}/spaces", "/orgs/{id}/spaces"),
        )
    },
}
"""Where each route takes something that may be foreign; a route that is not here fails the first test."""

OPEN = {
    *("/livez", "/readyz", "/metrics", "/openapi.json", "/llms.txt"),
    *("/auth/credentials", "/v1/auth/credentials"),
}


def routes() -> Iterator[Route]:
    """Yield the routes that need a key."""
    yield from (route for route in ROUTES if route.path not in OPEN)


async def inhabited(world: World) -> None:
    """Two accounts; whatever the other one has, has a canary in it."""
    await world.account(ATTACKER)
    await world.account(VICTIM, members=(f"{CANARY}-member",))
    for scope in Scope:
        await world.key(f"only-{scope}", ATTACKER, scope)
    await world.key("revoked", ATTACKER)
    await world.ledger.delete_key("key-revoked", actor="test")
    await world.key("expired", ATTACKER, expires=world.now + 1)
    world.now += HOUR
    labels = {name: f"{CANARY}-{name}" for name in ("model", "billing", "language", "license")}
    event = {
        **audio(f"{CANARY}-id", account=VICTIM, **labels),
        "source": f"{CANARY}-source",
        "space": f"{CANARY}-space",
    }
    held = {"kind": "audio", "id": f"{CANARY}-audio", "duration": 1, "attributes": {"alias": f"{CANARY}-alias"}}
    resource = {**audio(f"{CANARY}-up", account=VICTIM), "type": "resource.upserted", "data": held}
    taken = await world.ingest(event, resource, audio("mine"))
    assert taken.json["accepted"] == 3
    refused = {**audio(f"{CANARY}-refused", account=VICTIM, seconds=f"{CANARY}"), "source": f"{CANARY}-source"}
    told = await world.ingest(event, {**event, "subject": "other"}, refused, key=VICTIM)
    assert [told.json[verdict] for verdict in ("duplicate", "conflict", "rejected")] == [1, 1, 1]
    # Whom an event of somebody else names is told nothing of it.
    assert (await world.ingest({**refused, "account": ATTACKER})).json["rejected"] == 1
    theirs = {**A_LIMIT, "where": {"model": f"{CANARY}-model"}}
    for id, limit in {LIMIT: theirs, "mine": {**A_LIMIT, "account": ATTACKER}}.items():
        assert (await world.ask("PUT", f"/v1/limits/{id}", limit)).status == 201
    for id in (HELD, f"{CANARY}-hold"):
        hold = {**A_HOLD, "id": id, "account": VICTIM, "labels": {"type": "lens", "space": f"{CANARY}-space"}}
        assert (await world.ask("POST", "/v1/holds", hold)).status == 201
    for grant in ("more", "victim-grant", f"{CANARY}-grant"):
        assert (await world.ask("POST", f"/v1/limits/{LIMIT}/grants", {**A_GRANT, "id": grant})).status == 201


async def ask(world: World, route: Route, probe: Probe, id: str, key: str | None) -> Answer:
    """Send a probe with an id in its place."""
    body = b"" if probe.body is None else json.dumps(probe.body).replace("{id}", id).encode()
    target = probe.target.replace("{id}", id)
    return await world.ask(route.method, target, body, key=key, scheme=route.scheme, headers={"x-request-id": "r"})


def refused(route: Route, status: int) -> list[int]:
    """Return the status of a refusal, twice; where the vendor hides what is wrong with a key it is 404."""
    return [404 if route.scheme == "token" else status] * 2


def shown(answer: Answer, id: str) -> tuple[int, dict[str, str], str]:
    """Return an answer without the id that was sent, and without what lengths and tags follow from it."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("content-length", "etag")}
    return answer.status, headers, answer.body.decode().replace(id, "ID")


def test_every_route_that_needs_a_key_is_probed() -> None:
    """Whoever adds a route says where a foreign id may stand in it."""
    assert {(route.method, route.path) for route in routes()} == set(PROBES)


@pytest.mark.parametrize("on_disk", [False, True])
def test_who_has_no_good_key_learns_nothing(tmp_path: Path, on_disk: bool) -> None:
    """No key, one that never was, one that was revoked and one that has ended: 401 everywhere, and nothing else."""

    async def scenario(world: World) -> None:
        await inhabited(world)
        for route in routes():
            for probe in PROBES[route.method, route.path]:
                for key in (None, "tly_acct_" + "x" * 38, "revoked", "expired"):
                    answers = [await ask(world, route, probe, id, key) for id in (probe.foreign, probe.missing)]
                    assert [answer.status for answer in answers] == refused(route, 401), (route, key)
                    assert shown(answers[0], probe.foreign) == shown(answers[1], probe.missing)
                    assert CANARY.encode() not in answers[0].body

    run(scenario, folder=tmp_path / "data" if on_disk else None)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_key_without_the_scope_is_refused_whatever_it_asks_for(tmp_path: Path, on_disk: bool) -> None:
    """403 before anything is looked at, alike for what is there and what is not."""

    async def scenario(world: World) -> None:
        await inhabited(world)
        for route in routes():
            for probe in PROBES[route.method, route.path]:
                for scope in set() if route.any_scope else set(Scope) - {route.scope}:
                    answers = [
                        await ask(world, route, probe, id, f"only-{scope}") for id in (probe.foreign, probe.missing)
                    ]
                    assert [answer.status for answer in answers] == refused(route, 403), (route, scope)
                    assert shown(answers[0], probe.foreign) == shown(answers[1], probe.missing)

    run(scenario, folder=tmp_path / "data" if on_disk else None)


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_foreign_and_what_is_missing_look_the_same(tmp_path: Path, on_disk: bool) -> None:
    """A key with every scope of another account: status, headers and body differ in nothing, and show no canary."""

    async def scenario(world: World) -> None:
        await inhabited(world)
        for route in routes():
            for probe in PROBES[route.method, route.path]:
                foreign = await ask(world, route, probe, probe.foreign, ATTACKER)
                missing = await ask(world, route, probe, probe.missing, ATTACKER)
                if not probe.statuses or probe.statuses == (207,):
                    assert shown(foreign, probe.foreign) == shown(missing, probe.missing), (route, probe)
                seen = foreign.body + json.dumps(dict(foreign.headers)).encode()
                assert CANARY.encode() not in seen, (route, probe)
                if "{id}" not in probe.target + json.dumps(probe.body):
                    assert VICTIM.encode() not in seen, (route, probe)
                else:
                    is_refused = 400 <= foreign.status < 500
                    assert is_refused or foreign.status in probe.statuses, (route, probe, foreign.status)
        # Nothing of it was done either: the other account is as it was.
        kept = await world.ask("GET", f"/v1/accounts/{VICTIM}")
        assert kept.json["members"] == [f"{CANARY}-member"]
        usage = await world.ask("GET", f"/v1/usage?meter=audio&account={VICTIM}")
        assert usage.json["total"]["count"] == 1
        limit = world.app.catalog.limits[LIMIT]
        assert (limit.account, len(limit.grants)) == (VICTIM, 3)
        keys = await world.ask("GET", "/v1/keys")
        assert [key["id"] for key in keys.json["keys"] if key["account"] == VICTIM] == ["key-victim-org"]

    run(scenario, folder=tmp_path / "data" if on_disk else None)


def test_the_operator_sees_the_canaries() -> None:
    """So they are there to be seen, and the tests above would notice one."""

    async def scenario(world: World) -> None:
        await inhabited(world)
        for target in (
            f"/v1/events?account={VICTIM}",
            "/v1/receipts",
            f"/v1/receipts?account={VICTIM}",
            f"/v1/usage?meter=audio&account={VICTIM}&group_by=model",
            f"/v1/export?account={VICTIM}",
            f"/v1/accounts/{VICTIM}",
            f"/v1/accounts/{VICTIM}/resources",
            f"/v1/limits?account={VICTIM}",
            f"/v1/limits/{LIMIT}/grants",
            f"/v1/holds?account={VICTIM}",
            f"/v1/holds/{HELD}",
        ):
            assert CANARY.encode() in (await world.ask("GET", target)).body, target

    run(scenario)


def test_no_canary_and_no_key_is_in_the_logs_or_the_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is asked by whomever, the log lines and /metrics hold names of routes, codes and numbers."""
    tokens: list[str] = []

    async def scenario(world: World) -> None:
        telemetry.configure("debug")
        await inhabited(world)
        for route in routes():
            for probe in PROBES[route.method, route.path]:
                for key in (None, "operator", ATTACKER, VICTIM):
                    if (route.method, key) != ("DELETE", "operator"):
                        await ask(world, route, probe, probe.foreign, key)
        metrics = await world.ask("GET", "/metrics", key=None)
        assert CANARY.encode() not in metrics.body
        assert VICTIM.encode() not in metrics.body
        tokens.extend(world.keys.values())

    try:
        run(scenario)
    finally:
        structlog.reset_defaults()
    logged = capsys.readouterr().err
    assert re.search(r'"event":"request"', logged)
    assert CANARY not in logged
    assert not any(token in logged for token in tokens)


def test_organisations_of_a_user_are_read_and_not_changed() -> None:
    """Membership opens the reports of an organisation to its user; what changes things stays closed."""

    async def scenario(world: World) -> None:
        await inhabited(world)
        await world.ask("PUT", "/v1/accounts/ada", {"kind": "user"})
        await world.key("ada", "ada")
        await world.ask("PUT", f"/v1/accounts/{VICTIM}", {"kind": "org", "members": ["ada"]})
        assert (await world.ask("GET", f"/v1/usage?meter=audio&account={VICTIM}", key="ada")).status == 200
        refused = [
            await world.ask("PUT", f"/v1/accounts/{VICTIM}", {"kind": "org"}, key="ada"),
            await world.ask("POST", "/v1/keys", {"account": VICTIM, "scopes": ["report"]}, key="ada"),
            await world.ask("DELETE", "/v1/keys/key-victim-org", key="ada"),
            await world.ingest(audio("new", account=VICTIM), key="ada"),
        ]
        assert [answer.status for answer in refused] == [404, 403, 404, 207]
        await world.ask("PUT", f"/v1/accounts/{VICTIM}", {"kind": "org", "members": []})
        assert (await world.ask("GET", f"/v1/usage?meter=audio&account={VICTIM}", key="ada")).status == 403

    run(scenario)
