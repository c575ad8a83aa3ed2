"""The embedded ledger beside the oracle: whatever is done to both, both say the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tallystick.errors import Problem
from tallystick.ingest.prepare import prepare
from tallystick.ledger.base import CatalogStale, Ledger
from tallystick.ledger.open import open_ledger
from tallystick.ledger.sqlite import identity, keeper
from tallystick.ledger.sqlite.ledger import SqliteLedger
from tallystick.model import (
    Account,
    AccountKind,
    AuditQuery,
    AuditRecord,
    Grant,
    GrantKind,
    Key,
    Limit,
    Meter,
    Property,
    Rated,
    RecordPage,
    RecordQuery,
    Scope,
    UsageQuery,
    UsageTable,
)
from tallystick.settings import Settings
from tallystick.windows import INSTANT_MAX, INSTANT_MIN, Period
from tests.ledger.build import OPERATOR, StillClock, instant, raw_of, text_of
from tests.ledger.conformance_metering import everything_of
from tests.ledger.define import WORK, meter, rates, settled

T = TypeVar("T")

EXAMPLES = int(os.environ.get("TALLYSTICK_TEST_EXAMPLES", "40"))
"""Runs of the machine; more of them make a longer campaign."""

NOW = instant("2024-05-01T12:00:00Z")
MARKS = [
    instant(text)
    for text in (
        "0001-01-02T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "2023-12-31T23:59:59.999999Z",
        "2024-01-01T00:00:00Z",
        "2024-02-29T00:00:00Z",
        "2024-02-29T10:07:00Z",
        "2024-02-29T10:15:00Z",
        "2024-03-01T00:00:00Z",
        "2024-04-30T23:45:00Z",
        "2024-05-01T00:00:00Z",
        "2024-05-01T12:00:00Z",
    )
]
TOGETHER = ["together-1", "together-2", "together-3", "together-4"]
"""Accounts that commit at the same time; they are there from the start, as their numbers follow their creation."""
ACCOUNTS = ["acme", "globex", "initech"]
VALUES = [None, "", "a", "b", "\U0001f600", "\uffee"]

times = st.sampled_from(MARKS) | st.integers(instant("2023-12-01T00:00:00Z"), NOW)
own_times = st.none() | times.map(lambda time: text_of(min(time, NOW)))
label_values = st.sampled_from(VALUES)


@st.composite
def event(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an event out of few identities and few contents, so that they meet."""
    made: dict[str, Any] = {
        "specversion": "1.0",
        "id": draw(st.integers(0, 12).map(str)),
        "source": draw(st.sampled_from(["a", "a/b"])),
        "account": draw(st.sampled_from(ACCOUNTS)),
        "time": draw(own_times),
        "space": draw(st.sampled_from([None, None, "lab", ""])),
        "subject": draw(st.sampled_from([None, None, "acme/shop", "job"])),
    }
    kind = draw(st.sampled_from(["audio.processed", "audio.processed", "model.request", "unheard.of", WORK, *ABOUT]))
    return {**made, "type": kind, "data": draw(DATA[kind])}


ABOUT = ["resource.upserted", "resource.upserted", "resource.deleted"]
named = st.fixed_dictionaries(
    {"kind": st.sampled_from(["image", "image", "verification", "dataset"]), "id": st.sampled_from(["lab", "r"])}
)
said = st.fixed_dictionaries(
    {"duration": st.integers(0, 2), "type": st.sampled_from(["message", "identity"])},
    optional={
        "url": st.sampled_from("uv"),
        "status": st.sampled_from(["success", "failed"]),
        "state": st.sampled_from(["performed", "error"]),
        "model": label_values,
    },
)

DATA: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "audio.processed": st.fixed_dictionaries(
        {"duration": st.sampled_from([0, 1, 1.5, "1.50", "PT1.5S", 0.0000005, 10**12]) | st.integers(0, 10**12)},
        optional={
            "language": label_values,
            "mode": label_values,
            "tags": st.sampled_from(["", "GR", "RG", ["gender", "realtime"]]),
            "status": st.sampled_from(["success", "failed"]),
        },
    ),
    "model.request": st.fixed_dictionaries(
        {"input": st.integers(0, 3), "output": st.integers(0, 10**12), "model": st.sampled_from(["m", "n", ""])}
    ),
    WORK: st.fixed_dictionaries(
        {"n": st.integers(0, 3) | st.sampled_from(["1", 0.5])}, optional={"kind": label_values}
    ),
    "resource.upserted": st.tuples(named, said).map(lambda parts: {**parts[0], **parts[1]}),
    "resource.deleted": named,
    "unheard.of": st.fixed_dictionaries({}, optional={"anything": st.integers(0, 2), "more": st.none()}),
}


