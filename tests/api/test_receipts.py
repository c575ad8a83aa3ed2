"""Every code of a receipt, provoked over HTTP: its pointer, its words, and the status of one event and of a batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tallystick.errors import Code
from tests.api.client import Answer, World, audio, run

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PLAIN = "application/json"
LINES = "application/x-ndjson"

OF_OTHERS = {Code.RATE_MISSING, Code.OVER_LIMIT}
"""Codes that need rates and limits, which no meter that is there from the start has."""


@dataclass(frozen=True, slots=True)
class Case:
    """An event that is refused: its JSON, and what its receipt and its status must be."""

    code: str
    pointer: str
    raw: bytes
    status: int = 422
    id: str | None = "x"

    def __str__(self) -> str:
        return f"{self.code}{self.pointer[:40]}"


def wrong(code: str, pointer: str, **members: Any) -> Case:
    """Make a case of a good event in which some members are replaced; None leaves one out."""
    status = {"account_forbidden": 403, "id_reused": 409, "event_too_large": 413}.get(code, 422)
    event = {"specversion": "1.0", **audio("x"), **members}
    sent = {name: value for name, value in event.items() if value is not None}
    id = sent.get("id")
    return Case(code, pointer, json.dumps(sent).encode(), status, id if isinstance(id, str) else None)


def counted(code: str, name: str, **data: Any) -> Case:
    """Make a case of a good event in which some of the data is replaced."""
    sent = {"duration": "60", "type": "transcription", **data}
    return wrong(code, f"/data/{name}", data={key: value for key, value in sent.items() if value is not None})


def tokens(code: str, name: str, **data: Any) -> Case:
    """Make a case of an event of a model's tokens."""
    return wrong(code, f"/data/{name}", type="model.request", data={"model": "m", "input": 1, "output": 1, **data})


DEEP = b"[" * 70 + b"]" * 70
NAMES = ("id", "source", "type")

CASES = [
    Case("not_json", "/data" + "/0" * 63, b'{"id":"x","data":' + DEEP + b"}"),
    Case("not_object", "", b"7", id=None),
    Case("not_object", "", b'"x"', id=None),
    Case("not_object", "", b"null", id=None),
    *(wrong("field_missing", f"/{name}", **{name: None}) for name in NAMES),
    wrong("field_missing", "/subject", account=None),
    tokens("field_missing", "model", model=None),
    *(wrong("field_type", f"/{name}", **{name: 7}) for name in (*NAMES, "subject", "account", "specversion")),
    wrong("field_type", "/data", data="60"),
    wrong("field_type", "/data_base64", data=None, data_base64=7),
    wrong("field_type", "/space", space=["s"]),
    counted("field_type", "status", status=1),
    counted("field_type", "language", language={"code": "en"}),
    counted("field_type", "tags", tags=7),
    counted("field_type", "tags/1", tags=["diarize", 7]),
    *(wrong("field_length", f"/{name}", **{name: ""}) for name in (*NAMES, "subject")),
    *(wrong("field_length", f"/{name}", **{name: "n" * 257}) for name in (*NAMES, "subject")),
    wrong("field_length", "/space", space="s" * 257),
    counted("field_length", "language", language="l" * 257),
    wrong("field_value", "/specversion", specversion="0.3"),
    wrong("field_value", "/account", account="Not an account"),
    wrong("field_value", "/subject", account=None, subject="No Account/s"),
    wrong("field_value", "/data_base64", data_base64="AAAA"),
    wrong("field_value", "/data_base64", data=None, data_base64="?"),
    counted("field_value", "status", status="done"),
    counted("field_value", "tags", tags="?"),
    counted("field_value", "tags/0", tags=["?"]),
    *(wrong("time_format", "/time", time=time) for time in ("lunchtime", "2026-11-01", "2026-11-01T11:00:00", 7)),
    wrong("time_future", "/time", time="2026-11-01T12:05:00.000001Z"),
    counted("quantity_missing", "duration", duration=None),
    *(counted("quantity_type", "duration", duration=value) for value in ("", "1 h", "P1M", True, [60])),
    tokens("quantity_type", "input", input="7"),
    *(counted("quantity_negative", "duration", duration=value) for value in (-1, "-0.5", "-PT1S")),
    tokens("quantity_precision", "output", output=1.5),
    *(counted("quantity_range", "duration", duration=value) for value in (1e13, "1e-13", "1e99999999999999999999")),
    Case("quantity_range", "/data/duration", b'{"id":"x","data":{"duration":1e99999999999999999999}}'),
    counted("label_reserved", "billing", model="m", billing="total"),
    counted("label_reserved", "license", model="m", license="key"),
    Case("text_invalid", "", b'{"id":"x","note":"\xff"}'),
    wrong("text_invalid", "/id", id="a\u0000b"),
    wrong("text_invalid", "/subject", subject="acme/\u202ename"),
    wrong("text_invalid", "/note", note="\ud800"),
    wrong("text_invalid", "/space", space="s\u007f"),
    counted("text_invalid", "language", language="e\nn"),
    wrong("event_too_large", "", note="n" * 300_000),
]

