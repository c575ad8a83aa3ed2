"""What every ledger must keep about meters, rates, what is counted once, and what exists."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import pairwise, permutations
from typing import Any

import pytest
from msgspec import structs

from tallystick.catalog import builtin
from tallystick.envelope import event_of as envelope_event
from tallystick.envelope import read
from tallystick.errors import Code, Problem
from tallystick.ledger.base import CatalogStale, Ledger
from tallystick.ledger.open import open_ledger
from tallystick.metering import meter as metered
from tallystick.model import (
    VALUE,
    Catalog,
    EventQuery,
    LiveQuery,
    LiveResource,
    LiveSpace,
    Meter,
    Posting,
    Rated,
    Record,
    RecordQuery,
    ResourceQuery,
    Rounding,
    Total,
    UsageTable,
)
from tallystick.windows import INSTANT_MAX, INSTANT_MIN, month_of
from tests.ledger.build import Desk, Raw, asynchronous, audio, instant, lines, query, raw_of, total, usage
from tests.ledger.define import (
    closed,
    delete,
    event_of,
    live,
    meter,
    put,
    put_rates,
    rates,
    resources,
    second,
    settled,
    space_of,
    upsert,
    work,
)

SECOND = 1_000_000
MAY = 2024 * 12 + 4
"""The month of 2024-05, as calendars number it."""
EXCEEDED = "rejected label_sets_exceeded"
CREDITS = Rated("prices", "kind")


def in_use(problem: pytest.ExceptionInfo[Problem]) -> str:
    """Check that something is in use, and return what is said about it."""
    assert problem.value.code is Code.IN_USE
    return problem.value.detail


def computed(duration: int) -> dict[str, tuple[int, int]]:
    """Return the counters of one computed voiceprint."""
    return {"voiceprint": (1, duration), "voiceprint.computed": (1, duration)}


PERFORMED, SCORELESS = {"state": "performed"}, {"state": "performedWithoutScore"}


async def summed(ledger: Ledger, name: str = "work") -> tuple[int, int]:
    """Ask how many pieces of work a meter counts, and their sum."""
    found = await total(ledger, meter=name)
    return found.count, found.sum


async def seen_in_one_moment(desk: Desk) -> None:
    """Replace a meter from the beginning on, and look on: it shows its old numbers or its new ones."""
    async with desk.open() as ledger:
        await put(ledger, meter(scale=0))
        for turn in range(6):
            await desk.send(ledger, *(work(f"{turn} {n}") for n in range(50)))
        replaying = asyncio.create_task(put(ledger, meter(scale=1, rounding=Rounding("0.1", "up")), INSTANT_MIN))
        seen, fed = set(), set()
        while not replaying.done():
            await asyncio.sleep(0)
            seen.add(await summed(ledger))
            (row,) = (await ledger.events(EventQuery(None, oldest_first=True, limit=1))).rows
            fed.add(tuple(posting.amount for posting in row.postings))
        assert seen <= {(300, 300), (300, 3000)}
        assert fed <= {(1,), (10,)}
        assert await summed(ledger) == (300, 3000)


class Definitions:
    """Meters that come, change and go."""

    @asynchronous
    async def test_a_new_meter_counts_from_its_creation(self, desk: Desk) -> None:
        """What was kept before is not counted, what comes after is, whatever its time."""
        async with desk.open() as ledger:
            await desk.send(ledger, work("before", 1))
            assert (await usage(ledger, meter="work")).rows == []
            await put(ledger, meter())
            assert await summed(ledger) == (0, 0)
            await desk.send(ledger, work("after", 2), work("late", 4, at="2020-01-01T00:00:00Z"))
            assert await summed(ledger) == (2, 6)

    @asynchronous
    async def test_every_change_of_a_meter_is_a_version_and_the_definition_bears_it(self, desk: Desk) -> None:
        """The version grows by one with each definition, replacement and deletion; others keep theirs."""
        async with desk.open() as ledger:
            start = ledger.catalog.version
            first = await put(ledger, meter())
            second = await put(ledger, meter(labels={}))
            other = await put(ledger, meter("other"))
            assert [first.version, second.version, other.version] == [start + 1, start + 2, start + 3]
            assert [first.epoch, second.epoch, other.epoch] == [start + 1, start + 1, start + 3]
            assert ledger.catalog.version == start + 3
            assert ledger.catalog.meters["work"] == replace(meter(labels={}), version=start + 2, epoch=start + 1)
            assert await ledger.delete_meter("other", actor="test") is True
            assert ledger.catalog.version == start + 4
            assert ledger.catalog.meters["audio"] == builtin().meters["audio"]

    @asynchronous
    async def test_the_definition_in_force_changes_nothing(self, desk: Desk) -> None:
        """Defining a meter as it is leaves the catalog alone, whatever version and epoch are asked for."""
        async with desk.open() as ledger:
            await put(ledger, meter(where={"kind": {"a"}}))
            before = ledger.catalog
            await put(ledger, replace(meter(where={"kind": {"a"}}), version=99, epoch=98))
            assert ledger.catalog == before

    @asynchronous
    async def test_a_batch_prepared_with_other_meters_is_stale(self, desk: Desk) -> None:
        """A definition, a deletion and new rates each turn back what was prepared before; nothing of it is kept."""
        async with desk.open() as ledger:
            changes: list[Callable[[], Awaitable[object]]] = [
                lambda: ledger.put_meter(meter(), actor="test"),
                lambda: ledger.put_rates("prices", rates(a=1), actor="test"),
                lambda: ledger.delete_meter("work", actor="test"),
            ]
            for n, change in enumerate(changes):
                batch = desk.batch(ledger, work(str(n)))
                await change()
                with pytest.raises(CatalogStale):
                    await ledger.commit(batch, create_accounts=True)
                assert await ledger.event("acme", "test", str(n)) is None

    @asynchronous
    async def test_a_replaced_definition_goes_on_counting(self, desk: Desk) -> None:
        """What the earlier definition counted stays, also where that had other labels or another filter."""
        async with desk.open() as ledger:
            await put(ledger, meter())
            await desk.send(ledger, work("1", 1, kind="a", site="x"), work("2", 2, kind="b", site="x"))
            await put(ledger, meter(labels={"site": "$.data.site"}, where={"kind": {"b"}}))
            await desk.send(ledger, work("3", 4, kind="a", site="x"), work("4", 8, kind="b", site="x"))
            assert lines(await usage(ledger, meter="work", group_by=("site",))) == [(0, None, 2, 3), (0, "x", 1, 8)]
            assert (await usage(ledger, meter="work", group_by=("kind",))).rows == []
            assert await summed(ledger) == (3, 11)

    @pytest.mark.parametrize("change", [{"unit": "By"}, {"scale": 3}, {"aggregation": "max"}])
    @asynchronous
    async def test_amounts_that_cannot_be_added_up_are_kept_apart(self, desk: Desk, change: dict[str, Any]) -> None:
        """Another unit, scale or aggregation is refused unless the meter begins anew, and then counts alone."""
        async with desk.open() as ledger:
            await put(ledger, meter())
            await desk.send(ledger, work("1", 1))
            before = ledger.catalog
            with pytest.raises(Problem) as refused:
                await ledger.put_meter(meter(**change), actor="test")
            assert "'work'" in in_use(refused)
            assert ledger.catalog == before
            await put(ledger, meter(**change), desk.clock() + 1)
            assert await summed(ledger) == (0, 0)

    @asynchronous
    async def test_a_deleted_meter_counts_nothing_and_has_no_usage(self, desk: Desk) -> None:
        """Its usage cannot be read, its events are still kept, and deleting it again says that there is none."""
        async with desk.open() as ledger:
            await put(ledger, meter())
            await put(ledger, meter("other"))
            await desk.send(ledger, work("1", 1))
            assert await ledger.delete_meter("work", actor="test") is True
            await desk.send(ledger, work("2", 2))
            assert "work" not in ledger.catalog.meters
            assert await summed(ledger) == (0, 0)
            assert await summed(ledger, "other") == (2, 3)
            assert await ledger.delete_meter("work", actor="test") is False

    @asynchronous
    async def test_a_meter_that_gets_a_deleted_ones_name_begins_anew(self, desk: Desk) -> None:
        """Nothing that the deleted one counted comes back, and its unit does not bind the new one."""
        async with desk.open() as ledger:
            await put(ledger, meter())
            await desk.send(ledger, work("1", 1))
            await ledger.delete_meter("work", actor="test")
            again = await put(ledger, meter(unit="By", scale=2))
            assert again.epoch == again.version
            await desk.send(ledger, work("2", 2))
            assert await summed(ledger) == (1, 200)

    @pytest.mark.parametrize("order", list(permutations(["define", "replace", "delete", "count"], 4)))
    @asynchronous
    async def test_definitions_and_deletions_in_every_order_count_what_they_say(
        self, desk: Desk, order: Sequence[str]
    ) -> None:
        """Usage is what was sent while the meter was there, since it last began anew."""
        counted: int | None = None
        async with desk.open() as ledger:
            for n, step in enumerate([*order, *order, "count"]):
                match step:
                    case "define" | "replace":
                        await put(ledger, meter(labels={} if step == "replace" else {"kind": "$.data.kind"}))
                        counted = counted or 0
                    case "delete":
                        assert await ledger.delete_meter("work", actor="test") is (counted is not None)
                        counted = None
                    case _:
                        await desk.send(ledger, work(str(n), 2**n))
                        counted = None if counted is None else counted + 2**n
                assert (await total(ledger, meter="work")).sum == (counted or 0)
            assert (await ledger.verify()).faults == ()

    @asynchronous
    async def test_several_meters_count_one_event_each_in_its_own_way(self, desk: Desk) -> None:
        """Sum, count, filtered and rounded: every meter of a type gets its posting of every event that fits."""
        async with desk.open() as ledger:
            await put(ledger, meter("n", scale=2))
            await put(ledger, meter("events", quantity=None))
            await put(ledger, meter("ones", where={"kind": {"a"}}, scale=2))
            await put(ledger, meter("dozens", rounding=Rounding("12", "up", "24")))
            await desk.send(ledger, work("1", 1.25, kind="a"), work("2", 30, kind="b"), work("3", 0, kind="a"))
            assert await total(ledger, meter="n") == Total(3, 3125, 0, 3000)
            assert await total(ledger, meter="events") == Total(3, 3, 1, 1)
            assert await total(ledger, meter="ones") == Total(2, 125, 0, 125)
            assert await total(ledger, meter="dozens") == Total(3, 24 + 36 + 24, 24, 36)

    @pytest.mark.parametrize(
        ("where", "taken"),
        [
            ({"kind": {"a"}}, "0"),
            ({"kind": {"a", "b"}}, "01"),
            ({"kind": {""}}, "2345"),
            ({"kind": {"A"}}, ""),
            ({"size": {"1.5"}}, "0"),
            ({"size": {"1.50"}}, ""),
            ({"size": {"true"}}, "1"),
            ({"kind": {"b"}, "size": {"true"}}, "1"),
            ({"kind": {"a"}, "size": {"true"}}, ""),
            ({"alias": {"deep"}}, "3"),
            ({"space": {"lab"}}, "5"),
        ],
    )
    @asynchronous
    async def test_every_condition_must_hold(self, desk: Desk, where: dict[str, set[str]], taken: str) -> None:
        """A condition is on a label or on a member of the data; absent is like empty, numbers are in shortest form."""
        events: list[Raw] = [
            work("0", 1, kind="a", size=1.50),
            work("1", 2, kind="b", size=True),
            work("2", 4, kind=""),
            work("3", 8, more={"alias": "deep"}),
            work("4", 16, alias="shallow"),
            {**work("5", 32), "space": "lab"},
        ]
        labels = {"alias": "$.data.more.alias", "space": "$.space"}
        async with desk.open() as ledger:
            await put(ledger, meter(labels=labels, where=where))
            await desk.send(ledger, *events)
            assert (await total(ledger, meter="work")).sum == sum(2 ** int(id) for id in taken)

    @asynchronous
    async def test_paths_lead_anywhere_in_the_event(self, desk: Desk) -> None:
        """Deep members, attributes, resolved names and expressions; what leads nowhere is no label."""
        labels = {
            "deep": "$.data.a.b",
            "region": "$.region",
            "who": "$.account",
            "first": "data.items[0].name",
            "long": "data.items[?seconds > `5`] | [0].name",
            "count": "length(data.items)",
            "none": "$.data.a.b.c",
        }
        items = [{"name": "x", "seconds": 4.5}, {"name": "y", "seconds": 5.5}]
        event = {**work("1", 1, a={"b": "B"}, items=items), "region": "eu"}
        async with desk.open() as ledger:
            await put(ledger, meter(labels=labels, quantity="length(data.items)"))
            await desk.send(ledger, event)
            assert lines(await usage(ledger, meter="work", group_by=tuple(labels))) == [
                (0, "B", "eu", "acme", "x", "y", "2", None, 1, 2)
            ]

    @pytest.mark.parametrize("seed", range(12))
    @asynchronous
    async def test_any_definition_counts_what_metering_says(self, desk: Desk, seed: int) -> None:
        """Sent after the definition or counted again from what was kept, amounts and labels are the same."""
        chance = random.Random(seed)
        defined = any_meter(chance)
        async with desk.open() as ledger:
            await put_rates(ledger, "prices", rates(a=500_000, b={0: 1, instant(second(60)): 3_000_000}))
            events = takeable([any_work(chance, n) for n in range(60)], defined, ledger.catalog, desk.clock())
            await desk.send(ledger, *(event for event, _ in events))
            await put(ledger, defined, INSTANT_MIN)
            again = [{**event, "id": f"{event['id']} again"} for event, posting in events if posting != "refused"]
            table = await usage(ledger, meter="work", group_by=tuple(name for name, _ in defined.labels))
            assert lines(table) == expected(events, defined, 1)
            await desk.send(ledger, *again)
            table = await usage(ledger, meter="work", group_by=tuple(name for name, _ in defined.labels))
            assert lines(table) == expected(events, defined, 2)
            assert (await ledger.verify()).faults == ()


class Replays:
    """Meters that count what is kept already."""

    @asynchronous
    async def test_a_meter_counts_from_the_beginning_when_asked_so(self, desk: Desk) -> None:
        """What was kept is counted as if the meter had always been there, and what comes goes on."""
        async with desk.open() as ledger:
            await desk.send(ledger, work("1", 1, kind="a"), work("2", 2, at="2001-01-01T00:00:00Z"), audio("3"))
            await put(ledger, meter(), INSTANT_MIN)
            assert lines(await usage(ledger, meter="work", group_by=("kind",))) == [(0, None, 1, 2), (0, "a", 1, 1)]
            assert (await total(ledger, "2001-01-01T00:00:00Z", "2001-01-01T00:00:01Z", meter="work")).sum == 2
            await desk.send(ledger, work("4", 4, kind="a"))
            assert await summed(ledger) == (3, 7)
            assert await summed(ledger, "audio") == (1, 60 * SECOND)

    @asynchronous
    async def test_a_start_is_an_instant_of_the_events(self, desk: Desk) -> None:
        """Events of that microsecond or later are counted, earlier ones are not, however late they came."""
        start = instant("2024-04-30T10:00:00Z")
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                work("3", 4, at="2024-04-30T10:00:00.000001Z"),
                work("2", 2, at="2024-04-30T10:00:00Z"),
                work("1", 1, at="2024-04-30T09:59:59.999999Z"),
            )
            await put(ledger, meter(), start)
            assert await summed(ledger) == (2, 6)
            await desk.send(ledger, work("4", 8, at="2024-04-30T09:00:00Z"))
            assert await summed(ledger) == (3, 14)

    @asynchronous
    async def test_a_meter_that_begins_anew_loses_what_it_counted_before(self, desk: Desk) -> None:
        """After the replay its usage is what the new definition counts, no more and nothing twice."""
        async with desk.open() as ledger:
            first = await put(ledger, meter())
            await desk.send(ledger, work("1", 1, kind="a"), work("2", 2, kind="b"))
            again = await put(ledger, meter(where={"kind": {"b"}}, unit="By", scale=1), INSTANT_MIN)
            assert again.epoch > first.version
            assert await summed(ledger) == (1, 20)
            await put(ledger, meter(where={"kind": {"b"}}, unit="By", scale=1), INSTANT_MIN)
            assert await summed(ledger) == (1, 20)
            await put(ledger, meter(), INSTANT_MIN)
            assert await summed(ledger) == (2, 3)

    @asynchronous
    async def test_a_kept_event_that_the_meter_cannot_take_counts_nothing_for_it(self, desk: Desk) -> None:
        """It was accepted and stays; other events, and other meters, lose nothing by it."""
        cannot: list[Any] = ["7", True, [1], -1, 1.5, None, 10**12 + 1, {"a": 1}]
        async with desk.open() as ledger:
            await desk.send(ledger, *(work(str(n), value) for n, value in enumerate(cannot)))
            await desk.send(ledger, work("list", 64, kind=["a"]), work("bad", 128, kind="\u202e"), work("good", 32))
            await put(ledger, meter(), INSTANT_MIN)
            await put(ledger, meter("events", quantity=None, labels={}), INSTANT_MIN)
            assert await summed(ledger) == (1, 32)
            assert await summed(ledger, "events") == (11, 11)
            assert await ledger.event("acme", "test", "0") is not None
            assert (await ledger.verify()).faults == ()

    @asynchronous
    async def test_texts_of_seconds_are_read_in_a_replay_as_on_arrival(self, desk: Desk) -> None:
        """Only what would be taken as a duration counts, to the digit."""
        taken = {"7.5": 7_500_000, "PT1M0.5S": 60_500_000, "P1W": 604_800_000_000, "1e-6": 1, "P1DT1S": 86_401_000_000}
        refused = ["1/2", "1_000", " 7", "P", "PT", "P1DT", "P1.5DT1S", "-PT1S", "1e13", "0x10", "٣", "nan", "1e-13"]
        async with desk.open() as ledger:
            await desk.send(ledger, *(work(text, text, kind=text) for text in [*taken, *refused]))
            await put(ledger, meter(unit="s", scale=6), INSTANT_MIN)
            rows = lines(await usage(ledger, meter="work", group_by=("kind",)))
            assert {kind: amount for _, kind, _, amount in rows} == taken

    @asynchronous
    async def test_only_success_is_counted_again(self, desk: Desk) -> None:
        """Failed work of a type that has a status stays uncounted; a type without one has no such member."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1", 1), audio("2", 2, status="failed"), work("3", 4, status="failed"))
            await put(ledger, meter("again", events={"audio.processed"}, quantity="$.data.duration"), INSTANT_MIN)
            await put(ledger, meter(), INSTANT_MIN)
            assert await summed(ledger, "again") == (1, 1)
            assert await summed(ledger) == (1, 4)

    @asynchronous
    async def test_what_comes_while_a_meter_is_replayed_is_counted_once(self, desk: Desk) -> None:
        """Commits go on meanwhile; in the end every event is counted, and none twice."""
        async with desk.open() as ledger:
            await desk.send(ledger, *(work(str(n)) for n in range(500)))

            async def send() -> None:
                for n in range(500, 540):
                    await sent(desk, ledger, work(str(n)))

            sending = asyncio.create_task(send())
            await put(ledger, meter(), INSTANT_MIN)
            await sending
            assert await summed(ledger) == (540, 540)
            assert (await ledger.verify()).faults == ()

    @asynchronous
    async def test_a_meter_is_replaced_in_one_moment(self, desk: Desk) -> None:
        """Until a replay is over the earlier definition counts and answers; nobody sees a part of the new numbers."""
        await seen_in_one_moment(desk)

    @asynchronous
    async def test_a_replay_says_how_far_it_is_while_it_is_under_way(self, desk: Desk) -> None:
        """It is among the replays and can say how much is done until it is in force; what is none says nothing."""
        async with desk.open() as ledger:
            await desk.send(ledger, *(work(str(n)) for n in range(50)))
            await ledger.put_meter(meter(), actor="test", start=INSTANT_MIN)
            while "work" not in ledger.catalog.meters:
                (name,) = (name for name, each in ledger.catalog.replays.items() if each.meters[0].name == "work")
                progress = ledger.replayed(name)
                assert progress is None or 0 <= progress[0] <= progress[1]
                await asyncio.sleep(0)
            assert dict(ledger.catalog.replays) == {}
            assert ledger.replayed("work") is None
            assert await summed(ledger) == (50, 50)

    @asynchronous
    async def test_a_replay_is_not_bounded_by_label_sets_and_what_comes_after_is(self, desk: Desk) -> None:
        """What was accepted is counted whole; its label sets take up room that new ones do not get."""
        async with desk.open(label_sets_max=2) as ledger:
            await desk.send(ledger, *(work(str(n), 1, kind=str(n)) for n in range(5)))
            await put(ledger, meter(), INSTANT_MIN)
            assert await summed(ledger) == (5, 5)
            assert await desk.send(ledger, work("5", 1, kind="5"), work("6", 1, kind="4")) == [EXCEEDED, "accepted"]

    @asynchronous
    async def test_a_proof_covers_what_was_counted_again(self, desk: Desk) -> None:
        """Postings of a replay are among those that verify looks at."""
        async with desk.open() as ledger:
            await put(ledger, meter())
            await desk.send(ledger, *(work(str(n)) for n in range(7)))
            before = await ledger.verify()
            await put(ledger, meter("other"), INSTANT_MIN)
            after = await ledger.verify()
            assert (before.faults, after.faults) == ((), ())
            assert (after.postings - before.postings, after.entries > before.entries) == (7, True)


