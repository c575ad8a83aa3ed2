"""Preparing a piece in columns gives what judging its events one by one gives, whatever is in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.catalog import builtin
from tallystick.errors import Code
from tallystick.ingest.plan import make_form
from tallystick.ingest.prepare import FEW, Prepared, Preparer
from tallystick.ingest.validate import validate
from tallystick.model import Caller, Catalog, Checked, Meter, Posting, Rate, Rated, Rounding, Scope, Verdict
from tallystick.settings import Settings

NOW = 1_800_000_000_000_000
CATALOG = builtin()
SETTINGS = Settings(event_bytes_max=2_000, text_length_max=16)
OPERATOR = Caller("op", None, frozenset(Scope))
BOUND = Caller("k", "acme", frozenset({Scope.INGEST}))
DEEP = "[" * 70 + "]" * 70

texts = st.sampled_from(
    [
        "a",
        "",
        "acme",
        "acme/s",
        "acme/",
        "/",
        "é",
        "ß" * 16,
        "x" * 17,
        "total",
        "key",
        "\x7f",
        "\u202e",
        "\x85",
        "\n",
        "\\",
        "😀",
        "\ud800",
    ]
)
times = st.sampled_from(
    [
        "2024-05-31T23:59:59Z",
        "2024-05-31T23:59:59.1234567Z",
        "2024-02-29T00:00:00.5Z",
        "2023-02-29T00:00:00Z",
        "2024-05-31T23:59:60Z",
        "2024-05-31T23:59:59+02:00",
        "2024-05-31t23:59:59z",
        "2024-05-31 23:59:59Z",
        "2024-05-31T23:59:59",
        "2024-05-31T23:59:59.Z",
        "2024-05-31T24:00:00Z",
        "2024-13-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "0001-01-02T00:00:00Z",
        "0001-01-02T00:30:00+02:00",
        "9999-12-30T23:59:59.999999999Z",
        "9999-12-31T00:00:00Z",
        "2027-01-15T08:05:00Z",
        "2027-01-15T08:05:00.000001Z",
        "2024-05-31T23:59:59.123456789012345678901234567890Z",
        "2024-05-31T23:59:5९Z",
        "",
    ]
)
numbers = st.sampled_from(
    [
        "0",
        "1",
        "7.5",
        "0.000001",
        "0.0000005",
        "0.0000015",
        "00",
        "01",
        "1.",
        ".5",
        "-1",
        "-0",
        "1e3",
        "1E-3",
        "1e-13",
        "1e12",
        "1000000000000",
        "1000000000000.000001",
        "1000000000001",
        "999999999999.999999",
        "123456789012345678901234567890",
        "1e400",
        "1e99999999999999999999",
        "12345678.1234567",
        '"7.5"',
        '"PT1M"',
        '"PT"',
        '"1_0"',
        '"x"',
        "null",
        "true",
        "[1]",
        "{}",
        "NaN",
        "Infinity",
    ]
)
odd_values = st.sampled_from(
    [
        "null",
        "1",
        "1.50",
        "true",
        "[]",
        "{}",
        '{"a":1}',
        DEEP,
        '"\\u0041"',
        '"\\ud800"',
        '["diarize","music"]',
        '["D"]',
        '"GD*"',
        '"DG"',
    ]
)


@st.composite
def members(draw: st.DrawFn, names: Sequence[str], values: st.SearchStrategy[str], most: int) -> list[str]:
    chosen = draw(st.lists(st.sampled_from(names), max_size=most))
    return [f'"{name}":{draw(values)}' for name in chosen]


quoted = texts.map(lambda text: json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass").decode("latin-1"))
escaped = texts.map(json.dumps)
labels = st.one_of(quoted, escaped, odd_values)
LABELS = [
    "technology",
    "mode",
    "type",
    "model",
    "billing",
    "license",
    "tags",
    "space",
    "dataset",
    "operation",
    "channels",
    "extra",
]


@st.composite
def raw_events(draw: st.DrawFn) -> bytes:
    """Draw an event's JSON: mostly well-formed, with every kind of oddity here and there."""
    others = ["model.request", "vision.request", "resource.upserted", "other.thing"]
    kind = draw(st.sampled_from(["audio.processed"] * 5 + others))
    data = [f'"duration":{draw(numbers)}'] if draw(st.integers(0, 9)) else []
    if kind == "model.request":
        data = ['"model":"m"', f'"input":{draw(numbers)}', '"output":3']
    if kind == "vision.request":
        data = ['"type":"lens"']
    if kind == "resource.upserted":
        data = ['"kind":"image"', '"id":"i"', '"space":"d"', f'"url":{draw(labels)}']
    if draw(st.integers(0, 2)) == 0:
        data.append(f'"units":{draw(numbers)}')
    data += draw(members(LABELS, labels, 3))
    if draw(st.integers(0, 4)) == 0:
        status = draw(st.sampled_from(['"success"', '"failed"', '"odd"', "1", "null"]))
        data.append(f'"status":{status}')
    event = [f'"id":"{draw(st.integers(0, 10**6))}"', '"source":"s"', f'"type":"{kind}"']
    if draw(st.integers(0, 9)):
        event.append('"specversion":"1.0"')
    if draw(st.integers(0, 9)):
        event.append('"account":"acme"')
    if draw(st.integers(0, 2)):
        event.append(f'"time":{json.dumps(draw(times), ensure_ascii=False)}')
    if draw(st.integers(0, 9)):
        event.append('"data":{' + ",".join(data) + "}")
    if draw(st.integers(0, 5)) == 0:
        odd = [
            "id",
            "source",
            "subject",
            "account",
            "space",
            "time",
            "specversion",
            "data",
            "data_base64",
            "dataschema",
            "traceparent",
            "more",
        ]
        event += draw(members(odd, labels, 2))
    text = "{" + ",".join(draw(st.permutations(event))) + "}"
    if draw(st.integers(0, 40)) == 0:
        text = draw(
            st.sampled_from(["1", "[]", "null", '"x"', "{}", text + " ", text[:-1] + ',"pad":"' + "x" * 2000 + '"}'])
        )
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def one_by_one(raws: Sequence[bytes], caller: Caller, catalog: Catalog, plain: bool) -> list[Any]:
    return [validate(raw, plain=plain, caller=caller, catalog=catalog, settings=SETTINGS, now=NOW) for raw in raws]


