"""What every ledger must keep of the contract; each kind of ledger runs the same suite."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from tallystick.errors import Code, Problem
from tallystick.ledger.base import CatalogStale, KeptEvent, Ledger
from tallystick.model import (
    Account,
    AccountKind,
    AsOf,
    AuditPage,
    AuditQuery,
    AuditRecord,
    Deletion,
    EventQuery,
    EventRow,
    Key,
    Posting,
    Scope,
    Status,
    Total,
    UsageQuery,
    UsageTable,
)
from tests.ledger.build import (
    FIRST,
    LAST,
    Desk,
    Raw,
    asynchronous,
    audio,
    instant,
    lines,
    listed,
    pages,
    query,
    raw_of,
    text_of,
    tokens,
    total,
    usage,
)

SECOND = 1_000_000
CONFLICT = "conflict id_reused"
EXCEEDED = "rejected label_sets_exceeded"
UNKNOWN = "rejected account_unknown"

FULL: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "worker",
    "type": "audio.processed",
    "account": "acme",
    "subject": "job/7",
    "time": "2024-04-30T10:00:00.5Z",
    "dataschema": "https://schemas.test/audio",
    "region": "eu",
    "data": {"duration": 1.5, "model": "větší", "billing": "", "channels": 2, "extra": {"deep": [1, None, "x"]}},
}
"""An event that uses every part of what counts as content."""


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the full event with one member set; the path is dotted."""
    event: dict[str, Any] = json.loads(json.dumps(FULL))
    *parents, name = path.split(".")
    target = event
    for parent in parents:
        target = target[parent]
    target[name] = value
    return event


def without(name: str) -> dict[str, Any]:
    """Return the full event less one attribute."""
    return {key: value for key, value in FULL.items() if key != name}


def written(old: str, new: str) -> bytes:
    """Return the full event with a piece of its JSON text written otherwise."""
    text = raw_of(FULL).decode()
    assert text.count(old) == 1, text
    return text.replace(old, new).encode()


