"""The form of a file: lines of JSON, JSON, or a table, told by its name, else by how it begins."""

from __future__ import annotations

import io
import json
from pathlib import PurePath

from tallystick.ingest.decode import BOM, SPACE

NDJSON, JSON, CSV, TSV = FORMS = ("ndjson", "json", "csv", "tsv")
FORM_OF_SUFFIX = {".ndjson": NDJSON, ".jsonl": NDJSON, ".json": JSON, ".csv": CSV, ".tsv": TSV, ".tab": TSV}
DELIMITERS = {CSV: ",", TSV: "\t"}


def form_of(name: str, content: io.BufferedReader) -> str:
    """Tell the form of a file by its name, else by how it begins."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes if suffix.lower() not in (".gz", ".zst")]
    form = FORM_OF_SUFFIX.get(suffixes[-1]) if suffixes else None
    start = content.peek(4096).removeprefix(BOM).lstrip(SPACE)
    if form == JSON and start.startswith(b"{") and _is_whole(start.partition(b"\n")[0]):
        return NDJSON
    if form is not None:
        return form
    if start.startswith(b"["):
        return JSON
    if start.startswith(b"{"):
        return NDJSON
    return TSV if b"\t" in start.partition(b"\n")[0] else CSV


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
