"""Many clients at once: what is admitted never exceeds what there is, reaches it, and has an order that explains it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from tallystick.admission import Asked, hold_of
from tallystick.holding import Answer, Outcome
from tallystick.ledger.base import Ledger
from tallystick.model import Account, HoldMode, Limit, LimitQuery, Property
from tallystick.query import limit_plan, standings
from tallystick.windows import Period
from tests.ledger.build import LEDGERS, SPLIT, Desk, asynchronous
from tests.ledger.define import meter, put, work
from tests.ledger.linear import Call, TooHard, is_linearizable
from tests.ledger.linear import Limit as Alone

CLIENTS = tuple(map(int, os.environ.get("TALLYSTICK_TEST_CLIENTS", "1,8,64").split(",")))
"""How many at once; the long run has 256 too."""
HISTORIES = int(os.environ.get("TALLYSTICK_TEST_HISTORIES", "40"))
TTL = 600_000_000


@pytest.fixture(params=(*LEDGERS, SPLIT))
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    """Each kind of ledger, in turn."""
    return Desk.of(request, tmp_path)


async def begun(ledger: Ledger, **capacities: int) -> None:
    """Make an account with limits: `all` counts everything, others what has their name as its kind."""
    await ledger.put_account(Account("acme", 0), actor="test")
    await put(ledger, meter())
    for name, capacity in capacities.items():
        where = () if name == "all" else (("kind", name),)
        limit = Limit(name, "acme", "work", Property.QUANTITY, 0, Period.MONTH, capacity, where)
        await ledger.put_limit(limit, actor="test")


@dataclass
class Client:
    """Calls the ledger, and looks at every answer: nothing that was admitted may stand beyond a capacity."""

    desk: Desk
    ledger: Ledger
    strict: bool = True
    used: dict[str, int] = field(default_factory=dict)

    async def reserve(self, id: str, amount: int, mode: HoldMode = HoldMode.NORMAL, **labels: str) -> Answer:
        catalog = self.ledger.catalog
        asked = Asked("acme", id, "work", labels, Decimal(amount), 1, TTL, mode)
        hold = hold_of(asked, catalog, self.ledger.now, text_length_max=256)
        answer = await self.ledger.reserve(hold, catalog_version=catalog.version)
        for claim in answer.claims:
            standing = claim.standing
            if self.strict and answer.outcome is Outcome.CREATED:
                assert standing.taken <= standing.capacity
            if answer.outcome is Outcome.REFUSED and not claim.fits:
                assert claim.amount is not None and claim.amount > standing.remaining
        return answer

    async def settle(self, id: str, amount: int, **labels: str) -> Answer:
        batch = self.desk.batch(self.ledger, work(f"event-{id}", amount, **labels))
        answer = await self.ledger.settle("acme", id, batch)
        if answer.outcome is Outcome.DONE and answer.verdict is None:
            for name in ("all", *labels.values()):
                self.used[name] = self.used.get(name, 0) + amount
        return answer


async def taken(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """Ask what is used and held of each limit."""
    rows = await standings(ledger, limit_plan(ledger.catalog, LimitQuery("acme", ledger.now)))
    return {row.limit.id: (row.standing.used, row.standing.held) for row in rows}


async def together(clients: int, play: Callable[[int], Awaitable[None]]) -> None:
    await asyncio.gather(*(play(number) for number in range(clients)))


@pytest.mark.parametrize("clients", CLIENTS)
@asynchronous
async def test_single_units_are_admitted_to_the_last_one(desk: Desk, clients: int) -> None:
    """Demand is larger than each of two overlapping limits: the tighter one is used up exactly, and none overshoots."""
    capacity, red = 150, 90
    async with desk.open() as ledger:
        await begun(ledger, all=capacity, red=red)
        client = Client(desk, ledger)

        async def play(number: int) -> None:
            for turn in range(-(-2 * capacity // clients)):
                id, kind = f"{number}-{turn}", "red" if (number + turn) % 4 else "blue"
                if (await client.reserve(id, 1, kind=kind)).outcome is Outcome.CREATED:
                    assert (await client.settle(id, 1, kind=kind)).outcome is Outcome.DONE

        await together(clients, play)
        found = await taken(ledger)
        assert found["red"] == (red, 0)
        assert found["all"] == (client.used["all"], 0)
        for number in range(capacity):
            if (await client.reserve(f"last-{number}", 1, kind="blue")).outcome is Outcome.CREATED:
                await client.settle(f"last-{number}", 1, kind="blue")
        assert await taken(ledger) == {"all": (capacity, 0), "red": (red, 0)}
        assert not (await ledger.verify()).faults


@pytest.mark.parametrize("clients", CLIENTS)
@asynchronous
async def test_amounts_of_all_sizes_that_settle_expire_and_repeat_add_up(desk: Desk, clients: int) -> None:
    """Settled for less, for more, released, left to expire, asked for twice: sums agree, and so does the proof."""
    rng = random.Random(clients)
    async with desk.open() as ledger:
        await begun(ledger, all=20_000, red=12_000)
        # What settles for more than it held may bring use beyond the capacity: then nothing more is admitted.
        client, left = Client(desk, ledger, strict=True), dict[str, int]()

        async def play(number: int) -> None:
            for turn in range(-(-200 // clients)):
                id, amount, kind = f"{number}-{turn}", rng.randint(1, 1000), rng.choice(("red", "blue"))
                mode = rng.choice((HoldMode.NORMAL, HoldMode.NORMAL, HoldMode.BEST_EFFORT))
                first, second = await asyncio.gather(
                    client.reserve(id, amount, mode, kind=kind), client.reserve(id, amount, mode, kind=kind)
                )
                outcomes = {first.outcome, second.outcome}
                if Outcome.CREATED not in outcomes:
                    assert outcomes == {Outcome.REFUSED}
                    continue
                # A refusal claims no id: what others give back between the two may let the second one in.
                assert [first.outcome, second.outcome].count(Outcome.CREATED) == 1
                made = first if first.outcome is Outcome.CREATED else second
                assert made.hold is not None
                end = rng.choice(("less", "all", "more", "release", "leave"))
                if end == "release":
                    both = await asyncio.gather(ledger.release("acme", id), ledger.release("acme", id))
                    assert {each.outcome for each in both} == {Outcome.DONE, Outcome.DUPLICATE}
                elif end == "leave":
                    left[id] = made.hold.quantity
                else:
                    held = made.hold.quantity
                    used = {"less": held // 2, "all": held, "more": held + 50}[end]
                    settled = await asyncio.gather(*(client.settle(id, used, kind=kind) for _ in range(2)))
                    assert {each.outcome for each in settled} == {Outcome.DONE, Outcome.DUPLICATE}

        await together(clients, play)
        found = await taken(ledger)
        assert found["all"] == (client.used["all"], sum(left.values()))
        assert found["red"][0] == client.used.get("red", 0)
        assert not (await ledger.verify()).faults
        desk.clock.advance(601)
        assert (await taken(ledger))["all"] == (client.used["all"], 0)
        late = [await client.settle(id, 1, kind="blue") for id in list(left)[:5]]
        assert all(each.hold and each.hold.settlement and each.hold.settlement.expired for each in late)
        assert (await taken(ledger))["all"] == (client.used["all"], 0)
        assert not (await ledger.verify()).faults


# Histories


@dataclass
class Recorder:
    """Has clients call, and writes down what was asked and told, and when."""

    client: Client
    history: list[Call] = field(default_factory=list)
    clock: int = 0

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    async def call(self, verb: str, hold: str, amount: int) -> None:
        begun = self._tick()
        if verb == "reserve":
            answer = await self.client.reserve(hold, amount)
        elif verb == "settle":
            answer = await self.client.settle(hold, amount)
        else:
            answer = await self.client.ledger.release("acme", hold)
        self.history.append(Call(begun, self._tick(), verb, hold, amount, told(answer, verb)))


def told(answer: Answer, verb: str) -> tuple[str, int | None]:
    if verb == "reserve" and answer.outcome in (Outcome.CREATED, Outcome.REFUSED):
        return answer.outcome.value, answer.claims[0].standing.remaining
    others = (Outcome.ENDED, Outcome.ID_REUSED, Outcome.EVENT_REFUSED)
    return ("other" if answer.outcome in others else answer.outcome.value), None


@asynchronous
async def test_recorded_histories_are_linearizable(desk: Desk) -> None:
    """A few clients share a few holds; each history has an order in which one client alone would see the same."""
    judged = 0
    async with desk.open() as ledger:
        await begun(ledger)
        for seed in range(HISTORIES):
            rng = random.Random(seed)
            await ledger.delete_limit("all", actor="test")
            limit = Limit("all", "acme", "work", Property.QUANTITY, 0, Period.MONTH, 10)
            recorder = Recorder(Client(desk, ledger, strict=False))
            desk.clock.advance(40 * 86_400)  # a month of its own
            await ledger.put_limit(limit, actor="test")

            async def play(number: int, rng: random.Random = rng, to: Recorder = recorder, seed: int = seed) -> None:
                for _ in range(4):
                    verb = rng.choice(("reserve", "reserve", "settle", "release"))
                    hold = f"{seed}-{rng.randint(0, 3)}"
                    amounts = {"reserve": 2 + int(hold[-1]) * 2, "settle": 1 + int(hold[-1]), "release": 0}
                    await to.call(verb, hold, amounts[verb])

            await together(5, play)
            try:
                assert is_linearizable(recorder.history, Alone(10)), recorder.history
                judged += 1
            except TooHard:
                continue
    assert judged > HISTORIES // 2


def test_a_history_that_overshoots_is_found() -> None:
    """Two holds of six under ten, one after the other or at once, have no order that explains them."""
    first = Call(1, 4, "reserve", "a", 6, ("created", 4))
    for begun in (2, 5):
        second = Call(begun, 6, "reserve", "b", 6, ("created", 4))
        assert not is_linearizable([first, second], Alone(10))
    refused = Call(5, 6, "reserve", "b", 6, ("refused", 4))
    assert is_linearizable([first, refused], Alone(10))


def test_a_history_that_forgets_is_found() -> None:
    """What was settled before a call began must be seen by it; what was at the same time may be."""
    made, settled = Call(1, 2, "reserve", "a", 6, ("created", 4)), Call(3, 6, "settle", "a", 2, ("done", None))
    later = Call(7, 8, "reserve", "b", 5, ("refused", 4))
    assert not is_linearizable([made, settled, later], Alone(10))
    beside = Call(4, 8, "reserve", "b", 5, ("refused", 4))
    assert is_linearizable([made, settled, beside], Alone(10))
