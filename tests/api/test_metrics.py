"""GET /metrics: every declared metric, few series, and names for the operator alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from tallystick.telemetry import METRICS
from tests.api.client import HOUR, Answer, World, audio, run

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"}


def parsed(read: Any, answer: Answer) -> list[Any]:
    """Read an answer with the parser of its format, which refuses whatever is against it."""
    return list(read(answer.body.decode()))


async def scraped(world: World, **options: Any) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, in the order of their names."""
    return samples_of(await world.ask("GET", "/metrics", headers=OPENMETRICS, **options))


def samples_of(answer: Answer) -> dict[tuple[str, ...], float]:
    """Read an answer in OpenMetrics."""
    assert answer.status == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parsed(openmetrics, answer)
        for sample in family.samples
    }


def named(samples: dict[tuple[str, ...], float], name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of one name, by the values of their labels."""
    return {key[1:]: value for key, value in samples.items() if key[0] == name}


def test_every_metric_is_there_in_the_format_that_was_asked_for() -> None:
    """OpenMetrics for who accepts it, Prometheus' text for everybody else; both declare the same metrics."""

    async def scenario(world: World) -> None:
        await world.ingest(audio("1"))
        new = await world.ask("GET", "/metrics", headers=OPENMETRICS)
        old = await world.ask("GET", "/metrics", headers={"accept": "*/*, application/openmetrics-texts;version=x"})
        assert new.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert old.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        declared = {metric.name: metric.kind for metric in METRICS}
        assert {family.name: family.type for family in parsed(openmetrics, new)} == declared
        assert {family.name for family in parsed(prometheus, old)} == set(declared)

    run(scenario)


def test_requests_are_counted_by_the_route_that_is_declared() -> None:
    """Nothing that was sent becomes a label: neither the path, nor an unknown path, nor a method of somebody's own."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        for method, target in (
            ("GET", "/v1/accounts/acme"),
            ("GET", "/v1/accounts/canary"),
            ("HEAD", "/v1/accounts/acme?x=canary"),
            ("GET", "/v1/canary"),
            ("CANARY", "/v1/accounts/canary"),
            ("DELETE", "/canary"),
        ):
            await world.ask(method, target)
        samples = await scraped(world)
        assert named(samples, "tallystick_http_requests_total") == {
            ("GET", "/v1/accounts/{account}", "2xx"): 1,
            ("GET", "/v1/accounts/{account}", "4xx"): 1,
            ("HEAD", "/v1/accounts/{account}", "2xx"): 1,
            ("other", "/v1/accounts/{account}", "4xx"): 1,
            ("GET", "none", "4xx"): 1,
            ("DELETE", "none", "4xx"): 1,
        }
        counted = named(samples, "tallystick_http_request_duration_seconds_count")
        assert counted == named(samples, "tallystick_http_requests_total")
        assert samples[("tallystick_http_requests_under_way",)] == 1
        assert "canary" not in str(samples)

    run(scenario)


def test_events_are_counted_by_verdict_and_by_code() -> None:
    """What the receipts say, in numbers; a body that is refused as a whole has no events."""

    async def scenario(world: World) -> None:
        first = audio("1")
        await world.ingest(first, first, audio("1", seconds="61"), audio("2", seconds="-1"), {"id": "3"}, {"id": "4"})
        await world.ask("POST", "/v1/events", audio("2", seconds="x"))
        await world.ask("POST", "/v1/events", b"[")
        samples = await scraped(world)
        events = {key[0]: value for key, value in named(samples, "tallystick_events_total").items()}
        assert events == {"accepted": 1, "duplicate": 1, "conflict": 1, "rejected": 4}
        refused = {key[0]: value for key, value in named(samples, "tallystick_events_refused_total").items()}
        wanted = {"id_reused": 1, "quantity_negative": 1, "field_missing": 2, "quantity_type": 1}
        assert refused == wanted
        assert samples[("tallystick_ledger_sequence",)] == 1

    run(scenario)


def test_the_ledgers_numbers_are_shown() -> None:
    """Commits with their bytes and their age, which is absent before the first of them."""

    async def scenario(world: World) -> None:
        assert ("tallystick_ledger_commit_age_seconds",) not in await scraped(world)
        await world.ingest(audio("1"), audio("2"))
        world.now += HOUR
        samples = await scraped(world)
        assert samples[("tallystick_ledger_commit_age_seconds",)] == 3600
        assert samples[("tallystick_ledger_commit_duration_seconds_count",)] == 1
        assert samples[("tallystick_ledger_commit_bytes_sum",)] > 200
        for name in ("queued_bytes", "wal_bytes", "damaged_entries"):
            assert samples[(f"tallystick_ledger_{name}",)] == 0

    run(scenario)


def test_so_many_accounts_are_named_and_no_more() -> None:
    """Those that came first keep their series; the rest, and one that is really called so, are the account other."""

    async def scenario(world: World) -> None:
        await world.ingest(*(audio("1", account=account) for account in ("acme", "other", "globex", "initech")))
        await world.ingest(audio("2", account="initech"), audio("2", account="acme"))
        accounts = named(await scraped(world), "tallystick_account_events_total")
        assert accounts == {("acme",): 2, ("other",): 4}

    run(scenario, metrics_accounts_max=2)


def test_label_sets_near_their_bound_are_warned_of() -> None:
    """By account and meter, for as many accounts as are named."""

    async def scenario(world: World) -> None:
        for account in ("acme", "globex"):
            await world.ingest(*(audio(n, account=account, language=n) for n in "abcd"))
        warned = named(await scraped(world), "tallystick_label_set_warnings")
        assert warned == {("acme", "audio"): 1, ("other", "audio"): 1}

    run(scenario, label_sets_max=5, metrics_accounts_max=1)


@pytest.mark.parametrize("key", [None, "acme", "nobody's"])
def test_accounts_are_named_to_the_operator_only(key: str | None) -> None:
    """A customer must not learn who the others are: whoever else may read sees them all as one."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.ingest(audio("1"), audio("1", account="globex"))
        answer = await world.ask("GET", "/metrics", headers=OPENMETRICS, key=key)
        assert named(samples_of(answer), "tallystick_account_events_total") == {("other",): 2}
        assert not re.search(rb"acme|globex", answer.body)

    run(scenario)


def test_metrics_may_be_for_the_operator_or_for_nobody() -> None:
    """With the setting operator a key is needed; with off there is nothing at the path."""

    async def guarded(world: World) -> None:
        await world.account("acme")
        for key, status in ((None, 401), ("nobody's", 401), ("acme", 403), ("operator", 200)):
            assert (await world.ask("GET", "/metrics", key=key)).status == status

    async def nothing(world: World) -> None:
        assert (await world.ask("GET", "/metrics")).json["code"] == "not_found"

    run(guarded, metrics="operator")
    run(nothing, metrics="off")


def test_two_processes_in_one_count_apart() -> None:
    """Nothing is kept outside the app."""

    async def scenario(world: World) -> None:
        other = World()
        await world.ingest(audio("1"))
        assert named(await scraped(other), "tallystick_http_requests_total") == {}
        assert named(await scraped(world), "tallystick_events_total")[("accepted",)] == 1

    run(scenario)
