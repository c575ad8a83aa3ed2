"""What dialects share: query parameters that say one thing, and amounts as text."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick import query
from tallystick.catalog import builtin
from tallystick.errors import Code, Problem
from tallystick.model import AsOf, EventPage, EventQuery, EventRow
from tallystick.query import Request, decimal_text


def request(*parameters: tuple[str, str]) -> Request:
    return Request(now=0, catalog=builtin(), accounts=None, query=parameters)


def test_a_parameter_is_what_was_sent() -> None:
    """The value as it came, and None where there is none."""
    assert request(("a", "1"), ("b", " x ")).value("b") == " x "
    assert request(("a", "1")).value("b") is None


@pytest.mark.parametrize("parameters", [(("a", ""),), (("a", "1"), ("a", "1")), (("a", ""), ("a", ""))])
def test_an_empty_or_repeated_parameter_is_refused(parameters: tuple[tuple[str, str], ...]) -> None:
    """Neither is guessed at; the problem names the parameter."""
    with pytest.raises(Problem) as caught:
        request(*parameters).value("a")
    assert caught.value.code is Code.PARAMETER_INVALID
    assert [flaw.pointer for flaw in caught.value.flaws] == ["a"]


def test_no_question_needs_no_ledger() -> None:
    """A report that asks nothing is answered with no tables, without disturbing the ledger."""
    assert asyncio.run(query.run(None, ())) == ()  # type: ignore[arg-type]  # a stand-in ledger


@pytest.mark.parametrize(
    ("accept", "liked"),
    [
        ("", "a/json"),
        ("*/*", "a/json"),
        ("t/csv", "t/csv"),
        ("T/CSV", "t/csv"),
        ("t/*", "t/csv"),
        ("t/csv;header=present", "t/csv"),
        ("t/csv ; q=0.5 , a/json ; q=0.4", "t/csv"),
        ("t/csv;q=0.5,a/json;q=0.6", "a/json"),
        ("t/csv,a/json", "a/json"),
        ("a/json,t/csv", "a/json"),
        ("t/csv,*/*", "t/csv"),
        ("*/*,t/csv;q=0.9", "a/json"),
        ("a/json;q=0,*/*", "t/csv"),
        ("a/*;q=0,*/*;q=0.1", "t/csv"),
        ("a/json;q=0", "a/json"),
        ("t/csv;q=0", "a/json"),
        ("t/html", "a/json"),
        ("t/csv;q=0.001", "t/csv"),
        ("t/csv;q=1.000,a/json;q=0.999", "t/csv"),
        ("t/csv;q=2", "a/json"),
        ("t/csv;q=x", "a/json"),
        ("t/csv;level=1;q=0.3, a/json;q=0.2", "t/csv"),
        (",,;q=1,;", "a/json"),
    ],
)
def test_what_is_liked_best_is_given(accept: str, liked: str) -> None:
    """As RFC 9110 ranks what Accept says; the first is given where nothing else is wanted more."""
    assert query.preferred(accept, ("a/json", "t/csv")) == liked


def test_a_list_goes_on_looking_for_a_while() -> None:
    """Empty pages are passed over, up to a bound; then an empty one is given with a cursor."""

    class Sparse:
        """A ledger with one event far down."""

        def __init__(self, place: int) -> None:
            self.place, self.calls = place, 0

        async def events(self, asked: EventQuery) -> EventPage:
            self.calls += 1
            through = (asked.through or 1000) - 1
            rows = (ROW,) if through == self.place else ()
            return EventPage(rows, AsOf(1000, 1), replace(asked, through=through))

    for place, calls, rows in ((999, 1, 1), (990, 10, 1), (1000 - query.EMPTY_PAGES_MAX - 2, 21, 0)):
        ledger = Sparse(place)
        page = asyncio.run(query.page(ledger, EventQuery(None)))  # type: ignore[arg-type]  # a stand-in ledger
        assert (ledger.calls, len(page.rows), page.next is None) == (calls, rows, False)


ROW = EventRow(1, 1, "acme", None, 1, b"{}", False, ())


@pytest.mark.parametrize(
    ("amount", "scale", "text"),
    [
        (0, 0, "0"),
        (0, 6, "0"),
        (1, 6, "0.000001"),
        (-1, 6, "-0.000001"),
        (1_500_000, 6, "1.5"),
        (8_000, 0, "8000"),
        (100, 2, "1"),
        (843_216, 2, "8432.16"),
        (10**30, 9, "1" + "0" * 21),
    ],
)
def test_an_amount_is_written_without_exponent_or_padding(amount: int, scale: int, text: str) -> None:
    """Exact decimal text, whole where it is whole."""
    assert decimal_text(amount, scale) == text


@given(st.integers(), st.integers(0, 9))
def test_amounts_survive_their_text(amount: int, scale: int) -> None:
    """The text is the exact value, in plain digits with no zero to spare."""
    text = decimal_text(amount, scale)
    assert int(text.replace(".", "")) * 10 ** (scale - len(text.partition(".")[2])) == amount
    assert "e" not in text.lower()
    assert not ("." in text and text.endswith(("0", ".")))
