"""Cells of CSV (RFC 4180) that a spreadsheet takes for what they are: text never becomes a formula."""

from __future__ import annotations

from collections.abc import Iterable

MEDIA_TYPE = "text/csv"
CONTENT_TYPE = "text/csv; charset=utf-8; header=present"

FORMULA = tuple("=+-@\t\r")
SPECIAL = frozenset('",\r\n')


def cell(text: str | None) -> str:
    """Write a text: nothing for None, two quotes for "", an apostrophe before what would begin a formula."""
    if not text:
        return "" if text is None else '""'
    if text.startswith(FORMULA):
        text = "'" + text
    return text if SPECIAL.isdisjoint(text) else '"' + text.replace('"', '""') + '"'


def line(cells: Iterable[str]) -> str:
    """Join cells that are written already."""
    return ",".join(cells) + "\r\n"
