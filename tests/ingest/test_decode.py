"""A request's body taken apart: formats, charsets, bounds, and one bad event that spoils no other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tallystick.envelope import Unreadable, read
from tallystick.errors import Code, Problem
from tallystick.ingest.decode import Items, _lines, _lines_slowly, count_elements, decode
from tallystick.raws import sizes_of

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
PLAIN = "application/json"
LINES = "application/x-ndjson"
BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "w", "ce-type": "t"}


def problem(body: bytes, content_type: str | None, headers: dict[str, str] | None = None, most: int = 100_000) -> Code:
    """Decode what must fail and return the code of the problem."""
    with pytest.raises(Problem) as caught:
        decode(body, content_type, headers or {}, batch_events_max=most)
    assert len(caught.value.detail) > 20
    return caught.value.code


def binary(body: bytes, content_type: str | None, **headers: str) -> dict[str, Any]:
    """Decode a request in binary mode and return its event."""
    found = decode(body, content_type, {**BINARY, **{f"ce-{name}": value for name, value in headers.items()}})
    assert (found.plain, found.single, found.bad, len(found.raws)) == (False, True, {}, 1)
    return read(found.raws[0])


# JSON


def test_a_batch_is_its_elements_as_sent() -> None:
    """Every byte of an event is kept, and only the space around it goes."""
    body = b' [ {"id": "1",\n"n":1.50} , {} ,7, "x" ,null ]\n'
    raws = [b'{"id": "1",\n"n":1.50}', b"{}", b"7", b'"x"', b"null"]
    for found, plain in ((decode(body, BATCH, {}), False), (decode(body, PLAIN, {}), True)):
        assert replace(found, raws=list(found.raws)) == Items(raws, plain=plain, single=False)


def test_a_single_event_is_its_body() -> None:
    """Structured mode asks for a specversion, plain JSON does not."""
    assert decode(b' {"id":"1"}\n', STRUCTURED, {}) == Items([b'{"id":"1"}'], plain=False, single=True)
    assert decode(b' {"id":"1"}\n', PLAIN, {}) == Items([b'{"id":"1"}'], plain=True, single=True)


def test_an_empty_list_is_an_empty_batch() -> None:
    """It holds no event and is no mistake."""
    assert list(decode(b"[]", BATCH, {}).raws) == []
    assert list(decode(b" [ ] ", PLAIN, {}).raws) == []


def test_structured_mode_takes_its_value_whatever_it_is() -> None:
    """A list in structured mode is one event that is no object, for the receipt to say."""
    assert decode(b"[1,2]", STRUCTURED, {}) == Items([b"[1,2]"], plain=False, single=True)


@pytest.mark.parametrize("content_type", [BATCH, STRUCTURED, PLAIN, LINES, None])
@pytest.mark.parametrize("body", [b"", b"  ", b"\r\n\n", b"\xef\xbb\xbf"])
def test_a_body_without_anything_is_refused(content_type: str | None, body: bytes) -> None:
    """Nothing is not an empty list; what has no content needs no content type to be told so."""
    assert problem(body, content_type) is Code.BODY_UNDECODABLE
    assert problem(body, "text/plain") is Code.MEDIA_TYPE_UNKNOWN


@pytest.mark.parametrize(
    "body",
    [b"[1", b"[1,]", b"[,1]", b"[1 2]", b"[1]]", b"[1] x", b"[nul]", b"[NaN]", b"[{]}", b'["a]', b"[1.]", b"{}", b"1"],
)
def test_a_batch_that_is_no_json_list_is_refused(body: bytes) -> None:
    """Where the list itself cannot be read there are no events to judge one by one."""
    assert problem(body, BATCH) is Code.BODY_UNDECODABLE


@pytest.mark.parametrize("body", [b"{", b"{}{}", b'{"a":1,}', b"nul", b"\xff", b"\xff\xfe{\x00}\x00", b"[" * 100_000])
def test_an_event_that_is_no_json_is_refused(body: bytes) -> None:
    """The same for one event: another encoding than UTF-8 is no JSON either."""
    assert problem(body, STRUCTURED) is Code.BODY_UNDECODABLE
    assert problem(body, PLAIN) is Code.BODY_UNDECODABLE


def test_a_mark_at_the_beginning_is_passed_over() -> None:
    """Some editors write one before UTF-8."""
    assert list(decode(b'\xef\xbb\xbf[{"a":1}]', PLAIN, {}).raws) == [b'{"a":1}']
    assert list(decode(b'\xef\xbb\xbf{"a":1}', STRUCTURED, {}).raws) == [b'{"a":1}']
    assert list(decode(b'\xef\xbb\xbf{"a":1}\n', LINES, {}).raws) == [b'{"a":1}']


@pytest.mark.parametrize(
    "bad",
    [b'{"a":"\\ud800"}', b'{"a":"\\udc00\\ud800"}', b'{"\\ud800":1}', b'{"a":"\xff"}', b'{"a":1e9999999999999999999}'],
)
def test_an_event_that_cannot_be_read_does_not_cost_the_others(bad: bytes) -> None:
    """Half a surrogate, bytes that are not UTF-8, a monstrous number: the list is taken apart all the same."""
    good = '{"é":"[{,\\"\\\\"}'.encode()
    long = b"7" * 5000
    body = b"[ " + good + b" ,\n" + bad + b", " + long + b" ]"
    assert list(decode(body, BATCH, {}).raws) == [good, bad, long]
    assert list(decode(bad, STRUCTURED, {}).raws) == [bad]
    assert decode(good + b"\n" + bad, LINES, {}) == Items([good, bad], plain=True, single=False)
    with pytest.raises(Unreadable):
        read(bad)


def test_the_slow_way_refuses_what_is_no_list() -> None:
    """Half a surrogate in one event excuses nothing in what is around it."""
    for body in (
        b'["\\ud800"',
        b'["\\ud800",]',
        b'["\\ud800" 1]',
        b'["\\ud800"]]',
        b'["\\ud800",NaN]',
        b'{"\\ud800":1}',
    ):
        assert problem(body, BATCH) is Code.BODY_UNDECODABLE


json_texts = st.recursive(
    st.sampled_from(
        ["1", "-0.5e3", "true", "null", '"a,b"', '"[{"', '"\\\\"', '"\\""', '"\\\\\\""', '"é"', '"\\ud800"']
    ),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: "[" + " , ".join(items) + "]")
        | st.lists(inner, max_size=4).map(lambda items: "{" + ",".join(f'"k{{":{item}' for item in items) + "}")
    ),
    max_leaves=12,
)


@given(st.lists(json_texts, max_size=6), st.sampled_from([",", " , ", ",\n"]))
def test_any_list_is_taken_apart_into_what_it_was_made_of(texts: list[str], comma: str) -> None:
    """Whatever the elements hold, each comes back as it was; and counting agrees without taking anything apart."""
    body = f"[{comma.join(texts)}]".encode()
    raws, sent = decode(body, BATCH, {}).raws, [text.encode() for text in texts]
    assert list(raws) == sent
    assert [raws[at] for at in range(len(raws))] == sent
    assert list(raws[1:-1]) == sent[1:-1]
    assert list(sizes_of(raws)) == list(map(len, sent))
    assert count_elements(body) == max(1, len(texts))


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
def test_counting_goes_over_pieces_of_the_body(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Strings, escapes and depth are carried from one piece of the body to the next."""
    monkeypatch.setattr("tallystick.ingest.decode.COUNT_STEP_BYTES", step)
    body = json.dumps([[{"a,b": '\\",["'}, [1, 2]]] * 70).encode()
    assert count_elements(body) == 70