LABELS = {
    "audio": ["language", "mode", "tags", "space"],
    "images": ["space"],
    "verifications": ["type", "model", "space"],
    "work": ["kind", "space"],
}


@st.composite
def work_meter(draw: st.DrawFn) -> Meter:
    """Draw a definition of the meter `work`, of one of few kinds, so that they replace each other."""
    about: list[dict[str, Any]] = [
        {},
        {"where": {"kind": {"a", ""}}},
        {"quantity": None, "rate": Rated("prices", "kind")},
        {"aggregation": "unique"},
        {"events": {"resource.upserted"}, "quantity": None, "once_per": "state"},
        {"events": {"resource.upserted"}, "quantity": None, "once_per": "url"},
    ]
    return meter(labels={"kind": "$.data.kind", "space": "$.space"}, **draw(st.sampled_from(about)))


price_tables = st.dictionaries(st.sampled_from(["a", "b", ""]), st.sampled_from([0, 1_000_000, 2_000_000]), max_size=3)


@st.composite
def usage_query(draw: st.DrawFn) -> UsageQuery:
    """Draw a question: any edges, any grouping, any filter."""
    meter = draw(st.sampled_from(["audio", "audio", "tokens_in", "images", "verifications", "work", "unheard_of"]))
    labels = LABELS.get(meter, ["model", "operation"])
    cuts = draw(st.lists(times | times.map(lambda time: time + 1), min_size=0, max_size=8, unique=True))
    wanted = st.frozensets(st.sampled_from(["", "a", "b", "m", "lab", "GR"]), max_size=3)
    return UsageQuery(
        meter,
        draw(st.none() | st.lists(st.sampled_from([*ACCOUNTS, "nobody"]), max_size=3).map(tuple)),
        np.array(sorted(cuts), np.int64),
        tuple(draw(st.lists(st.sampled_from(["account", *labels]), max_size=3, unique=True))),
        draw(st.dictionaries(st.sampled_from(labels), wanted, max_size=2)),
        draw(st.frozensets(st.sampled_from(labels), max_size=2)),
        latest=draw(st.booleans()),
    )


class Interrupted(Exception):
    """Housekeeping that was cut short."""


class Housekeeping:
    """The embedded ledger's work behind the log, done by hand and at set moments instead of by its thread."""

    def __init__(self, ledger: Ledger) -> None:
        assert isinstance(ledger, SqliteLedger)
        self._keeper = ledger._keeper
        self._keeper.stop()
        self._keeper.join()
        self._db = ledger._connect_reader()
        self._tail = ledger._now
        self._do = self._keeper._do
        self._keeper._do = self._slice  # type: ignore[method-assign]  # to end it by force
        self._slices_left = 0

    def fold(self, slices: int) -> None:
        """Fold rollups, ended by force after some slices; a fold that was cut short before is taken up again."""
        overlay = self._tail().published.overlay
        if len(overlay.frozen) or overlay.active_cells:
            self._for(slices, lambda: self._keeper.fold(self._db))

    def fold_holds(self, slices: int) -> None:
        """Write rows of holds, ended by force likewise."""
        self._for(slices, self._keeper.fold_holds)

    def keep_identities(self, slices: int) -> None:
        """Store identities that are in memory only, and merge stored runs where there are enough of them."""
        self._for(slices, self._keep_identities)

    def _keep_identities(self) -> None:
        if self._tail().published.identities.memory_entries:
            self._keeper.store_identities(self._db)
        self._keeper.merge_identities(self._db)

    def checkpoint(self) -> None:
        self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def close(self) -> None:
        """Let go; what a ledger does when it closes is its own again."""
        self._keeper._do = self._do  # type: ignore[method-assign]  # as it was
        self._db.close()

    def _for(self, slices: int, work: Callable[[], None]) -> None:
        self._slices_left = slices
        with suppress(Interrupted):
            work()

    def _slice(self, *args: Any, **kwargs: Any) -> None:
        if self._slices_left == 0:
            raise Interrupted
        self._slices_left -= 1
        self._do(*args, **kwargs)


