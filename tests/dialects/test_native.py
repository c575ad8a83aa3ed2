"""Our own usage report: each parameter, each refusal, and numbers that are the events' own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick import windows
from tallystick.catalog import builtin
from tallystick.dialects import native
from tallystick.errors import Code, Problem
from tallystick.model import AsOf, Total, UsageTable
from tallystick.query import Request
from tests.dialects.jobs import NOW, Event, answer, ask, job

JOBS = [
    job("2026-10-24T22:30:00Z", "1.5", type="transcription", language="en", model="a"),
    job("2026-10-25T00:30:00Z", "2.000001", type="transcription", language="", model="a"),
    job("2026-10-25T01:30:00Z", "0.25", type="transcription", model="b"),
    job("2026-10-25T23:30:00Z", 10, type="alignment", language="cs", account="ada"),
]
DAYS = "from=2026-10-24T00:00:00Z to=2026-10-27T00:00:00Z"


def report(parameters: str, events: Sequence[Event] = JOBS, accounts: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Ask for a report over some jobs."""
    asked = ask(parameters, accounts)
    question = native.parse(asked)
    (table,) = answer(events, [question])
    reply = native.render(asked, question, table)
    assert (reply.status, reply.media_type) == (200, "application/json")
    document: dict[str, Any] = json.loads(reply.body)
    return document


def rows(parameters: str, events: Sequence[Event] = JOBS) -> list[tuple[Any, ...]]:
    """Ask for a report and write its rows as (label values, count, quantity)."""
    return [(*row["labels"].values(), row["count"], row["quantity"]) for row in report(parameters, events)["rows"]]


def refusal(parameters: str, **catalog: Any) -> Problem:
    asked = ask(parameters)
    with pytest.raises(Problem) as caught:
        native.parse(replace(asked, catalog=replace(asked.catalog, **catalog)))
    return caught.value


# The whole reply


def test_a_whole_reply() -> None:
    """Every member in its order, buckets of the zone, absent labels as null and before all others."""
    asked = ask(f"meter=audio {DAYS} window=day tz=Europe/Prague group_by=account,language filter[type]=transcription")
    question = native.parse(replace(asked, accounts=None))
    (table,) = answer(JOBS, [question])
    table = replace(table, as_of=AsOf(7, windows.parse_instant("2026-11-02T12:00:00.25Z")))
    assert native.render(asked, question, table).body == (
        b'{"meter":"audio","unit":"s","from":"2026-10-24T00:00:00Z","to":"2026-10-27T00:00:00Z",'
        b'"window":"day","tz":"Europe/Prague",'
        b'"as_of":{"sequence":7,"time":"2026-11-02T12:00:00.250000Z"},"rows":['
        b'{"from":"2026-10-24T22:00:00Z","to":"2026-10-25T23:00:00Z",'
        b'"labels":{"account":"acme","language":null},"count":1,"quantity":"0.25"},'
        b'{"from":"2026-10-24T22:00:00Z","to":"2026-10-25T23:00:00Z",'
        b'"labels":{"account":"acme","language":""},"count":1,"quantity":"2.000001"},'
        b'{"from":"2026-10-24T22:00:00Z","to":"2026-10-25T23:00:00Z",'
        b'"labels":{"account":"acme","language":"en"},"count":1,"quantity":"1.5"}],'
        b'"total":{"count":3,"quantity":"3.750001"}}'
    )


def test_all_of_time_without_ends() -> None:
    """window=total needs no range; the ends that were not given are null, in its one row too."""
    document = report("meter=audio")
    assert (document["window"], document["from"], document["to"], document["tz"]) == ("total", None, None, "UTC")
    assert document["rows"] == [{"from": None, "to": None, "labels": {}, "count": 4, "quantity": "13.750001"}]
    assert document["total"] == {"count": 4, "quantity": "13.750001"}


def test_all_of_time_reaches_both_ends_of_the_calendar() -> None:
    """The first and the last instant that an event may have are in it."""
    events = [job("0001-01-02T00:00:00Z", 1), job("9999-12-30T23:59:59.999999Z", 2)]
    assert report("meter=audio", events)["total"] == {"count": 2, "quantity": "3"}