every_case = pytest.mark.parametrize("case", CASES, ids=str)


async def post(world: World, content: bytes, content_type: str, key: str = "operator") -> Answer:
    """Send a body."""
    return await world.ask("POST", "/v1/events", content, key=key, headers={"content-type": content_type})


def check(receipt: dict[str, Any], case: Case, index: int = 0) -> None:
    """Compare a receipt with what it must be, and look at its words."""
    assert (receipt["index"], receipt["code"], receipt["pointer"]) == (index, case.code, case.pointer)
    assert receipt["status"] == ("conflict" if case.code == "id_reused" else "rejected")
    assert receipt["metered"] is False
    assert receipt["id"] == case.id
    check_words(receipt["detail"], case.pointer)


def check_words(detail: str, pointer: str) -> None:
    """A person who has never seen the code learns which member it is about, in a whole sentence or two."""
    assert detail.endswith(".")
    assert len(detail.split()) >= 4
    member = pointer.strip("/").split("/")
    named = next((name for name in reversed(member) if name and not name.isdecimal()), "")
    assert named in detail


@every_case
def test_one_refused_event_has_its_status_and_its_receipt(case: Case) -> None:
    """Structured or plain, the answer is a problem that has the receipt's code, pointer and words."""

    async def scenario(world: World) -> None:
        for content_type in (STRUCTURED, PLAIN):
            raw = case.raw
            if content_type == STRUCTURED and b"specversion" not in raw and raw.startswith(b'{"'):
                raw = b'{"specversion":"1.0",' + raw[1:]
            answer = await post(world, raw, content_type)
            document = answer.json
            assert (answer.status, document["status"], document["code"]) == (case.status, case.status, case.code)
            assert answer.headers["content-type"] == "application/problem+json"
            assert [document[name] for name in ("accepted", "duplicate", "conflict", "rejected")] == [0, 0, 0, 1]
            (receipt,) = document["receipts"]
            check(receipt, case)
            assert document["errors"] == [{"pointer": case.pointer, "detail": receipt["detail"]}]
            assert document["detail"] == receipt["detail"]
        assert not world.app.catalog.accounts

    run(scenario)


@every_case
def test_in_a_batch_a_refused_event_costs_only_itself(case: Case) -> None:
    """The others are taken, the answer is 207, and the receipt is the same in every format that holds several."""

    async def scenario(world: World) -> None:
        good = [json.dumps({"specversion": "1.0", **audio(f"good-{n}")}).encode() for n in range(2)]
        bodies = {PLAIN: b"[%s]", BATCH: b"[%s]", LINES: b"%s"}
        for turn, (content_type, form) in enumerate(bodies.items()):
            raw = case.raw
            if content_type == BATCH and b"specversion" not in raw and raw.startswith(b'{"'):
                raw = b'{"specversion":"1.0",' + raw[1:]
            comma = b"\n" if content_type == LINES else b","
            answer = await post(world, form % comma.join([good[0], raw, good[1]]), content_type)
            assert answer.status == 207
            counts = [answer.json[name] for name in ("accepted", "duplicate", "conflict", "rejected")]
            assert counts == ([2, 0, 0, 1] if turn == 0 else [0, 2, 0, 1])
            (receipt,) = answer.json["receipts"]
            check(receipt, case, index=1)

    run(scenario)


def test_a_line_that_is_no_json_has_a_receipt_and_a_lone_document_is_400() -> None:
    """Only where lines end is it known where the next event begins."""

    async def scenario(world: World) -> None:
        for bad in (b"{", b"hello", b'{"id":"x"}}', b"NaN"):
            answer = await post(world, bad, LINES)
            assert answer.status == 207
            check(answer.json["receipts"][0], Case("not_json", "", bad, id=None))
            single = await post(world, bad, PLAIN)
            assert (single.status, single.json["code"]) == (400, "body_undecodable")
            assert "receipts" not in single.json

    run(scenario)


