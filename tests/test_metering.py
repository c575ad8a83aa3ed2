"""What an event adds to the meters: exact amounts, labels, and every reason to refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.catalog import builtin
from tallystick.envelope import event_of, read
from tallystick.errors import Code
from tallystick.metering import LETTER_OF_PARAMETER, LETTERS, feeds, meter
from tallystick.model import Catalog, Event, Meter, Posting, Rounding, Status, Verdict
from tallystick.quantity import rounded

CATALOG = builtin()


def event(event_type: str, data: str, **attributes: Any) -> Event:
    """Make an event of account acme from the JSON text of its data."""
    envelope = {"id": "1", "source": "w", "type": event_type, **attributes, "data": read(data.encode())}
    return event_of(envelope, "acme", 0)


def audio(duration: str = "1", **labels: Any) -> tuple[Posting, ...] | Verdict:
    """Meter one piece of audio; `duration` is JSON text."""
    data = json.dumps(labels)[1:-1]
    return meter(event("audio.processed", f'{{"duration":{duration}{"," if data else ""}{data}}}'), CATALOG)


def tokens(data: str) -> tuple[Posting, ...] | Verdict:
    """Meter one request to a language model."""
    return meter(event("model.request", data), CATALOG)


def micros(found: tuple[Posting, ...] | Verdict) -> int:
    """Return the amount of the one posting."""
    assert isinstance(found, tuple), found
    (posting,) = found
    return posting.amount


def refused(found: tuple[Posting, ...] | Verdict) -> tuple[Code | None, str]:
    """Return the code and the place of a refusal, which must say something."""
    assert isinstance(found, Verdict)
    assert found.status is Status.REJECTED
    assert len(found.detail) > 20
    return found.code, found.pointer


def labels(found: tuple[Posting, ...] | Verdict) -> dict[str, str]:
    """Return the label set of the one posting."""
    assert isinstance(found, tuple), found
    (posting,) = found
    assert list(posting.labels) == sorted(posting.labels)
    return dict(posting.labels)


# The catalog


def test_the_builtin_meters_are_those_of_the_contract() -> None:
    """Names, units, scales and labels are promised to whoever reads reports."""
    meters = CATALOG.meters.items()
    table = {name: (each.unit, each.scale, [label for label, _ in each.labels]) for name, each in meters}
    spoken = "technology vendor operation mode type model language operating_point tags billing license space"
    assert table == {
        "audio": ("s", 6, spoken.split()),
        "vision_requests": ("{request}", 0, ["type", "space"]),
        "vision_credits": ("{credit}", 6, ["type", "space"]),
        "images": ("{image}", 0, ["space"]),
        "verifications": ("s", 6, ["type", "model", "space"]),
        "voiceprints": ("s", 6, ["space", "model"]),
        "tokens_in": ("{token}", 0, ["model", "operation"]),
        "tokens_out": ("{token}", 0, ["model", "operation"]),
    }
    assert CATALOG.version == 1


def test_what_feeds_no_meter_adds_nothing() -> None:
    """An event of any other type is nobody's business here."""
    assert meter(event("door.opened", '{"duration":[]}'), CATALOG) == ()
    assert not feeds("door.opened", CATALOG)
    assert feeds("audio.processed", CATALOG)


# Quantities


