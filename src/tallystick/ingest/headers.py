"""What a request's headers say about the events in it: their media type, and the attributes of binary mode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from tallystick.envelope import pointer_to
from tallystick.errors import Code, Flaw, Problem

CLOUDEVENTS = "application/cloudevents"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PLAIN = "application/json"
LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
KNOWN = (STRUCTURED, BATCH, PLAIN, "application/x-ndjson")

MEDIA_TYPE = re.compile(r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*")
PARAMETER = re.compile(r';[ \t]*(?:([^\s;=,"]+)[ \t]*(?:=[ \t]*("(?:[^"\\]|\\.)*"|[^\s;,"]*))?)?[ \t]*')
CHARSETS = frozenset({"utf-8", "utf8"})
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
NOT_IN_HEADERS = frozenset({"data", "data_base64", "datacontenttype"})


@lru_cache(maxsize=256)
def media_type_of(content_type: str | None) -> str:
    """Return the media type in lower case, "" for none.

    Raises Problem MEDIA_TYPE_UNKNOWN for what is no media type, and for a charset that is not UTF-8.
    """
    if content_type is None:
        return ""
    match = MEDIA_TYPE.match(content_type)
    if match is None:
        raise media_type_unknown()
    media_type, place = match[1].lower(), match.end()
    while place < len(content_type):
        match = PARAMETER.match(content_type, place)
        if match is None:
            raise media_type_unknown()
        if (match[1] or "").lower() == "charset":
            _require_utf_8(_unquoted(match[2] or ""))
        place = match.end()
    return media_type


def _require_utf_8(charset: str) -> None:
    if charset.lower() not in CHARSETS:
        detail = "Send the body in UTF-8, with `charset=utf-8` or without a charset: no other is understood."
        raise Problem(Code.MEDIA_TYPE_UNKNOWN, detail)


def _unquoted(value: str) -> str:
    """Return what a quoted string holds (RFC 9110, 5.6.4); what is not quoted as it is."""
    quoted = QUOTED.fullmatch(value)
    return value if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])


def media_type_unknown() -> Problem:
    """The content type is none that events are sent as."""
    detail = f"Send events as {', '.join(KNOWN)}, or in the binary mode of CloudEvents with its ce- headers."
    return Problem(Code.MEDIA_TYPE_UNKNOWN, detail, headers={"Accept": ", ".join(KNOWN)})


def attributes_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that the ce- headers carry, decoded; none means that this is not binary mode."""
    sent = {name[3:].lower(): value for name, value in headers.items() if name[:3].lower() == "ce-"}
    return {name: _header_text(name, value) for name, value in sent.items() if name not in NOT_IN_HEADERS}


def _header_text(name: str, value: str) -> str:
    """Decode a header's value as CloudEvents says (HTTP binding, 3.1.3.2): quotes, then percent signs once, then UTF-8.

    Raises Problem HEADER_INVALID for a percent sign that begins no escape and for bytes that are not UTF-8.
    """
    value = _unquoted(value.strip(" \t"))
    if BAD_ESCAPE.search(value):
        raise _bad_header(name, "`%` must begin an escape such as %20; send the sign itself as %25.")
    # A header's bytes reach us as Latin-1; some clients send UTF-8 without percent signs.
    sent = value.encode("latin-1" if max(value, default="") <= "\xff" else "utf-8", "replace")
    try:
        return unquote_to_bytes(sent).decode("utf-8")
    except UnicodeDecodeError:
        raise _bad_header(name, "Send its text in UTF-8, each byte of it that is not plain ASCII as %XX.") from None


def _bad_header(name: str, detail: str) -> Problem:
    detail = f"The header ce-{name} cannot be read. {detail}"
    return Problem(Code.HEADER_INVALID, detail, (Flaw(pointer_to(name), detail),))
