"""Meter definitions as documents: every rule has its flaw with a pointer, and what is written reads the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.catalog import builtin
from tallystick.definitions import meters
from tallystick.definitions.paths import flaw_of
from tallystick.errors import Code, Problem
from tallystick.model import Meter, Rated, Rounding

PLAIN = {"events": ["call.ended"]}
FULL: dict[str, Any] = {
    "name": "calls",
    "events": ["call.ended", "call.failed"],
    "where": {"kind": ["", "voice"], "line": "7"},
    "quantity": "$.data.duration",
    "aggregation": "max",
    "unit": "s",
    "scale": 3,
    "round": {"to": "15", "mode": "up", "minimum": "30"},
    "labels": {"kind": "$.data.kind", "codec": "data.legs[0].codec"},
    "rate": {"table": "prices", "label": "kind"},
}


def read(document: Any, name: str | None = "calls") -> Meter:
    return meters.read(document, name=name, tables={"prices", "vision"})


def test_a_definition_has_every_member_it_may_have() -> None:
    """All of a document is in the meter, values of conditions as sets, version and epoch left to the ledger."""
    assert read(FULL) == Meter(
        name="calls",
        version=0,
        events=frozenset({"call.ended", "call.failed"}),
        quantity="$.data.duration",
        unit="s",
        scale=3,
        labels=(("kind", "$.data.kind"), ("codec", "data.legs[0].codec")),
        aggregation="max",
        where=(("kind", frozenset({"", "voice"})), ("line", frozenset({"7"}))),
        rounding=Rounding("15", "up", "30"),
        rate=Rated("prices", "kind"),
        epoch=0,
    )


def test_only_events_are_needed() -> None:
    """A meter counts events of its types by default: their number, without unit, digits, filter or labels."""
    assert read(PLAIN) == Meter("calls", 0, frozenset({"call.ended"}), None, "1", 0, (), epoch=0)


@pytest.mark.parametrize(
    ("members", "scale"),
    [({}, 0), ({"unit": "By"}, 0), ({"unit": "s"}, 6), ({"unit": "s", "scale": 0}, 0), ({"unit": "s", "scale": 9}, 9)],
)
def test_a_meter_of_seconds_keeps_microseconds_unless_it_says(members: dict[str, Any], scale: int) -> None:
    """The scale is 0, for seconds 6."""
    assert read({**PLAIN, **members}).scale == scale


def test_distinct_values_need_no_scale() -> None:
    """Whatever its unit, a meter of distinct values counts whole ones."""
    assert read({**PLAIN, "aggregation": "unique", "quantity": "$.data.user", "unit": "s"}).scale == 0


def test_null_is_absent() -> None:
    """A member that is null says nothing, as in events."""
    assert read({**PLAIN, "round": None, "rate": None, "quantity": None, "where": None, "labels": None}) == read(PLAIN)


def test_values_of_conditions_are_texts_however_they_are_written() -> None:
    """Numbers and truths are compared in the form that labels have."""
    where = {"a": True, "b": Decimal("1.50"), "c": [1, "x"], "d": ""}
    assert read({**PLAIN, "where": where}).where == (
        ("a", frozenset({"true"})),
        ("b", frozenset({"1.5"})),
        ("c", frozenset({"1", "x"})),
        ("d", frozenset({""})),
    )


def test_steps_are_kept_in_their_shortest_form() -> None:
    """So that the same definition is the same, in text or as a number."""
    for to in ("0.50", Decimal("0.5"), "0.5"):
        rounding = read({**PLAIN, "scale": 2, "round": {"to": to, "mode": "down", "minimum": "1.0"}}).rounding
        assert rounding == Rounding("0.5", "down", "1")


ONCE = {"events": ["resource.upserted"], "once_per": "state"}
UNIQUE = {**PLAIN, "aggregation": "unique", "quantity": "$.data.user"}


@pytest.mark.parametrize(
    ("document", "code", "pointer"),
    [
        ([], "field_type", ""),
        ("x", "field_type", ""),
        ({}, "field_missing", "/events"),
        ({"events": None}, "field_missing", "/events"),
        ({"events": "call.ended"}, "field_type", "/events"),
        ({"events": []}, "field_value", "/events"),
        ({"events": ["a", 1]}, "field_type", "/events/1"),
        ({"events": ["a", ""]}, "field_length", "/events/1"),
        ({"events": ["a" * 257]}, "field_length", "/events/0"),
        ({"events": ["a\x00"]}, "text_invalid", "/events/0"),
        ({**PLAIN, "colour": 1}, "field_value", "/colour"),
        ({**PLAIN, "a/b~c": 1}, "field_value", "/a~1b~0c"),
        ({**PLAIN, "name": "other"}, "field_value", "/name"),
        ({**PLAIN, "where": ["a"]}, "field_type", "/where"),
        ({**PLAIN, "where": {"a": []}}, "field_value", "/where/a"),
        ({**PLAIN, "where": {"a": ["x", {}]}}, "field_type", "/where/a/1"),
        ({**PLAIN, "where": {"a": {}}}, "field_type", "/where/a"),
        ({**PLAIN, "where": {"a": ["x" * 257]}}, "field_length", "/where/a/0"),
        ({**PLAIN, "where": {"a.b": "x"}}, "field_value", "/where/a.b"),
        ({**PLAIN, "quantity": 7}, "field_type", "/quantity"),
        ({**PLAIN, "quantity": ""}, "field_length", "/quantity"),
        ({**PLAIN, "quantity": "data.["}, "field_value", "/quantity"),
        ({**PLAIN, "aggregation": "median"}, "field_value", "/aggregation"),
        ({**PLAIN, "aggregation": 1}, "field_type", "/aggregation"),
        ({**PLAIN, "unit": ""}, "field_length", "/unit"),
        ({**PLAIN, "unit": "a b"}, "field_value", "/unit"),
        ({**PLAIN, "unit": "{request"}, "field_value", "/unit"),
        ({**PLAIN, "unit": "µs"}, "field_value", "/unit"),
        ({**PLAIN, "unit": "x" * 64}, "field_length", "/unit"),
        ({**PLAIN, "scale": 10}, "field_value", "/scale"),
        ({**PLAIN, "scale": -1}, "field_value", "/scale"),
        ({**PLAIN, "scale": True}, "field_value", "/scale"),
        ({**PLAIN, "scale": Decimal("1.0")}, "field_value", "/scale"),
        ({**PLAIN, "scale": "1"}, "field_value", "/scale"),
        ({**PLAIN, "round": "up"}, "field_type", "/round"),
        ({**PLAIN, "round": {"mode": "up"}}, "field_missing", "/round/to"),
        ({**PLAIN, "round": {"to": "1"}}, "field_missing", "/round/mode"),
        ({**PLAIN, "round": {"to": "1", "mode": "ceil"}}, "field_value", "/round/mode"),
        ({**PLAIN, "round": {"to": "0", "mode": "up"}}, "field_value", "/round/to"),
        ({**PLAIN, "round": {"to": "0.5", "mode": "up"}}, "field_value", "/round/to"),
        ({**PLAIN, "round": {"to": Decimal("1e400"), "mode": "up"}}, "field_value", "/round/to"),
        ({**PLAIN, "round": {"to": Decimal("1e-400"), "mode": "up"}}, "field_value", "/round/to"),
        ({**PLAIN, "round": {"to": "-1", "mode": "up"}}, "field_type", "/round/to"),
        ({**PLAIN, "round": {"to": -1, "mode": "up"}}, "field_type", "/round/to"),
        ({**PLAIN, "round": {"to": "1e3", "mode": "up"}}, "field_type", "/round/to"),
        ({**PLAIN, "round": {"to": "1", "mode": "up", "minimum": True}}, "field_type", "/round/minimum"),
        ({**PLAIN, "round": {"to": "2", "mode": "up", "minimum": "3"}}, "field_value", "/round/minimum"),
        ({**PLAIN, "round": {"to": "1", "mode": "up", "least": "3"}}, "field_value", "/round/least"),
        ({**PLAIN, "labels": ["a"]}, "field_type", "/labels"),
        ({**PLAIN, "labels": {"a-b": "$.data.a"}}, "field_value", "/labels/a-b"),
        ({**PLAIN, "labels": {"": "$.data.a"}}, "field_value", "/labels/"),
        ({**PLAIN, "labels": {"1a": "$.data.a"}}, "field_value", "/labels/1a"),
        ({**PLAIN, "labels": {"a" * 65: "$.data.a"}}, "field_value", "/labels/" + "a" * 65),
        ({**PLAIN, "labels": {"account": "$.account"}}, "label_reserved", "/labels/account"),
        ({**PLAIN, "labels": {"a": 1}}, "field_type", "/labels/a"),
        ({**PLAIN, "labels": {"a": "data.["}}, "field_value", "/labels/a"),
        ({**PLAIN, "labels": {f"l{n}": "$.data.a" for n in range(33)}}, "field_length", "/labels"),
        ({**PLAIN, "once_per": "state"}, "field_value", "/once_per"),
        ({**ONCE, "once_per": "day"}, "field_value", "/once_per"),
        ({**ONCE, "events": ["resource.upserted", "resource.deleted"]}, "field_value", "/once_per"),
        ({**FULL, "rate": "prices"}, "field_type", "/rate"),
        ({**FULL, "rate": {"label": "kind"}}, "field_missing", "/rate/table"),
        ({**FULL, "rate": {"table": "prices"}}, "field_missing", "/rate/label"),
        ({**FULL, "rate": {"table": "none", "label": "kind"}}, "field_value", "/rate/table"),
        ({**FULL, "rate": {"table": "prices", "label": "none"}}, "field_value", "/rate/label"),
        ({**PLAIN, "aggregation": "unique"}, "field_missing", "/quantity"),
        ({**UNIQUE, "scale": 1}, "field_value", "/scale"),
        ({**UNIQUE, "round": {"to": "1", "mode": "up"}}, "field_value", "/round"),
        ({**UNIQUE, **ONCE}, "field_value", "/once_per"),
        ({**UNIQUE, "labels": FULL["labels"], "rate": FULL["rate"]}, "field_value", "/rate"),
    ],
)
def test_a_flaw_is_named_by_its_pointer(document: Any, code: str, pointer: str) -> None:
    """Every rule of a definition refuses what breaks it, and says where and what to do."""
    with pytest.raises(Problem) as refused:
        read(document)
    assert (refused.value.code, [flaw.pointer for flaw in refused.value.flaws]) == (code, [pointer])
    assert refused.value.detail.endswith(".")


def test_all_flaws_are_told_at_once() -> None:
    """A definition with several flaws names each of them."""
    document = {"events": [], "unit": "a b", "scale": 11, "labels": {"a": "data["}, "colour": 1}
    with pytest.raises(Problem) as refused:
        read(document)
    pointers = {flaw.pointer for flaw in refused.value.flaws}
    assert pointers == {"/events", "/unit", "/scale", "/labels/a", "/colour"}


@pytest.mark.parametrize("name", ["", "Calls", "1calls", "calls-made", "a" * 65, "účet", "calls\n"])
def test_a_name_is_of_small_letters(name: str) -> None:
    """A definition that says its own name says a good one; without a place to be named by, it has to."""
    with pytest.raises(Problem) as refused:
        read({**PLAIN, "name": name}, name=None)
    assert [flaw.pointer for flaw in refused.value.flaws] == ["/name"]
    with pytest.raises(Problem) as missing:
        read(PLAIN, name=None)
    assert missing.value.code is Code.FIELD_MISSING
    assert read({**PLAIN, "name": "a" * 64}, name=None).name == "a" * 64


@pytest.mark.parametrize("unit", ["s", "By", "{request}", "1", "By/s", "KiBy", "{a}/{b}", "%", "[in_i]", "ms"])
def test_units_are_as_opentelemetry_writes_them(unit: str) -> None:
    """Codes, annotations in braces, and quotients."""
    assert read({**PLAIN, "unit": unit}).unit == unit


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("$.data.duration", None),
        ("$.space", None),
        ("data.items[0].seconds", None),
        ("$.data.items[?kind == 'a'] | length(@)", None),
        ("max_by(data.items, &seconds).seconds", None),
        ("data.items[?n > `5`]", None),
        ("data.items[", "it ends too soon"),
        ("data..a", "at character 6"),
        ("$.data..a", "at character 8"),
        ("data.a]", "at character 7: unexpected ']'"),
        ("data.#", "at character 6"),
        ("$data", "at character 1"),
        ("lenght(data.items)", "there is no function lenght()"),
        ("length(data.items, data)", "length() takes 1 arguments, not 2"),
        ("data.items[?n > `0.5`]", "would not be compared exactly"),
        ('data.a == `[1, {"a": 0.5}]`', "would not be compared exactly"),
        ("data.items[?length(x(@)) > `1`]", "there is no function x()"),
    ],
)
def test_a_path_is_checked_as_far_as_it_can_be(path: str, says: str | None) -> None:
    """Syntax is refused with its place, and so is what can never be found or not exactly."""
    flaw = flaw_of(path)
    assert flaw is None if says is None else says in (flaw or "")


def test_a_document_written_is_a_document_read() -> None:
    """The full definition comes back as it was, its sets in order."""
    assert meters.written(read(FULL)) == {**FULL, "events": ["call.ended", "call.failed"], "where": WRITTEN_WHERE}


WRITTEN_WHERE = {"kind": ["", "voice"], "line": ["7"]}


@pytest.mark.parametrize("meter", builtin().meters.values(), ids=lambda meter: meter.name)
def test_built_in_meters_can_be_written_and_read(meter: Meter) -> None:
    """What is there from the start is what a document could define."""
    again = meters.read(meters.written(meter), tables={"vision"})
    assert again == Meter(**{**{name: getattr(meter, name) for name in Meter.__slots__}, "version": 0, "epoch": 0})


label_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).filter(lambda name: name != "account")
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs"]), min_size=1, max_size=20)
paths = st.sampled_from(["$.data.a", "$.space", "data.items[0]", "$.data.a.b_c", 'data."quoted name"', "@"])


@st.composite
def any_meter(draw: st.DrawFn) -> Meter:
    """Draw a definition that keeps every rule."""
    scale, labels = draw(st.integers(0, 9)), draw(st.dictionaries(label_names, paths, max_size=4))
    step = draw(st.integers(1, 10**6))
    is_unique = draw(st.booleans())
    is_once = not is_unique and draw(st.booleans())
    to = Decimal(step).scaleb(-scale)
    rounding = Rounding(plain(to), draw(st.sampled_from(meters.ROUNDINGS)), plain(to * draw(st.integers(0, 3))))
    rate = Rated("prices", draw(st.sampled_from(sorted(labels)))) if labels else None
    return Meter(
        name=draw(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)),
        version=0,
        events=frozenset({"resource.upserted"}) if is_once else draw(st.frozensets(texts, min_size=1, max_size=3)),
        quantity=draw(paths if is_unique else st.none() | paths),
        unit=draw(st.sampled_from(["s", "1", "{call}", "By"])),
        scale=0 if is_unique else scale,
        labels=tuple(labels.items()),
        aggregation="unique" if is_unique else draw(st.sampled_from(meters.AGGREGATIONS[:-1])),
        where=tuple(draw(st.dictionaries(label_names, st.frozensets(texts | st.just(""), min_size=1))).items()),
        rounding=None if is_unique else draw(st.none() | st.just(rounding)),
        once_per=draw(st.sampled_from(["state", "url"])) if is_once else None,
        rate=None if is_unique else draw(st.none() | st.just(rate)),
        epoch=0,
    )


def plain(number: Decimal) -> str:
    """Write a decimal without an exponent and without zeros at its end."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@given(meter=any_meter())
def test_every_meter_comes_back_from_its_document(meter: Meter) -> None:
    """Whatever was defined is written so that it reads the same, order of labels and conditions included."""
    again = read(meters.written(meter), meter.name)
    assert again == meter
    assert (again.labels, again.where) == (meter.labels, meter.where)