@pytest.mark.parametrize(
    ("duration", "amount"),
    [
        ("12.345", 12_345_000),
        ("0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("1e3", 1_000_000_000),
        ("153.37869999999998", 153_378_700),
        ("0.0000005", 1),
        ("0.00000049999999999999999999999999", 0),
        ("0.0000005000000000000000000000001", 1),
        ("0.0000015", 2),
        ("0.0000025", 3),
        ("1e-12", 0),
        ("1e12", 10**18),
        ("1000000000000.0000", 10**18),
        ('"7.5"', 7_500_000),
        ('"1e2"', 100_000_000),
        ('"PT7.500S"', 7_500_000),
        ('"PT7,5S"', 7_500_000),
        ('"PT1H30M5S"', 5_405_000_000),
        ('"P1W2DT3H"', 788_400_000_000),
        ('"P1D"', 86_400_000_000),
        ('"P0.5D"', 43_200_000_000),
        ('"PT0.1H"', 360_000_000),
        ('"PT1H0.5M"', 3_630_000_000),
        ('"PT0S"', 0),
        ('"-PT0S"', 0),
        ('"PT90M"', 5_400_000_000),
    ],
)
def test_audio_is_counted_in_microseconds(duration: str, amount: int) -> None:
    """A number, a string that holds one, or an ISO 8601 duration; half a microsecond counts as one."""
    assert micros(audio(duration)) == amount


@pytest.mark.parametrize(
    ("duration", "code"),
    [
        ("null", Code.QUANTITY_MISSING),
        ("true", Code.QUANTITY_TYPE),
        ("[]", Code.QUANTITY_TYPE),
        ("{}", Code.QUANTITY_TYPE),
        ("-1", Code.QUANTITY_NEGATIVE),
        ("-1e-300", Code.QUANTITY_NEGATIVE),
        ("-1e999999999", Code.QUANTITY_NEGATIVE),
        ('"-7.5"', Code.QUANTITY_NEGATIVE),
        ('"-PT1S"', Code.QUANTITY_NEGATIVE),
        ("1000000000000.000001", Code.QUANTITY_RANGE),
        ("1e13", Code.QUANTITY_RANGE),
        ("1e999999999", Code.QUANTITY_RANGE),
        ("1e-13", Code.QUANTITY_RANGE),
        ("1e-999999999", Code.QUANTITY_RANGE),
        ('"1e99999999999999999999"', Code.QUANTITY_RANGE),
        ('"1e-99999999999999999999"', Code.QUANTITY_RANGE),
        ('"P99999999999W"', Code.QUANTITY_RANGE),
    ],
)
def test_a_duration_that_cannot_be_counted_is_refused(duration: str, code: Code) -> None:
    """Each mistake has its code, and the pointer leads to the duration."""
    assert refused(audio(duration)) == (code, "/data/duration")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 7.5",
        "7.5 ",
        "7.5s",
        "1_000",
        "1,5",
        "+7.5",
        ".5",
        "5.",
        "007",
        "NaN",
        "Infinity",
        "0x10",
        "\u0667",
        "1e",
        "P",
        "PT",
        "P1",
        "P1Y",
        "P1M",
        "P1MT1S",
        "PT1.5H30M",
        "P1DT",
        "PTS",
        "PT.5S",
        "PT5.S",
        "pt5s",
        "PT5s",
        "PT1S1M",
        "PT1S ",
        "PT1S\n",
        "T5S",
        "P1H",
        "PT1D",
        "+PT1S",
        "PT-1S",
        "--PT1S",
        "P1D1W",
        "PT\u0665S",
        "PT1.5",
        "7.5S",
    ],
)
def test_a_string_that_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed: other notations, other digits, months and years, a fraction before the last part."""
    assert refused(audio(json.dumps(text))) == (Code.QUANTITY_TYPE, "/data/duration")


def test_a_missing_duration_is_the_meters_own_business() -> None:
    """The code tells it apart from other missing fields."""
    assert refused(meter(event("audio.processed", "{}"), CATALOG)) == (Code.QUANTITY_MISSING, "/data/duration")


def test_tokens_feed_two_meters() -> None:
    """One request adds what it read to one meter and what it wrote to the other."""
    found = (("model", "m"),)
    assert tokens('{"model":"m","input":4808,"output":10}') == (
        Posting("tokens_in", 1, found, 4808),
        Posting("tokens_out", 1, found, 10),
    )


@pytest.mark.parametrize("number", ["3", "3.0", "3e0", "0.3e1", "30e-1", "3.0000000000000000000000000000000"])
def test_tokens_are_whole_by_value(number: str) -> None:
    """How a whole number is written does not matter."""
    found = tokens(f'{{"model":"m","input":{number},"output":0}}')
    assert isinstance(found, tuple)
    assert [posting.amount for posting in found] == [3, 0]


@pytest.mark.parametrize(
    ("data", "code", "pointer"),
    [
        ('{"input":1,"output":1}', Code.FIELD_MISSING, "/data/model"),
        ('{"model":null,"input":1,"output":1}', Code.FIELD_MISSING, "/data/model"),
        ('{"model":"m","output":1}', Code.QUANTITY_MISSING, "/data/input"),
        ('{"model":"m","input":1}', Code.QUANTITY_MISSING, "/data/output"),
        ('{"model":"m","input":1.5,"output":1}', Code.QUANTITY_PRECISION, "/data/input"),
        ('{"model":"m","input":1,"output":1e-7}', Code.QUANTITY_PRECISION, "/data/output"),
        ('{"model":"m","input":1.0000000000000000000000000001,"output":1}', Code.QUANTITY_PRECISION, "/data/input"),
        ('{"model":"m","input":"1","output":1}', Code.QUANTITY_TYPE, "/data/input"),
        ('{"model":"m","input":"PT1S","output":1}', Code.QUANTITY_TYPE, "/data/input"),
        ('{"model":"m","input":-1,"output":1}', Code.QUANTITY_NEGATIVE, "/data/input"),
        ('{"model":"m","input":1,"output":1000000000001}', Code.QUANTITY_RANGE, "/data/output"),
    ],
)
def test_tokens_that_cannot_be_counted_are_refused(data: str, code: Code, pointer: str) -> None:
    """Tokens are whole JSON numbers; the model belongs to each request."""
    assert refused(tokens(data)) == (code, pointer)


def test_a_meter_without_a_quantity_counts_one() -> None:
    """Each event is one unit at the meter's scale."""
    calls = Meter("calls", 3, frozenset({"call"}), None, "{call}", 2, ())
    assert meter(event("call", "{}"), Catalog(1, {"calls": calls})) == (Posting("calls", 3, (), 100),)