# Lines


def test_each_line_is_an_event() -> None:
    """Blank lines, line ends of two kinds and space around a line are passed over."""
    body = b'\n {"id":"1"} \r\n\r\n\t\n{"id":"2"}\n   \n{"id":"3"}'
    raws = [b'{"id":"1"}', b'{"id":"2"}', b'{"id":"3"}']
    assert decode(body, LINES, {}) == Items(raws, plain=True, single=False)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/ndjson", "application/jsonl"])
def test_lines_have_several_names(content_type: str) -> None:
    """The common names of the format are all understood, in any case."""
    assert list(decode(b"{}\n{}", content_type.upper(), {}).raws) == [b"{}", b"{}"]


def test_a_bad_line_spoils_only_itself() -> None:
    """It has its verdict and its place; what is JSON but no object is left for later."""
    found = decode(b'{"a":1}\n{"a":\n\n}\n7\n{},{}\n\x0c{}\n{"b":2}\n', LINES, {})
    assert found.raws == [b'{"a":1}', b'{"a":', b"}", b"7", b"{},{}", b"\x0c{}", b'{"b":2}']
    assert sorted(found.bad) == [1, 2, 4, 5]
    assert {verdict.code for verdict in found.bad.values()} == {Code.NOT_JSON}


PIECES = st.sampled_from(
    [b'{"a":1}', b"{}", b"[", b"]", b",", b'"', b"1", b" ", b"\t", b"\r", b"\n", b"\n", b'"\\ud800"']
)