def unpacked(prepared: Prepared, count: int) -> list[Any]:
    """Return, per event, its verdict or what its columns say."""
    batch = prepared.batch
    found: list[Any] = [prepared.refused.get(at) for at in range(count)]
    for row, at in enumerate(prepared.index.tolist()):
        if row in batch.doomed:
            found[at] = batch.doomed[row].verdict
            continue
        mine = [j for j, event in enumerate(batch.posting_event.tolist()) if event == row]
        sets = [batch.label_sets[int(batch.posting_set[j])] for j in mine]
        assert all(s.account == batch.account[row] for s in sets)
        postings = tuple(
            Posting(
                s.meter, s.meter_version, s.labels, int(batch.posting_amount[j]), batch.once.get(row, {}).get(s.meter)
            )
            for s, j in zip(sets, mine, strict=True)
        )
        found[at] = (
            batch.raw[row], batch.account[row], batch.source[row], batch.id[row],
            int(batch.time[row]), bool(batch.timed[row]), postings, batch.changes.get(row),
        )  # fmt: skip
    return found


def said(raws: Sequence[bytes], judged: Sequence[Any]) -> list[Any]:
    return [
        each if isinstance(each, Verdict) else (raw, *summary(each)) for raw, each in zip(raws, judged, strict=True)
    ]


def summary(checked: Checked) -> tuple[Any, ...]:
    """Return what a batch has of an event."""
    event = checked.event
    return event.account, event.source, event.id, event.time, event.timed, checked.postings, checked.change


def is_one_json_value(raw: bytes) -> bool:
    """Only what decode.py hands on is prepared: one JSON value per event."""
    try:
        json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return True


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(raw_events().filter(is_one_json_value), min_size=1, max_size=12),
    st.sampled_from([OPERATOR, BOUND]),
    st.booleans(),
)
def test_columns_and_single_events_give_the_same(raws: list[bytes], caller: Caller, plain: bool) -> None:
    """Verdicts, times, postings and their order are those of validate, first seen or remembered."""
    assert_both_ways(raws, caller, CATALOG, plain)


def assert_both_ways(raws: Sequence[bytes], caller: Caller, catalog: Catalog, plain: bool) -> None:
    """Prepare a batch twice, its last two events once more, each event by itself twice, and compare with validate."""
    preparer = Preparer(SETTINGS)
    expected = said(raws, one_by_one(raws, caller, catalog, plain))
    padded = [*raws, *[event(str(n), duration=1) for n in range(FEW)]]
    for _ in range(2):
        prepared = preparer.prepare(padded, plain=plain, caller=caller, catalog=catalog, now=NOW)
        assert unpacked(prepared, len(padded))[: len(raws)] == expected
    prepared = preparer.prepare(raws[-FEW:], plain=plain, caller=caller, catalog=catalog, now=NOW)
    assert unpacked(prepared, len(raws[-FEW:])) == expected[-FEW:]
    alone = Preparer(SETTINGS)
    for raw, due in zip([*raws, *raws], [*expected, *expected], strict=True):
        prepared = alone.prepare([raw], plain=plain, caller=caller, catalog=catalog, now=NOW)
        assert unpacked(prepared, 1) == [due]


