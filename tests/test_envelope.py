"""One event's JSON: what can be read, which instant a time is, and when two events say the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.envelope import (
    DEPTH_MAX,
    Unreadable,
    content,
    event_of,
    id_of,
    parse_time,
    pointer_to,
    read,
    same_content,
    space_of,
    text_of,
)
from tallystick.errors import Code
from tallystick.model import Event

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RECEIVED = 1_700_000_000_000_000
EVENT = '{"id":"1","source":"w","type":"t","subject":"acme/room","data":{"n":1}}'


def told(raw: bytes | str) -> Unreadable:
    """Read what must be refused and return what was said."""
    with pytest.raises(Unreadable) as caught:
        read(raw.encode() if isinstance(raw, str) else raw)
    return caught.value


def event(text: str, account: str = "acme") -> Event:
    """Make the event of a JSON text."""
    return event_of(read(text.encode()), account, RECEIVED)


def event_with(**members: Any) -> Event:
    """Make the event of EVENT with other or further members."""
    return event(json.dumps({**json.loads(EVENT), **members}))


# Reading


def test_numbers_are_read_exactly() -> None:
    """An integer stays an integer of any size, anything else becomes the decimal that was written."""
    raw = b'{"a":153.37869999999998,"b":12345678901234567890123456789,"c":1e2,"d":-0.10}'
    assert read(raw) == {
        "a": Decimal("153.37869999999998"),
        "b": 12345678901234567890123456789,
        "c": Decimal(100),
        "d": Decimal("-0.1"),
    }
    assert str(read(raw)["d"]) == "-0.10"


def test_the_last_of_repeated_names_wins() -> None:
    """A name that comes twice has the value it had last, as the documentation says."""
    assert read(b'{"a":1,"b":{"c":1,"c":2},"a":3}') == {"a": 3, "b": {"c": 2}}


@pytest.mark.parametrize(
    "raw",
    [
        '{"a":1',
        '{"a":nul}',
        '{"a":01}',
        '{"a":1,}',
        '{"a":"\n"}',
        '{"a":1} x',
        "",
        "  ",
        '{"a":.5}',
        '{"a":+1}',
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        "{'a':1}",
        '{"a":1_000}',
        '{"a":"\\x"}',
        '{"a":0x1F}',
        '{"a":\u0661}',
        '\ufeff{"a":1}',
    ],
)
def test_what_is_no_json_is_refused(raw: str) -> None:
    """Only JSON as RFC 8259 has it is read: no NaN, no digits of other scripts, no marks before it."""
    assert told(raw).code is Code.NOT_JSON


@pytest.mark.parametrize("raw", ["[]", "1", "null", '"text"', "true", "1.5"])
def test_what_is_no_object_is_refused(raw: str) -> None:
    """An event is an object."""
    assert told(raw).code is Code.NOT_OBJECT


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b'{"a":"\\ud800"}', "/a"),
        (b'{"a":{"b":["x","\\udc00\\ud800"]}}', "/a/b/1"),
        (b'{"a":{"x/~\\udfff":1}}', "/a/x~1~0?"),
        (b'{"a":"\xff"}', ""),
        (b'{"a":"\xed\xa0\x80"}', ""),
        (b'{"a":"\xc0\xa0"}', ""),
    ],
)
def test_text_that_is_not_unicode_is_refused_where_it_stands(raw: bytes, pointer: str) -> None:
    """Half a surrogate pair is named by its place; bytes that are not UTF-8 have none."""
    found = told(raw)
    assert (found.code, found.pointer) == (Code.TEXT_INVALID, pointer)


def test_a_surrogate_pair_is_one_letter() -> None:
    """Escaped letters beyond the first plane are read like any other."""
    assert read(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_a_huge_exponent_is_kept_without_computing_it() -> None:
    """1e999999999 is a decimal of one digit; nobody writes it out."""
    found = read(b'{"a":1e999999999,"b":1e-999999999}')
    assert found["a"] == Decimal("1e999999999")
    assert 0 < found["b"] < Decimal("1e-999999998")


@pytest.mark.parametrize("text", ["1e9999999999999999999", "-2.5E-99999999999999999999", "0e99999999999999999999"])
def test_an_exponent_that_no_decimal_holds_is_refused_where_it_stands(text: str) -> None:
    """Exponents of nineteen digits and more are the one kind of JSON number that is not read."""
    found = told(f'{{"data":{{"list":[1,{text}]}}}}')
    assert (found.code, found.pointer) == (Code.QUANTITY_RANGE, "/data/list/1")


@pytest.mark.parametrize("digits", [300, 4_000, 5_000, 100_000])
def test_a_number_may_have_any_number_of_digits(digits: int) -> None:
    """Python's limits for reading integers are not the caller's business."""
    found = read(b'{"a":' + b"7" * digits + b"}")["a"]
    assert Decimal(found).adjusted() == digits - 1
    assert found % 10 == 7 if isinstance(found, int) else str(found) == "7" * digits


def nested(depth: int, inner: str = "1") -> str:
    """Write an event that is nested so deep."""
    return '{"a":' + "[" * (depth - 1) + inner + "]" * (depth - 1) + "}"


def test_nesting_ends_at_its_limit() -> None:
    """The limit itself is fine, one level more is refused, and so is what would exhaust the stack."""
    assert read(nested(DEPTH_MAX).encode())
    for depth in (DEPTH_MAX + 1, 500, 5_000, 100_000):
        assert told(nested(depth)).code is Code.NOT_JSON
        assert told(nested(depth, '"\\ud800"')).code is Code.NOT_JSON


def test_many_members_are_not_deep() -> None:
    """Only depth counts, not how many objects and lists there are."""
    assert len(read(json.dumps({"a": [[]] * 1000}).encode())["a"]) == 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5), st.booleans())
def test_what_the_standard_library_writes_is_read_back(value: dict[str, Any], ascii_only: bool) -> None:
    """Any object without fractions comes back as it was, escaped or not."""
    assert read(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")) == json.loads(
        json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")
    )


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b'{"id":"1","time":7}', "1"),
        (b'{"id":""}', ""),
        (b'{"id":7}', None),
        (b"{}", None),
        (b"[]", None),
        (b'{"id":"1"', None),
        (b'{"id":"1","id":"2"}', "2"),
        (b'{"id":"1","data":"\\ud800"}', "1"),
        (b'{"id":"1","data":"\\ud800","n":' + b"7" * 5000 + b"}", "1"),
        (b'{"id":"1","n":1e9999999999999999999}', "1"),
        (b'{"id":"\\ud800"}', None),
        (b'{"id":"\xff"}', None),
        (b'{"id":7,"data":"\\ud800"}', None),
        (b'["\\ud800"]', None),
        (b'{"id":"1","data":' + b"[" * 10_000 + b"]" * 10_000 + b"}", None),
    ],
)
def test_a_receipt_names_the_event_where_it_can(raw: bytes, found: str | None) -> None:
    """A bad event has often a good id; one that is no JSON, or whose id is no text that can be sent, has none."""
    assert id_of(raw) == found


def test_pointers_escape_what_they_must() -> None:
    """A slash and a tilde in a name are written as RFC 6901 has them."""
    assert pointer_to("data", "a/b~c", 0) == "/data/a~1b~0c/0"
    assert pointer_to() == ""


# Time


def micros(*parts: int) -> int:
    """Return a UTC instant in microseconds, by the standard library."""
    return (datetime(*parts, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)  # type: ignore[misc,arg-type]  # any may be given here


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2024-02-29T12:30:45.5Z", micros(2024, 2, 29, 12, 30, 45, 500_000)),
        ("2024-02-29t12:30:45z", micros(2024, 2, 29, 12, 30, 45)),
        ("2024-02-29T12:30:45+05:45", micros(2024, 2, 29, 6, 45, 45)),
        ("2024-02-29T12:30:45-00:00", micros(2024, 2, 29, 12, 30, 45)),
        ("2024-02-29T00:30:00+23:59", micros(2024, 2, 28, 0, 31, 0)),
        ("2023-11-16T18:17:03.9799600Z", micros(2023, 11, 16, 18, 17, 3, 979_960)),
        ("2024-01-01T00:00:00.0000009Z", micros(2024, 1, 1)),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("2016-12-31T23:59:60Z", micros(2016, 12, 31, 23, 59, 59)),
        ("2016-12-31T23:59:60.75Z", micros(2016, 12, 31, 23, 59, 59, 750_000)),
        ("0001-01-02T00:00:00Z", micros(1, 1, 2)),
        ("0001-01-01T23:00:00-01:00", micros(1, 1, 2)),
        ("9999-12-30T23:59:59.999999Z", micros(9999, 12, 30, 23, 59, 59, 999_999)),
        ("9999-12-31T00:59:59+01:00", micros(9999, 12, 30, 23, 59, 59)),
    ],
)
def test_a_time_is_one_instant(text: str, instant: int) -> None:
    """Offsets, letters of either case, cut digits, leap seconds and the ends of the range."""
    assert parse_time(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-05-01",
        "2024-05-01T10:00:00",
        "2024-05-01 10:00:00Z",
        "2024-05-01T10:00Z",
        "20240501T100000Z",
        "2024-02-30T10:00:00Z",
        "2023-02-29T10:00:00Z",
        "2024-13-01T10:00:00Z",
        "2024-00-01T10:00:00Z",
        "2024-05-01T24:00:00Z",
        "2024-05-01T10:60:00Z",
        "2024-05-01T10:00:61Z",
        "2024-05-01T10:00:00.Z",
        "2024-05-01T10:00:00,5Z",
        "2024-05-01T10:00:00+24:00",
        "2024-05-01T10:00:00+01:60",
        "2024-05-01T10:00:00+0100",
        "2024-05-01T10:00:00+01",
        "2024-05-01T10:00:00Z ",
        "2024-05-01T10:00:00Z\n",
        " 2024-05-01T10:00:00Z",
        "\u0662024-05-01T10:00:00Z",
        "2024-05-01T10:00:00.\u0661Z",
        "+02024-05-01T10:00:00Z",
        "1714557600",
        "0000-01-01T00:00:00Z",
        "0001-01-01T23:59:59Z",
        "0001-01-02T00:00:00+00:01",
        "9999-12-31T00:00:00Z",
        "9999-12-30T23:59:59-00:01",
        "2024-W18-3T10:00:00Z",
        "2024-05-01T1:00:00Z",
        "-024-05-01T10:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """Dates that do not exist, other notations, other digits, and what is outside of the range."""
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@given(
    st.integers(-62_000_000_000_000_000, 253_000_000_000_000_000),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.text("0123456789", max_size=9),
)
@example(0, -1, "")
def test_times_agree_with_the_standard_library(instant: int, offset: int, further: str) -> None:
    """Any instant, written in any offset, is read as itself; finer digits change nothing."""
    local = (EPOCH + timedelta(microseconds=instant)).astimezone(timezone(timedelta(minutes=offset)))
    text = local.isoformat(timespec="microseconds")
    assert parse_time(f"{text[:26]}{further}{text[26:]}") == instant


# Space and labels


@pytest.mark.parametrize(
    ("envelope", "space"),
    [
        ({"space": "a", "data": {"space": "b", "dataset": "c"}, "subject": "acme/d"}, "a"),
        ({"space": None, "data": {"space": "b", "dataset": "c"}, "subject": "acme/d"}, "b"),
        ({"data": {"space": None, "dataset": "c"}, "subject": "acme/d"}, "c"),
        ({"data": {}, "subject": "acme/d/e"}, "d/e"),
        ({"subject": "acme/"}, ""),
        ({"data": {"space": ""}, "subject": "acme/d"}, ""),
        ({"subject": "acme"}, None),
        ({"subject": "other/d"}, None),
        ({"data": [1]}, None),
        ({"data": {"space": 7}}, "7"),
        ({}, None),
    ],
)
def test_a_space_is_found_where_the_contract_looks_for_it(envelope: dict[str, Any], space: str | None) -> None:
    """The extension, then data.space, then data.dataset, then the rest of a subject that begins with the account."""
    assert space_of(envelope, "acme") == space


def test_a_space_must_be_a_scalar() -> None:
    """A list names no space, and nothing is guessed from it."""
    with pytest.raises(ValueError, match="/data/space"):
        space_of({"data": {"space": ["a"]}, "subject": "acme/d"}, "acme")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1", "1"),
        ("1.50", "1.5"),
        ("1e3", "1000"),
        ("1.20e-3", "0.0012"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("-5.0", "-5"),
        ("100", "100"),
        ("123456789012345678901234567890.10", "123456789012345678901234567890.1"),
        ("true", "true"),
        ("false", "false"),
        ('"1.50"', "1.50"),
        ('""', ""),
    ],
)
def test_a_label_is_written_in_one_way(number: str, text: str) -> None:
    """Numbers are written plainly and without needless zeros, text as it was sent."""
    assert text_of(read(f'{{"a":{number}}}'.encode())["a"]) == text


# Events


def test_an_event_has_what_its_envelope_says() -> None:
    """What is resolved is resolved, what is null is gone at any depth, what is left are attributes."""
    text = (
        '{"specversion":"1.0","id":"1","source":"w","type":"t","subject":"acme/room","time":"2024-05-01T10:00:00Z",'
        '"region":"eu","gone":null,"data":{"a":null,"b":{"c":null,"d":0.5},"e":[null,{"f":null}]}}'
    )
    assert event(text) == Event(
        account="acme",
        source="w",
        id="1",
        type="t",
        subject="acme/room",
        space="room",
        time=micros(2024, 5, 1, 10),
        timed=True,
        data={"b": {"d": Decimal("0.5")}, "e": [None, {}]},
        attributes={"specversion": "1.0", "region": "eu"},
    )


def test_an_event_without_a_time_has_that_of_its_receipt() -> None:
    """It is told apart from one that was sent with this time."""
    found = event(EVENT)
    assert (found.time, found.timed) == (RECEIVED, False)


def test_reading_an_event_leaves_its_envelope_alone() -> None:
    """The same envelope gives the same event again."""
    envelope = read(EVENT.encode())
    assert event_of(envelope, "acme", 1) == event_of(envelope, "acme", 1)
    assert envelope == read(EVENT.encode())


def test_data_that_is_no_object_is_kept() -> None:
    """It stays where other attributes are."""
    found = event_with(data=["a"])
    assert (dict(found.data), found.attributes["data"]) == ({}, ["a"])


# Content


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ('{"n":1}', '{"n":1.0}'),
        ('{"n":1}', '{"n":1e0}'),
        ('{"n":-0}', '{"n":0}'),
        ('{"n":-0.0}', '{"n":0}'),
        ('{"n":100}', '{"n":1E+2}'),
        ('{"n":0.5}', '{"n":5e-1}'),
        ('{"n":1000000000000000000000}', '{"n":1e21}'),
        ('{"n":1000000000000000000}', '{"n":1e18}'),
        ('{"n":10e999999998}', '{"n":1e999999999}'),
        ('{"n":1,"m":2}', '{"m":2,"n":1}'),
        ('{"n":1,"m":null}', '{"n":1}'),
        ('{"n":{"m":null}}', '{"n":{}}'),
        ('{"n":"\\u00e9"}', '{"n":"é"}'),
        ('{"n":7,"n":1}', '{"n":1}'),
    ],
)
def test_data_that_means_the_same_is_the_same(a: str, b: str) -> None:
    """Numbers count by value, members in any order, null as absent, text by its letters."""
    first, second = (event(EVENT.replace('{"n":1}', data)) for data in (a, b))
    assert same_content(first, second)
    assert content(first) == content(second)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ('{"n":1}', '{"n":"1"}'),
        ('{"n":1}', '{"n":true}'),
        ('{"n":0}', '{"n":false}'),
        ('{"n":1}', '{"n":1.0000000000000000000000000000000001}'),
        ('{"n":9007199254740993}', '{"n":9007199254740992}'),
        ('{"n":0}', "{}"),
        ('{"n":""}', "{}"),
        ('{"n":"a"}', '{"n":"A"}'),
        ('{"n":"\u00e9"}', '{"n":"e\u0301"}'),
        ('{"n":[1,2]}', '{"n":[2,1]}'),
        ('{"n":[null]}', '{"n":[]}'),
        ("{}", "null"),
        ("{}", "[]"),
        ('{"n":1e999999999}', '{"n":1e999999998}'),
    ],
)
def test_data_that_means_something_else_is_something_else(a: str, b: str) -> None:
    """A digit far behind the point, a type, a letter in another form, the order of a list, no data and empty data."""
    first, second = (event(EVENT.replace('{"n":1}', data)) for data in (a, b))
    assert not same_content(first, second)


@pytest.mark.parametrize(
    "members",
    [
        {"specversion": "1.0"},
        {"datacontenttype": "application/json"},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"tracestate": "a=1"},
        {"account": "acme"},
        {"space": "room"},
        {"region": None},
    ],
)
def test_some_attributes_are_no_content(members: dict[str, Any]) -> None:
    """How an event travelled does not matter, nor whether its account and space are named or resolved."""
    assert same_content(event(EVENT), event_with(**members))


@pytest.mark.parametrize(
    "members",
    [
        {"type": "u"},
        {"subject": "acme"},
        {"space": "hall"},
        {"dataschema": "https://example.com/schema"},
        {"region": "eu"},
        {"data": ["n"]},
        {"data": None, "data_base64": "AAAA"},
        {"time": "2024-05-01T10:00:00Z"},
    ],
)
def test_the_other_attributes_are_content(members: dict[str, Any]) -> None:
    """Each of them makes another report, and so does a time on one side only."""
    assert not same_content(event(EVENT), event_with(**members))


def test_the_account_is_content() -> None:
    """The resolved account counts."""
    assert not same_content(event(EVENT, "acme"), event(EVENT, "other"))


def test_times_are_content_as_instants() -> None:
    """The same instant in another zone is the same; a microsecond more is not; times of receipt do not count."""
    utc = event_with(time="2024-05-01T10:00:00Z")
    assert same_content(utc, event_with(time="2024-05-01T12:00:00.0000009+02:00"))
    assert not same_content(utc, event_with(time="2024-05-01T10:00:00.000001Z"))
    assert same_content(event(EVENT), event_of(read(EVENT.encode()), "acme", RECEIVED + 1))


def test_an_extension_is_not_taken_for_another_part() -> None:
    """An extension that is named like a part of the content does not stand in for it."""
    assert not same_content(event_with(attributes="x"), event_with(data={"n": 1, "attributes": "x"}))


def test_content_is_json_with_sorted_names() -> None:
    """It can be shown to a person, and its bytes are always the same."""
    text = EVENT.replace('{"n":1}', '{"b":1.50,"a":[true,1e2]}')
    assert content(event(text)) == (
        b'{"account":"acme","attributes":{},"data":{"a":[true,100],"b":1.5},"space":"room","subject":"acme/room",'
        b'"time":null,"type":"t"}'
    )


exact_numbers = st.integers() | st.decimals(allow_nan=False, allow_infinity=False)


@given(exact_numbers, exact_numbers)
@example(10**18, Decimal("1e18"))
@example(Decimal("-0.0"), 0)
def test_numbers_are_the_same_content_exactly_if_they_are_equal(a: int | Decimal, b: int | Decimal) -> None:
    """The canonical form agrees with arithmetic for every pair."""
    base = event(EVENT)
    first, second = (Event("acme", "w", "1", "t", None, None, base.time, False, {"n": number}) for number in (a, b))
    assert same_content(first, second) == (a == b)


@given(exact_numbers, st.integers(0, 30))
def test_a_number_written_with_more_zeros_is_the_same_content(number: int | Decimal, zeros: int) -> None:
    """Trailing zeros and a shifted exponent change nothing."""
    sign, digits, exponent = Decimal(number).as_tuple()
    assert isinstance(exponent, int)
    padded = Decimal((sign, digits + (0,) * zeros, exponent - zeros))
    first, second = (Event("acme", "w", "1", "t", None, None, 0, False, {"n": each}) for each in (number, padded))
    assert content(first) == content(second)