class Rates:
    """Multipliers, from an instant on."""

    @asynchronous
    async def test_an_event_counts_at_the_rate_of_its_type_at_its_time(self, desk: Desk) -> None:
        """The last rate that starts at the event's time or before, to the microsecond, however late the event is."""
        change = instant("2024-04-30T10:00:00Z")
        async with desk.open() as ledger:
            await put_rates(ledger, "prices", rates(a={0: 500_000, change: 2_000_000}, b=0))
            await put(ledger, meter(rate=CREDITS, scale=6))
            await desk.send(
                ledger,
                work("1", 1, at="2024-04-30T10:00:00Z", kind="a"),
                work("2", 1, at="2024-04-30T09:59:59.999999Z", kind="a"),
                work("3", 7, kind="b"),
            )
            assert lines(await usage(ledger, "1970-01-01T00:00:00Z", "2024-04-30T10:00:00Z", meter="work")) == [
                (0, 1, 500_000)
            ]
            assert await summed(ledger) == (3, 2_500_000)

    @asynchronous
    async def test_the_same_rates_again_change_nothing(self, desk: Desk) -> None:
        """Putting a table as it is leaves the catalog alone; another one is a version."""
        async with desk.open() as ledger:
            await put_rates(ledger, "prices", rates(a=1))
            before = ledger.catalog
            await put_rates(ledger, "prices", rates(a=1))
            assert ledger.catalog == before
            await put_rates(ledger, "prices", rates(a=2))
            assert ledger.catalog.version == before.version + 1
            assert dict(ledger.catalog.rates["prices"]) == rates(a=2)
            assert ledger.catalog.rates["vision"] == builtin().rates["vision"]

    @asynchronous
    async def test_rates_that_touch_nothing_counted_may_change(self, desk: Desk) -> None:
        """Another type, a time after or before all that was counted, and the same rate written otherwise."""
        async with desk.open() as ledger:
            await put_rates(ledger, "prices", rates(a=500_000))
            await put(ledger, meter(rate=CREDITS, scale=6))
            await desk.send(ledger, work("1", 1, at="2024-04-30T10:00:00Z", kind="a"))
            for harmless in (
                rates(a=500_000, b=1),
                rates(a={0: 500_000, instant("2024-04-30T10:00:00.000001Z"): 9}),
                rates(a={0: 9, instant("2024-04-30T10:00:00Z"): 500_000}),
                rates(a={0: 500_000, 1: 500_000}),
            ):
                await put_rates(ledger, "prices", harmless)
                assert dict(ledger.catalog.rates["prices"]) == harmless
            await desk.send(ledger, work("2", 1, kind="a"))
            assert await summed(ledger) == (2, 1_000_000)

    @pytest.mark.parametrize(
        "harmful",
        [
            pytest.param(rates(a=1_000_000), id="another rate"),
            pytest.param(rates(b=500_000), id="none any more"),
            pytest.param(rates(a={instant("2024-04-30T10:00:00.000001Z"): 500_000}), id="none at that time"),
            pytest.param(rates(a={0: 500_000, instant("2024-04-30T10:00:00Z"): 1}), id="another from that instant"),
        ],
    )
    @asynchronous
    async def test_rates_of_what_is_counted_change_only_with_a_recount(self, desk: Desk, harmful: Any) -> None:
        """The refusal names the types and changes nothing; with a recount the numbers are those of the new table."""
        async with desk.open() as ledger:
            await put_rates(ledger, "prices", rates(a=500_000))
            await put(ledger, meter(rate=CREDITS, scale=6))
            await desk.send(ledger, work("1", 2, at="2024-04-30T10:00:00Z", kind="a"))
            before = ledger.catalog
            with pytest.raises(Problem) as refused:
                await put_rates(ledger, "prices", harmful)
            assert "'a'" in in_use(refused)
            assert ledger.catalog == before
            await put_rates(ledger, "prices", harmful, recount=True)
            assert dict(ledger.catalog.rates["prices"]) == harmful
            posting = counted(work("1", 2, at="2024-04-30T10:00:00Z", kind="a"), "work", ledger.catalog, desk.clock())
            assert await summed(ledger) == ((0, 0) if posting == "refused" else (1, posting.amount))
            assert (await ledger.verify()).faults == ()

    @asynchronous
    async def test_a_recount_is_for_every_meter_with_the_table_and_no_other(self, desk: Desk) -> None:
        """Each counts what it can take, whatever another refuses; meters with other tables go on as they are."""
        async with desk.open() as ledger:
            await put_rates(ledger, "prices", rates(a=1_000_000))
            await put_rates(ledger, "other", rates(a=1_000_000))
            await put(ledger, meter("one", rate=CREDITS))
            await put(ledger, meter("apart", rate=Rated("other", "kind")))
            await desk.send(ledger, work("1", 1, kind="a"), work("2", 2, kind="a", size="big"))
            await put(ledger, meter("sized", rate=CREDITS, quantity="$.data.size"))
            await desk.send(ledger, work("3", 4, kind="a", size=8))
            await put_rates(ledger, "prices", rates(a=3_000_000), recount=True)
            assert await summed(ledger, "one") == (3, 21)
            assert await summed(ledger, "sized") == (1, 24)
            assert await summed(ledger, "apart") == (3, 7)

    @asynchronous
    async def test_what_no_meter_shows_does_not_bind_its_rates(self, desk: Desk) -> None:
        """Once the meter is gone, or has begun anew without the events, its table may change."""
        async with desk.open() as ledger:
            await put_rates(ledger, "prices", rates(a=1_000_000))
            await put(ledger, meter(rate=CREDITS))
            await desk.send(ledger, work("1", 1, at="2024-04-30T10:00:00Z", kind="a"))
            await put(ledger, meter(rate=CREDITS), desk.clock())
            await put_rates(ledger, "prices", rates(a=2_000_000))
            await desk.send(ledger, work("2", 1, kind="a"))
            await ledger.delete_meter("work", actor="test")
            await put_rates(ledger, "prices", rates(a=3_000_000))
            assert dict(ledger.catalog.rates["prices"]) == rates(a=3_000_000)

    @asynchronous
    async def test_an_amount_with_more_digits_than_the_scale_is_rounded_or_not_counted(self, desk: Desk) -> None:
        """A rate may make digits that the meter does not keep: rounded where it says how, else counted nowhere."""
        async with desk.open() as ledger:
            await put_rates(ledger, "prices", rates(a=500_000))
            await desk.send(ledger, work("1", 3, kind="a"), work("2", 4, kind="a"))
            await put(ledger, meter("exact", rate=CREDITS), INSTANT_MIN)
            await put(ledger, meter("even", rate=CREDITS, rounding=Rounding("1", "half_even")), INSTANT_MIN)
            assert await summed(ledger, "exact") == (1, 2)
            assert await summed(ledger, "even") == (2, 4)


