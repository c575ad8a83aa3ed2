"""Speechmatics' report: the vendor's example, and every point that its page leaves open."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.api.errors import STATUS
from tallystick.dialects import speechmatics
from tallystick.errors import Code, Problem
from tallystick.model import AsOf, Total, UsageRow, UsageTable
from tallystick.query import Answers, Questions, Reply
from tests.dialects.jobs import NOW, Event, answers, ask, job

HOUR = 3600 * 10**6


def report(events: Sequence[Event], parameters: str = "", **request: Any) -> dict[str, Any]:
    """Ask for the report over some jobs; numbers come back as Decimal, so that 8 and 8.0 differ in their text."""
    asked = ask(parameters, **request)
    plan = speechmatics.parse(asked)
    return read(speechmatics.render(asked, plan, answers(events, plan.questions)))


def read(reply: Reply) -> dict[str, Any]:
    assert (reply.status, reply.media_type) == (200, "application/json")
    document: dict[str, Any] = json.loads(reply.body, parse_float=Decimal)
    return document


def table(*rows: tuple[int, tuple[str | None, ...], int, int]) -> UsageTable:
    lines = [UsageRow(bucket, labels, Total(count, amount)) for bucket, labels, count, amount in rows]
    total = Total(sum(line.total.count for line in lines), sum(line.total.sum for line in lines))
    return UsageTable(lines, total, AsOf(1, NOW))


def counts(document: dict[str, Any]) -> int:
    return sum(line["count"] for line in document["summary"] or [])


def test_the_vendors_example() -> None:
    """The reply of the vendor's page, byte for byte: its members stand in the vendor's order."""
    asked = ask("since=2020-09-15 until=2020-12-31")
    plan = speechmatics.parse(asked)
    whole = table(
        (0, ("alignment", "en", ""), 489, 70 * HOUR + 53 * HOUR // 100 - 1),
        (0, ("transcription", "de", "enhanced"), 27556, 3227 * HOUR + 61 * HOUR // 100 - 17_999_999),
        (0, ("transcription", "sv", "standard"), 27830, 5204 * HOUR + 55 * HOUR // 100 + 17_999_999),
    )
    days = table((0, ("alignment",), 1, HOUR), (3, ("transcription",), 1, HOUR))
    assert speechmatics.render(asked, plan, Answers((whole, days))).body == (
        b'{"since":"2020-09-15","until":"2020-12-31",'
        b'"summary":[{"mode":"batch","type":"transcription","count":55386,"duration_hrs":8432.16},'
        b'{"mode":"batch","type":"alignment","count":489,"duration_hrs":70.53}],'
        b'"details":[{"mode":"batch","type":"transcription","language":"sv","operating_point":"standard",'
        b'"count":27830,"duration_hrs":5204.55},'
        b'{"mode":"batch","type":"transcription","language":"de","operating_point":"enhanced",'
        b'"count":27556,"duration_hrs":3227.61},'
        b'{"mode":"batch","type":"alignment","language":"en","count":489,"duration_hrs":70.53}]}'
    )


def test_an_account_without_jobs() -> None:
    """No usage is null, not an empty list; it begins with the epoch and ends yesterday."""
    assert report([]) == {"since": "1970-01-01", "until": "2026-11-01", "summary": None, "details": None}


def test_one_job() -> None:
    """Everything there is to say about a single job, the window beginning on its day."""
    assert report([job("2026-10-05T10:00:00Z", 900, type="transcription", language="en")]) == {
        "since": "2026-10-05",
        "until": "2026-11-01",
        "summary": [{"mode": "batch", "type": "transcription", "count": 1, "duration_hrs": Decimal("0.25")}],
        "details": [
            {"mode": "batch", "type": "transcription", "language": "en", "count": 1, "duration_hrs": Decimal("0.25")}
        ],
    }


@pytest.mark.parametrize(
    ("at", "counted"),
    [
        ("2026-10-09T23:59:59.999999Z", 0),
        ("2026-10-10T00:00:00Z", 1),
        ("2026-10-10T01:59:59+02:00", 0),
        ("2026-10-12T23:59:59.999999Z", 1),
        ("2026-10-13T00:00:00Z", 0),
    ],
)
def test_both_days_are_whole_utc_days(at: str, counted: int) -> None:
    """From the first instant of since up to, and without, the first instant after until."""
    assert counts(report([job(at, type="t")], "since=2026-10-10 until=2026-10-12")) == counted


def test_a_range_may_be_one_day() -> None:
    """A day from itself to itself is that day, yesterday too."""
    jobs = [job("2026-10-10T12:00:00Z", type="t"), job("2026-11-01T12:00:00Z", type="t")]
    assert counts(report(jobs, "since=2026-10-10 until=2026-10-10")) == 1
    assert counts(report(jobs, "since=2026-11-01")) == 1


@pytest.mark.parametrize("until", ["", "until=2026-11-02", "until=2026-11-03", "until=9999-12-31"])
def test_today_is_never_counted(until: str) -> None:
    """Whatever is asked for, the report ends with yesterday and says so."""
    jobs = [job("2026-11-01T23:59:59.999999Z", type="t"), job("2026-11-02T00:00:00Z", type="t")]
    document = report(jobs, until)
    assert counts(document) == 1
    assert document["until"] == "2026-11-01"


def test_an_earlier_end_is_kept() -> None:
    """An until before yesterday is answered as given."""
    assert report([], "until=2026-10-31")["until"] == "2026-10-31"


@pytest.mark.parametrize(
    ("parameters", "since"),
    [
        ("", "2026-10-05"),
        ("since=2026-01-01", "2026-10-05"),
        ("since=2026-10-05", "2026-10-05"),
        ("since=2026-10-06", "2026-10-20"),
        ("since=2026-10-21", "2026-10-21"),
        ("until=2026-10-04", "1970-01-01"),
        ("since=2026-01-01 until=2026-10-04", "2026-01-01"),
    ],
)
def test_since_is_the_first_day_with_a_job_in_the_window(parameters: str, since: str) -> None:
    """Without one it is the day that was given, or else the epoch."""
    jobs = [job("2026-10-20T12:00:00Z", type="t"), job("2026-10-05T23:00:00Z", type="t")]
    assert report(jobs, parameters)["since"] == since


def test_the_calendar_begins_in_1970() -> None:
    """What ended earlier cannot be asked for, so it is not counted without since either."""
    jobs = [job("1969-12-31T23:59:59.999999Z", type="t"), job("1970-01-01T00:00:00Z", type="t")]
    document = report(jobs)
    assert (document["since"], counts(document)) == ("1970-01-01", 1)


@pytest.mark.parametrize(
    ("parameters", "since", "until"),
    [
        ("since=2026-11-02", "2026-11-02", "2026-11-01"),
        ("since=2026-11-02 until=2026-11-02", "2026-11-02", "2026-11-01"),
        ("since=2030-01-01 until=2031-01-01", "2030-01-01", "2026-11-01"),
        ("since=9999-12-31", "9999-12-31", "2026-11-01"),
    ],
)
def test_a_window_emptied_by_the_cut_to_yesterday_is_no_error(parameters: str, since: str, until: str) -> None:
    """It is answered with nulls, its since as given, and nothing is asked of the ledger."""
    assert speechmatics.parse(ask(parameters)).questions == Questions()
    assert report([job("2026-11-02T01:00:00Z", type="t")], parameters) == {
        "since": since,
        "until": until,
        "summary": None,
        "details": None,
    }


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ("since=2026-10-02 until=2026-10-01", "since"),
        ("since=2031-01-01 until=2030-01-01", "since"),
        ("since=", "since"),
        ("until=", "until"),
        ("since=2026-10-01 since=2026-10-01", "since"),
        ("until=2026-10-01 until=2026-10-02", "until"),
        ("since=2026-1-1", "since"),
        ("since=20261001", "since"),
        ("until=2026-10-01T00:00:00Z", "until"),
        ("until=2026-02-29", "until"),
        ("until=yesterday", "until"),
        ("since=1969-12-31", "since"),
        ("until=0001-01-01", "until"),
    ],
)
def test_a_bad_day_is_refused_in_the_vendors_words(parameters: str, pointer: str) -> None:
    """Empty, repeated, not YYYY-MM-DD, before 1970, or the wrong way round: 400 with a detail that names it."""
    with pytest.raises(Problem) as caught:
        speechmatics.parse(ask(parameters))
    assert [flaw.pointer for flaw in caught.value.flaws] == [pointer]
    reply = speechmatics.problem(caught.value)
    document = json.loads(reply.body)
    assert reply.status == document["code"] == 400
    assert document["error"] == "Bad Request"
    assert pointer in document["detail"]
    assert list(document) == ["code", "error", "detail"]


def test_the_first_and_last_days_that_can_be_asked_for() -> None:
    """1970-01-01 and 9999-12-31 are days like any other, and unknown parameters are ignored."""
    assert report([], "since=1970-01-01 until=9999-12-31 sm-sdk=python-1.0 limit=") == {
        "since": "1970-01-01",
        "until": "2026-11-01",
        "summary": None,
        "details": None,
    }


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (Code.KEY_MISSING, 401, "Permission Denied"),
        (Code.KEY_INVALID, 401, "Permission Denied"),
        (Code.SCOPE_MISSING, 403, "Forbidden"),
        (Code.ACCOUNT_FORBIDDEN, 403, "Forbidden"),
        (Code.NOT_FOUND, 404, "Not Found"),
        (Code.METHOD_NOT_ALLOWED, 405, "Method Not Allowed"),
        (Code.UNAVAILABLE, 503, "Service Unavailable"),
        (Code.INTERNAL, 500, "Internal Server Error"),
    ],
)
def test_other_problems_have_the_vendors_shape_and_no_detail(code: Code, status: int, error: str) -> None:
    """A status and a text; what went wrong inside is not told."""
    reply = speechmatics.problem(Problem(code, "a secret"))
    assert (reply.status, json.loads(reply.body)) == (status, {"code": status, "error": error})


def test_the_vendors_statuses_are_the_native_ones() -> None:
    """A code has one status, in whatever shape it is told."""
    assert speechmatics.DIALECT.statuses.items() <= STATUS.items()


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        (job("2026-10-05T10:00:00Z", type="transcription"), 1),
        (job("2026-10-05T10:00:00Z", type="transcription", mode="batch"), 1),
        (job("2026-10-05T10:00:00Z", type="transcription", mode=""), 1),
        (job("2026-10-05T10:00:00Z", type="transcription", mode="realtime"), 0),
        (job("2026-10-05T10:00:00Z", type="transcription", mode="Batch"), 0),
        (job("2026-10-05T10:00:00Z", type="anything else"), 1),
        (job("2026-10-05T10:00:00Z", type=""), 0),
        (job("2026-10-05T10:00:00Z"), 0),
        (job("2026-10-05T10:00:00Z", type="transcription", status="failed"), 0),
        (job("2026-10-05T10:00:00Z", type="transcription", account="other"), 0),
    ],
)
def test_only_successful_batch_jobs_with_a_type_count(event: Event, counted: int) -> None:
    """Mode absent or empty is batch; a job without a type is another vendor's; and so it is for the first day."""
    document = report([event])
    assert counts(document) == counted
    assert document["since"] == ("2026-10-05" if counted else "1970-01-01")


