"""A notation for admission that a product person can read, and what plays it against any ledger.

limit   10 1h                       a limit of 10 per hour; also 1m 1d 1w 1mo 1y ever, id= meter= tz= policy= …
hold    job-1 6      -> allowed 4   what remains afterwards under the first limit that counts
settle  job-1 2      -> allowed 8   the event says 2
use     3            -> accepted    an event that nobody set anything aside for
tick    1h                          time passes
"""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tallystick import limits, query
from tallystick.admission import Asked, hold_of
from tallystick.holding import Answer, Outcome
from tallystick.ledger.base import Ledger
from tallystick.model import (
    Account,
    Grant,
    GrantKind,
    HoldMode,
    HoldQuery,
    HoldState,
    Limit,
    Policy,
    Property,
    Unheld,
)
from tallystick.query import LimitPlan, LimitRow
from tallystick.windows import Period
from tests.ledger.build import Desk, instant, spoken, text_of
from tests.ledger.define import event_of, meter, put, put_rates, rates

PERIODS = {
    "1m": Period.MINUTE,
    "1h": Period.HOUR,
    "1d": Period.DAY,
    "1w": Period.WEEK,
    "1mo": Period.MONTH,
    "1y": Period.YEAR,
    "ever": Period.TOTAL,
}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ACCOUNT = "acme"


def seconds(text: str) -> int:
    """Read `90s`, `10m`, `1h`, `2d`; also backwards, as `-1h`."""
    return int(text[:-1]) * SECONDS[text[-1]]


def plain(amount: int, scale: int) -> str:
    return query.decimal_text(amount, scale)


