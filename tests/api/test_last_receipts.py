"""GET /v1/receipts: the last receipts of events that were not accepted, to whoever sent them and to nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tallystick.model import AccountKind, Scope
from tests.api.client import HOUR, World, audio, place, run
from tests.api.test_audit import followed
from tests.ledger.build import LEDGERS

CANARY = "canary7f3a"


async def listed(world: World, query: str = "", key: str = "operator") -> list[Any]:
    """Return a page of receipts."""
    answer = await world.ask("GET", f"/v1/receipts{query}", key=key)
    assert answer.status == 200, answer.body
    rows: list[Any] = answer.json["receipts"]
    return rows


async def ids(world: World, query: str = "", key: str = "operator") -> list[str]:
    """Return a page of receipts by id."""
    return [row["id"] for row in await listed(world, query, key)]


@pytest.mark.parametrize("kept", LEDGERS)
def test_a_duplicate_a_conflict_and_a_rejection_are_remembered(
    kept: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Newest first, with what names the event, when it came, the verdict and its reason; what is accepted is not."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.ingest(audio("1"), audio("2"), key="acme")
        assert await listed(world, key="acme") == []
        world.now += HOUR
        await world.ingest(audio("1"), audio("2", seconds="61"), audio("3", seconds="-1"), audio("4"), key="acme")
        shared = {"received_at": "2026-11-01T13:00:00Z", "account": "acme", "source": "test", "type": "audio.processed"}
        rejected, conflict, duplicate = await listed(world, key="acme")
        assert "`data.duration`" in rejected.pop("detail")
        assert rejected == {
            **shared,
            "id": "3",
            "status": "rejected",
            "metered": False,
            "code": "quantity_negative",
            "pointer": "/data/duration",
        }
        assert (conflict["id"], conflict["status"], conflict["code"]) == ("2", "conflict", "id_reused")
        assert duplicate == {
            **shared,
            "id": "1",
            "status": "duplicate",
            "metered": True,
            "code": None,
            "pointer": "",
            "detail": "",
        }
        assert await ids(world, "?status=duplicate") == ["1"]
        assert await ids(world, "?id=2&type=audio.processed") == ["2"]
        assert await ids(world, "?type=other") == []

    run(scenario, folder=place(kept, request, tmp_path))


@pytest.mark.parametrize("kept", LEDGERS)
def test_a_receipt_belongs_to_the_key_that_sent_the_event(
    kept: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Not to the account that the event names, which sees nothing of it; an organisation's is read by its users."""

    async def scenario(world: World) -> None:
        await world.account("ada", AccountKind.USER)
        await world.account("acme", members=["ada"])
        await world.account("globex")
        await world.ingest(audio("from-acme", "globex"), key="acme")
        await world.ingest(audio("from-ada", "acme"), key="ada")
        await world.ingest(audio("from-operator", "globex", "-1"))
        assert await ids(world, key="globex") == []
        assert await ids(world, key="acme") == ["from-acme"]
        assert await ids(world, key="ada") == ["from-ada", "from-acme"]
        assert await ids(world, "?account=ada", key="ada") == ["from-ada"]
        assert await ids(world) == ["from-operator", "from-ada", "from-acme"]
        assert await ids(world, "?account=acme") == ["from-acme"]
        assert [row["account"] for row in await listed(world)] == [None, "ada", "acme"]
        assert b"globex" not in (await world.ask("GET", "/v1/receipts", key="acme")).body
        for account in ("globex", "nobody"):
            answer = await world.ask("GET", f"/v1/receipts?account={account}", key="acme")
            assert (answer.status, answer.json["code"]) == (403, "account_forbidden")

    run(scenario, folder=place(kept, request, tmp_path))


def test_an_account_of_the_same_name_inherits_nothing() -> None:
    """What was refused to an account that was deleted is not shown to the next one that is called so."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.ingest(audio("1", seconds="-1"), key="acme")
        await world.ledger.delete_key("key-acme", actor="test")
        assert (await world.ask("DELETE", "/v1/accounts/acme")).status == 204
        await world.account("acme")
        assert await ids(world, key="acme") == []
        assert await ids(world, "?account=acme") == []
        assert await ids(world) == ["1"]

    run(scenario)


def test_nothing_that_an_event_reports_is_remembered() -> None:
    """No data, subject, space or extension; of a text that names it no more than 512 letters, without controls."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        hidden = {"model": f"{CANARY}-model", "billing": f"{CANARY}-billing"}
        event = {**audio("1", **hidden), "space": f"{CANARY}-space", "subject": f"{CANARY}-subject", "ext": CANARY}
        await world.ingest({**event, "account": f"{CANARY}-account"}, {**event, "type": 7}, key="acme")
        for _ in range(2):
            await world.ingest(event, {**event, "data": {"duration": CANARY}}, key="acme")
        answer = await world.ask("GET", "/v1/receipts", key="acme")
        assert len(answer.json["receipts"]) == 5
        assert CANARY.encode() not in answer.body
        assert [row["type"] for row in answer.json["receipts"]].count(None) == 1
        await world.ingest({**audio("i" * 1000), "source": "a\u202eb\u0007"}, key="acme")
        row = (await listed(world, key="acme"))[0]
        assert (row["id"], row["source"]) == ("i" * 512, "a\ufffdb\ufffd")

    run(scenario)


