"""Bulk waits while small requests are under way, and never for ever."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tallystick import precedence
from tallystick.precedence import Precedence


@pytest.fixture
def interval() -> Iterator[None]:
    """Leave the interpreter as it was."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("interval")
def test_turns_are_short_only_while_small_requests_are_beside_what_computes_for_long() -> None:
    """Neither alone is worth handing the interpreter over all the time."""
    order, turns = Precedence(), []

    def look() -> None:
        turns.append(round(sys.getswitchinterval(), 6))

    order.govern()
    look()
    with order.small():
        look()
        with order.computing():
            look()
            with order.computing():
                look()
            look()
        look()
    with order.computing():
        look()
        with pytest.raises(ValueError), order.small():
            look()
            raise ValueError
        look()
    usual, short = precedence.LONG_TURN_S, precedence.SHORT_TURN_S
    assert turns == [usual, usual, short, short, short, usual, usual, short, usual]


@pytest.mark.usefixtures("interval")
def test_turns_are_let_alone_where_nobody_asked() -> None:
    """A program that embeds the ledger has an interpreter of its own."""
    sys.setswitchinterval(0.003)
    order = Precedence()
    with order.small(), order.computing():
        assert sys.getswitchinterval() == pytest.approx(0.003)


def bulk_order() -> Precedence:
    """Return one in which this thread works on bulk."""
    order = Precedence()
    order.join_bulk()
    return order


def test_bulk_goes_on_at_once_when_nothing_small_is_under_way() -> None:
    """Without small requests it costs nothing."""
    order = bulk_order()
    with order.small():
        pass
    started = time.perf_counter()
    for _ in range(1000):
        order.give_way()
    assert time.perf_counter() - started < 1000 * precedence.GIVE_WAY_S / 2


def test_bulk_waits_until_the_last_small_request_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends does not let bulk pass before another."""
    monkeypatch.setattr(precedence, "GIVE_WAY_S", 60)
    order, done = Precedence(), threading.Event()

    def wait() -> None:
        order.join_bulk()
        order.give_way()
        done.set()

    bulk = threading.Thread(target=wait)
    with order.small():
        with order.small():
            bulk.start()
        assert not done.wait(0.05)
    assert done.wait(10)
    bulk.join()


def test_small_requests_that_never_cease_do_not_stop_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait is bounded, and after it a thread works for a while before it waits again."""
    monkeypatch.setattr(precedence, "GIVE_WAY_S", 0.05)
    monkeypatch.setattr(precedence, "TURN", 1_000)
    order = bulk_order()
    with order.small():
        started = time.perf_counter()
        for _ in range(100):
            order.give_way()
        assert 0.05 <= time.perf_counter() - started < 2.5


def test_each_thread_of_bulk_has_a_turn_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one has waited lets no other pass."""
    monkeypatch.setattr(precedence, "GIVE_WAY_S", 0.05)
    monkeypatch.setattr(precedence, "TURN", 1_000)
    order, waited = Precedence(), list[float]()

    def wait() -> None:
        order.join_bulk()
        started = time.perf_counter()
        order.give_way()
        waited.append(time.perf_counter() - started)

    with order.small():
        for _ in range(2):
            bulk = threading.Thread(target=wait)
            bulk.start()
            bulk.join()
    assert min(waited) >= 0.05


def test_a_small_request_that_fails_is_no_longer_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error must not leave bulk waiting at each piece for ever."""
    monkeypatch.setattr(precedence, "GIVE_WAY_S", 60)
    order = bulk_order()
    with pytest.raises(ValueError), order.small():
        raise ValueError
    order.give_way()


def test_what_is_not_bulk_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bulk and small requests both do asks in passing, whichever of them does it; so does the writer."""
    monkeypatch.setattr(precedence, "GIVE_WAY_S", 60)
    order = Precedence()
    with order.small():
        order.give_way()
