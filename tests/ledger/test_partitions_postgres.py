"""Old events in partitions on another disk, as the page on PostgreSQL says: everything that reads them still does."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from tallystick.errors import Code, Problem
from tallystick.ledger.open import migrate_ledger
from tests.ledger.build import Desk, asynchronous, audio, listed, total
from tests.ledger.conformance import CONFLICT
from tests.ledger.define import meter, put, work
from tests.postgres import ROOT, run
from tests.standby import named, primary

PAGE = ROOT / "docs" / "how-to" / "run-on-postgresql.md"


@pytest.fixture
def url() -> Iterator[str]:
    """A ledger on a server with a tablespace `slow`."""
    with primary() as server:
        run(server.url, "CREATE TABLESPACE slow LOCATION ''")
        url = named(server.url, server.database())
        migrate_ledger(url)
        yield url


@asynchronous
async def test_events_in_partitions_are_read_and_compared_as_before(url: str) -> None:
    """Retries, conflicts, lists, a meter that counts what was kept, the proof: over three parts, and without one."""
    made, closed = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    desk = Desk(url)

    async def sent(turn: int) -> None:
        async with desk.open() as ledger:
            await desk.send(ledger, audio(f"{turn} a"), audio(f"{turn} b", account="other"), work(f"{turn} c", turn))

    await sent(1)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(made)
    for turn in (2, 3):
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(closed)
        await sent(turn)
    places = "SELECT relname, reltablespace > 0 FROM pg_class WHERE relname ~ '^frame_(open|to_[0-9]+)$' ORDER BY oid"
    assert [is_elsewhere for _, is_elsewhere in run(url, places)] == [True, True, False]
    counts = run(url, "SELECT count(*) FROM frame GROUP BY tableoid ORDER BY tableoid")
    assert counts == [(2,)] * 3
    async with desk.open() as ledger:
        said = await desk.send(ledger, *(audio(f"{turn} a", 60 + (turn == 2)) for turn in (1, 2, 3)))
        assert said == ["duplicate", CONFLICT, "duplicate"]
        assert len(await listed(ledger)) == 9
        kept = await ledger.event("other", "test", "1 b")
        assert kept is not None
        assert kept.sequence <= 3
        await put(ledger, meter(), start=0)
        assert (await total(ledger, meter="work")).sum == 6
        assert list((await ledger.verify()).faults) == []
        ((oldest, _), *_) = run(url, places)
        run(url, f"ALTER TABLE frame DETACH PARTITION {oldest}")
        assert any("is missing" in fault.detail for fault in (await ledger.verify()).faults)
        with pytest.raises(Problem) as unproven:
            await desk.send(ledger, audio("1 a"))
        assert unproven.value.code is Code.UNPROVEN
        assert (await total(ledger, meter="work")).sum == 6