STATE: dict[str, Any] = {
    "events": {"resource.upserted"},
    "quantity": None,
    "once_per": "state",
    "labels": {"model": "$.data.model"},
}
URL: dict[str, Any] = {**STATE, "once_per": "url"}


class CountedOnce:
    """Meters that count a state once, or a url when it changes."""

    @asynchronous
    async def test_a_state_counts_once_for_ever(self, desk: Desk) -> None:
        """Not when it is said again, not after another state, not after the resource was deleted."""
        async with desk.open() as ledger:
            await put(ledger, meter(where={"state": {"done"}}, **STATE))
            said = ["new", "done", "done", "new", "done"]
            await desk.send(ledger, *(upsert(str(n), "job", at=n, state=state) for n, state in enumerate(said)))
            await desk.send(ledger, delete("gone", "job", at=10), upsert("again", "job", at=11, state="done"))
            assert await summed(ledger) == (1, 1)

    @asynchronous
    async def test_a_url_counts_when_it_differs_from_the_last_counted(self, desk: Desk) -> None:
        """Two, then back to the first: three; without a url nothing; a deletion does not reset it; empty is a url."""
        async with desk.open() as ledger:
            await put(ledger, meter(**URL))
            said = ["a", "a", None, "b", "a", "", ""]
            await desk.send(ledger, *(upsert(str(n), "page", at=n, url=url) for n, url in enumerate(said)))
            assert await summed(ledger) == (4, 4)
            await desk.send(ledger, delete("gone", "page", at=20), upsert("x", "page", at=21, url=""))
            assert await summed(ledger) == (4, 4)

    @asynchronous
    async def test_every_resource_counts_for_itself(self, desk: Desk) -> None:
        """Another account, space, kind or id is another resource; another source of the event is not."""
        async with desk.open() as ledger:
            await put(ledger, meter(**URL))
            await desk.send(
                ledger,
                upsert("1", "page", "r", url="u"),
                upsert("2", "page", "s", url="u"),
                upsert("3", "sheet", "r", url="u"),
                upsert("4", "page", "r", space="shop", url="u"),
                upsert("5", "page", "r", space=None, url="u"),
                upsert("6", "page", "r", account="globex", url="u"),
                {**upsert("7", "page", "r", url="u"), "source": "other"},
            )
            assert await summed(ledger) == (6, 6)

    @asynchronous
    async def test_what_came_first_counts_whatever_its_time(self, desk: Desk) -> None:
        """The order of the log decides, and the posting stands at the time of the event that came first."""
        async with desk.open() as ledger:
            await put(ledger, meter(**STATE))
            await desk.send(ledger, upsert("late", "job", at=100, model="m"), upsert("early", "job", at=50, model="n"))
            assert lines(await usage(ledger, meter="work", group_by=("model",))) == [(0, "m", 1, 1)]

    @asynchronous
    async def test_what_is_not_counted_needs_no_label_set(self, desk: Desk) -> None:
        """An upsert that says nothing new is accepted though its labels would be one set too many."""
        async with desk.open(label_sets_max=1) as ledger:
            await put(ledger, meter(**STATE))
            assert await desk.send(ledger, upsert("1", "job", model="a")) == ["accepted"]
            assert await desk.send(ledger, upsert("2", "job", model="b")) == ["accepted"]
            assert await desk.send(ledger, upsert("3", "job", "s", model="b")) == [EXCEEDED]
            assert await desk.send(ledger, upsert("4", "job", "s", model="a")) == ["accepted"]
            assert await summed(ledger) == (2, 2)

    @asynchronous
    async def test_a_refused_event_claims_nothing(self, desk: Desk) -> None:
        """What was refused for its label set is still to be counted; so is what did not succeed."""
        async with desk.open(label_sets_max=1) as ledger:
            await put(ledger, meter(**URL))
            await desk.send(ledger, upsert("1", "page", "r", url="u", model="a"))
            assert await desk.send(ledger, upsert("2", "page", "s", url="u", model="b")) == [EXCEEDED]
            await desk.send(ledger, upsert("3", "page", "t", url="u", model="a", status="failed"))
            await desk.send(
                ledger,
                upsert("4", "page", "s", url="u", model="a"),
                upsert("5", "page", "t", url="u", model="a"),
            )
            assert await summed(ledger) == (3, 3)

    @asynchronous
    async def test_a_duplicate_claims_nothing_and_is_metered(self, desk: Desk) -> None:
        """A retry changes nothing; an event about a resource feeds something even where it was not counted."""
        sent = [upsert("1", "page", url="u"), upsert("2", "page", url="u")]
        async with desk.open() as ledger:
            await put(ledger, meter(**URL))
            assert await desk.send(ledger, *sent) == ["accepted", "accepted"]
            verdicts = await ledger.commit(desk.batch(ledger, *sent))
            assert [verdicts[index].metered for index in range(2)] == [True, True]
            assert await summed(ledger) == (1, 1)

    @asynchronous
    async def test_meters_count_once_each(self, desk: Desk) -> None:
        """What one meter counted is new to another, also to one that was defined later."""
        async with desk.open() as ledger:
            await put(ledger, meter("one", **STATE))
            await desk.send(ledger, upsert("1", "job"))
            await put(ledger, meter("two", **STATE))
            await put(ledger, meter("three", **URL))
            await desk.send(ledger, upsert("2", "job", url="u"))
            assert [await summed(ledger, name) for name in ("one", "two", "three")] == [(1, 1)] * 3

    @asynchronous
    async def test_a_definition_that_goes_on_remembers_and_one_that_begins_anew_does_not(self, desk: Desk) -> None:
        """Replaced, the meter still knows what it counted; deleted and made again, it counts from nothing."""
        async with desk.open() as ledger:
            await put(ledger, meter(**STATE))
            await desk.send(ledger, upsert("1", "job"))
            await put(ledger, meter(**{**STATE, "labels": {}}))
            await desk.send(ledger, upsert("2", "job"))
            assert await summed(ledger) == (1, 1)
            await ledger.delete_meter("work", actor="test")
            await put(ledger, meter(**STATE))
            await desk.send(ledger, upsert("3", "job"), upsert("4", "job"))
            assert await summed(ledger) == (1, 1)
            assert await total(ledger, "2024-05-01T12:00:00Z", "2024-05-01T12:00:01Z", meter="work") == Total(
                1, 1, 1, 1
            )

    @pytest.mark.parametrize("once", [STATE, URL], ids=["state", "url"])
    @asynchronous
    async def test_a_replay_counts_once_in_the_order_of_the_log(self, desk: Desk, once: dict[str, Any]) -> None:
        """Counted again, the numbers are those of a meter that was always there, and it goes on from there."""
        chance = random.Random(5)
        sent = [
            upsert(
                str(n), "page", chance.choice("rs"), at=chance.randint(0, 900), url=chance.choice("ab"), model=str(n)
            )
            for n in range(40)
        ]
        async with desk.open() as ledger:
            await put(ledger, meter("always", **once))
            await desk.send(ledger, *sent[:30])
            await put(ledger, meter(**once), INSTANT_MIN)
            await desk.send(ledger, *sent[30:])
            tables = [await usage(ledger, meter=name, group_by=("model",)) for name in ("always", "work")]
            assert lines(tables[0]) == lines(tables[1])
            assert (await ledger.verify()).faults == ()

    @asynchronous
    async def test_what_is_before_the_start_of_a_replay_claims_nothing(self, desk: Desk) -> None:
        """A state that was reached earlier counts where it is first said after the start."""
        async with desk.open() as ledger:
            await desk.send(ledger, upsert("1", "job", at=10, model="a"), upsert("2", "job", at=20, model="b"))
            await put(ledger, meter(**STATE), instant(second(15)))
            assert lines(await usage(ledger, meter="work", group_by=("model",))) == [(0, "b", 1, 1)]

    @asynchronous
    async def test_of_many_commits_at_once_one_is_counted(self, desk: Desk) -> None:
        """Clients that report one state all at the same time are all accepted, and it counts once."""
        async with desk.open() as ledger:
            await put(ledger, meter(**STATE))
            said = await asyncio.gather(*(desk.send(ledger, upsert(str(n), "job")) for n in range(30)))
            assert said == [["accepted"]] * 30
            assert await summed(ledger) == (1, 1)