def event(id: str, **data: Any) -> bytes:
    body = {"specversion": "1.0", "id": id, "source": "s", "type": "audio.processed", "account": "acme", "data": data}
    return json.dumps(body).encode()


def test_the_fast_way_is_taken_for_plain_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand like events only the first is judged by itself: else the comparison above compares nothing."""
    raws = [event(str(n), duration=n / 8, model="m") for n in range(1000)]
    prepared, judged = judged_alone(raws, CATALOG, monkeypatch)
    assert len(judged) == 1
    assert int(prepared.batch.posting_amount.sum()) == sum(n * 125_000 for n in range(1000))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["acme", "globex", "b", "Bad", "", "x" * 51, "-a", "é", None]),
            st.sampled_from([None, "acme/s", "acme", "globex/t", "u1", ""]),
            st.sampled_from([{"mode": "m"}, {"mode": "m", "space": "s"}, {"mode": "\x85"}, {"model": "total"}]),
        ),
        min_size=2,
        max_size=12,
    ),
    st.sampled_from([OPERATOR, BOUND]),
)
def test_events_that_differ_in_their_accounts_only(
    told: list[tuple[str | None, str | None, dict[str, str]]], caller: Caller
) -> None:
    """What one account's event taught of the same texts holds for another's, and no further."""
    raws = []
    for number, (account, subject, data) in enumerate(told):
        body = json.loads(event(str(number), duration=number, **data)) | {"account": account, "subject": subject}
        raws.append(json.dumps({name: value for name, value in body.items() if value is not None}).encode())
    assert_both_ways(raws, caller, CATALOG, plain=False)


def test_one_event_teaches_for_all_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand accounts whose events say the same are a thousand shapes, of which one is judged."""
    raws = [
        event(str(n), duration=1, mode="m").replace(b'"account": "acme"', b'"account": "a%d"' % n) for n in range(1000)
    ]
    prepared, judged = judged_alone(raws, CATALOG, monkeypatch)
    assert len(judged) == 1
    assert [each.account for each in prepared.batch.label_sets] == [f"a{n}" for n in range(1000)]


def test_the_fast_way_is_taken_for_a_plain_event_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred like events that come one by one only the first is judged by validate."""
    judged: list[bytes] = []

    def counting(raw: bytes, **keywords: Any) -> Any:
        judged.append(raw)
        return validate(raw, **keywords)

    monkeypatch.setattr("tallystick.ingest.prepare.validate", counting)
    preparer = Preparer(SETTINGS)
    amounts = []
    for n in range(100):
        raws = [event(str(n), duration=n / 8, model="m")]
        prepared = preparer.prepare(raws, plain=False, caller=OPERATOR, catalog=CATALOG, now=NOW)
        amounts += prepared.batch.posting_amount.tolist()
    assert (len(judged), amounts) == (1, [n * 125_000 for n in range(100)])


INSTANTS = (0, 1_717_199_999_000_000, 1_717_199_999_123_456, NOW)
MEMBERS = ("duration", "input", "units", "mode", "model")
"""What own meters count; the last two are texts of built-in meters too."""


@st.composite
def own_meters(draw: st.DrawFn, name: str) -> Meter:
    """Draw a definition of a meter: mostly one that columns can do, now and then one that they must leave alone."""
    scale = draw(st.integers(0, 9))
    roundings = st.builds(
        Rounding,
        to=st.sampled_from(["1", "15", "0.5", "0.000001", "0.3", "1000000000000"]),
        mode=st.sampled_from(["up", "down", "half_up", "half_even"]),
        minimum=st.sampled_from(["0", "1", "60", "0.25", "100000000000000"]),
    )
    names = draw(st.lists(st.sampled_from(LABELS), max_size=3, unique=True))
    where = st.tuples(st.sampled_from(LABELS), st.frozensets(st.sampled_from(["", "a", "acme", "DG", "1.5", "true"])))
    is_odd = draw(st.integers(0, 9)) == 0
    rated = draw(st.integers(0, 3)) == 0
    labels = [(each, "$.space" if each == "space" else f"$.data.{each}") for each in names]
    if rated:
        labels = [*(label for label in labels if label[0] != "mode"), ("mode", "$.data.mode")]
    if is_odd:
        labels.append(("odd", draw(st.sampled_from(["$.data.a.b", "$.id", "data.keys(@)[0]", "$.data.duration"]))))
    counted = draw(st.sampled_from(MEMBERS[:3] if draw(st.integers(0, 9)) else MEMBERS[3:]))
    return Meter(
        name=name,
        version=1,
        events=draw(st.frozensets(st.sampled_from(["audio.processed", "model.request", "other.thing"]), min_size=1)),
        quantity=None if draw(st.booleans()) else f"$.data.{counted}",
        unit=draw(st.sampled_from(["s", "{unit}"])),
        scale=scale,
        labels=tuple(labels),
        where=tuple(draw(st.lists(where, max_size=2))),
        rounding=draw(st.none() | roundings),
        rate=Rated("table", "mode") if rated else None,
    )


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Draw the built-in catalog with own meters beside it, and rates that start at different instants."""
    meters = {name: draw(own_meters(name)) for name in ("x", "y", "z")[: draw(st.integers(1, 3))]}
    multipliers = st.sampled_from([0, 1, 500_000, 333_333, 2_000_000, 1_000_000_000_000])
    starts = st.lists(st.sampled_from(INSTANTS), max_size=3, unique=True).map(sorted)
    rates = {
        text: tuple(Rate(start, draw(multipliers)) for start in draw(starts)) for text in ("", "a", "acme", "acme/s")
    }
    return replace(CATALOG, version=2, meters={**CATALOG.meters, **meters}, rates={**CATALOG.rates, "table": rates})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(catalogs(), st.lists(raw_events().filter(is_one_json_value), min_size=1, max_size=12), st.booleans())
