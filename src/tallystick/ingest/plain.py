"""What an event's bytes must be like to be read by its shape; whatever is not so plain is judged by itself."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tallystick.envelope import DEPTH_MAX
from tallystick.ingest.plan import Form

ESCAPES = re.compile(rb"\\[bfnrtu]")
UNSAFE_RAW = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]")
BEYOND = re.compile(rb"[0-9][eE][+-]?[0-9]{16}")
"""An exponent that no decimal can hold."""
DIGITS = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))
LONG_NUMBER = b"0" * 16


def decode_one(form: Form, raw: bytes) -> Any:
    """Decode an event; None for one that may need a closer look than its shape."""
    if not is_clean(raw) or _is_beyond(raw) or raw.count(b"{") + raw.count(b"[") > DEPTH_MAX:
        return None
    try:
        return form.decode_one(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_beyond(raw: bytes) -> bool:
    # Few events have sixteen digits together, and looking for these takes a quarter of the time.
    return LONG_NUMBER in raw.translate(DIGITS) and BEYOND.search(raw) is not None


def is_clean(body: bytes) -> bool:
    """Say whether no text of a piece can hold what is refused in attributes and labels: no control, no bidi override.

    JSON itself keeps the lower controls out of texts, but for escapes.
    """
    if b"\\" in body and ESCAPES.search(body):
        return False
    if body.isascii():
        return b"\x7f" not in body
    try:
        return body.decode("utf-8").isprintable() or not UNSAFE_RAW.search(body)
    except UnicodeDecodeError:
        return False


def subject_in_shape(subject: str | None, account: str | None, length_max: int) -> str | None:
    """Leave a subject that names neither account nor space out of the shape: there may be one per person."""
    if subject is None or account is None or "/" in subject or not 1 <= len(subject) <= length_max:
        return subject
    return None