UNIQUE: dict[str, Any] = {"aggregation": "unique", "quantity": "$.data.user"}


class Records:
    """What was counted once, event by event."""

    @asynchronous
    async def test_a_record_is_of_every_event_that_was_counted(self, desk: Desk) -> None:
        """As that event says it, whatever is said later, and whether or not the resource still exists."""
        async with desk.open() as ledger:
            await put(ledger, meter(where={"state": {"done"}}, **STATE))
            await desk.send(
                ledger,
                upsert("1", "job", "r", at=5, state="new"),
                upsert("2", "job", "r", at=7, state="done", duration=1.5, model="m", attributes={"n": 1}),
                upsert("3", "job", "r", at=8, state="done", model="n"),
                upsert("4", "job", "s", at=6, space=None, state="done"),
                upsert("5", "job", "t", at=6, state="done", status="failed"),
                delete("6", "job", "r", at=9),
            )
            page = await ledger.records(RecordQuery("acme", "work", INSTANT_MIN, INSTANT_MAX))
            state = {"state": "done", "duration": 1_500_000, "model": "m", "attributes": {"n": 1}}
            assert [replace(each, state=dict(each.state)) for each in page.records] == [
                Record(instant(second(6)), "test", "4", "", "job", "s", {"state": "done"}),
                Record(instant(second(7)), "test", "2", "lab", "job", "r", state),
            ]
            assert page.total == 2

    @asynchronous
    async def test_records_come_in_order_and_in_pages(self, desk: Desk) -> None:
        """By time, source and id, from an instant to before another, some left out at the beginning; all are told."""
        async with desk.open() as ledger:
            await put(ledger, meter(**STATE))
            sent = [(3, "b", "1"), (3, "a", "9"), (1, "a", "5"), (3, "a", "10"), (4, "a", "2"), (0, "z", "z")]
            for at, source, id in sent:
                await desk.send(ledger, {**upsert(id, "job", f"{at}{source}{id}", at=at), "source": source})
            start, end = instant(second(1)), instant(second(4))
            page = await ledger.records(RecordQuery("acme", "work", start, end))
            assert [(each.source, each.event) for each in page.records] == [
                ("a", "5"),
                ("a", "10"),
                ("a", "9"),
                ("b", "1"),
            ]
            part = await ledger.records(RecordQuery("acme", "work", start, end, offset=1, limit=2))
            assert ([each.event for each in part.records], part.total) == (["10", "9"], 4)
            beyond = await ledger.records(RecordQuery("acme", "work", start, end, offset=4))
            assert (list(beyond.records), beyond.total) == ([], 4)

    @asynchronous
    async def test_only_meters_that_count_a_state_have_records(self, desk: Desk) -> None:
        """Each its own; an account, meter or event without any has none."""
        async with desk.open() as ledger:
            await put(ledger, meter("states", **STATE))
            await put(ledger, meter("urls", **URL))
            await put(ledger, meter("all", **{**STATE, "once_per": None}))
            await desk.send(ledger, upsert("1", "job", url="u"), upsert("2", "job", account="globex"))
            totals = [
                (await ledger.records(RecordQuery(account, name, INSTANT_MIN, INSTANT_MAX))).total
                for account in ("acme", "globex", "nobody")
                for name in ("states", "urls", "all", "none")
            ]
            assert totals == [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]

    @asynchronous
    async def test_a_meter_that_begins_anew_has_records_of_what_it_counted_since(self, desk: Desk) -> None:
        """Neither what the earlier one counted nor what was counted again is among them."""
        async with desk.open() as ledger:
            await put(ledger, meter(**STATE))
            await desk.send(ledger, upsert("1", "job", "r"))
            await put(ledger, meter(**STATE), INSTANT_MIN)
            await desk.send(ledger, upsert("2", "job", "r"), upsert("3", "job", "s"))
            page = await ledger.records(RecordQuery("acme", "work", INSTANT_MIN, INSTANT_MAX))
            assert [each.event for each in page.records] == ["3"]


