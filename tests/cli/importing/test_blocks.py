"""Blocks of records and records one by one: the same verdicts, the same rejects, on the same lines."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.app import open_app
from tallystick.cli.importing import batches, json_drafts, records
from tallystick.cli.importing.drafts import with_id
from tallystick.cli.importing.elements import elements_of
from tallystick.cli.importing.files import Files
from tallystick.cli.importing.json_drafts import json_drafter
from tallystick.cli.importing.mapping import mapping_of
from tallystick.cli.importing.reading import reader
from tallystick.cli.importing.records import Records
from tallystick.cli.importing.run import Import, Rejects
from tallystick.cli.source import Door, Folder, Question
from tallystick.ingest.decode import BOM, SPACE
from tallystick.settings import Settings
from tests.cli.importing.test_records import stream
from tests.server import OPERATOR

PLAIN = mapping_of((), (), "UTC")
STATUSES = ("accepted", "duplicate", "conflict", "rejected")
TOO_LONG = b'{"id":"long","note":"' + b"n" * 5000 + b'"}'


def event(name: str | None, **members: Any) -> bytes:
    """Write an event that is taken unless its members say otherwise."""
    whole: dict[str, Any] = {
        "id": name,
        "source": "s",
        "type": "audio.processed",
        "account": "acme",
        "time": "2026-03-01T10:00:00Z",
    }
    whole |= {"data": {"duration": 5}} | members
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


GOOD = st.builds(event, st.sampled_from("abcdefgh"))
ODD = st.sampled_from(
    [
        event(None),
        event(None, source=None),
        event("other", data={"duration": 6}),
        event("a", data={"duration": 6}),
        event("zoneless", time="2026-03-01 10:00"),
        event("offset", time="2026-03-01T12:00:00+02:00"),
        event("late", time="yesterday"),
        event("negative", data={"duration": -1}),
        event("x", id=7),
        event("é", data={"duration": 5, "billing": "é"}),
        event("inner", data={"duration": 5, "id": "x", "time": "now"}).replace(b": ", b":"),
        b" " + event("space") + b"\t",
        event("windows") + b"\r",
        b"",
        b" \t\r",
        b"5",
        b'"text"',
        b"null",
        b"{",
        b"{}",
        b'{"id":"one"},{"id":"two"}',
        b'{"id":"begun","data":[{"n":1}',
        b'{"n":2}]}',
        b'{"id":"half","note":"\\ud800"}',
        b'{"id":"latin","note":"caf\xe9"}',
        b'{"id":"nul","note":"\x00"}',
        TOO_LONG,
    ]
)
FILES = st.lists(st.one_of(GOOD, GOOD, ODD), min_size=1, max_size=40)


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Blocks and batches of a few records, and a bound that a test can pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_BYTES", 700)
        patch.setattr(records, "RECORD_BYTES_MAX", 2000)
        patch.setattr(batches, "BATCH_EVENTS", 15)
        yield


Found = tuple[dict[str, int], list[tuple[int, str, str, str, str]]]
"""Counts by status; of each refused line its number, its text, and code, pointer and detail."""


async def one_by_one(door: Door, content: bytes) -> Found:
    """Take each line by itself, as the pages say it."""
    counts, refusals, equals = Counter[str](), [], Counter[bytes]()
    for number, line in enumerate(content.removeprefix(BOM).split(b"\n"), 1):
        raw = line.strip(SPACE)
        if not raw:
            continue
        if raw == TOO_LONG:
            counts["rejected"] += 1
            refusals.append((number, raw[:1000].decode(), "not_json", "", records.too_long()))
            continue
        text = raw.decode("utf-8", "replace")
        events, digests, unfit = json_drafter(PLAIN)(Records([number], [raw]))
        if unfit:
            counts["rejected"] += 1
            refusals.append((number, text, unfit[0].code, unfit[0].pointer, unfit[0].detail))
            continue
        equals[raw] += 1
        sent = with_id(events[0], digests[0], equals[raw]) if digests else events[0]
        found = json.loads((await door.ask(Question("POST", "/v1/events", b"[" + sent + b"]"))).body)
        counts.update({status: found[status] for status in STATUSES})
        refusals += ((number, text, r["code"], r.get("pointer", ""), r["detail"]) for r in found["receipts"])
    return {status: counts[status] for status in STATUSES}, refusals


async def imported(door: Door, path: Path) -> Found:
    """Import a file."""
    rejects = Rejects(path.with_name("rejects"))
    with reader(Files([str(path)], PLAIN, "ndjson", None)) as read:
        (tally,), whole = await Import([str(path)], False, rejects).run(read, door)
    rejects.close()
    assert whole
    found = [json.loads(line) for line in rejects.path.read_text().splitlines()] if rejects.written else []
    refusals = [(line["line"], line["raw"], line["code"], line["pointer"], line["detail"]) for line in found]
    return {status: getattr(tally, status) for status in STATUSES}, refusals


@asynccontextmanager
async def empty() -> AsyncIterator[Door]:
    """Open a ledger in memory."""
    app = await open_app(Settings(url="memory:", operator_key=OPERATOR))
    try:
        yield Folder(app, OPERATOR)
    finally:
        await app.close()


@given(FILES, st.booleans(), st.booleans())
@settings(max_examples=60)
def test_lines_of_json_together_become_what_each_becomes_alone(lines: list[bytes], has_bom: bool, ends: bool) -> None:
    """Whatever is wrong with their neighbours, however blocks and batches cut them."""
    content = BOM * has_bom + b"\n".join(lines) + b"\n" * ends

    async def both(path: Path) -> tuple[Found, Found]:
        path.write_bytes(content)
        async with empty() as door:
            together = await imported(door, path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_drafts, "list_of", lambda raws: None)
            async with empty() as door:
                return together, await one_by_one(door, content)

    with tempfile.TemporaryDirectory() as folder:
        together, alone = asyncio.run(both(Path(folder) / "a.ndjson"))
    assert together == alone


WITHIN = st.sampled_from(
    [b"{}", b'{"a":"}{"}', b'{"a":"},{"}', b'{"a":\r\n[{"b":1},\n{"c":2}]}', b'{"e":"\\ud800"}', TOO_LONG[:99] + b'"}']
)


@given(
    st.lists(WITHIN, max_size=60),
    st.sampled_from([b"", b" ", b"\n", b"\r\n", b"\n\n"]),
    st.sampled_from([None, b",", b" ,"]),
)
def test_elements_stand_on_their_lines_whatever_parts_them(
    elements: list[bytes], space: bytes, comma: bytes | None
) -> None:
    """In a list or one after the other; a line end inside one of them is written as space."""
    between = space if comma is None else comma + space
    content = between.join(elements)
    starts = [len(between.join([*elements[:at], b""])) for at in range(len(elements))]
    found = [*elements_of(stream(content if comma is None else b"[" + content + b"]"))]
    assert [raw for each in found for raw in each.raws] == [on_one_line(raw) for raw in elements]
    assert [line for each in found for line in each.lines] == [content.count(b"\n", 0, at) + 1 for at in starts]


def on_one_line(raw: bytes) -> bytes:
    return raw.replace(b"\r", b" ").replace(b"\n", b" ")