SAME: dict[str, Raw] = {
    "sent as it was": FULL,
    "members in another order": dict(reversed(FULL.items())),
    "white space": json.dumps(FULL, indent=2).encode(),
    "escapes for letters": json.dumps(FULL, ensure_ascii=True).encode(),
    "a number with more zeros": written("1.5", "1.500"),
    "a number with an exponent": written("1.5", "15e-1"),
    "a whole number as a decimal": written('"channels": 2', '"channels": 2.0'),
    "a member that is null": changed("data.mode", None),
    "a deep member that is null": changed("data.extra.none", None),
    "an attribute that is null": changed("tracking", None),
    "another trace": changed("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    "another trace state": changed("tracestate", "vendor=1"),
    "another content type": changed("datacontenttype", "application/json"),
    "the instant with another offset": changed("time", "2024-04-30T12:00:00.5+02:00"),
    "digits past microseconds": changed("time", "2024-04-30T10:00:00.5000009Z"),
    "an id twice, the last one the same": written('"id": "1"', '"id": "2", "id": "1"'),
    "a name twice, the last one the same": written('"region": "eu"', '"region": "us", "region": "eu"'),
}
OTHER: dict[str, Raw] = {
    "another quantity": changed("data.duration", 1.6),
    "a quantity one ten-millionth away": changed("data.duration", 1.5000001),
    "a number as text": changed("data.duration", "1.5"),
    "true for a number": changed("data.channels", True),
    "another type": changed("type", "audio.processed.again"),
    "another subject": changed("subject", "job/8"),
    "no subject": without("subject"),
    "a space": changed("space", "lab"),
    "a space in the data": changed("data.space", "lab"),
    "another schema": changed("dataschema", "https://schemas.test/audio/2"),
    "another extension": changed("region", "us"),
    "one more extension": changed("zone", "a"),
    "one extension less": without("region"),
    "an empty text where nothing was": changed("data.mode", ""),
    "nothing where an empty text was": changed("data.billing", None),
    "a member more": changed("data.comment", "x"),
    "items in another order": changed("data.extra.deep", ["x", None, 1]),
    "a null item less": changed("data.extra.deep", [1, "x"]),
    "a deep number as true": changed("data.extra.deep", [True, None, "x"]),
    "an item as text": changed("data.extra.deep", ["1", None, "x"]),
    "other letters for the same look": changed("data.model", "ve\u030ctší"),
    "capitals": changed("data.model", "Větší"),
    "a blank at the end": changed("data.model", "větší "),
    "a microsecond later": changed("time", "2024-04-30T10:00:00.500001Z"),
    "no time": without("time"),
    "a name twice, the last one another": written('"region": "eu"', '"region": "eu", "region": "us"'),
}
NUMBERS_ALIKE = [
    ("0", "-0"),
    ("0", "0.0e5"),
    ("100", "1e2"),
    ("12345678901234567890123456789012345678901234567890", "1234567890123456789012345678901234567890123456789e1"),
    ("1e400", "10e399"),
]
NUMBERS_APART = [
    ("9007199254740993", "9007199254740992"),
    ("9007199254740993.0", "9007199254740992.0"),
    ("0.1", "0.1000000000000000055511151231257827"),
    ("1." + "0" * 40 + "1", "1." + "0" * 40 + "2"),
    ("12345678901234567890123456789012345678901234567890", "12345678901234567890123456789012345678901234567891"),
    ("1", "-1"),
    ("1e400", "1e401"),
    ("0", "false"),
    ("1", '"1"'),
]


class ExactlyOnce:
    """An identity is taken once, by the content it first came with."""

    @asynchronous
    async def test_a_new_event_is_accepted_and_counted(self, desk: Desk) -> None:
        """An event that was never seen is kept, and its quantity is in the next answer."""
        async with desk.open() as ledger:
            assert await desk.send(ledger, audio("1", "1.25")) == ["accepted"]
            assert await total(ledger) == Total(1, 1_250_000, 1_250_000, 1_250_000)

    @asynchronous
    async def test_a_batch_sent_twice_counts_once(self, desk: Desk) -> None:
        """A retry of a whole batch is all duplicates and changes no answer, not even how far it counts."""
        events = [audio(str(n), n, language="en" if n % 2 else "cs") for n in range(50)]
        async with desk.open() as ledger:
            assert set(await desk.send(ledger, *events)) == {"accepted"}
            before = await usage(ledger, group_by=("language",))
            desk.clock.advance(1)
            assert set(await desk.send(ledger, *events)) == {"duplicate"}
            assert await usage(ledger, group_by=("language",)) == before

    @asynchronous
    async def test_a_used_id_with_other_content_conflicts(self, desk: Desk) -> None:
        """An identity belongs to the content it was first sent with; what comes later changes nothing."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1", 60))
            before = await usage(ledger)
            assert await desk.send(ledger, audio("1", 61)) == [CONFLICT]
            assert await desk.send(ledger, audio("1", 60)) == ["duplicate"]
            assert await usage(ledger) == before

    @asynchronous
    async def test_of_two_events_with_one_identity_in_a_batch_the_first_is_kept(self, desk: Desk) -> None:
        """Order inside a batch decides who owns an identity, and the second is judged against the first."""
        async with desk.open() as ledger:
            sent = [audio("1", 1), audio("1", 2), audio("2", 4), audio("1", 1), audio("2", 4), audio("2", 5)]
            said = ["accepted", CONFLICT, "accepted", "duplicate", "duplicate", CONFLICT]
            assert await desk.send(ledger, *sent) == said
            assert (await total(ledger)).sum == 5 * SECOND

    @asynchronous
    async def test_a_conflict_says_what_and_where(self, desk: Desk) -> None:
        """A conflict carries its code, points at the id and explains itself."""
        async with desk.open() as ledger:
            batch = desk.batch(ledger, audio("1", 1), audio("1", 2))
            (verdict,) = (await ledger.commit(batch, create_accounts=True)).values()
            assert (verdict.status, verdict.code, verdict.pointer) == (Status.CONFLICT, Code.ID_REUSED, "/id")
            assert verdict.detail.endswith(".")

    @asynchronous
    async def test_a_duplicate_says_whether_it_is_metered(self, desk: Desk) -> None:
        """A retry learns the same about metering as the first sending did."""
        events = [audio("1"), audio("2", status="failed"), {**audio("3"), "type": "unheard.of"}]
        async with desk.open() as ledger:
            await desk.send(ledger, *events)
            verdicts = await ledger.commit(desk.batch(ledger, *events), create_accounts=True)
            assert [verdicts[index].metered for index in range(3)] == [True, False, False]

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            pytest.param(audio("1", account="acme"), audio("1", 2, account="globex"), id="accounts"),
            pytest.param(audio("1"), {**audio("1", 2), "source": "other"}, id="sources"),
            pytest.param(audio("1"), audio("2", 2), id="ids"),
            pytest.param({**audio("c"), "source": "a/b"}, {**audio("b/c"), "source": "a"}, id="slashes"),
            pytest.param({**audio("bc"), "source": "a"}, {**audio("c"), "source": "ab"}, id="run together"),
            pytest.param(
                {**audio("1", account="a"), "source": "bc"},
                {**audio("1", account="ab"), "source": "c"},
                id="an account run into",
            ),
            pytest.param(audio("a"), audio("A", 2), id="case"),
            pytest.param(audio("1"), audio("1 ", 2), id="blank"),
            pytest.param(audio("\u00e9"), audio("e\u0301", 2), id="normal forms"),
        ],
    )
    @asynchronous
    async def test_identities_that_differ_anywhere_are_different_events(
        self, desk: Desk, first: Raw, second: Raw
    ) -> None:
        """Account, source and id are compared as sent, each on its own."""
        async with desk.open() as ledger:
            assert await desk.send(ledger, first) == ["accepted"]
            assert await desk.send(ledger, second) == ["accepted"]
            assert await desk.send(ledger, second, first) == ["duplicate", "duplicate"]
            assert (await total(ledger)).count == 2

    @pytest.mark.parametrize("seed", range(4))
    @asynchronous
    async def test_order_batching_and_repeats_change_no_total(self, desk: Desk, seed: int) -> None:
        """However the same events arrive, cut up and repeated, each is accepted once and the report is the same."""
        shuffle = random.Random(seed)
        events = [
            audio(
                str(n),
                n * n,
                account=f"org-{n % 3}",
                at=text_of(desk.clock() - n * 7_000_000_000),
                language="ab"[n % 2],
            )
            for n in range(60)
        ]
        sent = shuffle.sample(events * 3, len(events) * 3)
        said: Counter[str] = Counter()
        async with desk.open() as ledger:
            while sent:
                size = shuffle.randint(1, 25)
                said.update(await desk.send(ledger, *sent[:size]))
                del sent[:size]
            sums: defaultdict[tuple[str, str], int] = defaultdict(int)
            for n, event in enumerate(events):
                sums[event["account"], event["data"]["language"]] += n * n * SECOND
            table = await usage(ledger, group_by=("account", "language"))
            assert said == {"accepted": 60, "duplicate": 120}
            assert {row.labels: row.total.sum for row in table.rows} == sums


class SameContent:
    """What tells a retry from a reused id."""

    @pytest.mark.parametrize("sending", SAME.values(), ids=SAME.keys())
    @asynchronous
    async def test_the_same_content_is_a_duplicate_however_it_is_written(self, desk: Desk, sending: Raw) -> None:
        """How JSON is written, and what only travels along with an event, is not content."""
        async with desk.open() as ledger:
            assert await desk.send(ledger, FULL) == ["accepted"]
            assert await desk.send(ledger, sending) == ["duplicate"]

    @pytest.mark.parametrize("sending", OTHER.values(), ids=OTHER.keys())
    @asynchronous
    async def test_any_other_content_is_a_conflict(self, desk: Desk, sending: Raw) -> None:
        """Whatever says something else under a used identity conflicts, in either order of arrival."""
        async with desk.open() as ledger:
            assert await desk.send(ledger, FULL) == ["accepted"]
            assert await desk.send(ledger, sending) == [CONFLICT]
            again = [{**json.loads(raw_of(event)), "id": "2"} for event in (sending, FULL)]
            assert await desk.send(ledger, *again) == ["accepted", CONFLICT]

    @asynchronous
    async def test_empty_data_is_not_the_same_as_none(self, desk: Desk) -> None:
        """Only null says the same as nothing."""
        bare = {name: value for name, value in audio("1").items() if name != "data"} | {"type": "unheard.of"}
        async with desk.open() as ledger:
            assert await desk.send(ledger, bare, {**bare, "data": None}) == ["accepted", "duplicate"]
            assert await desk.send(ledger, {**bare, "data": {}}) == [CONFLICT]
            again = [{**bare, "id": "2", "data": {}}, {**bare, "id": "2"}]
            assert await desk.send(ledger, *again) == ["accepted", CONFLICT]

    @pytest.mark.parametrize(("first", "second"), NUMBERS_ALIKE)
    @asynchronous
    async def test_numbers_of_one_value_are_the_same_content(self, desk: Desk, first: str, second: str) -> None:
        """A number is its value, whatever its digits."""
        async with desk.open() as ledger:
            assert await desk.send(ledger, remark(first), remark(second)) == ["accepted", "duplicate"]

    @pytest.mark.parametrize(("first", "second"), NUMBERS_APART)
    @asynchronous
    async def test_numbers_that_a_float_would_confuse_are_other_content(
        self, desk: Desk, first: str, second: str
    ) -> None:
        """Values are compared exactly, and never with what is no number."""
        async with desk.open() as ledger:
            assert await desk.send(ledger, remark(first), remark(second)) == ["accepted", CONFLICT]

    @asynchronous
    async def test_an_event_without_a_time_is_the_same_whenever_it_is_sent(self, desk: Desk) -> None:
        """Where neither sending names a time, that of receipt is no content; the first one's stays."""
        async with desk.open() as ledger:
            assert await desk.send(ledger, audio("1")) == ["accepted"]
            received = desk.clock()
            desk.clock.advance(3600)
            assert await desk.send(ledger, audio("1")) == ["duplicate"]
            assert await desk.send(ledger, audio("1", at=text_of(received))) == [CONFLICT]
            kept = await ledger.event("acme", "test", "1")
            assert kept is not None
            assert kept.time == received

    @asynchronous
    async def test_a_space_is_content_as_resolved(self, desk: Desk) -> None:
        """Naming the space that the subject names already says nothing new; naming another does."""
        in_subject = {**audio("1"), "subject": "acme/lab"}
        async with desk.open() as ledger:
            assert await desk.send(ledger, in_subject) == ["accepted"]
            assert await desk.send(ledger, {**in_subject, "space": "lab"}) == ["duplicate"]
            assert await desk.send(ledger, {**in_subject, "space": "shop"}) == [CONFLICT]

    @asynchronous
    async def test_an_account_is_content_as_resolved(self, desk: Desk) -> None:
        """An account named by the subject alone and one named outright are the same account."""
        in_subject = {**audio("1"), "subject": "acme/lab"}
        unnamed = {name: value for name, value in in_subject.items() if name != "account"}
        async with desk.open() as ledger:
            assert await desk.send(ledger, in_subject, unnamed) == ["accepted", "duplicate"]

    @asynchronous
    async def test_a_leap_second_is_the_second_before_it(self, desk: Desk) -> None:
        """The instant 23:59:60 is read as 23:59:59, in content as in reports."""
        async with desk.open() as ledger:
            leap, before = "2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"
            assert await desk.send(ledger, audio("1", at=leap), audio("1", at=before)) == ["accepted", "duplicate"]
            assert (await total(ledger, before, "2017-01-01T00:00:00Z")).count == 1


class Verdicts:
    """What a commit says of each event."""

    @asynchronous
    async def test_every_event_gets_its_own_verdict(self, desk: Desk) -> None:
        """One refused event sinks nobody; each verdict stands at its event's index."""
        async with desk.open() as ledger:
            await ledger.put_account(Account("acme", 0), actor="test")
            await desk.send(ledger, audio("old", 1))
            sent = [
                audio("a", 2),
                audio("old", 1),
                audio("b", 4, account="nobody"),
                audio("old", 9),
                audio("c", 8),
                audio("a", 2),
            ]
            said = ["accepted", "duplicate", UNKNOWN, CONFLICT, "accepted", "duplicate"]
            assert await desk.send(ledger, *sent, create_accounts=False) == said
            assert (await total(ledger)).sum == 11 * SECOND

    @asynchronous
    async def test_an_empty_batch_changes_nothing(self, desk: Desk) -> None:
        """Nothing in, nothing kept."""
        async with desk.open() as ledger:
            assert await desk.send(ledger) == []
            assert await usage(ledger) == UsageTable([], Total(), AsOf(0, 0))

    @asynchronous
    async def test_a_batch_of_an_older_catalog_is_stale_and_kept_nowhere(self, desk: Desk) -> None:
        """What was prepared with other meters is turned back whole."""
        async with desk.open() as ledger:
            for version in (ledger.catalog.version - 1, ledger.catalog.version + 1):
                batch = msgspec.structs.replace(desk.batch(ledger, audio("1")), catalog_version=version)
                with pytest.raises(CatalogStale):
                    await ledger.commit(batch, create_accounts=True)
            assert await ledger.event("acme", "test", "1") is None
            assert dict(ledger.catalog.accounts) == {}
            assert await desk.send(ledger, audio("1")) == ["accepted"]


class AccountsAndKeys:
    """The catalog's part of the log."""

    @asynchronous
    async def test_events_create_accounts_where_they_may(self, desk: Desk) -> None:
        """An unknown account is created as an organisation with its first event, numbered in order of creation."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1", account="beta"), audio("2", account="acme"), audio("3", account="beta"))
            accounts = ledger.catalog.accounts
            assert {name: account.kind for name, account in accounts.items()} == {
                "beta": AccountKind.ORG,
                "acme": AccountKind.ORG,
            }
            assert accounts["beta"].number < accounts["acme"].number

    @asynchronous
    async def test_events_of_unknown_accounts_are_refused_where_they_may_not_create_one(self, desk: Desk) -> None:
        """A refused event leaves no account and claims no identity: with the account there, another may have it."""
        async with desk.open() as ledger:
            assert await desk.send(ledger, audio("1", 1), audio("1", 2), create_accounts=False) == [UNKNOWN] * 2
            assert dict(ledger.catalog.accounts) == {}
            assert await ledger.event("acme", "test", "1") is None
            await ledger.put_account(Account("acme", 0), actor="test")
            assert await desk.send(ledger, audio("1", 3), create_accounts=False) == ["accepted"]
            assert (await total(ledger)).sum == 3 * SECOND

    @asynchronous
    async def test_an_account_keeps_its_number_through_changes(self, desk: Desk) -> None:
        """An account is changed by name; the number is the ledger's own and the one asked for is ignored."""
        async with desk.open() as ledger:
            first = await ledger.put_account(Account("acme", 77), actor="test")
            other = await ledger.put_account(Account("ada", 77, AccountKind.USER), actor="test")
            wanted = Account("acme", 5, AccountKind.ORG, "Europe/Prague", ("ada",))
            assert first.number != other.number
            assert await ledger.put_account(wanted, actor="test") == replace(wanted, number=first.number)
            assert ledger.catalog.accounts == {"acme": replace(wanted, number=first.number), "ada": other}

    @asynchronous
    async def test_an_account_that_an_event_made_can_be_changed(self, desk: Desk) -> None:
        """Changing an account touches none of its usage."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1"))
            number = ledger.catalog.accounts["acme"].number
            changed = await ledger.put_account(Account("acme", 0, timezone="Asia/Tokyo"), actor="test")
            assert changed == Account("acme", number, timezone="Asia/Tokyo")
            assert await desk.send(ledger, audio("1"), audio("2")) == ["duplicate", "accepted"]
            assert (await total(ledger, accounts=("acme",))).count == 2

    @asynchronous
    async def test_a_key_is_found_by_its_digest_until_it_is_deleted(self, desk: Desk) -> None:
        """A key put is in force at once, and gone at once when deleted; deleting it again says so."""
        key = Key("k1", "ab" * 32, "acme", frozenset({Scope.INGEST, Scope.REPORT}), desk.clock(), desk.clock() + 1)
        async with desk.open() as ledger:
            await ledger.put_account(Account("acme", 0), actor="test")
            assert await ledger.put_key(key, actor="test") is True
            assert dict(ledger.catalog.keys) == {key.digest: key}
            assert await ledger.delete_key("k1", actor="test") is True
            assert dict(ledger.catalog.keys) == {}
            assert await ledger.delete_key("k1", actor="test") is False

    @asynchronous
    async def test_a_key_put_again_replaces_the_one_of_its_id(self, desk: Desk) -> None:
        """With a new digest under an old id the old token is worth nothing; other keys stay."""
        old = Key("k1", "aa" * 32, None, frozenset(Scope), 1)
        new, other = replace(old, digest="bb" * 32, expires=5), replace(old, id="k2", digest="cc" * 32)
        async with desk.open() as ledger:
            for key in (old, other, new):
                await ledger.put_key(key, actor="test")
            assert dict(ledger.catalog.keys) == {new.digest: new, other.digest: other}

    @asynchronous
    async def test_a_key_is_of_an_account_that_exists_and_stays_with_it(self, desk: Desk) -> None:
        """A key of no account there is, or under the id of another account's key, is not added and changes nothing."""
        key = Key("k1", "aa" * 32, "acme", frozenset(Scope), 1)
        async with desk.open() as ledger:
            assert await ledger.put_key(key, actor="test") is False
            for name in ("acme", "globex"):
                await ledger.put_account(Account(name, 0), actor="test")
            assert await ledger.put_key(key, actor="test") is True
            for account in ("globex", None):
                assert await ledger.put_key(replace(key, digest="bb" * 32, account=account), actor="test") is False
            assert dict(ledger.catalog.keys) == {key.digest: key}

    @asynchronous
    async def test_an_account_without_events_and_keys_is_deleted(self, desk: Desk) -> None:
        """It is gone from the catalog at once, while others and the lists that name it as a member stay."""
        async with desk.open() as ledger:
            org = await ledger.put_account(Account("acme", 0, members=("ada", "bob")), actor="test")
            await ledger.put_account(Account("ada", 0, AccountKind.USER), actor="test")
            assert await ledger.delete_account("ada", actor="test") is Deletion.DELETED
            assert ledger.catalog.accounts == {"acme": org}
            assert await ledger.delete_account("ada", actor="test") is Deletion.UNKNOWN
            assert await ledger.delete_account("nobody", actor="test") is Deletion.UNKNOWN
            assert await desk.send(ledger, audio("1", account="ada"), create_accounts=False) == [UNKNOWN]

    @pytest.mark.parametrize(
        "event",
        [
            pytest.param(audio("1"), id="metered"),
            pytest.param(audio("1", status="failed"), id="failed"),
            pytest.param({**audio("1"), "type": "unheard.of"}, id="of no meter"),
        ],
    )
    @asynchronous
    async def test_an_account_with_an_event_is_never_deleted(self, desk: Desk, event: Raw) -> None:
        """Whatever is kept of an account keeps it, whether or not any meter counts it; others' events do not."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1", account="first"), audio("1", account="last"))
            await desk.send(ledger, event)
            await ledger.put_account(Account("empty", 0), actor="test")
            before = ledger.catalog
            assert await ledger.delete_account("acme", actor="test") is Deletion.HAS_EVENTS
            assert ledger.catalog == before
            assert await ledger.delete_account("empty", actor="test") is Deletion.DELETED
            assert await ledger.delete_account("acme", actor="test") is Deletion.HAS_EVENTS
            assert await desk.send(ledger, event) == ["duplicate"]

    @asynchronous
    async def test_an_account_with_a_key_is_not_deleted(self, desk: Desk) -> None:
        """Every key is in the way, valid or not, until it is revoked; the operator's keys are nobody's."""
        async with desk.open() as ledger:
            await ledger.put_account(Account("acme", 0), actor="test")
            await ledger.put_key(Key("op", "aa" * 32, None, frozenset(Scope), 1), actor="test")
            await ledger.put_key(Key("k1", "bb" * 32, "acme", frozenset(Scope), 1, 2), actor="test")
            assert await ledger.delete_account("acme", actor="test") is Deletion.HAS_KEYS
            await desk.send(ledger, audio("1"))
            assert await ledger.delete_account("acme", actor="test") is Deletion.HAS_EVENTS
            await ledger.put_account(Account("ada", 0), actor="test")
            await ledger.put_key(Key("k2", "cc" * 32, "ada", frozenset(Scope), 1), actor="test")
            await ledger.delete_key("k2", actor="test")
            assert await ledger.delete_account("ada", actor="test") is Deletion.DELETED

    @asynchronous
    async def test_a_number_is_never_given_twice(self, desk: Desk) -> None:
        """Neither the last account's nor one in between, whether an event or a call makes the next account."""
        async with desk.open() as ledger:
            numbers = []
            for name in ("a", "b", "c"):
                numbers.append((await ledger.put_account(Account(name, 0), actor="test")).number)
            for name in ("b", "c"):
                await ledger.delete_account(name, actor="test")
            await desk.send(ledger, audio("1", account="c"), audio("2", account="d"))
            numbers += [ledger.catalog.accounts[name].number for name in ("c", "d")]
            numbers.append((await ledger.put_account(Account("b", 0), actor="test")).number)
            assert len(set(numbers)) == len(numbers)
            assert (await total(ledger, accounts=("c",))).count == 1
            assert await total(ledger, accounts=("b",)) == Total()
            assert list((await ledger.verify()).faults) == []

    @asynchronous
    async def test_a_deletion_and_the_events_that_meet_it_never_both_win(self, desk: Desk) -> None:
        """Whichever comes first, no event is kept of an account that is not there, and none is kept twice."""
        async with desk.open() as ledger:
            for n in range(30):
                name = f"org{n}"
                await ledger.put_account(Account(name, 0), actor="test")
                sends = [until_current(desk, ledger, audio(str(i), account=name)) for i in range(3)]
                became, *said = await asyncio.gather(ledger.delete_account(name, actor="test"), *sends)
                there = name in ledger.catalog.accounts
                kept = [said == ["accepted"] for said in said]
                assert all(words in (["accepted"], [UNKNOWN]) for words in said)
                assert (became is Deletion.HAS_EVENTS) == any(kept) == there
                assert (await total(ledger, accounts=(name,))).count == sum(kept)
            assert list((await ledger.verify()).faults) == []

    @asynchronous
    async def test_an_event_that_may_create_its_account_is_kept_though_that_is_deleted(self, desk: Desk) -> None:
        """Deleting what workers still report brings it back with the next event, under another number."""
        async with desk.open() as ledger:
            await ledger.put_account(Account("acme", 0), actor="test")
            sends = [until_current(desk, ledger, audio(str(i)), create_accounts=True) for i in range(8)]
            said = await asyncio.gather(*sends, *(ledger.delete_account("acme", actor="test") for _ in range(4)))
            assert said[:8] == [["accepted"]] * 8
            assert (await total(ledger, accounts=("acme",))).count == 8
            assert list((await ledger.verify()).faults) == []

    @asynchronous
    async def test_a_rotated_key_gives_way_after_an_overlap(self, desk: Desk) -> None:
        """The successor has the account, scopes and expiry of the old key, which ends but is there until then."""
        async with desk.open() as ledger:
            await ledger.put_account(Account("acme", 0), actor="test")
            now = desk.clock()
            old = Key("k1", "aa" * 32, "acme", frozenset({Scope.INGEST}), 1, now + 100)
            await ledger.put_key(old, actor="test")
            wanted = Key("k2", "bb" * 32, None, frozenset(Scope), now, 5)
            new = Key("k2", "bb" * 32, "acme", frozenset({Scope.INGEST}), now, now + 100)
            assert await ledger.rotate_key("k1", wanted, ends=now + 10, actor="test") == new
            ending = replace(old, ends=now + 10)
            assert dict(ledger.catalog.keys) == {old.digest: ending, new.digest: new}
            assert [(ending.is_valid(at), new.is_valid(at)) for at in (now + 9, now + 10, now + 99, now + 100)] == [
                (True, True),
                (False, True),
                (False, True),
                (False, False),
            ]

    @asynchronous
    async def test_a_key_may_be_rotated_again_while_it_is_valid(self, desk: Desk) -> None:
        """Who lost the first successor gets another that lives as long, and the old key never lives longer for it."""
        async with desk.open() as ledger:
            await ledger.put_key(Key("k1", "aa" * 32, None, frozenset(Scope), 1), actor="test")
            for n, ends in enumerate((50, 90, 20)):
                successor = Key(f"k{n + 2}", f"{n}b" * 32, None, frozenset(), 10)
                kept = await ledger.rotate_key("k1", successor, ends=ends, actor="test")
                assert kept == replace(successor, scopes=frozenset(Scope))
                ends_at = {key.id: key.valid_until for key in ledger.catalog.keys.values()}
                assert ends_at["k1"] == min(ends, 50)
                assert ends_at[f"k{n + 2}"] is None

    @asynchronous
    async def test_only_a_valid_key_is_rotated(self, desk: Desk) -> None:
        """One that is unknown, expired or at its overlap's end has no successor, and none takes another key's id."""
        async with desk.open() as ledger:
            await ledger.put_key(Key("k1", "aa" * 32, None, frozenset(Scope), 1, 10), actor="test")
            await ledger.put_key(Key("k2", "bb" * 32, None, frozenset(Scope), 1), actor="test")
            await ledger.rotate_key("k2", Key("k3", "cc" * 32, None, frozenset(), 2), ends=10, actor="test")
            before = ledger.catalog
            for id, successor in (("k3", "k1"), ("k3", "k3")):
                taken = Key(successor, "99" * 32, None, frozenset(), 2)
                assert await ledger.rotate_key(id, taken, ends=20, actor="test") is None
            for id in ("k1", "k2", "nobody"):
                late = Key("k9", "99" * 32, None, frozenset(), 10)
                assert await ledger.rotate_key(id, late, ends=20, actor="test") is None
            assert ledger.catalog == before

    @asynchronous
    async def test_the_last_use_of_a_key_is_known_at_once(self, desk: Desk) -> None:
        """It is no change to the catalog or the log; a key that was never used has none."""
        async with desk.open() as ledger:
            await ledger.put_key(Key("k1", "aa" * 32, None, frozenset(Scope), 1), actor="test")
            head = await ledger.verify()
            assert dict(ledger.key_uses) == {}
            for at in (7, 9):
                ledger.note_key_use("k1", at)
                assert dict(ledger.key_uses) == {"k1": at}
            assert await ledger.verify() == head

    @asynchronous
    async def test_a_catalog_is_a_value_that_never_changes(self, desk: Desk) -> None:
        """Who holds a catalog keeps what it says; accounts and keys replace it without making batches stale."""
        async with desk.open() as ledger:
            before = ledger.catalog
            batch = desk.batch(ledger, audio("1"))
            await ledger.put_account(Account("acme", 0), actor="test")
            await ledger.put_key(Key("k1", "aa" * 32, "acme", frozenset(Scope), 1), actor="test")
            assert (dict(before.accounts), dict(before.keys)) == ({}, {})
            assert ledger.catalog.version == before.version
            assert await ledger.commit(batch) == {}


class Audit:
    """Who changed what."""

    @asynchronous
    async def test_every_change_says_who_when_and_what_it_was_before(self, desk: Desk) -> None:
        """The newest change comes first; a key is shown without its digest, wherever it stands."""
        async with desk.open() as ledger:
            acme = await ledger.put_account(Account("acme", 0), actor="anna")
            await ledger.put_account(acme, actor="nobody, for nothing changes")
            desk.clock.advance(1)
            moved = await ledger.put_account(Account("acme", 0, timezone="Asia/Tokyo", members=("ada",)), actor="bob")
            key = Key("k1", "aa" * 32, "acme", frozenset({Scope.REPORT}), 5)
            await ledger.put_key(key, actor="anna")
            await ledger.put_key(replace(key, digest="bb" * 32, expires=9), actor="bob")
            await ledger.rotate_key("k1", Key("k2", "cc" * 32, None, frozenset(), 6), ends=8, actor="cleo")
            await ledger.delete_key("k1", actor="anna")
            await ledger.put_account(Account("ada", 0, AccountKind.USER), actor="anna")
            await ledger.delete_account("ada", actor="bob")
            page = await ledger.audit(AuditQuery(100))
            ada = Account("ada", 2, AccountKind.USER)
            shown = replace(key, digest="")
            brief = replace(shown, expires=9)
            assert [(r.actor, r.action, r.target, r.account, r.number, r.before, r.after) for r in page.records] == [
                ("bob", "account.delete", "ada", "ada", 2, ada, None),
                ("anna", "account.put", "ada", "ada", 2, None, ada),
                ("anna", "key.delete", "k1", "acme", 1, replace(brief, ends=8), None),
                ("cleo", "key.rotate", "k1", "acme", 1, brief, replace(brief, id="k2", created=6)),
                ("cleo", "key.put", "k1", "acme", 1, brief, replace(brief, ends=8)),
                ("bob", "key.put", "k1", "acme", 1, shown, brief),
                ("anna", "key.put", "k1", "acme", 1, None, shown),
                ("bob", "account.put", "acme", "acme", 1, acme, moved),
                ("anna", "account.put", "acme", "acme", 1, None, acme),
            ]
            assert page.next is None
            assert [r.time for r in page.records] == [desk.clock()] * 8 + [desk.clock() - SECOND]
            places = [r.place for r in page.records]
            assert places == sorted(places, reverse=True)
            assert places[3][0] == places[4][0], "a rotation is one entry"

    @asynchronous
    async def test_what_changed_nothing_is_not_in_it(self, desk: Desk) -> None:
        """Refusals and repeats leave no trace, and neither do events of accounts that are there."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1"))
            before = await ledger.audit(AuditQuery(100))
            await desk.send(ledger, audio("1"), audio("2"), audio("2", 5))
            await ledger.put_account(Account("acme", 0), actor="test")
            await ledger.delete_account("acme", actor="test")
            await ledger.delete_key("nobody", actor="test")
            await ledger.put_key(Key("k", "aa" * 32, "nobody", frozenset(Scope), 1), actor="test")
            assert await ledger.audit(AuditQuery(100)) == before
            (made,) = before.records
            assert (made.actor, made.action, made.target) == ("event", "account.put", "acme")

    @asynchronous
    async def test_an_account_sees_what_concerns_it_and_not_who_had_its_name_before(self, desk: Desk) -> None:
        """By name all that ever had it are meant, by number one of them; the operator's own keys are in neither."""
        async with desk.open() as ledger:
            for n in range(2):
                await ledger.put_account(Account("acme", 0, members=(f"member{n}",)), actor="test")
                await ledger.put_key(Key(f"k{n}", f"{n}a" * 32, "acme", frozenset(Scope), 1), actor="test")
                await ledger.delete_key(f"k{n}", actor="test")
                await ledger.delete_account("acme", actor="test")
            await ledger.put_account(Account("globex", 0), actor="test")
            await ledger.put_key(Key("op", "aa" * 32, None, frozenset(Scope), 1), actor="test")
            everything = await ledger.audit(AuditQuery(100))
            assert [r.number for r in everything.records] == [0, 3, 2, 2, 2, 2, 1, 1, 1, 1]
            by_name = await ledger.audit(AuditQuery(100, account="acme"))
            assert [r.number for r in by_name.records] == [2, 2, 2, 2, 1, 1, 1, 1]
            by_number = await ledger.audit(AuditQuery(100, account="acme", number=2))
            assert list(by_number.records) == list(by_name.records[:4])
            assert await ledger.audit(AuditQuery(100, account="globex", number=2)) == AuditPage([])

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    @asynchronous
    async def test_pages_skip_and_repeat_nothing(self, desk: Desk, limit: int) -> None:
        """However small the pages, and whatever is changed between them, all that was there comes once, in order."""
        async with desk.open() as ledger:
            await desk.send(ledger, *(audio(str(n), account=f"org{n}") for n in range(5)))
            await ledger.put_key(Key("k1", "aa" * 32, "org1", frozenset(Scope), 1), actor="test")
            await ledger.rotate_key("k1", Key("k2", "bb" * 32, None, frozenset(), 2), ends=5, actor="test")
            whole = (await ledger.audit(AuditQuery(100))).records
            seen: list[AuditRecord] = []
            before = None
            while True:
                page = await ledger.audit(AuditQuery(limit, before=before))
                assert len(page.records) <= limit
                seen += page.records
                before = page.next
                if before is None:
                    break
                await ledger.put_account(Account("late", 0, timezone=["UTC", "Asia/Tokyo"][len(seen) % 2]), actor="x")
            assert len(whole) == 8
            assert seen == list(whole)


class LabelSets:
    """The bound on label sets."""

    @asynchronous
    async def test_label_sets_are_bounded_and_never_folded(self, desk: Desk) -> None:
        """One label set too many is refused, known ones go on, and the totals are those of what was accepted."""
        async with desk.open(label_sets_max=2) as ledger:
            sent = [audio(f"{n}", 2**n, language=language) for n, language in enumerate(["a", "b", "c", "a", None])]
            assert await desk.send(ledger, *sent) == ["accepted", "accepted", EXCEEDED, "accepted", EXCEEDED]
            assert lines(await usage(ledger, group_by=("language",))) == [
                (0, "a", 2, 9 * SECOND),
                (0, "b", 1, 2 * SECOND),
            ]

    @asynchronous
    async def test_an_event_refused_for_its_labels_claims_nothing(self, desk: Desk) -> None:
        """Such an event may be sent again, is not kept, and its id is free for one that fits."""
        async with desk.open(label_sets_max=1) as ledger:
            await desk.send(ledger, audio("1", language="a"))
            before = await usage(ledger)
            for _ in range(2):
                assert await desk.send(ledger, audio("2", language="b")) == [EXCEEDED]
            assert await ledger.event("acme", "test", "2") is None
            assert await usage(ledger) == before
            assert await desk.send(ledger, audio("2", language="a")) == ["accepted"]
            assert await desk.send(ledger, audio("2", language="b")) == [CONFLICT]

    @asynchronous
    async def test_the_bound_is_per_account_meter_and_month_of_the_event(self, desk: Desk) -> None:
        """Another account, another meter and another UTC month each have room of their own, to the microsecond."""
        async with desk.open(label_sets_max=1) as ledger:
            assert await desk.send(ledger, audio("1", at="2024-02-29T23:59:59.999999Z", language="a")) == ["accepted"]
            sent = [
                audio("2", at="2024-02-01T00:00:00Z", language="b"),
                audio("3", at="2024-03-01T00:00:00Z", language="b"),
                audio("4", at="2024-01-31T23:59:59.999999Z", language="b"),
                audio("5", at="2023-02-10T00:00:00Z", language="b"),
                audio("6", at="2024-03-01T00:59:00+01:00", language="b"),
                audio("7", at="2024-02-10T00:00:00Z", language="b", account="globex"),
                {**tokens("8", 1, 1, model="m"), "time": "2024-02-10T00:00:00Z"},
            ]
            said = [EXCEEDED, "accepted", "accepted", "accepted", EXCEEDED, "accepted", "accepted"]
            assert await desk.send(ledger, *sent) == said

    @asynchronous
    async def test_an_event_without_usage_needs_no_label_set(self, desk: Desk) -> None:
        """What is not metered is kept however many label sets there are."""
        async with desk.open(label_sets_max=1) as ledger:
            sent = [audio("1", language="a"), audio("2", language="b", status="failed")]
            assert await desk.send(ledger, *sent) == ["accepted", "accepted"]

    @asynchronous
    async def test_the_order_of_names_makes_no_label_set(self, desk: Desk) -> None:
        """Labels are the same set however the event lists them."""
        async with desk.open(label_sets_max=1) as ledger:
            one, other = audio("1", language="a", mode="b"), audio("2", mode="b", language="a")
            assert await desk.send(ledger, one, other) == ["accepted", "accepted"]


class Counting:
    """What an event adds to the meters."""

    @asynchronous
    async def test_only_success_is_counted_and_everything_is_kept(self, desk: Desk) -> None:
        """Failed, rejected and cancelled work can be looked up, and adds nothing."""
        statuses = ["success", "failed", "rejected", "cancelled", None]
        async with desk.open() as ledger:
            sent = [audio(f"{n}", 2**n, status=status) for n, status in enumerate(statuses)]
            assert await desk.send(ledger, *sent) == ["accepted"] * 5
            assert await total(ledger) == Total(2, 17 * SECOND, 1 * SECOND, 16 * SECOND)
            assert all([await ledger.event("acme", "test", str(n)) for n in range(5)])

    @asynchronous
    async def test_an_event_that_no_meter_knows_is_kept(self, desk: Desk) -> None:
        """An unknown type is no error: it is accepted, found by identity and counted nowhere."""
        event = {**audio("1"), "type": "unheard.of", "data": {"anything": [1]}}
        async with desk.open() as ledger:
            assert await desk.send(ledger, event) == ["accepted"]
            assert (await usage(ledger)).rows == []
            kept = await ledger.event("acme", "test", "1")
            assert kept is not None
            assert json.loads(kept.raw) == event

    @asynchronous
    async def test_one_event_may_feed_several_meters(self, desk: Desk) -> None:
        """A model request counts tokens in and tokens out, each under its own meter."""
        async with desk.open() as ledger:
            await desk.send(ledger, tokens("1", 4808, 10, model="m"), tokens("2", 3180, 8, model="m"))
            assert await total(ledger, meter="tokens_in") == Total(2, 7988, 3180, 4808)
            assert await total(ledger, meter="tokens_out") == Total(2, 18, 8, 10)
            assert await total(ledger) == Total()

    @asynchronous
    async def test_count_sum_least_and_greatest_are_of_postings(self, desk: Desk) -> None:
        """Zero is a quantity like any other: it is counted and can be the least."""
        async with desk.open() as ledger:
            await desk.send(ledger, *(audio(str(n), q) for n, q in enumerate(["0", "0.000001", "3", "2.5"])))
            assert await total(ledger) == Total(4, 5_500_001, 0, 3 * SECOND)

    @asynchronous
    async def test_quantities_are_exact_as_numbers_texts_and_durations(self, desk: Desk) -> None:
        """Digits are rounded half up to the meter's scale once, in decimal, in whatever form they come."""
        forms = {
            "1.0000005": 1_000_001,
            "1.0000004999999999999999": 1_000_000,
            "PT1H30M0.5S": 5_400_500_000,
            "P1W": 604_800_000_000,
            "P1DT1S": 86_401_000_000,
            "0.1": 100_000,
            "1e-6": 1,
        }
        async with desk.open() as ledger:
            for form, amount in forms.items():
                await desk.send(ledger, audio(form, form, model=form))
                found = await total(ledger, where={"model": {form}})
                assert (form, found.sum) == (form, amount)

    @asynchronous
    async def test_a_sum_past_64_bits_is_exact(self, desk: Desk) -> None:
        """Twenty-five times the greatest quantity, and one microsecond: no wrapping and no floating point."""
        events = [audio(str(n), 10**12, language="ab"[n % 2]) for n in range(25)]
        async with desk.open() as ledger:
            await desk.send(ledger, *events[:3])
            await desk.send(ledger, *events[3:], audio("tiny", "0.000001", language="a"))
            assert await total(ledger) == Total(26, 25 * 10**18 + 1, 1, 10**18)
            assert lines(await usage(ledger, group_by=("language",))) == [
                (0, "a", 14, 13 * 10**18 + 1),
                (0, "b", 12, 12 * 10**18),
            ]


class Time:
    """Where usage counts."""

    @asynchronous
    async def test_a_bucket_has_its_first_instant_and_not_its_last(self, desk: Desk) -> None:
        """Ranges are half open, to the microsecond, at every kind of edge."""
        marks = [
            "2024-02-29T00:00:00.000000Z",
            "2024-02-29T10:07:00.000000Z",
            "2024-02-29T10:15:00.000000Z",
            "2024-03-01T00:00:00.000000Z",
            "2024-03-01T00:00:00.000001Z",
            "2024-04-01T00:00:00.000000Z",
        ]
        async with desk.open() as ledger:
            for mark in marks:
                before, after = text_of(instant(mark) - 1), text_of(instant(mark) + 1)
                await desk.send(ledger, *(audio(f"{mark} {n}", 1, at=at) for n, at in enumerate([before, mark, after])))
            times = sorted(instant(mark) + shift for mark in marks for shift in (-1, 0, 1))
            for start in marks:
                for end in marks[marks.index(start) + 1 :]:
                    inside = sum(instant(start) <= time < instant(end) for time in times)
                    assert (start, end, (await total(ledger, start, end)).count) == (start, end, inside)

    @asynchronous
    async def test_time_reaches_from_year_one_to_year_9999(self, desk: Desk) -> None:
        """Usage of any age counts where it belongs, before 1970 and before any calendar reform too."""
        desk.clock.now = instant("9999-12-30T12:00:00Z")
        times = [
            "0001-01-02T00:00:00Z",
            "1582-10-10T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00Z",
            "9999-12-30T11:59:59.999999Z",
        ]
        async with desk.open() as ledger:
            await desk.send(ledger, *(audio(at, 2**n, at=at) for n, at in enumerate(times)))
            assert (await total(ledger)).sum == 31 * SECOND
            for n, at in enumerate(times):
                assert (await total(ledger, at, text_of(instant(at) + 1))).sum == 2**n * SECOND
            assert lines(await usage(ledger, FIRST, "1970-01-01T00:00:00Z", LAST)) == [
                (0, 3, 7 * SECOND),
                (1, 2, 24 * SECOND),
            ]

    @asynchronous
    async def test_an_event_counts_at_its_own_time_however_late_it_comes(self, desk: Desk) -> None:
        """A report over a past month grows when work of that month is reported at last."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("now", 1))
            assert (await total(ledger, "2021-01-01T00:00:00Z", "2021-02-01T00:00:00Z")).count == 0
            await desk.send(ledger, audio("late", 2, at="2021-01-15T10:07:00Z"))
            assert (await total(ledger, "2021-01-01T00:00:00Z", "2021-02-01T00:00:00Z")).sum == 2 * SECOND
            assert (await total(ledger, "2024-05-01T12:00:00Z", "2024-05-01T12:00:00.000001Z")).sum == SECOND

    @pytest.mark.parametrize("seed", range(3))
    @asynchronous
    async def test_any_edges_add_up_to_what_lies_between_them(self, desk: Desk, seed: int) -> None:
        """Buckets of any width and alignment hold exactly the events whose time is inside."""
        chance = random.Random(seed)
        events = [(chance.choice(MOMENTS) + chance.randint(-1, 1), chance.randint(0, 10**9)) for _ in range(150)]
        async with desk.open() as ledger:
            for start in range(0, len(events), 40):
                part = enumerate(events[start : start + 40], start)
                await desk.send(ledger, *(audio(str(n), q / 10**6, at=text_of(time)) for n, (time, q) in part))
            for _ in range(25):
                cuts = sorted({chance.choice(MOMENTS) + chance.choice([-1, 0, 0, 1, 10**8]) for _ in range(12)})
                table = (await ledger.usage([UsageQuery("audio", None, np.array(cuts, np.int64))]))[0]
                assert {row.bucket: row.total for row in table.rows} == bucketed(events, cuts)

    @asynchronous
    async def test_fewer_than_two_edges_hold_nothing(self, desk: Desk) -> None:
        """Without two edges there is no bucket, and the answer is empty."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1"))
            empty, one = np.array([], np.int64), np.array([instant("2024-05-01T12:00:00Z")], np.int64)
            tables = await ledger.usage([UsageQuery("audio", None, empty), UsageQuery("audio", None, one)])
            assert [(list(table.rows), table.total) for table in tables] == [([], Total())] * 2


