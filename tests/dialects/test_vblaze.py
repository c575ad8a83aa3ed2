"""vblaze's reports: every point that the vendor's page leaves open."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.api.errors import STATUS
from tallystick.dialects import vblaze
from tallystick.errors import Code, Problem
from tests.dialects.jobs import Event, answers, ask, job

AT = "2026-10-05T10:00:00Z"
NOTHING = {"total": [0, 0]}


def said(events: Sequence[Event], path: str, parameters: str = "", **request: Any) -> Any:
    """Ask for a report over some jobs; `path` is as `usage` or `usage/filter`."""
    report, _, filter = path.partition("/")
    asked = replace(ask(parameters, **request), path={"filter": filter})
    plan = vblaze.parse(asked, report)
    reply = vblaze.render(asked, plan, answers(events, plan.questions))
    assert (reply.status, reply.media_type) == (200, "application/json")
    return json.loads(reply.body, parse_float=Decimal, object_pairs_hook=once)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members; none may be there twice."""
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def cell(hours: str, streams: int) -> list[Any]:
    """Write down a cell."""
    number = Decimal(hours)
    return [int(number) if "." not in hours else number, streams]


def test_an_account_without_usage() -> None:
    """A total of nothing, and where there is no total an empty object."""
    for report in ("usage", "usagemodel", "usagetags", "usagebilling"):
        assert said([], report) == NOTHING
    assert said([], "usagefull") == {**NOTHING, "key": "billing"}
    assert said([], "usageraw") == said([], "usagelicense") == {}
    assert said([], "usagekeys") == ["billing", "model", "tags"]


def test_work_without_a_model_is_another_vendors() -> None:
    """An empty model is one, an absent one or null is none."""
    events = [
        job(AT, 3600, model=""),
        job(AT, 3600),
        job(AT, 3600, model=None),
        job(AT, 3600, model="m", status="failed"),
    ]
    assert said(events, "usage") == {"": [1, 1], "total": [1, 1]}
    assert said(events, "usageraw") == {"": [1, 1]}


def test_an_absent_label_and_an_empty_one_are_one() -> None:
    """Billing, tags and licence that are absent are the empty ones; hours are rounded over both together."""
    events = [
        job(AT, "0.09", model="m"),
        job(AT, "0.09", model="m", billing="", tags="", license=""),
    ]
    assert said(events, "usagefull")[""]["m"][""] == cell("0.0001", 2)
    assert said(events, "usagelicense") == {"model=m": cell("0.0001", 2)}


@pytest.mark.parametrize(
    ("seconds", "hours"),
    [
        ("0", "0"),
        ("0.000001", "0"),
        ("0.179999", "0"),
        ("0.18", "0.0001"),
        ("0.539999", "0.0001"),
        ("0.54", "0.0002"),
        ("1800", "0.5"),
        ("28800000", "8000"),
        ("552163.32", "153.3787"),
        ("1000000000000", "277777777.7778"),
    ],
)
def test_hours_are_rounded_half_up_and_written_exactly(seconds: str, hours: str) -> None:
    """Four decimals at most, computed from microseconds, without padding, in the text itself."""
    asked = ask()
    plan = vblaze.parse(asked, "usage")
    body = vblaze.render(asked, plan, answers([job(AT, seconds, model="m")], plan.questions)).body
    assert body == f'{{"m":[{hours},1],"total":[{hours},1]}}'.encode()


def test_sums_are_sums_of_rounded_leaves() -> None:
    """Two leaves of a half each are one each, in every report; in one leaf they are one together."""
    two = [job(AT, "0.18", model="m", tags=tags) for tags in ("G", "D")]
    for report in ("usage", "usagetags", "usagebilling", "usagefull"):
        assert said(two, report)["total"] == cell("0.0002", 2)
    one = [job(AT, "0.18", model="m", license=license) for license in ("a", "b")]
    assert said(one, "usage")["total"] == cell("0.0001", 2)
    assert said(one, "usagelicense") == {name: {"model=m": cell("0.0001", 1)} for name in ("a", "b")}


def test_tags_are_one_string_per_combination() -> None:
    """Letters or parameters, in whatever order, in code-point order; combinations come in that order too."""
    events = [
        job(AT, 3600, model="m", tags=tags)
        for tags in ("RG*", ["notext", "gender"], "GD", ["diarize", "gender"], ["scrubaudio", "agentid"])
    ]
    assert list(said(events, "usagetags")) == ["*G", "*GR", "Aa", "DG", "total"]


