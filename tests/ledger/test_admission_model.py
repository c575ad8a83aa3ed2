"""Ledgers that are kept against the one that sums everything up anew: whatever is asked, all say the same."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tallystick import holding, limits
from tallystick.holding import Outcome
from tallystick.ledger.base import Ledger
from tallystick.limits import Balance
from tallystick.model import Account, Hold, HoldLine, HoldMode, Limit, Policy, Property
from tallystick.windows import Period
from tests.ledger.build import LEDGERS, SPLIT, Desk
from tests.ledger.define import meter, put
from tests.ledger.script import Play

SEEDS = int(os.environ.get("TALLYSTICK_TEST_SCRIPTS", "8"))
LENGTH = 60
KINDS = ("red", "blue")


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    return Desk.of(request, tmp_path)


def lines(rng: random.Random) -> Iterator[str]:
    """Make up calls of all sorts, over a few ids, so that they meet."""
    for number in range(LENGTH):
        id, kind, amount = f"h{rng.randint(0, 7)}", rng.choice(KINDS), rng.randint(1, 9)
        at = "" if rng.random() < 0.7 else f" at=2024-05-01T{rng.randint(9, 12):02}:{rng.randint(0, 4):02}:07Z"
        period, zone = rng.choice(("1m", "1h", "1d", "1mo")), rng.choice(("UTC", "Asia/Kathmandu"))
        yield rng.choice(
            (
                f"hold {id} {amount} kind={kind} ttl={rng.randint(1, 3)}m",
                f"hold {id}-{number} {amount} kind={kind} mode={rng.choice(list(HoldMode))} count={rng.randint(1, 3)}",
                f"settle {id} {amount} kind={kind}{at}",
                f"settle {id} {amount} kind={kind}",
                f"release {id}",
                f"renew {id} {amount} ttl={rng.randint(1, 5)}m",
                f"use {amount} kind={kind}{at}",
                f"batch {amount} 1 {rng.randint(1, 9)} kind={kind}",
                f"tick {rng.choice((1, 20, 61, 200, 3600))}s",
                f"limit {rng.randint(0, 40)} {period} id=a{rng.randint(0, 2)} tz={zone} thresholds=50,100 kind={kind}",
                f"limit {rng.randint(5, 60)} {period} id=b policy={rng.choice(list(Policy))} unheld=refuse",
                f"limit {rng.randint(1, 9)} {period} id=c property=count",
                f"unlimit {rng.choice(('a0', 'b', 'c'))}",
            )
        )


def stay(desk: Desk) -> None:
    """Go on where it is."""


async def told(desk: Desk, script: list[str], *, reopens: bool, between: Callable[[Desk], None] = stay) -> list[str]:
    """Play a script line by line; what each was told, how the limits stand then, and what was noted of them.

    `between` is done whenever the ledger was closed and is not open again yet.
    """
    said: list[str] = []
    events = 0
    parts = [script[:20], script[20:40], script[40:]] if reopens else [script]
    for part in parts:
        async with desk.open() as ledger:
            await begun(ledger)
            play = Play(desk, ledger, events)
            for line in part:
                verb, *words = line.split()
                play.options = dict(word.split("=", 1) for word in words if "=" in word)
                answer = await getattr(play, f"do_{verb}")(*(word for word in words if "=" not in word))
                stands = [str(row.standing) for row in await play._rows()]
                noted = [str(each) for id in ledger.catalog.limits for each in await ledger.crossings(id)]
                said.append(f"{line}: {answer} {stands} {noted} {await play.do_holds()} {await play.do_holds('open')}")
            events = play.events
            assert not (await ledger.verify()).faults
        between(desk)
    return said


async def begun(ledger: Ledger) -> None:
    """Make what every script needs; nothing changes where it is there."""
    await ledger.put_account(Account("acme", 0), actor="test")
    await put(ledger, meter())


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("desk", (*LEDGERS[1:], SPLIT), indirect=True)
def test_all_ledgers_say_the_same(desk: Desk, seed: int) -> None:
    """Holds, events, limits and time in any order; those that are kept are closed and opened again on the way."""
    script = list(lines(random.Random(seed)))
    memory = asyncio.run(told(Desk("memory:"), script, reopens=False))
    kept = asyncio.run(told(desk, script, reopens=True))
    for ours, due in zip(kept, memory, strict=True):
        assert ours == due


# The decision itself

AMOUNTS = st.integers(0, 1000)


@st.composite
def asked(draw: st.DrawFn) -> tuple[Hold, list[tuple[Limit, Balance, tuple[int, int]]]]:
    """A hold, and limits that count for it as they stand."""
    quantity = draw(st.integers(1, 1000))
    rate, count = draw(st.integers(0, 7)), draw(st.integers(1, 5))
    is_counted = draw(st.booleans())
    lines = (
        HoldLine("one", 0, (), quantity, quantity if is_counted else count, is_counted),
        HoldLine("two", 0, (), -(-quantity * rate // 2), count, is_counted),
    )
    mode = draw(st.sampled_from((HoldMode.NORMAL, HoldMode.BEST_EFFORT)))
    hold = Hold("acme", "h", "one", (), 0, quantity, quantity, count, 1, mode, 0, 1, lines)
    some = []
    for number in range(draw(st.integers(0, 3))):
        meter, kind = draw(st.sampled_from(("one", "two"))), draw(st.sampled_from(list(Property)))
        policy = draw(st.sampled_from(list(Policy)))
        limit = Limit(str(number), "acme", meter, kind, 0, Period.TOTAL, draw(AMOUNTS), policy=policy)
        some.append((limit, Balance(draw(AMOUNTS), draw(AMOUNTS)), limits.period_at(limit, 0)))
    return hold, some


@given(asked())
def test_an_admitted_hold_fits_and_a_refused_one_does_not(
    given_: tuple[Hold, list[tuple[Limit, Balance, tuple[int, int]]]],
) -> None:
    """All or nothing; best effort holds the most that fits, so that one more would not."""
    hold, balances = given_
    answer = holding.admit(hold, balances, 0)

    def fits(quantity: int) -> bool:
        taken = [
            (limit, balance, holding.amount_of(limit, hold, quantity) or 0)
            for limit, balance, _ in balances
            if limit.policy is not Policy.ALLOW
        ]
        return all(
            not amount or balance.used + balance.held + amount <= (limit.amount or 0)
            for limit, balance, amount in taken
        )

    if answer.outcome is Outcome.REFUSED:
        assert answer.violated
        assert not fits(1 if hold.mode is HoldMode.BEST_EFFORT else hold.asked)
        return
    assert answer.hold is not None
    assert fits(answer.hold.quantity)
    assert answer.hold.quantity == hold.asked or not fits(answer.hold.quantity + 1)
    assert replace(answer.hold, quantity=hold.quantity) == hold
