"""What the usage page does where there is too much of it."""

from __future__ import annotations

import pytest

from tallystick.dashboard import usage
from tests.api.client import World, audio
from tests.dashboard.person import Person, Play

PAGE = "/dashboard/usage?from=2026-11-01&through=2026-11-01"


def test_more_rows_than_a_page_reads_are_shown_together(played: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """The total is of all of them, the page says why there are no groups, and the file has every row."""
    monkeypatch.setattr(usage, "ROWS_READ_MAX", 3)

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await world.ingest(*(audio(f"e{at}", language=f"l{at}") for at in range(5)))
        await person.sign_in(world.keys["acme"])
        page = await person.get(f"{PAGE}&by=language")
        assert page.status == 200
        assert "more than 3 rows" in page.body.decode()
        assert '<p class="amount" id="total"><data value="300">300</data>' in page.body.decode()
        sheet = await person.get("/dashboard/usage.csv?from=2026-11-01&through=2026-11-01&by=language")
        assert sheet.body.count(b"\r\n") == 6
        assert (await person.get(f"{PAGE}&by=type")).status == 200

    played(scenario)


def test_more_bars_than_can_be_told_apart_are_longer_ones(played: Play) -> None:
    """A year of quarter hours is shown in months, and the page says so."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await world.ingest(audio("e"))
        await person.sign_in(world.keys["acme"])
        page = await person.get("/dashboard/usage?from=2026-01-01&through=2026-12-31&window=minute15")
        assert page.status == 422
        assert "more than 750 bars" in page.body.decode()
        assert "Per month" in page.body.decode()

    played(scenario)