@pytest.mark.parametrize(
    "sent", [b"[1", b"\xff", b"7", b'{"id":"\\ud800"}', b"{" * 70, b'{"id":1e9999999999999999999}']
)
def test_what_cannot_be_read_has_no_name(sent: bytes) -> None:
    """Its receipt is there all the same."""

    async def scenario(world: World) -> None:
        lines = b'{"id":"good","source":"s","type":"t","account":"acme"}\n' + sent
        headers = {"content-type": "application/x-ndjson"}
        assert (await world.ask("POST", "/v1/events", lines, headers=headers)).status == 207
        (row,) = await listed(world)
        assert (row["id"], row["source"], row["type"], row["status"]) == (None, None, None, "rejected")

    run(scenario)


def test_the_event_that_settles_a_hold_is_remembered_likewise() -> None:
    """A refused one and a duplicate, for the key that sent it."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.ingest(audio("1"), key="acme")
        hold = {"id": "job", "account": "acme", "meter": "audio", "labels": {"language": "en"}, "quantity": "60"}
        assert (await world.ask("POST", "/v1/holds", hold, key="acme")).status == 201
        for event, status in ((audio("2", seconds="-1"), 422), (audio("1"), 200)):
            assert (await world.ask("POST", "/v1/holds/job/settle", event, key="acme")).status == status
        found = await listed(world, key="acme")
        assert [(row["id"], row["status"]) for row in found] == [("1", "duplicate"), ("2", "rejected")]

    run(scenario)


def test_a_dry_run_is_not_remembered() -> None:
    """It judges nothing that anybody has to look for later."""

    async def scenario(world: World) -> None:
        await world.ingest(audio("1", seconds="-1"), query="?dry_run=true")
        assert await listed(world) == []

    run(scenario)


def test_an_account_has_so_many_and_the_oldest_go() -> None:
    """A flood pushes out what its own sender was told before, and nothing of anyone else."""

    async def scenario(world: World) -> None:
        for account in ("acme", "globex"):
            await world.account(account)
        await world.ingest(audio("theirs", "globex", "-1"), key="globex")
        await world.ingest(*(audio(f"{at}", seconds="-1") for at in range(50)), key="acme")
        assert await ids(world, key="acme") == ["49", "48", "47"]
        await world.ingest(audio("last", seconds="-1"), key="acme")
        assert await ids(world, key="acme") == ["last", "49", "48"]
        assert await ids(world, key="globex") == ["theirs"]

    run(scenario, receipts_max=3)


@pytest.mark.parametrize("settings", [{"receipts_max": 0}, {"receipts_bytes_max": 0}])
def test_none_are_remembered_where_none_may_be(settings: dict[str, Any]) -> None:
    """Zero switches it off."""

    async def scenario(world: World) -> None:
        await world.ingest(audio("1", seconds="-1"), audio("2", seconds="-1"))
        assert await listed(world) == []
        assert world.app.receipts.bytes == 0

    run(scenario, **settings)


def test_all_of_them_together_stay_within_their_memory() -> None:
    """Of many senders those go first who were refused nothing for longest; the sum is that of what is there."""

    async def scenario(world: World) -> None:
        names = [f"account-{at}" for at in range(12)]
        for name in names:
            await world.account(name)
            for at in range(20):
                await world.ingest(audio(f"{at}" + "x" * 200, name, "-1"), key=name)
            assert world.app.receipts.bytes <= 64_000
        assert await ids(world, key=names[0]) == []
        assert len(await ids(world, key=names[-1])) == 20
        assert world.app.receipts.bytes == sum(each.bytes for each in world.app.receipts.newest(None))

    run(scenario, receipts_bytes_max=64_000)


def test_pages_follow_each_other_whatever_comes_meanwhile() -> None:
    """A page goes on behind the last one's place; a cursor of an earlier process has nothing behind it."""

    async def scenario(world: World) -> None:
        await world.ingest(*(audio(f"{at}", seconds="-1") for at in range(7)))
        pages = await followed(world, "/v1/receipts?limit=3", "receipts")
        assert [[row["id"] for row in page] for page in pages] == [["6", "5", "4"], ["3", "2", "1"], ["0"]]
        first = (await world.ask("GET", "/v1/receipts?limit=3")).json
        await world.ingest(audio("new", seconds="-1"))
        assert await ids(world, f"?limit=3&cursor={first['next']}") == ["3", "2", "1"]
        later = World(world.settings, now=world.now + HOUR)
        await later.ingest(audio("other", seconds="-1"))
        assert await ids(later, f"?limit=3&cursor={first['next']}") == []
        await later.app.close()

    run(scenario)


def test_who_may_not_read_reads_no_receipts() -> None:
    """The scope is that of the list of events; what is asked wrongly is named."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.key("worker", "acme", Scope.INGEST)
        assert (await world.ask("GET", "/v1/receipts", key="worker")).status == 403
        for query in ("status=accepted", "status=lost", "limit=0", "cursor=x", "id="):
            answer = await world.ask("GET", f"/v1/receipts?{query}", key="acme")
            assert answer.status == 400
            assert json.loads(answer.body)["errors"][0]["pointer"] == query.split("=")[0]

    run(scenario)