@dataclass
class Play:
    """One script on its way: the ledger of the moment, and how many events were made."""

    desk: Desk
    ledger: Ledger
    events: int = 0
    options: dict[str, str] = field(default_factory=dict)

    async def line(self, text: str) -> None:
        """Play one line and compare what it says with what comes."""
        said, _, expected = (part.strip() for part in text.partition("->"))
        verb, *words = shlex.split(said)
        self.options = dict(word.split("=", 1) for word in words if "=" in word)
        plain_words = [word for word in words if "=" not in word]
        told = await getattr(self, f"do_{verb}")(*plain_words)
        if expected:
            assert told == expected, f"{text.strip()}: {told}"

    def take(self, name: str, default: str | None = None) -> Any:
        return self.options.pop(name, default)

    # What there is

    async def do_account(self, name: str) -> str:
        await self.ledger.put_account(Account(name, 0), actor="test")
        return "made"

    async def do_limit(self, amount: str, period: str) -> str:
        meter_name = self.take("meter", "work")
        kind = Property(self.take("property", "quantity"))
        scale = limits.scale_of(kind, self.ledger.catalog.meters[meter_name])
        anchor, thresholds = self.take("anchor"), self.take("thresholds", "")
        made = Limit(
            self.take("id", "limit"),
            self.take("account", ACCOUNT),
            meter_name,
            kind,
            scale,
            PERIODS[period],
            None if amount == "-" else int(Decimal(amount).scaleb(scale)),
            timezone=self.take("tz", "UTC"),
            anchor=None if anchor is None else int(anchor),
            policy=Policy(self.take("policy", "reject")),
            status=int(self.take("status", "429")),
            thresholds=tuple(map(int, thresholds.split(","))) if thresholds else (),
            unheld=Unheld(self.take("unheld", "record")),
            where=tuple(sorted(self.options.items())),
        )
        return str(await self.ledger.put_limit(made, actor="test"))

    async def do_unlimit(self, id: str = "limit") -> str:
        return "deleted" if await self.ledger.delete_limit(id, actor="test") else "unknown"

    async def do_grant(self, amount: str, start: str, end: str = "-") -> str:
        limit = self.ledger.catalog.limits[self.take("limit", "limit")]
        until = None if end == "-" else instant(end)
        kind, id = GrantKind(self.take("kind", "extension")), self.take("id", f"{start}-{amount}")
        units = int(Decimal(amount).scaleb(limit.scale))
        grant = Grant(limit.id, id, kind, units, limit.scale, instant(start), until)
        return str(await self.ledger.put_grant(grant, actor="test"))

    async def do_rates(self, table: str) -> str:
        await put_rates(self.ledger, table, rates(**{k: int(Decimal(v) * 10**6) for k, v in self.options.items()}))
        return "made"

    # Time

    async def do_tick(self, text: str) -> str:
        self.desk.clock.advance(seconds(text))
        return text_of(self.desk.clock.now)

    async def do_clock(self, text: str) -> str:
        self.desk.clock.now = instant(text)
        return text

    # Holds

    async def do_hold(self, id: str, quantity: str) -> str:
        answer = await self._reserve(id, quantity)
        return self._admitted(answer)

    async def _reserve(self, id: str, quantity: str) -> Answer:
        catalog = self.ledger.catalog
        account, name = self.take("account", ACCOUNT), self.take("meter", "work")
        ttl, mode, count = self.take("ttl", "10m"), self.take("mode", "normal"), int(self.take("count", "1"))
        asked = Asked(
            account, id, name, self.options, Decimal(quantity), count, seconds(ttl) * 1_000_000, HoldMode(mode)
        )
        hold = hold_of(asked, catalog, self.ledger.now, text_length_max=256)
        return await self.ledger.reserve(hold, catalog_version=catalog.version)

    def _admitted(self, answer: Answer) -> str:
        if answer.outcome in (Outcome.CREATED, Outcome.DONE, Outcome.REFUSED):
            word = "denied" if answer.outcome is Outcome.REFUSED else "allowed"
            claims = answer.violated if answer.outcome is Outcome.REFUSED else answer.claims
            if answer.hold is not None and answer.hold.quantity != answer.hold.asked:
                held, asked = (plain(each, answer.hold.scale) for each in (answer.hold.quantity, answer.hold.asked))
                word += f" {held} of {asked},"
            remains = [plain(claim.standing.remaining, claim.limit.scale) for claim in claims]
            return " ".join([word, *remains])
        return str(answer.outcome)

    async def do_renew(self, id: str, quantity: str | None = None) -> str:
        ttl = self.take("ttl")
        hold = await self.ledger.hold(ACCOUNT, id)
        units = None if quantity is None or hold is None else int(Decimal(quantity).scaleb(hold.scale))
        answer = await self.ledger.renew(
            ACCOUNT, id, ttl=None if ttl is None else seconds(ttl) * 1_000_000, quantity=units
        )
        return self._admitted(answer)

    async def do_release(self, id: str) -> str:
        return self._admitted(await self.ledger.release(self.take("account", ACCOUNT), id))

    async def do_settle(self, id: str, quantity: str) -> str:
        hold = await self.ledger.hold(ACCOUNT, id)
        batch = self.desk.batch(self.ledger, self._event(quantity, self.take("event", f"settles-{id}")))
        answer = await self.ledger.settle(ACCOUNT, id, batch)
        if answer.outcome is Outcome.EVENT_REFUSED:
            return spoken(answer.verdict)
        if answer.outcome is not Outcome.DONE:
            return str(answer.outcome)
        assert answer.hold is not None and answer.hold.settlement is not None and hold is not None
        marks = [name for name in ("expired", "exceeded") if getattr(answer.hold.settlement, name)]
        duplicate = [] if answer.verdict is None else ["duplicate"]
        left = [plain(row.standing.remaining, row.limit.scale) for row in await self._rows()]
        return " ".join(["allowed", *left, *duplicate, *marks])

    # Events

    def _event(self, quantity: str, id: str) -> dict[str, Any]:
        at, account = self.take("at"), self.take("account", ACCOUNT)
        kind = self.take("event_type", "work.done")
        said = {name: int(value) if value.isdecimal() else value for name, value in self.options.items()}
        return event_of(kind, id, account, at, {"n": int(quantity), **said})

    async def do_use(self, quantity: str) -> str:
        self.events += 1
        event = self._event(quantity, self.take("event", f"event-{self.events}"))
        (told,) = await self.desk.send(self.ledger, event)
        return told

    async def do_batch(self, *quantities: str) -> str:
        events = []
        for quantity in quantities:
            self.events += 1
            events.append(self._event(quantity, f"event-{self.events}"))
        return ", ".join(await self.desk.send(self.ledger, *events))

    # Questions

    async def _rows(self) -> list[LimitRow]:
        some = [(limit, self.ledger.now) for limit in self.ledger.catalog.limits_of(ACCOUNT)]
        return list(await query.standings(self.ledger, LimitPlan(some)))

    async def _row(self, id: str) -> LimitRow:
        return next(row for row in await self._rows() if row.limit.id == id)

    async def do_left(self, id: str = "limit") -> str:
        row = await self._row(id)
        return plain(row.standing.remaining, row.limit.scale)

    async def do_used(self, id: str = "limit") -> str:
        row = await self._row(id)
        return plain(row.standing.used, row.limit.scale)

    async def do_held(self, id: str = "limit") -> str:
        row = await self._row(id)
        assert row.standing.taken == row.standing.used + row.standing.held
        return plain(row.standing.held, row.limit.scale)

    async def do_more(self, id: str = "limit") -> str:
        return "yes" if (await self._row(id)).standing.has_remaining else "no"

    async def do_crossed(self, id: str = "limit") -> str:
        return " ".join(str(each.threshold) for each in await self.ledger.crossings(id)) or "nothing"

    async def do_state(self, id: str) -> str:
        hold = await self.ledger.hold(ACCOUNT, id)
        return "unknown" if hold is None else str(hold.state_at(self.ledger.now))

    async def do_holds(self, state: str | None = None) -> str:
        wanted = None if state is None else HoldState(state)
        return " ".join(hold.id for hold in await self.ledger.holds(HoldQuery(ACCOUNT, wanted))) or "none"


async def played(desk: Desk, script: str) -> None:
    """Play a script; `restart` closes the ledger and opens it again, where it is on disk. The proof comes last."""
    parts: list[list[str]] = [[]]
    for text in script.strip().splitlines():
        if text.strip() == "restart":
            parts.append([])
        elif text.strip() and not text.strip().startswith("#"):
            parts[-1].append(text)
    if desk.url == "memory:":
        parts = [[text for part in parts for text in part]]
    events = 0
    for number, part in enumerate(parts):
        async with desk.open() as ledger:
            if number == 0:
                await ledger.put_account(Account(ACCOUNT, 0), actor="test")
                await put(ledger, meter())
            play = Play(desk, ledger, events)
            for text in part:
                await play.line(text)
            events = play.events
            proof = await ledger.verify()
            assert not proof.faults, proof.faults


def check(desk: Desk, script: str) -> None:
    """Play a script in an event loop of its own."""
    asyncio.run(played(desk, script))
