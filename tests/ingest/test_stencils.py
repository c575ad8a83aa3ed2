"""Events recognised by what is left without what varies: whatever stands where, as if each were judged alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.catalog import builtin
from tallystick.ingest import prepare, stencils
from tallystick.ingest.prepare import Preparer
from tallystick.ingest.stencils import Stencils
from tests.ingest.test_prepare import CATALOG, NOW, OPERATOR, SETTINGS, one_by_one, said, unpacked

TIMES = ("2024-05-31T10:00:00Z", "2024-05-31T10:00:01Z")
TEXTS = ("1", "12", "5", "id", "s", "time", "model", "acme", "duration", "1.0", *TIMES)
"""Few, and each may stand anywhere: an id is another's label, a quantity part of a name, a time the name of a model."""
QUANTITIES = ("1", "12", "5", "1.0", "0.5", "51", '"PT1S"', '"1"', "null", "-1", "1e0", '{"model":"s"}')


@st.composite
def colliding(draw: st.DrawFn) -> bytes:
    text = st.sampled_from(TEXTS).map(json.dumps)
    members = draw(st.permutations([("duration", draw(st.sampled_from(QUANTITIES))), ("model", draw(text))]))
    more = draw(st.lists(st.tuples(st.sampled_from(["billing", "id", "time", "source", "seconds"]), text), max_size=2))
    colon = draw(st.sampled_from([":", ": "]))
    data = ",".join(f'"{name}"{colon}{value}' for name, value in [*more, *members])
    around = [
        ("specversion", '"1.0"'),
        ("id", draw(text)),
        ("source", draw(text)),
        ("time", json.dumps(draw(st.sampled_from(TIMES)))),
        ("type", '"audio.processed"'),
        ("account", draw(st.sampled_from(['"acme"', '"s"']))),
        ("data", "{" + data + "}"),
        *draw(st.lists(st.tuples(st.sampled_from(["id", "subject"]), text), max_size=1)),
    ]
    return ("{" + ",".join(f'"{name}"{colon}{value}' for name, value in draw(st.permutations(around))) + "}").encode()


@settings(max_examples=150, deadline=None)
@given(st.lists(colliding(), min_size=3, max_size=30))
def test_texts_that_stand_in_several_places_mislead_nobody(raws: list[bytes]) -> None:
    """What is remembered of some events is never taken for what others say."""
    expected = said(raws, one_by_one(raws, OPERATOR, CATALOG, False))
    preparer = Preparer(SETTINGS)
    for _ in range(3):
        prepared = preparer.prepare(raws, plain=False, caller=OPERATOR, catalog=CATALOG, now=NOW)
        assert unpacked(prepared, len(raws)) == expected


def event(id: str, source: str = "s", **data: Any) -> bytes:
    body = {"specversion": "1.0", "id": id, "source": source, "type": "audio.processed", "account": "acme"}
    return json.dumps({**body, "time": TIMES[0], "data": data}).encode()


def read_whole(raws: Sequence[bytes], preparer: Preparer, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many events are read whole when a part is prepared."""
    counts: list[int] = []
    decode = prepare._decode

    def counting(form: Any, some: Sequence[bytes]) -> Any:
        counts.append(len(some))
        return decode(form, some)

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_decode", counting)
        preparer.prepare(raws, plain=False, caller=OPERATOR, catalog=builtin(), now=NOW)
    return sum(counts)


def test_what_differs_in_id_source_time_and_quantity_is_read_whole_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the comparison above compares nothing."""
    preparer = Preparer(SETTINGS)
    raws = [event(f"e-{n}", f"/worker/{n % 7}", duration=n / 8, model="m") for n in range(1, 150)]
    assert read_whole(raws, preparer, monkeypatch) == len(raws)
    assert read_whole(raws, preparer, monkeypatch) == 0


def test_events_that_are_each_unique_are_not_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label-like member per event defeats it: then most pieces are read whole at once."""
    preparer = Preparer(SETTINGS)
    looked = 0
    real = Stencils.look_up

    def counting(self: Stencils[Any], some: Sequence[bytes]) -> Any:
        nonlocal looked
        looked += 1
        return real(self, some)

    monkeypatch.setattr(Stencils, "look_up", counting)
    for part in range(100):
        raws = [event(f"e-{part}-{n}", duration=1, request=f"r-{part}-{n}") for n in range(10)]
        assert read_whole(raws, preparer, monkeypatch) == 10
    assert looked < 12


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever many callers send, memory stays within its bound, and what was learned last is known."""
    monkeypatch.setattr(stencils, "BYTES_MAX", 1000)
    known = Stencils[int]()
    for n in range(100):
        known.learn(b"%0100d" % n, n)
        assert len(known) <= 10
    assert known.look_up([b"%0100d" % 99, b"other"]) == [99, None]
