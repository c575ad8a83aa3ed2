"""Small calls that come in one turn of the loop go on together, and each is answered as if it had come by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tallystick.admission import Asked, hold_of
from tallystick.errors import Problem
from tallystick.holding import Answer, Outcome
from tallystick.ledger.base import Ledger
from tallystick.ledger.sqlite.admitting import HoldWork
from tallystick.ledger.sqlite.job import Job
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.model import Account, HoldMode, HoldQuery, Limit, Property, Unheld, Verdict
from tallystick.windows import Period
from tests.ledger.build import Desk, asynchronous, audio, spoken, tokens, total

TTL = 600_000_000


@pytest.fixture(params=["memory", "sqlite"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    return Desk.of(request, tmp_path)


async def begun(ledger: Ledger, capacity: int, **options: Any) -> None:
    """Make an account with a limit of so many seconds a month."""
    await ledger.put_account(Account("acme", 0), actor="test")
    limit = Limit("speech", "acme", "audio", Property.QUANTITY, 6, Period.MONTH, capacity * 10**6, **options)
    await ledger.put_limit(limit, actor="test")


def reserve(ledger: Ledger, id: str, seconds: int = 1) -> Awaitable[Answer]:
    asked = Asked("acme", id, "audio", {}, Decimal(seconds), 1, TTL, HoldMode.NORMAL)
    hold = hold_of(asked, ledger.catalog, ledger.now, text_length_max=256)
    return ledger.reserve(hold, catalog_version=ledger.catalog.version)


def settle(desk: Desk, ledger: Ledger, id: str, seconds: int = 1, event: str | None = None) -> Awaitable[Answer]:
    return ledger.settle("acme", id, desk.batch(ledger, audio(event or id, seconds)))


def keep(desk: Desk, ledger: Ledger, event: dict[str, Any]) -> Awaitable[Mapping[int, Verdict]]:
    return ledger.commit(desk.batch(ledger, event))


@asynchronous
async def test_events_of_one_turn_are_judged_in_the_order_of_the_calls(desk: Desk) -> None:
    """The first of an identity is kept, and what each feeds is counted, whatever its neighbours feed."""
    async with desk.open() as ledger:
        await ledger.put_account(Account("acme", 0), actor="test")
        told = await asyncio.gather(
            keep(desk, ledger, audio("a", 1)),
            keep(desk, ledger, tokens("b", 5, 7)),
            keep(desk, ledger, audio("a", 1)),
            keep(desk, ledger, audio("a", 2)),
            keep(desk, ledger, {**audio("c"), "type": "nobody.counts"}),
            keep(desk, ledger, audio("d", 4, model="m")),
        )
        assert [spoken(verdicts.get(0)) for verdicts in told] == [
            "accepted", "accepted", "duplicate", "conflict id_reused", "accepted", "accepted",
        ]  # fmt: skip
        assert (await total(ledger)).sum == 5 * 10**6
        assert (await total(ledger, meter="tokens_in")).sum == 5
        assert list((await ledger.verify()).faults) == []


@asynchronous
async def test_one_event_that_is_refused_leaves_its_neighbours_alone(desk: Desk) -> None:
    """An account that nobody knows, and an identity that was kept before, are verdicts on one call each."""
    async with desk.open() as ledger:
        await ledger.put_account(Account("acme", 0), actor="test")
        await keep(desk, ledger, audio("before"))
        told = await asyncio.gather(
            keep(desk, ledger, audio("a")),
            keep(desk, ledger, audio("b", account="nobody")),
            keep(desk, ledger, audio("before")),
            keep(desk, ledger, audio("c")),
        )
        assert [spoken(verdicts.get(0)) for verdicts in told] == [
            "accepted", "rejected account_unknown", "duplicate", "accepted",
        ]  # fmt: skip
        assert (await total(ledger)).count == 3


@asynchronous
async def test_settlements_of_one_turn_are_answered_each_for_itself(desk: Desk) -> None:
    """The event of one that cannot be is not recorded; those of its neighbours are."""
    async with desk.open() as ledger:
        await begun(ledger, 10)
        await asyncio.gather(*(reserve(ledger, id) for id in "abc"))
        await ledger.release("acme", "b")
        answers = await asyncio.gather(
            settle(desk, ledger, "a"),
            settle(desk, ledger, "b"),
            settle(desk, ledger, "nobody"),
            settle(desk, ledger, "c", 2),
        )
        outcomes = [answer.outcome for answer in answers]
        assert outcomes == [Outcome.DONE, Outcome.ENDED, Outcome.UNKNOWN, Outcome.DONE]
        ends = [answer.hold.settlement for answer in answers if answer.hold is not None]
        assert [(end.event, end.exceeded) for end in ends if end is not None] == [("a", False), ("c", True)]
        assert (await total(ledger)).sum == 3 * 10**6
        assert [hold.id for hold in await ledger.holds(HoldQuery("acme"))] == ["a", "b", "c"]
        assert list((await ledger.verify()).faults) == []


@asynchronous
async def test_a_limit_refuses_only_what_nobody_asked_for(desk: Desk) -> None:
    """In one turn the event that settles a hold is recorded, and one without a hold does not fit any more."""
    async with desk.open() as ledger:
        await begun(ledger, 3, unheld=Unheld.REFUSE)
        await reserve(ledger, "held", 2)
        kept, settled, refused = await asyncio.gather(
            keep(desk, ledger, audio("fits", 1)),
            settle(desk, ledger, "held", 2),
            keep(desk, ledger, audio("too-much", 1)),
        )
        assert (spoken(kept.get(0)), settled.outcome) == ("accepted", Outcome.DONE)
        assert spoken(refused.get(0)) == "rejected over_limit"
        assert (await total(ledger)).sum == 3 * 10**6


@asynchronous
async def test_calls_of_one_turn_are_one_transaction(tmp_path: Path) -> None:
    """As many holds and events as one likes are one group of the writer, and one commit."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        assert isinstance(ledger, SqliteLedger)
        await begun(ledger, 1000)
        await reserve(ledger, "first")
        groups: list[list[Any]] = []
        write = ledger._writer._write

        def seen(db: Any, works: list[Any]) -> bool:
            groups.append(works)
            return write(db, works)

        ledger._writer._write = seen  # type: ignore[method-assign]  # to see what it writes
        await asyncio.gather(
            *(reserve(ledger, f"h{n}") for n in range(30)),
            settle(desk, ledger, "first"),
            *(keep(desk, ledger, audio(f"e{n}")) for n in range(30)),
        )
        (group,) = [works for works in groups if any(isinstance(work, Job | HoldWork) for work in works)]
        assert sum(isinstance(work, HoldWork) for work in group) == 30
        assert [len(work.batch) for work in group if isinstance(work, Job)] == [31]


@asynchronous
async def test_what_came_in_the_turn_of_the_end_is_answered(tmp_path: Path) -> None:
    """Calls that were taken before the ledger closes are written or refused, and never left waiting."""
    desk = Desk(tmp_path)
    async with desk.open() as ledger:
        await begun(ledger, 10)
        calls = [asyncio.ensure_future(each) for each in (reserve(ledger, "a"), keep(desk, ledger, audio("e")))]
        await asyncio.sleep(0)
        await ledger.close()
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
        assert [type(answer) for answer in answers] in ([Answer, dict], [Problem, Problem])
    async with desk.open() as ledger:
        kept = (await total(ledger)).count
        assert kept == (0 if isinstance(answers[1], Problem) else 1)