class Questions:
    """What can be asked, and how answers are laid out."""

    @asynchronous
    async def test_groups_are_ordered_by_bucket_then_absent_first_then_code_points(self, desk: Desk) -> None:
        """An absent label, an empty one and letters of every plane stand in one fixed order."""
        values = [None, "", " ", "B", "a", "é", "\uffee", "\U0001f600"]
        async with desk.open() as ledger:
            days = ["2024-04-02T10:00:00Z", "2024-04-01T10:00:00Z"]
            for day in days:
                await desk.send(ledger, *(audio(f"{day}{v}", at=day, language=v) for v in reversed(values)))
            april = ("2024-04-01T00:00:00Z", "2024-04-02T00:00:00Z", "2024-04-03T00:00:00Z")
            table = await usage(ledger, *april, group_by=("language",))
            assert [(row.bucket, row.labels[0]) for row in table.rows] == [(b, v) for b in (0, 1) for v in values]

    @asynchronous
    async def test_labels_follow_the_order_they_are_asked_in(self, desk: Desk) -> None:
        """Rows name their values as the question names the labels, the account among them, and sort by them."""
        async with desk.open() as ledger:
            await desk.send(
                ledger,
                audio("1", 1, account="b", language="x", mode="2"),
                audio("2", 2, account="a", language="y", mode="1"),
                audio("3", 4, account="b", language="x", mode="1"),
                audio("4", 8, account="a", language="x"),
            )
            assert lines(await usage(ledger, group_by=("mode", "account"))) == [
                (0, None, "a", 1, 8 * SECOND),
                (0, "1", "a", 1, 2 * SECOND),
                (0, "1", "b", 1, 4 * SECOND),
                (0, "2", "b", 1, 1 * SECOND),
            ]
            assert lines(await usage(ledger, group_by=("account", "language"))) == [
                (0, "a", "x", 1, 8 * SECOND),
                (0, "a", "y", 1, 2 * SECOND),
                (0, "b", "x", 2, 5 * SECOND),
            ]

    @asynchronous
    async def test_parts_add_up_in_every_grouping(self, desk: Desk) -> None:
        """The rows make up the total, whatever the groups and buckets: count, sum, least and greatest."""
        april = [f"2024-04-{day:02}T00:00:00Z" for day in range(1, 30)]
        async with desk.open() as ledger:
            await desk.send(ledger, *(labelled(n) for n in range(120)))
            whole = await total(ledger, april[0], april[-1])
            for group_by in [(), ("account",), ("language", "mode"), ("tags", "account", "space")]:
                table = await usage(ledger, *april, group_by=group_by)
                assert table.total == whole
                assert sum(row.total.count for row in table.rows) == whole.count
                assert sum(row.total.sum for row in table.rows) == whole.sum
                assert min(row.total.min for row in table.rows if row.total.min is not None) == whole.min
                assert max(row.total.max for row in table.rows if row.total.max is not None) == whole.max

    @asynchronous
    async def test_a_filter_keeps_the_values_wanted(self, desk: Desk) -> None:
        """Any of the values of a label will do, every label filtered must fit, and the empty one means absent too."""
        async with desk.open() as ledger:
            sent = [("en", "batch"), ("en", ""), ("cs", None), ("", "batch"), (None, "live")]
            await desk.send(
                ledger, *(audio(str(n), 2**n, language=lang, mode=mode) for n, (lang, mode) in enumerate(sent))
            )
            asked: list[tuple[dict[str, set[str]], int]] = [
                ({"language": {"en"}}, 0b00011),
                ({"language": {"en", "cs"}}, 0b00111),
                ({"language": {""}}, 0b11000),
                ({"mode": {""}}, 0b00110),
                ({"mode": {"", "live"}}, 0b10110),
                ({"language": {"en"}, "mode": {"batch"}}, 0b00001),
                ({"language": {""}, "mode": {""}}, 0),
                ({"language": {"EN", "e", "en "}}, 0),
                ({"language": set()}, 0),
                ({"technology": {""}}, 0b11111),
            ]
            for where, seconds in asked:
                assert (where, (await total(ledger, where=where)).sum) == (where, seconds * SECOND)

    @asynchronous
    async def test_a_filter_may_be_on_what_is_grouped_by(self, desk: Desk) -> None:
        """Absent and empty pass one filter and stay two groups."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1", 1), audio("2", 2, mode=""), audio("3", 4, mode="live"))
            table = await usage(ledger, group_by=("mode",), where={"mode": {""}})
            assert lines(table) == [(0, None, 1, SECOND), (0, "", 1, 2 * SECOND)]

    @asynchronous
    async def test_absent_and_empty_are_one_group_where_that_is_asked(self, desk: Desk) -> None:
        """Of the labels that are to be blank where they are absent; the others keep the two apart."""
        async with desk.open() as ledger:
            sent = [(None, None), ("", None), ("en", None), ("en", ""), (None, ""), ("", "live"), (None, "live")]
            await desk.send(
                ledger, *(audio(str(n), 2**n, language=lang, mode=mode) for n, (lang, mode) in enumerate(sent))
            )
            asked = query(group_by=("language", "mode"))
            some, every = await ledger.usage(
                [replace(asked, blank=frozenset({"mode"})), replace(asked, blank=frozenset({"mode", "language"}))]
            )
            assert lines(some) == [
                (0, None, "", 2, 0b0010001 * SECOND),
                (0, None, "live", 1, 0b1000000 * SECOND),
                (0, "", "", 1, 0b0000010 * SECOND),
                (0, "", "live", 1, 0b0100000 * SECOND),
                (0, "en", "", 2, 0b0001100 * SECOND),
            ]
            assert lines(every) == [
                (0, "", "", 3, 0b0010011 * SECOND),
                (0, "", "live", 2, 0b1100000 * SECOND),
                (0, "en", "", 2, 0b0001100 * SECOND),
            ]

    @asynchronous
    async def test_rows_give_labels_count_and_sum_at_once(self, desk: Desk) -> None:
        """A table's amounts are its rows', and any part of its rows is like the whole."""
        async with desk.open() as ledger:
            await desk.send(ledger, *(labelled(n) for n in range(30)))
            table = await usage(ledger, group_by=("language", "mode"))
            rows = list(table.rows)
            assert [(row.labels, row.total.count, row.total.sum) for row in rows] == list(table.amounts)
            assert list(table.rows[1:-1]) == rows[1:-1]
            assert [table.rows[at] for at in range(-1, len(rows))] == [rows[-1], *rows]

    @asynchronous
    async def test_only_the_accounts_asked_for_are_in_the_answer(self, desk: Desk) -> None:
        """No list means all, an empty one nobody; naming an account twice or one that is not there adds nothing."""
        async with desk.open() as ledger:
            await desk.send(ledger, *(audio("1", 2**n, account=f"org{n}") for n in range(3)))
            asked: list[tuple[tuple[str, ...] | None, int]] = [
                (None, 7),
                ((), 0),
                (("org1",), 2),
                (("org2", "org0"), 5),
                (("org0", "org0"), 1),
                (("nobody", "org1"), 2),
                (("nobody",), 0),
            ]
            for accounts, seconds in asked:
                assert (accounts, (await total(ledger, accounts=accounts)).sum) == (accounts, seconds * SECOND)

    @asynchronous
    async def test_what_does_not_exist_has_no_usage(self, desk: Desk) -> None:
        """A meter or label that nobody defined gives an empty answer, never an error or everything."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1"))
            queries = [
                query(meter="unheard_of"),
                query(group_by=("unheard_of",)),
                query(group_by=("language", "unheard_of")),
                query(where={"unheard_of": {""}}),
            ]
            tables = await ledger.usage(queries)
            assert [(list(table.rows), table.total) for table in tables] == [([], Total())] * 4
            assert {table.as_of for table in tables} == {AsOf(1, desk.clock())}

    @asynchronous
    async def test_labels_are_kept_as_the_meter_says(self, desk: Desk) -> None:
        """Texts as sent, numbers in shortest decimal, truth in words, tags as sorted letters, the space resolved."""
        forms: list[tuple[str, Any, str | None]] = [
            ("model", " Ťhe  Model ", " Ťhe  Model "),
            ("license", 1.50, "1.5"),
            ("billing", 1e3, "1000"),
            ("operation", True, "true"),
            ("operation", False, "false"),
            ("tags", "RG*", "*GR"),
            ("tags", ["realtime", "gender", "realtime"], "GR"),
            ("tags", "", ""),
            ("vendor", None, None),
        ]
        async with desk.open() as ledger:
            for n, (name, value, kept) in enumerate(forms):
                await desk.send(ledger, audio("1", account=f"org{n}", **{name: value}))
                table = await usage(ledger, accounts=(f"org{n}",), group_by=(name,))
                assert (name, [row.labels for row in table.rows]) == (name, [(kept,)])

    @asynchronous
    async def test_the_space_is_a_label_wherever_it_is_named(self, desk: Desk) -> None:
        """Outright, in the data, as a dataset or after the account in the subject, in this order."""
        ways: list[tuple[dict[str, Any], str | None]] = [
            ({"space": "a", "subject": "acme/z", "data": {"duration": 1, "space": "y", "dataset": "x"}}, "a"),
            ({"subject": "acme/z", "data": {"duration": 1, "space": "b", "dataset": "x"}}, "b"),
            ({"subject": "acme/z", "data": {"duration": 1, "dataset": "c"}}, "c"),
            ({"subject": "acme/d/e"}, "d/e"),
            ({"subject": "other/d"}, None),
            ({"subject": "acme"}, None),
        ]
        async with desk.open() as ledger:
            for n, (way, space) in enumerate(ways):
                await desk.send(ledger, {**audio(str(n), at=text_of(desk.clock() - n * SECOND)), **way})
                start = text_of(desk.clock() - n * SECOND)
                table = await usage(ledger, start, text_of(instant(start) + 1), group_by=("space",))
                assert (n, [row.labels for row in table.rows]) == (n, [(space,)])

    @asynchronous
    async def test_several_questions_are_answered_from_one_moment(self, desk: Desk) -> None:
        """While commits go on, two tables of one call always tell of the same events, and of whole commits."""
        async with desk.open() as ledger:

            async def write() -> None:
                for n in range(60):
                    await desk.send(
                        ledger, audio(f"{n} a", language="a"), audio(f"{n} b", language="b", account="beta")
                    )

            async def ask() -> None:
                while not writing.done():
                    await asyncio.sleep(0)
                    by_language, whole, beta = await ledger.usage(
                        [query(group_by=("language",)), query(), query(accounts=("beta",))]
                    )
                    assert by_language.as_of == whole.as_of == beta.as_of
                    assert by_language.total == whole.total
                    assert whole.total.count == whole.as_of.sequence
                    assert abs(whole.total.count - 2 * beta.total.count) <= desk.is_split

            writing = asyncio.create_task(write())
            await asyncio.gather(ask(), ask(), writing)
            assert (await total(ledger)).count == 120

    @asynchronous
    async def test_as_of_grows_with_every_event_kept_and_only_then(self, desk: Desk) -> None:
        """An answer says up to which event it counts and when that was recorded."""
        async with desk.open() as ledger:
            assert (await usage(ledger)).as_of == AsOf(0, 0)
            await desk.send(ledger, audio("1"), audio("2", status="failed"), audio("1"))
            first = desk.clock()
            assert (await usage(ledger)).as_of == AsOf(2, first)
            desk.clock.advance(60)
            await desk.send(ledger, audio("1"), audio("2"))
            assert (await usage(ledger)).as_of == AsOf(2, first)
            await desk.send(ledger, audio("3", at="2020-01-01T00:00:00Z"))
            assert (await usage(ledger)).as_of == AsOf(3, desk.clock())

    @asynchronous
    async def test_how_far_an_answer_would_count_is_known_without_it(self, desk: Desk) -> None:
        """As of the same sequence as the answer itself."""
        async with desk.open() as ledger:
            for n in range(3):
                assert await ledger.as_of([query()]) == (await usage(ledger)).as_of
                await desk.send(ledger, audio(str(n)))
            assert (await ledger.as_of([query(), query(accounts=("nobody",))])).sequence == 3

    @asynchronous
    async def test_a_table_with_more_rows_than_allowed_is_refused(self, desk: Desk) -> None:
        """As many as allowed are answered; the rows of all buckets count together."""
        cuts = ("2024-04-01T00:00:00Z", "2024-04-02T00:00:00Z", "2024-04-20T00:00:00Z")
        async with desk.open() as ledger:
            await desk.send(ledger, *(labelled(n) for n in range(60)))
            asked = query(*cuts, group_by=("language", "account"))
            rows = len((await ledger.usage([asked]))[0].rows)
            assert rows > 12
            assert len((await ledger.usage([replace(asked, rows_max=rows)]))[0].rows) == rows
            with pytest.raises(Problem) as caught:
                await ledger.usage([query(), replace(asked, rows_max=rows - 1)])
            assert caught.value.code is Code.ROWS_EXCEEDED
            assert f"more than {rows - 1} rows" in caught.value.detail


