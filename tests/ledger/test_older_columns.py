"""A ledger whose columns were packed before they were packed by place: read, verified, added to, replayed, copied."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
import zstandard

from tallystick.errors import LedgerError
from tallystick.ledger import copying
from tallystick.ledger.base import Ledger
from tallystick.ledger.packed import places, segment
from tallystick.ledger.postgres import copy_source
from tallystick.ledger.postgres import server as postgres_server
from tallystick.ledger.sqlite import file
from tallystick.windows import INSTANT_MIN
from tests.ledger.build import Desk, asynchronous, lines, listed, query, tokens
from tests.ledger.define import meter, put
from tests.ledger.older import make_older
from tests.postgres import run

EVENTS = segment.PLACED_POSTINGS_MIN
METERS = ("tokens_in", "tokens_out")
BEFORE, SINCE = {"sqlite": 4, "postgres": 1}, {"sqlite": file.FORMAT, "postgres": 2}
"""Formats; files have got another one since then."""


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def desk(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Desk:
    return Desk(tmp_path / "ledger" if kind == "sqlite" else request.getfixturevalue("postgres_ledger"))


def some(name: str) -> list[dict[str, object]]:
    """Return events with two postings each."""
    return [tokens(f"{name}{at}", 1000 * at, at % 7, model=f"m{at % 30}") for at in range(EVENTS)]


async def old(desk: Desk, kind: str) -> list[object]:
    """Make a ledger of the format before, with columns as they were; return what it says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "PLACED_POSTINGS_MIN", 2**31)
        async with desk.open() as ledger:
            assert set(await desk.send(ledger, *some("old"))) == {"accepted"}
            said = await asked(ledger)
    altered(desk, kind, BEFORE[kind])
    assert by_place(desk, kind) == [False]
    return said


async def asked(ledger: Ledger) -> list[object]:
    tables = await ledger.usage([query(meter=name, group_by=("model",)) for name in METERS])
    return [*map(lines, tables), await listed(ledger)]


def altered(desk: Desk, kind: str, form: int) -> None:
    """Make a ledger that is closed one of an older format, but for its columns."""
    if kind == "postgres":
        run(str(desk.url), f"UPDATE ledger SET value = '{form}' WHERE name = 'format'")
        return
    make_older(Path(desk.url), form)


def form_of(desk: Desk, kind: str) -> int:
    if kind == "postgres":
        return int(run(str(desk.url), "SELECT value FROM ledger WHERE name = 'format'")[0][0])
    db = apsw.Connection(str(Path(desk.url) / file.FILE_NAME))
    form = int(db.pragma("user_version"))
    db.close()
    return form


def by_place(desk: Desk, kind: str) -> list[bool]:
    """Say of the columns of each entry, in order, whether they are packed by place."""
    if kind == "postgres":
        bodies = [bytes(body) for (body,) in run(str(desk.url), "SELECT body FROM posting ORDER BY number")]
    else:
        db = apsw.Connection(str(Path(desk.url) / file.FILE_NAME))
        bodies = [body for (body,) in db.execute("SELECT columns FROM log WHERE columns NOT NULL ORDER BY entry")]
        db.close()
    return [zstandard.ZstdDecompressor().decompress(body).startswith(places.MARK) for body in bodies]


@asynchronous
async def test_older_columns_are_read_and_proved_and_newer_ones_stand_beside_them(desk: Desk, kind: str) -> None:
    """Reports, lists and verify are as before; what is added is packed by place, and its format says so."""
    said = await old(desk, kind)
    async with desk.open() as ledger:
        assert await asked(ledger) == said
        assert not (await ledger.verify()).faults
        assert set(await desk.send(ledger, *some("new"))) == {"accepted"}
        assert set(await desk.send(ledger, *some("old"))) == {"duplicate"}
        told = await asked(ledger)
    assert (by_place(desk, kind), form_of(desk, kind)) == ([False, True], SINCE[kind])
    async with desk.open() as ledger:
        assert await asked(ledger) == told
        proof = await ledger.verify()
        assert (proof.faults, proof.events, proof.postings) == ((), 2 * EVENTS, 4 * EVENTS)


@asynchronous
async def test_events_with_older_columns_are_counted_for_new_meters(desk: Desk, kind: str) -> None:
    """A meter that begins before them reads them, and what it counts is packed by place."""
    await old(desk, kind)
    async with desk.open() as ledger:
        await put(ledger, meter("requests", events={"model.request"}, quantity=None), INSTANT_MIN)
        ((*_, total),) = [lines(table)[0] for table in await ledger.usage([query(meter="requests")])]
        assert total == EVENTS
        assert not (await ledger.verify()).faults
    assert by_place(desk, kind) == [False, True]


@asynchronous
async def test_older_columns_are_copied(
    desk: Desk, kind: str, tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a folder and into a database, where they are packed by place."""
    monkeypatch.setattr(copy_source, "ACTIVE_S", 0)
    said = await old(desk, kind)
    for other, place in (("sqlite", tmp_path / "copy"), ("postgres", postgres)):
        altered(desk, kind, BEFORE[kind])
        copying.copy(str(desk.url), str(place), desk.settings, lambda *_: None, desk.clock)
        copied = Desk(place)
        async with copied.open() as ledger:
            assert await asked(ledger) == said
            assert not (await ledger.verify()).faults
        assert by_place(copied, other) == [True]


@asynchronous
async def test_versions_that_cannot_read_what_is_packed_by_place_refuse_it(
    desk: Desk, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They know the format before, and say that a newer one is needed."""
    async with desk.open():
        pass
    where = file if kind == "sqlite" else postgres_server
    monkeypatch.setattr(where, "FORMAT", BEFORE[kind])
    with pytest.raises(LedgerError, match=f"has format {SINCE[kind]}; this version reads up to {BEFORE[kind]}"):
        async with desk.open():
            pass