def test_empty_and_absent_labels_are_one() -> None:
    """An empty language or operating point is none: one line, without the key."""
    jobs = [
        job("2026-10-05T10:00:00Z", 3600, type="alignment", language="en"),
        job("2026-10-05T10:00:00Z", 3600, type="alignment", language="en", operating_point=""),
        job("2026-10-05T10:00:00Z", 3600, type="alignment", mode="", language="en", operating_point=None),
        job("2026-10-05T10:00:00Z", 1800, type="alignment", language="", operating_point=""),
        job("2026-10-05T10:00:00Z", 1800, type="alignment", mode="batch"),
    ]
    document = report(jobs)
    assert document["details"] == [
        {"mode": "batch", "type": "alignment", "language": "en", "count": 3, "duration_hrs": 3},
        {"mode": "batch", "type": "alignment", "count": 2, "duration_hrs": 1},
    ]
    assert document["summary"] == [{"mode": "batch", "type": "alignment", "count": 5, "duration_hrs": 4}]


def test_labels_that_the_vendor_does_not_know_do_not_split_a_line() -> None:
    """Jobs of several models, spaces and bills are one line."""
    jobs = [job("2026-10-05T10:00:00Z", type="t", model=model, billing=model, space=model) for model in ("a", "b", "")]
    assert [line["count"] for line in report(jobs)["details"]] == [3]