class KeptEvents:
    """Events, found again by identity."""

    @asynchronous
    async def test_an_event_is_kept_byte_for_byte(self, desk: Desk) -> None:
        """What was sent can be had again as it was sent, with its place, its time and when it was recorded."""
        raw = (
            raw_of(audio("1", at="2024-04-30T12:00:00.1234567+02:00")).replace(b", ", b" ,\t").replace(b"60", b"6.00e1")
        )
        async with desk.open() as ledger:
            await desk.send(ledger, audio("0"), raw)
            time = instant("2024-04-30T10:00:00.123456Z")
            assert await ledger.event("acme", "test", "1") == KeptEvent(2, desk.clock(), "acme", time, raw)

    @asynchronous
    async def test_an_event_is_found_by_its_whole_identity_only(self, desk: Desk) -> None:
        """Another account, source or id finds nothing, whether the account exists or not."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1"), audio("2", account="globex"))
            for identity in [("globex", "test", "1"), ("acme", "tes", "1"), ("acme", "test", "2"), ("no", "test", "1")]:
                assert await ledger.event(*identity) is None

    @asynchronous
    async def test_many_and_large_events_are_kept_in_order(self, desk: Desk) -> None:
        """Sequence numbers follow the order of the batch without gaps, whatever the events' sizes."""
        sizes = [random.Random(5).choice([1, 10, 1000, 100_000]) for _ in range(60)]
        events = [audio(str(n), comment="ž" * size) for n, size in enumerate(sizes)]
        async with desk.open() as ledger:
            await desk.send(ledger, *events)
            for n, event in enumerate(events):
                kept = await ledger.event("acme", "test", str(n))
                assert kept is not None
                assert (kept.sequence, kept.raw) == (n + 1, raw_of(event))
            assert set(await desk.send(ledger, *reversed(events))) == {"duplicate"}


