"""The contract, executable: a list of events from which every answer is worked out again. It is the oracle."""

from __future__ import annotations

import hashlib
import json
import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tallystick.clock import Clock
from tallystick.errors import Code, Problem
from tallystick.ledger.base import CatalogStale, Fault, KeptEvent, Proof
from tallystick.ledger.verdicts import CONFLICT, account_unknown, duplicate, label_sets_exceeded
from tallystick.model import (
    Account,
    AsOf,
    AuditPage,
    AuditQuery,
    AuditRecord,
    Batch,
    Catalog,
    Deletion,
    Key,
    Labels,
    Meter,
    Posting,
    Rounding,
    Total,
    UsageQuery,
    UsageRow,
    UsageTable,
    Verdict,
)
from tallystick.settings import Settings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECONDS = {"W": 604_800, "D": 86_400, "H": 3_600, "M": 60, "S": 1}
TAG_LETTERS = {
    "scrubaudio": "A",
    "agentid": "a",
    "diarize": "D",
    "emotion": "E",
    "gender": "G",
    "hints": "H",
    "lid": "L",
    "music": "M",
    "sentiment": "S",
    "realtime": "R",
    "scrubtext": "T",
    "notext": "*",
}
AUDIO = "audio.processed"
TYPES_WITH_STATUS = {AUDIO, "vision.request", "resource.upserted", "model.request"}
NOT_CONTENT = {"specversion", "id", "source", "datacontenttype", "traceparent", "tracestate"}

Document = Mapping[str, Any]
"""An event as JSON says it, without null members; every number is a Decimal."""


Noun = Account | Key
Change = tuple[str, str, Noun | None, Noun | None]
"""Action, target, before, after."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An event in the list: what was sent, what it added to the meters of its day, and the link to those before."""

    sequence: int
    recorded: int
    received: int
    account: str
    time: int
    raw: bytes
    postings: tuple[Posting, ...]
    catalog: Catalog
    link: str


