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
from tallystick.ingest.plan import make_form
from tallystick.ingest.prepare import Prepared, Preparer
from tallystick.ingest.validate import validate
from tallystick.model import Caller, Catalog, Checked, Posting, Rounding, Scope, Verdict
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
    kind = draw(st.sampled_from(["audio.processed"] * 4 + ["model.request", "other.thing"]))
    data = [f'"duration":{draw(numbers)}'] if draw(st.integers(0, 9)) else []
    if kind == "model.request":
        data = ['"model":"m"', f'"input":{draw(numbers)}', '"output":3']
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


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(raw_events().filter(is_one_json_value), min_size=1, max_size=12),
    st.sampled_from([OPERATOR, BOUND]),
    st.booleans(),
)
def test_columns_and_single_events_give_the_same(raws: list[bytes], caller: Caller, plain: bool) -> None:
    """Verdicts, times, postings and their order are those of validate, first seen or remembered."""
    preparer = Preparer(SETTINGS)
    expected = said(raws, one_by_one(raws, caller, CATALOG, plain))
    for _ in range(2):
        prepared = preparer.prepare(raws, plain=plain, caller=caller, catalog=CATALOG, now=NOW)
        assert unpacked(prepared, len(raws)) == expected


def event(id: str, **data: Any) -> bytes:
    body = {"specversion": "1.0", "id": id, "source": "s", "type": "audio.processed", "account": "acme", "data": data}
    return json.dumps(body).encode()


def test_the_fast_way_is_taken_for_plain_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand like events only the first is judged by itself: else the comparison above compares nothing."""
    judged: list[bytes] = []

    def counting(raw: bytes, **keywords: Any) -> Any:
        judged.append(raw)
        return validate(raw, **keywords)

    monkeypatch.setattr("tallystick.ingest.prepare.validate", counting)
    raws = [event(str(n), duration=n / 8, model="m") for n in range(1000)]
    prepared = Preparer(SETTINGS).prepare(raws, plain=False, caller=OPERATOR, catalog=CATALOG, now=NOW)
    assert len(judged) == 1
    assert int(prepared.batch.posting_amount.sum()) == sum(n * 125_000 for n in range(1000))


def test_a_meter_that_rounds_otherwise_is_never_read_in_columns() -> None:
    """Columns know one rounding; with any other, every event of the type is judged by itself."""
    audio = CATALOG.meters["audio"]
    rounded = replace(audio, rounding=Rounding(to="1", mode="up"))
    catalog = replace(CATALOG, version=2, meters={**CATALOG.meters, "audio": rounded})
    plan, other = make_form(CATALOG), make_form(catalog)
    assert plan is not None and "audio.processed" not in plan.slow_types
    assert other is not None and "audio.processed" in other.slow_types
    prepared = Preparer(SETTINGS).prepare(
        [event("1", duration=1.2)], plain=False, caller=OPERATOR, catalog=catalog, now=NOW
    )
    assert prepared.batch.posting_amount.tolist() == [2_000_000]


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