def test_the_order_of_lines() -> None:
    """Most jobs first, then type, language and operating point by code points, absent before all."""
    kinds: list[dict[str, str]] = [
        {"type": "c", "language": "en"},
        {"type": "c", "language": "en"},
        {"type": "b"},
        {"type": "a", "language": "Z", "operating_point": "x"},
        {"type": "a", "language": "a"},
        {"type": "a", "language": "Z"},
        {"type": "a", "language": "ä"},
        {"type": "a", "operating_point": "x"},
        {"type": "a"},
    ]
    lengths = [1, 1, *range(100, 98 + len(kinds))]
    document = report(
        [job("2026-10-05T10:00:00Z", length, **kind) for length, kind in zip(lengths, kinds, strict=True)]
    )
    labels = [(line["type"], line.get("language"), line.get("operating_point")) for line in document["details"]]
    assert labels == [
        ("c", "en", None),
        ("a", None, None),
        ("a", None, "x"),
        ("a", "Z", None),
        ("a", "Z", "x"),
        ("a", "a", None),
        ("a", "ä", None),
        ("b", None, None),
    ]
    assert [line["type"] for line in document["summary"]] == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("seconds", "hours"),
    [
        ("0", "0"),
        ("0.000001", "0"),
        ("17.999999", "0"),
        ("18", "0.01"),
        ("54", "0.02"),
        ("53.999999", "0.01"),
        ("3600", "1"),
        ("1800", "0.5"),
        ("3618", "1.01"),
        ("1000000000000", "277777777.78"),
    ],
)
def test_hours_are_rounded_half_up_and_not_padded(seconds: str, hours: str) -> None:
    """Two decimals at most, computed from microseconds, in the text itself."""
    asked = ask()
    plan = speechmatics.parse(asked)
    body = speechmatics.render(
        asked, plan, answers([job("2026-10-05T10:00:00Z", seconds, type="t")], plan.questions)
    ).body
    assert body.count(b'"duration_hrs":' + hours.encode() + b"}") == 2