def test_total_may_have_one_end() -> None:
    """Each end of window=total is optional by itself."""
    document = report("meter=audio window=total from=2026-10-25T00:00:00Z")
    assert (document["from"], document["to"]) == ("2026-10-25T00:00:00Z", None)
    assert document["rows"][0]["from"] == "2026-10-25T00:00:00Z"
    assert document["total"]["count"] == 3
    assert report("meter=audio to=2026-10-25T00:00:00Z")["total"]["count"] == 1


def test_nothing_used() -> None:
    """Buckets without usage are left out; the total of nothing is zero."""
    document = report(f"meter=tokens_in {DAYS} window=hour", [])
    assert document["unit"] == "{token}"
    assert document["rows"] == []
    assert document["total"] == {"count": 0, "quantity": "0"}
    assert document["as_of"] == {"sequence": 0, "time": None}


def test_a_range_is_half_open_and_exact_to_the_microsecond() -> None:
    """What happens at from is in, what happens at to is out."""
    events = [
        job("2026-10-25T10:07:00Z", 1),
        job("2026-10-25T10:07:00.000001Z", 2),
        job("2026-10-25T10:07:00.000002Z", 4),
    ]
    document = report(
        "meter=audio window=minute15 from=2026-10-25T10:07:00.000001Z to=2026-10-25T10:07:00.000002Z", events
    )
    assert document["total"]["quantity"] == "2"
    assert document["rows"][0]["from"] == "2026-10-25T10:07:00.000001Z"
    assert document["rows"][0]["to"] == "2026-10-25T10:07:00.000002Z"


def test_offsets_are_understood_and_answered_in_utc() -> None:
    """An instant is the same whatever offset it came with."""
    document = report("meter=audio window=year from=2026-01-01T00:00:00+01:00 to=2027-01-01T00:00:00Z")
    assert document["from"] == "2025-12-31T23:00:00Z"


@pytest.mark.parametrize("window", list(windows.Window))
def test_every_window_is_answered(window: str) -> None:
    """However it is cut, the total is the same, and the rows add up to it."""
    document = report(f"meter=audio {DAYS} window={window} tz=Australia/Lord_Howe")
    assert document["window"] == window
    assert document["total"] == {"count": 4, "quantity": "13.750001"}
    assert sum(Decimal(row["quantity"]) for row in document["rows"]) == Decimal("13.750001")


# Filters and groups


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ("filter[type]=transcription", 3),
        ("filter[type]=transcription filter[model]=a", 2),
        ("filter[language]=en filter[language]=cs", 2),
        ("filter[language]=", 2),
        ("filter[language]= filter[language]=en", 3),
        ("filter[language]=EN", 0),
        ("filter[language]=en,cs", 0),
    ],
)
def test_a_filter_takes_any_of_its_values(parameters: str, count: int) -> None:
    """Repeated is any of, different labels are all of, and the empty value stands for absent too."""
    assert report(f"meter=audio {parameters}")["total"]["count"] == count


def test_rows_are_grouped_as_asked() -> None:
    """Labels come in the order asked for; empty and absent are two groups here."""
    assert rows("meter=audio group_by=language") == [
        (None, 1, "0.25"),
        ("", 1, "2.000001"),
        ("cs", 1, "10"),
        ("en", 1, "1.5"),
    ]
    assert rows("meter=audio group_by=model,account") == [
        (None, "ada", 1, "10"),
        ("a", "acme", 2, "3.500001"),
        ("b", "acme", 1, "0.25"),
    ]


def test_the_accounts_are_those_that_may_be_read() -> None:
    """Whose usage it is was settled before; a parameter cannot widen it."""
    assert native.parse(ask("meter=audio account=ada", ("acme",))).accounts == ("acme",)
    assert native.parse(ask("meter=audio", None)).accounts is None


# Aggregations


@pytest.mark.parametrize(
    ("aggregation", "unit", "quantity", "of_nothing"),
    [
        ("sum", "s", "13.750001", "0"),
        ("count", "{event}", "4", "0"),
        ("min", "s", "0.25", None),
        ("max", "s", "10", None),
        ("avg", "s", "3.4375", None),
    ],
)
def test_every_aggregation(aggregation: str, unit: str, quantity: str, of_nothing: str | None) -> None:
    """Each is computed over the union; of nothing there is a sum and a count, but no least, greatest or average."""
    document = report(f"meter=audio aggregation={aggregation}")
    assert (document["unit"], document["total"]) == (unit, {"count": 4, "quantity": quantity})
    assert report(f"meter=audio aggregation={aggregation}", [])["total"] == {"count": 0, "quantity": of_nothing}


