"""Records made into events: columns to fields, exact units, zones, ids for lines that have none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.catalog import builtin
from tallystick.cli.importing.drafts import Drafts, with_id
from tallystick.cli.importing.json_drafts import json_drafter
from tallystick.cli.importing.mapping import mapping_of
from tallystick.cli.importing.records import Records
from tallystick.cli.importing.row_drafts import row_drafter
from tallystick.cli.importing.values import Unfit, seconds_of, time_of
from tallystick.cli.options import Failure
from tallystick.envelope import label_text, parse_time
from tallystick.ingest.validate import validate
from tallystick.model import Caller, Checked, Scope, Verdict
from tallystick.settings import Settings

OPERATOR = Caller("key", None, frozenset(Scope))


def event_of(drafts: Drafts, at: int = 0) -> dict[str, Any]:
    if at in drafts.unfit:
        raise drafts.unfit[at]
    raw = drafts.events[at]
    raw = raw if at not in drafts.digests else with_id(raw, drafts.digests[at], 1)
    found: dict[str, Any] = json.loads(raw, parse_float=Decimal)
    return found


def row(columns: str, cells: str, maps: Sequence[str] = (), sets: Sequence[str] = (), zone: str = "UTC") -> Any:
    draft = row_drafter(columns.split(","), mapping_of(maps, sets, zone), [])
    return event_of(draft(Records([2], [cells.encode("utf-8", "surrogateescape")], [[c] for c in cells.split(",")])))


def line(raw: str, maps: Sequence[str] = (), sets: Sequence[str] = (), zone: str = "UTC") -> Any:
    return event_of(json_drafter(mapping_of(maps, sets, zone))(Records([1], [raw.encode()])))


def judged(event: dict[str, Any]) -> Checked | Verdict:
    raw = json.dumps(event, default=float).encode()
    return validate(raw, plain=True, caller=OPERATOR, catalog=builtin(), settings=Settings(), now=10**15)


def test_a_column_goes_to_the_field_of_its_name_unless_it_is_mapped() -> None:
    """Beside the data, in it, deeper in it, to two fields, or nowhere."""
    found = row(
        "id,source,type,account,clip,duration_ms,data.a.b,note,who",
        "7,s,audio.processed,acme,c1,2880,x,no,me",
        ["clip=data.url", "duration_ms=duration:ms", "note=", "who=billing", "who=data.actor"],
    )
    data = {"url": "c1", "duration": Decimal("2.880"), "a": {"b": "x"}, "billing": "me", "actor": "me"}
    assert found == {"id": "7", "source": "s", "type": "audio.processed", "account": "acme", "data": data}


def test_an_empty_cell_is_no_value_and_set_is_a_value_for_all() -> None:
    """Data that would have no member is none; a column that nobody mapped yields to what was said."""
    assert row("id,source,duration", "1,x,", sets=["source=a=b"]) == {"id": "1", "source": "a=b"}
    assert row("id,source,billing", "1,x,y", ["source=billing"])["data"] == {"billing": "x"}


@given(st.text(st.sampled_from("0123456789.-+eE "), min_size=1, max_size=12))
def test_a_cell_is_a_number_only_where_its_label_stays_the_same(cell: str) -> None:
    """A label made of it is the cell, to the letter, so no digest that looks like a number is changed."""
    found = row("id,source,anything,billing", f"1,s,{cell},{cell}")["data"]
    assert label_text(found["anything"], "/data/anything", 256) == cell
    assert found["billing"] == cell


def test_counts_are_numbers_and_names_are_text() -> None:
    """Tokens are counted, and what names something is text whatever it looks like."""
    found = row("id,source,type,model,input,output", "1,s,model.request,4,4808,10", sets=["account=acme"])
    assert found["data"] == {"model": "4", "input": 4808, "output": 10}
    assert isinstance(judged(found), Checked)


@given(
    st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=9), st.sampled_from(["ms", "s", "min", "h"])
)
def test_units_convert_exactly(count: Decimal, unit: str) -> None:
    """To the last digit, whatever the number of them."""
    per_ms = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}[unit]
    found = seconds_of(f"{count:f}", unit, "/data/duration")
    assert int(found * 10**12) == int(count * 10**9) * per_ms
    assert found == row("d", f"{count:f}", [f"d=duration:{unit}"])["data"]["duration"]


@pytest.mark.parametrize("cell", ["PT5S", "1,5", "1_000", "٣", "", "nan", "0x10", True])
def test_what_is_no_number_is_not_converted(cell: Any) -> None:
    """An ISO duration in a column of milliseconds means nobody knows what."""
    with pytest.raises(Unfit) as caught:
        seconds_of(cell, "ms", "/data/duration")
    assert caught.value.code == "quantity_type"


@pytest.mark.parametrize(
    ("written", "zone", "meant"),
    [
        ("2023-11-16 18:17:03.9799600", "UTC", "2023-11-16T18:17:03.979960Z"),
        ("2026-03-03T10:00:00", "Europe/Prague", "2026-03-03T09:00:00Z"),
        ("2026-03-03 10:00", "UTC", "2026-03-03T10:00:00Z"),
        ("2026-03-03", "Asia/Kathmandu", "2026-03-02T18:15:00Z"),
        ("2026-03-03T10:00:00+0100", "Asia/Tokyo", "2026-03-03T09:00:00Z"),
        ("2026-03-03 10:00:00,5 UTC", "Asia/Tokyo", "2026-03-03T10:00:00.5Z"),
        ("2026-03-03T10:00:00Z", "Asia/Tokyo", "2026-03-03T10:00:00Z"),
        ("2026-10-25T02:30:00", "Europe/Prague", "2026-10-25T00:30:00Z"),
        ("2026-03-29T02:30:00", "Europe/Prague", "2026-03-29T01:30:00Z"),
    ],
)
def test_a_time_without_a_zone_is_of_the_one_that_was_named(written: str, zone: str, meant: str) -> None:
    """What a clock showed twice is the first of both, what it skipped is as much later; a zone in the text wins."""
    assert parse_time(time_of(written, zone)) == parse_time(meant)
    assert parse_time(line(json.dumps({"id": "1", "time": written}), zone=zone)["time"]) == parse_time(meant)
    if "," not in written:
        assert parse_time(row("id,time", f"1,{written}", zone=zone)["time"]) == parse_time(meant)


@pytest.mark.parametrize("written", ["3.3.2026", "2026-13-01 00:00", "now", "2026-03-03 25:00:00", "2026-02-30"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Prague"])
def test_what_is_no_time_is_refused_like_any_other(written: str, zone: str) -> None:
    """The validator's own sentence says so."""
    found = row("id,source,type,duration,time", f"1,s,audio.processed,5,{written}", sets=["account=a"], zone=zone)
    verdict = judged(found)
    assert isinstance(verdict, Verdict)
    assert verdict.code == "time_format"