class DistinctValues:
    """Meters of distinct values."""

    @asynchronous
    async def test_distinct_values_are_told_apart_in_every_group(self, desk: Desk) -> None:
        """Each value is a row under the label that has no name, and the same value in another group one more."""
        async with desk.open() as ledger:
            await put(ledger, meter(**UNIQUE))
            users = [("ada", "a"), ("bob", "a"), ("ada", "a"), ("ada", "b"), ("", "b")]
            await desk.send(ledger, *(work(str(n), user=user, kind=kind) for n, (user, kind) in enumerate(users)))
            assert lines(await usage(ledger, meter="work", group_by=("kind", VALUE))) == [
                (0, "a", "ada", 2, 2),
                (0, "a", "bob", 1, 1),
                (0, "b", "", 1, 1),
                (0, "b", "ada", 1, 1),
            ]
            assert lines(await usage(ledger, meter="work", group_by=(VALUE,))) == [
                (0, "", 1, 1),
                (0, "ada", 3, 3),
                (0, "bob", 1, 1),
            ]
            assert lines(await usage(ledger, meter="work", group_by=("kind",))) == [(0, "a", 3, 3), (0, "b", 2, 2)]

    @asynchronous
    async def test_distinct_values_are_counted_in_every_row_and_over_the_union(self, desk: Desk) -> None:
        """A value in several buckets, groups or accounts is one in each of them, and one in the total."""
        async with desk.open() as ledger:
            await put(ledger, meter(**UNIQUE))
            days = ["2024-04-29T10:00:00Z", "2024-04-30T10:07:00Z"]
            users = [(0, "ada", "a"), (0, "bob", "a"), (1, "ada", "a"), (1, "ada", "b"), (1, "ada", "b")]
            events = [work(str(n), at=days[day], user=user, kind=kind) for n, (day, user, kind) in enumerate(users)]
            await desk.send(ledger, *events, work("other", account="globex", at=days[0], user="ada", kind="a"))
            edges = ("2024-04-29T00:00:00Z", "2024-04-30T00:00:00Z", "2024-04-30T10:07:00Z", "2024-05-01T00:00:00Z")
            asked = replace(query(*edges, meter="work", group_by=("kind",)), distinct=True)
            (table,) = await ledger.usage([asked])
            assert [(row.bucket, *row.labels, row.total.unique, row.total.count) for row in table.rows] == [
                (0, "a", 2, 3),
                (2, "a", 1, 1),
                (2, "b", 1, 2),
            ]
            assert (table.total.unique, table.total.count) == (2, 6)
            (nothing,) = await ledger.usage([replace(asked, accounts=("nobody",))])
            assert (nothing.rows, nothing.total.unique) == ([], 0)
            with pytest.raises(Problem, match="rows_exceeded"):
                await ledger.usage([replace(asked, rows_max=2)])

    @asynchronous
    async def test_a_value_is_compared_as_a_label_is_written(self, desk: Desk) -> None:
        """Numbers by their shortest form, and a number is the same value as its text."""
        async with desk.open() as ledger:
            await put(ledger, meter(**UNIQUE))
            await desk.send(ledger, *(work(str(n), user=user) for n, user in enumerate([1, 1.0, "1", "1.0", True])))
            assert lines(await usage(ledger, meter="work", group_by=(VALUE,))) == [
                (0, "1", 3, 3),
                (0, "1.0", 1, 1),
                (0, "true", 1, 1),
            ]

    @asynchronous
    async def test_other_meters_have_no_label_without_a_name(self, desk: Desk) -> None:
        """Only a meter of distinct values can be grouped by them."""
        async with desk.open() as ledger:
            await put(ledger, meter())
            await desk.send(ledger, work("1"))
            assert (await usage(ledger, meter="work", group_by=(VALUE,))).rows == []

    @asynchronous
    async def test_values_and_label_sets_are_bounded_apart(self, desk: Desk) -> None:
        """A value too many and a label set too many are refused; a known value in a known set goes on."""
        async with desk.open(label_sets_max=2, unique_values_max=4) as ledger:
            await put(ledger, meter(**UNIQUE))
            users = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("b", "2"), ("c", "1"), ("a", "3"), ("b", "1")]
            said = await desk.send(ledger, *(work(str(n), user=u, kind=k) for n, (k, u) in enumerate(users)))
            assert said == ["accepted"] * 4 + [EXCEEDED] * 2 + ["accepted"] * 2
            verdicts = await ledger.commit(
                desk.batch(ledger, work("x", user="9", kind="a"), work("y", user="1", kind="c"))
            )
            assert ["unique_values_max" in verdicts[n].detail for n in (0, 1)] == [True, False]
            assert ["label_sets_max" in verdicts[n].detail for n in (0, 1)] == [False, True]
            months = [work("m", at="2024-04-30T23:59:59Z", user="9", kind="c"), work("o", account="globex", user="9")]
            assert await desk.send(ledger, *months) == ["accepted"] * 2

    @asynchronous
    async def test_values_are_counted_again_from_what_was_kept(self, desk: Desk) -> None:
        """A value that is no label counts nothing, the others as if the meter had been there."""
        async with desk.open() as ledger:
            values = ["ada", ["ada"], None, "\x00", "ada"]
            await desk.send(ledger, *(work(str(n), user=value) for n, value in enumerate(values)))
            await put(ledger, meter(**UNIQUE), INSTANT_MIN)
            assert lines(await usage(ledger, meter="work", group_by=(VALUE,))) == [(0, "ada", 2, 2)]


class Fed:
    """What the meters in force count of a kept event."""

    @asynchronous
    async def test_a_listing_shows_what_replays_counted_and_not_what_they_replaced(self, desk: Desk) -> None:
        """Of a meter that began anew only what it counts now; of one that is gone nothing; receipts stay as given."""
        async with desk.open() as ledger:
            await put(ledger, meter("gone"))
            await put(ledger, meter("again", scale=3))
            await desk.send(ledger, work("1", 2, kind="a"), work("2", 3, kind="a"))
            await put(ledger, meter("again", scale=6), INSTANT_MIN)
            await put(ledger, meter("later"), INSTANT_MIN)
            await ledger.delete_meter("gone", actor="test")
            page = await ledger.events(EventQuery(None))
            assert [(row.sequence, row.metered) for row in page.rows] == [(2, True), (1, True)]
            assert [[(fed.meter, fed.amount) for fed in row.postings] for row in page.rows] == [
                [("again", 3_000_000), ("later", 3)],
                [("again", 2_000_000), ("later", 2)],
            ]


class Latest:
    """The latest amount."""

    @asynchronous
    async def test_the_latest_is_by_time_then_source_then_id(self, desk: Desk) -> None:
        """Not by arrival: the latest instant, of those the greatest source, of those the greatest id."""
        async with desk.open() as ledger:
            await put(ledger, meter(aggregation="latest"))
            for event, latest in [
                ({**work("5", 1, at=second(10)), "source": "b"}, 1),
                ({**work("6", 2, at=second(10)), "source": "a"}, 1),
                ({**work("9", 3, at=second(9)), "source": "z"}, 1),
                ({**work("5!", 4, at=second(10)), "source": "b"}, 4),
                ({**work("5", 5, at=second(10)), "source": "b\U0001f600"}, 5),
                ({**work("5", 6, at=second(10)), "source": "b\uffee"}, 5),
                ({**work("0", 0, at=second(11)), "source": "a"}, 0),
            ]:
                await desk.send(ledger, event)
                assert (await asked_latest(ledger)).total.latest == latest

    @asynchronous
    async def test_every_row_has_its_own_latest_and_the_total_that_of_all(self, desk: Desk) -> None:
        """By bucket and group as over everything; of nothing there is none, and unasked it is not told."""
        day = "2024-04-30T10:00:00Z"
        async with desk.open() as ledger:
            await put(ledger, meter())
            await desk.send(
                ledger,
                work("1", 1, at=day, kind="a"),
                work("2", 2, at="2024-04-30T10:20:00Z", kind="a"),
                work("3", 4, at="2024-04-30T10:10:00Z", kind="b"),
                work("4", 8, at="2024-05-01T10:00:00Z", kind="b"),
            )
            edges = ("2024-04-30T00:00:00Z", "2024-05-01T00:00:00Z", "2024-05-02T00:00:00Z")
            table = await asked_latest(ledger, *edges, group_by=("kind",))
            assert [(row.bucket, *row.labels, row.total.latest) for row in table.rows] == [
                (0, "a", 2),
                (0, "b", 4),
                (1, "b", 8),
            ]
            assert table.total.latest == 8
            cut = await asked_latest(ledger, day, "2024-04-30T10:15:00Z")
            assert cut.total == Total(2, 5, 1, 4, 4)
            assert (await asked_latest(ledger, "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")).total == Total()
            assert (await usage(ledger, meter="work")).total == Total(4, 15, 1, 8)

    @pytest.mark.parametrize("seed", range(3))
    @asynchronous
    async def test_the_latest_does_not_depend_on_the_order_of_arrival(self, desk: Desk, seed: int) -> None:
        """Shuffled and cut into batches, the same events have the same latest one in every quarter hour."""
        chance = random.Random(seed)
        moments = [chance.randint(0, 20) * 300 for _ in range(60)]
        events = [{**work(str(n), n, at=second(at)), "source": chance.choice("ab")} for n, at in enumerate(moments)]
        edges = tuple(second(at) for at in range(0, 7200, 600))
        newest = {
            bucket: max(inside, key=lambda event: (event["time"], event["source"], event["id"]))["data"]["n"]
            for bucket, (start, end) in enumerate(pairwise(edges))
            if (inside := [event for event in events if start <= event["time"] < end])
        }
        async with desk.open() as ledger:
            await put(ledger, meter())
            chance.shuffle(events)
            while events:
                await desk.send(ledger, *events[:7])
                del events[:7]
            table = await asked_latest(ledger, *edges)
            assert {row.bucket: row.total.latest for row in table.rows} == newest