def test_whatever_the_meters_are_columns_and_single_events_give_the_same(
    catalog: Catalog, raws: list[bytes], plain: bool
) -> None:
    """Filters, roundings, scales, rates by time and counting come out of columns as they come out of validate."""
    assert_both_ways(raws, OPERATOR, catalog, plain)


THREE = (
    replace(CATALOG.meters["audio"], name="jobs", quantity=None, unit="{job}", scale=0, rounding=None),
    replace(
        CATALOG.meters["audio"],
        name="billed",
        scale=0,
        rounding=Rounding(to="15", mode="up", minimum="60"),
        where=(("mode", frozenset({"batch"})),),
    ),
    replace(CATALOG.meters["audio"], name="words", quantity="$.data.words", unit="{word}", scale=3, rounding=None),
    replace(CATALOG.meters["audio"], name="credits", unit="{credit}", scale=3, rate=Rated("vision", "mode")),
)


def judged_alone(
    raws: Sequence[bytes], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> tuple[Prepared, Sequence[bytes]]:
    """Prepare a batch; return also those of its events that were judged by themselves."""
    judged: list[bytes] = []

    def counting(raw: bytes, **keywords: Any) -> Any:
        judged.append(raw)
        return validate(raw, **keywords)

    monkeypatch.setattr("tallystick.ingest.prepare.validate", counting)
    return Preparer(SETTINGS).prepare(raws, plain=False, caller=OPERATOR, catalog=catalog, now=NOW), judged


@pytest.mark.parametrize("meter", THREE, ids=lambda meter: meter.name)
def test_own_meters_beside_a_built_in_one_are_counted_in_columns(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A meter that counts, rounds up, filters, reads another member or has rates leaves its events in columns."""
    rates = {**CATALOG.rates, "vision": {"batch": (Rate(0, 500_000),), "a": (Rate(0, 3_000_000),)}}
    catalog = replace(CATALOG, version=2, meters={**CATALOG.meters, meter.name: meter}, rates=rates)
    raws = [event(str(n), duration=n / 8, words=n, mode=("batch", "a")[n % 2]) for n in range(500)]
    prepared, judged = judged_alone(raws, catalog, monkeypatch)
    assert len(judged) == 2
    assert unpacked(prepared, 500) == said(raws, one_by_one(raws, OPERATOR, catalog, False))


def test_vision_requests_are_rated_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request takes the rate in force at its time; only one from before the first rate is judged by itself."""
    rates = {"lens": (Rate(1_000_000, 3_000_000), Rate(60_000_000, 2_500_000))}
    catalog = replace(CATALOG, version=2, rates={"vision": rates})
    times = [f"1970-01-01T00:{n // 60:02}:{n % 60:02}Z" for n in range(120)]
    raws = [vision(str(n), time, type="lens") for n, time in enumerate(times)]
    raws.append(raws.pop(0))
    prepared, judged = judged_alone(raws, catalog, monkeypatch)
    assert judged == [raws[0], raws[-1]]
    assert unpacked(prepared, 120) == said(raws, one_by_one(raws, OPERATOR, catalog, False))
    assert [doomed.verdict.code for doomed in prepared.batch.doomed.values()] == [Code.RATE_MISSING]
    credits = [amount for amount in prepared.batch.posting_amount.tolist() if amount > 1]
    assert credits == [3_000_000] * 59 + [2_500_000] * 60


def vision(id: str, time: str, **data: Any) -> bytes:
    body = {"specversion": "1.0", "id": id, "source": "s", "type": "vision.request", "account": "acme", "time": time}
    return json.dumps({**body, "data": data}).encode()


def odd(kind: str, data: str) -> bytes:
    return f'{{"specversion":"1.0","id":"o","source":"s","type":"{kind}","account":"acme","data":{data}}}'.encode()


IMAGE = '{"kind":"image","id":"i","space":"d","url":"u","model":7,"attributes":{"a":[1]}}'
ODD = {
    "resource": odd("resource.upserted", IMAGE),
    "number as text": odd("audio.processed", '{"duration":1,"model":7}'),
    "escape": odd("note", '"two\\nlines"'),
    "deep": odd("note", DEEP),
    "no object": b"17",
}


@pytest.mark.parametrize("name", ODD)
def test_one_odd_event_is_judged_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What columns cannot read of one event does not make its neighbours slow."""
    raws = [event(str(n), duration=n, model="m") for n in range(500)]
    raws.insert(250, ODD[name])
    prepared, judged = judged_alone(raws, CATALOG, monkeypatch)
    assert judged == [raws[0], ODD[name]]
    assert unpacked(prepared, 501) == said(raws, one_by_one(raws, OPERATOR, CATALOG, False))


def test_two_meters_that_read_a_member_differently_slow_only_the_later_ones_types() -> None:
    """The built-in audio counts `duration`: a meter that wants it as a label leaves other types in columns."""
    labelled = replace(THREE[0], events=frozenset({"other.thing"}), labels=(("d", "$.data.duration"),))
    counting = replace(THREE[2], name="v", events=frozenset({"further.thing"}), quantity="$.data.vendor")
    catalog = replace(CATALOG, version=2, meters={**CATALOG.meters, "jobs": labelled, "v": counting})
    slow = make_form(catalog).slow_types - make_form(CATALOG).slow_types
    assert slow == {"other.thing", "further.thing"}


@pytest.mark.parametrize(
    "change",
    [{"aggregation": "unique"}, {"once_per": "state"}, {"labels": (("a", "$.data.a.b"),)}, {"quantity": "$.data.a.b"}],
    ids=str,
)
def test_types_with_a_meter_that_columns_cannot_do_are_judged_one_by_one(change: dict[str, Any]) -> None:
    """Distinct values, resources and deeper paths are left to validate, for the types of that meter alone."""
    other = replace(THREE[2], events=frozenset({"other.thing"}), **change)
    slow = make_form(replace(CATALOG, version=2, meters={**CATALOG.meters, "words": other})).slow_types
    assert "other.thing" in slow and "audio.processed" not in slow


def test_shapes_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless new labels cost time, never memory, and never mix up the events of one piece."""
    monkeypatch.setattr("tallystick.ingest.plan.SHAPES_MAX", 5)
    raws = [event(str(n), duration=n, model=f"m{n % 9}") for n in range(100)]
    prepared = Preparer(SETTINGS).prepare(raws, plain=False, caller=OPERATOR, catalog=CATALOG, now=NOW)
    assert unpacked(prepared, 100) == said(raws, one_by_one(raws, OPERATOR, CATALOG, False))


def test_catalogs_of_one_version_are_not_mixed_up() -> None:
    """Two ledgers in one process may define different meters under the same version."""
    preparer = Preparer(SETTINGS)
    other = replace(CATALOG, meters={"seconds": replace(CATALOG.meters["audio"], name="seconds")})
    for catalog, name in ((CATALOG, "audio"), (other, "seconds"), (CATALOG, "audio")):
        prepared = preparer.prepare([event("1", duration=1)], plain=False, caller=OPERATOR, catalog=catalog, now=NOW)
        assert [label_set.meter for label_set in prepared.batch.label_sets] == [name]
