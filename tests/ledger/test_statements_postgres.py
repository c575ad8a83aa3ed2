"""Every statement of the distributed ledger, held to what Citus takes, which no test has at hand."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pytest

from tallystick.admission import Asked, hold_of
from tallystick.ledger.postgres import folding, identities, locks, log, server
from tallystick.ledger.postgres.committing import Mark
from tallystick.ledger.postgres.ledger import PostgresLedger
from tallystick.model import Hold, HoldMode, HoldQuery, Key, Limit, Property, Scope
from tallystick.windows import Period
from tests.citus import SOURCE, faults_of, watched
from tests.ledger.build import Desk, asynchronous, audio, total
from tests.ledger.conformance import EXCEEDED, Conformance
from tests.ledger.conformance_limits import LimitConformance
from tests.ledger.conformance_metering import MeteringConformance
from tests.ledger.define import meter, put
from tests.ledger.script import check
from tests.ledger.test_admission import SCRIPTS
from tests.postgres import Databases, split

HEAD = re.compile(r"^\s*((?:SELECT|INSERT INTO|UPDATE|DELETE FROM) [^%{]+)")
ELSEWHERE = {
    "migrating.py",
    "replica.py",
    "server.py",
    "copy_order.py",
    "copy_source.py",
    "copy_state.py",
    "copy_target.py",
    "copy_writing.py",
}
"""What these say is said before tables are spread, or of such as are not; what copies say is watched by their tests."""


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("SELECT link FROM head WHERE account = ANY(%s) FOR UPDATE", "changes or locks"),
        ("UPDATE head SET clock = %s", "changes or locks"),
        ("DELETE FROM run USING unnest(%s) w (account) WHERE run.account = w.account", "changes or locks"),
        ("INSERT INTO head (account) VALUES (%s) ON CONFLICT DO NOTHING", "resolves a conflict"),
        ("INSERT INTO folded SELECT account, 0 FROM head", "inserts what it reads"),
        ("INSERT INTO head (account, series) VALUES (%s, nextval('series_number'))", "calls what is volatile"),
        ("WITH gone AS (DELETE FROM run WHERE account = %s RETURNING 1) SELECT 1 FROM gone, head", "writes in a WITH"),
        ("SELECT DISTINCT ON (account) number FROM entry ORDER BY account", "asks every node"),
        ("SELECT (SELECT max(number) FROM entry) FROM head", "asks every node"),
        ("SELECT 1 FROM head WHERE account = %s UNION SELECT 1 FROM hold", "asks every node"),
        ("SELECT rank() OVER (ORDER BY number) FROM entry", "asks every node"),
        ("SELECT 1 FROM unnest(%s) w (account) LEFT JOIN head h ON h.account = w.account", "asks every node"),
        ("SELECT 1 FROM entry e JOIN posting p USING (number)", "joins by something else"),
        ("SELECT 1 FROM entry e LEFT JOIN head h ON h.entries = e.position", "joins by something else"),
    ],
)
def test_a_statement_that_citus_would_refuse_is_found(statement: str, fault: str) -> None:
    """Each rule finds what breaks it, and says which it is."""
    assert any(found.startswith(fault) for found in faults_of(statement)), faults_of(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT link FROM head WHERE account = %s FOR UPDATE",
        "SELECT e.number FROM entry e LEFT JOIN entry b ON b.account = e.account AND b.position = e.position - 1",
        "SELECT nextval('entry_number')",
        "INSERT INTO key_use SELECT * FROM unnest(%s, %s) ON CONFLICT (key) DO UPDATE SET at = excluded.at",
        "INSERT INTO frame SELECT account, %s, place, body FROM unnest(%s, %s, %s) w (account, place, body)",
    ],
)
def test_a_statement_that_citus_takes_is_none(statement: str) -> None:
    """One node does anything; all do what is plain; tables that every node has are not asked about."""
    assert faults_of(statement) == ()


@asynchronous
async def test_a_transaction_about_two_accounts_is_found(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch sees it on any connection, whichever statements name the accounts."""
    split(postgres)
    with pytest.raises(AssertionError, match="is about the accounts"), watched(monkeypatch):
        db = server.connect(postgres)
        with locks.transaction(db):
            log.heads(db, [1], lock=True)
            log.move_clocks(db, [2], 0)
        db.close()


def heads() -> Iterator[str]:
    """Yield how each statement of the package begins, without its spaces."""
    for file in sorted(SOURCE.glob("*.py")):
        if file.name in ELSEWHERE:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            first: Any = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and id(node) not in inside:
                begins = HEAD.match(first.value)
                if begins is not None:
                    yield "".join(begins[1].split())


Played = Callable[[Desk], object]


def played(suite: type, *names: str) -> list[Played]:
    """Return tests of a suite, to be played on desks."""
    return [getattr(suite(), f"test_{name}") for name in names]