def test_raw_keys_leave_out_what_is_empty_and_escape_what_separates() -> None:
    """Billing is whole; a comma, an equals sign and a percent sign inside a value are percent-encoded."""
    events = [
        job(AT, 3600, model="a=b,c%2C", billing="x,y=z", tags="G"),
        job(AT, 3600, model="", billing="", tags="G"),
        job(AT, 3600, model="m", billing="acme/ops dept"),
    ]
    assert set(said(events, "usageraw")) == {
        "billing=x%2Cy%3Dz,model=a%3Db%2Cc%252C,tags=G",
        "tags=G",
        "billing=acme/ops dept,model=m",
    }
    assert set(said(events, "usagebilling")) == {"", "x,y=z", "acme/ops dept", "total"}


def test_several_licences_are_told_apart() -> None:
    """More than one distinct value, the empty one included, and whatever the filter leaves of them."""
    one = [job(AT, 3600, model="m", license="L1"), job(AT, 3600, model="n", license="L1")]
    assert said(one, "usagelicense") == said(one, "usageraw") == {"model=m": [1, 1], "model=n": [1, 1]}
    several = [*one, job(AT, 3600, model="m")]
    assert said(several, "usagelicense") == {"": {"model=m": [1, 1]}, "L1": {"model=m": [1, 1], "model=n": [1, 1]}}
    assert said(several, "usagelicense/L1") == {"L1": {"model=m": [1, 1], "model=n": [1, 1]}}
    assert said(several, "usagelicense/n") == {"L1": {"model=n": [1, 1]}}
    assert said(several, "usageraw/L1") == {"model=m": [1, 1], "model=n": [1, 1]}


def test_a_filter_is_looked_up_in_order() -> None:
    """Key, then model, tags, billing and licence; the first that has the value decides."""
    events = [
        job(AT, 3600, model="G", tags="D", billing="b", license="l"),
        job(AT, 3600, model="m", tags="G", billing="D", license="b"),
        job(AT, 3600, model="tags", tags="GR", billing="x", license="y"),
    ]
    assert said(events, "usage/G") == {"G": [1, 1], "total": [1, 1]}
    assert said(events, "usage/D") == {"G": [1, 1], "total": [1, 1]}
    assert said(events, "usage/b") == {"G": [1, 1], "total": [1, 1]}
    assert said(events, "usage/x") == said(events, "usage/y") == {"tags": [1, 1], "total": [1, 1]}
    # A key is looked up on /usage only.
    assert said(events, "usage/tags") == said(events, "usagetags")
    assert said(events, "usage/model") == said(events, "usagemodel")
    assert said(events, "usage/billing") == said(events, "usagebilling")
    assert said(events, "usagetags/tags") == {"GR": [1, 1], "total": [1, 1]}
    assert said(events, "usagemodel/billing") == NOTHING


@pytest.mark.parametrize("value", ["unknown", "gd", "DG ", "M", "total", "key", "license", "m%", "*"])
def test_a_filter_is_one_whole_value_compared_exactly(value: str) -> None:
    """Whatever no row has is 200 with a total of nothing, in the shape of the report."""
    events = [job(AT, 3600, model="m", tags="GD", billing="b")]
    for report in ("usage", "usagemodel", "usagetags", "usagebilling"):
        assert said(events, f"{report}/{value}") == NOTHING
    assert said(events, f"usagefull/{value}") == {**NOTHING, "key": "billing"}
    assert said(events, f"usageraw/{value}") == said(events, f"usagelicense/{value}") == {}
    assert said(events, f"usagekeys/{value}") == ["billing", "model", "tags"]


def test_a_filter_keeps_the_shape_and_recomputes_totals() -> None:
    """The nested report of one tag string has the rows of it only."""
    events = [job(AT, 3600, model=model, tags=tags) for model, tags in (("a", "G"), ("a", "D"), ("b", "G"))]
    assert said(events, "usagefull/D") == {
        "": {"a": {"D": [1, 1], "total": [1, 1], "key": "tags"}, "total": [1, 1], "key": "model"},
        "total": [1, 1],
        "key": "billing",
    }