@given(st.lists(PIECES, max_size=30).map(b"".join), st.integers(1, 6))
def test_lines_together_are_what_each_is_alone(body: bytes, most: int) -> None:
    """Also where brackets and quotes of some lines would make values of several, and at the limit."""
    body += b"{}"
    found: list[Items | Code] = []
    for way in (_lines, _lines_slowly):
        try:
            found.append(way(body, most))
        except Problem as refused:
            found.append(refused.code)
    assert found[0] == found[1]


def test_a_line_too_deep_is_bad() -> None:
    """What would exhaust the stack is one bad line among others."""
    found = decode(b"{}\n" + b"[" * 100_000 + b"]" * 100_000 + b"\n{}", LINES, {})
    assert (len(found.raws), list(found.bad)) == (3, [1])


# Bounds


def test_a_batch_ends_at_its_limit() -> None:
    """The limit itself is fine, one event more is refused, in every format that holds several."""
    for most in (1, 2, 7):
        events = [b"{}"] * most
        for content_type, comma, ends in ((BATCH, b",", b"[]"), (PLAIN, b",", b"[]"), (LINES, b"\n\n", b"  ")):
            body = ends[:1] + comma.join(events) + ends[1:]
            assert list(decode(body, content_type, {}, batch_events_max=most).raws) == events
            more = ends[:1] + comma.join([*events, b"{}"]) + ends[1:]
            assert problem(more, content_type, most=most) is Code.BATCH_TOO_LARGE


def test_the_slow_way_ends_at_the_limit_too() -> None:
    """Half a surrogate gets no batch past the limit."""
    events = [b'{"a":"\\ud800"}', b'{"note":"some words"}', b'{"note":"more words"}']
    body = b"[" + b",".join(events) + b"]"
    assert list(decode(body, BATCH, {}, batch_events_max=3).raws) == events
    assert problem(body, BATCH, most=2) is Code.BATCH_TOO_LARGE


def test_commas_inside_events_are_not_counted() -> None:
    """A batch of few events with many members is not taken for a large one."""
    body = b"[" + b",".join([b"[1,2,3,4,5,6,7,8]"] * 5) + b"]"
    assert len(decode(body, BATCH, {}, batch_events_max=5).raws) == 5
    assert problem(body, BATCH, most=4) is Code.BATCH_TOO_LARGE


