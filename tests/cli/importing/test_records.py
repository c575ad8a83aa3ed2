"""Files taken apart: every form and compression gives the same records, with the lines they stand on."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.cli.importing import elements, records
from tallystick.cli.importing.batches import batches_of
from tallystick.cli.importing.elements import elements_of
from tallystick.cli.importing.forms import form_of
from tallystick.cli.importing.lines import lines_of
from tallystick.cli.importing.mapping import mapping_of
from tallystick.cli.importing.opened import opened
from tallystick.cli.importing.records import Broken, Records
from tallystick.cli.importing.tables import Rows
from tallystick.cli.options import Failure

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8)


def stream(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))


class Found(NamedTuple):
    """A record by itself: its line, its bytes, and whether it cannot be looked at."""

    line: int
    raw: bytes
    flawed: bool = False


def flat(chunks: Iterable[Records]) -> list[Found]:
    found: list[Found] = []
    for chunk in chunks:
        found += map(Found, chunk.lines, chunk.raws)
        found += (Found(flaw.line, flaw.raw, True) for flaw in chunk.flawed)
        assert len(chunk.lines) == len(chunk.raws)
    return found


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Records meet the ends of blocks all the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_BYTES", 48)
        patch.setattr(elements, "LOOK_BYTES", 16)
        yield


@given(st.lists(VALUES, max_size=12), st.sampled_from([None, 1]), st.booleans())
def test_every_element_of_a_list_is_found_as_it_was_written(values: list[Any], indent: int | None, ascii: bool) -> None:
    """Compact or over many lines, escaped or not: the elements are those of the list, in order, on their lines."""
    text = json.dumps(values, indent=indent, ensure_ascii=ascii)
    found = flat(elements_of(stream(text.encode("utf-8", "surrogatepass"))))
    assert [json.loads(record.raw) for record in found] == values
    assert all(b"\n" not in record.raw for record in found)
    if indent is None:
        assert {record.line for record in found} <= {1}
    else:
        lines = text.split("\n")
        assert all(lines[record.line - 1].strip()[:1] == record.raw[:1].decode() for record in found if record.raw)


@given(st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=8), st.sampled_from(["", " ", "\n"]))
def test_objects_that_follow_one_another_are_found(values: list[Any], between: str) -> None:
    """A file of objects without a list around them is read too."""
    text = between.join(json.dumps(value) for value in values)
    assert [json.loads(record.raw) for record in flat(elements_of(stream(text.encode())))] == values


@pytest.mark.parametrize(
    ("text", "whole", "said"),
    [
        ('[{"a":1},\n{"b":2},\n{"c":}]', 2, "line 3"),
        ('[{"a":1}', 1, "no end"),
        ('[{"a":1} {"b":2}]', 1, "comma"),
        ('[{"a":1}] x', 1, "follows"),
        ('{"a":1}\n{"b"', 1, "line 2"),
    ],
)
def test_json_that_breaks_off_says_where(text: str, whole: int, said: str) -> None:
    """What came before it is there."""
    found: list[bytes] = []
    with pytest.raises(Broken, match=said):
        for chunk in elements_of(stream(text.encode())):
            found += chunk.raws
    assert len(found) == whole


def test_half_a_surrogate_pair_costs_its_own_element_only() -> None:
    """The others of the list are found beside it."""
    items = [f'{{"id":"{number}","data":{{"n":{number}}}}}' for number in range(60)]
    items[41] = '{"id":"\\ud800"}'
    found = flat(elements_of(stream(("[" + ",\n".join(items) + "]").encode())))
    assert [record.raw.decode() for record in found] == items
    assert [record.line for record in found] == list(range(1, 61))


@given(st.lists(st.sampled_from([b'{"a":1}', b"", b"  ", b"x" * 60, b"\ty\r"]), max_size=20), st.booleans())
def test_every_line_that_is_not_blank_is_found_on_its_line(lines: list[bytes], ends: bool) -> None:
    """However blocks cut them, with and without an end of the last one, behind a byte order mark."""
    found = flat(lines_of(stream(b"\xef\xbb\xbf" + b"\n".join(lines) + b"\n" * ends)))
    assert found == [Found(at, line.strip()) for at, line in enumerate(lines, 1) if line.strip()]


def test_a_line_that_is_too_long_is_refused_without_being_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning says which one it was; the lines around it are found."""
    monkeypatch.setattr(records, "RECORD_BYTES_MAX", 200)
    for size in (199, 201, 500, 1000):
        found = flat(lines_of(stream(b"a\n" + b"x" * size + b"\nb\nc")))
        assert [(record.line, record.raw[:1]) for record in found] == [(1, b"a"), (2, b"x"), (3, b"b"), (4, b"c")]
        assert found[1].flawed == (size > 248)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=15), st.sampled_from([",", "\t", ";"]), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=200)