@asynchronous
async def claimed(desk: Desk) -> None:
    """Refuse events whose identities others then take, and lead some past others' fingerprints."""
    async with desk.open(label_sets_max=1) as ledger:
        await desk.send(ledger, audio("0", language="a"), audio("0", account="globex", language="a"))
        said = await desk.send(ledger, audio("1", language="b"), audio("1", language="a"), audio("2", language="b"))
        assert said == [EXCEEDED, "accepted", EXCEEDED]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(identities, "fingerprints", lambda secret, salt, *names: np.full(len(names[0]), salt, "u8"))
            said = await desk.send(ledger, audio("3", language="a"), audio("4", language="b"), audio("5", language="a"))
            assert said == ["accepted", EXCEEDED, "accepted"]


@asynchronous
async def folded(desk: Desk) -> None:
    """Fold the same places again and again, so that runs outgrow others."""
    async with desk.open() as ledger:
        assert isinstance(ledger, PostgresLedger)
        for turn in range(4):
            await desk.send(ledger, *(audio(f"{turn} {n}", account=f"org-{n % 2}") for n in range(4)))
            for account in ledger._writing._behind.run(lambda db: folding.lagging(db, 1)):
                assert ledger._writing._behind.run(partial(folding.fold, cache=ledger._cache, account=account))
        assert (await ledger.verify()).faults == ()


@asynchronous
async def seldom(desk: Desk) -> None:
    """Ask what is asked seldom: by an id alone, after a lost connection, of counters whose meter has changed, anew."""
    async with desk.open() as ledger:
        assert isinstance(ledger, PostgresLedger)
        await ledger.put_key(Key("k", "aa" * 32, None, frozenset({Scope.REPORT}), 1), actor="test")
        ledger.note_key_use("k", 5)
        await desk.send(ledger, audio("1"))
        assert await ledger.event("acme", "test", "1") is not None
        assert await ledger.hold_accounts("none") == []
        for lane in ledger._writing.lanes._all[:1]:
            assert await asyncio.to_thread(lane._was_committed, Mark(1, 1))
        for name in ("work", "other"):
            await put(ledger, meter(name, events={name}))
            limit = Limit(name, "acme", name, Property.QUANTITY, 0, Period.MONTH, 9, thresholds=(50,))
            await ledger.put_limit(limit, actor="test")
            await ledger.reserve(hold_on(ledger, name, 1), catalog_version=ledger.catalog.version)
        await put(ledger, meter("other", events={"other"}, labels={}), start=0)
        await ledger.reserve(hold_on(ledger, "work", 2), catalog_version=ledger.catalog.version)
        assert len(await ledger.holds(HoldQuery("acme"))) == 3
        assert (await total(ledger, "2024-05-01T11:07:00Z", "2024-05-01T12:07:00Z")).count == 1
    async with desk.open() as ledger:
        assert "other" in ledger.catalog.meters


def hold_on(ledger: PostgresLedger, name: str, number: int) -> Hold:
    asked = Asked("acme", f"{name} {number}", name, {}, Decimal(1), 1, 60_000_000, HoldMode.NORMAL)
    return hold_of(asked, ledger.catalog, ledger.now, text_length_max=256)


PLAYED: list[Played] = [
    claimed,
    folded,
    seldom,
    *(partial(check, script=script) for script in [*SCRIPTS.values()][::6]),
    *played(
        Conformance,
        "a_batch_sent_twice_counts_once",
        "an_account_without_events_and_keys_is_deleted",
        "label_sets_are_bounded_and_never_folded",
        "an_event_is_listed_with_its_place_and_what_it_fed",
    ),
    *played(LimitConformance, "a_limit_is_made_replaced_and_deleted", "the_audit_tells_what_limits_were_and_are"),
    *played(
        MeteringConformance,
        "what_comes_while_a_meter_is_replayed_is_counted_once",
        "a_record_is_of_every_event_that_was_counted",
        "a_listing_shows_what_replays_counted_and_not_what_they_replaced",
        "the_latest_is_by_time_then_source_then_id",
        "resources_may_be_asked_for_by_name",
        "resources_come_in_order_and_in_pages",
    ),
]


UNSEEN = {
    # After a connection was lost while the catalog changed; every node has the whole of it.
    "SELECT1FROMcatalog_entryWHEREentry=",
    # Of an account that the catalog lacks.
    "SELECTeventsFROMheadWHEREaccount=",
}


def test_every_statement_is_one_that_citus_takes(postgres_server: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of many kinds, played where commits are split, send each statement of the package; none breaks a rule."""
    with watched(monkeypatch) as watch:
        for play in PLAYED:
            url = postgres_server.take_with_tables()
            split(url)
            play(Desk(url, is_split=True))
            postgres_server.give_back(url)
    said = {statement.replace(" ", "") for statement in watch.statements}
    unseen = {head for head in heads() if not any(each.startswith(head) for each in said)}
    assert unseen == UNSEEN
