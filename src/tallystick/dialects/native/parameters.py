"""Query parameters that native reports have in common."""

from __future__ import annotations

import re

from tallystick import windows
from tallystick.query import Request, invalid

_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


def instant(request: Request, parameter: str) -> int | None:
    """Read an instant, None when absent; a Problem says what is wrong with it."""
    text = request.value(parameter)
    if text is None:
        return None
    try:
        return windows.parse_instant(text)
    except ValueError as error:
        # A form decoder makes a space of a bare +, so an offset that was not encoded looks like this.
        hint = "; write the + of an offset as %2B" if " " in text else ""
        raise invalid(parameter, f"{parameter} is {error}{hint}.") from None


def limit(request: Request, most: int) -> int | None:
    """Read how many rows a page may have, None when absent."""
    text = request.value("limit")
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        raise invalid("limit", f"limit is a whole number from 1 to {most}.")
    return int(text)