def test_a_time_with_a_unit_counts_from_1970() -> None:
    """Seconds or milliseconds, exactly; what is beyond any calendar is refused."""
    assert row("at", "1772532000123", ["at=time:ms"])["time"] == "2026-03-03T10:00:00.123000Z"
    assert row("at", "1772532000.000001", ["at=time:s"])["time"] == "2026-03-03T10:00:00.000001Z"
    for cell in ("1e30", "1e9999"):
        with pytest.raises(Unfit, match="no instant"):
            row("at", cell, ["at=time:s"])


def test_json_is_sent_as_it_came_where_nothing_has_to_be_changed() -> None:
    """To the byte: spaces, order and digits."""
    raw = b'{ "id" :"1","source":"s","data":{"duration":1.50} }'
    assert json_drafter(mapping_of((), (), "UTC"))(Records([1], [raw])) == Drafts([raw], {}, {})


@pytest.mark.parametrize(
    "raw",
    [
        '{"type":"t"}',
        "{}",
        '{"id":null,"source":null,"type":"t"}',
        '{"type":"t","data":{"id":"x","source":"y"}}',
        "{ }",
    ],
)
def test_a_line_without_an_id_gets_one_from_its_bytes(raw: str) -> None:
    """Whatever else it has; its source is import unless it names one."""
    found = line(raw)
    assert found["source"] == "import"
    assert found["id"].endswith("-1")
    assert len(found["id"]) == 34
    assert line(raw.replace("}", ',"source":"s"}', 1) if raw == '{"type":"t"}' else raw)["source"] in ("s", "import")
    assert line(raw + " ")["id"] != found["id"], "another line is another event"