def test_structured_and_batch_ask_for_a_specversion_and_plain_json_does_not() -> None:
    """The code is that of any missing field."""

    async def scenario(world: World) -> None:
        raw = json.dumps(audio("x")).encode()
        case = Case("field_missing", "/specversion", raw)
        single = await post(world, raw, STRUCTURED)
        assert single.status == 422
        check(single.json["receipts"][0], case)
        batch = await post(world, b"[" + raw + b"]", BATCH)
        assert batch.status == 207
        check(batch.json["receipts"][0], case)
        assert (await post(world, raw, PLAIN)).status == 200

    run(scenario)


def test_another_account_than_the_keys_is_forbidden() -> None:
    """403 for one event, a receipt in a batch; nothing is learned about that account."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        await world.account("globex")
        for account in ("globex", "nobody", "Not an account"):
            case = wrong("account_forbidden", "/account", account=account)
            single = await post(world, case.raw, STRUCTURED, key="acme")
            assert (single.status, single.json["code"]) == (403, "account_forbidden")
            check(single.json["receipts"][0], case)
            batch = await post(world, b"[" + case.raw + b"]", BATCH, key="acme")
            assert batch.status == 207
            check(batch.json["receipts"][0], case)
            assert single.json["detail"] == batch.json["receipts"][0]["detail"]

    run(scenario)


def test_an_unknown_account_is_refused_where_events_may_not_create_it() -> None:
    """The setting decides."""

    async def scenario(world: World) -> None:
        case = wrong("account_unknown", "/account")
        single = await post(world, case.raw, STRUCTURED)
        assert (single.status, single.json["code"]) == (422, "account_unknown")
        check(single.json["receipts"][0], case)
        batch = await post(world, b"[" + case.raw + b"]", BATCH)
        assert batch.status == 207
        check(batch.json["receipts"][0], case)
        assert "acme" in single.json["detail"]

    run(scenario, accounts_created_by_events=False)


def test_a_used_id_with_other_content_is_a_conflict() -> None:
    """409 for one event; in a batch the first is taken and the second judged against it."""

    async def scenario(world: World) -> None:
        first, other = wrong("id_reused", "/id", data={"duration": "1"}), wrong("id_reused", "/id")
        batch = await post(world, b"[" + first.raw + b"," + other.raw + b"]", BATCH)
        assert (batch.status, batch.json["accepted"], batch.json["conflict"]) == (207, 1, 1)
        check(batch.json["receipts"][0], other, index=1)
        single = await post(world, other.raw, STRUCTURED)
        assert (single.status, single.json["code"]) == (409, "id_reused")
        check(single.json["receipts"][0], other)

    run(scenario)


def test_one_label_set_too_many_is_refused_and_says_which_setting() -> None:
    """What has a label set already is still counted."""

    async def scenario(world: World) -> None:
        good = [json.dumps(audio(f"{n}", language=f"l{n}")).encode() for n in range(2)]
        assert (await post(world, b"[" + b",".join(good) + b"]", PLAIN)).json["accepted"] == 2
        case = Case("label_sets_exceeded", "/data", json.dumps(audio("x", language="more")).encode())
        single = await post(world, case.raw, PLAIN)
        assert (single.status, single.json["code"]) == (422, "label_sets_exceeded")
        receipt = single.json["receipts"][0]
        assert (receipt["pointer"], "label_sets_max" in receipt["detail"]) == ("/data", True)
        batch = await post(world, b"[" + case.raw + b"," + json.dumps(audio("y", language="l0")).encode() + b"]", PLAIN)
        assert (batch.status, batch.json["accepted"], batch.json["receipts"]) == (207, 1, [receipt])

    run(scenario, label_sets_max=2)


def test_no_code_of_a_receipt_is_forgotten_here() -> None:
    """Each code of the contract is provoked above, but for those of rates and limits."""
    receipts = [code for code in Code if list(Code).index(code) <= list(Code).index(Code.OVER_LIMIT)]
    elsewhere = {Code.ACCOUNT_FORBIDDEN, Code.ACCOUNT_UNKNOWN, Code.ID_REUSED, Code.LABEL_SETS_EXCEEDED}
    assert {case.code for case in CASES} | elsewhere | OF_OTHERS == set(receipts)
