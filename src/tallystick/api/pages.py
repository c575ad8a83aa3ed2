"""Listings in pages: `limit`, an opaque `cursor`, and a Link header that leads to the next page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from tallystick.api import documents
from tallystick.api.description import Parameter
from tallystick.api.http import Call
from tallystick.query import Reply, invalid, value_of
from tallystick.settings import SPECS

ROWS_MAX = SPECS["page_rows_max"].default

T = TypeVar("T")

PARAMETERS = (
    Parameter("limit", "Most rows of a page.", {"type": "integer", "minimum": 1, "maximum": ROWS_MAX}),
    Parameter("cursor", "What a page said was next; absent = the first page.", {"type": "string", "minLength": 1}),
)


def asked(call: Call, position: type[T]) -> tuple[int, T | None]:
    """Return how many rows a page may have, and behind which position it begins (None = at the beginning)."""
    limit, cursor = value_of(call.query, "limit"), value_of(call.query, "cursor")
    return _limit(limit, call.app.settings.page_rows_max), None if cursor is None else _position(cursor, position)


def cut(rest: Sequence[T], limit: int) -> tuple[Sequence[T], T | None]:
    """Return the first `limit` of what is left, and the last of these where that is not all."""
    page = rest[:limit]
    return page, page[-1] if len(rest) > limit else None


def reply(call: Call, name: str, rows: Sequence[Any], following: Any) -> Reply:
    """Write a page; `following` is the position behind which the next one begins, None on the last page."""
    if following is None:
        return documents.reply({name: rows, "next": None})
    cursor = base64.urlsafe_b64encode(msgspec.json.encode(following)).decode().rstrip("=")
    others = [(key, text) for key, text in call.query if key != "cursor"]
    link = f'<{call.instance}?{urlencode([*others, ("cursor", cursor)])}>; rel="next"'
    return documents.reply({name: rows, "next": cursor}, Link=link)


def _limit(text: str | None, rows_max: int) -> int:
    if text is None:
        return rows_max
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else 0
    if not 1 <= number <= rows_max:
        raise invalid("limit", f"limit must be a whole number from 1 to {rows_max}.")
    return number


def _position(cursor: str, position: type[T]) -> T:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=position)
    except (UnicodeError, binascii.Error, msgspec.MsgspecError):
        raise invalid("cursor", "Send a cursor as it came with the page before, to the same listing.") from None