slices = st.sampled_from([1, 2, 3, 5, 1000, 1000])
CHORES = ["fold", "fold", *["keep_identities"] * 3, "checkpoint", "restart", "crash"]
chores = st.lists(st.tuples(st.sampled_from(CHORES), slices), max_size=2)


SCALES = {"audio": 6, "tokens_in": 0}
"""Of the meters that limits are on."""


class Twins(RuleBasedStateMachine):
    """Drives both ledgers with the same steps and compares every reply, in full."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory(prefix="tallystick-")
        self._place = Path(self._folder.name, "0")
        self._clock = StillClock(NOW)
        self._settings = Settings(label_sets_max=3)
        self._sent: list[list[dict[str, Any]]] = []
        self._together = 0

    @initialize()
    def start(self) -> None:
        self._oracle = self._run(open_ledger("memory:", self._settings, self._clock))
        self._open()
        for name in TOGETHER:
            self.put_account(name, "UTC")

    def teardown(self) -> None:
        try:
            if hasattr(self, "_housekeeping"):
                self._compare_proofs()
                self._close()
        finally:
            self._runner.close()
            self._folder.cleanup()

    @rule(
        events=st.lists(event(), min_size=1, max_size=8),
        create_accounts=st.sampled_from([True, True, False]),
        chores=chores,
    )
    def commit(self, events: list[dict[str, Any]], create_accounts: bool, chores: list[tuple[str, int]]) -> None:
        self._sent.append(events)
        self._commit(events, create_accounts)
        self.do(chores)

    @precondition(lambda self: self._sent)
    @rule(data=st.data())
    def commit_again(self, data: st.DataObject) -> None:
        """Send what was sent before, in another order and mixed with other batches."""
        batches = data.draw(st.lists(st.sampled_from(self._sent), min_size=1, max_size=3))
        self._commit(data.draw(st.permutations([each for batch in batches for each in batch])), True)
        self.do(data.draw(chores))

    @precondition(lambda self: self._sent)
    @rule(data=st.data())
    def commit_changed(self, data: st.DataObject) -> None:
        """Send a known identity with one part of it exchanged for that of another event."""
        before = data.draw(st.sampled_from(data.draw(st.sampled_from(self._sent))))
        other = data.draw(event())
        part = data.draw(st.sampled_from(["time", "space", "subject"]))
        self._commit([{**before, part: other[part]}], True)

    @rule(batches=st.lists(st.lists(event(), min_size=1, max_size=4), min_size=2, max_size=len(TOGETHER)))
    def commit_together(self, batches: list[list[dict[str, Any]]]) -> None:
        """Several commits at once of events that do not meet: whichever goes first, both ledgers end up alike.

        Events that meet would make the order a matter of luck; the conformance suite has tests for these.
        """
        self._together += 1
        apart = [
            [
                {**each, "account": account, "source": "together", "id": f"{self._together}.{index}"}
                for index, each in enumerate(events)
            ]
            for account, events in zip(TOGETHER, batches, strict=False)
        ]
        prepared = [self._prepare(events) for events in apart]

        async def all_at_once(ledger: Ledger) -> list[Any]:
            return await asyncio.gather(*(ledger.commit(batch, create_accounts=True) for batch in prepared))

        self._same(all_at_once)

    @rule(events=st.lists(event(), min_size=1, max_size=3), shift=st.sampled_from([-1, 1]))
    def commit_stale(self, events: list[dict[str, Any]], shift: int) -> None:
        batch = self._prepare(events)
        if not len(batch):
            return
        stale = msgspec.structs.replace(batch, catalog_version=batch.catalog_version + shift)
        for ledger in (self._ledger, self._oracle):
            with pytest.raises(CatalogStale):
                self._run(ledger.commit(stale, create_accounts=True))

    @rule(queries=st.lists(usage_query(), min_size=1, max_size=4), chores=chores)
    def ask(self, queries: list[UsageQuery], chores: list[tuple[str, int]]) -> None:
        self.do(chores)
        self._same(lambda ledger: ledger.usage(queries))

    @rule(each=event())
    def find(self, each: dict[str, Any]) -> None:
        self._same(lambda ledger: ledger.event(each["account"], each["source"], each["id"]))

    @rule(name=st.sampled_from([*ACCOUNTS, "umbrella"]), zone=st.sampled_from(["UTC", "Asia/Tokyo"]))
    def put_account(self, name: str, zone: str) -> None:
        wanted = Account(name, 0, AccountKind.USER, zone, ("ada",))
        self._same(lambda ledger: ledger.put_account(wanted, actor="test"))

    @rule(id=st.sampled_from("kl"), digest=st.sampled_from("xyz"), account=st.sampled_from([None, "acme"]))
    def put_key(self, id: str, digest: str, account: str | None) -> None:
        key = Key(id, id + digest, account, frozenset({Scope.REPORT}), self._clock())
        self._same(lambda ledger: ledger.put_key(key, actor="test"))

    @rule(id=st.sampled_from("klm"))
    def delete_key(self, id: str) -> None:
        self._same(lambda ledger: ledger.delete_key(id, actor="test"))

    @rule(id=st.sampled_from("kl"), successor=st.sampled_from("lm"), overlap=st.integers(0, 3600), chores=chores)
    def rotate_key(self, id: str, successor: str, overlap: int, chores: list[tuple[str, int]]) -> None:
        now = self._clock()
        new = Key(successor, successor + "r", None, frozenset(), now)
        self._same(lambda ledger: ledger.rotate_key(id, new, ends=now + overlap * 1_000_000, actor="test"))
        self.do(chores)

    @rule(name=st.sampled_from([*ACCOUNTS, "umbrella", *TOGETHER[:1]]), chores=chores)
    def delete_account(self, name: str, chores: list[tuple[str, int]]) -> None:
        self._same(lambda ledger: ledger.delete_account(name, actor="test"))
        self.do(chores)

    @rule(
        id=st.sampled_from("ab"),
        account=st.sampled_from([*ACCOUNTS, "umbrella"]),
        meter=st.sampled_from(["audio", "audio", "tokens_in"]),
        amount=st.sampled_from([None, 1, 2]),
        chores=chores,
    )
    def put_limit(self, id: str, account: str, meter: str, amount: int | None, chores: list[tuple[str, int]]) -> None:
        wanted = Limit(id, account, meter, Property.QUANTITY, SCALES[meter], Period.DAY, amount)
        self._same(lambda ledger: ledger.put_limit(wanted, actor="test"))
        self.do(chores)

    @rule(
        limit=st.sampled_from("ab"),
        id=st.sampled_from("gh"),
        meter=st.sampled_from(list(SCALES)),
        amount=st.integers(1, 2),
    )
    def put_grant(self, limit: str, id: str, meter: str, amount: int) -> None:
        wanted = Grant(limit, id, GrantKind.BASE, amount, SCALES[meter], 0)
        self._same(lambda ledger: ledger.put_grant(wanted, actor="test"))

    @rule(limit=st.sampled_from("ab"), id=st.none() | st.sampled_from("gh"))
    def delete_limit_or_grant(self, limit: str, id: str | None) -> None:
        if id is None:
            self._same(lambda ledger: ledger.delete_limit(limit, actor="test"))
        else:
            self._same(lambda ledger: ledger.delete_grant(limit, id, actor="test"))

    @rule(
        account=st.none() | st.sampled_from([*ACCOUNTS, "umbrella"]),
        number=st.none() | st.integers(0, 9),
        limit=st.integers(1, 5),
    )
    def audit(self, account: str | None, number: int | None, limit: int) -> None:
        """Who changed what is told alike, whatever the pages; log entries are counted differently, so places differ."""

        async def followed(ledger: Ledger) -> list[AuditRecord]:
            found: list[AuditRecord] = []
            before = None
            while True:
                page = await ledger.audit(AuditQuery(limit, account, number, before))
                found += page.records
                before = page.next
                if before is None:
                    return [replace(record, place=(0, 0)) for record in found]

        self._same(followed)

    @rule(defined=work_meter(), start=st.none() | st.sampled_from([INSTANT_MIN, *MARKS]), chores=chores)
    def put_meter(self, defined: Meter, start: int | None, chores: list[tuple[str, int]]) -> None:
        self._define(lambda ledger: ledger.put_meter(defined, actor="test", start=start))
        self.do(chores)

    @rule()
    def delete_meter(self) -> None:
        self._same(lambda ledger: ledger.delete_meter("work", actor="test"))

    @rule(table=price_tables, recount=st.booleans(), chores=chores)
    def put_rates(self, table: dict[str, int], recount: bool, chores: list[tuple[str, int]]) -> None:
        prices = rates(**table)
        self._define(lambda ledger: ledger.put_rates("prices", prices, actor="test", recount=recount))
        self.do(chores)

    @rule(account=st.sampled_from(ACCOUNTS), chores=chores)
    def look(self, account: str, chores: list[tuple[str, int]]) -> None:
        """What exists, and what was counted of it once, is told alike."""
        self.do(chores)
        self._same(lambda ledger: everything_of(ledger, account))
        query = RecordQuery(account, "verifications", INSTANT_MIN, INSTANT_MAX)
        self._same(lambda ledger: ledger.records(query))

    @rule(seconds=st.integers(0, 86_400))
    def wait(self, seconds: int) -> None:
        self._clock.advance(seconds)

    @rule(chores=chores)
    def do(self, chores: list[tuple[str, int]]) -> None:
        """Do what a ledger does beside its callers, none of which any reply may show."""
        for chore, slices in chores:
            match chore:
                case "fold":
                    self._housekeeping.fold(slices)
                case "keep_identities":
                    self._housekeeping.keep_identities(slices)
                case "checkpoint":
                    self._housekeeping.checkpoint()
                case "restart":
                    self._close()
                    self._open()
                case "crash":
                    self._crash()

    @invariant()
    def catalogs_are_the_same(self) -> None:
        if hasattr(self, "_ledger"):
            assert self._ledger.catalog == self._oracle.catalog

    def _open(self) -> None:
        self._ledger = self._run(open_ledger(self._place, self._settings, self._clock))
        self._housekeeping = Housekeeping(self._ledger)

    def _crash(self) -> None:
        """Go on with a copy of the files as they are in the middle of things; the old ledger is let go of."""
        copy = self._place.with_name(str(int(self._place.name) + 1))
        copy.mkdir()
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copy(self._place / name, copy / name)
        self._close()
        self._place = copy
        self._open()

    def _close(self) -> None:
        self._housekeeping.close()
        self._run(self._ledger.close())

    def _prepare(self, events: Sequence[dict[str, Any]]) -> Any:
        """Prepare events for both ledgers; those that a meter of the day refuses are left out."""
        raws, catalog = [raw_of(each) for each in events], self._oracle.catalog
        return prepare(raws, caller=OPERATOR, catalog=catalog, settings=self._settings, now=self._clock()).batch

    def _commit(self, events: Sequence[dict[str, Any]], create_accounts: bool) -> None:
        batch = self._prepare(events)
        self._same(lambda ledger: ledger.commit(batch, create_accounts=create_accounts))

    def _define(self, put: Callable[[Ledger], Awaitable[None]]) -> None:
        """Change what is counted, and let what is counted again be done."""

        async def refused(ledger: Ledger) -> str | None:
            try:
                await put(ledger)
            except Problem as problem:
                return str(problem)
            await settled(ledger)
            return None

        self._same(refused)

    def _compare_proofs(self) -> None:
        found, expected = self._run(self._ledger.verify()), self._run(self._oracle.verify())
        assert (found.events, found.postings, list(found.faults)) == (expected.events, expected.postings, [])

    def _same(self, ask: Callable[[Ledger], Awaitable[Any]]) -> None:
        """Do one thing to both ledgers; their replies are equal."""
        found, expected = self._run(ask(self._ledger)), self._run(ask(self._oracle))
        assert plain(found) == plain(expected)

    def _run(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self._runner.run(wait())


def plain(reply: Any) -> Any:
    """Let the sequences and mappings of a reply compare by what is in them."""
    if isinstance(reply, UsageTable):
        return replace(reply, rows=list(reply.rows))
    if isinstance(reply, Mapping):
        return dict(reply)
    if isinstance(reply, RecordPage):
        return replace(reply, records=list(reply.records))
    is_list = isinstance(reply, Sequence) and not isinstance(reply, str)
    return [plain(part) for part in reply] if is_list else reply


SMALL: tuple[tuple[Any, str, int], ...] = (
    (keeper, "SLICE_CELLS", 3),
    (keeper, "SLICE_CHUNKS", 2),
    (keeper, "CHUNK", 4),
    (identity, "CHUNK", 4),
    (identity, "FAN_IN", 2),
)
"""Bounds so low that a few events make many slices and chunks."""


def test_the_embedded_ledger_says_what_the_oracle_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever events, questions, restarts and refusals come, in any order, every reply of the two is equal."""
    for module, name, bound in SMALL:
        monkeypatch.setattr(module, name, bound)
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Twins, settings=settings(max_examples=EXAMPLES, stateful_step_count=30, suppress_health_check=checks)
    )
