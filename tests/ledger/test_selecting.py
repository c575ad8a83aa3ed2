"""Which series a question reads, and how they are grouped: the same whether it was asked before or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tallystick.catalog import builtin
from tallystick.ledger.packed import selecting
from tallystick.ledger.packed.selecting import select
from tallystick.ledger.packed.series import Selection, SeriesIndex
from tallystick.model import Account, AccountKind, Catalog, LabelSet, UsageQuery

NAMES = ("acme", "globex", "initech")
VALUES = st.sampled_from([None, "", "\x00", "a", "b", "aa", "é", "日本"])


def catalog_of(**numbers: int) -> Catalog:
    """Make a catalog with accounts under these numbers."""
    accounts = {name: Account(name, number, AccountKind.ORG) for name, number in numbers.items()}
    return replace(builtin(), accounts=accounts)


CATALOG = catalog_of(**{name: number for number, name in enumerate(NAMES, 1)})


def label_set(account: str, **labels: str | None) -> LabelSet:
    """Make a label set of audio; a label that is None is absent."""
    version = CATALOG.meters["audio"].version
    kept = tuple(sorted((name, value) for name, value in labels.items() if value is not None))
    return LabelSet(account, "audio", version, kept)


def question(*by: str, accounts: tuple[str, ...] | None = None, **where: frozenset[str]) -> UsageQuery:
    """Ask about audio of accounts, or of all."""
    return UsageQuery("audio", accounts, np.array([0, 1], np.int64), by, where)


def shown(selection: Selection) -> list[tuple[int, tuple[str | None, ...]]]:
    """Return each series with the values of its group."""
    groups = [selection.groups[group] for group in selection.group.tolist()]
    return list(zip(selection.series.tolist(), groups, strict=True))


def test_a_grouping_is_made_once_until_an_account_meets_a_new_label_set() -> None:
    """Whoever asks again gets what was made; what is new is in it at once, and other questions are others."""
    index = SeriesIndex()
    index.numbers([label_set(name, language="en") for name in NAMES[:2]], CATALOG.accounts)
    first = select(question("account"), CATALOG, index)
    assert shown(first) == [(1, ("acme",)), (2, ("globex",))]
    assert select(question("account"), CATALOG, index) is first
    assert shown(select(question(), CATALOG, index)) == [(1, ()), (2, ())]
    assert shown(select(question("account", accounts=NAMES[1:]), CATALOG, index)) == [(2, ("globex",))]
    index.numbers([label_set("initech", language="de"), label_set("acme", language="de")], CATALOG.accounts)
    found = select(question("account"), CATALOG, index)
    assert shown(found) == [(1, ("acme",)), (2, ("globex",)), (3, ("initech",)), (4, ("acme",))]
    assert shown(select(question("language", language=frozenset(["de"])), CATALOG, index)) == [
        (3, ("de",)),
        (4, ("de",)),
    ]


def test_an_account_that_came_back_under_its_name_is_another_one() -> None:
    """Nothing of the one that was deleted is remembered for it."""
    index = SeriesIndex()
    index.numbers([label_set(name) for name in NAMES], CATALOG.accounts)
    assert len(select(question("account"), CATALOG, index).series) == 3
    later = catalog_of(acme=1, globex=2, initech=9)
    assert shown(select(question("account"), later, index)) == [(1, ("acme",)), (2, ("globex",))]


def test_only_some_groupings_are_remembered() -> None:
    """However many different questions come, and not those that would take too much."""
    index = SeriesIndex()
    index.numbers([label_set(name) for name in NAMES], CATALOG.accounts)
    for number in range(3 * selecting.WIDE_SELECTIONS_MAX):
        select(question("account", language=frozenset([str(number)])), CATALOG, index)
        assert 0 < len(index.selections) <= selecting.WIDE_SELECTIONS_MAX
    index.selections.clear()
    wide = [label_set("acme", model=str(number)) for number in range(selecting.WIDE_SERIES_MAX)]
    index.numbers(wide, CATALOG.accounts)
    assert len(select(question("account"), CATALOG, index).series) == len(wide) + 3
    assert index.selections == {}


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES, VALUES), unique=True, max_size=20))
def test_groups_are_in_the_order_of_rows(made: list[tuple[str, str | None, str | None]]) -> None:
    """By code points, label by label, and what is absent first."""
    index = SeriesIndex()
    index.numbers([label_set(name, language=one, model=other) for name, one, other in made], CATALOG.accounts)
    groups = select(question("language", "account", "model"), CATALOG, index).groups
    expected = {(one, name, other) for name, one, other in made}
    assert list(groups) == sorted(expected, key=lambda group: [(value is not None, value or "") for value in group])