def test_the_summary_is_rounded_from_its_own_sum() -> None:
    """Two halves of a hundredth are a hundredth together, though each alone is rounded up to one."""
    document = report([job("2026-10-05T10:00:00Z", 18, type="t", language=language) for language in ("en", "de")])
    assert [line["duration_hrs"] for line in document["details"]] == [Decimal("0.01"), Decimal("0.01")]
    assert [line["duration_hrs"] for line in document["summary"]] == [Decimal("0.01")]


def test_several_accounts_are_one_report() -> None:
    """What the key may read is added up, and what it may not is not."""
    jobs = [job("2026-10-05T10:00:00Z", type="t", account=account) for account in ("acme", "ada", "other")]
    assert counts(report(jobs, accounts=("acme", "ada"))) == 2


def test_names_of_any_script_survive() -> None:
    """Labels are told as they were sent."""
    label = 'žluťoučký "kůň" \\ 😀'
    assert report([job("2026-10-05T10:00:00Z", type=label, language=label)])["details"][0]["language"] == label


kinds = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["", "batch", "realtime"]),
        "type": st.sampled_from(["", "transcription", "alignment"]),
        "language": st.sampled_from(["", "en", "sv"]),
        "operating_point": st.sampled_from(["", "standard", "enhanced"]),
        "status": st.sampled_from(["success", "failed"]),
    },
)
moments = st.integers(0, 9 * 86_400_000_000 - 1).map(
    lambda us: datetime(2026, 10, 25, tzinfo=UTC) + timedelta(microseconds=us)
)
work = st.lists(st.tuples(moments, st.decimals(0, 10**5, places=6), kinds), max_size=12)
days = st.none() | st.dates(date(2026, 10, 24), date(2026, 11, 4))


@settings(max_examples=80)
@given(work, days, days)
def test_the_report_is_what_decimal_and_datetime_say(
    work: list[tuple[datetime, Decimal, dict[str, str]]], since: date | None, until: date | None
) -> None:
    """Counts, sums, rounding, first day and window, worked out again in the plainest way."""
    if since is not None and until is not None and since > until:
        return
    last = min(until or date.max, date(2026, 11, 1))
    wanted = [
        (at.date(), seconds, kind)
        for at, seconds, kind in work
        if kind.get("type") and kind.get("mode") in (None, "", "batch") and kind.get("status") != "failed"
        if (since or date.min) <= at.date() <= last
    ]
    parts: defaultdict[tuple[str | None, ...], list[Decimal]] = defaultdict(list)
    for _, seconds, kind in wanted:
        parts[kind["type"], kind.get("language") or None, kind.get("operating_point") or None].append(seconds)
        parts[kind["type"],].append(seconds)
    hours = {
        key: (len(all_), (sum(all_, Decimal()) / 3600).quantize(Decimal("0.01"), ROUND_HALF_UP))
        for key, all_ in parts.items()
    }
    given_days = [f"since={since}"] * (since is not None) + [f"until={until}"] * (until is not None)
    events = [job(at.isoformat(), str(seconds), **kind) for at, seconds, kind in work]
    document = report(events, " ".join(given_days))
    assert document["since"] == str(min((day for day, *_ in wanted), default=since or date(1970, 1, 1)))
    assert document["until"] == str(last)
    told: dict[tuple[str | None, ...], dict[str, Any]] = {(line["type"],): line for line in document["summary"] or []}
    for line in document["details"] or []:
        told[line["type"], line.get("language"), line.get("operating_point")] = line
    assert {key: (line["count"], line["duration_hrs"]) for key, line in told.items()} == hours


@settings(max_examples=40)
@given(work, days, days)
def test_a_reply_asked_for_by_its_own_days_is_the_same(
    work: list[tuple[datetime, Decimal, dict[str, str]]], since: date | None, until: date | None
) -> None:
    """The days of a reply mean what the days of a query mean."""
    if since is not None and until is not None and since > until:
        return
    events = [job(at.isoformat(), str(seconds), **kind) for at, seconds, kind in work]
    given_days = [f"since={since}"] * (since is not None) + [f"until={until}"] * (until is not None)
    document = report(events, " ".join(given_days))
    if document["since"] <= document["until"]:
        assert report(events, f"since={document['since']} until={document['until']}") == document
