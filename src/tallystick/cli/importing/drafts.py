"""Drafts of events, and what ids they get where their records have none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tallystick.cli.importing.records import Records
from tallystick.cli.importing.values import Unfit
from tallystick.errors import Code

SOURCE = "import"
OWN_SOURCE = f'"source":"{SOURCE}"'
DIGEST_BYTES = 16
NOT_UTF_8 = "Send UTF-8: the line has bytes that are not."


class Drafts(NamedTuple):
    """What records become, by their places.

    An event is JSON; where it has no id, all behind its opening brace, and the digest of its line is among `digests`.
    What stands in the place of a record that is `unfit` means nothing.
    """

    events: Sequence[bytes]
    digests: Mapping[int, bytes]
    unfit: Mapping[int, Unfit]


Drafter = Callable[[Records], Drafts]

_encoder = msgspec.json.Encoder(decimal_format="number")


def written(value: Any) -> bytes:
    """Write a value as JSON; raises Unfit for text that is no UTF-8."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        raise Unfit(Code.TEXT_INVALID, "", NOT_UTF_8) from None


def digest_of(raw: bytes) -> bytes:
    """Return what a record without an id is told from others by."""
    return hashlib.sha256(raw).digest()[:DIGEST_BYTES]


def with_id(rest: bytes, digest: bytes, ordinal: int) -> bytes:
    """Complete a draft with the id of a line that has none of its own."""
    return b'{"id":"%s-%d"' % (digest.hex().encode("ascii"), ordinal) + rest
