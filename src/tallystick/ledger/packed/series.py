"""The series a ledger has met: numbers for (account, meter, version, label set), and the way back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from tallystick.ledger.packed.segment import NewSeries
from tallystick.model import VALUE, Account, Labels, LabelSet
from tallystick.precedence import precedence
from tallystick.rollup import Ints

Sought = tuple[
    str,
    tuple[int, int],
    tuple[tuple[str, int], ...],
    tuple[str, ...],
    frozenset[str],
    frozenset[tuple[str, frozenset[str]]],
]
"""A meter, its first and last version that count, accounts by name and number, labels, which are "" if absent, and of
labels the values wanted."""

Key = tuple[int, str, int, Labels]
"""What a series stands for: account number, meter, meter version, labels."""

NO_NUMBERS: Mapping[Labels, int] = {}
MEMO_MAX = 200_000
_labels, _packed_labels = msgspec.json.Decoder(Labels), msgspec.msgpack.Decoder(Labels)
TABLE_SPARSE_MAX = 16
"""Up to so many numbers for each series that is read, a group is looked up in a table instead of searched."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The series a query reads, ascending, and the group of each (an index into `groups`, which are in row order)."""

    series: Ints
    group: Ints
    groups: Sequence[tuple[str | None, ...]]
    accounts: Ints
    _table: Ints | None = field(init=False, repr=False, compare=False)
    """The group of each number from before the first series to behind the last, -1 where none is read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_table", self._tabled())

    def _tabled(self) -> Ints | None:
        span = int(self.series[-1] - self.series[0]) + 1 if len(self.series) else 0
        if not 0 < span <= TABLE_SPARSE_MAX * len(self.series):
            return None
        table = np.full(span + 2, -1, np.int64)
        table[self.series - self.series[0] + 1] = self.group
        return table

    def place(self, series: Ints) -> tuple[Ints, Ints]:
        """Return the rows whose series is read, and the group of each."""
        if len(self.series) == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if self._table is not None:
            groups = self._table.take(series - (self.series[0] - 1), mode="clip")
            chosen = np.flatnonzero(groups >= 0)
            return chosen, groups if len(chosen) == len(groups) else groups[chosen]
        at = np.minimum(np.searchsorted(self.series, series), len(self.series) - 1)
        chosen = np.flatnonzero(self.series[at] == series)
        return chosen, self.group[at[chosen]]


def without_value(labels: Labels) -> Labels:
    """Return the label set of a series of distinct values."""
    return labels[1:] if labels and labels[0][0] == VALUE else labels


class LabelReader:
    """Reads label sets as they are kept: those that are alike become one object, and so does each pair."""

    def __init__(self) -> None:
        self._known: dict[str | bytes, Labels] = {}
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}

    def read(self, text: str) -> Labels:
        """Return the label set that JSON says; raises MsgspecError where it says none."""
        return self._known.get(text) or self._learn(text, _labels.decode(text))

    def read_packed(self, packed: bytes) -> Labels:
        """Return the label set that MessagePack says; raises MsgspecError where it says none."""
        return self._known.get(packed) or self._learn(packed, _packed_labels.decode(packed))

    def _learn(self, said: str | bytes, labels: Labels) -> Labels:
        known = self._known[said] = tuple([self._pairs.setdefault(pair, pair) for pair in labels])
        return known


@dataclass(slots=True)
class Strand:
    """The series of one account and one meter, in order of their numbers; it only ever grows.

    `sets` are the label sets of distinct values, where there are any: then there are more series than label sets.

    `selections` remembers groupings, each with how many series there were.
    """

    numbers: list[int] = field(default_factory=list)
    labels: list[Labels] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    sets: set[Labels] = field(default_factory=set)
    selections: dict[Sought, tuple[int, Selection]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How many label sets there are."""
        return len(self.sets) or len(self.numbers)

    @property
    def values(self) -> int:
        """How many distinct values there are, each counted with its label set."""
        return len(self.numbers) if self.sets else 0


