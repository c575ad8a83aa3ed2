"""One event judged: every code, the place it points to, and the order in which mistakes are found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.catalog import builtin
from tallystick.envelope import same_content
from tallystick.errors import Code
from tallystick.ingest.validate import validate
from tallystick.model import Caller, Checked, Event, Posting, Status, Verdict
from tallystick.settings import Settings

CATALOG = builtin()
SETTINGS = Settings()
OPERATOR = Caller("k0", None, frozenset())
BOUND = Caller("k1", "acme", frozenset())
NOW = 1_714_557_600_000_000  # 2024-05-01T10:00:00Z
ABSENT = object()

SPOKEN = {
    "specversion": "1.0",
    "id": "job-1",
    "source": "worker",
    "type": "audio.processed",
    "subject": "acme/room",
    "time": "2024-05-01T09:59:59Z",
    "data": {"duration": 12.5, "type": "transcription"},
}


def written(**members: Any) -> bytes:
    """Write SPOKEN with other members; ABSENT leaves one out."""
    merged = {**SPOKEN, **members}
    return json.dumps({name: value for name, value in merged.items() if value is not ABSENT}).encode()


def judge(
    raw: bytes, caller: Caller = OPERATOR, *, plain: bool = False, settings: Settings = SETTINGS
) -> Checked | Verdict:
    """Validate one event at NOW."""
    return validate(raw, plain=plain, caller=caller, catalog=CATALOG, settings=settings, now=NOW)


def taken(raw: bytes, caller: Caller = OPERATOR, *, plain: bool = False) -> Event:
    """Return the event of what must be taken."""
    found = judge(raw, caller, plain=plain)
    assert isinstance(found, Checked), found
    return found.event


def refused(
    raw: bytes, caller: Caller = OPERATOR, *, plain: bool = False, settings: Settings = SETTINGS
) -> tuple[Code | None, str]:
    """Return code and place of what must be refused, with a reason and without a mark of success."""
    found = judge(raw, caller, plain=plain, settings=settings)
    assert isinstance(found, Verdict), found
    assert found.status is Status.REJECTED
    assert not found.metered
    assert len(found.detail) > 20
    assert found.detail.endswith(".")
    return found.code, found.pointer


def test_a_good_event_comes_back_with_its_postings() -> None:
    """Account and space are resolved, the amount is exact."""
    found = judge(written())
    assert isinstance(found, Checked)
    event, postings = found.event, found.postings
    assert (event.account, event.space, event.subject) == ("acme", "room", "acme/room")
    assert (event.time, event.timed) == (NOW - 1_000_000, True)
    assert postings == (Posting("audio", 1, (("space", "room"), ("type", "transcription")), 12_500_000),)


def test_an_event_that_feeds_nothing_is_taken() -> None:
    """Any type is kept; without a meter there are no postings, and its data is its own affair."""
    for data in ({"status": "open", "duration": "soon"}, "text", [1], 7, True, None, ABSENT):
        found = judge(written(type="door.opened", data=data))
        assert isinstance(found, Checked), found
        assert found.postings == ()


def test_a_failed_job_is_taken_without_its_duration() -> None:
    """It is kept and counts nothing."""
    found = judge(written(data={"status": "failed"}))
    assert isinstance(found, Checked)
    assert found.postings == ()


# Size and JSON


def test_an_event_may_have_as_many_bytes_as_the_setting_says() -> None:
    """Bytes are counted, not letters, and before anything is read."""
    raw = written(note="é")
    assert refused(raw, settings=Settings(event_bytes_max=len(raw) - 1)) == (Code.EVENT_TOO_LARGE, "")
    assert isinstance(judge(raw, settings=Settings(event_bytes_max=len(raw))), Checked)
    assert refused(b"{" * 300_000) == (Code.EVENT_TOO_LARGE, "")


@pytest.mark.parametrize(
    ("raw", "code", "pointer"),
    [
        (b"{", Code.NOT_JSON, ""),
        (b"", Code.NOT_JSON, ""),
        (b"[]", Code.NOT_OBJECT, ""),
        (b"null", Code.NOT_OBJECT, ""),
        (b'{"id":"\xff"}', Code.TEXT_INVALID, ""),
        (b'{"data":{"note":"\\ud800"}}', Code.TEXT_INVALID, "/data/note"),
        (b'{"data":{"n":1e99999999999999999999}}', Code.QUANTITY_RANGE, "/data/n"),
        (b'{"data":' + b"[" * 200 + b"]" * 200 + b"}", Code.NOT_JSON, "/data" + "/0" * 63),
    ],
)
def test_what_cannot_be_read_is_refused(raw: bytes, code: Code, pointer: str) -> None:
    """The place is given as far as there is one."""
    assert refused(raw) == (code, pointer)


# Specversion


def test_plain_json_may_leave_out_the_specversion() -> None:
    """CloudEvents may not, and neither may send another."""
    assert taken(written(specversion=ABSENT), plain=True).id == "job-1"
    assert taken(written(specversion=None), plain=True).id == "job-1"
    assert refused(written(specversion=ABSENT)) == (Code.FIELD_MISSING, "/specversion")
    assert refused(written(specversion=None)) == (Code.FIELD_MISSING, "/specversion")
    for plain in (True, False):
        assert refused(written(specversion="0.3"), plain=plain) == (Code.FIELD_VALUE, "/specversion")
        assert refused(written(specversion=1.0), plain=plain) == (Code.FIELD_TYPE, "/specversion")


# Names


@pytest.mark.parametrize("name", ["id", "source", "type"])
def test_names_are_required_texts(name: str) -> None:
    """Missing and null are missing; numbers are no text; the bounds are in characters."""
    assert refused(written(**{name: ABSENT})) == (Code.FIELD_MISSING, f"/{name}")
    assert refused(written(**{name: None})) == (Code.FIELD_MISSING, f"/{name}")
    for value in (7, True, ["x"], {"a": "x"}):
        assert refused(written(**{name: value})) == (Code.FIELD_TYPE, f"/{name}")
    for text in ("", "x" * 257, "\U0001f600" * 257):
        assert refused(written(**{name: text})) == (Code.FIELD_LENGTH, f"/{name}")
    assert getattr(taken(written(**{name: "\U0001f600" * 256})), name) == "\U0001f600" * 256


def test_a_subject_is_a_text_if_it_is_there() -> None:
    """It has the bounds of the other names."""
    assert taken(written(subject=ABSENT), BOUND).subject is None
    assert taken(written(subject=None), BOUND).subject is None
    assert refused(written(subject=7), BOUND) == (Code.FIELD_TYPE, "/subject")
    assert refused(written(subject=""), BOUND) == (Code.FIELD_LENGTH, "/subject")
    assert refused(written(subject="acme/" + "x" * 252), BOUND) == (Code.FIELD_LENGTH, "/subject")
    assert taken(written(subject="acme/" + "x" * 251), BOUND).space == "x" * 251


def test_the_longest_name_is_a_setting() -> None:
    """The same setting bounds labels and spaces."""
    short = Settings(text_length_max=20)
    assert isinstance(judge(written(), settings=short), Checked)
    assert refused(written(id="x" * 21), settings=short) == (Code.FIELD_LENGTH, "/id")
    spoken = {"duration": 1, "language": "x" * 21}
    assert refused(written(data=spoken), settings=short) == (Code.FIELD_LENGTH, "/data/language")


UNSAFE = ["a\x00", "a\nb", "\x1b[2J", "\x7f", "\x85", "\x9f", "\u202a", "\u202e", "\u2066", "\u2069"]


@pytest.mark.parametrize("text", UNSAFE)
@pytest.mark.parametrize("name", ["id", "source", "type", "subject", "region", "dataschema", "account", "space"])
def test_text_that_plays_tricks_is_refused_in_attributes(name: str, text: str) -> None:
    """Control characters and what turns the direction of writing, wherever an attribute has text."""
    assert refused(written(**{name: text})) == (Code.TEXT_INVALID, f"/{name}")


def test_names_of_attributes_are_text_too() -> None:
    """A name is shown like a value."""
    assert refused(written(**{"re\u202egion": 1})) == (Code.TEXT_INVALID, "/re\u202egion")


@pytest.mark.parametrize("text", UNSAFE)
def test_data_that_is_no_label_may_hold_any_text(text: str) -> None:
    """A transcript has lines; a label has none."""
    assert taken(written(data={"duration": 1, "note": text})).data["note"] == text
    assert refused(written(data={"duration": 1, "language": text})) == (Code.TEXT_INVALID, "/data/language")


# Time


@pytest.mark.parametrize(
    "time", ["yesterday", "2024-05-01 09:00:00Z", "2024-05-01T09:00:00", "", 1_714_557_600, True, []]
)
def test_a_time_must_have_the_form_of_one(time: Any) -> None:
    """Whatever else is sent has the one code for it."""
    assert refused(written(time=time)) == (Code.TIME_FORMAT, "/time")


def test_a_time_may_be_a_little_ahead() -> None:
    """The limit itself is fine, a microsecond more is not."""
    assert taken(written(time="2024-05-01T10:05:00Z")).time == NOW + 300_000_000
    assert refused(written(time="2024-05-01T10:05:00.000001Z")) == (Code.TIME_FUTURE, "/time")
    wide = Settings(time_ahead_s_max=301)
    assert isinstance(judge(written(time="2024-05-01T10:05:00.000001Z"), settings=wide), Checked)


def test_a_time_may_be_any_age() -> None:
    """Late events are events."""
    assert taken(written(time="0001-01-02T00:00:00Z")).time < -62_000_000_000_000_000


def test_the_time_of_receipt_stands_in() -> None:
    """Absent and null alike."""
    for time in (ABSENT, None):
        event = taken(written(time=time))
        assert (event.time, event.timed) == (NOW, False)


# Account


def test_an_account_is_named_by_the_event_the_key_or_the_subject() -> None:
    """In this order, and the first that says anything decides."""
    assert taken(written(account="named", subject="other/room")).account == "named"
    assert taken(written(account="acme", subject="other/room"), BOUND).account == "acme"
    assert taken(written(subject="other/room"), BOUND).account == "acme"
    assert taken(written(subject="other/room"), BOUND).space is None
    assert taken(written(account=None, subject="other/room")).account == "other"
    assert taken(written(subject="other")).account == "other"


def test_a_bound_key_may_name_no_other_account() -> None:
    """Whether the other one exists, or could, makes no difference."""
    for named in ("other", "Not A Name", "", "acme "):
        assert refused(written(account=named), BOUND) == (Code.ACCOUNT_FORBIDDEN, "/account")


def test_an_event_must_be_somebodys() -> None:
    """An operator's event without account and subject has no owner."""
    assert refused(written(subject=ABSENT)) == (Code.FIELD_MISSING, "/subject")


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a b", "é", "a" * 51, "a.b"])
def test_an_account_has_a_plain_name(name: str) -> None:
    """The pointer leads to what named it."""
    assert refused(written(account=name)) == (Code.FIELD_VALUE, "/account")
    assert refused(written(subject=f"{name}/room")) == (Code.FIELD_VALUE, "/subject")


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a-", "a" * 50])
def test_plain_names_are_accounts(name: str) -> None:
    """Letters, digits and hyphens."""
    assert taken(written(account=name)).account == name