class MemoryLedger:
    """Keeps the contract of `Ledger` in the most obvious way, for as long as the object lives; nothing is on disk.

    It reads every event from its bytes and shares no arithmetic with the other ledgers, so that it can be trusted to
    judge them.
    """

    def __init__(self, settings: Settings, clock: Clock, catalog: Catalog) -> None:
        self._settings = settings
        self._clock = clock
        self._catalog = catalog
        self._events: list[Kept] = []
        self._places: dict[tuple[str, str, str], int] = {}
        self._label_sets: defaultdict[tuple[str, str, int, int], set[Labels]] = defaultdict(set)
        self._changes: list[AuditRecord] = []
        self._entries = 0
        self._key_uses: dict[str, int] = {}
        self._closed = False

    @property
    def catalog(self) -> Catalog:
        return self._catalog

    async def commit(self, batch: Batch, *, create_accounts: bool = False, bulk: bool = False) -> Mapping[int, Verdict]:
        self._check_open()
        if batch.catalog_version != self._catalog.version:
            raise CatalogStale(f"prepared with catalog {batch.catalog_version}, in force is {self._catalog.version}")
        recorded = self._clock()
        taken = (
            self._take(account, raw, batch.received, recorded, create_accounts)
            for account, raw in zip(batch.account, batch.raw, strict=True)
        )
        return {index: verdict for index, verdict in enumerate(taken) if verdict is not None}

    async def usage(self, queries: Sequence[UsageQuery]) -> Sequence[UsageTable]:
        self._check_open()
        return [self._answer(query) for query in queries]

    async def event(self, account: str, source: str, id: str) -> KeptEvent | None:
        self._check_open()
        place = self._places.get((account, source, id))
        if place is None:
            return None
        kept = self._events[place]
        return KeptEvent(kept.sequence, kept.recorded, kept.account, kept.time, kept.raw)

    async def put_account(self, account: Account, *, actor: str) -> Account:
        self._check_open()
        return self._put_account(account, actor)

    async def delete_account(self, name: str, *, actor: str) -> Deletion:
        self._check_open()
        account = self._catalog.accounts.get(name)
        if account is None:
            return Deletion.UNKNOWN
        if any(kept.account == name for kept in self._events):
            return Deletion.HAS_EVENTS
        if any(key.account == name for key in self._catalog.keys.values()):
            return Deletion.HAS_KEYS
        others = {other: kept for other, kept in self._catalog.accounts.items() if other != name}
        self._change(replace(self._catalog, accounts=others), actor, [("account.delete", name, account, None)])
        return Deletion.DELETED

    async def put_key(self, key: Key, *, actor: str) -> bool:
        self._check_open()
        before = self._key(key.id)
        if key.account is not None and key.account not in self._catalog.accounts:
            return False
        if before is not None and before.account != key.account:
            return False
        self._change(self._with_keys(key), actor, [("key.put", key.id, before, key)])
        return True

    async def rotate_key(self, id: str, successor: Key, *, ends: int, actor: str) -> Key | None:
        self._check_open()
        key = self._key(id)
        if key is None or (key.valid_until is not None and key.valid_until <= successor.created):
            return None
        if self._key(successor.id) is not None:
            return None
        old = replace(key, ends=ends if key.ends is None or ends < key.ends else key.ends)
        new = Key(successor.id, successor.digest, key.account, key.scopes, successor.created, key.expires)
        changes = [("key.put", id, key, old), ("key.rotate", id, key, new)]
        self._change(self._with_keys(old, new), actor, changes)
        return new

    async def delete_key(self, id: str, *, actor: str) -> bool:
        self._check_open()
        key = self._key(id)
        if key is None:
            return False
        others = {digest: other for digest, other in self._catalog.keys.items() if other.id != id}
        self._change(replace(self._catalog, keys=others), actor, [("key.delete", id, key, None)])
        return True

    def note_key_use(self, id: str, at: int) -> None:
        self._key_uses[id] = at

    @property
    def key_uses(self) -> Mapping[str, int]:
        return self._key_uses

    async def audit(self, query: AuditQuery) -> AuditPage:
        self._check_open()
        wanted = [
            record
            for record in reversed(self._changes)
            if (query.account is None or record.account == query.account)
            and (query.number is None or record.number == query.number)
            and (query.before is None or record.place < query.before)
        ]
        page = wanted[: query.limit]
        return AuditPage(page, page[-1].place if len(wanted) > len(page) else None)

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Proof:
        self._check_open()
        faults: list[Fault] = []
        link = ""
        for done, kept in enumerate(self._events, 1):
            link = link_of(link, kept)
            faults.extend(faults_of(kept, link))
            if progress is not None:
                progress(done, len(self._events))
        postings = sum(len(kept.postings) for kept in self._events)
        return Proof(len(self._events), postings, self._entries, self._head, tuple(faults))

    async def close(self) -> None:
        self._closed = True

    @property
    def _head(self) -> str:
        return self._events[-1].link if self._events else ""

    def _check_open(self) -> None:
        if self._closed:
            raise Problem(Code.UNAVAILABLE, "The ledger is closed.")

    def _take(self, account: str, raw: bytes, received: int, recorded: int, create_account: bool) -> Verdict | None:
        document = read(raw)
        identity = (account, document["source"], document["id"])
        if identity in self._places:
            return judge(document, account, self._events[self._places[identity]])
        if account not in self._catalog.accounts and not create_account:
            return account_unknown(account)
        postings = tuple(postings_of(document, account, self._catalog))
        time = time_of(document, received)
        month = month_of(time)
        for posting in postings:
            label_sets = self._label_sets[(account, posting.meter, *month)]
            if posting.labels not in label_sets and len(label_sets) >= self._settings.label_sets_max:
                return label_sets_exceeded(posting.meter)
        if account not in self._catalog.accounts:
            self._put_account(Account(account, 0), "event")
        for posting in postings:
            self._label_sets[(account, posting.meter, *month)].add(posting.labels)
        self._keep(identity, Kept(0, recorded, received, account, time, raw, postings, self._catalog, ""))
        return None

    def _keep(self, identity: tuple[str, str, str], kept: Kept) -> None:
        numbered = replace(kept, sequence=len(self._events) + 1)
        self._places[identity] = len(self._events)
        self._entries += 1
        self._events.append(replace(numbered, link=link_of(self._head, numbered)))

    def _put_account(self, account: Account, actor: str) -> Account:
        accounts, given = self._catalog.accounts, self._catalog.numbers_given
        before = accounts.get(account.name)
        put = replace(account, number=given + 1 if before is None else before.number)
        if put != before:
            given = max(given, put.number)
            catalog = replace(self._catalog, accounts={**accounts, put.name: put}, numbers_given=given)
            self._change(catalog, actor, [("account.put", put.name, before, put)])
        return put

    def _key(self, id: str) -> Key | None:
        keys = [key for key in self._catalog.keys.values() if key.id == id]
        return keys[0] if keys else None

    def _with_keys(self, *keys: Key) -> Catalog:
        """Return the catalog with these keys, instead of others of their ids."""
        ids = [key.id for key in keys]
        others = {digest: key for digest, key in self._catalog.keys.items() if key.id not in ids}
        return replace(self._catalog, keys={**others, **{key.digest: key for key in keys}})

    def _change(self, catalog: Catalog, actor: str, changes: Sequence[Change]) -> None:
        """Bring a catalog into force, and remember what is different in it; all of it is one entry."""
        self._entries += 1
        for place, (action, target, before, after) in enumerate(changes):
            told, numbers = after or before, {**self._catalog.accounts, **catalog.accounts}
            owner = told.account if isinstance(told, Key) else target
            number = numbers[owner].number if owner is not None else 0
            where = (self._entries, place)
            sides = (undigested(before), undigested(after))
            self._changes.append(AuditRecord(where, self._clock(), actor, action, target, owner, number, *sides))
        self._catalog = catalog

    def _answer(self, query: UsageQuery) -> UsageTable:
        groups: defaultdict[tuple[int, tuple[str | None, ...]], list[int]] = defaultdict(list)
        if self._is_answerable(query):
            for bucket, account, posting in self._wanted(query):
                values = {**dict(posting.labels), "account": account}
                groups[bucket, tuple(values.get(name) for name in query.group_by)].append(posting.amount)
        rows = [UsageRow(bucket, labels, total(groups[bucket, labels])) for bucket, labels in sorted(groups, key=order)]
        everything = total([amount for amounts in groups.values() for amount in amounts])
        return UsageTable(rows, everything, self._as_of())

    def _is_answerable(self, query: UsageQuery) -> bool:
        meter = self._catalog.meters.get(query.meter)
        if meter is None:
            return False
        labels = {name for name, _ in meter.labels}
        return set(query.where) <= labels and set(query.group_by) <= labels | {"account"}

    def _wanted(self, query: UsageQuery) -> Iterator[tuple[int, str, Posting]]:
        edges = [int(edge) for edge in query.edges]
        for kept in self._events:
            bucket = bisect_right(edges, kept.time) - 1
            if query.accounts is not None and kept.account not in query.accounts:
                continue
            if not 0 <= bucket < len(edges) - 1:
                continue
            for posting in kept.postings:
                labels = dict(posting.labels)
                # "" and absent are one value to a filter, though not to a grouping.
                if posting.meter == query.meter and all(
                    labels.get(name, "") in wanted for name, wanted in query.where.items()
                ):
                    yield bucket, kept.account, posting

    def _as_of(self) -> AsOf:
        return AsOf(self._events[-1].sequence, self._events[-1].recorded) if self._events else AsOf(0, 0)