PYTHON_MODE = {"up": ROUND_CEILING, "down": ROUND_FLOOR, "half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}


@given(
    st.decimals(0, 10**12, allow_nan=False, allow_infinity=False) | st.decimals(0, 5, places=9),
    st.sampled_from(["0.000001", "0.001", "0.5", "1", "15", "60"]),
    st.sampled_from(sorted(PYTHON_MODE)),
)
@example(Decimal("2.5"), "1", "half_even")
@example(Decimal("3.5"), "1", "half_even")
@example(Decimal("2.5") + Decimal("1e-27"), "1", "half_even")
@example(Decimal("60.0000000000000000000000001"), "60", "up")
@example(Decimal("59.9999999999999999999999999"), "60", "down")
def test_rounding_goes_by_all_digits(quantity: Decimal, to: str, mode: str) -> None:
    """The multiple is that of arithmetic with unbounded precision, however far behind the point the last digit is."""
    with localcontext() as context:
        context.prec = 200
        steps = (quantity / Decimal(to)).to_integral_value(PYTHON_MODE[mode])
        expected = steps * Decimal(to) * 10**6
    assert rounded(quantity, Rounding(to, mode), 6) == expected


@pytest.mark.parametrize(("seconds", "billed"), [("0.2", 15_000), ("15", 15_000), ("15.001", 16_000), ("61.5", 62_000)])
def test_a_meter_may_bill_started_seconds_with_a_minimum(seconds: str, billed: int) -> None:
    """Rounding up to whole seconds, at least fifteen."""
    assert rounded(Decimal(seconds), Rounding("1", "up", "15"), 3) == billed


# Status


@pytest.mark.parametrize("status", ["failed", "rejected", "cancelled"])
@pytest.mark.parametrize("data", ['"x":1', '"duration":"soon"', '"duration":-1,"type":[]', '"duration":1,"tags":"?"'])
def test_work_that_did_not_succeed_is_not_counted_nor_judged(status: str, data: str) -> None:
    """A job that failed has often no duration, and is kept all the same."""
    assert meter(event("audio.processed", f'{{"status":"{status}",{data}}}'), CATALOG) == ()
    assert meter(event("model.request", f'{{"status":"{status}",{data}}}'), CATALOG) == ()


def test_success_is_counted_named_or_not() -> None:
    """Absent and null are success."""
    assert micros(audio(status="success")) == micros(audio(status=None)) == micros(audio()) == 1_000_000


def test_another_type_may_use_status_as_it_likes() -> None:
    """The statuses belong to the types that the vocabulary gives one."""
    jobs = Meter("jobs", 1, frozenset({"job.done"}), None, "{job}", 0, (("status", "$.data.status"),))
    assert labels(meter(event("job.done", '{"status":"halfway"}'), Catalog(1, {"jobs": jobs}))) == {"status": "halfway"}


# Labels


def test_every_label_of_the_contract_is_kept() -> None:
    """Each is a dimension of the audio meter; channels are kept with the event and are none."""
    sent = {name: f"a {name}" for name, _ in CATALOG.meters["audio"].labels if name not in ("tags", "space")}
    assert labels(audio(**sent, tags="RG", space="room", channels=2)) == {**sent, "tags": "GR", "space": "room"}


def test_channels_do_not_multiply() -> None:
    """Two channels of a second are a second."""
    assert micros(audio(channels=2)) == 1_000_000


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("en", "en"), ("", ""), (" EN ", " EN "), (1, "1"), (True, "true"), (False, "false"), ("x" * 256, "x" * 256)],
)
def test_a_label_is_kept_as_sent(sent: Any, kept: str) -> None:
    """Text by its letters, also when empty or untrimmed; numbers and truth values as text."""
    assert labels(audio(language=sent)) == {"language": kept}


