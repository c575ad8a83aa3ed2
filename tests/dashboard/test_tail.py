"""The list of events: what is kept and what was not, each once, in one order of time; and nobody else's."""

from __future__ import annotations

import re
from random import Random

import pytest

from tests.api.client import World, audio
from tests.dashboard.made import CANARY
from tests.dashboard.person import Person, Play

PAGE = "/dashboard/events"
SECOND = 1_000_000
ROW = re.compile(r'<tr class="(\w+)">\s*<th[^>]*>(?:<a [^>]*>([^<]*)</a>|<span class="dim">without an id</span>)')


async def read(person: Person, target: str) -> tuple[list[tuple[str, str]], str]:
    """Return the verdicts and ids of a page, and the address of the next one."""
    answer = await person.get(target)
    assert answer.status == 200
    html = answer.body.decode()
    following = re.search(r'rel="next" href="([^"]+)"', html)
    return ROW.findall(html), following[1].replace("&amp;", "&") if following else ""


async def walked(person: Person, target: str) -> list[list[tuple[str, str]]]:
    """Follow the pages from the first to the last."""
    pages = []
    while target:
        rows, target = await read(person, target)
        pages.append(rows)
    return pages


async def all_of(person: Person, target: str) -> list[tuple[str, str]]:
    """Return the rows of all pages."""
    return [row for page in await walked(person, target) for row in page]


async def play_traffic(world: World, count: int, random: Random) -> list[tuple[str, str]]:
    """Send one event after another, some of which are not taken; return verdicts and ids, newest first."""
    await world.account("acme")
    sent = []
    for at in range(count):
        world.now += SECOND // 10
        verdict = random.choice(["accepted", "accepted", "rejected", "duplicate", "conflict"]) if at else "accepted"
        id = f"e-{at}" if verdict in ("accepted", "rejected") else "e-0"
        event = audio(id, seconds={"rejected": "-1", "conflict": "61"}.get(verdict, "60"))
        answer = await world.ingest(event, key="acme")
        assert answer.json[verdict] == 1
        sent.append((verdict, id))
    return sent[::-1]


@pytest.mark.parametrize("seed", range(3))
def test_pages_have_every_event_and_every_receipt_once_in_order(played: Play, seed: int) -> None:
    """Fifty rows to a page, whichever list they come from; filters leave out what is not asked for."""

    async def scenario(world: World, person: Person) -> None:
        sent = await play_traffic(world, 173, Random(seed))
        await person.sign_in(world.keys["acme"])
        pages = await walked(person, PAGE)
        assert [len(page) for page in pages] == [50, 50, 50, 23]
        assert [row for page in pages for row in page] == sent
        for verdict in ("accepted", "duplicate", "conflict", "rejected"):
            found = await all_of(person, f"{PAGE}?verdict={verdict}")
            assert found == [row for row in sent if row[0] == verdict]
        assert await all_of(person, f"{PAGE}?id=e-0") == [row for row in sent if row[1] == "e-0"]

    played(scenario)


def test_what_comes_in_between_two_pages_is_not_shown_twice_and_nothing_is_left_out(played: Play) -> None:
    """The second page goes on behind the first, whatever was sent meanwhile."""

    async def scenario(world: World, person: Person) -> None:
        sent = await play_traffic(world, 120, Random(7))
        await person.sign_in(world.keys["acme"])
        first, following = await read(person, PAGE)
        world.now += SECOND
        await world.ingest(audio("late"), audio("late-refused", seconds="-1"), key="acme")
        rest = await all_of(person, following)
        assert [*first, *rest] == sent

    played(scenario)


def test_a_flood_of_refusals_does_not_hide_what_was_kept(played: Play) -> None:
    """Refusals alone fill the first pages; what was kept before them follows, and nothing else does."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await world.ingest(*(audio(f"kept-{at}") for at in range(3)), key="acme")
        world.now += SECOND
        await world.ingest(*(audio(f"r-{at}", seconds="-1") for at in range(120)), key="acme")
        await person.sign_in(world.keys["acme"])
        pages = await walked(person, PAGE)
        assert [len(page) for page in pages] == [50, 50, 23]
        assert [id for _, id in pages[0]] == [f"r-{at}" for at in range(119, 69, -1)]
        assert [row for row in pages[2] if row[0] == "accepted"] == [("accepted", f"kept-{at}") for at in (2, 1, 0)]

    played(scenario)


def test_only_the_sender_sees_what_was_refused_and_why(played: Play) -> None:
    """In words; not the account that the event names, and no data of it."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await world.account("globex")
        await world.ingest(audio(f"{CANARY}-a", "acme", model=CANARY), key="globex")
        await world.ingest(audio("mine", "globex", model=f"{CANARY}-data"), key="acme")
        await world.ingest(audio(f"{CANARY}-b", "acme", "-1"))
        await person.sign_in(world.keys["acme"])
        page = (await person.get(PAGE)).body.decode()
        assert CANARY not in page
        assert ROW.findall(page) == [("rejected", "mine")]
        assert "This key may send for its own account only" in page
        assert "<code>/account</code>" in page
        operator = Person(world)
        await operator.sign_in()
        shown = (await operator.get(PAGE)).body.decode()
        assert {id for _, id in ROW.findall(shown)} == {f"{CANARY}-a", "mine", f"{CANARY}-b"}
        assert "sent by the operator" in shown
        assert f"{CANARY}-data" not in shown

    played(scenario)


def test_an_event_without_a_name_and_a_verdict_that_is_none_are_shown_as_such(played: Play) -> None:
    """No link leads to nothing; an address that nobody made is answered with what is wrong with it."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await world.ask("POST", "/v1/events", b"[7]", key="acme")
        await person.sign_in(world.keys["acme"])
        assert (await read(person, PAGE))[0] == [("rejected", "")]
        assert b"status must be one of" in (await person.get(f"{PAGE}?verdict=lost")).body
        space = (await person.get(f"{PAGE}?space=lab")).body
        assert b"by space they cannot be found" in space

    played(scenario)