class LiveResources:
    """What exists now, a fold of all that was said, in whatever order it came."""

    @asynchronous
    async def test_an_upsert_is_the_whole_new_state(self, desk: Desk) -> None:
        """What the latest one does not say is gone; durations are in microseconds, attributes as sent."""
        async with desk.open() as ledger:
            attributes = {"name": "A", "deep": {"n": 1.5, "list": [1, "x"]}}
            await desk.send(
                ledger,
                upsert("1", "audio", at=1, state="available", duration="PT1M", url="u", attributes={"old": True}),
                upsert(
                    "2", "audio", at=2, duration=1.0000005, parent="p", model="m", attributes=attributes, actor="ada"
                ),
            )
            (found,) = await ledger.resources(ResourceQuery("acme", kind="audio"))
            state = {"duration": 1_000_001, "parent": "p", "model": "m", "actor": "ada", "attributes": attributes}
            assert (found.space, found.kind, found.id, found.time) == ("lab", "audio", "r", instant(second(2)))
            assert plain_state(found) == state

    @pytest.mark.parametrize("order", list(permutations(range(4))))
    @asynchronous
    async def test_the_latest_upsert_wins_ties_by_source_and_id(self, desk: Desk, order: Sequence[int]) -> None:
        """Whatever comes first, the state is that of the greatest time, then source, then event id."""
        said = [
            upsert("9", "identity", at=1, model="oldest"),
            {**upsert("9", "identity", at=5, model="other source"), "source": "a"},
            {**upsert("1", "identity", at=5, model="lesser id"), "source": "b"},
            {**upsert("2", "identity", at=5, model="latest"), "source": "b"},
        ]
        async with desk.open() as ledger:
            for n in order:
                await desk.send(ledger, said[n])
            (found,) = await ledger.resources(ResourceQuery("acme", kind="identity"))
            assert found.state == {"model": "latest"}

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    @asynchronous
    async def test_a_deletion_ends_what_is_not_later(self, desk: Desk, order: Sequence[int]) -> None:
        """Of its own instant too; an upsert after it creates anew, and one before it that arrives late does not."""
        before = [upsert("1", "identity", at=1), upsert("2", "identity", at=2), delete("3", "identity", at=2)]
        async with desk.open() as ledger:
            for n in order:
                await desk.send(ledger, before[n])
            assert await live(ledger) == {}
            assert await resources(ledger, kind="identity") == []
            await desk.send(ledger, upsert("4", "identity", at=3))
            assert await live(ledger) == {"identity": (1, 0)}
            await desk.send(ledger, delete("5", "identity", at=2))
            assert await live(ledger) == {"identity": (1, 0)}

    @pytest.mark.parametrize("container", ["space", "dataset"])
    @pytest.mark.parametrize("order", list(permutations(range(4))))
    @asynchronous
    async def test_a_container_is_deleted_with_its_contents(
        self, desk: Desk, container: str, order: Sequence[int]
    ) -> None:
        """Also with what arrives later and is of its time or earlier; what is later lives."""
        said = [
            upsert("1", "image", "i", at=1, url="u"),
            upsert("2", "image", "j", at=5, url="u"),
            delete("3", container, None, at=5),
            upsert("4", "image", "k", at=6, url="u"),
        ]
        async with desk.open() as ledger:
            for n in order:
                await desk.send(ledger, said[n])
            assert await live(ledger) == {"image": (1, 0)}
            found = await space_of(ledger)
            assert found is not None
            assert (dict(found.closed_in), set(found.containers)) == ({MAY: instant(second(5))}, {"dataset"})
            assert await resources(ledger) == [("lab", "dataset", "lab"), ("lab", "image", "k")]

    @asynchronous
    async def test_what_was_in_a_space_is_told_after_its_deletion(self, desk: Desk) -> None:
        """What existed then, late arrivals included, without what was deleted on its own before."""
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                upsert("1", "image", "i", at=1, url="u"),
                upsert("2", "image", "j", at=2, url="u"),
                delete("3", "image", "j", at=3),
                delete("4", "dataset", "lab", space=None, at=5),
            )
            found = await space_of(ledger)
            assert found is not None
            assert not found.containers and not found.live
            assert dict(found.closed) == {"image": (1, 0)}
            await desk.send(ledger, upsert("5", "image", "k", at=4, url="u"), upsert("6", "image", "l", at=1, url="u"))
            assert await closed(ledger) == {"image": (3, 0)}
            await desk.send(ledger, delete("7", "image", "l", at=2), delete("8", "image", "k", at=9))
            assert await closed(ledger) == {"image": (2, 0)}

    @asynchronous
    async def test_the_last_deletion_of_a_space_is_the_one_that_is_told(self, desk: Desk) -> None:
        """What a space lost when it was deleted before is not what was in it the last time."""
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                upsert("1", "identity", "old", at=1),
                delete("2", "space", "lab", at=2),
                upsert("3", "identity", "new", at=3),
                upsert("4", "identity", "newer", at=3),
                delete("5", "space", "lab", at=4),
            )
            found = await space_of(ledger)
            assert found is not None
            assert dict(found.closed_in) == {MAY: instant(second(4))}
            assert (dict(found.live), dict(found.closed)) == ({}, {"identity": (2, 0)})

    @asynchronous
    async def test_resources_may_be_asked_for_by_name(self, desk: Desk) -> None:
        """Those that exist of the named ones, each once and in order; a container that its contents made is one too."""
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                upsert("1", "widget", "a", space="lab", at=1),
                upsert("2", "identity", "a", space="lab", at=2),
                upsert("3", "identity", "b", space="lab", at=3),
                upsert("4", "identity", "a", space="den", at=4),
            )
            names = [
                ("lab", "space", "lab"),
                ("lab", "identity", "a"),
                ("lab", "identity", "c"),
                ("lab", "identity", "a"),
                ("lab", "dataset", "lab"),
                ("attic", "space", "attic"),
                ("den", "widget", "a"),
            ]
            assert await resources(ledger, names=names) == [("lab", "identity", "a"), ("lab", "space", "lab")]
            assert await resources(ledger, names=names, kind="space") == [("lab", "space", "lab")]
            assert await resources(ledger, names=names, after=("lab", "identity", "a")) == [("lab", "space", "lab")]
            assert await resources(ledger, names=names, limit=1) == [("lab", "identity", "a")]
            assert await resources(ledger, names=[]) == []

    @asynchronous
    async def test_any_upsert_creates_its_space_or_dataset(self, desk: Desk) -> None:
        """An image makes a dataset, anything else a space; what is late or failed makes them too."""
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                upsert("1", "identity", space="voices", at=1),
                upsert("2", "image", space="pictures", at=2, status="failed"),
                upsert("3", "space", "empty", space=None, at=3),
                upsert("4", "dataset", None, space="full", at=4, attributes={"a": 1}),
                upsert("5", "widget", space="odd", at=5),
            )
            found = await ledger.resources(ResourceQuery("acme"))
            containers = [each for each in found if each.kind in ("space", "dataset")]
            assert [(each.space, each.kind, each.id, plain_state(each)) for each in containers] == [
                ("empty", "space", "empty", {}),
                ("full", "dataset", "full", {"attributes": {"a": 1}}),
                ("odd", "space", "odd", {}),
                ("pictures", "dataset", "pictures", {}),
                ("voices", "space", "voices", {}),
            ]
            spaces = await ledger.live(LiveQuery("acme"))
            assert [(each.space, set(each.containers)) for each in spaces] == [
                ("empty", {"space"}),
                ("full", {"dataset"}),
                ("odd", {"space"}),
                ("pictures", {"dataset"}),
                ("voices", {"space"}),
            ]

    @asynchronous
    async def test_a_container_that_is_made_again_has_lost_what_was_said_of_it(self, desk: Desk) -> None:
        """After its deletion it exists through its contents alone, until it is upserted itself."""
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                upsert("1", "space", "lab", at=1, attributes={"a": 1}),
                delete("2", "space", "lab", at=2),
                upsert("3", "identity", at=3),
            )
            (found,) = await ledger.resources(ResourceQuery("acme", kind="space"))
            assert (found.time, found.state) == (instant(second(3)), {})
            await desk.send(ledger, upsert("4", "space", "lab", at=4, model="m"))
            (found,) = await ledger.resources(ResourceQuery("acme", kind="space"))
            assert (found.time, found.state) == (instant(second(4)), {"model": "m"})

    @asynchronous
    async def test_what_is_in_no_space_is_told_under_an_empty_name(self, desk: Desk) -> None:
        """Resources without a space count together; there is no container of that name."""
        async with desk.open() as ledger:
            await desk.send(ledger, upsert("1", "identity", space=None, at=1), upsert("2", "identity", at=1))
            spaces = await ledger.live(LiveQuery("acme"))
            assert [(each.space, dict(each.live)) for each in spaces] == [
                ("", {"identity": (1, 0)}),
                ("lab", {"identity": (1, 0)}),
            ]
            assert not spaces[0].containers and not spaces[0].made_in
            assert await resources(ledger, space="") == [("", "identity", "r")]

    @pytest.mark.parametrize(
        ("kind", "data", "counts"),
        [
            ("audio", {"duration": 1}, {"audio": (1, SECOND)}),
            ("audio", {"duration": 1, "state": "available"}, {"audio": (1, SECOND)}),
            ("audio", {"duration": 1, "state": "anything"}, {"audio": (1, SECOND)}),
            ("audio", {"state": "awaitingFile"}, {}),
            ("audio", {"state": "avaitingFile"}, {}),
            ("audio", {"duration": 1, "status": "failed"}, {}),
            ("identity", {}, {"identity": (1, 0)}),
            ("identity", {"duration": 2}, {"identity": (1, 2 * SECOND)}),
            ("identity", {"status": "failed"}, {}),
            ("voiceprint", {}, {"voiceprint": (1, 0)}),
            ("voiceprint", {"state": "notComputable"}, {"voiceprint": (1, 0)}),
            ("voiceprint", {"state": "computed", "duration": 1.5}, computed(1_500_000)),
            ("verification", {}, {}),
            ("verification", {"type": "identity"}, {}),
            ("verification", {"type": "identity", "state": "performing"}, {}),
            ("verification", {"type": "identity", "state": "error"}, {}),
            ("verification", {"type": "identity", **PERFORMED, "duration": 1}, {"verification.identity": (1, SECOND)}),
            ("verification", {"type": "message", **SCORELESS, "duration": 0}, {"verification.message": (1, 0)}),
            ("verification", {"state": "performed", "duration": 1}, {}),
            ("image", {"url": "u"}, {"image": (1, 0)}),
            ("image", {"url": "u", "status": "success"}, {"image": (1, 0)}),
            ("image", {"url": "u", "status": "rejected"}, {}),
            ("widget", {"duration": 1}, {}),
        ],
    )
    @asynchronous
    async def test_a_resource_counts_as_reports_have_it(
        self, desk: Desk, kind: str, data: dict[str, Any], counts: dict[str, tuple[int, int]]
    ) -> None:
        """By kind, state, type and status, while it exists, and no more when it is gone."""
        async with desk.open() as ledger:
            await desk.send(ledger, upsert("1", kind, at=1, **data))
            assert await live(ledger) == counts
            assert ("lab", kind, "r") in await resources(ledger)
            await desk.send(ledger, upsert("2", kind, "s", at=1, **data))
            assert await live(ledger) == {name: (2 * n, 2 * duration) for name, (n, duration) in counts.items()}
            await desk.send(ledger, delete("3", kind, at=2), delete("4", kind, "s", at=2))
            assert await live(ledger) == {}

    @asynchronous
    async def test_what_a_later_upsert_says_otherwise_counts_otherwise(self, desk: Desk) -> None:
        """Counters follow the state: computed, computed longer, and not computed after all."""
        async with desk.open() as ledger:
            steps: list[tuple[dict[str, Any], dict[str, tuple[int, int]]]] = [
                ({}, {"voiceprint": (1, 0)}),
                ({"state": "computed", "duration": 2}, computed(2_000_000)),
                ({"state": "computed", "duration": 3}, computed(3_000_000)),
                ({"state": "notComputable", "duration": 3}, {"voiceprint": (1, 3_000_000)}),
            ]
            for n, (data, counts) in enumerate(steps):
                await desk.send(ledger, upsert(str(n), "voiceprint", at=n, **data))
                assert await live(ledger) == counts

    @asynchronous
    async def test_accounts_do_not_see_each_others_resources(self, desk: Desk) -> None:
        """The same space, kind and id in another account is another resource; a deletion there ends nothing here."""
        async with desk.open() as ledger:
            await desk.send(ledger, upsert("1", "identity", at=1), upsert("1", "identity", at=1, account="globex"))
            await desk.send(ledger, delete("2", "space", "lab", at=2, account="globex"))
            assert await resources(ledger) == [("lab", "identity", "r"), ("lab", "space", "lab")]
            assert await resources(ledger, "globex") == []
            assert not await ledger.live(LiveQuery("nobody")) and not await resources(ledger, "nobody")

    @asynchronous
    async def test_what_does_not_exist_is_not_told(self, desk: Desk) -> None:
        """A space that nobody named is none; of one that was only ever deleted it is known when, and nothing else."""
        async with desk.open() as ledger:
            await desk.send(ledger, delete("1", "space", "ghost", space=None, at=1), audio("2"))
            at = instant(second(1))
            ghost = LiveSpace("ghost", frozenset(), {month_of(at): at}, {}, {}, {})
            assert await ledger.live(LiveQuery("acme")) == await ledger.live(LiveQuery("acme", "ghost")) == [ghost]
            assert await ledger.live(LiveQuery("acme", "nobody")) == []
            assert await resources(ledger) == []

    @asynchronous
    async def test_resources_come_in_order_and_in_pages(self, desk: Desk) -> None:
        """By space, kind and id in code points; each page goes on behind the last one; filters are exact."""
        names = ["b", "a", "", "\uffee", "\U0001f600", "B"]
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                *(
                    upsert(f"{space} {kind} {id}", kind, id, space=space or None, at=1)
                    for space in names
                    for kind in ("identity", "widget")
                    for id in ("2", "10")
                ),
            )
            everything = await resources(ledger)
            assert everything == sorted(everything)
            assert len(everything) == 5 * (1 + 4) + 4
            pages: list[tuple[str, str, str]] = []
            while page := await resources(ledger, after=pages[-1] if pages else None, limit=4):
                assert len(page) <= 4
                pages += page
            assert pages == everything
            assert await resources(ledger, space="a") == [each for each in everything if each[0] == "a"]
            assert await resources(ledger, space="") == [each for each in everything if each[0] == ""]
            assert await resources(ledger, kind="widget") == [each for each in everything if each[1] == "widget"]
            assert await resources(ledger, kind="widget", id="2", space="b") == [("b", "widget", "2")]
            assert await resources(ledger, id="2", after=("b", "identity", "2"), limit=1) == [("b", "widget", "2")]

    @pytest.mark.parametrize("seed", range(10))
    @asynchronous
    async def test_any_order_of_arrival_comes_to_the_same(self, desk: Desk, seed: int) -> None:
        """A stream of upserts and deletions, permuted and cut into batches, leaves what its definition says."""
        chance = random.Random(seed)
        stream = [any_change(chance, n) for n in range(80)]
        told = await open_ledger("memory:", desk.settings, desk.clock)
        await desk.send(told, *stream)
        async with desk.open() as ledger:
            chance.shuffle(stream)
            while stream:
                size = chance.randint(1, 12)
                await desk.send(ledger, *stream[:size])
                del stream[:size]
                await asyncio.sleep(0)
            for account in ("acme", "globex"):
                assert await everything_of(ledger, account) == await everything_of(told, account)
        await told.close()