@pytest.mark.parametrize("value", [7, True, ["acme"], {"name": "acme"}])
def test_an_account_is_named_by_text(value: Any) -> None:
    """For the operator and for a bound key alike."""
    for caller in (OPERATOR, BOUND):
        assert refused(written(account=value), caller) == (Code.FIELD_TYPE, "/account")


# Space


def test_a_space_is_a_label() -> None:
    """It has a label's rules wherever it comes from, and the pointer leads there."""
    long = "x" * 257
    assert refused(written(space=[])) == (Code.FIELD_TYPE, "/space")
    assert refused(written(space=long)) == (Code.FIELD_LENGTH, "/space")
    assert refused(written(data={"duration": 1, "space": {}})) == (Code.FIELD_TYPE, "/data/space")
    assert refused(written(data={"duration": 1, "dataset": long})) == (Code.FIELD_LENGTH, "/data/dataset")
    assert refused(written(data={"duration": 1, "dataset": "\n"})) == (Code.TEXT_INVALID, "/data/dataset")
    assert taken(written(data={"duration": 1, "space": 7, "dataset": long})).space == "7"


# Data and status


@pytest.mark.parametrize("data", ["text", [], 7, True])
@pytest.mark.parametrize("event_type", ["audio.processed", "model.request", "vision.request", "resource.upserted"])
def test_the_data_of_a_known_type_is_an_object(event_type: str, data: Any) -> None:
    """Anything else could not be metered."""
    assert refused(written(type=event_type, data=data)) == (Code.FIELD_TYPE, "/data")


