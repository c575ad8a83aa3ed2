"""Request and correlation ids: echoed where the client sent usable ones, made otherwise."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

_USABLE = re.compile(r"[!-~]{1,128}", re.ASCII)


def ids_of(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the request id and the correlation id of a request; without one of its own the latter is the former."""
    request_id = _usable(headers.get("x-request-id")) or secrets.token_hex(16)
    return request_id, _usable(headers.get("x-correlation-id")) or request_id


def _usable(sent: str | None) -> str | None:
    return sent if sent is not None and _USABLE.fullmatch(sent) else None