class SeriesIndex:
    """Written by the writer thread alone; readers see a prefix of it, which is all they need.

    `selections` remembers groupings of several accounts at once, each with how many series there were.
    """

    def __init__(self) -> None:
        self.strands: dict[tuple[int, str], Strand] = {}
        self.selections: dict[Sought, tuple[int, Selection]] = {}
        self.widest = self.values = 0
        self.accounts: list[int] = [0]
        self.meters: list[str] = [""]
        self._versions: list[int] = [0]
        self._labels: list[Labels] = [()]
        self._numbers: dict[tuple[int, str, int], dict[Labels, int]] = {}
        self._memo: dict[LabelSet, int] = {}

    def __len__(self) -> int:
        return len(self.accounts) - 1

    def add(self, new: NewSeries) -> None:
        if new.number != len(self.accounts):
            raise ValueError(f"series {new.number} follows {len(self.accounts) - 1}")
        self._describe(new)
        self._file(new)

    def _describe(self, new: NewSeries) -> None:
        """Note what the next number stands for."""
        self._versions.append(new.meter_version)
        self._labels.append(new.labels)
        self.meters.append(new.meter)
        self.accounts.append(new.account)

    def _file(self, new: NewSeries) -> None:
        """Have a series found by what it stands for."""
        self._numbered(new.account, new.meter, new.meter_version)[new.labels] = new.number
        self._string(new)

    def _numbered(self, account: int, meter: str, version: int) -> dict[Labels, int]:
        """Return the numbers by label set; there may be hundreds of thousands, so none has a tuple of its own."""
        key = account, meter, version
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = {}
        return known

    def _string(self, new: NewSeries) -> None:
        """Add a series to its strand."""
        strand = self.strands.get((new.account, new.meter))
        if strand is None:
            strand = self.strands[new.account, new.meter] = Strand()
        strand.labels.append(new.labels)
        strand.versions.append(new.meter_version)
        strand.numbers.append(new.number)
        if new.labels and new.labels[0][0] == VALUE:
            strand.sets.add(without_value(new.labels))
        if strand.sets:
            self.values = max(self.values, strand.values)
        if (width := strand.width) > self.widest:
            self.widest = width

    def describe(self, number: int) -> Key:
        """Return what a series stands for."""
        return self.accounts[number], self.meters[number], self._versions[number], self._labels[number]

    def find(self, key: Key) -> int:
        """Return the number of what stands for `key`, 0 if nothing does yet; for any thread."""
        return self._numbers.get(key[:3], NO_NUMBERS).get(key[3], 0)

    def known(self, label_sets: Sequence[LabelSet], accounts: Mapping[str, Account]) -> Ints:
        """Return the numbers of label sets, 0 for what has none yet; for any thread."""
        numbers = list(map(self._memo.get, label_sets))
        for at, number in enumerate(numbers):
            if number is None:
                precedence.give_way()
                numbers[at] = found = self._number(label_sets[at], accounts)
                if found:
                    self._remember(label_sets[at], found)
        return np.array(numbers, np.int64)

    def _number(self, label_set: LabelSet, accounts: Mapping[str, Account]) -> int:
        return self.find(key_of(label_set, accounts))

    def _remember(self, label_set: LabelSet, number: int) -> None:
        # From several threads: each step is one operation of a dict, and a number never changes.
        if len(self._memo) >= MEMO_MAX:
            self._memo.clear()
        self._memo[label_set] = number

    def numbers(self, label_sets: Sequence[LabelSet], accounts: Mapping[str, Account]) -> tuple[Ints, list[NewSeries]]:
        """Return the numbers of label sets, and those that were given just now; the caller keeps these in the file."""
        made: list[NewSeries] = []
        numbers: list[int] = []
        for label_set in label_sets:
            account, following = accounts[label_set.account].number, len(self.accounts)
            numbered = self._numbered(account, label_set.meter, label_set.meter_version)
            # One look at the labels, for whether they are there and for putting them there: they are hashed each time.
            number = numbered.setdefault(label_set.labels, following)
            if number == following:
                new = NewSeries(number, account, label_set.meter, label_set.meter_version, label_set.labels)
                self._describe(new)
                self._string(new)
                made.append(new)
            numbers.append(number)
            self._remember(label_set, number)
        return np.array(numbers, np.int64), made


def key_of(label_set: LabelSet, accounts: Mapping[str, Account]) -> Key:
    """Return what the series of a label set stands for."""
    return accounts[label_set.account].number, label_set.meter, label_set.meter_version, label_set.labels


class Forecast:
    """The numbers that series will get which are new with work that waits for the writer, if no other comes between.

    For one thread, whose work is written in the order in which it asks. It can be wrong: whoever gives the numbers
    compares.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], bool], Sequence[Key]]] = deque()

    def numbers(self, index: SeriesIndex, keys: Sequence[Key], is_done: Callable[[], bool]) -> Ints:
        """Return the numbers to be expected for series that have none yet; `is_done` says when they have, or never get
        any.
        """
        while self._waiting and self._waiting[0][0]():
            self._waiting.popleft()
        # Counted before looking: what is then found beyond it came since, and from those who wait here.
        last = len(index)
        ahead = [key for _, waiting in self._waiting for key in waiting]
        for at in range(len(ahead) - 1, -1, -1):
            if found := index.find(ahead[at]):
                last, ahead = max(last, found), ahead[at + 1 :]
                break
        expected = dict(zip(ahead, range(last + 1, last + 1 + len(ahead)), strict=True))
        for key in keys:
            expected.setdefault(key, last + 1 + len(expected))
        self._waiting.append((is_done, list(expected)[len(ahead) :]))
        return np.array([expected[key] for key in keys], np.int64)