def test_data_in_base64_is_kept_and_not_read() -> None:
    """It must be base64 and the only data; a meter finds nothing in it."""
    assert taken(written(type="door.opened", data=ABSENT, data_base64="AAA=")).attributes["data_base64"] == "AAA="
    assert refused(written(type="x", data={}, data_base64="AAA=")) == (Code.FIELD_VALUE, "/data_base64")
    assert refused(written(type="x", data=ABSENT, data_base64="AA=")) == (Code.FIELD_VALUE, "/data_base64")
    assert refused(written(type="x", data=ABSENT, data_base64="AA A=")) == (Code.FIELD_VALUE, "/data_base64")
    assert refused(written(type="x", data=ABSENT, data_base64=7)) == (Code.FIELD_TYPE, "/data_base64")
    assert refused(written(data=ABSENT, data_base64="AAA=")) == (Code.QUANTITY_MISSING, "/data/duration")


@pytest.mark.parametrize("event_type", ["audio.processed", "model.request", "vision.request", "resource.upserted"])
def test_a_status_is_one_of_four(event_type: str) -> None:
    """For each type that has one; case counts, null is absent."""
    for status in ("failed", "rejected", "cancelled"):
        data = {"kind": "audio", "id": "a", "duration": 1, "status": status}
        assert taken(written(type=event_type, data=data)).data == data
    for status in ("ok", "Success", ""):
        assert refused(written(type=event_type, data={"status": status})) == (Code.FIELD_VALUE, "/data/status")
    for value in (1, True, ["success"]):
        assert refused(written(type=event_type, data={"status": value})) == (Code.FIELD_TYPE, "/data/status")


