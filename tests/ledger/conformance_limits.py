"""What every ledger must keep of limits and grants; each kind of ledger runs the same suite."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick import query
from tallystick.errors import Code, Problem
from tallystick.ledger.base import Ledger
from tallystick.model import (
    Account,
    AuditQuery,
    AuditRecord,
    Deletion,
    Grant,
    GrantKind,
    Limit,
    LimitQuery,
    Outcome,
    Property,
)
from tallystick.query import LimitPlan
from tallystick.windows import Period
from tests.ledger.build import Desk, asynchronous, audio, instant
from tests.ledger.define import meter, work

NOON = instant("2024-05-01T12:00:00Z")
MAY = (instant("2024-05-01T00:00:00Z"), instant("2024-06-01T00:00:00Z"))
SECOND = 1_000_000


def limit(id: str = "hours", **definition: Any) -> Limit:
    """Define a limit of 100 seconds of audio a month."""
    made = Limit(id, "acme", "audio", Property.QUANTITY, 6, Period.MONTH, 100 * SECOND)
    return replace(made, **definition)


def grant(id: str = "more", amount: int = 20 * SECOND, **definition: Any) -> Grant:
    made = Grant("hours", id, GrantKind.EXTENSION, amount, 6, MAY[0], MAY[1])
    return replace(made, **definition)


async def begun(ledger: Ledger) -> None:
    for name in ("acme", "globex"):
        await ledger.put_account(Account(name, 0), actor="test")


async def told(ledger: Ledger) -> list[AuditRecord]:
    """Return what the audit has of limits and grants, the oldest first."""
    page = await ledger.audit(AuditQuery(1000))
    return [record for record in reversed(page.records) if isinstance(record.after or record.before, Limit | Grant)]


async def used(ledger: Ledger, *limits: Limit, at: int = NOON) -> list[int]:
    rows = await query.standings(ledger, LimitPlan([(each, at) for each in limits]))
    return [row.standing.used for row in rows]


class LimitConformance:
    """Limits are a part of the catalog that counts nothing itself."""

    @asynchronous
    async def test_a_limit_is_made_replaced_and_deleted(self, desk: Desk) -> None:
        """Each is in force at once; the same again changes nothing, and the second deletion finds none."""
        async with desk.open() as ledger:
            await begun(ledger)
            assert await ledger.put_limit(limit(), actor="test") is Outcome.CREATED
            assert await ledger.put_limit(limit(), actor="test") is Outcome.DUPLICATE
            changed = limit(period=Period.WEEK, anchor=3, timezone="Asia/Tokyo", amount=None, thresholds=(50, 80))
            assert await ledger.put_limit(changed, actor="test") is Outcome.REPLACED
            assert ledger.catalog.limits == {"hours": changed}
            assert await ledger.delete_limit("hours", actor="test")
            assert not await ledger.delete_limit("hours", actor="test")
            assert ledger.catalog.limits == {}

    @asynchronous
    async def test_a_grant_is_given_once_and_taken_away(self, desk: Desk) -> None:
        """The same again is a retry, another of its id a mistake; a new definition of the limit leaves grants alone."""
        async with desk.open() as ledger:
            await begun(ledger)
            await ledger.put_limit(limit(), actor="test")
            assert await ledger.put_grant(grant(), actor="test") is Outcome.CREATED
            assert await ledger.put_grant(grant(), actor="test") is Outcome.DUPLICATE
            for other in (grant(amount=1), grant(kind=GrantKind.BASE), grant(end=None), grant(start=MAY[0] + 1)):
                assert await ledger.put_grant(other, actor="test") is Outcome.ID_REUSED
            assert await ledger.put_grant(grant("base", kind=GrantKind.BASE), actor="test") is Outcome.CREATED
            await ledger.put_limit(limit(amount=1, grants=(grant("ignored"),)), actor="test")
            kept = limit(amount=1, grants=(grant(), grant("base", kind=GrantKind.BASE)))
            assert ledger.catalog.limits == {"hours": kept}
            assert await ledger.put_limit(limit(amount=1), actor="test") is Outcome.DUPLICATE
            assert await ledger.delete_grant("hours", "more", actor="test")
            for gone in (("hours", "more"), ("days", "base")):
                assert not await ledger.delete_grant(*gone, actor="test")
            assert ledger.catalog.limits["hours"].grants == kept.grants[1:]
            assert await ledger.put_grant(grant(amount=1), actor="test") is Outcome.CREATED

    @asynchronous
    async def test_a_limit_that_is_made_anew_has_no_grants(self, desk: Desk) -> None:
        """They went with the one that was deleted."""
        async with desk.open() as ledger:
            await begun(ledger)
            await ledger.put_limit(limit(), actor="test")
            await ledger.put_grant(grant(), actor="test")
            await ledger.delete_limit("hours", actor="test")
            assert await ledger.put_grant(grant(), actor="test") is Outcome.LIMIT_UNKNOWN
            assert await ledger.put_limit(limit(), actor="test") is Outcome.CREATED
            assert ledger.catalog.limits["hours"].grants == ()

    @asynchronous
    async def test_a_grant_of_another_scale_meets_no_limit(self, desk: Desk) -> None:
        """Who meant a limit that was replaced meanwhile does not give the new one a millionth or a million times."""
        async with desk.open() as ledger:
            await begun(ledger)
            await ledger.put_limit(limit(property=Property.COUNT, scale=0), actor="test")
            assert await ledger.put_grant(grant(), actor="test") is Outcome.LIMIT_UNKNOWN
            assert await ledger.put_grant(grant(scale=0, amount=20), actor="test") is Outcome.CREATED

    @asynchronous
    async def test_what_cannot_be_limited_is_refused(self, desk: Desk) -> None:
        """An unknown account, a meter that does not fit, and an id that is taken change nothing."""
        async with desk.open() as ledger:
            await begun(ledger)
            most = meter("most", aggregation="max")
            await ledger.put_meter(most, actor="test")
            refused = {
                Outcome.ACCOUNT_UNKNOWN: [limit(account="umbrella")],
                Outcome.METER_UNFIT: [
                    limit(meter="gone"),
                    limit(scale=3),
                    limit(property=Property.COUNT),
                    limit(where=(("colour", "red"),)),
                    limit(meter="most", scale=0),
                ],
            }
            for outcome, some in refused.items():
                assert [await ledger.put_limit(each, actor="test") for each in some] == [outcome] * len(some)
            assert ledger.catalog.limits == {}
            await ledger.put_limit(limit(), actor="test")
            for other in (
                limit(account="globex"),
                limit(meter="verifications"),
                limit(property=Property.COUNT, scale=0),
            ):
                assert await ledger.put_limit(other, actor="test") is Outcome.ID_REUSED
            assert ledger.catalog.limits == {"hours": limit()}
            counted = limit("works", meter="most", property=Property.COUNT, scale=0)
            assert await ledger.put_limit(counted, actor="test") is Outcome.CREATED

    @asynchronous
    async def test_limits_do_not_move_the_version(self, desk: Desk) -> None:
        """A batch that was prepared before a limit changed is as good as before."""
        async with desk.open() as ledger:
            await begun(ledger)
            batch, version = desk.batch(ledger, audio("1")), ledger.catalog.version
            await ledger.put_limit(limit(), actor="test")
            await ledger.put_grant(grant(), actor="test")
            await ledger.delete_grant("hours", "more", actor="test")
            await ledger.delete_limit("hours", actor="test")
            assert ledger.catalog.version == version
            assert await ledger.commit(batch) == {}

    @asynchronous
    async def test_the_audit_tells_what_limits_were_and_are(self, desk: Desk) -> None:
        """Every change has its account and both sides; what changed nothing is not told."""
        async with desk.open() as ledger:
            await begun(ledger)
            for each in (limit(), limit(), limit(amount=1), limit(account="umbrella")):
                await ledger.put_limit(each, actor="boss")
            for _ in range(2):
                await ledger.put_grant(grant(), actor="boss")
            await ledger.put_limit(limit(amount=2), actor="boss")
            await ledger.delete_grant("hours", "more", actor="boss")
            await ledger.put_grant(grant("base"), actor="boss")
            await ledger.delete_limit("hours", actor="boss")
            records = await told(ledger)
            assert {(record.actor, record.account, record.number) for record in records} == {("boss", "acme", 1)}
            assert [(r.action, r.target, r.before, r.after) for r in records] == [
                ("limit.put", "hours", None, limit()),
                ("limit.put", "hours", limit(), limit(amount=1)),
                ("grant.put", "hours/more", None, grant()),
                ("limit.put", "hours", limit(amount=1), limit(amount=2)),
                ("grant.delete", "hours/more", grant(), None),
                ("grant.put", "hours/base", None, grant("base")),
                ("limit.delete", "hours", limit(amount=2, grants=(grant("base"),)), None),
            ]
            assert list((await ledger.verify()).faults) == []

    @asynchronous
    async def test_an_account_with_limits_is_not_deleted(self, desk: Desk) -> None:
        """Its limits go first; those of others are not in its way."""
        async with desk.open() as ledger:
            await begun(ledger)
            await ledger.put_limit(limit(), actor="test")
            assert await ledger.delete_account("acme", actor="test") is Deletion.HAS_LIMITS
            assert await ledger.delete_account("globex", actor="test") is Deletion.DELETED
            await ledger.delete_limit("hours", actor="test")
            assert await ledger.delete_account("acme", actor="test") is Deletion.DELETED

    @asynchronous
    async def test_a_meter_keeps_what_its_limits_count(self, desk: Desk) -> None:
        """While there are limits on it, it is neither deleted nor defined in a way that changes what they mean."""
        async with desk.open() as ledger:
            await begun(ledger)
            await ledger.put_meter(meter(), actor="test")
            works = limit("works", meter="work", scale=0, where=(("kind", "a"),))
            await ledger.put_limit(works, actor="test")
            for other in (meter(scale=2), meter(unit="h"), meter(labels={})):
                with pytest.raises(Problem, match="'works'") as caught:
                    await ledger.put_meter(other, actor="test", start=0)
                assert caught.value.code is Code.IN_USE
            with pytest.raises(Problem, match="'works'") as caught:
                await ledger.delete_meter("work", actor="test")
            assert caught.value.code is Code.IN_USE
            assert ledger.catalog.meters["work"].scale == 0
            await ledger.put_meter(meter(events={"work.done", "work.more"}), actor="test")
            await ledger.delete_limit("works", actor="test")
            await ledger.put_meter(meter(scale=2), actor="test", start=0)
            await ledger.put_meter(meter("other"), actor="test")
            assert await ledger.delete_meter("other", actor="test")

    @asynchronous
    async def test_use_is_what_was_counted_in_the_period(self, desk: Desk) -> None:
        """From its first instant to before its last, of this account and these labels, also from before the limit."""
        async with desk.open() as ledger:
            await begun(ledger)
            await desk.send(
                ledger,
                audio("1", 1, at="2024-04-30T23:59:59.999999Z", technology="stt"),
                audio("2", 2, at="2024-05-01T00:00:00Z", technology="stt"),
                audio("3", 4, at="2024-05-01T12:04:59Z", technology="stt"),
                audio("4", 8, at="2024-05-01T11:00:00Z", technology="tts"),
                audio("5", 16, at="2024-05-01T11:00:00Z"),
                audio("6", 32, at="2024-05-01T11:00:00Z", account="globex", technology="stt"),
            )
            some = [
                limit("all"),
                limit("stt", where=(("technology", "stt"),)),
                limit("none", where=(("technology", ""),)),
                limit("count", property=Property.COUNT, scale=0),
                limit("tokyo", timezone="Asia/Tokyo"),
                limit("ever", period=Period.TOTAL),
                limit("hour", period=Period.HOUR),
                limit("other", account="globex"),
            ]
            for each in some:
                assert await ledger.put_limit(each, actor="test") is Outcome.CREATED
            expected = [30 * SECOND, 6 * SECOND, 16 * SECOND, 4, 31 * SECOND, 31 * SECOND, 4 * SECOND, 32 * SECOND]
            assert await used(ledger, *some) == expected
            assert await used(ledger, some[0], at=MAY[0] - 1) == [SECOND]

    @asynchronous
    async def test_a_dialect_asks_for_the_limits_that_it_shows(self, desk: Desk) -> None:
        """By account, meter, period, labels and zone, each as it stands at the instant that is asked about, by id."""
        async with desk.open() as ledger:
            await begun(ledger)
            await desk.send(ledger, audio("1", 7, at="2024-04-30T23:00:00Z"))
            stt = limit("b", where=(("technology", "stt"),))
            some = [limit("c", timezone="Asia/Tokyo"), stt, limit("a", period=Period.DAY), limit("d", account="globex")]
            for each in some:
                await ledger.put_limit(each, actor="test")
            await ledger.put_grant(grant(limit="c", start=MAY[0] - 1, end=MAY[0]), actor="test")

            async def asked(**narrowed: Any) -> list[str]:
                plan = query.limit_plan(ledger.catalog, LimitQuery("acme", NOON, **narrowed))
                return [row.limit.id for row in await query.standings(ledger, plan)]

            assert await asked() == ["a", "b", "c"]
            assert await asked(meter="images") == []
            assert await asked(meter="audio", period=Period.MONTH) == ["b", "c"]
            assert await asked(where=()) == ["a", "c"]
            assert await asked(where=stt.where) == ["b"]
            assert await asked(timezone="UTC") == ["a", "b"]
            past = query.limit_plan(ledger.catalog, LimitQuery("acme", MAY[0] - 1, period=Period.DAY))
            (ended,) = await query.standings(ledger, past)
            assert (ended.standing.used, ended.standing.end) == (7 * SECOND, MAY[0])
            later = query.limit_plan(ledger.catalog, LimitQuery("acme", MAY[0] - 1, timezone="Asia/Tokyo"))
            assert [row.standing.capacity for row in await query.standings(ledger, later)] == [120 * SECOND]

    @asynchronous
    async def test_use_goes_by_the_meter_as_it_counts(self, desk: Desk) -> None:
        """A meter that begins anew is what the limit counts from then on."""
        async with desk.open() as ledger:
            await begun(ledger)
            await ledger.put_meter(meter(), actor="test")
            works = limit("works", meter="work", scale=0)
            await ledger.put_limit(works, actor="test")
            await desk.send(ledger, work("1", 5))
            assert await used(ledger, works) == [5]
            assert list((await ledger.verify()).faults) == []


class PersistentLimits:
    """What outlives the process."""

    @asynchronous
    async def test_limits_and_grants_are_there_after_a_restart(self, desk: Desk) -> None:
        """They are read from the log, with their grants in order, and verify accepts the log that has them."""
        async with desk.open() as ledger:
            await begun(ledger)
            full = limit(where=(("technology", "stt"), ("vendor", "")), anchor=31, status=402, thresholds=(50, 100))
            await ledger.put_limit(full, actor="test")
            for id in ("b", "a", "c"):
                await ledger.put_grant(grant(id), actor="test")
            await ledger.delete_grant("hours", "c", actor="test")
            await ledger.put_limit(limit("gone"), actor="test")
            await ledger.delete_limit("gone", actor="test")
            kept = ledger.catalog
        async with desk.open() as ledger:
            assert ledger.catalog == kept
            assert ledger.catalog.limits == {"hours": replace(full, grants=(grant("b"), grant("a")))}
            assert list((await ledger.verify()).faults) == []