@given(st.lists(st.integers(-(10**30), 10**30) | st.integers(-9, 9), min_size=1, max_size=9))
def test_an_average_is_rounded_half_even_at_the_meters_scale(amounts: list[int]) -> None:
    """As fractions are rounded, however large the sum."""
    question = ask("meter=tokens_in aggregation=avg")
    table = UsageTable((), Total(len(amounts), sum(amounts), min(amounts), max(amounts)), AsOf(0, 0))
    body = native.render(question, native.parse(question), table).body
    assert int(json.loads(body)["total"]["quantity"]) == round(Fraction(sum(amounts), len(amounts)))


@pytest.mark.parametrize(
    ("amounts", "quantity"), [((0, 1), "0"), ((1, 2), "2"), ((2, 3), "2"), ((-1, 0), "0"), ((-1, -2), "-2")]
)
def test_half_goes_to_even(amounts: tuple[int, int], quantity: str) -> None:
    """A half is rounded to the even neighbour, on both sides of zero."""
    question = ask("meter=tokens_in aggregation=avg")
    table = UsageTable((), Total(2, sum(amounts), min(amounts), max(amounts)), AsOf(0, 0))
    assert json.loads(native.render(question, native.parse(question), table).body)["total"]["quantity"] == quantity


# Refusals


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ("", "meter"),
        ("meter=", "meter"),
        ("meter=audio meter=audio", "meter"),
        (f"meter=audio {DAYS} window=decade", "window"),
        (f"meter=audio {DAYS} window=DAY", "window"),
        (f"meter=audio {DAYS} window=", "window"),
        (f"meter=audio {DAYS} window=day tz=Mars/Base", "tz"),
        (f"meter=audio {DAYS} window=day tz=europe/prague", "tz"),
        (f"meter=audio {DAYS} window=day tz=", "tz"),
        (f"meter=audio {DAYS} aggregation=median", "aggregation"),
        (f"meter=audio {DAYS} aggregation=unique", "aggregation"),
        ("meter=audio window=day to=2026-10-27T00:00:00Z", "from"),
        ("meter=audio window=day from=2026-10-27T00:00:00Z", "to"),
        ("meter=audio from=2026-10-27", "from"),
        ("meter=audio from=2026-10-27T00:00:00", "from"),
        ("meter=audio to=", "to"),
        ("meter=audio to=0001-01-01T00:00:00Z", "to"),
        ("meter=audio from=9999-12-31T00:00:00.000001Z", "from"),
        ("meter=audio from=2026-10-27T00:00:00Z to=2026-10-27T00:00:00Z", "from"),
        ("meter=audio from=2026-10-27T00:00:00Z to=2026-10-26T00:00:00Z", "from"),
        ("meter=audio to=0001-01-02T00:00:00Z", "from"),
        ("meter=audio from=9999-12-31T00:00:00Z", "from"),
        ("meter=audio group_by=colour", "group_by"),
        ("meter=audio group_by=", "group_by"),
        ("meter=audio group_by=type,", "group_by"),
        ("meter=audio group_by=type,type", "group_by"),
        ("meter=audio group_by=account,account", "group_by"),
        ("meter=audio group_by=type group_by=model", "group_by"),
        ("meter=tokens_in group_by=language", "group_by"),
        ("meter=audio filter[colour]=red", "filter[colour]"),
        ("meter=audio filter[account]=acme", "filter[account]"),
        ("meter=audio filter[]=x", "filter[]"),
        ("meter=audio filter[type=x", "filter[type"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: str, pointer: str) -> None:
    """Nothing is guessed: 400, the parameter's name and what to do."""
    problem = refusal(parameters)
    assert problem.code is Code.PARAMETER_INVALID
    assert [flaw.pointer for flaw in problem.flaws] == [pointer]
    assert problem.detail.endswith(".")


def test_an_unknown_meter_is_not_found() -> None:
    """404, and the meters that there are."""
    problem = refusal("meter=video")
    assert (problem.code, problem.flaws[0].pointer) == (Code.NOT_FOUND, "meter")
    assert ", ".join(sorted(builtin().meters)) in problem.detail


