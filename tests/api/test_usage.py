"""The reports over HTTP: what was sent is what is read, by those who may."""

from __future__ import annotations

from tallystick.model import AccountKind
from tests.api.client import World, audio, run

DAY = 86_400_000_000
TOTAL = "/v1/usage?meter=audio&window=total"


async def ingest_for_three(world: World) -> None:
    """Two organisations and a user who is a member of the first, with 60, 90 and 30 seconds."""
    await world.account("ada", AccountKind.USER)
    await world.account("acme", members=["ada"])
    await world.account("globex")
    await world.ingest(audio("1", "acme"), audio("2", "globex", "90"), audio("3", "ada", "30"))


def test_usage_is_visible_from_the_ack_on() -> None:
    """The native report has what was just acknowledged."""

    async def scenario(world: World) -> None:
        await world.ingest(audio("a", seconds="60.5"), audio("b", seconds="0.25"))
        path = "/v1/usage?meter=audio&from=2026-11-01T00:00:00Z&to=2026-11-02T00:00:00Z&window=day&group_by=language"
        rows = (await world.ask("GET", path)).json["rows"]
        assert rows == [
            {
                "from": "2026-11-01T00:00:00Z",
                "to": "2026-11-02T00:00:00Z",
                "labels": {"language": "en"},
                "count": 2,
                "quantity": "60.75",
            }
        ]

    run(scenario)


def test_a_report_without_account_covers_all_that_the_key_reads() -> None:
    """The operator's covers everyone, an organisation's itself, a user's also the organisations of the user."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        for key, quantity in (("operator", "180"), ("acme", "60"), ("globex", "90"), ("ada", "90")):
            assert (await world.ask("GET", TOTAL, key=key)).json["total"]["quantity"] == quantity

    run(scenario)


def test_a_report_of_a_named_account_is_for_those_who_read_it() -> None:
    """An account may be named more than once and counts once."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        for key, names, quantity in (
            ("operator", "acme", "60"),
            ("operator", "acme&account=globex&account=acme", "150"),
            ("ada", "acme", "60"),
            ("acme", "acme", "60"),
        ):
            answer = await world.ask("GET", f"{TOTAL}&account={names}", key=key)
            assert answer.json["total"]["quantity"] == quantity
        for key, names in (("acme", "ada"), ("acme", "acme&account=globex"), ("operator", "nobody"), ("ada", "")):
            assert (await world.ask("GET", f"{TOTAL}&account={names}", key=key)).status == 403

    run(scenario)


def test_a_report_with_too_many_rows_is_422() -> None:
    """The bound is a setting."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        answer = await world.ask("GET", f"{TOTAL}&group_by=account")
        assert (answer.status, answer.json["code"]) == (422, "rows_exceeded")
        assert (await world.ask("GET", f"{TOTAL}&group_by=account&account=acme")).status == 200

    run(scenario, usage_rows_max=2)


def test_wrong_questions_name_their_parameter() -> None:
    """The pointer of a problem is the query parameter."""

    async def scenario(world: World) -> None:
        for query, status, code in (
            ("meter=none&window=total", 404, "not_found"),
            ("meter=audio&window=fortnight", 400, "parameter_invalid"),
            ("meter=audio&window=day", 400, "parameter_invalid"),
        ):
            answer = await world.ask("GET", f"/v1/usage?{query}")
            assert (answer.status, answer.json["code"]) == (status, code)

    run(scenario)


def test_speechmatics_reports_yesterday_to_the_accounts_own_key() -> None:
    """Today is never in it; the operator names the account, a user's key defaults to the user."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        assert (await world.ask("GET", "/v2/usage", key="acme")).json["summary"] is None
        world.now += DAY
        line = {"mode": "batch", "type": "transcription", "count": 1, "duration_hrs": 0.02}
        report = {
            "since": "2026-11-01",
            "until": "2026-11-01",
            "summary": [line],
            "details": [{"mode": "batch", "type": "transcription", "language": "en", "count": 1, "duration_hrs": 0.02}],
        }
        assert (await world.ask("GET", "/v2/usage", key="acme")).json == report
        assert (await world.ask("GET", "/v2/usage?account=acme")).json == report
        assert (await world.ask("GET", "/v2/usage?account=acme", key="ada")).json == report
        assert (await world.ask("GET", "/v2/usage", key="ada")).json["summary"][0]["duration_hrs"] == 0.01
        for query in ("account=acme&account=acme", "account=acme&since=yesterday"):
            assert (await world.ask("GET", f"/v2/usage?{query}")).status == 400

    run(scenario)


def test_unknown_query_parameters_are_ignored() -> None:
    """Real clients append their own."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        assert (await world.ask("GET", f"{TOTAL}&sdk=1&=&x")).json["total"]["quantity"] == "180"
        assert (await world.ask("GET", "/v2/usage?sm-sdk=python", key="acme")).status == 200

    run(scenario)
