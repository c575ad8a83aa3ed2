"""How events are read in columns under one catalog, and what was learned of their texts: their shapes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from tallystick.envelope import DELETED, UPSERTED
from tallystick.ingest.amounts import Way, way_of, ways_are_columnar
from tallystick.ingest.stencils import Stencils
from tallystick.metering import names_of
from tallystick.model import Catalog, Labels, LabelSet, Meter, Posting

SHAPES_MAX = 50_000
ALWAYS_TEXTS = frozenset({"status", "space", "dataset", "tags", "model", "type", "billing", "license"})
"""Members of data that decide whether an event is taken, or in which space it is, whatever the meters are."""
ATTRIBUTES = ("id", "source", "type", "specversion", "time", "subject", "account", "space", "data_base64")
TYPE, SUBJECT, ACCOUNT, DATA_BASE64 = 0, 2, 3, 5
"""Places among the texts around an event's data: its attributes but for id, source and time."""

SPACE = "$.space"

Texts = tuple[Any, ...]
Raw = msgspec.Raw


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What validate.py said of an event with these texts: into which series its postings go, and each in which way.

    `ways` are numbers, and `members` those of data that the amounts come from.
    """

    account: str
    label_sets: tuple[LabelSet, ...]
    ways: tuple[int, ...]
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class Form:
    """What is read of an event: ATTRIBUTES and `data`, of which the texts make its shape and the quantities count.

    `decode` reads a list of events, `decode_one` one, `decode_lean` only id, source, time and the quantities of a list;
    all raise msgspec's errors for what is of another type.
    Events of `slow_types` are judged one by one: a meter of theirs needs more than columns can do.
    """

    decode: Callable[[bytes], list[Any]]
    decode_one: Callable[[bytes], Any]
    decode_lean: Callable[[bytes], list[Any]]
    quantity_of: Mapping[str, Callable[[Any], Raw]]
    slow_types: frozenset[str]
    _chosen: Callable[[Texts], Texts]

    def texts_of(self, data: Any) -> Texts:
        """Return what makes the shape of one event, of its data."""
        return self._chosen(msgspec.structs.astuple(data))

    def texts(self, data: Iterable[Any]) -> Iterator[Texts]:
        """Yield what makes the shape of each event, of its data."""
        return map(self._chosen, map(msgspec.structs.astuple, data))


class Plan:
    """The shapes of one kind of caller's events under one catalog; it learns them as they come, from any thread.

    Looking changes nothing, and whatever learns goes one after another.
    """

    def __init__(self, form: Form, catalog: Catalog, sets: LabelSets) -> None:
        self.form = form
        self.ways: list[Way] = []
        self.stencils = Stencils[Shape]()
        self._catalog, self._sets = catalog, sets
        self._numbers: dict[Way, int] = {}
        self._known = _Known()
        self._of_any: dict[tuple[Texts, Texts], Shape] = {}
        self._texts: dict[Texts, Texts] = {}
        self._words: dict[Any, Any] = {}
        self._fed: dict[tuple[int, ...], tuple[tuple[int, ...], frozenset[str]]] = {}
        self._shapes = 0
        self._learning = threading.Lock()

    @property
    def size(self) -> int:
        return 1 + len(self._known) + len(self._of_any) + len(self._texts) + self._shapes + len(self.stencils)

    def shapes(self, heads: Iterable[Texts], texts: Iterable[Texts]) -> list[Shape | None]:
        """Return the shape of each event by the texts around its data and those in it; None where it is not known."""
        return list(map(dict.get, map(self._known.__getitem__, heads), texts))

    def may_learn(self, head: Texts) -> bool:
        """Say whether events with these texts around their data have a shape at all."""
        return head[DATA_BASE64] is None and head[TYPE] not in self.form.slow_types

    def learn(self, head: Texts, texts: Texts, account: str, postings: Sequence[Posting]) -> Shape:
        """Remember what an event with these texts adds."""
        with self._learning:
            label_sets = tuple(self._sets.of(account, posting) for posting in postings)
            shape = Shape(account, label_sets, *self._ways_of(postings))
            known = self._remember(head, texts, shape)
            if head[SUBJECT] is None and head[ACCOUNT] is not None:
                self._of_any[self._only(_of_any(head)), known] = shape
        return shape

    def learn_alike(self, head: Texts, texts: Texts) -> Shape | None:
        """Remember what an event of an account adds of which only the account is not known; None if more is not.

        What is read in columns has nothing of its account in its labels, but for a space that its subject names.
        """
        alike = self._of_any.get((_of_any(head), texts)) if head[SUBJECT] is None else None
        if alike is None:
            return None
        account = head[ACCOUNT]
        with self._learning:
            label_sets = (self._sets.of(account, label_set) for label_set in alike.label_sets)
            shape = Shape(account, tuple(label_sets), alike.ways, alike.members)
            self._remember(head, texts, shape)
        return shape

    def _remember(self, head: Texts, texts: Texts, shape: Shape) -> Texts:
        """Note the shape of texts; returns the one object that stands for those in the data."""
        if self._shapes >= SHAPES_MAX:
            for known in (self._known, self._of_any, self._texts, self._words):
                known.clear()
            self._shapes = 0
        only = self._only(texts)
        self._known.setdefault(head, {})[only] = shape
        self._shapes += 1
        return only

    def _only(self, texts: Texts) -> Texts:
        """Return the one object that stands for these texts; of what varies little, each text is one object, too."""
        known = self._texts.get(texts)
        if known is None:
            known = tuple([self._words.setdefault(text, text) for text in texts])
            self._texts[known] = known
        return known

    def shape(self, head: Texts, texts: Texts) -> Shape | None:
        """Return the shape of one event, as `shapes` does."""
        return self._known[head].get(texts)

    def _ways_of(self, postings: Sequence[Posting]) -> tuple[tuple[int, ...], frozenset[str]]:
        """Return in which ways an event gives its postings, and the members of data that they come from."""
        ways = tuple(map(self._way, postings))
        members = frozenset(member for member in (self.ways[way].member for way in ways) if member is not None)
        return self._fed.setdefault(ways, (ways, members))

    def _way(self, posting: Posting) -> int:
        way = way_of(self._catalog.meters[posting.meter], posting, self._catalog)
        number = self._numbers.setdefault(way, len(self.ways))
        if number == len(self.ways):
            self.ways.append(way)
        return number


def _of_any(head: Texts) -> Texts:
    """Return the texts around the data of an event, but for its account."""
    return (*head[:ACCOUNT], *head[ACCOUNT + 1 :])


class _Known(dict[Texts, dict[Texts, Shape]]):
    """Shapes by the texts around data, then by those in it."""

    def __missing__(self, head: Texts) -> dict[Texts, Shape]:
        return {}


Strand = tuple[str, str, int]
"""An account, a meter and its version: what label sets are kept apart by, beside their labels."""


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """The label sets that have the same labels."""

    labels: Labels
    made: dict[Strand, LabelSet] = field(default_factory=dict)


class LabelSets:
    """One LabelSet object per label set, so that a ledger can know it again by identity; for any thread.

    Labels that are alike are one object, and so is each pair of them: an account may have ten thousand label sets.
    """

    def __init__(self) -> None:
        self._same: dict[Labels, _Same] = {}
        self._strands: dict[Strand, Strand] = {}
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}
        self._count = 0
        self._making = threading.Lock()

    def of(self, account: str, like: Posting | LabelSet) -> LabelSet:
        """Return the label set of an account that a posting goes into, or that is like the one of another account."""
        with self._making:
            # One look at the labels, for all that is known of them: they are hashed each time.
            same = self._same.get(like.labels) or self._met(like.labels)
            strand = account, like.meter, like.meter_version
            made = same.made.get(strand)
            if made is None:
                if self._count >= 4 * SHAPES_MAX:
                    self._forget()
                strand = self._strands.setdefault(strand, strand)
                made = same.made[strand] = LabelSet(*strand, same.labels)
                self._count += 1
            return made

    def _met(self, labels: Labels) -> _Same:
        """Note labels that are seen for the first time."""
        only = tuple([self._pairs.setdefault(pair, pair) for pair in labels])
        same = self._same[only] = _Same(only)
        return same

    def _forget(self) -> None:
        for known in (self._same, self._strands, self._pairs):
            known.clear()
        self._count = 0


def make_form(catalog: Catalog) -> Form:
    """Derive from the meters what to read of an event."""
    slow = {UPSERTED, DELETED}.union(*(meter.events for meter in catalog.meters.values() if not _is_columnar(meter)))
    while (form := _form_without(slow, catalog)) is None:
        pass
    return form


def _form_without(slow: set[str], catalog: Catalog) -> Form | None:
    """Return the form for all types but the slow ones, or None after adding types to these.

    A member is read as a text or as a number, never both: the meter that came first is heeded.
    """
    texts, quantities = set(ALWAYS_TEXTS), set[str]()
    for meter in catalog.meters.values():
        if meter.events <= slow:
            continue
        if _texts(meter) & quantities or _quantities(meter) & (texts | _texts(meter)):
            slow |= meter.events
            return None
        texts |= _texts(meter)
        quantities |= _quantities(meter)
    return _form(sorted(texts), sorted(quantities), frozenset(slow))


def _is_columnar(meter: Meter) -> bool:
    if meter.aggregation == "unique" or meter.once_per or not ways_are_columnar(meter):
        return False
    texts_fit = all(path == SPACE or _is_member(path) for path in _text_paths(meter))
    return texts_fit and (meter.quantity is None or _is_member(meter.quantity))


def _is_member(path: str) -> bool:
    names = names_of(path)
    return names is not None and len(names) == 2 and names[0] == "data"


def _text_paths(meter: Meter) -> list[str]:
    paths = dict(meter.labels)
    return [*paths.values(), *(paths.get(name, f"$.data.{name}") for name, _ in meter.where)]


def _texts(meter: Meter) -> frozenset[str]:
    return frozenset(path.removeprefix("$.data.") for path in _text_paths(meter) if path != SPACE)


def _quantities(meter: Meter) -> frozenset[str]:
    return frozenset({meter.quantity.removeprefix("$.data.")} if meter.quantity is not None else ())


def _form(texts: Sequence[str], quantities: Sequence[str], slow_types: frozenset[str]) -> Form:
    # Members are renamed: any of them may be a word of Python's.
    members = {f"m{number}": name for number, name in enumerate((*texts, *quantities))}
    fields = list(members)
    text: Any = str | None
    letters: Any = str | tuple[str, ...] | None
    read_as_texts = [(field, letters if members[field] == "tags" else text, None) for field in fields[: len(texts)]]
    read_as_numbers = [(field, Raw, Raw()) for field in fields[len(texts) :]]
    data_type = msgspec.defstruct("Data", [*read_as_texts, *read_as_numbers], rename=members, gc=False)
    required = [(name, str) for name in ATTRIBUTES[:3]]
    optional = [(name, text, None) for name in ATTRIBUTES[3:]]
    event_type = msgspec.defstruct("Envelope", [*required, *optional, ("data", data_type | None, None)], gc=False)
    lean_data: Any = msgspec.defstruct("LeanData", read_as_numbers, rename=members, gc=False)
    lean_fields: list[Any] = [("id", str), ("source", str), ("data", lean_data), ("time", text, None)]
    lean_type = msgspec.defstruct("LeanEnvelope", lean_fields, gc=False)
    list_of: Any = list
    return Form(
        decode=msgspec.json.Decoder(list_of[event_type]).decode,
        decode_one=msgspec.json.Decoder(event_type).decode,
        decode_lean=msgspec.json.Decoder(list_of[lean_type]).decode,
        quantity_of={members[field]: attrgetter(field) for field in fields[len(texts) :]},
        slow_types=slow_types,
        _chosen=itemgetter(slice(len(texts))),
    )