def test_rows_are_what_a_spreadsheet_would_read(rows: list[tuple[str, str]], delimiter: str, end: str) -> None:
    """Quotes, separators and line ends in cells, whatever the blocks: cells, lines and bytes are right."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow(["one", "two"])
    lines = []
    for row in rows:
        lines.append(file.getvalue().count("\n") + 1)
        writer.writerow(row)
    text = file.getvalue()
    found = Rows(stream(text.encode()), delimiter)
    assert found.columns == ["one", "two"]
    blocks = list(found)
    read = flat(blocks)
    assert [row for block in blocks for row in zip(*block.columns, strict=True)] == rows
    assert [record.line for record in read] == lines
    assert all(text.encode().count(record.raw) for record in read)


def test_rows_that_do_not_fit_the_header_are_refused_alone() -> None:
    """Too many cells, too few, and quotes that mean nothing; blank lines are none."""
    text = 'a,b\n1,2\n\n1,2,3\n1\n"x"y,2\n3,4\n'
    found = sorted(flat(Rows(stream(text.encode()), ",")))
    assert [(record.line, not record.flawed) for record in found] == [
        (2, True),
        (4, False),
        (5, False),
        (6, False),
        (7, True),
    ]


@pytest.mark.parametrize("text", ["", "\n1,2\n", "a,a\n1,2\n"])
def test_a_table_without_a_usable_header_is_refused(text: str) -> None:
    """Nobody can tell what its columns mean."""
    with pytest.raises(Failure):
        Rows(stream(text.encode()), ",")


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.ndjson", b"", "ndjson"),
        ("a.JSONL.gz", b"", "ndjson"),
        ("a.json", b"[", "json"),
        ("a.json", b'{"a":1}\n{"a":2}\n', "ndjson"),
        ("a.json", b'{\n"a":1}\n', "json"),
        ("a.csv.zst", b"", "csv"),
        ("a.tsv", b"", "tsv"),
        ("-", b' [{"a":1}]', "json"),
        ("-", b'{"a":1}', "ndjson"),
        ("log", b"a\tb\n", "tsv"),
        ("log", b"a,b\n", "csv"),
    ],
)
def test_the_form_is_told_by_the_name_else_by_the_beginning(name: str, content: bytes, form: str) -> None:
    """Compression is no part of the form."""
    assert form_of(name, stream(content)) == form


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_what_is_compressed_is_read_whole_or_said_to_be_cut_short(tmp_path: Path, pack: Any) -> None:
    """Several members or frames are one file; a file that ends too early is never taken for whole."""
    content = b"".join(b"line %d\n" % number for number in range(3000))
    whole = tmp_path / "whole"
    whole.write_bytes(pack(content[:7000]) + pack(content[7000:]))
    with opened(str(whole)) as file:
        assert file.content.read() == content
        assert file.share() == 1
    if pack is not bytes:
        (tmp_path / "cut").write_bytes(whole.read_bytes()[:-5])
        with opened(str(tmp_path / "cut")) as file, pytest.raises(EOFError):
            file.content.read()


@pytest.mark.parametrize("form", ["ndjson", "json", "csv"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file ten times as long needs about as much, its equal lines counted."""
    monkeypatch.undo()
    monkeypatch.setattr(records, "BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr("tallystick.cli.importing.batches.BATCH_EVENTS", 2000)
    peaks = []
    for lines in (10_000, 100_000):
        path = tmp_path / f"{lines}.{form}"
        if form == "csv":
            path.write_text("n,text\n" + "".join(f"{n},word {n % 7}\n" for n in range(lines)))
        else:
            items = [json.dumps({"n": n, "text": f"word {n % 7}"}) for n in range(lines)]
            path.write_text("\n".join(items) if form == "ndjson" else "[" + ",\n".join(items) + "]")
        tracemalloc.start()
        with opened(str(path)) as file:
            assert sum(len(batch.events) for batch in batches_of(file, mapping_of((), (), "UTC"), None, None)) == lines
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + (16 * 100_000)