class Listings:
    """Kept events, listed."""

    @asynchronous
    async def test_an_event_is_listed_with_its_place_and_what_it_fed(self, desk: Desk) -> None:
        """Newest first: the bytes that were sent, whose they are, and each posting; ordered by meter."""
        raw = raw_of({**audio("1", "1.5", language="en"), "subject": "acme/lab"}).replace(b": ", b" : \n")
        async with desk.open() as ledger:
            await desk.send(ledger, raw)
            recorded = desk.clock()
            desk.clock.advance(60)
            others = (tokens("2", 3, 4, account="globex"), audio("3", at="2024-04-30T10:00:00.000001Z"))
            await desk.send_in_order(ledger, *others)
            page = await ledger.events(EventQuery(None))
            assert page.next is None
            assert page.as_of == AsOf(3, desk.clock())
            labels = (("language", "en"), ("space", "lab"))
            assert page.rows[2] == EventRow(
                1, recorded, "acme", "lab", recorded, raw, True, (Posting("audio", 1, labels, 1_500_000),)
            )
            assert [(row.sequence, row.recorded, row.account, row.space) for row in page.rows[:2]] == [
                (3, desk.clock(), "acme", None),
                (2, desk.clock(), "globex", None),
            ]
            assert page.rows[0].time == instant("2024-04-30T10:00:00.000001Z")
            model = (("model", "m"),)
            assert page.rows[1].postings == (Posting("tokens_in", 1, model, 3), Posting("tokens_out", 1, model, 4))

    @asynchronous
    async def test_a_listed_event_says_whether_it_is_metered(self, desk: Desk) -> None:
        """As its receipt did: what failed and what no meter knows feeds nothing."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1"), audio("2", status="failed"), {**audio("3"), "type": "unheard.of"})
            rows = (await ledger.events(EventQuery(None, oldest_first=True))).rows
            assert [(row.metered, len(row.postings)) for row in rows] == [(True, 1), (False, 0), (False, 0)]

    @pytest.mark.parametrize(
        ("asked", "ids"),
        [
            ({}, "fedcba"),
            ({"oldest_first": True}, "abcdef"),
            ({"accounts": ("acme",)}, "fdba"),
            ({"accounts": ("globex", "acme", "nobody")}, "fedcba"),
            ({"accounts": ("nobody",)}, ""),
            ({"accounts": ()}, ""),
            ({"type": "audio.processed"}, "fecba"),
            ({"type": "model.request"}, "d"),
            ({"type": "audio"}, ""),
            ({"space": "lab"}, "cb"),
            ({"space": "Lab"}, ""),
            ({"space": "1.5"}, "e"),
            ({"subject": "acme/lab"}, "b"),
            ({"subject": "acme"}, ""),
            ({"subject": "acme/lab", "space": "lab", "id": "c"}, ""),
            ({"id": "c"}, "c"),
            ({"id": "c", "accounts": ("acme",)}, ""),
            ({"id": "zz"}, ""),
            ({"id": 'é"/'}, ""),
            ({"start": instant("2024-04-02T00:00:00Z")}, "fedcb"),
            ({"end": instant("2024-04-02T00:00:00Z")}, "a"),
            ({"start": instant("2024-04-02T00:00:00Z"), "end": instant("2024-04-02T00:00:00.000001Z")}, "b"),
            ({"start": instant("2024-04-02T00:00:00.000001Z"), "end": instant("2024-04-03T00:00:00Z")}, ""),
            ({"after": 2}, "fedc"),
            ({"through": 4}, "dcba"),
            ({"after": 1, "through": 3, "oldest_first": True}, "bc"),
            ({"after": 3, "through": 3}, ""),
            ({"after": 99}, ""),
            ({"through": 99}, "fedcba"),
        ],
    )
    @asynchronous
    async def test_only_what_is_asked_for_is_listed(self, desk: Desk, asked: dict[str, Any], ids: str) -> None:
        """Every part of a query narrows the list, exactly, whatever the size of the pages."""
        events = [
            audio("a", at="2024-04-01T00:00:00Z"),
            {**audio("b", at="2024-04-02T00:00:00Z"), "subject": "acme/lab"},
            audio("c", account="globex", at="2024-04-03T00:00:00Z", space="lab"),
            {**tokens("d", 1, 2), "time": "2024-04-04T00:00:00Z"},
            audio("e", account="globex", at="2024-04-03T00:00:00Z", dataset=1.50),
            audio("f", at="2024-04-05T00:00:00Z"),
        ]
        async with desk.open() as ledger:
            await desk.send_in_order(ledger, *events[:1])
            await desk.send_in_order(ledger, *events[1:4])
            await desk.send_in_order(ledger, *events[4:])
            for limit in (1, 2, 100):
                assert await listed(ledger, limit=limit, **asked) == list(ids)

    @asynchronous
    async def test_an_empty_ledger_lists_nothing(self, desk: Desk) -> None:
        """Neither end of it has anything."""
        async with desk.open() as ledger:
            for oldest_first in (False, True):
                page = await ledger.events(EventQuery(None, oldest_first=oldest_first))
                assert (list(page.rows), page.as_of, page.next) == ([], AsOf(0, 0), None)
                assert await listed(ledger, accounts=("nobody",), oldest_first=oldest_first) == []

    @pytest.mark.parametrize("seed", range(3))
    @asynchronous
    async def test_pages_neither_repeat_nor_skip_while_more_comes(self, desk: Desk, seed: int) -> None:
        """What was acknowledged before the first page is listed once, in order; what comes later is not."""
        chance = random.Random(seed)
        async with desk.open() as ledger:
            sent: list[str] = []
            for _ in range(11):
                ids = [str(len(sent) + n) for n in range(chance.randint(1, 9))]
                sent += ids
                await desk.send_in_order(ledger, *(labelled(int(id)) for id in ids))
            wanted = [id for id in sent if int(id) % 3 != 1]
            for oldest_first in (False, True):
                query = EventQuery(("org0", "org2"), oldest_first=oldest_first, limit=chance.randint(1, 7))
                found: list[str] = []
                async for page in pages(ledger, query):
                    assert len(page.rows) <= query.limit
                    found += [json.loads(row.raw)["id"] for row in page.rows]
                    await desk.send(ledger, {**labelled(0), "id": f"later {oldest_first} {len(found)}"})
                assert found == (wanted if oldest_first else wanted[::-1])
                wanted += [
                    id for id in await listed(ledger, oldest_first=True) if id.startswith(f"later {oldest_first}")
                ]

    @asynchronous
    async def test_large_events_are_listed_whole(self, desk: Desk) -> None:
        """Whatever their sizes, every one comes in its turn."""
        sizes = [random.Random(6).choice([1, 1000, 100_000]) for _ in range(90)]
        async with desk.open() as ledger:
            await desk.send(ledger, *(audio(str(n), comment="ž" * size) for n, size in enumerate(sizes)))
            assert await listed(ledger, limit=1000) == [str(n) for n in range(90)][::-1]
            assert await listed(ledger, limit=1000, oldest_first=True) == [str(n) for n in range(90)]


class ManyAtOnce:
    """Commits that meet."""

    @asynchronous
    async def test_of_many_commits_at_once_each_event_is_accepted_once(self, desk: Desk) -> None:
        """Clients with overlapping batches, all at the same time, are told of one acceptance per event."""
        chance = random.Random(11)
        events = [audio(str(n), n, account=f"org{n % 4}") for n in range(80)]
        async with desk.open() as ledger:
            batches = [chance.sample(events, chance.randint(1, 40)) for _ in range(40)]
            said = await asyncio.gather(*(desk.send(ledger, *batch) for batch in batches))
            accepted = [
                event["id"] for batch, words in zip(batches, said, strict=True) for event in taken(batch, words)
            ]
            sent = {event["id"] for batch in batches for event in batch}
            assert sorted(accepted) == sorted(sent)
            assert {word for words in said for word in words} <= {"accepted", "duplicate"}
            assert await total(ledger) == Total(len(sent), sum(map(int, sent)) * SECOND, 0, 79 * SECOND)

    @asynchronous
    async def test_of_many_contents_for_one_identity_one_wins(self, desk: Desk) -> None:
        """When several clients use one id for different work at once, one is accepted and the others conflict."""
        async with desk.open() as ledger:
            said = await asyncio.gather(*(desk.send(ledger, audio("1", n)) for n in range(30)))
            assert Counter(word for (word,) in said) == {"accepted": 1, CONFLICT: 29}
            winner = [n for n, (word,) in enumerate(said) if word == "accepted"]
            assert (await total(ledger)).sum == winner[0] * SECOND

    @asynchronous
    async def test_the_label_bound_holds_for_many_commits_at_once(self, desk: Desk) -> None:
        """However many arrive together, no more label sets are accepted than allowed, and exactly as many."""
        async with desk.open(label_sets_max=5) as ledger:
            said = await asyncio.gather(*(desk.send(ledger, audio(str(n), language=str(n))) for n in range(20)))
            assert Counter(word for (word,) in said) == {"accepted": 5, EXCEEDED: 15}
            assert len((await usage(ledger, group_by=("language",))).rows) == 5

    @asynchronous
    async def test_a_label_set_is_accepted_by_all_commits_at_once_or_by_none(self, desk: Desk) -> None:
        """Where commits that overlap reach the bound together, what it admits is admitted to each of them."""
        chance = random.Random(3)
        async with desk.open(label_sets_max=8) as ledger:
            await desk.send(ledger, *(audio(f"early {n}", language=str(n)) for n in range(3)))
            batches = [chance.sample(range(20), 4) for _ in range(25)]
            sends = [
                desk.send(ledger, *(audio(f"{at} {n}", language=str(n)) for n in batch))
                for at, batch in enumerate(batches)
            ]
            said: defaultdict[int, set[str]] = defaultdict(set)
            for batch, words in zip(batches, await asyncio.gather(*sends), strict=True):
                for n, word in zip(batch, words, strict=True):
                    said[n].add(word)
            assert all(words in ({"accepted"}, {EXCEEDED}) for words in said.values())
            assert len({0, 1, 2} | {n for n, words in said.items() if words == {"accepted"}}) == 8
            assert len((await usage(ledger, group_by=("language",))).rows) == 8

    @pytest.mark.parametrize("bulk", [False, True], ids=["one by one", "bulk"])
    @asynchronous
    async def test_commits_of_one_kind_are_kept_in_the_order_of_the_calls(self, desk: Desk, bulk: bool) -> None:
        """Of commits that wait together the first one called comes first in the log, and owns what they share."""
        async with desk.open() as ledger:
            batches = [desk.batch(ledger, audio(f"own {n}", n), audio("shared", n)) for n in range(20)]
            commits = (ledger.commit(batch, create_accounts=True, bulk=bulk) for batch in batches)
            verdicts = await asyncio.gather(*commits)
            assert [set(verdict) for verdict in verdicts] == [set(), *[{1}] * 19]
            kept = [await ledger.event("acme", "test", f"own {n}") for n in range(20)]
            assert [event.sequence for event in kept if event is not None] == [1, *range(3, 22)]

    @asynchronous
    async def test_an_account_is_created_once_by_many_commits_at_once(self, desk: Desk) -> None:
        """The first event of an account may come many times over; the account is one."""
        async with desk.open() as ledger:
            await asyncio.gather(*(desk.send(ledger, audio(str(n), account=f"org{n % 2}")) for n in range(20)))
            numbers = {name: account.number for name, account in ledger.catalog.accounts.items()}
            assert sorted(numbers) == ["org0", "org1"]
            assert len(set(numbers.values())) == 2
            assert (await total(ledger, accounts=("org1",))).count == 10


class ProofAndEnd:
    """Verify and close."""

    @asynchronous
    async def test_a_sound_ledger_proves_itself(self, desk: Desk) -> None:
        """Verify replays every event and posting, reports how far it is, and finds no fault."""
        seen: list[tuple[int, int]] = []
        async with desk.open() as ledger:
            await ledger.put_account(Account("acme", 0), actor="test")
            await desk.send(ledger, *(labelled(n) for n in range(40)), tokens("t", 1, 2), audio("f", status="failed"))
            await desk.send(ledger, labelled(3), audio("f"), labelled(41))
            proof = await ledger.verify(lambda done, of: seen.append((done, of)))
            assert (proof.events, proof.postings, list(proof.faults)) == (43, 43, [])
            assert proof.entries > 0
            assert seen[-1] == (43, 43)
            assert seen == sorted(seen)

    @asynchronous
    async def test_the_head_of_the_proof_moves_with_every_event(self, desk: Desk) -> None:
        """Two proofs have one head only if nothing was kept between them."""
        heads = []
        async with desk.open() as ledger:
            for n in range(4):
                await desk.send(ledger, audio(str(n)))
                heads += [(await ledger.verify()).head, (await ledger.verify()).head]
        assert heads[0::2] == heads[1::2]
        assert len(set(heads)) == 4

    @asynchronous
    async def test_a_closed_ledger_answers_nothing(self, desk: Desk) -> None:
        """After close, which may be repeated, every call says that the ledger is unavailable."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1"))
            batch = desk.batch(ledger, audio("2"))
            for _ in range(2):
                await ledger.close()
            for call in (
                ledger.commit(batch),
                ledger.usage([query()]),
                ledger.as_of([query()]),
                ledger.events(EventQuery(None)),
                ledger.event("acme", "test", "1"),
                ledger.put_account(Account("acme", 0), actor="test"),
                ledger.put_key(Key("k", "d", None, frozenset(), 1), actor="test"),
                ledger.delete_account("acme", actor="test"),
                ledger.delete_key("k", actor="test"),
                ledger.rotate_key("k", Key("l", "e", None, frozenset(), 1), ends=2, actor="test"),
                ledger.audit(AuditQuery(1)),
                ledger.verify(),
            ):
                with pytest.raises(Problem) as caught:
                    await call
                assert caught.value.code is Code.UNAVAILABLE