class BuiltIn:
    """The meters that are there from the start, beyond audio and tokens."""

    @asynchronous
    async def test_vision_requests_are_counted_and_credited(self, desk: Desk) -> None:
        """Every successful request is one, and as many credits as the rate of its type says, by type and dataset."""
        async with desk.open() as ledger:
            types = ["explore", "lens", "lens", "similar", "assistant", "track"]
            await desk.send(ledger, *(vision(str(n), type) for n, type in enumerate(types)))
            await desk.send(ledger, vision("failed", "lens", status="failed"))
            assert lines(await usage(ledger, meter="vision_requests", group_by=("type", "space"))) == [
                (0, "assistant", "shop", 1, 1),
                (0, "explore", "shop", 1, 1),
                (0, "lens", "shop", 2, 2),
                (0, "similar", "shop", 1, 1),
                (0, "track", "shop", 1, 1),
            ]
            assert lines(await usage(ledger, meter="vision_credits", group_by=("type",))) == [
                (0, "assistant", 1, 2_000_000),
                (0, "explore", 1, 1_000_000),
                (0, "lens", 2, 6_000_000),
                (0, "similar", 1, 500_000),
                (0, "track", 1, 0),
            ]

    @asynchronous
    async def test_the_vision_rates_can_be_replaced(self, desk: Desk) -> None:
        """A new type gets a rate, and a recount gives what was kept another one."""
        async with desk.open() as ledger:
            await desk.send(ledger, vision("1", "lens"))
            table = {**builtin().rates["vision"], **rates(scan=250_000)}
            await put_rates(ledger, "vision", table)
            await desk.send(ledger, vision("2", "scan"))
            assert (await total(ledger, meter="vision_credits")).sum == 3_250_000
            await put_rates(ledger, "vision", {**table, **rates(lens=1_000_000)}, recount=True)
            assert (await total(ledger, meter="vision_credits")).sum == 1_250_000
            assert (await total(ledger, meter="vision_requests")).sum == 2

    @asynchronous
    async def test_an_image_counts_when_its_url_is_new(self, desk: Desk) -> None:
        """New, changed and changed back; not repeated, failed or without a url; another dataset is another image."""
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                upsert("1", "image", "i", at=1, url="u"),
                upsert("2", "image", "i", at=2, url="u"),
                upsert("3", "image", "i", at=3, url="v"),
                upsert("4", "image", "i", at=4, url="u"),
                upsert("5", "image", "i", space="other", at=1, url="u"),
                upsert("6", "image", "j", at=1, url="u", status="failed"),
                upsert("7", "image", "j", at=2),
                upsert("8", "audio", "a", at=2, url="u", duration=1),
                delete("9", "image", "i", at=9),
                upsert("10", "image", "i", at=10, url="u"),
            )
            assert lines(await usage(ledger, meter="images", group_by=("space",))) == [
                (0, "lab", 3, 3),
                (0, "other", 1, 1),
            ]

    @pytest.mark.parametrize("state", ["performed", "performedWithoutScore"])
    @asynchronous
    async def test_a_verification_counts_when_it_is_first_performed(self, desk: Desk, state: str) -> None:
        """Once, with its duration then, by type, space and model; never with a later duration or in the other state."""
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                upsert("1", "verification", at=1, type="identity", model="m"),
                upsert("2", "verification", at=2, type="identity", model="m", state=state, duration=1.5),
                upsert("3", "verification", at=3, type="identity", model="m", state=state, duration=9),
                upsert("4", "verification", at=4, type="message", state="performed", duration=9),
                upsert("5", "verification", "other", at=4, type="message", state="error"),
            )
            assert lines(await usage(ledger, meter="verifications", group_by=("type", "space", "model"))) == [
                (0, "identity", "lab", "m", 1, 1_500_000)
            ]

    @asynchronous
    async def test_a_voiceprint_counts_when_it_is_first_computed(self, desk: Desk) -> None:
        """Once, by space and model, whatever becomes of it."""
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                upsert("1", "voiceprint", at=1, model="m"),
                upsert("2", "voiceprint", at=2, model="m", state="computed", duration="PT2S"),
                upsert("3", "voiceprint", at=3, model="m", state="computable"),
                upsert("4", "voiceprint", at=4, model="n", state="computed", duration=7),
                delete("5", "voiceprint", at=5),
                upsert("6", "voiceprint", at=6, model="n", state="computed", duration=7),
            )
            assert lines(await usage(ledger, meter="voiceprints", group_by=("space", "model"))) == [
                (0, "lab", "m", 1, 2_000_000)
            ]

    @asynchronous
    async def test_a_closed_ledger_says_so_to_whatever_is_asked(self, desk: Desk) -> None:
        """Definitions, rates and questions about resources are unavailable after the end."""
        async with desk.open() as ledger:
            await ledger.close()
            for call in (
                ledger.put_meter(meter(), actor="test"),
                ledger.delete_meter("work", actor="test"),
                ledger.put_rates("prices", rates(a=1), actor="test"),
                ledger.live(LiveQuery("acme")),
                ledger.resources(ResourceQuery("acme")),
            ):
                with pytest.raises(Problem) as caught:
                    await call
                assert caught.value.code is Code.UNAVAILABLE