@pytest.mark.parametrize(("number", "text"), [("1.50", "1.5"), ("1e2", "100"), ("-0.0", "0"), ("2.5E-3", "0.0025")])
def test_a_number_is_a_label_in_its_shortest_form(number: str, text: str) -> None:
    """Equal numbers are one label, however they are written."""
    found = meter(event("audio.processed", f'{{"duration":1,"model":{number}}}'), CATALOG)
    assert labels(found) == {"model": text}


def test_null_is_no_label() -> None:
    """Null is absent, which is not the empty text."""
    assert labels(audio(language=None)) == {}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ('["en"]', Code.FIELD_TYPE),
        ('{"a":1}', Code.FIELD_TYPE),
        (json.dumps("x" * 257), Code.FIELD_LENGTH),
        ("1e300", Code.FIELD_LENGTH),
        ("1e999999999999", Code.FIELD_LENGTH),
        ("1e-999999999999", Code.FIELD_LENGTH),
        ("1" * 257, Code.FIELD_LENGTH),
        ("0." + "1" * 255, Code.FIELD_LENGTH),
        ('"a\\u0000b"', Code.TEXT_INVALID),
        ('"a\\nb"', Code.TEXT_INVALID),
        ('"a\\u007f"', Code.TEXT_INVALID),
        ('"a\\u009f"', Code.TEXT_INVALID),
        ('"\\u202eb"', Code.TEXT_INVALID),
        ('"\\u2066b"', Code.TEXT_INVALID),
    ],
)
def test_what_cannot_be_a_label_is_refused(value: str, code: Code) -> None:
    """Lists, objects, what is too long, and what would play tricks on a reader."""
    found = meter(event("audio.processed", f'{{"duration":1,"language":{value}}}'), CATALOG)
    assert refused(found) == (code, "/data/language")


@pytest.mark.parametrize("text", ["\u200e", "\u2028", "\u00ad", "é", "\U0001f600", "\u05d0", "\u00a0"])
def test_other_letters_are_fine(text: str) -> None:
    """Marks and scripts that need them, spaces of all kinds, and letters of every plane are kept."""
    assert labels(audio(language=text)) == {"language": text}


def test_the_longest_label_is_a_setting() -> None:
    """What may be how long is decided by the caller."""
    found = event("audio.processed", '{"duration":1,"language":"abcd"}')
    assert refused(meter(found, CATALOG, text_length_max=3)) == (Code.FIELD_LENGTH, "/data/language")
    assert labels(meter(found, CATALOG, text_length_max=4)) == {"language": "abcd"}


def test_the_space_label_is_the_resolved_one() -> None:
    """It comes from the subject where nothing else names it."""
    assert labels(meter(event("audio.processed", '{"duration":1}', subject="acme/room"), CATALOG)) == {"space": "room"}


# Tags


@pytest.mark.parametrize(
    ("sent", "letters"),
    [
        ("RG*", "*GR"),
        ("GG", "G"),
        ("", ""),
        ([], ""),
        ("aA", "Aa"),
        (["realtime", "gender"], "GR"),
        (["agentid", "scrubaudio", "notext", "agentid"], "*Aa"),
        (list(LETTER_OF_PARAMETER), "*ADEGHLMRSTa"),
    ],
)
def test_tags_are_kept_as_sorted_letters(sent: Any, letters: str) -> None:
    """Letters and parameter names become one text in code-point order, without repeats."""
    assert labels(audio(tags=sent)) == {"tags": letters}


def test_there_are_twelve_tags() -> None:
    """Each parameter has a letter of its own."""
    assert len(LETTERS) == len(LETTER_OF_PARAMETER) == 12