class Vitals:
    """What a ledger says about itself."""

    @asynchronous
    async def test_what_was_accepted_is_counted_by_account(self, desk: Desk) -> None:
        """Accounts come in the order of their first events; what was not kept is not counted."""
        async with desk.open() as ledger:
            assert (ledger.vitals().sequence, ledger.vitals().committed) == (0, None)
            await desk.send_in_order(ledger, audio("1", account="globex"), audio("1", account="globex"), audio("2"))
            await desk.send(ledger, audio("1", 61, account="globex"), audio("2"), audio("3"), audio("4"))
            vitals = ledger.vitals()
            assert list(vitals.accepted.items()) == [("globex", 1), ("acme", 3)]
            assert (vitals.sequence, vitals.committed, vitals.damaged_entries) == (4, desk.clock.now, 0)

    @asynchronous
    async def test_commits_are_timed_and_sized(self, desk: Desk) -> None:
        """Each commit of events is in both distributions, its bytes are those of its events as sent."""
        async with desk.open() as ledger:
            for id in ("1", "2"):
                await desk.send(ledger, audio(id))
            await ledger.put_account(Account("globex", 0), actor="test")
            commits = ledger.vitals().commits
            assert (sum(commits.seconds.counts), sum(commits.bytes.counts)) == (2, 2)
            assert commits.bytes.sum == 2 * len(raw_of(audio("1")))
            assert commits.seconds.sum > 0

    @asynchronous
    async def test_a_month_with_four_fifths_of_its_label_sets_is_warned_of(self, desk: Desk) -> None:
        """The warning comes with the label set that reaches it, and what was refused claims none."""
        async with desk.open(label_sets_max=5) as ledger:
            for languages, warnings in (
                ("abc", {}),
                ("abc", {}),
                ("d", {("acme", "audio"): 1}),
                ("ef", {("acme", "audio"): 1}),
            ):
                await desk.send(ledger, *(audio(f"{n} {languages}", language=n) for n in languages))
                assert ledger.vitals().label_set_warnings == warnings
            march = "2024-03-01T00:00:00Z"
            await desk.send(ledger, *(audio(f"march {n}", language=n, at=march) for n in "abc"))
            assert await desk.send(ledger, audio("march a", language="d", at=march)) == [CONFLICT]
            twice = [audio("march e", language="a", at=march), audio("march e", language="e", at=march)]
            assert await desk.send(ledger, *twice) == ["accepted", CONFLICT]
            assert ledger.vitals().label_set_warnings == {("acme", "audio"): 1}
            await desk.send(ledger, audio("march d", language="d", at=march))
            assert ledger.vitals().label_set_warnings == {("acme", "audio"): 2}

    @asynchronous
    async def test_what_is_counted_near_the_bound_is_what_is_refused_at_it(self, desk: Desk) -> None:
        """A set counted while the bound was out of reach is known when it is in reach, and nothing else is."""
        async with desk.open(label_sets_max=5) as ledger:
            assert await desk.send(ledger, *(audio(n, language=n) for n in "abcd")) == ["accepted"] * 4
            assert await desk.send(ledger, audio("a", language="x"), audio("y", language="d")) == [CONFLICT, "accepted"]
            assert await desk.send(ledger, *(audio(n, language=n) for n in "efg")) == ["accepted", EXCEEDED, EXCEEDED]
            assert await desk.send(ledger, *(audio(f"{n}2", language=n) for n in "abcde")) == ["accepted"] * 5


