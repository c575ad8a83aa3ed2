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


GROUPED = "/v1/usage?meter=audio&window=total&group_by=account"


def test_a_report_is_csv_where_that_is_asked_for() -> None:
    """The same rows, as a sheet; both kinds of reply say that they depend on Accept."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        sheet = await world.ask("GET", GROUPED, headers={"Accept": "text/csv"})
        assert sheet.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        assert sheet.body == b"from,to,account,count,quantity\r\n,,acme,1,60\r\n,,ada,1,30\r\n,,globex,1,90\r\n"
        plain = await world.ask("GET", GROUPED, headers={"Accept": "text/csv;q=0.1, application/json"})
        assert plain.headers["content-type"] == "application/json"
        assert {sheet.headers["vary"], plain.headers["vary"]} == {"Accept"}

    run(scenario)


def test_a_report_that_has_not_changed_is_304_before_it_is_summed() -> None:
    """For the tag alone, in a list, weak or any; with the tag and without a body. One more event is another tag."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        tag = (await world.ask("GET", GROUPED)).headers["etag"]
        usage = world.ledger.usage
        world.ledger.usage = None  # type: ignore[assignment, method-assign]  # no sums may be asked for
        for known in (tag, f"W/{tag}", f'"x, y", {tag}', f'W/"z",W/{tag}', "*"):
            for method in ("GET", "HEAD"):
                answer = await world.ask(method, GROUPED, headers={"If-None-Match": known})
                assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
                assert "content-length" not in answer.headers
                assert "content-type" not in answer.headers
                assert answer.headers["vary"] == "Accept"
        world.ledger.usage = usage  # type: ignore[method-assign]  # as it was
        for known in ('"other"', tag.strip('"'), "", f'"{tag}"', tag[:-1]):
            assert (await world.ask("GET", GROUPED, headers={"If-None-Match": known})).status == 200
        await world.ingest(audio("4"))
        answer = await world.ask("GET", GROUPED, headers={"If-None-Match": tag})
        assert (answer.status, answer.json["total"]["quantity"]) == (200, "240")
        assert answer.headers["etag"] != tag

    run(scenario)


def test_a_tag_is_good_for_one_key_one_form_and_one_day() -> None:
    """Keys that read other accounts, CSV and the next day get a reply of their own."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        tag = (await world.ask("GET", GROUPED, key="acme")).headers["etag"]
        known = {"If-None-Match": tag}
        assert (await world.ask("GET", GROUPED, key="acme", headers=known)).status == 304
        assert (await world.ask("GET", f"{GROUPED}&account=acme", headers=known)).status == 304
        assert (await world.ask("GET", GROUPED, key="ada", headers=known)).status == 200
        assert (await world.ask("GET", GROUPED, headers=known)).status == 200
        assert (await world.ask("GET", GROUPED, key="acme", headers={**known, "Accept": "text/csv"})).status == 200
        world.now += DAY
        assert (await world.ask("GET", GROUPED, key="acme", headers=known)).status == 200

    run(scenario)


def test_a_tag_spares_no_question_its_checks() -> None:
    """What is wrong, foreign or unknown is refused whatever the client says it has."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        for query, key, status in (
            ("meter=none", "operator", 404),
            ("meter=audio&limit=0", "operator", 400),
            ("meter=audio&account=globex", "acme", 403),
        ):
            answer = await world.ask("GET", f"/v1/usage?{query}", key=key, headers={"If-None-Match": "*"})
            assert answer.status == status
            assert "etag" not in answer.headers

    run(scenario)


def test_a_report_comes_in_pages_where_a_limit_is_given() -> None:
    """Following `next` or Link gives the whole of it; a cursor that was touched, or of another key, is 400."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        whole = (await world.ask("GET", GROUPED)).json
        first = await world.ask("GET", f"{GROUPED}&limit=2")
        target = first.headers["link"].removeprefix("<").removesuffix('>; rel="next"')
        second = await world.ask("GET", target)
        assert first.json["rows"] + second.json["rows"] == whole["rows"]
        assert first.json["total"] == second.json["total"] == whole["total"]
        assert (target, second.json["next"]) == (f"{GROUPED}&limit=2&cursor={first.json['next']}", None)
        assert "link" not in second.headers
        for path, key in ((f"{target}x", "operator"), (target, "acme"), (f"{GROUPED}&limit=2&cursor=", "operator")):
            answer = await world.ask("GET", path, key=key)
            assert (answer.status, answer.json["errors"][0]["pointer"]) == (400, "cursor")

    run(scenario)


def test_a_report_of_many_rows_is_whole() -> None:
    """Large ones are written beside the loop, and no different."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        for start in range(0, 1200, 400):
            await world.ingest(*(audio(str(n), language=f"l{n:04}") for n in range(start, start + 400)))
        answer = await world.ask("GET", "/v1/usage?meter=audio&group_by=language")
        assert [row["labels"]["language"] for row in answer.json["rows"]] == [f"l{n:04}" for n in range(1200)]

    run(scenario)


def test_head_is_get_without_a_body() -> None:
    """The same status and headers."""

    async def scenario(world: World) -> None:
        await ingest_for_three(world)
        get, head = await world.ask("GET", GROUPED), await world.ask("HEAD", GROUPED)
        own = {"x-request-id", "x-correlation-id"}
        assert {k: v for k, v in head.headers.items() if k not in own} == {
            k: v for k, v in get.headers.items() if k not in own
        }
        assert (head.status, head.body) == (200, b"")

    run(scenario)


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
