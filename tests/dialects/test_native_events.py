"""Kept events as JSON, as lines and as CSV: what was sent is what is shown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from tallystick.catalog import builtin
from tallystick.dialects.native import events, sheet
from tallystick.errors import Code, Problem
from tallystick.model import AsOf, EventPage, EventQuery, EventRow, Posting
from tallystick.windows import parse_instant
from tests.dialects.jobs import ask

RAW = (
    b'{"specversion":"1.0", "id" : "1",\n "source":"w/=1",\t"type":"audio.processed",\r\n "subject": "-x",'
    b' "data":{"duration": 1.50e1, "n":12345678901234567890.10, "text":"a\\nb, \\"c\\"",\n"n":2}}'
)
ROW = EventRow(
    7,
    parse_instant("2026-11-02T12:00:00.25Z"),
    "acme",
    "",
    parse_instant("2026-11-02T11:00:00Z"),
    RAW,
    True,
    (
        Posting("audio", 1, (("language", "en"), ("type", "")), 15_000_000),
        Posting("tokens_in", 1, (), -3),
    ),
)


def refusal(parameters: str) -> Problem:
    with pytest.raises(Problem) as caught:
        events.page_of(ask(parameters))
    return caught.value


def cells(row: EventRow) -> dict[str, str]:
    """Read a line of CSV back."""
    text = (events.head(sheet.MEDIA_TYPE) + events.line(row, builtin(), sheet.MEDIA_TYPE)).decode()
    (found,) = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    return found


def test_a_whole_item() -> None:
    """The event is in it as it was sent, but for line ends between its tokens."""
    shown = RAW.replace(b"\r", b" ").replace(b"\n", b" ")
    assert events.item(ROW, builtin()) == (
        b'{"sequence":7,"recorded_at":"2026-11-02T12:00:00.250000Z","account":"acme","space":"","event":'
        + shown
        + b',"receipt":{"status":"accepted","metered":true},"fed":['
        b'{"meter":"audio","labels":{"language":"en","type":""},"quantity":"15"},'
        b'{"meter":"tokens_in","labels":{},"quantity":"-3"}]}'
    )


def test_a_line_is_an_item_and_has_no_line_end_inside() -> None:
    """Whatever white space was sent; what it says is unchanged."""
    line = events.line(ROW, builtin(), events.NDJSON)
    assert line == events.item(ROW, builtin()) + b"\n"
    assert len(line.splitlines()) == 1
    assert json.loads(line)["event"] == json.loads(RAW)


def test_what_was_counted_by_a_definition_that_is_gone_has_no_quantity() -> None:
    """The scale it was counted at is not known any more: null, rather than a number that may be wrong."""
    meters = builtin().meters
    without = replace(builtin(), meters={"tokens_in": meters["tokens_in"]})
    newer = replace(builtin(), meters={**meters, "audio": replace(meters["audio"], scale=3, epoch=2)})
    for catalog in (without, newer):
        assert [fed["quantity"] for fed in json.loads(events.item(ROW, catalog))["fed"]] == [None, "-3"]


def test_a_whole_line_of_csv() -> None:
    """Text is guarded, the data is JSON as it was sent."""
    assert cells(ROW) == {
        "sequence": "7",
        "recorded_at": "2026-11-02T12:00:00.250000Z",
        "time": "2026-11-02T11:00:00Z",
        "account": "acme",
        "space": "",
        "source": "w/=1",
        "id": "1",
        "type": "audio.processed",
        "subject": "'-x",
        "metered": "true",
        "data": '{"duration": 1.50e1, "n":12345678901234567890.10, "text":"a\\nb, \\"c\\"", "n":2}',
    }


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", ""),
        (b',"data":null', ""),
        (b',"data":{}', "{}"),
        (b',"data":[1, "x"]', '[1, "x"]'),
        (b',"data":"=1+1"', '"=1+1"'),
        (b',"data":-1', "'-1"),
        (b',"data":1,"data":2', "2"),
        (b',"data":1e400', "1e400"),
        (b',"data":' + b"9" * 5000, "9" * 5000),
    ],
)
def test_data_of_any_kind_is_one_cell(data: bytes, shown: str) -> None:
    """No data is an empty cell, whatever else was sent is the text of it."""
    raw = b'{"id":"1","source":"s","type":"t"' + data + b"}"
    assert cells(replace(ROW, raw=raw, space=None, metered=False))["data"] == shown
    empty = events.line(replace(ROW, raw=raw, space=None), builtin(), sheet.MEDIA_TYPE)
    assert b",acme,,s,1,t,,true," in empty


# Questions


def test_every_parameter_narrows_the_question() -> None:
    """And what is left out asks for everything."""
    assert events.page_of(ask("")) == EventQuery(("acme",), limit=100)
    asked = (
        "space=lab subject=acme/lab type=t id=1 from=2026-11-01T00:00:00Z to=2026-11-02T00:00:00Z limit=1000 colour=red"
    )
    assert events.page_of(ask(asked, None)) == EventQuery(
        None,
        start=parse_instant("2026-11-01T00:00:00Z"),
        end=parse_instant("2026-11-02T00:00:00Z"),
        space="lab",
        subject="acme/lab",
        type="t",
        id="1",
        limit=1000,
    )


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("from=2026-11-01", "from"),
        ("to=tomorrow", "to"),
        ("from=2026-11-02T00:00:00Z to=2026-11-02T00:00:00Z", "from"),
        ("type=", "type"),
        ("type=a type=b", "type"),
        ("space=", "space"),
        ("id=", "id"),
        ("id=1 id=2", "id"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: str, pointer: str) -> None:
    """400, the parameter's name and what to do."""
    problem = refusal(parameters)
    assert (problem.code, [flaw.pointer for flaw in problem.flaws]) == (Code.PARAMETER_INVALID, [pointer])


def test_a_cursor_goes_on_where_the_page_ended() -> None:
    """With the same question, at any size of page; with any other it is refused."""
    asked = ask("type=t limit=10")
    following = replace(events.page_of(asked), through=41)
    reply = events.render(asked, EventPage((), AsOf(90, 1), following), b"")
    cursor: Any = json.loads(reply.body)["next"]
    assert reply.headers["Link"] == f'</v1/events?type=t&limit=10&cursor={cursor}>; rel="next"'
    assert events.page_of(ask(f"type=t limit=2 cursor={cursor}")) == replace(following, limit=2)
    for other in ("type=u", "", "type=t id=1", "type=t space=s", "type=t from=2026-11-01T00:00:00Z"):
        assert refusal(f"{other} cursor={cursor}").flaws[0].pointer == "cursor"
    with pytest.raises(Problem, match="cursor"):
        events.page_of(ask(f"type=t cursor={cursor}", ("ada",)))


def test_the_last_page_has_no_next() -> None:
    """Null, and no Link."""
    reply = events.render(ask(""), EventPage((), AsOf(0, 0), None), b"")
    assert (reply.body, dict(reply.headers)) == (b'{"events":[],"next":null}', {})


def test_an_export_is_lines_of_json_unless_csv_is_asked_for() -> None:
    """Any other format is named."""
    assert events.form_of(ask("")) == events.form_of(ask("format=ndjson")) == "application/x-ndjson"
    assert events.form_of(ask("format=csv")) == "text/csv"
    with pytest.raises(Problem) as caught:
        events.form_of(ask("format=xml"))
    assert caught.value.flaws[0].pointer == "format"
