"""Request and correlation ids: echoed where the client sent usable ones, made otherwise."""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Mapping

# Ids are told apart, and keep nothing secret: asking the system for chance at each would cost more than the rest.
_chance = random.Random(secrets.randbits(256))
_USABLE = re.compile(r"[!-~]{1,128}", re.ASCII)


def ids_of(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the request id and the correlation id of a request; without one of its own the latter is the former."""
    request_id = _usable(headers.get("x-request-id")) or f"{_chance.getrandbits(128):032x}"
    return request_id, _usable(headers.get("x-correlation-id")) or request_id


def _usable(sent: str | None) -> str | None:
    return sent if sent is not None and _USABLE.fullmatch(sent) else None