def test_members_of_objects_are_mapped_by_name_or_path() -> None:
    """What is not named stays where it is; a unit makes a number of text."""
    raw = '{"ts":"2026-03-03 10:00","job":{"ms":"1500"},"kept":1,"type":"t"}'
    found = line(raw, ["ts=time", "job.ms=duration:ms", "gone=billing"], ["account=acme", "data.channels=2"])
    assert found == {
        "id": found["id"],
        "source": "import",
        "type": "t",
        "time": "2026-03-03T10:00Z".replace("10:00Z", "10:00:00Z"),
        "job": {},
        "kept": 1,
        "account": "acme",
        "data": {"duration": Decimal("1.500"), "channels": 2},
    }


@pytest.mark.parametrize(
    ("raw", "code"), [("[1]", "not_object"), ("{", "not_json"), ('{"id":"\\ud800"}', "text_invalid")]
)
def test_a_line_that_is_no_object_is_refused_with_the_validators_code(raw: str, code: str) -> None:
    """Also where it would have to be mapped."""
    with pytest.raises(Unfit) as caught:
        line(raw, sets=["account=a"])
    assert caught.value.code == code


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    """Guessing another encoding would make another customer's name of it."""
    with pytest.raises(Unfit) as caught:
        row("id,billing", b"1,caf\xe9".decode("utf-8", "surrogateescape"))
    assert caught.value.code == "text_invalid"


@pytest.mark.parametrize(
    ("maps", "sets", "said"),
    [
        (["a"], [], "COLUMN=FIELD"),
        (["=x"], [], "COLUMN=FIELD"),
        (["a=x:days"], [], "a unit is one of"),
        (["a=x..y"], [], "names no field"),
        ([], ["x"], "FIELD=VALUE"),
        ([], ["x="], "FIELD=VALUE"),
        (["a=x", "b=data.x"], [], "Two values go to the field x"),
        (["a=x", "b=x.y"], [], "Two values"),
        (["a=x"], ["x=1"], "Two values"),
        (["c=x"], [], "There is no column 'c' to map. The columns are: a, b"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(maps: list[str], sets: list[str], said: str) -> None:
    """Each with what is wrong."""
    with pytest.raises(Failure, match=said):
        row("a,b", "1,2", maps, sets)


CELLS = st.one_of(
    st.sampled_from(["", "0", "-1.5", "1.50", "007", "2024-05-01T10:00:00Z", "2024-05-01 10:00:00.5", "2024-05-01"]),
    st.sampled_from(['"', "\\", "a\nb", "1\n2", "\udcff", "é", "\x01", "2024-05-01 10:00:00\n2024-05-01 10:00:00"]),
    st.integers().map(str),
    st.text(max_size=4),
)
COUNTS = st.integers(0, 10**6).map(str)
KINDS = st.sampled_from([CELLS, st.integers().map(str), st.text(st.sampled_from("ab,é"), max_size=6)])


@given(st.integers(16, 40), st.sampled_from(["UTC", "Europe/Prague"]), st.data())
def test_rows_together_become_what_each_becomes_alone(size: int, zone: str, data: st.DataObject) -> None:
    """However a column is written in one go, to the byte: numbers, times, texts, and what is none of them."""
    columns = [data.draw(st.lists(data.draw(KINDS), min_size=size, max_size=size)) for _ in range(4)]
    columns += [[f"2024-05-01 10:{at:02}:00.{at}" for at in range(size)], [f"{at}.5" for at in range(size)]]
    counts = st.one_of(st.integers(0, 10**17).map(str), st.sampled_from(["", "0", "007", "-1", "2.50", "1e3", "%s"]))
    columns += [data.draw(st.lists(counts | COUNTS, min_size=size, max_size=size)) for _ in range(2)]
    columns += [[str(at) for at in range(size)], [f"{at}" * 5 for at in range(size)]]
    names = ["id", "source", "data.any", "billing", "time", "quantity", "a", "b", "c", "50%.d"]
    plan = mapping_of(["a=a:ms", "b=b:s", "c=c:ms", "50%.d=deep.50%.d:ms"], ["e=100%s"], zone)
    draft = row_drafter(names, plan, [])
    raws = [b"line %d" % at for at in range(size)]
    together = draft(Records(range(size), raws, columns))
    alone = [draft(Records([at], [raw], [[column[at]] for column in columns])) for at, raw in enumerate(raws)]
    assert [shown(together, at) for at in range(size)] == [shown(each, 0) for each in alone]


def shown(drafts: Drafts, at: int) -> Any:
    """Return what became of a record."""
    unfit = drafts.unfit.get(at)
    return (unfit.code, unfit.pointer, unfit.detail) if unfit else (drafts.events[at], drafts.digests.get(at))