def read(raw: bytes) -> Document:
    """Read an event from its bytes, exactly: numbers as Decimal, the last of repeated names, no null members."""
    document = json.loads(raw.decode(), parse_float=Decimal, parse_int=Decimal, object_hook=without_nulls)
    if not isinstance(document, dict):
        raise ValueError("an event is a JSON object")
    return document


def without_nulls(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def time_of(document: Document, received: int) -> int:
    """Return the event's instant in microseconds: its own, or that of its receipt."""
    return instant(document["time"]) if "time" in document else received


def instant(text: str) -> int:
    """Return the instant of an RFC 3339 text; digits past microseconds are cut, a leap second is the one before."""
    return (datetime.fromisoformat(re.sub(r"(T\d\d:\d\d):60", r"\1:59", text.upper())) - EPOCH) // MICROSECOND


def month_of(time: int) -> tuple[int, int]:
    moment = EPOCH + timedelta(microseconds=time)
    return moment.year, moment.month


def space_of(document: Document, account: str) -> str | None:
    """Return the space an event belongs to: named outright, in its data, or by what follows the account's name."""
    data = document.get("data")
    members: Document = data if isinstance(data, dict) else {}
    owner, slash, rest = document.get("subject", "").partition("/")
    from_subject = rest if owner == account and slash else None
    named = document.get("space", members.get("space", members.get("dataset", from_subject)))
    return None if named is None else label(named)


def judge(document: Document, account: str, kept: Kept) -> Verdict:
    """Tell a retry from a reused id: compare an event with the kept one of its identity."""
    if alike(content(document, account), content(read(kept.raw), kept.account)):
        return duplicate(metered=bool(kept.postings))
    return CONFLICT


def content(document: Document, account: str) -> Document:
    """Return what two sendings of one event must have in common; no data and empty data say the same."""
    time = instant(document["time"]) if "time" in document else None
    resolved = {"account": account, "space": space_of(document, account), "time": time}
    said = {"data": {}, **document, **resolved}
    return {name: value for name, value in said.items() if name not in NOT_CONTENT}


def alike(a: Any, b: Any) -> bool:
    """Compare two JSON values: numbers by value, text by code points, and true is not 1."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return bool(a == b)


def postings_of(document: Document, account: str, catalog: Catalog) -> Iterator[Posting]:
    """Work out what an event adds to each meter that counts it."""
    facts = {**document, "account": account, "space": space_of(document, account)}
    if document["type"] in TYPES_WITH_STATUS and at(facts, "$.data.status") not in (None, "success"):
        return
    for meter in catalog.meters.values():
        if document["type"] not in meter.events:
            continue
        labels = tuple(sorted(labels_of(facts, meter)))
        if all(dict(labels).get(name, "") in wanted for name, wanted in meter.where):
            yield Posting(meter.name, meter.version, labels, amount_of(facts, meter))


def at(facts: Document, path: str) -> Any:
    """Follow a path like `$.data.duration`; what is not there is None."""
    value: Any = facts
    for name in path.removeprefix("$.").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def labels_of(facts: Document, meter: Meter) -> Iterator[tuple[str, str]]:
    for name, path in meter.labels:
        value = at(facts, path)
        if value is not None:
            yield name, tags(value) if name == "tags" and facts["type"] == AUDIO else label(value)


def label(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return shortest(value) if isinstance(value, Decimal) else str(value)


def shortest(value: Decimal) -> str:
    """Write a number in plain decimal, with no digit that says nothing."""
    text = format(value, "f") if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def tags(value: str | Sequence[str]) -> str:
    """Write tags as letters, in order and once each, whether they came as letters or as parameter names."""
    return "".join(sorted({TAG_LETTERS.get(tag, tag) for tag in value}))


def amount_of(facts: Document, meter: Meter) -> int:
    """Return the event's quantity as an integer at the meter's scale."""
    quantity = Fraction(1) if meter.quantity is None else number(at(facts, meter.quantity))
    scaled: Fraction = (quantity if meter.rounding is None else rounded(quantity, meter.rounding)) * 10**meter.scale
    if scaled.denominator != 1:
        raise ValueError(f"{quantity} has more digits than meter {meter.name} keeps")
    return scaled.numerator


def number(value: Decimal | str) -> Fraction:
    """Return the number that a JSON number, a numeric text or a duration like PT1M30.5S stands for."""
    if isinstance(value, Decimal) or not value.startswith("P"):
        return Fraction(value)
    parts = re.findall(r"([0-9.,]+)([WDHMS])", value)
    return sum((Fraction(digits.replace(",", ".")) * SECONDS[unit] for digits, unit in parts), Fraction(0))


def rounded(quantity: Fraction, rounding: Rounding) -> Fraction:
    """Round to a multiple, as the meter says, and up to its minimum."""
    step = Fraction(rounding.to)
    steps = quantity / step
    whole = {
        "up": math.ceil(steps),
        "down": math.floor(steps),
        "half_up": math.floor(steps + Fraction(1, 2)),
        "half_even": round(steps),
    }[rounding.mode]
    return max(whole * step, Fraction(rounding.minimum))


def undigested(noun: Noun | None) -> Noun | None:
    """Return what the audit shows of something: nobody needs a key's digest."""
    return replace(noun, digest="") if isinstance(noun, Key) else noun


def total(amounts: Sequence[int]) -> Total:
    return Total(len(amounts), sum(amounts), min(amounts, default=None), max(amounts, default=None))


def order(group: tuple[int, tuple[str | None, ...]]) -> tuple[int, tuple[tuple[bool, str], ...]]:
    """Order rows by bucket, then by labels: absent first, then by code points."""
    bucket, labels = group
    return bucket, tuple((value is not None, value or "") for value in labels)


def link_of(before: str, kept: Kept) -> str:
    """Tie an event to everything kept before it."""
    head = f"{before}|{kept.sequence}|{kept.recorded}|{kept.received}|{kept.account}|".encode()
    return hashlib.sha256(head + kept.raw).hexdigest()


def faults_of(kept: Kept, link: str) -> Iterable[Fault]:
    """Compare what is remembered of an event with what its bytes say."""
    where = f"event {kept.sequence}"
    if kept.link != link:
        yield Fault(where, f"its link should be {link} and is {kept.link}")
    document = read(kept.raw)
    if kept.time != time_of(document, kept.received):
        yield Fault(where, f"its time should be {time_of(document, kept.received)} and is {kept.time}")
    postings = tuple(postings_of(document, kept.account, kept.catalog))
    if kept.postings != postings:
        yield Fault(where, f"its postings should be {postings} and are {kept.postings}")