def test_days_are_whole_utc_days_and_today_is_in() -> None:
    """Without days all there is counts; with them both are in."""
    times = ("1969-12-31T23:59:59Z", "2026-10-09T23:59:59.999999Z", "2026-10-10T00:00:00Z", "2026-11-02T11:59:59Z")
    events = [job(at, 3600, model="m") for at in times]
    for days, count in (
        ("", 4),
        ("since=2026-10-10", 2),
        ("until=2026-10-09", 2),
        ("since=2026-10-10 until=2026-10-10", 1),
        ("since=2026-11-02 until=2026-11-02", 1),
        ("since=9999-12-31", 0),
        ("until=0001-01-01", 0),
        ("since=0001-01-01 until=9999-12-31", 4),
    ):
        assert said(events, "usage", days)["total"] == [count, count], days


@pytest.mark.parametrize(
    "parameters",
    [
        "since=",
        "until=",
        "since=2026-10-10 since=2026-10-10",
        "since=2026-13-01",
        "until=20261010",
        "since=2026-10-10T00:00:00Z",
        "since=0000-01-01",
        "since=2026-10-11 until=2026-10-10",
    ],
)
def test_a_bad_day_is_refused_in_every_report(parameters: str) -> None:
    """Empty, given twice, no day, or the wrong way round: 400, and the text says what."""
    for report in vblaze.REPORTS:
        with pytest.raises(Problem) as caught:
            said([], report, parameters)
        reply = vblaze.problem(caught.value)
        assert reply.status == 400
        assert set(json.loads(reply.body)) == {"error"}


def test_unknown_parameters_are_ignored() -> None:
    """Whatever a client adds of its own changes nothing."""
    events = [job(AT, 3600, model="m")]
    assert said(events, "usage", "verbose=1 verbose=2 page=") == said(events, "usage")


def test_names_of_any_script_survive() -> None:
    """Labels are told as they were sent, and found by what they are."""
    name = 'žluťoučký "kůň" \\ 😀/2'
    assert said([job(AT, 3600, model=name)], f"usage/{name}") == {name: [1, 1], "total": [1, 1]}


@pytest.mark.parametrize("code", Code)
def test_every_problem_has_the_familys_shape(code: Code) -> None:
    """One member, `error`, with the reason in words; a status where the report can meet it, else 500."""
    reply = vblaze.problem(Problem(code, "The reason."))
    assert json.loads(reply.body) == {"error": "The reason."}
    assert reply.status in (500, STATUS[code].value)


kinds = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["", "m", "n,=%"]),
        "billing": st.sampled_from(["", "b", "m"]),
        "tags": st.sampled_from(["", "G", "RG*"]),
        "license": st.sampled_from(["", "L"]),
    },
)
work = st.lists(st.tuples(st.decimals(0, 10**5, places=6), kinds), max_size=12)


@settings(max_examples=80)
@given(work)
def test_the_reports_are_what_decimal_says(work: list[tuple[Decimal, dict[str, str]]]) -> None:
    """Leaves, sums and totals, worked out again in the plainest way, agree in all reports."""
    leaves: defaultdict[tuple[str, str, str], list[Decimal]] = defaultdict(list)
    for seconds, kind in work:
        if "model" in kind:
            tags = "".join(sorted(kind.get("tags", "")))
            leaves[kind.get("billing", ""), kind["model"], tags].append(seconds)
    hours: dict[tuple[str, str, str], list[Any]] = {
        leaf: [(sum(all_, Decimal()) / 3600).quantize(Decimal("0.0001"), ROUND_HALF_UP), len(all_)]
        for leaf, all_ in leaves.items()
    }
    events = [job(AT, str(seconds), **kind) for seconds, kind in work]
    whole = [sum((cell[place] for cell in hours.values()), Decimal()) for place in (0, 1)]
    for place, report in enumerate(("usagebilling", "usage", "usagetags")):
        expected: dict[str, list[Any]] = {"total": whole}
        for leaf, (amount, count) in hours.items():
            before = expected.get(leaf[place], [Decimal(), 0])
            expected[leaf[place]] = [before[0] + amount, before[1] + count]
        assert said(events, report) == expected
    full = said(events, "usagefull")
    found = {
        (billing, model, tags): cell
        for billing, models in full.items()
        if billing not in ("total", "key")
        for model, cells in models.items()
        if model not in ("total", "key")
        for tags, cell in cells.items()
        if tags not in ("total", "key")
    }
    assert found == hours
    assert full["total"] == whole
    assert sorted(map(str, said(events, "usageraw").values())) == sorted(map(str, found.values()))
