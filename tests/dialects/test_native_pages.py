"""Pages, tags and the CSV of our own usage report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick import windows
from tallystick.catalog import builtin
from tallystick.dialects import native
from tallystick.dialects.native import sheet
from tallystick.errors import Code, Problem
from tallystick.model import AsOf, Total, UsageRow, UsageTable
from tallystick.query import Reply, Request
from tests.dialects.jobs import NOW, Event, answer, ask, job

LABELS = (None, "", "a", "b", "z", "é", "\U0001f600", "\uffff")
JOBS = [
    job(f"2026-10-2{4 + day}T10:00:00Z", 1 + n, **({} if label is None else {"language": label}), account=account)
    for day in range(3)
    for n, label in enumerate(LABELS)
    for account in ("acme", "ada")
]
QUESTION = "meter=audio window=day from=2026-10-24T00:00:00Z to=2026-10-27T00:00:00Z group_by=account,language"
DAY = windows.DAY


def request(parameters: str, **changed: Any) -> Request:
    """Make a request for all accounts."""
    return replace(ask(parameters, None), **changed)


def reply(asked: Request, events: Sequence[Event] = JOBS) -> Reply:
    """Answer a request over some jobs."""
    question = native.parse(asked)
    native.page_of(asked, question)
    (table,) = answer(events, [question])
    return native.render(asked, question, table)


def document(asked: Request, events: Sequence[Event] = JOBS) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(reply(asked, events).body)
    return read


def refusal(asked: Request) -> Problem:
    with pytest.raises(Problem) as caught:
        native.page_of(asked, native.parse(asked))
    return caught.value


# Pages


@pytest.mark.parametrize("limit", [1, 5, 16, 47, 48, 1000])
def test_pages_together_are_the_report(limit: int) -> None:
    """Each has at most as many rows as asked for, all have the total of the whole, and only the last has no next."""
    whole = document(request(QUESTION))
    assert "next" not in whole
    assert len(whole["rows"]) == 48
    found: list[dict[str, Any]] = []
    more, pages = "", 0
    while pages == 0 or more:
        page = document(request(f"{QUESTION} limit={limit}{more}"))
        assert len(page["rows"]) == min(limit, 48 - len(found))
        assert page["total"] == whole["total"]
        found += page["rows"]
        more, pages = page["next"] and f" cursor={page['next']}", pages + 1
    assert found == whole["rows"]
    assert pages == -(-48 // limit)


def test_the_link_leads_to_the_next_page() -> None:
    """It has every parameter as it was sent, with the cursor in place of the one before."""
    asked = request(f"{QUESTION} limit=5 filter[language]=é filter[language]= x=+&")
    first = reply(asked)
    target, _, relation = first.headers["Link"].partition(">; ")
    parameters = parse_qsl(urlsplit(target[1:]).query, keep_blank_values=True)
    assert (urlsplit(target[1:]).path, relation) == ("/v1/usage", 'rel="next"')
    assert parameters == [*asked.query, ("cursor", json.loads(first.body)["next"])]
    second = reply(replace(asked, query=tuple(parameters)))
    assert second.headers["Link"].count("cursor=") == 1
    assert json.loads(second.body)["rows"] != json.loads(first.body)["rows"]


def test_no_row_comes_twice_whatever_is_counted_in_between() -> None:
    """Rows that appear behind the cursor are shown, rows before it are not; each page is as of its own moment."""
    some = [event for event in JOBS if event["data"].get("language") != "a"]
    first = document(request(f"{QUESTION} limit=20"), some)
    second = document(request(f"{QUESTION} limit=100 cursor={first['next']}"), JOBS)
    keys = [(row["from"], *row["labels"].values()) for row in first["rows"] + second["rows"]]
    assert len(keys) == len(set(keys))
    whole = document(request(QUESTION))["rows"]
    last = next(n for n, row in enumerate(whole) if row == first["rows"][-1])
    assert second["rows"] == whole[last + 1 :]
    assert second["total"]["count"] == 48


def test_a_cursor_without_a_limit_gives_the_rest() -> None:
    """Then nothing follows, and nothing says that something might."""
    first = document(request(f"{QUESTION} limit=40"))
    rest = document(request(f"{QUESTION} cursor={first['next']}"))
    assert len(rest["rows"]) == 8
    assert "next" not in rest


def test_a_page_may_have_another_size_and_form_than_the_one_before() -> None:
    """A cursor is a place in the report, however that is written."""
    first = document(request(f"{QUESTION} limit=40"))
    page = reply(request(f"{QUESTION} limit=3 cursor={first['next']}", accept="text/csv"))
    assert page.body.count(b"\r\n") == 4
    assert "Link" in page.headers


def cursor_of(parameters: str = QUESTION, **changed: Any) -> str:
    found: str = document(request(f"{parameters} limit=1", **changed))["next"]
    return found


@pytest.mark.parametrize(
    "parameters",
    [
        QUESTION.replace("audio", "tokens_in").replace(",language", ",model"),
        QUESTION.replace("window=day", "window=hour"),
        QUESTION.replace("2026-10-27", "2026-10-28"),
        QUESTION.replace("account,language", "language,account"),
        f"{QUESTION} tz=Europe/Prague",
        f"{QUESTION} filter[language]=a",
        f"{QUESTION} aggregation=max",
    ],
)
def test_a_cursor_of_another_question_is_refused(parameters: str) -> None:
    """Whatever the rows depend on belongs to the question."""
    problem = refusal(request(f"{parameters} limit=1 cursor={cursor_of()}"))
    assert (problem.code, problem.flaws[0].pointer) == (Code.PARAMETER_INVALID, "cursor")


def test_a_cursor_of_other_accounts_is_refused() -> None:
    """A cursor grants nothing and says nothing to a key that reads other accounts."""
    cursor = cursor_of()
    assert refusal(ask(f"{QUESTION} cursor={cursor}", ("acme",))).flaws[0].pointer == "cursor"


def test_defaults_spelled_out_are_the_same_question() -> None:
    """A cursor stays good where only what is said changes, not what is meant."""
    page = document(request(f"{QUESTION} tz=UTC aggregation=sum filler=1 limit=1 cursor={cursor_of()}"))
    assert len(page["rows"]) == 1


@given(st.data())
def test_a_cursor_that_was_changed_is_refused(data: st.DataObject) -> None:
    """Any other letter, any missing or further one."""
    cursor = cursor_of()
    place = data.draw(st.integers(0, len(cursor) - 2))
    letter = data.draw(st.sampled_from("ABCabc019-_=é%. "))
    changed = data.draw(
        st.sampled_from([cursor[:place], cursor[:place] + letter + cursor[place + 1 :], cursor + letter * 4, letter])
    )
    if changed and changed not in (cursor, cursor + "="):
        asked = request(f"{QUESTION} limit=1")
        problem = refusal(replace(asked, query=(*asked.query, ("cursor", changed))))
        assert problem.flaws[0].pointer == "cursor"


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "1e3", "x", "", "1000001", "9" * 30, "\u0661", "1 limit=1"])
def test_a_wrong_limit_is_named(limit: str) -> None:
    """From 1 to as many rows as a report may have."""
    assert refusal(request(f"{QUESTION} limit={limit}")).flaws[0].pointer == "limit"


# Tags


def tag(asked: Request, sequence: int = 7) -> str:
    return native.tag(asked, native.parse(asked), sequence)


SAME = [
    request(f"{QUESTION} tz=UTC filler=2"),
    request(QUESTION, accept="*/*"),
    request(QUESTION, now=NOW // DAY * DAY + DAY - 1),
    request(QUESTION.replace("2026-10-24T00:00:00Z", "2026-10-24T02:00:00+02:00")),
]
OTHER = [
    request(QUESTION, accept="text/csv"),
    request(QUESTION, now=NOW // DAY * DAY + DAY),
    request(QUESTION, now=NOW // DAY * DAY - 1),
    request(QUESTION, accounts=("acme",)),
    request(QUESTION, accounts=()),
    request(QUESTION, catalog=replace(builtin(), version=2)),
    request(f"{QUESTION} limit=5"),
    request(f"{QUESTION} limit=5 cursor={cursor_of()}"),
    request(f"{QUESTION} filter[language]=a"),
    request(f"{QUESTION} aggregation=count"),
    request(QUESTION.replace("window=day", "window=month")),
]


def test_a_tag_is_the_same_for_the_same_answer() -> None:
    """Whatever is resolved to one question on one day, up to one sequence, has one tag."""
    assert {tag(asked) for asked in SAME} == {tag(request(QUESTION))}
    assert tag(request(QUESTION)).startswith('"')


def test_a_tag_is_another_where_the_answer_may_be() -> None:
    """Every part of what it is made from changes it."""
    tags = [tag(request(QUESTION)), tag(request(QUESTION), 8), *map(tag, OTHER)]
    assert len(set(tags)) == len(tags)


def test_the_stamp_of_an_answer_is_not_in_its_tag() -> None:
    """When it was recorded says nothing new where the sequence is the same."""
    question = native.parse(request(QUESTION))
    replies = [
        native.render(request(QUESTION), question, UsageTable((), Total(), AsOf(7, recorded))) for recorded in (1, 2)
    ]
    assert replies[0].headers["ETag"] == replies[1].headers["ETag"] == tag(request(QUESTION))


# CSV


def test_a_whole_sheet() -> None:
    """A header, a line for each row; absent is empty, "" is quoted, numbers are plain."""
    events = [
        job("2026-10-24T10:00:00Z", "1.5"),
        job("2026-10-24T10:00:00Z", 2, language=""),
        job("2026-10-25T10:00:00Z", 3, language='a "b", c'),
        job("2026-10-25T10:00:00Z", 4, language="=1+1"),
    ]
    sent = reply(request(QUESTION, accept="text/csv"), events)
    assert sent.media_type == "text/csv; charset=utf-8; header=present"
    assert sent.body.decode() == (
        "from,to,account,language,count,quantity\r\n"
        "2026-10-24T00:00:00Z,2026-10-25T00:00:00Z,acme,,1,1.5\r\n"
        '2026-10-24T00:00:00Z,2026-10-25T00:00:00Z,acme,"",1,2\r\n'
        "2026-10-25T00:00:00Z,2026-10-26T00:00:00Z,acme,'=1+1,1,4\r\n"
        '2026-10-25T00:00:00Z,2026-10-26T00:00:00Z,acme,"a ""b"", c",1,3\r\n'
    )


def test_ends_that_were_not_given_and_aggregates_of_nothing_are_empty() -> None:
    """As null is in JSON; a quantity below zero is a number and no formula."""
    asked = request("meter=audio aggregation=min", accept="text/csv")
    rows = [UsageRow(0, (), Total(1, 0, None, None)), UsageRow(0, (), Total(1, -5, -5, -5))]
    body = native.render(asked, native.parse(asked), UsageTable(rows, Total(), AsOf(1, 1))).body
    assert body == b"from,to,count,quantity\r\n,,1,\r\n,,1,-0.000005\r\n"


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=5))
def test_every_cell_is_read_back_as_it_was_but_for_the_guard(texts: list[str | None]) -> None:
    """No cell begins as a formula does, and nothing else is changed."""
    written = sheet.line(map(sheet.cell, texts))
    (read,) = csv.reader(io.StringIO(written, newline=""), strict=True)
    assert [text.removeprefix("'") if text[:1] == "'" else text for text in read] == [
        (text or "").removeprefix("'") for text in texts
    ]
    assert not any(text.startswith(("=", "+", "-", "@", "\t", "\r")) for text in read)
    assert [cell for cell in map(sheet.cell, texts) if cell == ""] == [""] * texts.count(None)


def test_json_is_what_is_given_unless_csv_is_asked_for() -> None:
    """And both say that they depend on it."""
    for accept, media_type in (
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html, */*;q=0.8", "application/json"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("text/csv, application/json;q=0.5", "text/csv; charset=utf-8; header=present"),
        ("text/*", "text/csv; charset=utf-8; header=present"),
    ):
        sent = reply(request(QUESTION, accept=accept), JOBS[:1])
        assert (sent.media_type, sent.headers["Vary"]) == (media_type, "Accept")


def test_many_rows_are_written_as_few_are() -> None:
    """Rows are encoded in pieces; the pieces leave no trace."""
    asked = request("meter=audio group_by=language")
    rows = [UsageRow(0, (f"{n:05}",), Total(1, n, n, n)) for n in range(2500)]
    sent = json.loads(native.render(asked, native.parse(asked), UsageTable(rows, Total(), AsOf(1, 1))).body)["rows"]
    assert [row["labels"]["language"] for row in sent] == [f"{n:05}" for n in range(2500)]
