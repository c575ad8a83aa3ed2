"""Cursors: where a page ended, in a text that only the question which it came from understands."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any
from urllib.parse import urlencode

import msgspec

from tallystick.errors import Problem
from tallystick.query import Request, invalid

CURSOR = "cursor"
SEAL_BYTES = 12


def digest(*asked: Any) -> bytes:
    """Return what stands for a question: equal for equal parts, of which each is anything that JSON can write."""
    return hashlib.sha256(msgspec.json.encode(asked)).digest()


def write(question: bytes, position: Any) -> str:
    """Seal a position with the digest of the question that it belongs to."""
    packed = msgspec.msgpack.encode(position)
    return base64.urlsafe_b64encode(packed + _seal(question, packed)).decode().rstrip("=")


def read(request: Request, question: bytes, kind: Any) -> Any:
    """Return the position that the request's cursor holds, None without one; a Problem for any that is not whole."""
    text = request.value(CURSOR)
    if text is None:
        return None
    try:
        whole = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        packed, seal = whole[:-SEAL_BYTES], whole[-SEAL_BYTES:]
        if seal != _seal(question, packed):
            raise _foreign()
        return msgspec.msgpack.decode(packed, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise _foreign() from None


def link(path: str, request: Request, cursor: str) -> str:
    """Write the Link header that leads to the next page."""
    others = [(name, value) for name, value in request.query if name != CURSOR]
    return f'<{path}?{urlencode([*others, (CURSOR, cursor)])}>; rel="next"'


def _seal(question: bytes, packed: bytes) -> bytes:
    return hashlib.sha256(question + packed).digest()[:SEAL_BYTES]


def _foreign() -> Problem:
    return invalid(
        CURSOR, "This is no cursor of this question: send one as it came, with the other parameters unchanged."
    )