@pytest.mark.parametrize(
    ("sent", "code", "pointer"),
    [
        ("GX", Code.FIELD_VALUE, "/data/tags"),
        ("g", Code.FIELD_VALUE, "/data/tags"),
        ("diarize", Code.FIELD_VALUE, "/data/tags"),
        ("G,R", Code.FIELD_VALUE, "/data/tags"),
        (["gender", "volume"], Code.FIELD_VALUE, "/data/tags/1"),
        (["G"], Code.FIELD_VALUE, "/data/tags/0"),
        (["gender", 1], Code.FIELD_TYPE, "/data/tags/1"),
        ([None], Code.FIELD_TYPE, "/data/tags/0"),
        (1, Code.FIELD_TYPE, "/data/tags"),
        (True, Code.FIELD_TYPE, "/data/tags"),
        ({"gender": True}, Code.FIELD_TYPE, "/data/tags"),
    ],
)
def test_unknown_tags_are_refused(sent: Any, code: Code, pointer: str) -> None:
    """A string is letters, a list is names; neither may be anything else."""
    assert refused(audio(tags=sent)) == (code, pointer)


def test_tags_of_another_type_are_a_label_like_any_other() -> None:
    """The letters belong to audio."""
    shots = Meter("shots", 1, frozenset({"shot"}), None, "{shot}", 0, (("tags", "$.data.tags"),))
    catalog = Catalog(1, {"shots": shots})
    assert labels(meter(event("shot", '{"tags":"night, rain"}'), catalog)) == {"tags": "night, rain"}
    assert refused(meter(event("shot", '{"tags":["night"]}'), catalog)) == (Code.FIELD_TYPE, "/data/tags")


# Reserved labels


@pytest.mark.parametrize("word", ["total", "key"])
def test_labels_that_reports_need_themselves_are_refused(word: str) -> None:
    """None of model, billing and license may be called like an entry of the report, with a model or without."""
    assert refused(audio(model=word)) == (Code.LABEL_RESERVED, "/data/model")
    assert refused(audio(model="", billing=word)) == (Code.LABEL_RESERVED, "/data/billing")
    assert refused(audio(model="m", license=word)) == (Code.LABEL_RESERVED, "/data/license")
    assert refused(audio(billing=word)) == (Code.LABEL_RESERVED, "/data/billing")
    assert refused(audio(model=None, license=word)) == (Code.LABEL_RESERVED, "/data/license")


def test_reserved_words_are_free_where_no_report_reads_them() -> None:
    """In another label, in another case, in another type, or where nothing succeeded."""
    assert labels(audio(model="m", language="total", type="key", billing="Total"))["billing"] == "Total"
    assert isinstance(tokens('{"model":"total","input":1,"output":1}'), tuple)
    assert audio(model="total", status="failed") == ()


# Filters and versions


def test_a_filter_lets_through_what_holds_in_every_label() -> None:
    """Each condition lists values; an absent label is like an empty one."""
    where = (("mode", frozenset({"batch", ""})), ("type", frozenset({"transcription"})))
    catalog = Catalog(7, {"audio": replace(CATALOG.meters["audio"], version=4, where=where)})

    def counted(data: str) -> bool:
        return bool(meter(event("audio.processed", f'{{"duration":1,{data}}}'), catalog))

    assert counted('"mode":"batch","type":"transcription"')
    assert counted('"type":"transcription"')
    assert counted('"mode":"","type":"transcription"')
    assert not counted('"mode":"realtime","type":"transcription"')
    assert not counted('"mode":"batch","type":"alignment"')
    assert not counted('"mode":"batch"')


def test_a_filtered_event_needs_no_quantity() -> None:
    """What a meter does not count cannot be missing for it."""
    where = (("type", frozenset({"transcription"})),)
    catalog = Catalog(1, {"audio": replace(CATALOG.meters["audio"], where=where)})
    assert meter(event("audio.processed", '{"type":"alignment"}'), catalog) == ()


def test_paths_may_lead_into_objects_and_attributes() -> None:
    """A path is names between dots; where it leads nowhere there is no label."""
    paths = (("a", "$.data.a.b"), ("region", "$.region"), ("id", "$.id"), ("none", "$.data.a.b.c"), ("far", "$.x.y"))
    calls = Meter("calls", 1, frozenset({"call"}), "$.data.a.n", "{call}", 0, paths)
    found = meter(event("call", '{"a":{"b":"x","n":5}}', region="eu"), Catalog(1, {"calls": calls}))
    assert found == (Posting("calls", 1, (("a", "x"), ("id", "1"), ("region", "eu")), 5),)