class Conformance(
    ExactlyOnce,
    SameContent,
    Verdicts,
    AccountsAndKeys,
    Audit,
    LabelSets,
    Counting,
    Time,
    Questions,
    KeptEvents,
    Listings,
    ManyAtOnce,
    Vitals,
    ProofAndEnd,
):
    """The suite for every ledger; a subclass gives the fixture `desk`."""


class PersistentConformance:
    """What a ledger that outlives its process must keep besides; a subclass gives the fixture `desk`."""

    @asynchronous
    async def test_everything_is_there_after_a_restart(self, desk: Desk) -> None:
        """Usage, events, accounts, keys and how far they count are the same when the ledger is opened again."""
        asked = [query(group_by=("account", "language")), query("2024-04-03T10:07:00Z", "2024-04-20T00:00:00Z")]
        async with desk.open() as ledger:
            await ledger.put_account(Account("ada", 0, AccountKind.USER, "Asia/Tokyo"), actor="test")
            await ledger.put_key(Key("k", "aa" * 32, "ada", frozenset({Scope.REPORT}), 5, 6), actor="test")
            await desk.send(ledger, *(labelled(n) for n in range(60)))
            before = (ledger.catalog, await ledger.usage(asked), await ledger.event("org1", "test", "7"))
            head = (await ledger.verify()).head
        desk.clock.advance(3600)
        async with desk.open() as ledger:
            assert (ledger.catalog, await ledger.usage(asked), await ledger.event("org1", "test", "7")) == before
            assert before[2] is not None
            proof = await ledger.verify()
            assert (proof.events, proof.head, list(proof.faults)) == (60, head, [])

    @asynchronous
    async def test_identities_are_for_ever(self, desk: Desk) -> None:
        """Over many restarts each event is accepted once; a reused id still conflicts with what was kept first."""
        async with desk.open() as ledger:
            await desk.send(ledger, *(audio(str(n), n) for n in range(10)))
        for start in range(5, 30, 5):
            async with desk.open() as ledger:
                sent = [audio(str(n), n) for n in range(start, start + 10)]
                assert await desk.send(ledger, *sent) == ["duplicate"] * 5 + ["accepted"] * 5
                assert await desk.send(ledger, audio("0", 1)) == [CONFLICT]
                assert (await usage(ledger)).as_of.sequence == start + 10
        async with desk.open() as ledger:
            assert await total(ledger) == Total(35, sum(range(35)) * SECOND, 0, 34 * SECOND)

    @asynchronous
    async def test_accounts_keep_their_numbers_and_keys_stay_revoked(self, desk: Desk) -> None:
        """A restart brings back neither a revoked key nor a used account number."""
        async with desk.open() as ledger:
            await ledger.put_key(Key("k", "aa" * 32, None, frozenset(Scope), 1), actor="test")
            await ledger.delete_key("k", actor="test")
            await desk.send(ledger, audio("1", account="beta"), audio("2", account="acme"))
            numbers = {name: account.number for name, account in ledger.catalog.accounts.items()}
        async with desk.open() as ledger:
            assert dict(ledger.catalog.keys) == {}
            new = await ledger.put_account(Account("zed", 0), actor="test")
            assert new.number not in numbers.values()
            assert {n: a.number for n, a in ledger.catalog.accounts.items()} == {**numbers, "zed": new.number}

    @asynchronous
    async def test_a_deleted_accounts_number_is_not_given_after_a_restart(self, desk: Desk) -> None:
        """The log remembers every number, also that of the last account when it was deleted before the restart."""
        async with desk.open() as ledger:
            await desk.send(ledger, audio("1", account="kept"))
            gone = await ledger.put_account(Account("gone", 0), actor="test")
            await ledger.delete_account("gone", actor="test")
        async with desk.open() as ledger:
            assert list(ledger.catalog.accounts) == ["kept"]
            assert await ledger.delete_account("kept", actor="test") is Deletion.HAS_EVENTS
            assert (await ledger.put_account(Account("gone", 0), actor="test")).number == gone.number + 1
            await desk.send(ledger, audio("1", account="gone"))
        async with desk.open() as ledger:
            assert (await total(ledger, accounts=("gone",))).count == 1
            assert list((await ledger.verify()).faults) == []

    @asynchronous
    async def test_the_audit_and_a_rotation_survive_a_restart(self, desk: Desk) -> None:
        """Every record is as it was, and the old key still ends when it was to."""
        async with desk.open() as ledger:
            await ledger.put_account(Account("acme", 0), actor="anna")
            await ledger.put_key(Key("k1", "aa" * 32, "acme", frozenset(Scope), 1), actor="anna")
            await ledger.rotate_key("k1", Key("k2", "bb" * 32, None, frozenset(), 2), ends=5, actor="bob")
            before = (ledger.catalog, await ledger.audit(AuditQuery(100)))
        async with desk.open() as ledger:
            assert (ledger.catalog, await ledger.audit(AuditQuery(100))) == before
            assert ledger.catalog.keys["aa" * 32].valid_until == 5

    @asynchronous
    async def test_the_last_use_of_a_key_survives_a_restart(self, desk: Desk) -> None:
        """What was known of the keys that are there is known again; nothing is kept of any other."""
        async with desk.open() as ledger:
            for id in ("k1", "k2", "k3"):
                await ledger.put_key(Key(id, id * 32, None, frozenset(Scope), 1), actor="test")
            for id, at in (("k1", 7), ("k2", 8), ("setting", 9), ("k1", 11)):
                ledger.note_key_use(id, at)
        async with desk.open() as ledger:
            assert dict(ledger.key_uses) == {"k1": 11, "k2": 8}
            ledger.note_key_use("k3", 12)
            await ledger.delete_key("k2", actor="test")
        async with desk.open() as ledger:
            assert dict(ledger.key_uses) == {"k1": 11, "k3": 12}
            assert list((await ledger.verify()).faults) == []

    @asynchronous
    async def test_the_label_bound_survives_a_restart_and_may_be_raised(self, desk: Desk) -> None:
        """What was refused under one setting is accepted later under a larger one, sent again as it was."""
        async with desk.open(label_sets_max=2) as ledger:
            await desk.send(ledger, audio("1", language="a"), audio("2", language="b"))
        async with desk.open(label_sets_max=2) as ledger:
            assert await desk.send(ledger, audio("3", language="c"), audio("4", language="b")) == [EXCEEDED, "accepted"]
        async with desk.open(label_sets_max=3) as ledger:
            assert await desk.send(ledger, audio("3", language="c"), audio("5", language="d")) == ["accepted", EXCEEDED]

    @asynchronous
    async def test_what_was_asked_for_while_closing_is_whole_or_unavailable(self, desk: Desk) -> None:
        """Commits that meet the end of the ledger are kept if they were acknowledged, and can be repeated if not."""
        acked: list[int] = []

        async def send(ledger: Ledger, n: int) -> None:
            try:
                await desk.send(ledger, audio(str(n), n))
            except Problem as problem:
                assert problem.code is Code.UNAVAILABLE
            else:
                acked.append(n)

        async with desk.open() as ledger:
            sending = [asyncio.create_task(send(ledger, n)) for n in range(40)]
            await asyncio.sleep(0)
            await ledger.close()
            await asyncio.gather(*sending)
        async with desk.open() as ledger:
            kept = {n for n in range(40) if await ledger.event("acme", "test", str(n))}
            assert set(acked) <= kept
            assert (await total(ledger)).sum == sum(kept) * SECOND
            said = await desk.send(ledger, *(audio(str(n), n) for n in range(40)))
            assert said == ["duplicate" if n in kept else "accepted" for n in range(40)]