def test_a_flood_of_tiny_elements_is_refused_before_it_takes_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted where it lies: the decoder that would make an object of each is never asked."""

    class Untouchable:
        def decode(self, body: bytes) -> list[Any]:
            raise AssertionError("taken apart")

    monkeypatch.setattr("tallystick.ingest.decode._list_decoder", Untouchable())
    assert problem(b"[" + b"1," * 200_000 + b"1]", BATCH) is Code.BATCH_TOO_LARGE
    assert problem(b"[" + b"{}," * 200_000 + b"1]", PLAIN) is Code.BATCH_TOO_LARGE


# Content types


@pytest.mark.parametrize("base", [BATCH, STRUCTURED, PLAIN, LINES])
@pytest.mark.parametrize(
    "parameters",
    [
        "; charset=utf-8",
        ";charset=UTF-8",
        '; charset="utf-8"',
        " ; Charset = Utf-8",
        "; profile=x; charset=utf-8",
        ";",
        '; profile="a,b;charset=latin-1"; charset=utf-8',
        '; charset="\\u\\t\\f-8"',
        ";charset=utf8",
        ";;",
        "; charset=utf-8; x",
    ],
)
def test_utf_8_may_be_named(base: str, parameters: str) -> None:
    """In the ways that HTTP has for a parameter; others are of no interest."""
    assert len(decode(b"[]" if base == BATCH else b"{}", base + parameters, {}).raws) == (base != BATCH)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "text/json",
        "application/cloudevents+xml",
        "application/cloudevents",
        "application/cloudevents+avro",
        "*/*",
        f"{PLAIN}; charset=latin-1",
        f"{BATCH}; charset=utf-16",
        f"{PLAIN}, {PLAIN}",
        f'{PLAIN}; charset="us-ascii"',
        f"{PLAIN}; charset=utf-8; charset=latin-1",
        f"{PLAIN}; charset=",
        f"{PLAIN}; charset",
        f'{PLAIN}; charset="utf-8',
        f"{PLAIN}; charset=utf-8 x",
        f"{PLAIN} {PLAIN}",
    ],
)
def test_other_content_types_and_charsets_are_refused(content_type: str | None) -> None:
    """The answer names what is understood."""
    assert problem(b"{}", content_type) is Code.MEDIA_TYPE_UNKNOWN


def test_cloudevents_formats_that_are_not_json_are_refused_in_spite_of_headers() -> None:
    """Such a content type is never binary mode."""
    assert problem(b"{}", "application/cloudevents+xml", BINARY) is Code.MEDIA_TYPE_UNKNOWN


# Binary mode


def test_binary_mode_puts_headers_and_body_together() -> None:
    """Attributes come from headers of any case, data from the body, its type from the content type."""
    headers = {
        "CE-SpecVersion": "1.0",
        "Ce-Id": "1",
        "ce-source": "w",
        "ce-type": "t",
        "ce-region": "eu",
        "accept": "x",
    }
    found = decode(b' {"n":1.50} ', "application/json; charset=utf-8", headers)
    assert (found.plain, found.single) == (False, True)
    assert found.raws[0].endswith(b'"data":{"n":1.50}}')
    assert json.loads(found.raws[0]) == {
        "specversion": "1.0",
        "id": "1",
        "source": "w",
        "type": "t",
        "region": "eu",
        "datacontenttype": "application/json; charset=utf-8",
        "data": {"n": 1.5},
    }


def test_structured_mode_does_not_look_at_headers() -> None:
    """They may repeat the attributes, and the body has them all."""
    assert list(decode(b'{"id":"2"}', STRUCTURED, BINARY).raws) == [b'{"id":"2"}']
    assert list(decode(b"[]", BATCH, BINARY).raws) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \u20ac \U0001f600"),
        ("%65%75", "eu"),
        ("%c3%a9", "é"),
        ("100%25", "100%"),
        ("%2525", "%25"),
        ("a+b", "a+b"),
        ('"quoted text"', "quoted text"),
        (r'"a \"b\" \\c %41"', 'a "b" \\c A'),
        ('a "b"', 'a "b"'),
        ("", ""),
        ("Ã©", "é"),
        ("\u00c3\u00a0", "à"),
        (' \t"a" ', "a"),
        ('"a" "b"', '"a" "b"'),
        ("\u20ac", "\u20ac"),
    ],
)
def test_a_header_is_decoded_as_the_binding_says(value: str, text: str) -> None:
    """Quotes first, then percent signs once, then UTF-8."""
    assert binary(b"", None, subject=value)["subject"] == text


@pytest.mark.parametrize("value", ["%C0%A0", "%ff", "a%E2%82", "\xff", "%ED%A0%80", "50%", "%z0", "%%20", "%2", '"%"'])
def test_a_header_that_cannot_be_decoded_is_refused(value: str) -> None:
    """A percent sign that begins no escape and bytes that are not UTF-8: the problem leads to the attribute."""
    with pytest.raises(Problem) as caught:
        decode(b"", None, {**BINARY, "ce-subject": value})
    assert (caught.value.code, [flaw.pointer for flaw in caught.value.flaws]) == (Code.HEADER_INVALID, ["/subject"])
    assert "ce-subject" in caught.value.detail


def test_headers_beside_a_structured_event_may_hold_anything() -> None:
    """They are not looked at, so they spoil nothing."""
    assert list(decode(b"{}", STRUCTURED, {"ce-subject": "%"}).raws) == [b"{}"]
    assert list(decode(b"[]", BATCH, {"ce-subject": "\xff"}).raws) == []


def test_a_header_cannot_write_json() -> None:
    """Whatever a value or a name holds is text."""
    assert binary(b"{}", PLAIN, subject='x","id":"2')["subject"] == 'x","id":"2'
    assert binary(b"{}", PLAIN, **{'x":1,"id': "2"})["id"] == "1"


@pytest.mark.parametrize("body", [b'{}, "id":"2"', b"{", b"text", b"[1,]", b"  "])
def test_json_data_must_be_json(body: bytes) -> None:
    """A body that is called JSON and is not cannot be put into an event."""
    assert problem(body, PLAIN, BINARY) is Code.BODY_UNDECODABLE
    assert problem(body, None, BINARY) is Code.BODY_UNDECODABLE


@pytest.mark.parametrize("content_type", [None, "application/json", "text/json", "application/vnd.acme+json"])
def test_json_data_of_any_name_is_data(content_type: str | None) -> None:
    """Without a content type data is JSON too; a mark at its beginning is passed over."""
    assert binary(b"\xef\xbb\xbf[1]", content_type)["data"] == [1]


def test_other_data_is_kept() -> None:
    """Text as a string, anything else in base64, nothing as nothing."""
    assert binary("né\n".encode(), "text/plain")["data"] == "né\n"
    assert binary(b"\xff\x00", "text/plain")["data_base64"] == "/wA="
    assert binary(b"\xef\xbb\xbf\x01", "application/octet-stream")["data_base64"] == "77u/AQ=="
    assert binary(b"<a/>", "application/xml")["data_base64"] == "PGEvPg=="
    assert {"data", "data_base64"}.isdisjoint(binary(b"", "text/plain"))


def test_headers_cannot_bring_data() -> None:
    """Data is the body's, and its type the content type's."""
    found = binary(b"", PLAIN, data="x", data_base64="AAAA", datacontenttype="text/plain")
    assert found == {"specversion": "1.0", "id": "1", "source": "w", "type": "t", "datacontenttype": PLAIN}


def test_another_charset_is_refused_in_binary_mode_too() -> None:
    """Text is kept as UTF-8 only."""
    assert problem(b"x", "text/plain; charset=latin-1", BINARY) is Code.MEDIA_TYPE_UNKNOWN


def test_a_body_that_cannot_be_read_says_where() -> None:
    """The byte that stopped the reading is named."""
    with pytest.raises(Problem) as caught:
        decode(b'[{"a":1}, {"b":2} {"c":3}]', BATCH, {})
    found = re.search(r"byte (\d+)", caught.value.detail)
    assert found is not None
    assert int(found[1]) == 18


@given(
    st.binary(max_size=30) | st.text('[]{}",:1\\ \n', max_size=30).map(str.encode),
    st.sampled_from([BATCH, STRUCTURED, PLAIN, LINES, "text/plain", None]) | st.text(max_size=20),
    st.dictionaries(st.sampled_from(["ce-id", "ce-x", "host"]), st.text(max_size=8), max_size=2),
)
def test_any_request_is_taken_apart_or_refused(body: bytes, content_type: str | None, headers: dict[str, str]) -> None:
    """Nothing that can be sent ends in another error than a problem, and no item is empty."""
    try:
        found = decode(body, content_type, headers)
    except Problem as error:
        assert error.code in (Code.BODY_UNDECODABLE, Code.HEADER_INVALID, Code.MEDIA_TYPE_UNKNOWN)
    else:
        assert all(found.raws)
        assert set(found.bad) <= set(range(len(found.raws)))