@pytest.mark.parametrize(
    ("data", "code", "pointer"),
    [
        ({}, Code.QUANTITY_MISSING, "/data/duration"),
        (ABSENT, Code.QUANTITY_MISSING, "/data/duration"),
        ({"duration": "soon"}, Code.QUANTITY_TYPE, "/data/duration"),
        ({"duration": -1}, Code.QUANTITY_NEGATIVE, "/data/duration"),
        ({"duration": 10**13}, Code.QUANTITY_RANGE, "/data/duration"),
        ({"duration": 1, "model": ["m"]}, Code.FIELD_TYPE, "/data/model"),
        ({"duration": 1, "model": "total"}, Code.LABEL_RESERVED, "/data/model"),
        ({"duration": 1, "tags": "?"}, Code.FIELD_VALUE, "/data/tags"),
    ],
)
def test_what_the_meters_refuse_is_refused(data: Any, code: Code, pointer: str) -> None:
    """Their verdict is the event's."""
    assert refused(written(data=data)) == (code, pointer)


# Order


def test_mistakes_are_found_in_a_fixed_order() -> None:
    """An event with every mistake shows them one by one, in the order that the module gives."""
    event: dict[str, Any] = {
        "specversion": "2",
        "id": "",
        "source": 7,
        "type": "audio.processed\n",
        "subject": "",
        "region": "\x00",
        "time": "now",
        "account": "Other",
        "space": [],
        "data": {"status": "done", "duration": -1, "model": "total", "language": {}},
    }
    repairs: list[tuple[Code, str, dict[str, Any]]] = [
        (Code.FIELD_VALUE, "/specversion", {"specversion": "1.0"}),
        (Code.FIELD_LENGTH, "/id", {"id": "1"}),
        (Code.FIELD_TYPE, "/source", {"source": "w"}),
        (Code.TEXT_INVALID, "/type", {"type": "audio.processed"}),
        (Code.FIELD_LENGTH, "/subject", {"subject": "acme"}),
        (Code.TEXT_INVALID, "/region", {"region": "eu"}),
        (Code.TIME_FORMAT, "/time", {"time": "2024-05-02T00:00:00Z"}),
        (Code.TIME_FUTURE, "/time", {"time": "2024-05-01T00:00:00Z"}),
        (Code.FIELD_VALUE, "/account", {"account": "acme"}),
        (Code.FIELD_TYPE, "/space", {"space": "room"}),
        (Code.FIELD_VALUE, "/data/status", {"data": {"duration": -1, "model": "total", "language": {}}}),
        (Code.LABEL_RESERVED, "/data/model", {"data": {"duration": -1, "model": "m", "language": {}}}),
        (Code.FIELD_TYPE, "/data/language", {"data": {"duration": -1}}),
        (Code.QUANTITY_NEGATIVE, "/data/duration", {"data": {"duration": 1}}),
    ]
    for code, pointer, repair in repairs:
        assert refused(json.dumps(event).encode()) == (code, pointer)
        event.update(repair)
    assert taken(json.dumps(event).encode()).space == "room"


json_texts = st.recursive(
    st.sampled_from(
        [
            "null",
            "true",
            "0",
            "-0.0",
            "1.5",
            "1e999999999",
            "1e-99999999999999999999",
            "9" * 5000,
            '""',
            '"acme"',
            '"acme/x"',
            '"failed"',
            '"PT1S"',
            '"\\ud800"',
            '"\\u0000"',
            '"1.0"',
            '"audio.processed"',
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
        | st.dictionaries(st.sampled_from(["duration", "status", "space", "tags", "model"]), inner, max_size=3).map(
            lambda members: "{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}"
        )
    ),
    max_leaves=6,
)
NAMES = [*SPOKEN, "account", "space", "data_base64", "region"]


@given(
    st.dictionaries(st.sampled_from(NAMES), json_texts, max_size=4), st.sampled_from([OPERATOR, BOUND]), st.booleans()
)
def test_whatever_is_sent_has_a_verdict(members: dict[str, str], caller: Caller, plain: bool) -> None:
    """No JSON, however odd, ends in an error; what is refused says why, and what is taken can be compared."""
    texts = {name: json.dumps(value) for name, value in SPOKEN.items()} | members
    raw = "{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}"
    found = judge(raw.encode(), caller, plain=plain)
    if isinstance(found, Verdict):
        assert found.code is not None
        assert found.detail
    else:
        assert same_content(found.event, found.event)
        assert all(0 <= posting.amount <= 10**18 for posting in found.postings)