MOMENTS = [
    instant(text)
    for text in (
        "2023-12-31T23:45:00Z",
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:15:00Z",
        "2024-01-31T12:34:56.789Z",
        "2024-02-01T00:00:00Z",
        "2024-02-28T18:30:00Z",
        "2024-02-29T00:00:00Z",
        "2024-03-01T00:00:00Z",
        "2024-03-01T10:07:30Z",
        "2024-03-01T10:15:00Z",
        "2024-03-31T01:00:00Z",
        "2024-04-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00Z",
        "1899-12-31T23:02:15Z",
    )
]
"""Instants on and beside every kind of bucket edge."""


async def until_current(desk: Desk, ledger: Ledger, event: Raw, *, create_accounts: bool = False) -> list[str]:
    """Send an event, prepared again for as long as its preparation does not hold any more, as a caller would."""
    while True:
        try:
            return await desk.send(ledger, event, create_accounts=create_accounts)
        except CatalogStale:
            continue


def remark(number: str) -> bytes:
    """Write an event whose data has a number, given by its text, that no meter reads."""
    text = raw_of(audio("1", remark="HERE")).decode()
    return text.replace('"HERE"', number).encode()


def labelled(n: int) -> dict[str, Any]:
    """Return the n-th of a mixed lot of transcriptions over April 2024."""
    at = text_of(instant("2024-04-01T00:00:00Z") + n * 19_999_999_999)
    labels = {
        "language": ["en", "cs", "", None][n % 4],
        "mode": ["batch", None][n % 2],
        "tags": ["", "RG", None][n % 3],
    }
    space = {"space": f"lab{n % 2}"} if n % 5 else {}
    return {**audio(str(n), f"{n}.{n:06}", account=f"org{n % 3}", at=at, **labels), **space}


def bucketed(events: Sequence[tuple[int, int]], cuts: Sequence[int]) -> dict[int, Total]:
    """Return the totals of (time, amount) between each cut and the next, leaving out what is empty."""
    totals = {}
    for bucket, (start, end) in enumerate(pairwise(cuts)):
        amounts = [amount for time, amount in events if start <= time < end]
        if amounts:
            totals[bucket] = Total(len(amounts), sum(amounts), min(amounts), max(amounts))
    return totals


def taken(batch: Sequence[dict[str, Any]], words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the events of a batch that were accepted."""
    return [event for event, word in zip(batch, words, strict=True) if word == "accepted"]
