"""What an event says of a resource: what is taken and how it is read, what is refused and where."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tallystick.catalog import builtin
from tallystick.errors import Code
from tallystick.ingest.validate import validate
from tallystick.model import Caller, Change, Checked, Posting, Verdict
from tallystick.settings import Settings

NOW = 1_714_557_600_000_000  # 2024-05-01T10:00:00Z
MINUTE = 60_000_000


def judged(data: Any, *, type: str = "resource.upserted", **members: Any) -> Checked | Verdict:
    """Judge an event of acme about a resource."""
    event = {"id": "1", "source": "test", "type": type, "account": "acme", "time": "2024-05-01T09:59:00Z", **members}
    raw = json.dumps({**event, "data": data}).encode()
    caller = Caller("k", None, frozenset())
    return validate(raw, plain=True, caller=caller, catalog=builtin(), settings=Settings(), now=NOW)


def change(data: Any, **members: Any) -> Change:
    """Return what must be taken as a change of a resource."""
    found = judged(data, **members)
    assert isinstance(found, Checked), found
    assert found.change is not None
    return found.change


def counted(data: Any, **members: Any) -> tuple[Posting, ...]:
    """Return what must be taken adds to the meters."""
    found = judged(data, **members)
    assert isinstance(found, Checked), found
    return found.postings


def refused(data: Any, **members: Any) -> tuple[Code | None, str]:
    """Return code and place of what must be refused."""
    found = judged(data, **members)
    assert isinstance(found, Verdict), found
    assert found.detail.endswith(".")
    return found.code, found.pointer


def test_an_upsert_says_the_whole_state() -> None:
    """Every member that reports know, the duration in microseconds; others and null are no part of it."""
    said = {"status": "success", "state": "x", "url": "u", "parent": "p", "type": "t", "actor": "ada", "model": "m"}
    data = {"kind": "widget", "id": "w", "duration": "PT1.5S", "attributes": {"a": None, "b": 1}, "more": 1, **said}
    state = {**said, "duration": 1_500_000, "attributes": {"b": 1}}
    assert change(data, space="lab") == Change("widget", "lab", "w", NOW - MINUTE, "test", "1", state)


def test_a_deletion_says_only_what_ended() -> None:
    """Kind, space and id; whatever else its data has plays no part."""
    data = {"kind": "widget", "id": "w", "duration": "soon", "state": 7}
    found = change(data, type="resource.deleted", space="lab")
    assert found == Change("widget", "lab", "w", NOW - MINUTE, "test", "1", None)


@pytest.mark.parametrize(
    ("members", "space"),
    [
        ({"space": "a", "subject": "acme/b"}, "a"),
        ({"subject": "acme/b"}, "b"),
        ({"subject": "other/b"}, ""),
        ({}, ""),
    ],
)
def test_a_resource_is_in_the_space_of_its_event(members: dict[str, Any], space: str) -> None:
    """Named outright or by the subject; in none where nothing names one."""
    assert change({"kind": "identity", "id": "i"}, **members).space == space
    assert change({"kind": "image", "id": "i", "dataset": "d"}).space == "d"


@pytest.mark.parametrize("kind", ["space", "dataset"])
@pytest.mark.parametrize("type", ["resource.upserted", "resource.deleted"])
def test_a_container_is_its_own_space(kind: str, type: str) -> None:
    """Its id is its space, and either may be absent, but not both, nor may they differ."""
    for data, members in (
        ({"id": "lab"}, {}),
        ({}, {"space": "lab"}),
        ({"id": "lab"}, {"space": "lab"}),
        ({}, {"subject": "acme/lab"}),
    ):
        found = change({"kind": kind, **data}, type=type, **members)
        assert (found.kind, found.space, found.id) == (kind, "lab", "lab")
    assert refused({"kind": kind}, type=type) == (Code.FIELD_MISSING, "/data/id")
    assert refused({"kind": kind, "id": "lab"}, type=type, space="shop") == (Code.FIELD_VALUE, "/data/id")


@pytest.mark.parametrize(
    ("data", "code", "pointer"),
    [
        ({"id": "i"}, Code.FIELD_MISSING, "/data/kind"),
        ({"kind": None, "id": "i"}, Code.FIELD_MISSING, "/data/kind"),
        ({"kind": 7, "id": "i"}, Code.FIELD_TYPE, "/data/kind"),
        ({"kind": "", "id": "i"}, Code.FIELD_LENGTH, "/data/kind"),
        ({"kind": "k" * 257, "id": "i"}, Code.FIELD_LENGTH, "/data/kind"),
        ({"kind": "identity"}, Code.FIELD_MISSING, "/data/id"),
        ({"kind": "identity", "id": 7}, Code.FIELD_TYPE, "/data/id"),
        ({"kind": "identity", "id": ""}, Code.FIELD_LENGTH, "/data/id"),
        ({"kind": "identity", "id": "i\u202e"}, Code.TEXT_INVALID, "/data/id"),
        ({"kind": "identity", "id": "i", "url": 7}, Code.FIELD_TYPE, "/data/url"),
        ({"kind": "identity", "id": "i", "model": "m" * 257}, Code.FIELD_LENGTH, "/data/model"),
        ({"kind": "identity", "id": "i", "parent": "\x00"}, Code.TEXT_INVALID, "/data/parent"),
        ({"kind": "identity", "id": "i", "attributes": []}, Code.FIELD_TYPE, "/data/attributes"),
        ({"kind": "identity", "id": "i", "status": "done"}, Code.FIELD_VALUE, "/data/status"),
        ({"kind": "identity", "id": "i", "duration": "soon"}, Code.QUANTITY_TYPE, "/data/duration"),
        ({"kind": "identity", "id": "i", "duration": -1}, Code.QUANTITY_NEGATIVE, "/data/duration"),
        ({"kind": "identity", "id": "i", "duration": 10**13}, Code.QUANTITY_RANGE, "/data/duration"),
        ({"kind": "voiceprint", "id": "v", "state": "done"}, Code.FIELD_VALUE, "/data/state"),
        ({"kind": "verification", "id": "v", "state": "computed"}, Code.FIELD_VALUE, "/data/state"),
        ({"kind": "verification", "id": "v", "type": "voice"}, Code.FIELD_VALUE, "/data/type"),
        (["kind"], Code.FIELD_TYPE, "/data"),
    ],
)
def test_a_flawed_resource_is_refused(data: Any, code: Code, pointer: str) -> None:
    """The receipt names the member of the data that is wrong."""
    assert refused(data) == (code, pointer)


def test_a_url_may_be_longer_than_a_label() -> None:
    """Thousands of characters, with a bound all the same."""
    assert change({"kind": "image", "id": "i", "url": "u" * 8192}).state == {"url": "u" * 8192}
    assert refused({"kind": "image", "id": "i", "url": "u" * 8193}) == (Code.FIELD_LENGTH, "/data/url")


@pytest.mark.parametrize(
    ("kind", "state", "is_needed"),
    [
        ("audio", None, True),
        ("audio", "available", True),
        ("audio", "awaitingFile", False),
        ("audio", "avaitingFile", False),
        ("voiceprint", None, False),
        ("voiceprint", "computable", False),
        ("voiceprint", "notComputable", False),
        ("voiceprint", "computed", True),
        ("verification", None, False),
        ("verification", "performing", False),
        ("verification", "error", False),
        ("verification", "performed", True),
        ("verification", "performedWithoutScore", True),
        ("identity", "computed", False),
        ("image", None, False),
    ],
)
def test_a_duration_is_required_once_reports_show_it(kind: str, state: str | None, is_needed: bool) -> None:
    """An audio with its file, a computed voiceprint, a performed verification; it is never made up."""
    data = {"kind": kind, "id": "r", "state": state, "type": "identity" if kind == "verification" else None}
    if is_needed:
        assert refused(data) == (Code.QUANTITY_MISSING, "/data/duration")
    else:
        assert "duration" not in (change(data).state or {})
    assert (change({**data, "duration": 1}).state or {})["duration"] == 1_000_000


def test_what_did_not_succeed_is_a_resource_all_the_same() -> None:
    """It is kept and exists, and feeds no meter."""
    data = {"kind": "image", "id": "i", "url": "u", "status": "failed"}
    assert change(data).state == {"url": "u", "status": "failed"}
    assert counted(data) == ()


def test_only_the_meter_of_its_kind_counts_a_resource() -> None:
    """An image by its url, a verification and a voiceprint by their state, each with what it is compared by."""
    assert [(p.meter, p.amount, p.once) for p in counted({"kind": "image", "id": "i", "url": "u"})] == [
        ("images", 1, "u")
    ]
    performed = {"kind": "verification", "id": "v", "state": "performed", "type": "message", "duration": 2}
    assert [(p.meter, p.amount, p.labels, p.once) for p in counted(performed)] == [
        ("verifications", 2_000_000, (("type", "message"),), "")
    ]
    computed = {"kind": "voiceprint", "id": "v", "state": "computed", "model": "m", "duration": "PT0.0000005S"}
    assert [(p.meter, p.amount, p.labels, p.once) for p in counted(computed, space="lab")] == [
        ("voiceprints", 1, (("model", "m"), ("space", "lab")), "")
    ]
    for nothing in ({"kind": "image", "id": "i"}, {"kind": "identity", "id": "i", "url": "u"}):
        assert counted(nothing) == ()


def test_a_vision_request_needs_a_type_that_has_a_rate() -> None:
    """Without one, or with one that the table does not have, the event is refused and says where."""
    assert refused({"dataset": "d"}, type="vision.request") == (Code.FIELD_MISSING, "/data/type")
    assert refused({"type": "scan"}, type="vision.request") == (Code.RATE_MISSING, "/data/type")
    assert refused({"type": "lens"}, type="vision.request", time="1969-12-31T23:59:59Z") == (
        Code.RATE_MISSING,
        "/data/type",
    )
    found = counted({"type": "similar", "dataset": "d"}, type="vision.request")
    labels = (("space", "d"), ("type", "similar"))
    assert [(p.meter, p.labels, p.amount) for p in found] == [
        ("vision_requests", labels, 1),
        ("vision_credits", labels, 500_000),
    ]
    assert counted({"type": "scan", "status": "failed"}, type="vision.request") == ()