class MeteringConformance(
    Definitions, Replays, Rates, CountedOnce, Records, DistinctValues, Fed, Latest, LiveResources, BuiltIn
):
    """The suite for every ledger; a subclass gives the fixture `desk`."""


class PersistentMetering:
    """What a ledger that outlives its process must keep besides; a subclass gives the fixture `desk`."""

    @asynchronous
    async def test_definitions_counts_and_resources_are_there_after_a_restart(self, desk: Desk) -> None:
        """Meters, rates, usage, what was counted once, and what exists are the same when it is opened again."""
        chance = random.Random(1)
        async with desk.open() as ledger:
            await put_rates(ledger, "prices", rates(a=500_000))
            await desk.send(ledger, work("1", 2, kind="a"), *(any_change(chance, n) for n in range(60)))
            await put(ledger, meter(rate=CREDITS, scale=6), INSTANT_MIN)
            await put(ledger, meter("pages", **URL))
            await put(ledger, meter("users", **UNIQUE))
            await put(ledger, meter("gone"))
            await ledger.delete_meter("gone", actor="test")
            await desk.send(ledger, upsert("x", "page", url="u"), work("2", 2, kind="a", user="ada"))
            before = (ledger.catalog, await ledger.usage(ASKED), await everything_of(ledger, "acme"))
        async with desk.open() as ledger:
            assert (ledger.catalog, await ledger.usage(ASKED), await everything_of(ledger, "acme")) == before
            await desk.send(ledger, upsert("y", "page", url="u"), work("3", 2, kind="a", user="ada"))
            assert await summed(ledger, "pages") == (1, 1)
            assert await summed(ledger) == (3, 3_000_000)
            assert (await ledger.verify()).faults == ()

    @asynchronous
    async def test_a_replay_goes_on_after_a_restart(self, desk: Desk) -> None:
        """A ledger that is closed in the middle of it counts the rest when it is opened again, and nothing twice."""
        async with desk.open() as ledger:
            await desk.send(ledger, *(work(str(n)) for n in range(2000)))
            await ledger.put_meter(meter(), actor="test", start=INSTANT_MIN)
        async with desk.open() as ledger:
            await desk.send(ledger, work("last"))
            await settled(ledger)
            assert await summed(ledger) == (2001, 2001)
            assert (await ledger.verify()).faults == ()


ASKED = [
    query(meter="work", group_by=("kind",)),
    query(meter="pages"),
    query(meter="users", group_by=(VALUE,)),
    query(meter="gone"),
]


def vision(id: str, type: str, **data: Any) -> dict[str, Any]:
    """Write down a vision request on the dataset `shop`."""
    return event_of("vision.request", id, "acme", None, {"type": type, "dataset": "shop", **data})


async def asked_latest(ledger: Ledger, *texts: str, group_by: tuple[str, ...] = ()) -> UsageTable:
    """Ask for usage with the latest amounts."""
    (table,) = await ledger.usage([replace(query(*texts, meter="work", group_by=group_by), latest=True)])
    return table


async def sent(desk: Desk, ledger: Ledger, *events: Raw) -> None:
    """Send events, again if the meters change between preparing and keeping them."""
    while True:
        try:
            await desk.send(ledger, *events)
            return
        except CatalogStale:
            await asyncio.sleep(0)


def counted(event: dict[str, Any], name: str, catalog: Catalog, now: int) -> Any:
    """Return what metering makes of an event for one meter: a posting, None or "refused"."""
    defined = replace(catalog, meters={name: catalog.meters[name]})
    found = metered(envelope_event(read(raw_of(event)), event["account"], now), defined)
    if not isinstance(found, tuple):
        return "refused"
    return found[0] if found else None


def takeable(
    events: Sequence[dict[str, Any]], defined: Meter, catalog: Catalog, now: int
) -> list[tuple[dict[str, Any], Any]]:
    """Pair events with what metering makes of them for a meter that is not defined yet."""
    future = replace(catalog, meters={defined.name: defined})
    return [(event, counted(event, defined.name, future, now)) for event in events]


def expected(events: Sequence[tuple[dict[str, Any], Any]], defined: Meter, times: int) -> list[tuple[Any, ...]]:
    """Lay out postings as a table by every label of the meter has them."""
    sums: dict[tuple[str | None, ...], list[int]] = {}
    for _, posting in events:
        if isinstance(posting, Posting):
            labels = dict(posting.labels)
            sums.setdefault(tuple(labels.get(name) for name, _ in defined.labels), []).append(posting.amount)
    ordered = sorted(sums, key=lambda labels: [(value is not None, value or "") for value in labels])
    return [(0, *labels, times * len(sums[labels]), times * sum(sums[labels])) for labels in ordered]


def any_meter(chance: random.Random) -> Meter:
    """Draw a definition."""
    unit = chance.choice(["s", "1"])
    scale = chance.randint(0, 6)
    step = chance.choice([f"1e-{scale}", "1", "0.5" if scale else "2", "15"])
    mode = chance.choice(["up", "down", "half_up", "half_even"])
    rounding = chance.choice([None, Rounding(step, mode), Rounding(step, mode, "30")])
    labels = {"kind": "$.data.kind", "size": chance.choice(["$.data.size", "$.data.deep.size", "data.list[0]"])}
    if chance.random() < 0.5:
        labels["space"] = "$.space"
    return meter(
        unit=unit,
        scale=scale,
        rounding=rounding,
        labels=labels,
        quantity=chance.choice(["$.data.n", "$.data.n", None, "$.data.deep.n", "data.list | length(@)"]),
        where=chance.choice([{}, {}, {"kind": {"a", ""}}, {"size": {"1", "x"}}, {"flag": {"true"}}]),
        rate=chance.choice([None, None, Rated("prices", "kind")]),
    )


def any_work(chance: random.Random, n: int) -> dict[str, Any]:
    """Draw a piece of work, some of it of a form that a meter may not take."""
    amounts = [0, 1, 2.5, 7, 1.0000005, "3.25", "PT1M1.5S", "P", 29.999999, 10**12, -1, True, None, [1], "x"]
    data: dict[str, Any] = {
        "kind": chance.choice(["a", "b", "a", None, "", 1.50, ["a"]]),
        "size": chance.choice(["x", 1, 1.0, True, None]),
        "flag": chance.choice([True, False, None]),
        "deep": chance.choice([{"n": 4, "size": "deep"}, {"n": 1.25}, None, "flat"]),
        "list": chance.choice([[1, 2], [], ["x"], None, [{"a": 1}]]),
    }
    event = work(str(n), chance.choice(amounts), at=second(chance.randint(0, 120)), **data)
    return {**event, **chance.choice([{}, {"space": "lab"}])}


def any_change(chance: random.Random, n: int) -> dict[str, Any]:
    """Draw an upsert or a deletion out of few resources and few instants, so that they meet."""
    kind = chance.choice(["audio", "identity", "voiceprint", "verification", "image", "image", "space", "dataset"])
    space = chance.choice(["lab", "lab", "shop", None])
    resource = (space or "lab") if kind in ("space", "dataset") else chance.choice("rs")
    at, account = chance.randint(0, 12), chance.choice(["acme", "acme", "globex"])
    source = {"source": chance.choice("ab")}
    if chance.random() < 0.3:
        return {**delete(str(n), kind, resource, space=space, at=at, account=account), **source}
    data = {
        "duration": chance.randint(0, 5),
        "status": chance.choice([None, None, "success", "failed"]),
        "url": chance.choice(["u", "v"]),
        "type": chance.choice(["identity", "message"]),
        "state": chance.choice(STATES.get(kind, [None])),
    }
    return {**upsert(str(n), kind, resource, space=space, at=at, account=account, **data), **source}


STATES: dict[str, list[str | None]] = {
    "audio": [None, "available", "awaitingFile"],
    "voiceprint": [None, "computed", "notComputable"],
    "verification": [None, "performed", "performedWithoutScore", "error"],
}


def plain_state(resource: LiveResource) -> dict[str, Any]:
    """Return a state as a mapping that compares by what is in it."""
    return dict(resource.state)


async def everything_of(ledger: Ledger, account: str) -> tuple[Any, ...]:
    """Ask for all that there is of an account, in a form that compares."""
    spaces = await ledger.live(LiveQuery(account))
    found = await ledger.resources(ResourceQuery(account))
    return [plain_space(space) for space in spaces], [replace(each, state=plain_state(each)) for each in found]


def plain_space(space: LiveSpace) -> LiveSpace:
    """Return a space whose parts compare by what is in them; None for what has no use."""
    return structs.replace(
        space,
        containers=frozenset(space.containers),
        closed_in=dict(space.closed_in),
        made_in={container: dict(months) for container, months in space.made_in.items()},
        live=dict(space.live),
        closed=dict(space.closed),
    )