def test_a_bare_plus_is_explained() -> None:
    """A plus that was not encoded arrives as a space; the answer says so."""
    asked = Request(NOW, builtin(), None, (("meter", "audio"), ("from", "2026-10-27T00:00:00 02:00")))
    with pytest.raises(Problem, match="%2B"):
        native.parse(asked)


@pytest.mark.parametrize("name", ["sum", "min", "max", "avg", "latest"])
def test_a_meter_of_distinct_values_has_no_amounts(name: str) -> None:
    """Its values are counted, and so are its events; there is nothing to add up."""
    meters = {"users": replace(builtin().meters["audio"], name="users", aggregation="unique", unit="1", scale=0)}
    asked = replace(ask("meter=users"), catalog=replace(ask("meter=users").catalog, meters=meters))
    assert native.parse(asked).distinct
    assert refusal(f"meter=users aggregation={name}", meters=meters).flaws[0].pointer == "aggregation"


def test_the_aggregation_of_a_meter_is_the_default() -> None:
    """Another can be asked for, of those that fit."""
    meters = {"level": replace(builtin().meters["audio"], name="level", aggregation="latest")}
    asked = replace(ask("meter=level"), catalog=replace(ask("meter=level").catalog, meters=meters))
    assert native.parse(asked).latest
    asked = replace(ask("meter=level aggregation=max"), catalog=asked.catalog)
    assert not native.parse(asked).latest


def test_unknown_parameters_are_ignored() -> None:
    """Also those that a later version may understand."""
    assert report("meter=audio colour=red sdk= page=1")["total"]["count"] == 4


def test_too_many_buckets_are_refused() -> None:
    """A range with millions of quarters is not cut at all."""
    problem = refusal("meter=audio window=minute15 from=1900-01-01T00:00:00Z to=2026-01-01T00:00:00Z")
    assert (problem.code, problem.flaws[0].pointer) == (Code.ROWS_EXCEEDED, "window")


def test_too_many_rows_are_refused() -> None:
    """As many rows as allowed are answered; one more is a problem, also where a page would be short."""
    for parameters in ("", " limit=1"):
        asked = ask(f"meter=audio group_by=language{parameters}", accounts=None)
        assert len(answer(JOBS, [native.parse(asked, 4)])[0].rows) == 4
        with pytest.raises(Problem) as caught:
            answer(JOBS, [native.parse(asked, 3)])
        assert caught.value.code is Code.ROWS_EXCEEDED


# Properties

values = st.none() | st.sampled_from(["", "a", "b"])
work = st.lists(
    st.tuples(st.integers(0, 50 * 3600), st.integers(0, 10**12), values, values, st.sampled_from(["acme", "ada"])),
    max_size=10,
)
BEGIN = datetime(2026, 10, 24, tzinfo=UTC)


@settings(max_examples=100)
@given(
    work,
    st.sampled_from(list(windows.Window)),
    st.sampled_from(["UTC", "Europe/Prague", "Asia/Kathmandu"]),
    st.lists(st.sampled_from(["account", "language", "model"]), unique=True),
    st.integers(1, 50 * 3600),
)
def test_the_total_is_the_sum_of_its_parts(
    work: list[tuple[int, int, str | None, str | None, str]],
    window: windows.Window,
    zone: str,
    group_by: list[str],
    split: int,
) -> None:
    """In every window, zone and grouping, and when the range is split anywhere."""
    events = [
        job(
            (BEGIN + timedelta(seconds=at)).isoformat(),
            str(Decimal(amount).scaleb(-6)),
            account=account,
            **{k: v for k, v in (("language", language), ("model", model)) if v is not None},
        )
        for at, amount, language, model, account in work
    ]
    begin, middle, end = ((BEGIN + timedelta(seconds=at)).isoformat() for at in (0, split, 51 * 3600))
    rest = f"meter=audio window={window} tz={zone}" + (f" group_by={','.join(group_by)}" if group_by else "")
    whole, left, right = (
        report(f"{rest} from={start} to={stop}", events)
        for start, stop in ((begin, end), (begin, middle), (middle, end))
    )
    exact = Decimal(sum(amount for _, amount, *_ in work)).scaleb(-6)
    assert (whole["total"]["count"], Decimal(whole["total"]["quantity"])) == (len(work), exact)
    for parts in (whole["rows"], [left["total"], right["total"]], left["rows"] + right["rows"]):
        assert sum(part["count"] for part in parts) == len(work)
        assert sum(Decimal(part["quantity"]) for part in parts) == exact
